//! `altclip train finetune`: a model on labelled pictures, trained as it was before: pictures against
//! captions.
//!
//! # Source
//! Goyal et al., FLYP, arXiv 2212.00638; Hu et al., LoRA, arXiv 2106.09685; Wortsman et al., WiSE-FT,
//! arXiv 2109.01903.

use super::check;
use super::contrastive::{ids, is_image_tower, pictures, without_prefix};
use super::session::{Defaults, Session, resolved, write_fault};
use crate::args::train::{Finetune as Args, LrSchedule, Part};
use crate::failure::Failure;
use crate::failure::Reporter;
use crate::model;
use altclip::checkpoint::{Dtype, TensorData, TensorToWrite, write_safetensors};
use altclip::models::config::{Model, Text};
use altclip_data::{Dataset, LabelledPictures, LabelsOptions};
use altclip_report::{Code, Report, quote};
use altclip_tensor::CpuBackend;
use altclip_train::contrastive::Contrastive;
use altclip_train::interpolate::interpolate;
use altclip_train::lora::Lora;
use altclip_train::random::Random;
use altclip_train::samples;
use altclip_train::start::Start;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const DEFAULTS: Defaults = Defaults {
    batch_size: 256,
    lr: 1e-5,
    lr_schedule: LrSchedule::Cosine,
    warmup_steps: 500,
    weight_decay: 0.1,
    betas: (0.9, 0.999),
    eps: 1e-8,
    grad_clip: 1.0,
    max_length: 77,
};

const TEMPLATE: &str = "a photo of a {}.";

pub(crate) fn run(args: &Args, reporter: Reporter) -> Result<(), Failure> {
    let dir = model::folder_of(args.model.as_deref())?;
    let data = labelled(&args.data)?;
    let mut full = args.clone();
    full.run = resolved(&args.run, &DEFAULTS, data.len());
    full.template = templates(&args.template, &data)?;
    let fingerprint = data.fingerprint().to_string();
    let session = Session::new("finetune", full.run.clone(), &full, fingerprint, reporter)?;
    session.say_notices(data.notices());

    let model = super::distill::opened(&dir)?.config().to_owned();
    let adapts = args.lora_rank.is_some();
    let trained = |name: &str| !adapts && is_trained(name, args, &model);
    let mut start = Start::of_model(&dir, &trained)?;
    if let Some(rank) = args.lora_rank {
        let alpha = args.lora_alpha.map_or(2.0 * f32::from(rank), |alpha| alpha as f32);
        adapt(&mut start, usize::from(rank), alpha, args)?;
    }
    let pictures = pictures(&dir, full.augment.into(), full.run.seed)?;
    let trains_images =
        start.parameters.trained().iter().any(|parameter| is_image_tower(&parameter.name))
            || start.parameters.adapters().keys().any(|name| is_image_tower(name));
    let task = Contrastive::new(start.model, session.engine(), pictures.len(), None);
    let ids = ids(&dir, &full.run)?;
    session.check(&check::labels(&data, &full.template, &ids, &full.run))?;
    let measure = session.measure_labels(&full.template, &ids, &dir, !trains_images)?;
    let samples = samples::labelled(Arc::new(data), ids, pictures, full.template.clone());
    let out = full.run.out;
    session.train(&task, &mut start, samples, measure, |start| {
        if args.save_adapter {
            save_adapter(start, &out.join("adapter"))?;
        }
        if args.wise_ft < 1.0 {
            mix(start, &dir, args.wise_ft as f32)?;
        }
        Ok(())
    })
}

/// Opens labelled pictures.
pub(super) fn labelled(path: &Path) -> Result<LabelledPictures, Failure> {
    let options = LabelsOptions { split: "train".to_owned(), ..LabelsOptions::default() };
    Ok(LabelledPictures::open(&without_prefix(path), &options)?)
}

/// The captions to draw from: those that were typed, those of the dataset, or CLIP's own.
fn templates(typed: &[String], data: &LabelledPictures) -> Result<Vec<String>, Failure> {
    if let Some(wrong) = typed.iter().find(|template| !template.contains("{}")) {
        return Err(Failure::one(
            Report::new(Code::E1001, "usage", "a template has no place for the label")
                .place("--template")
                .got(quote(wrong))
                .expected("a caption with {}")
                .help("for example --template 'a photo of a {}'"),
        ));
    }
    let of_data = || data.templates().map(|list| list.iter().map(|t| t.replace("{c}", "{}")));
    Ok(match (typed.is_empty(), of_data()) {
        (false, _) => typed.to_vec(),
        (true, Some(templates)) => templates.collect(),
        (true, None) => vec![TEMPLATE.to_owned()],
    })
}

fn is_trained(name: &str, args: &Args, model: &Model) -> bool {
    match args.part {
        Part::Full => true,
        Part::Text => !is_image_tower(name),
        Part::Image => is_image_tower(name),
        Part::Last => is_last(name, usize::from(args.last), model),
    }
}

/// The last `k` blocks of both towers, and what follows them.
fn is_last(name: &str, k: usize, model: &Model) -> bool {
    let layers = |prefix: &str, count: usize| {
        name.strip_prefix(prefix)
            .and_then(|rest| rest.split('.').next()?.parse::<usize>().ok())
            .map(|layer| layer + k >= count)
    };
    let text = match &model.text {
        Text::AltClip(text) => {
            layers("text_model.roberta.encoder.layer.", text.bert.blocks.num_hidden_layers)
        }
        Text::Bert(text) => layers("text_model.encoder.layer.", text.bert.blocks.num_hidden_layers),
        Text::Clip(text) => layers("text_model.encoder.layers.", text.blocks.num_hidden_layers),
    };
    let vision = model
        .vision
        .as_ref()
        .and_then(|vision| layers("vision_model.encoder.layers.", vision.blocks.num_hidden_layers));
    text.or(vision).unwrap_or_else(|| {
        let behind = ["pre_LN", "transformation", "final_layer_norm", "post_layernorm"];
        name == "logit_scale"
            || name.ends_with("projection.weight")
            || behind.iter().any(|part| name.contains(part))
    })
}

/// Adds low-rank updates to all maps inside the blocks.
fn adapt(start: &mut Start, rank: usize, alpha: f32, args: &Args) -> Result<(), Failure> {
    let init = CpuBackend::new(1);
    let (_, pool) = init.kernels();
    let model = start.model;
    let maps: Vec<_> = start
        .expected()
        .iter()
        .filter(|tensor| {
            let inside = tensor.name.contains(".layer.") || tensor.name.contains(".layers.");
            tensor.shape.len() == 2 && inside && is_trained(&tensor.name, args, &model)
        })
        .cloned()
        .collect();
    for tensor in maps {
        let [n, k] = [tensor.shape[0], tensor.shape[1]];
        let lora = Lora { n, k, rank: rank.min(n).min(k), alpha };
        let random = Random::named(args.run.seed, &format!("lora {}", tensor.name));
        let factors = lora.initial(pool, &random);
        start.parameters.adapt(&tensor.name, lora, factors);
    }
    Ok(())
}

/// The low-rank updates alone, in PEFT's files.
fn save_adapter(start: &Start, dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| write_fault(dir, &error))?;
    let adapters = start.parameters.adapters();
    let tensors = start.parameters.trained().iter().map(|parameter| TensorToWrite {
        name: parameter.name.clone(),
        dtype: Dtype::F32,
        shape: parameter.shape.clone(),
        data: TensorData::F32(parameter.values()),
    });
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(&dir.join("adapter_model.safetensors"), tensors, &metadata)?;
    let first = adapters.values().next();
    let modules: std::collections::BTreeSet<&str> = adapters
        .keys()
        .filter_map(|name| name.strip_suffix(".weight")?.rsplit('.').next())
        .collect();
    let config = serde_json::json!({
        "peft_type": "LORA",
        "r": first.map(|adapter| adapter.lora.rank),
        "lora_alpha": first.map(|adapter| adapter.lora.alpha),
        "target_modules": modules,
        "bias": "none",
    });
    let path = dir.join("adapter_config.json");
    let json = serde_json::to_string_pretty(&config).unwrap_or_default();
    std::fs::write(&path, json + "\n").map_err(|error| write_fault(&path, &error))
}

/// Mixes the tuned weights with those of the start.
fn mix(start: &mut Start, dir: &Path, share: f32) -> Result<(), Failure> {
    let before = super::distill::opened(dir)?;
    let init = CpuBackend::new(1);
    let (_, pool) = init.kernels();
    // A low-rank update is linear in `B`: a share of it is a share of the difference.
    let adapters: Vec<usize> = start.parameters.adapters().values().map(|a| a.b).collect();
    let is_adapter = |name: &str| name.contains("lora_");
    for (n, parameter) in start.parameters.trained_mut().iter_mut().enumerate() {
        if adapters.contains(&n) {
            parameter.values_mut().iter_mut().for_each(|value| *value *= share);
        } else if !is_adapter(&parameter.name) {
            let first = before.checkpoint().read_f32(&parameter.name)?;
            interpolate(pool, &first, parameter.values_mut(), share);
        }
    }
    Ok(())
}
