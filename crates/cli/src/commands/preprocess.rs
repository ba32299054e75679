//! `altclip preprocess`: a picture to the pixel values that the model takes.

use crate::args::Preprocess;
use crate::failure::Failure;
use crate::output::Out;
use crate::{files, model};
use altclip::image::{decode, read_file};
use altclip::npy;
use serde_json::json;

pub(crate) fn run(args: &Preprocess) -> Result<(), Failure> {
    let dir = model::folder(&args.model)?;
    let preprocessor = altclip::preprocessor(&dir)?;
    let options = model::decode_options(&args.pictures);
    if same_file(&args.image, &args.out) {
        return Err(files::exists_unless_overwritten(&args.out));
    }
    let picture = decode(&read_file(&args.image, &options)?, &options)?;
    let pixels = preprocessor.apply(&picture)?;
    let (height, width) = preprocessor.output_size();
    files::write_file(&args.out, args.overwrite, |mut out| {
        npy::write_f32(&mut out, &[3, height, width], &pixels)
    })?;
    let mut out = Out::new();
    if args.json {
        out.json(&json!({ "input": args.image.to_string_lossy(), "out": args.out.to_string_lossy(), "shape": [3, height, width], "dtype": "float32" }))?;
    } else {
        out.line(format!("{}: float32 [3, {height}, {width}]", args.out.display()))?;
    }
    out.flush()
}

/// Whether both paths lead to one file, which must never be overwritten by its own result.
fn same_file(a: &std::path::Path, b: &std::path::Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
