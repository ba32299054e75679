//! `altclip info`: what a model folder holds, without reading its weights.

use crate::args::Info;
use crate::failure::{Failure, as_json};
use crate::model;
use crate::output::Out;
use altclip::checkpoint::{MatrixFormat, PackedInfo};
use altclip::models::config::{self, Text};
use altclip::tensor::Activation;
use altclip::{Inspection, languages};
use altclip_report::Report;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) fn run(args: &Info) -> Result<(), Failure> {
    let dir = model::folder(&args.model)?;
    let inspection = altclip::inspect(&dir, args.model.allow_extra_keys)?;
    let named = args.model.model.as_deref().unwrap_or(&dir).to_string_lossy().into_owned();
    let described = describe(&inspection, &named);
    let mut out = Out::new();
    if args.json {
        out.json(&described)?;
    } else {
        print(&mut out, &described)?;
    }
    out.flush()?;
    // The faults were printed; the status says that this folder will not load.
    match inspection.problems.first() {
        Some(first) => Err(Failure::Status(first.code.exit_status())),
        None => Ok(()),
    }
}

fn describe(inspection: &Inspection, name: &str) -> Value {
    let opened = &inspection.opened;
    let checkpoint = opened.checkpoint();
    let mut dtypes = BTreeMap::<String, u64>::new();
    let mut stored = 0u64;
    for tensor in checkpoint.names().filter_map(|name| checkpoint.get(name)) {
        let numbers = tensor.shape.iter().map(|&dim| dim as u64).product::<u64>();
        *dtypes.entry(tensor.dtype.to_string()).or_default() += numbers;
        stored += numbers;
    }
    let dtype = dtypes.iter().max_by_key(|(_, numbers)| **numbers).map(|(dtype, _)| dtype.clone());
    let files = checkpoint.files().iter().map(|file| {
        json!({ "path": file.path.file_name().unwrap_or_default().to_string_lossy(), "bytes": file.bytes, "format": format_name(file.format) })
    });
    let reports = |reports: &[Report]| reports.iter().map(as_json).collect::<Vec<_>>();
    json!({
        "model": name,
        "family": opened.family().name(),
        "sizes": sizes(opened.config()),
        "languages": languages(opened.config(), name),
        "parameters": opened.parameters(),
        "parameters_stored": stored,
        "dtype": dtype,
        "files": files.collect::<Vec<_>>(),
        "packed": checkpoint.packed_info().map(packed),
        "conflicts": reports(&inspection.warnings),
        "problems": reports(&inspection.problems),
    })
}

/// What a packed model file says of itself.
pub(super) fn packed(info: &PackedInfo) -> Value {
    let (in_bf16, work_in_bf16) = info.share(MatrixFormat::Bf16);
    json!({
        "version": info.version,
        "precision": info.precision,
        "fingerprint": info.fingerprint,
        "matrices": info.matrices.len(),
        "matrices_in_bf16": in_bf16,
        "work_in_bf16": work_in_bf16,
    })
}

/// The same as a sentence.
pub(super) fn packed_line(packed: &Value) -> String {
    format!(
        "{}, version {}, {} of {} products in bf16, {:.1} % of the work",
        packed["precision"].as_str().unwrap_or(""),
        packed["version"].as_str().unwrap_or(""),
        packed["matrices_in_bf16"],
        packed["matrices"],
        100.0 * packed["work_in_bf16"].as_f64().unwrap_or(0.0),
    )
}

fn format_name(format: altclip::checkpoint::Format) -> &'static str {
    match format {
        altclip::checkpoint::Format::Safetensors => "safetensors",
        altclip::checkpoint::Format::PickleZip => "pytorch",
        altclip::checkpoint::Format::Packed => "altclip",
        _ => "other",
    }
}

fn sizes(config: &config::Model) -> Value {
    let blocks = |blocks: &config::Transformer| {
        json!({
            "hidden_size": blocks.hidden_size,
            "num_hidden_layers": blocks.num_hidden_layers,
            "num_attention_heads": blocks.num_attention_heads,
            "intermediate_size": blocks.intermediate_size,
            "layer_norm_eps": blocks.layer_norm_eps.to_string().parse::<f64>().ok(),
            "hidden_act": match blocks.hidden_act {
                Activation::Gelu => "gelu",
                Activation::QuickGelu => "quick_gelu",
                Activation::Tanh => "tanh",
                _ => "identity",
            },
        })
    };
    let with = |mut value: Value, more: Value| {
        if let (Some(fields), Value::Object(more)) = (value.as_object_mut(), more) {
            fields.extend(more);
        }
        value
    };
    let text = match &config.text {
        Text::AltClip(text) => with(
            blocks(&text.bert.blocks),
            json!({ "vocab_size": text.bert.vocab_size, "max_position_embeddings": text.bert.max_position_embeddings, "project_dim": text.project_dim }),
        ),
        Text::Bert(text) => with(
            blocks(&text.bert.blocks),
            json!({ "vocab_size": text.bert.vocab_size, "max_position_embeddings": text.bert.max_position_embeddings }),
        ),
        Text::Clip(text) => with(
            blocks(&text.blocks),
            json!({ "vocab_size": text.vocab_size, "max_position_embeddings": text.max_position_embeddings }),
        ),
    };
    let vision = config.vision.as_ref().map(|vision| {
        with(
            blocks(&vision.blocks),
            json!({ "image_size": vision.image_size, "patch_size": vision.patch_size }),
        )
    });
    json!({ "projection_dim": config.projection_dim, "text": text, "vision": vision })
}

fn print(out: &mut Out, described: &Value) -> Result<(), Failure> {
    let text = |field: &str| described[field].as_str().unwrap_or("unknown").to_owned();
    out.line(format!("model       {}", text("model")))?;
    out.line(format!("family      {}", text("family")))?;
    let languages = described["languages"]
        .as_array()
        .map(|list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "));
    out.line(format!(
        "languages   {}",
        languages.unwrap_or_else(|| "not known from the folder".into())
    ))?;
    out.line(format!(
        "parameters  {} million",
        described["parameters"].as_u64().unwrap_or(0) as f64 / 1e6
    ))?;
    out.line(format!("dtype       {}", text("dtype")))?;
    for tower in ["text", "vision"] {
        let sizes = &described["sizes"][tower];
        if sizes.is_object() {
            let field = |name: &str| sizes[name].to_string();
            let extra = if tower == "vision" {
                format!(", {} px in patches of {}", field("image_size"), field("patch_size"))
            } else {
                format!(", vocabulary {}", field("vocab_size"))
            };
            out.line(format!(
                "{tower:<11} {} layers, width {}, {} heads, feed-forward {}{extra}",
                field("num_hidden_layers"),
                field("hidden_size"),
                field("num_attention_heads"),
                field("intermediate_size"),
            ))?;
        }
    }
    out.line(format!("joint space {}", described["sizes"]["projection_dim"]))?;
    for file in described["files"].as_array().into_iter().flatten() {
        let megabytes = file["bytes"].as_u64().unwrap_or(0) as f64 / 1e6;
        out.line(format!(
            "file        {} ({megabytes:.1} MB, {})",
            file["path"].as_str().unwrap_or(""),
            file["format"].as_str().unwrap_or("")
        ))?;
    }
    let packed = &described["packed"];
    if packed.is_object() {
        out.line(format!("packed      {}", packed_line(packed)))?;
        out.line(format!("fingerprint {}", packed["fingerprint"].as_str().unwrap_or("")))?;
    }
    for (heading, field) in [("conflict", "conflicts"), ("problem", "problems")] {
        for report in described[field].as_array().into_iter().flatten() {
            let part = |name: &str| report[name].as_str().unwrap_or("").to_owned();
            out.line(format!(
                "{heading:<11} [{}] {}. {}",
                part("code"),
                part("message"),
                part("help")
            ))?;
        }
    }
    Ok(())
}
