//! Sets for retrieval: pictures, and captions that each belong to one or more of them.
//!
//! Every public set has its own layout; all become one [`RetrievalSet`]. Captions are in memory, pictures stay where
//! they are. What is wrong with a sample is a [`Fault`] that the caller counts; nothing is silently left out.

mod build;
mod captions;
mod chinese;
mod chinese_clip;
mod crossmodal;
mod id_text;
mod karpathy;
mod xtd;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::files::Files;
use crate::{CaptionedPictures, Dataset as _, Error, Fault, Picture, Place, Reason};
use build::{Builder, Stored};

/// The layout of a set, and where it is: `flickr30k:dataset_flickr30k.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSpec {
    /// How it is laid out.
    pub layout: Layout,
    /// Its file or folder.
    pub path: PathBuf,
    /// The public set that it is, where the prefix says so.
    known: Option<&'static str>,
}

/// How a set is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// One record a line or row: `image`, `text`, `language`. JSONL, CSV, TSV with a header, Parquet.
    List,
    /// Shards as CLIP_benchmark writes them.
    Webdataset,
    /// A folder for each class, as ImageNet's.
    Folders,
    /// The batches of CIFAR-10, binary or for Python.
    Cifar10,
    /// Karpathy's JSON of Flickr8k, Flickr30k and MSCOCO.
    Karpathy,
    /// `ID#N caption` a line: Flickr30k-CN, COCO-CN; or `path,caption` as CLIP_benchmark has them.
    IdText,
    /// `*_imgs.tsv` and `*_texts.jsonl`: MUGE and what Chinese-CLIP prepared.
    ChineseClip,
    /// A list of picture names, and for each language a file with one caption a line.
    Xtd,
    /// `captions.jsonl` of Crossmodal-3600.
    Crossmodal,
}

/// Prefixes of a spec and their layouts.
const PREFIXES: [(&str, Layout); 23] = [
    ("jsonl", Layout::List),
    ("csv", Layout::List),
    ("tsv", Layout::List),
    ("parquet", Layout::List),
    ("webdataset", Layout::Webdataset),
    ("wds", Layout::Webdataset),
    ("folder", Layout::Folders),
    ("imagenet", Layout::Folders),
    ("cifar10", Layout::Cifar10),
    ("karpathy", Layout::Karpathy),
    ("flickr8k", Layout::Karpathy),
    ("flickr30k", Layout::Karpathy),
    ("mscoco", Layout::Karpathy),
    ("mscoco_captions", Layout::Karpathy),
    ("id-text", Layout::IdText),
    ("flickr30k-cn", Layout::IdText),
    ("coco-cn", Layout::IdText),
    ("coco-cn-5k", Layout::IdText),
    ("clip-benchmark", Layout::IdText),
    ("muge", Layout::ChineseClip),
    ("chinese-clip", Layout::ChineseClip),
    ("xtd", Layout::Xtd),
    ("crossmodal-3600", Layout::Crossmodal),
];

/// The prefixes that name a public set; the others name a layout.
const KNOWN: [&str; 10] = [
    "cifar10",
    "flickr8k",
    "flickr30k",
    "mscoco",
    "flickr30k-cn",
    "coco-cn",
    "coco-cn-5k",
    "muge",
    "xtd",
    "crossmodal-3600",
];

impl FromStr for SetSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((prefix, path)) = text.split_once(':')
            && let Some((_, layout)) = PREFIXES.iter().find(|(name, _)| *name == prefix)
        {
            let known = KNOWN.into_iter().find(|name| *name == prefix);
            return match path {
                "" => Err(format!("`{text}` names no file: write {prefix}:PATH")),
                _ => Ok(Self { layout: *layout, path: path.into(), known }),
            };
        }
        let path = PathBuf::from(text);
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let layout = match ending {
            "jsonl" | "ndjson" | "csv" | "tsv" | "parquet" | "gz" => Layout::List,
            "tar" => Layout::Webdataset,
            "json" => Layout::Karpathy,
            _ if path.is_dir() => Layout::Webdataset,
            _ => {
                let names = PREFIXES.map(|(name, _)| name).join(", ");
                return Err(format!(
                    "`{text}` does not say its layout: KIND:PATH, KIND of {names}"
                ));
            }
        };
        Ok(Self { layout, path, known: None })
    }
}

impl SetSpec {
    /// The name under which results are kept: that of the public set, else the file's or folder's.
    pub fn name(&self) -> String {
        if let Some(known) = self.known {
            return known.to_owned();
        }
        let stem = |path: &Path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            name.strip_prefix("dataset_").unwrap_or(&name).to_lowercase()
        };
        let own = stem(&self.path);
        let of_folder = ["test", "train", "val", "captions", ""].contains(&own.as_str());
        match self.path.parent().filter(|_| of_folder) {
            Some(parent) if !parent.as_os_str().is_empty() => stem(parent),
            _ if own.is_empty() => "dataset".to_owned(),
            _ => own,
        }
    }
}

/// How a set is read.
#[derive(Clone, Debug)]
pub struct SetOptions {
    /// The folder that picture names are relative to; the folder of the spec's file if not given.
    pub images: Option<PathBuf>,
    /// The split, where the files hold several; or a file with the ids of one, one a line.
    pub split: String,
    /// The language of captions that do not say theirs. Where they do, a caption of another language is a fault.
    pub language: Option<String>,
    /// Spaces between Chinese words and part-of-speech marks are taken out.
    pub clean: bool,
    /// Folder for what compressed files are expanded to; nothing stays there.
    pub scratch: PathBuf,
}

impl Default for SetOptions {
    fn default() -> Self {
        let scratch = std::env::temp_dir();
        Self { images: None, split: "test".into(), language: None, clean: false, scratch }
    }
}

/// A caption and what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCaption {
    /// The text; never blank.
    pub text: String,
    /// The number of its picture.
    pub picture: usize,
    /// Further pictures that it fits; in most sets none.
    pub also: Vec<usize>,
    /// Its language; empty if nothing says it.
    pub language: Arc<str>,
}

/// Pictures and their captions.
pub struct RetrievalSet {
    name: String,
    pictures: Vec<(Stored, String)>,
    captions: Vec<SetCaption>,
    faults: Vec<Fault>,
    notices: Vec<String>,
    samples: Option<CaptionedPictures>,
    files: Option<Files>,
}

impl RetrievalSet {
    /// Opens a set. Pictures are looked for, and not read.
    ///
    /// # Errors
    /// [`Error::Absent`] for a file of the set that is not there; [`Error::Table`] for one that is of another kind.
    pub fn open(spec: &SetSpec, options: &SetOptions) -> Result<Self, Error> {
        let mut builder = Builder::new(spec, options);
        match spec.layout {
            Layout::List | Layout::Webdataset => captions::read(&mut builder)?,
            Layout::Karpathy => karpathy::read(&mut builder)?,
            Layout::IdText => id_text::read(&mut builder)?,
            Layout::ChineseClip => chinese_clip::read(&mut builder)?,
            Layout::Xtd => xtd::read(&mut builder)?,
            Layout::Crossmodal => crossmodal::read(&mut builder)?,
            Layout::Folders | Layout::Cifar10 => {
                return Err(Error::List {
                    path: spec.path.clone(),
                    what: "the dataset has classes, not captions".to_owned(),
                    help: "use it with: altclip eval zeroshot",
                });
            }
        }
        builder.finish()
    }

    /// The name of the set, for results.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.pictures.len()
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.pictures.is_empty()
    }

    /// What a picture is called.
    pub fn picture_name(&self, picture: usize) -> &str {
        self.pictures.get(picture).map_or("", |(_, name)| name)
    }

    /// The captions in the order of the files.
    pub fn captions(&self) -> &[SetCaption] {
        &self.captions
    }

    /// What could not be used.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// What a reader of the figures should know.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Reads a picture, or says where its file is.
    ///
    /// # Errors
    /// The [`Fault`] of a picture that cannot be read.
    pub fn picture(&self, picture: usize) -> Result<Picture, Fault> {
        let place = |name: &str| {
            let mut place = Place::file(&self.name.as_str().into());
            place.key = Some(name.to_owned());
            place
        };
        let Some((stored, name)) = self.pictures.get(picture) else {
            return Err(Fault::new(Reason::NoSuchSample, place(""), "no such picture"));
        };
        match (stored, &self.samples, &self.files) {
            (Stored::File(path), ..) => Ok(Picture::File(path.clone())),
            (Stored::Sample(number), Some(samples), _) => Ok(samples.get(*number)?.picture),
            (Stored::Base64 { offset, len }, _, Some(files)) => {
                let text = files.bytes_at(0, *offset, *len, || place(name))?;
                let bytes = BASE64_STANDARD.decode(text).map_err(|error| {
                    Fault::new(Reason::BrokenLine, place(name), format!("base64: {error}"))
                })?;
                Ok(Picture::Bytes(bytes))
            }
            _ => Err(Fault::new(Reason::NoSuchSample, place(name), "no such picture")),
        }
    }
}
