//! Which model an index is of, and how its pictures were prepared. Vectors of two models, or of two ways to
//! prepare pictures, are never compared.

use crate::Error;
use crate::picture::MAX_WIDTH;
use crate::seal::{sealed, unsealed};
use crate::store::{Change, Store};
use altclip::checkpoint::{Checkpoint, Identity};
use altclip::image::DecodeOptions;
use altclip::{LoadOptions, Model};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

const KEY: &str = "settings";
/// Raised when the same files would give other vectors.
const VECTORS: &str = "altclip vectors 1";
/// Settings files that vectors depend on.
const FILES: [&str; 2] = ["config.json", "preprocessor_config.json"];

/// The model of an index and how pictures are prepared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The model as it is named: a folder, a packed file or an id of the hub.
    pub model: String,
    /// A hash of the contents of weights, configuration, preprocessing and tokenizer.
    pub fingerprint: String,
    /// A hash of sizes and times of the same files, which is quick to compare.
    pub identity: String,
    /// Width of a vector.
    pub width: usize,
    /// What the model computed in.
    pub precision: String,
    /// How pictures were decoded.
    pub decode: String,
    /// Folders that are looked through.
    pub roots: Vec<String>,
    /// Pictures and folders below them that are not, because they were to be forgotten.
    #[serde(default)]
    pub forgotten: Vec<String>,
}

impl Settings {
    /// The settings for a model at `path` that is called `name`. Reads the weights once from end to end.
    ///
    /// # Errors
    /// A file of the model cannot be read.
    pub fn of(path: &Path, name: &str, model: &Model, precision: &str) -> Result<Self, Error> {
        Ok(Self {
            model: name.to_owned(),
            fingerprint: fingerprint(path, model)?,
            identity: identity(path)?,
            width: model.opened().config().projection_dim,
            precision: precision.to_owned(),
            decode: decode_text(&model.options().decode),
            roots: Vec::new(),
            forgotten: Vec::new(),
        })
    }

    /// Whether the files of the model at `path` are untouched since its contents were compared.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn is_at(&self, path: &Path) -> Result<bool, Error> {
        Ok(identity(path)? == self.identity)
    }

    /// Checks that a model at `path` is the one of these settings. Where sizes and times of its files are
    /// those, nothing else is read; where its contents are the same at another place, the settings come
    /// back with the new place.
    ///
    /// # Errors
    /// [`Error::OtherModel`].
    pub fn check(
        &self,
        path: &Path,
        name: &str,
        model: &Model,
        index: &Path,
    ) -> Result<Self, Error> {
        let identity = identity(path)?;
        if identity == self.identity {
            return Ok(self.clone());
        }
        let found = fingerprint(path, model)?;
        if found == self.fingerprint {
            return Ok(Self { model: name.to_owned(), identity, ..self.clone() });
        }
        Err(Error::OtherModel {
            path: index.to_owned(),
            found: format!("{found} ({})", last(name)),
            expected: format!("{} ({})", self.fingerprint, last(&self.model)),
        })
    }

    /// Checks that pictures are decoded as they were.
    ///
    /// # Errors
    /// [`Error::OtherModel`].
    pub fn check_decode(&self, decode: &DecodeOptions, index: &Path) -> Result<(), Error> {
        let found = decode_text(decode);
        if found == self.decode {
            return Ok(());
        }
        Err(Error::OtherModel { path: index.to_owned(), found, expected: self.decode.clone() })
    }

    /// Checks that pictures are computed in the precision that they were.
    ///
    /// # Errors
    /// [`Error::OtherModel`].
    pub fn check_precision(&self, precision: &str, index: &Path) -> Result<(), Error> {
        if precision == self.precision {
            return Ok(());
        }
        let named = |precision: &str| format!("the model in {precision}");
        let (found, expected) = (named(precision), named(&self.precision));
        Err(Error::OtherModel { path: index.to_owned(), found, expected })
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        // A struct of texts and numbers has a JSON form.
        let text = serde_json::to_string(self).unwrap_or_default();
        vec![Change::Set(KEY.into(), sealed(&text))]
    }

    pub(crate) fn read(store: &dyn Store, place: &Path) -> Result<Self, Error> {
        let text = store.setting(KEY)?.unwrap_or_default();
        let damaged = |what: &str| Error::damaged(place, format!("its settings {what}"));
        let body =
            unsealed(text.as_bytes()).ok_or_else(|| damaged("do not have their checksum"))?;
        let settings: Self = serde_json::from_str(body)
            .map_err(|error| damaged(&format!("are not valid: {error}")))?;
        // Memory is asked for by it.
        match settings.width {
            1..=MAX_WIDTH => Ok(settings),
            width => Err(damaged(&format!("name vectors of {width} numbers"))),
        }
    }
}

fn last(name: &str) -> String {
    Path::new(name).file_name().unwrap_or(name.as_ref()).to_string_lossy().into_owned()
}

fn decode_text(decode: &DecodeOptions) -> String {
    format!("exif_orientation={} alpha={:?}", decode.apply_exif_orientation, decode.alpha)
}

/// The weight files that a model at `path` uses.
fn weights(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let checkpoint = Checkpoint::open(path).map_err(altclip::models::Error::from);
    let checkpoint = checkpoint.map_err(altclip::Error::from)?;
    Ok(checkpoint.files().iter().map(|file| file.path.clone()).collect())
}

/// Adds the contents of a file of the model.
fn add_contents(hash: &mut Xxh3, path: &Path) -> Result<(), Error> {
    let unreadable = |source| {
        let error = altclip::checkpoint::Error::Io { path: path.to_owned(), source };
        altclip::Error::from(altclip::models::Error::from(error))
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).map_err(unreadable)? {
            0 => return Ok(()),
            n => hash.update(block.get(..n).unwrap_or_default()),
        }
    }
}

/// A hash of contents.
fn fingerprint(path: &Path, model: &Model) -> Result<String, Error> {
    let mut hash = Xxh3::new();
    hash.update(VECTORS.as_bytes());
    hash.update(&model.tokenizer().fingerprint().to_le_bytes());
    let mut add = |file: &Path| add_contents(&mut hash, file);
    weights(path)?.iter().try_for_each(|file| add(file))?;
    if path.is_dir() {
        FILES.iter().map(|name| path.join(name)).try_for_each(|file| add(&file))?;
        // The same vocabulary may be put together in another order. A tokenizer out of a cache names its
        // files without their folder.
        let names = model.tokenizer().source_files().iter().filter_map(|file| file.file_name());
        names.map(|name| path.join(name)).try_for_each(|file| add(&file))?;
    }
    Ok(format!("{:032x}", hash.digest128()))
}

/// A hash of sizes, times and headers.
fn identity(path: &Path) -> Result<String, Error> {
    let mut identity = Identity::new(VECTORS);
    let (dir, name) = match path.is_file() {
        true => (path.parent().unwrap_or(Path::new("")), path.file_name()),
        false => (path, None),
    };
    let mut add = || match name {
        Some(name) => identity.add_file(dir, &name.to_string_lossy()),
        None => {
            identity.add_weights(dir)?;
            let files = FILES.iter().chain(&altclip::tokenizer::FILES);
            files.into_iter().try_for_each(|file| identity.add_file(dir, file))
        }
    };
    add().map_err(altclip::models::Error::from).map_err(altclip::Error::from)?;
    Ok(identity.finish())
}

/// Load options that decode as the settings say.
pub fn decode_as(settings: &Settings, options: &mut LoadOptions) {
    options.decode.apply_exif_orientation = settings.decode.contains("exif_orientation=true");
    if settings.decode.contains("alpha=CompositeWhite") {
        options.decode.alpha = altclip::image::Alpha::CompositeWhite;
    } else {
        options.decode.alpha = altclip::image::Alpha::Drop;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use altclip_report::{Code, Diagnose as _};

    #[test]
    fn a_file_of_the_model_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        let add = || add_contents(&mut Xxh3::new(), &file);
        let refused = || add().unwrap_err().report();
        assert_eq!(refused().code, Code::E2001);
        std::fs::create_dir(&file).unwrap();
        let report = refused();
        assert_eq!(report.code, Code::E2001);
        assert!(report.place.unwrap().contains("config.json"));
        std::fs::remove_dir(&file).unwrap();
        std::fs::write(&file, "{}").unwrap();
        add().unwrap();
    }
}
