//! `altclip train distill`: teacher learning from parallel sentences.

use super::check;
use super::session::{Defaults, Session, resolved, threads};
use crate::args::train::{Distill as Args, LrSchedule};
use crate::failure::{Failure, Reporter};
use crate::model;
use altclip::cache::FeatureCache;
use altclip::checkpoint::Checkpoint;
use altclip::models::Opened;
use altclip_data::{Dataset, ParallelOptions, ParallelTexts};
use altclip_report::{Code, Report, quote};
use altclip_tensor::CpuBackend;
use altclip_train::distill::{Distill, Teacher};
use altclip_train::samples::{self, Ids};
use altclip_train::start::Start;
use std::path::Path;
use std::sync::Arc;

/// AltCLIP's own (arXiv 2211.06679, appendix A); the schedule is that of its training code.
const DEFAULTS: Defaults = Defaults {
    batch_size: 1024,
    lr: 1e-4,
    lr_schedule: LrSchedule::Linear,
    warmup_steps: 500,
    weight_decay: 0.1,
    betas: (0.99, 0.999),
    eps: 1e-8,
    grad_clip: 1.0,
    max_length: 75,
};

pub(crate) fn run(args: &Args, reporter: Reporter) -> Result<(), Failure> {
    let (teacher_dir, student_dir) = (model::named(&args.teacher)?, model::named(&args.student)?);
    let Some((source, target)) = args.columns.split_once(',') else {
        return Err(Failure::one(
            Report::new(Code::E1001, "usage", "two columns are needed")
                .place("--columns")
                .got(quote(&args.columns))
                .expected("TEACHER,STUDENT")
                .help("for example --columns en,zh"),
        ));
    };
    let mut options = ParallelOptions::new(std::env::temp_dir());
    options.columns = [source.trim().to_owned(), target.trim().to_owned()];
    let data = ParallelTexts::open(&args.pairs, &options)?;
    let len = samples::pair_count(data.len(), args.add_identity_pairs);
    let mut full = args.clone();
    full.run = resolved(&args.run, &DEFAULTS, len);
    let fingerprint = data.fingerprint().to_string();
    let session = Session::new("distill", full.run.clone(), &full, fingerprint.clone(), reporter)?;
    session.say_notices(data.notices());

    let ids = |dir: &Path| -> Result<Ids, Failure> {
        let tokenizer = Arc::new(altclip::tokenizer_in(dir)?);
        Ok(Ids { tokenizer, max_length: usize::from(full.run.max_length.unwrap_or(75)) })
    };
    let (teacher_ids, student_ids) = (ids(&teacher_dir)?, ids(&student_dir)?);
    session.check(&check::parallel(&data, &student_ids, &full.run))?;
    // The finished folder takes it over; what lacks it would be no model.
    altclip::preprocessor(&teacher_dir)?;
    let init = CpuBackend::new(threads(&full.run));
    let mut start = Start::of_student(&student_dir, &teacher_dir, full.run.seed, init.kernels().1)?;
    let opened = opened(&teacher_dir)?;
    let width = opened.config().text.width();
    let made_of = format!("{} {fingerprint} {}", weights_of(&teacher_dir)?, teacher_ids.max_length);
    let cache = FeatureCache::open(&session.file("cache/teacher.rows"), &made_of, width)?;
    let teacher = Teacher::new(opened.config(), &opened.files(), session.threads(), Some(cache))?;
    let task = Distill { model: start.model, teacher, engine: session.engine() };
    let samples = samples::pairs(Arc::new(data), teacher_ids, student_ids, args.add_identity_pairs);
    let measure = session.measure(&student_dir, &teacher_dir, true)?;
    session.train(&task, &mut start, samples, measure, |_| Ok(()))
}

/// A model folder without its tokenizer.
pub(super) fn opened(dir: &Path) -> Result<Opened, Failure> {
    let path = dir.join("config.json");
    let config =
        std::fs::read(&path).map_err(|source| altclip_train::Error::Read { path, source })?;
    Ok(Opened::open(Checkpoint::open(dir)?, &config, true).map_err(altclip::Error::from)?)
}

/// What tells one set of weights from another.
pub(super) fn weights_of(dir: &Path) -> Result<String, Failure> {
    let mut identity = altclip::checkpoint::Identity::new("features");
    identity.add_weights(dir)?;
    Ok(identity.finish())
}
