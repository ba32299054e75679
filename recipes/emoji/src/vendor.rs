//! The four vendors: which sequences each draws, and the drawing of them all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::concept::Concept;
use crate::key::Key;
use crate::noto::Noto;
use crate::{Result, at, picture, read, read_text, write};

/// Who drew a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Vendor {
    /// Google's Noto Color Emoji.
    Noto,
    /// Microsoft's Fluent Emoji, flat.
    Fluent,
    /// Twitter's Twemoji.
    Twemoji,
    /// OpenMoji, held out.
    OpenMoji,
}

impl Vendor {
    /// All of them, OpenMoji last.
    pub(crate) const ALL: [Self; 4] = [Self::Noto, Self::Fluent, Self::Twemoji, Self::OpenMoji];
    /// Those whose pictures are for training.
    pub(crate) const TRAINING: [Self; 3] = [Self::Noto, Self::Fluent, Self::Twemoji];

    /// Its folder below `images`.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Noto => "noto",
            Self::Fluent => "fluent",
            Self::Twemoji => "twemoji",
            Self::OpenMoji => "openmoji",
        }
    }
}

/// A vendor's pictures.
pub(crate) enum Pictures {
    /// A font; what it draws is known when it is asked.
    Font(Box<Noto>),
    /// Files by key, and the names of files that are no sequence of code points.
    Files { by_key: BTreeMap<Key, PathBuf>, unread: Vec<String> },
}

/// All vendors, in [`Vendor::ALL`]'s order.
pub(crate) fn open_all(sources: &Path) -> Result<Vec<(Vendor, Pictures)>> {
    let font = sources.join("noto/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf");
    let noto = Noto::new(read(&font)?).map_err(at(&font))?;
    Ok(vec![
        (Vendor::Noto, Pictures::Font(Box::new(noto))),
        (Vendor::Fluent, fluent(files(&sources.join("fluent/assets"))?)),
        (Vendor::Twemoji, files(&sources.join("twemoji/img/twitter/64"))?),
        (Vendor::OpenMoji, files(&sources.join("openmoji/color/svg"))?),
    ])
}

/// What `@lobehub/fluent-emoji-flat` 1.1.0 has of Fluent. Microsoft draws no flags of regions, so those in there
/// are someone else's and are left out. The medium and the medium-light skin tone carry each other's name, seen
/// by the colours of all 578 of them and by the names in `fluentui-emoji` 1.3.0.
fn fluent(pictures: Pictures) -> Pictures {
    match pictures {
        Pictures::Files { by_key, unread } => {
            let own = by_key.into_iter().filter(|(key, _)| !key.is_region());
            let by_key = own.map(|(key, path)| (key.with_medium_tones_exchanged(), path)).collect();
            Pictures::Files { by_key, unread }
        }
        font @ Pictures::Font(_) => font,
    }
}

/// The pictures of a folder by the code points in their names.
fn files(folder: &Path) -> Result<Pictures> {
    let (mut by_key, mut unread) = (BTreeMap::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        match Key::of_stem(stem) {
            // Two spellings of one sequence: the shorter path, whatever order the folder is read in.
            Some(key) => {
                let kept: &mut PathBuf = by_key.entry(key).or_insert_with(|| path.clone());
                if path < *kept {
                    *kept = path;
                }
            }
            None => unread.push(stem.to_owned()),
        }
    }
    unread.sort();
    Ok(Pictures::Files { by_key, unread })
}

impl Pictures {
    /// The 96-pixel PNG of a concept, if the vendor draws it.
    fn draw(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        let image = match self {
            Self::Font(noto) => match noto.png(&key.text())? {
                Some(png) => picture::from_png(png)?,
                None => return Ok(None),
            },
            Self::Files { by_key, .. } => match by_key.get(key) {
                Some(path) if path.extension().is_some_and(|extension| extension == "svg") => {
                    picture::from_svg(&read_text(path)?).map_err(at(path))?
                }
                Some(path) => picture::from_png(&read(path)?).map_err(at(path))?,
                None => return Ok(None),
            },
        };
        picture::to_png(&image).map(Some)
    }

    /// Whether there may be a picture; certain for files.
    pub(crate) fn may_have(&self, key: &Key) -> bool {
        match self {
            Self::Font(_) => true,
            Self::Files { by_key, .. } => by_key.contains_key(key),
        }
    }
}

/// Draws every concept by every vendor, a thread each, into `images/VENDOR/KEY.png`, and notes who drew what.
/// Returns the pictures that could not be read.
pub(crate) fn draw_all(
    vendors: &[(Vendor, Pictures)],
    concepts: &mut [Concept],
    images: &Path,
) -> Result<Vec<String>> {
    if images.exists() {
        std::fs::remove_dir_all(images).map_err(at(images))?;
    }
    let keys: Vec<Key> = concepts.iter().map(|concept| concept.key.clone()).collect();
    let drawn: Vec<Result<Vec<Drawn>>> = std::thread::scope(|scope| {
        let tasks: Vec<_> = vendors
            .iter()
            .map(|(vendor, pictures)| {
                let folder = images.join(vendor.folder());
                let keys = &keys;
                scope.spawn(move || keys.iter().map(|key| draw(pictures, key, &folder)).collect())
            })
            .collect();
        let stopped = || Err("a drawing thread stopped".to_owned());
        tasks.into_iter().map(|task| task.join().unwrap_or_else(|_| stopped())).collect()
    });
    let mut faults = Vec::new();
    for ((vendor, _), drawn) in vendors.iter().zip(drawn) {
        for (concept, drawn) in concepts.iter_mut().zip(drawn?) {
            match drawn {
                Drawn::Yes => concept.vendors.push(*vendor),
                Drawn::No => {}
                Drawn::Fault(fault) => faults.push(fault),
            }
        }
    }
    Ok(faults)
}

enum Drawn {
    Yes,
    No,
    Fault(String),
}

fn draw(pictures: &Pictures, key: &Key, folder: &Path) -> Result<Drawn> {
    match pictures.draw(key) {
        Ok(Some(png)) => write(&folder.join(format!("{key}.png")), &png).map(|()| Drawn::Yes),
        Ok(None) => Ok(Drawn::No),
        Err(fault) => Ok(Drawn::Fault(fault)),
    }
}
