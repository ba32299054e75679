//! Packed model files: made from a folder, opened as a model, kept as a cache.
//!
//! The folder stays the source of truth. A cache has the name of the folder's path, so that a changed
//! model takes the place of its old cache, and the fingerprint of what it was made from inside. It is
//! only ever replaced by a rename, so that whoever has the old file mapped keeps it whole.

use crate::files::{self, IMAGE_TOWER, ModelFiles, Settings, tokenizer_of};
use crate::samples;
use crate::{Error, Event, LoadOptions, Result};
use altclip_checkpoint::{
    Checkpoint, Identity, MatrixFormat, MatrixToWrite, PackedInfo, PackedModel, TensorData,
    TensorToWrite, write_packed,
};
use altclip_models::Opened;
use altclip_models::calibrate::Samples;
use altclip_models::weights::{Formats, Recorded};
use altclip_report::{Code, Diagnose, Report};
use altclip_tensor::{CpuBackend, Packed, Precision, WeightKind};
use altclip_tokenizer::Tokenizer;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Raised when the same folder would be packed to other bytes.
const PACKING: &str = "altclip packing 3";
/// Settings files beside those of the tokenizer.
const SETTINGS: [&str; 2] = ["config.json", "preprocessor_config.json"];

/// What a conversion made.
#[derive(Clone, Debug)]
pub struct Converted {
    /// Length of the file.
    pub bytes: u64,
    /// What the file says of itself.
    pub info: PackedInfo,
}

/// A model as it was opened: its weights, its tokenizer, and its small files.
pub(crate) struct Parts {
    pub(crate) opened: Opened,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) settings: Settings,
}

impl Parts {
    /// Opens a model folder.
    pub(crate) fn of_folder(dir: &Path, options: &LoadOptions) -> Result<Self> {
        let ModelFiles { checkpoint, settings } = ModelFiles::open(dir)?;
        let opened = Opened::open(checkpoint, &settings.config, options.allow_extra_keys)?;
        let tokenizer = files::tokenizer_in(dir)?;
        let formats = match options.precision {
            Precision::F32 => Formats::new(),
            _ if options.formats.is_empty() => calibrated(&settings, &opened, &tokenizer, options)?,
            _ => options.formats.clone(),
        };
        Ok(Self { opened: opened.with_formats(formats), tokenizer, settings })
    }

    /// Opens a packed model file.
    pub(crate) fn of_file(path: &Path, options: &LoadOptions) -> Result<Self> {
        let mut checkpoint = Checkpoint::open_packed(path)?;
        checkpoint.set_threads(options.threads);
        if options.own_memory {
            checkpoint = checkpoint.into_memory()?;
        }
        let tokenizer = tokenizer_of(path, &checkpoint)?;
        let ModelFiles { checkpoint, settings } = ModelFiles::of_packed(path, checkpoint)?;
        let opened = Opened::open(checkpoint, &settings.config, options.allow_extra_keys)?;
        Ok(Self { opened, tokenizer, settings })
    }

    /// Opens the cache of a folder, which is made first where there is none that holds.
    pub(crate) fn of_cache(dir: &Path, cache: &Path, options: &LoadOptions) -> Result<Self> {
        let path = cache_path(dir, cache, options.precision);
        let fingerprint = fingerprint(dir, options)?;
        let again = "it is made again from the model folder";
        match Self::of_file(&path, options) {
            Ok(parts) if holds(&parts.opened, &fingerprint, options) => return Ok(parts),
            Ok(_) => {}
            Err(_) if !path.exists() => {}
            Err(error) => warn(options, &path, &error.report(), again),
        }
        let parts = Self::of_folder(dir, options)?;
        let made = std::fs::create_dir_all(cache)
            .map_err(|source| altclip_checkpoint::Error::Write { path: cache.to_owned(), source })
            .map_err(Error::from)
            .and_then(|()| write(&parts, dir, &fingerprint, options, &path))
            .and_then(|_| Self::of_file(&path, options));
        match made {
            Ok(packed) => Ok(packed),
            // A cache is a convenience: what is wrong with it alone does not stop the model.
            Err(error) if is_about(&error, &path) || is_about(&error, cache) => {
                warn(options, &path, &error.report(), "the weights are packed in memory");
                Ok(parts)
            }
            Err(error) => Err(error),
        }
    }
}

/// Pictures made by formula that a model is tried on.
const PICTURES: std::ops::Range<u32> = 0..4;

/// Runs the model on samples, and finds how each matrix is best kept.
fn calibrated(
    settings: &Settings,
    opened: &Opened,
    tokenizer: &Tokenizer,
    options: &LoadOptions,
) -> Result<Formats> {
    let max_length = options.max_length.min(opened.config().context_length());
    let encode = |text: &&str| Ok(tokenizer.encode(text, max_length)?);
    let encodings = samples::SENTENCES.iter().map(encode).collect::<Result<Vec<_>>>()?;
    let texts: Vec<&[u32]> = encodings.iter().map(|e| e.input_ids.as_slice()).collect();
    let pixels = match opened.config().vision {
        None => Vec::new(),
        Some(_) => {
            let open = |path: &PathBuf| {
                let bytes = altclip_image::read_file(path, &options.decode)?;
                Ok(altclip_image::decode(&bytes, &options.decode)?)
            };
            let pictures = match options.calibration.as_slice() {
                [] => samples::pictures(PICTURES),
                paths => paths.iter().map(open).collect::<Result<Vec<_>>>()?,
            };
            samples::pixels(&pictures, &settings.preprocessor()?)?
        }
    };
    let samples = Samples { texts: &texts, pixels: &pixels };
    let total = opened.matrices() as u64;
    let done = AtomicU64::new(0);
    let backend = CpuBackend::new(options.threads);
    let findings = opened.calibrate(&backend, options.precision, &samples, &|| {
        let done = 1 + done.fetch_add(1, Ordering::Relaxed);
        options.observer.tell(&Event::Progress { stage: "calibrating", done, total });
    })?;
    Ok(altclip_models::calibrate::formats(findings))
}

fn holds(opened: &Opened, fingerprint: &str, options: &LoadOptions) -> bool {
    opened.checkpoint().packed_info().is_some_and(|info| {
        info.fingerprint == fingerprint && info.precision == options.precision.name()
    })
}

fn is_about(error: &Error, path: &Path) -> bool {
    let place = error.report().place;
    place.is_some_and(|place| place.starts_with(&*path.to_string_lossy()))
}

/// Tells the observer that a cache is not used.
pub(crate) fn warn(options: &LoadOptions, cache: &Path, reason: &Report, next: &str) {
    let report = Report::new(Code::W2123, "cache", format!("{}; {next}", reason.message))
        .place(cache.display().to_string())
        .help("name another folder with ALTCLIP_CACHE or use --no-cache if this comes again");
    options.observer.tell(&Event::Notice(&report));
}

/// Where the packed weights of a folder are kept.
pub(crate) fn cache_path(dir: &Path, cache: &Path, precision: Precision) -> PathBuf {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = Identity::new(&dir.to_string_lossy()).finish();
    cache.join(format!("{name}-{precision}.altclip"))
}

/// What the packed weights of a folder depend on, from names, sizes, times and headers.
fn fingerprint(dir: &Path, options: &LoadOptions) -> Result<String> {
    let mut identity = Identity::new(PACKING);
    let tower = dir.join(IMAGE_TOWER);
    let dir = if altclip_checkpoint::is_original(dir) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        identity.add_file(files::folder(dir), &name)?;
        files::folder(dir)
    } else {
        identity.add_weights(dir)?;
        dir
    };
    if tower.is_dir() {
        identity.add_weights(&tower)?;
        for name in SETTINGS {
            identity.add_file(&tower, name)?;
        }
    }
    for name in SETTINGS.iter().chain(&altclip_tokenizer::FILES) {
        identity.add_file(dir, name)?;
    }
    identity.add_text(options.precision.name());
    // A folder that is refused without the flag is not to be served from a cache made with it.
    identity.add_text(if options.allow_extra_keys { "extra keys" } else { "" });
    for path in &options.calibration {
        identity.add_text(&path.to_string_lossy());
    }
    for (joined, format) in &options.formats {
        identity.add_text(joined);
        identity.add_text(&format!("{format:?}"));
    }
    Ok(identity.finish())
}

/// What embeddings depend on, of a folder, a packed file, or an author's own file with what lies beside it.
pub(crate) fn embeddings_fingerprint(
    path: &Path,
    options: &LoadOptions,
    settings: &Settings,
) -> Result<String> {
    let mut identity = match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(dir), Some(name)) if files::is_packed(path) => {
            let mut identity = Identity::new("embeddings");
            identity.add_file(dir, name)?;
            identity
        }
        _ => Identity::new(&format!("embeddings {}", fingerprint(path, options)?)),
    };
    identity.add_text(&format!("{} {:?}", options.max_length, options.decode));
    // Settings that are not in a file are this program's, and may change with it.
    for settings in [Some(&settings.config), settings.preprocessor.as_ref()].into_iter().flatten() {
        identity.add_text(&String::from_utf8_lossy(settings));
    }
    Ok(identity.finish())
}

/// Packs a model folder into one file, which [`crate::Model::load`] opens.
///
/// The precision is that of the options; their formats hold for single matrices. The file is written
/// beside `out` and renamed when it is complete.
///
/// # Errors
/// As [`crate::Model::load`]; [`Error::Precision`] for f32, which is not packed; a file that cannot be
/// written.
pub fn convert(dir: &Path, options: &LoadOptions, out: &Path) -> Result<Converted> {
    if options.precision == Precision::F32 {
        return Err(Error::Precision {
            file: out.to_owned(),
            found: "f32".into(),
            expected: "bf16 or int8".into(),
        });
    }
    let fingerprint = fingerprint(dir, options)?;
    let parts = Parts::of_folder(dir, options)?;
    if parts.opened.config().vision.is_some() {
        parts.settings.preprocessor()?;
    }
    let bytes = write(&parts, dir, &fingerprint, options, out)?;
    let packed = Checkpoint::open_packed(out)?;
    let lost = || altclip_checkpoint::Error::Changed { file: out.to_owned() };
    Ok(Converted { bytes, info: packed.packed_info().ok_or_else(lost)?.clone() })
}

/// Prepares every weight of a folder and writes the file.
fn write(
    parts: &Parts,
    dir: &Path,
    fingerprint: &str,
    options: &LoadOptions,
    out: &Path,
) -> Result<u64> {
    let Parts { opened, tokenizer, settings } = parts;
    let backend = CpuBackend::new(options.threads).with_precision(options.precision);
    let (total, done) = (opened.parameters(), std::cell::Cell::new(0));
    let weights = opened.record(&backend, &|numbers| {
        done.set(done.get() + numbers);
        let event = Event::Progress { stage: "packing", done: done.get(), total };
        options.observer.tell(&event);
    })?;
    let checkpoint = opened.checkpoint();
    let files = small_files(dir, tokenizer, settings)?;
    let fault = RefCell::new(None);
    let model = PackedModel {
        precision: options.precision.name().to_owned(),
        fingerprint: fingerprint.to_owned(),
        matrices: weights.iter().filter_map(|weight| matrix(&backend, weight)).collect(),
        tensors: plain_names(&backend, &weights)
            .into_iter()
            .filter_map(|name| plain(checkpoint, name, &fault))
            .collect(),
        files: files.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())).collect(),
    };
    let written = write_packed(out, model, &mut |done, total| {
        options.observer.tell(&Event::Progress { stage: "writing", done, total });
    });
    match fault.into_inner() {
        Some(error) => Err(Error::from(error)),
        None => Ok(written?),
    }
}

/// The small files that make a folder complete.
fn small_files(
    dir: &Path,
    tokenizer: &Tokenizer,
    settings: &Settings,
) -> Result<Vec<(String, Vec<u8>)>> {
    let dir = files::folder(dir);
    let [config, preprocessor] = SETTINGS.map(str::to_owned);
    let settings_files = std::iter::once((config, settings.config.clone()))
        .chain(settings.preprocessor.clone().map(|bytes| (preprocessor, bytes)));
    let used = tokenizer.source_files().iter().filter_map(|path| path.file_name()?.to_str());
    let read = |name: &str| {
        let path = dir.join(name);
        let bytes = std::fs::read(&path)
            .map_err(|source| altclip_checkpoint::Error::Io { path, source })?;
        Ok((name.to_owned(), bytes))
    };
    settings_files.map(Ok).chain(used.map(read)).collect()
}

fn is_matrix(weight: &Recorded) -> bool {
    matches!(weight.kind, WeightKind::Matrix | WeightKind::Edge)
}

fn matrix<'w>(backend: &CpuBackend, weight: &'w Recorded) -> Option<MatrixToWrite<'w>> {
    if !is_matrix(weight) {
        return None;
    }
    let plain = MatrixToWrite {
        names: weight.names.clone(),
        shape: weight.shape.clone(),
        format: MatrixFormat::F32,
        bytes: &[],
        scales: &[],
        sums: &[],
        smoothing: None,
        correction: None,
    };
    Some(match backend.packed(&weight.weight) {
        None => plain,
        Some(Packed::Bf16(packed)) => {
            let (bytes, correction) = (packed.bytes().as_slice(), packed.correction());
            MatrixToWrite { format: MatrixFormat::Bf16, bytes, correction, ..plain }
        }
        Some(Packed::Int8(packed)) => MatrixToWrite {
            format: MatrixFormat::Int8,
            bytes: packed.bytes().as_slice(),
            scales: packed.scales(),
            sums: packed.sums(),
            smoothing: packed.smoothing().map(|factors| &**factors),
            correction: packed.correction(),
            ..plain
        },
    })
}

/// The tensors that are stored with the bits of the source.
fn plain_names<'w>(backend: &CpuBackend, weights: &'w [Recorded]) -> BTreeSet<&'w str> {
    let plain = weights
        .iter()
        .filter(|weight| !is_matrix(weight) || backend.packed(&weight.weight).is_none());
    plain.flat_map(|weight| weight.names.iter().map(String::as_str)).collect()
}

fn plain<'c>(
    checkpoint: &'c Checkpoint,
    name: &'c str,
    fault: &'c RefCell<Option<altclip_checkpoint::Error>>,
) -> Option<TensorToWrite<'c>> {
    let info = checkpoint.get(name)?;
    let copy = move |out: &mut dyn std::io::Write| {
        checkpoint.copy_bytes(name, out).unwrap_or_else(|error| {
            // The writer knows errors of the output only; this one is about the source.
            fault.replace(Some(error));
            Err(std::io::ErrorKind::InvalidData.into())
        })
    };
    Some(TensorToWrite {
        name: name.to_owned(),
        dtype: info.dtype,
        shape: info.shape.clone(),
        data: TensorData::Stream(Box::new(copy)),
    })
}
