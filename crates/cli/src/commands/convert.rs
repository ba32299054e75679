//! `altclip convert`: a model folder to one packed file.

use super::info::{packed, packed_line};
use crate::args::{Convert, PackedPrecision};
use crate::failure::{Failure, Reporter};
use crate::output::Out;
use crate::{model, npy};
use altclip::LoadOptions;
use altclip::tensor::Precision;
use altclip_report::{Code, Report, quote};
use serde_json::json;

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
        return Err(npy::exists(&args.out));
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
