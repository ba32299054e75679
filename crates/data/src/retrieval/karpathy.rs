//! Karpathy's JSON: all pictures of Flickr8k, Flickr30k or MSCOCO with their captions and splits.
//!
//! # Source
//! Karpathy and Fei-Fei, Deep Visual-Semantic Alignments (CVPR 2015): `dataset_flickr30k.json`, `dataset_coco.json`.

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::build::{Builder, open};
use crate::{Error, Place, Reason};

#[derive(Deserialize)]
struct Whole {
    images: Vec<Image>,
}

#[derive(Deserialize)]
struct Image {
    filename: String,
    #[serde(default)]
    filepath: Option<String>,
    split: String,
    #[serde(default)]
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
struct Sentence {
    raw: String,
}

pub(super) fn read(builder: &mut Builder<'_>) -> Result<(), Error> {
    let path: &Path = &builder.spec.path;
    let from = "dataset_flickr30k.json and dataset_coco.json are in the caption datasets of Karpathy's Deep \
                Visual-Semantic Alignments; the pictures are those of the Flickr30k and MSCOCO projects";
    let whole: Whole =
        serde_json::from_reader(BufReader::new(open(path, from)?)).map_err(|error| {
            let line = (error.line() > 0).then_some(error.line() as u64);
            let expected =
                "an object with a list `images` of filename, split and sentences".to_owned();
            Error::Table { path: path.to_owned(), line, what: error.to_string(), expected }
        })?;
    let file: Arc<str> = path.display().to_string().into();
    let split = builder.options.split.clone();
    for image in whole.images {
        // Training on MSCOCO takes what is left of its validation pictures too.
        let is_split = image.split == split || (split == "train" && image.split == "restval");
        if !is_split {
            continue;
        }
        let mut place = Place::file(&file);
        place.key = Some(image.filename.clone());
        let inner = image.filepath.map(|folder| format!("{folder}/{}", image.filename));
        let names = [Some(image.filename.as_str()), inner.as_deref()];
        let names: Vec<&str> = names.into_iter().flatten().collect();
        let Some(picture) = builder.file(&names, &place) else { continue };
        if image.sentences.is_empty() {
            builder.fault(Reason::NoText, place, "no caption");
            continue;
        }
        for sentence in &image.sentences {
            builder.caption(&sentence.raw, picture, Vec::new(), None, &place);
        }
    }
    Ok(())
}
