//! `altclip doctor`: whether this machine and a model folder are in order.

use crate::args::Doctor;
use crate::failure::{Failure, as_json};
use crate::model;
use crate::output::Out;
use altclip::checkpoint::{Checkpoint, NonFinite};
use altclip::image::Rgb;
use altclip::{LoadOptions, Model};
use altclip_report::{Code, Diagnose, Report};
use serde_json::json;
use std::path::Path;

/// One thing looked at, and what was found or why it is wrong.
struct Check {
    name: &'static str,
    found: Result<String, Vec<Report>>,
    /// The same as numbers, where there are some.
    numbers: Option<serde_json::Value>,
}

impl Check {
    fn new(name: &'static str, found: Result<String, Vec<Report>>) -> Self {
        Self { name, found, numbers: None }
    }
}

pub(crate) fn run(args: &Doctor) -> Result<(), Failure> {
    let mut checks = vec![cpu(), threads(), pictures()];
    if args.model.model.is_some() {
        let dir = model::folder(&args.model)?;
        checks.extend(folder(args, &dir));
    }
    let mut out = Out::new();
    for check in &checks {
        if args.json {
            out.json(&json!({
                "check": check.name,
                "ok": check.found.is_ok(),
                "found": check.found.as_ref().ok(),
                "numbers": check.numbers,
                "problems": check.found.as_ref().err().map(|reports| reports.iter().map(as_json).collect::<Vec<_>>()),
            }))?;
            continue;
        }
        match &check.found {
            Ok(found) => out.line(format!("ok    {:<12} {found}", check.name))?,
            Err(reports) => {
                for report in reports {
                    out.line(format!("FAIL  {:<12} {report}", check.name))?;
                }
            }
        }
    }
    out.flush()?;
    let first = checks.iter().find_map(|check| check.found.as_ref().err()?.first());
    first.map_or(Ok(()), |first| Err(Failure::Status(first.code.exit_status())))
}

fn cpu() -> Check {
    let found = match altclip::tensor::isa_notice() {
        Some(notice) => format!("{} ({notice})", altclip::tensor::CpuBackend::new(1).isa()),
        None => altclip::tensor::CpuBackend::new(1).isa().to_string(),
    };
    Check::new("kernels", Ok(found))
}

fn threads() -> Check {
    Check::new("threads", Ok(LoadOptions::default().threads.to_string()))
}

fn pictures() -> Check {
    Check::new("pictures", Ok("JPEG PNG WebP GIF BMP TIFF PNM".into()))
}

fn folder(args: &Doctor, dir: &Path) -> Vec<Check> {
    let options = model::options(
        &args.model,
        &crate::args::PictureArgs { max_pixels: 64_000_000, ..Default::default() },
    );
    let model = match Model::load(dir, &options) {
        Ok(model) => model,
        Err(error) => return vec![Check::new("model", Err(error.reports()))],
    };
    let opened = model.opened();
    let mut checks = vec![Check::new(
        "model",
        Ok(format!(
            "{}, {:.1} million parameters",
            opened.family().name(),
            opened.parameters() as f64 / 1e6
        )),
    )];
    for warning in model.warnings() {
        checks.push(Check::new("notice", Ok(warning.to_string())));
    }
    checks.push(text(&model));
    if opened.config().vision.is_some() {
        checks.push(image(&model));
    }
    if args.full {
        checks.push(weights(&model));
    }
    if args.accuracy {
        checks.extend(accuracy(model, args.images.as_deref()));
    }
    checks
}

/// How far the reduced precisions are from f32.
fn accuracy(model: Model, images: Option<&Path>) -> Vec<Check> {
    match super::accuracy::compare(model, images) {
        Err(reports) => vec![Check::new("accuracy", Err(reports))],
        Ok(rows) => (rows.iter())
            .map(|row| Check {
                numbers: Some(row.as_json()),
                ..Check::new("accuracy", Ok(row.shown()))
            })
            .collect(),
    }
}

/// The same text alone and in a batch must give the same bits.
fn text(model: &Model) -> Check {
    let texts = ["一只猫", "a photo of a dog"];
    let found = model.text_encoder().map_err(|error| error.reports()).and_then(|_| {
        if model.opened().config().vision.is_none() {
            let states = model.conditioning(&texts, None).map_err(|error| error.reports())?;
            return Ok(format!("{} conditioning states of width {}", states.len(), states.width()));
        }
        let (both, one) = (model.encode_text(&texts), model.encode_text(&texts[1..]));
        same_bits(both.map_err(|e| e.reports())?.row(1), one.map_err(|e| e.reports())?.row(0))
    });
    Check::new("text tower", found)
}

fn image(model: &Model) -> Check {
    let side = 64u32;
    let shade = |n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8;
    let picture = |seed: u32| {
        Rgb::from_raw(side, side, (0..3 * side * side).map(|n| shade(n + seed)).collect())
    };
    let run = || {
        let pictures = [picture(1)?, picture(99)?];
        let both = model.encode_image(&pictures)?;
        Ok::<_, altclip::Error>((both, model.encode_image(&pictures[1..])?))
    };
    let found = run()
        .map_err(|error| error.reports())
        .and_then(|(both, one)| same_bits(both.row(1), one.row(0)));
    Check::new("image tower", found)
}

fn same_bits(in_batch: &[f32], alone: &[f32]) -> Result<String, Vec<Report>> {
    if in_batch == alone {
        return Ok("runs; a result does not depend on its batch".into());
    }
    Err(vec![
        Report::new(Code::E9001, "doctor", "a result depends on the batch it was computed in")
            .got("different bits")
            .expected("the same bits")
            .help("please report this with the output of altclip doctor"),
    ])
}

fn weights(model: &Model) -> Check {
    let checkpoint = model.opened().checkpoint();
    let problems: Vec<Report> = checkpoint
        .names()
        .filter_map(|name| match checkpoint.scan_non_finite(name) {
            Ok(None) => None,
            Ok(Some(found)) => Some(not_finite(checkpoint, name, found)),
            Err(error) => Some(error),
        })
        .flat_map(|error| error.reports())
        .collect();
    let found = if problems.is_empty() {
        Ok(format!("all {} tensors are finite and readable", checkpoint.names().count()))
    } else {
        Err(problems)
    };
    Check::new("weights", found)
}

fn not_finite(checkpoint: &Checkpoint, name: &str, found: NonFinite) -> altclip::checkpoint::Error {
    let file = checkpoint.get(name).and_then(|tensor| checkpoint.files().get(tensor.file));
    altclip::checkpoint::Error::NotFinite {
        name: name.to_owned(),
        file: file.map(|file| file.path.clone()).unwrap_or_default(),
        first: found.first,
        count: found.count,
    }
}
