//! Which model a command means: a folder, or a hub id in the cache.

use crate::args::{Alpha, ModelArgs, PictureArgs, RunArgs};
use crate::failure::{Failure, Reporter, cannot_write};
use altclip::hub::{Hub, HubConfig, RepoId};
use altclip::image::{DecodeOptions, Limits};
use altclip::{Event, LoadOptions, Model, Observer};
use altclip_report::{Code, Report, quote};
use indicatif::{ProgressBar, ProgressStyle};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Name of the model that is part of the program.
const NANO: &str = "nano";

/// The miniature as a folder: in the cache, or where that cannot be written among temporary files.
pub(crate) fn nano() -> Result<PathBuf, Failure> {
    let cache = cache_folder(|name| std::env::var_os(name));
    let kept = cache.and_then(|cache| altclip_nano::folder(&cache).ok());
    let dir = match kept {
        Some(dir) => Ok(dir),
        None => altclip_nano::folder(&std::env::temp_dir().join("altclip")),
    };
    dir.map_err(|error| {
        let (code, help) =
            cannot_write(&error, "set ALTCLIP_CACHE to a folder that can be written");
        Failure::one(
            Report::new(code, "model", format!("the miniature cannot be unpacked: {error}"))
                .place("--model nano")
                .help(help),
        )
    })
}

/// The folder, packed file or weight file of a model by its name: a path, the id of a downloaded model, or
/// `nano`.
///
/// # Errors
/// There is none of this name.
pub fn model_folder(name: &Path) -> Result<PathBuf, Vec<Report>> {
    named(name).map_err(|failure| match failure {
        Failure::Reports(reports) => reports,
        _ => Vec::new(),
    })
}

/// Where packed weights and embeddings are kept: `ALTCLIP_CACHE`, else the user's cache folder.
pub fn cache() -> Option<PathBuf> {
    cache_folder(|name| std::env::var_os(name))
}

/// The folder of a model that another flag names.
pub(crate) fn named(model: &Path) -> Result<PathBuf, Failure> {
    folder_of(Some(model))
}

/// The same for a flag that may be missing, with a word on what can be named.
pub(crate) fn folder_of(model: Option<&Path>) -> Result<PathBuf, Failure> {
    folder(&ModelArgs { model: model.map(Path::to_owned), allow_extra_keys: false })
}

/// The folder, packed file or author's own weight file of the model that was named.
pub(crate) fn folder(args: &ModelArgs) -> Result<PathBuf, Failure> {
    let Some(named) = &args.model else {
        return Err(Failure::one(
            Report::new(Code::E1002, "usage", "no model was named")
                .place("--model, ALTCLIP_MODEL")
                .got("nothing")
                .expected("a model folder or a hub id")
                .help(
                    "altclip download BAAI/AltCLIP, then --model BAAI/AltCLIP; for emoji only: \
                     --model nano",
                ),
        ));
    };
    let packed = named.extension().is_some_and(|extension| extension == "altclip")
        || altclip::checkpoint::is_original(named);
    if named.as_os_str() == NANO && !named.exists() {
        return nano();
    }
    if named.is_dir() || (packed && named.is_file()) {
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
            .help("name a folder, a packed .altclip file or a hub id such as BAAI/AltCLIP"),
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
    options.precision = args.precision.map_or(options.precision, Into::into);
    if let Some(threads) = args.threads {
        options.threads = usize::from(threads);
    }
    if !args.no_cache {
        options.cache = cache_folder(|name| std::env::var_os(name));
    }
    options.own_memory = args.own_memory;
    options.observer = observer(reporter);
    let model = Model::load(&folder(&args.model)?, &options)?;
    reporter.warn(model.warnings());
    Ok(model)
}

/// Where packed weights are kept: `ALTCLIP_CACHE`, else the user's cache folder.
pub(crate) fn cache_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("ALTCLIP_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("altclip")))
        .or_else(|| Some(set("HOME")?.join(".cache/altclip")))
}

/// Shows progress and late warnings on stderr.
pub(crate) fn observer(reporter: Reporter) -> Observer {
    let bar = Mutex::new(None::<(&'static str, ProgressBar)>);
    Observer::new(move |event| {
        let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Progress { stage, done, total } if reporter.shows_progress() => {
                if bar.as_ref().is_none_or(|(shown, _)| shown != stage) {
                    let style =
                        ProgressStyle::with_template("{msg:12} {bar:30} {percent:>3} % eta {eta}");
                    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                    let new = ProgressBar::new(*total).with_style(style).with_message(*stage);
                    *bar = Some((*stage, new));
                }
                let Some((_, shown)) = &*bar else { return };
                shown.set_position(*done);
                if done == total {
                    shown.finish_and_clear();
                }
            }
            Event::Notice(report) => reporter.warn(std::slice::from_ref(*report)),
            _ => {}
        }
    })
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
