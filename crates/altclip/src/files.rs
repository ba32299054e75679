//! The files of a model, however they lie: a folder of the Hub, a packed file, an author's own file, or
//! Taiyi's two halves.

use crate::{Error, Result};
use altclip_checkpoint::{Checkpoint, is_original};
use altclip_image::Preprocessor;
use altclip_models::original;
use altclip_tokenizer::Tokenizer;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder inside Taiyi's text folder that holds the CLIP whose image tower it is used with.
pub const IMAGE_TOWER: &str = "image_tower";
const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";

/// The weights of a model and its small files.
pub(crate) struct ModelFiles {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) settings: Settings,
}

/// The small files of a model, beside those of its tokenizer.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The folder or file that was named.
    path: PathBuf,
    pub(crate) config: Vec<u8>,
    /// Absent where a text encoder stands alone.
    pub(crate) preprocessor: Option<Vec<u8>>,
}

impl Settings {
    /// The settings by which pictures are prepared.
    pub(crate) fn preprocessor(&self) -> Result<Preprocessor> {
        let missing = || missing(&self.path, PREPROCESSOR);
        Ok(Preprocessor::from_json(self.preprocessor.as_deref().ok_or_else(missing)?)?)
    }
}

/// Whether a path names a packed model file.
pub(crate) fn is_packed(path: &Path) -> bool {
    path.is_file() && !is_original(path)
}

/// The folder where the small files lie.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if is_original(path) => match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        },
        _ => path,
    }
}

impl ModelFiles {
    /// Opens a model folder, a packed model file, or an author's own weight file. Reads headers and small
    /// files.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        match is_packed(path) {
            true => Self::of_packed(path, Checkpoint::open_packed(path)?),
            false => Self::of_folder(path),
        }
    }

    /// The same where the packed file is open already.
    pub(crate) fn of_packed(path: &Path, checkpoint: Checkpoint) -> Result<Self> {
        let config = checkpoint.packed_file(CONFIG)?.ok_or_else(|| missing(path, CONFIG))?;
        let preprocessor = checkpoint.packed_file(PREPROCESSOR)?;
        let settings = Settings { path: path.to_owned(), config, preprocessor };
        Ok(Self { checkpoint, settings })
    }

    fn of_folder(path: &Path) -> Result<Self> {
        let mut checkpoint = match is_original(path) {
            true => Checkpoint::open_file(path)?,
            false => Checkpoint::open(path)?,
        };
        let dir = folder(path);
        let mut preprocessor = read(dir, PREPROCESSOR)?;
        // A config.json beside an author's own file is not about it.
        let stated = if is_original(path) { None } else { read(dir, CONFIG)? };
        let config = match stated {
            Some(config) if original::is_classifier(&config) => {
                let tower = dir.join(IMAGE_TOWER);
                match tower.is_dir().then(|| Self::of_folder(&tower)).transpose()? {
                    Some(Self { checkpoint: image, settings }) => {
                        preprocessor = preprocessor.or(settings.preprocessor);
                        let image = Some((image, settings.config.as_slice()));
                        original::join(&mut checkpoint, &config, image)?
                    }
                    None => original::join(&mut checkpoint, &config, None)?,
                }
            }
            Some(config) => config,
            None => match original::adapt(&mut checkpoint)? {
                Some(found) => {
                    preprocessor = preprocessor.or(Some(found.preprocessor));
                    found.config
                }
                None => return Err(missing(dir, CONFIG)),
            },
        };
        let settings = Settings { path: dir.to_owned(), config, preprocessor };
        Ok(Self { checkpoint, settings })
    }
}

/// The settings by which a model wants its pictures prepared.
///
/// # Errors
/// `preprocessor_config.json` is missing or not valid; nothing is guessed. An author's own file has the
/// settings of its authors' code.
pub fn preprocessor(path: &Path) -> Result<Preprocessor> {
    if !is_packed(path) && !is_original(path) {
        let settings = |preprocessor| {
            let (path, config) = (path.to_owned(), Vec::new());
            Settings { path, config, preprocessor }
        };
        match read(path, PREPROCESSOR)? {
            Some(json) => return settings(Some(json)).preprocessor(),
            None if path.join(CONFIG).exists() && !path.join(IMAGE_TOWER).is_dir() => {
                return settings(None).preprocessor();
            }
            None => {}
        }
    }
    ModelFiles::open(path)?.settings.preprocessor()
}

/// The tokenizer of a model folder, a packed model file, or beside an author's own file.
///
/// # Errors
/// As [`Tokenizer::from_dir`], and those of a packed model file.
pub fn tokenizer_in(path: &Path) -> Result<Tokenizer> {
    match is_packed(path) {
        true => tokenizer_of(path, &Checkpoint::open_packed(path)?),
        false => Ok(Tokenizer::from_dir(folder(path))?),
    }
}

/// The tokenizer inside a packed model file.
pub(crate) fn tokenizer_of(path: &Path, checkpoint: &Checkpoint) -> Result<Tokenizer> {
    let mut files = BTreeMap::new();
    for name in altclip_tokenizer::FILES {
        if let Some(bytes) = checkpoint.packed_file(name)? {
            files.insert(name, bytes);
        }
    }
    // Each is asked for once.
    let files = RefCell::new(files);
    Ok(Tokenizer::from_files(path, &|name| Ok(files.borrow_mut().remove(name)))?)
}

fn missing(dir: &Path, file: &'static str) -> Error {
    Error::File { file, dir: dir.to_owned(), source: std::io::ErrorKind::NotFound.into() }
}

/// A settings file, `None` where there is none.
fn read(dir: &Path, file: &'static str) -> Result<Option<Vec<u8>>> {
    /// Settings files are a few kilobytes; CLIP's old config.json with all label names is 40.
    const LIMIT: u64 = 4 << 20;
    let open = || {
        let file = std::fs::File::open(dir.join(file))?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, LIMIT), &mut bytes)?;
        Ok(bytes)
    };
    match open() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if std::io::Error::kind(&error) == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { file, dir: dir.to_owned(), source }),
    }
}
