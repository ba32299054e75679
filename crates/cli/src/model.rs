//! Which model a command means: a folder, or a hub id in the cache.

use crate::args::{Alpha, ModelArgs, PictureArgs, RunArgs};
use crate::failure::{Failure, Reporter};
use altclip::hub::{Hub, HubConfig, RepoId};
use altclip::image::{DecodeOptions, Limits};
use altclip::{LoadOptions, Model};
use altclip_report::{Code, Report, quote};
use std::path::PathBuf;

/// The folder of the model that was named.
pub(crate) fn folder(args: &ModelArgs) -> Result<PathBuf, Failure> {
    let Some(named) = &args.model else {
        return Err(Failure::one(
            Report::new(Code::E1002, "usage", "no model was named")
                .place("--model, ALTCLIP_MODEL")
                .got("nothing")
                .expected("a model folder or a hub id")
                .help("for example: altclip download BAAI/AltCLIP, then --model BAAI/AltCLIP"),
        ));
    };
    if named.is_dir() {
        return Ok(named.clone());
    }
    let repo = named.to_str().and_then(|name| name.parse::<RepoId>().ok());
    let Some(repo) = repo.filter(|_| !named.exists()) else {
        let found = if named.exists() { "a file" } else { "nothing" };
        return Err(Failure::one(
            Report::new(
                Code::E2001,
                "model",
                format!("there is no model folder {}", quote(&named.to_string_lossy())),
            )
            .place(format!("--model {}", quote(&named.to_string_lossy())))
            .got(found)
            .expected(
                "a folder with config.json, weights, tokenizer files and preprocessor_config.json",
            )
            .help("name an existing folder, or a hub id such as BAAI/AltCLIP"),
        ));
    };
    Ok(hub(|name| std::env::var_os(name))?.cached(&repo, "main")?)
}

/// The hub as the `HF_*` variables describe it.
pub(crate) fn hub(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<Hub, Failure> {
    Ok(Hub::new(HubConfig::from_env_with(&variable)?)?)
}

/// Loads the model and says what was noticed.
pub(crate) fn load(args: &RunArgs, reporter: Reporter) -> Result<Model, Failure> {
    let mut options = options(&args.model, &args.pictures);
    options.max_length = usize::from(args.max_length);
    options.precision = args.precision.into();
    if let Some(threads) = args.threads {
        options.threads = usize::from(threads);
    }
    let model = Model::load(&folder(&args.model)?, &options)?;
    reporter.warn(model.warnings());
    Ok(model)
}

pub(crate) fn options(model: &ModelArgs, pictures: &PictureArgs) -> LoadOptions {
    let mut options = LoadOptions::default();
    options.allow_extra_keys = model.allow_extra_keys;
    options.decode = decode_options(pictures);
    options
}

pub(crate) fn decode_options(args: &PictureArgs) -> DecodeOptions {
    let alpha = match args.alpha {
        Alpha::Drop => altclip::image::Alpha::Drop,
        Alpha::Composite => altclip::image::Alpha::CompositeWhite,
    };
    let limits = Limits { pixels: args.max_pixels, ..Limits::default() };
    DecodeOptions { limits, apply_exif_orientation: args.exif_orient, alpha }
}
