//! `altclip convert`: a model folder to one packed file.

use super::info::{packed, packed_line};
use crate::args::{Convert, PackedPrecision};
use crate::failure::{Failure, Reporter};
use crate::output::Out;
use crate::{files, inputs, model};
use altclip::LoadOptions;
use altclip::tensor::Precision;
use altclip_report::{Code, Report, quote};
use serde_json::json;
use std::path::{Path, PathBuf};

pub(crate) fn run(args: &Convert, reporter: Reporter) -> Result<(), Failure> {
    let shown = args.out.to_string_lossy();
    if args.out.extension().is_none_or(|extension| extension != "altclip") {
        return Err(Failure::one(
            Report::new(Code::E1001, "usage", "the output needs another name")
                .place("--out")
                .got(quote(&shown))
                .expected("a name that ends with .altclip")
                .help("commands know a packed file by the end of its name"),
        ));
    }
    let dir = model::folder(&args.model)?;
    if !dir.is_dir() {
        return Err(Failure::one(
            Report::new(Code::E1001, "usage", "a packed file cannot be converted")
                .place("--model")
                .got(quote(&dir.to_string_lossy()))
                .expected("a model folder")
                .help("name the folder that the file was made from"),
        ));
    }
    if args.out.is_dir() || (!args.overwrite && args.out.symlink_metadata().is_ok()) {
        return Err(files::exists_unless_overwritten(&args.out));
    }
    let mut options = LoadOptions::default();
    options.allow_extra_keys = args.model.allow_extra_keys;
    options.precision = match args.precision {
        PackedPrecision::Bf16 => Precision::Bf16,
        PackedPrecision::Int8 => Precision::Int8,
    };
    if let Some(threads) = args.threads {
        options.threads = usize::from(threads);
    }
    options.observer = model::observer(reporter);
    if let Some(dir) = &args.calibrate {
        options.calibration = calibration(dir, options.precision)?;
    }
    let converted = altclip::convert(&dir, &options, &args.out)?;
    let packed = packed(&converted.info);
    let mut out = Out::new();
    if args.json {
        out.json(&json!({ "out": shown, "bytes": converted.bytes, "packed": packed }))?;
    } else {
        let megabytes = converted.bytes as f64 / 1e6;
        out.line(format!("{shown}: {megabytes:.1} MB, {}", packed_line(&packed)))?;
    }
    out.flush()
}

/// Pictures of a folder are many and much alike; so many tell enough.
const CALIBRATION_PICTURES: usize = 32;

/// The first pictures of a folder that can be decoded.
fn calibration(dir: &Path, precision: Precision) -> Result<Vec<PathBuf>, Failure> {
    let refused = |got: &str, expected: &str, help: &str| {
        Failure::one(
            Report::new(Code::E1001, "usage", "there is nothing to calibrate with")
                .place(format!("--calibrate {}", quote(&dir.to_string_lossy())))
                .got(got)
                .expected(expected)
                .help(help),
        )
    };
    if precision != Precision::Int8 {
        return Err(refused("--precision bf16", "--precision int8", "only int8 is calibrated"));
    }
    let options = altclip::image::DecodeOptions::default();
    let decodes = |path: &PathBuf| {
        let bytes = altclip::image::read_file(path, &options);
        bytes.and_then(|bytes| altclip::image::decode(&bytes, &options)).is_ok()
    };
    let paths = inputs::images(dir).into_iter().filter_map(|input| match input {
        inputs::Input::Image { path, .. } => path.ok(),
        inputs::Input::Text { .. } => None,
    });
    let paths: Vec<PathBuf> = paths.filter(decodes).take(CALIBRATION_PICTURES).collect();
    if paths.is_empty() {
        return Err(refused(
            "no picture that can be decoded",
            "a folder of pictures",
            "name another folder",
        ));
    }
    Ok(paths)
}
