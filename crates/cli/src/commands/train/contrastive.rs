//! `altclip train contrastive` and `altclip train clip`: pictures with captions.

use super::check;
use super::distill::weights_of;
use super::session::{Defaults, Session, resolved, threads};
use crate::args::train::{AugmentKind, Captions, Clip, Contrastive as Stage2, LrSchedule, Run};
use crate::failure::{Failure, Reporter};
use crate::model;
use altclip::cache::FeatureCache;
use altclip_data::{CaptionedPictures, CaptionsOptions, Dataset};
use altclip_report::{Code, Report, quote};
use altclip_tensor::CpuBackend;
use altclip_train::augment::Augment;
use altclip_train::contrastive::Contrastive;
use altclip_train::samples::{self, Ids, Pictures};
use altclip_train::start::Start;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// AltCLIP's own (arXiv 2211.06679, appendix A).
const STAGE2: Defaults = Defaults {
    batch_size: 1024,
    lr: 2e-6,
    lr_schedule: LrSchedule::Cosine,
    warmup_steps: 2000,
    weight_decay: 0.05,
    betas: (0.99, 0.999),
    eps: 1e-8,
    grad_clip: 5.0,
    max_length: 77,
};

/// CLIP's own (arXiv 2103.00020, table 18 to 20), at a batch that fits small sets.
const CLIP: Defaults = Defaults {
    batch_size: 1024,
    lr: 5e-4,
    lr_schedule: LrSchedule::Cosine,
    warmup_steps: 2000,
    weight_decay: 0.2,
    betas: (0.9, 0.98),
    eps: 1e-6,
    grad_clip: 1.0,
    max_length: 77,
};

pub(crate) fn stage2(args: &Stage2, reporter: Reporter) -> Result<(), Failure> {
    let dir = model::folder_of(args.model.as_deref())?;
    let data = captioned(&args.captions)?;
    let mut full = args.clone();
    full.run = resolved(&args.run, &STAGE2, data.len());
    let fingerprint = data.fingerprint().to_string();
    let mut session =
        Session::new("contrastive", full.run.clone(), &full, fingerprint.clone(), reporter)?;
    session.images.clone_from(&args.captions.images);
    session.say_notices(data.notices());
    let trained = |name: &str| !is_image_tower(name);
    let mut start = Start::of_model(&dir, &trained)?;
    let pictures = pictures(&dir, Augment::NONE, full.run.seed)?;
    let made_of = format!("{} {fingerprint}", weights_of(&dir)?);
    let path = session.file("cache/images.rows");
    let width = start.model.projection_dim;
    let open = || FeatureCache::open(&path, &made_of, width);
    let (reading, writing) = (open()?, open()?);
    let task = Contrastive::new(start.model, session.engine(), pictures.len(), Some(writing));
    let ids = ids(&dir, &full.run)?;
    session.check(&check::captions(&data, &ids, &full.run))?;
    let samples = samples::captions(Arc::new(data), ids, pictures, Some(reading));
    let measure = session.measure(&dir, &dir, true)?;
    session.train(&task, &mut start, samples, measure, |_| Ok(()))
}

pub(crate) fn clip(args: &Clip, reporter: Reporter) -> Result<(), Failure> {
    let config = match &args.model_config {
        Some(config) => config.clone(),
        None if args
            .config
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) =>
        {
            return Err(Failure::one(
                Report::new(Code::E1001, "usage", "no model is described")
                    .place(format!("--config {}", quote(&args.config.to_string_lossy())))
                    .got("a TOML file without `model-config`")
                    .expected("model-config = \"DIR/config.json\"")
                    .help("or name the config.json itself: --config DIR/config.json"),
            ));
        }
        None => args.config.clone(),
    };
    let data = captioned(&args.captions)?;
    let mut full = args.clone();
    full.model_config = Some(config.clone());
    full.run = resolved(&args.run, &CLIP, data.len());
    let mut session =
        Session::new("clip", full.run.clone(), &full, data.fingerprint().to_string(), reporter)?;
    session.images.clone_from(&args.captions.images);
    session.say_notices(data.notices());
    let init = CpuBackend::new(threads(&full.run));
    let mut start = Start::of_config(&config, full.run.seed, init.kernels().1)?;
    let dir = config.parent().unwrap_or(Path::new("")).to_owned();
    let pictures = pictures(&dir, full.augment.into(), full.run.seed)?;
    let task = Contrastive::new(start.model, session.engine(), pictures.len(), None);
    let ids = ids(&dir, &full.run)?;
    let (rows, pieces) = (start.model.text.vocab_size(), ids.tokenizer.vocab_size());
    if rows < pieces {
        return Err(Failure::one(
            Report::new(
                Code::E6013,
                "training",
                "the table of tokens is smaller than the tokenizer",
            )
            .place("config.json, vocab_size")
            .got(rows.to_string())
            .expected(format!("at least {pieces}"))
            .help("correct vocab_size in config.json"),
        ));
    }
    session.check(&check::captions(&data, &ids, &full.run))?;
    let samples = samples::captions(Arc::new(data), ids, pictures, None);
    let measure = session.measure(&dir, &dir, false)?;
    session.train(&task, &mut start, samples, measure, |_| Ok(()))
}

/// Opens pictures with captions.
pub(super) fn captioned(args: &Captions) -> Result<CaptionedPictures, Failure> {
    let images = args.images.clone().unwrap_or_default();
    Ok(CaptionedPictures::open(
        &args.pairs.iter().map(|path| without_prefix(path)).collect::<Vec<_>>(),
        &CaptionsOptions::new(images, std::env::temp_dir()),
    )?)
}

/// `webdataset:DIR` as a folder; anything else as it is.
pub(super) fn without_prefix(path: &Path) -> PathBuf {
    let text = path.to_str().and_then(|text| text.strip_prefix("webdataset:"));
    text.map_or_else(|| path.to_owned(), PathBuf::from)
}

/// How the pictures of a model folder are prepared.
pub(super) fn pictures(dir: &Path, augment: Augment, seed: u64) -> Result<Pictures, Failure> {
    Ok(Pictures {
        preprocessor: altclip::preprocessor(dir)?,
        decode: altclip::image::DecodeOptions::default(),
        augment,
        seed,
    })
}

/// The tokenizer of a model folder with the run's longest text.
pub(super) fn ids(dir: &Path, run: &Run) -> Result<Ids, Failure> {
    let tokenizer = Arc::new(altclip::tokenizer_in(dir)?);
    Ok(Ids { tokenizer, max_length: usize::from(run.max_length.unwrap_or(77)) })
}

/// What stage 2 leaves as it is.
pub(super) fn is_image_tower(name: &str) -> bool {
    name.starts_with("vision_model.") || name.starts_with("visual_projection.")
}

impl From<AugmentKind> for Augment {
    fn from(kind: AugmentKind) -> Self {
        match kind {
            AugmentKind::None => Self::NONE,
            AugmentKind::Crop => Self::CROP,
            AugmentKind::Strong => Self::STRONG,
        }
    }
}
