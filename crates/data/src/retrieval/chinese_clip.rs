//! MUGE and what Chinese-CLIP prepared: pictures as base64 in `SPLIT_imgs.tsv`, queries in `SPLIT_texts.jsonl`. A query
//! may fit several pictures.

use std::path::{Path, PathBuf};

use altclip_report::quote;
use serde::Deserialize;

use super::build::{Builder, Stored, open};
use crate::files::Files;
use crate::{Error, MAX_PICTURE_BYTES, Place, Reason};

const FROM: &str = "MUGE, Flickr30k-CN and COCO-CN in this form are given out by the project Chinese-CLIP, with MUGE \
                    from the Tianchi platform";

#[derive(Deserialize)]
struct Query {
    #[serde(default)]
    text_id: Option<serde_json::Value>,
    text: String,
    image_ids: Vec<serde_json::Value>,
}

pub(super) fn read(builder: &mut Builder<'_>) -> Result<(), Error> {
    let [images, texts] = files(&builder.spec.path, &builder.options.split);
    drop(open(&images, FROM)?);
    index(builder, &images)?;
    let mut seen = std::collections::HashSet::new();
    builder.lines(&texts, FROM, |builder, line, place| {
        if line.trim().is_empty() {
            return;
        }
        let query: Query = match serde_json::from_str(line) {
            Ok(query) => query,
            Err(error) => return builder.fault(Reason::BrokenLine, place, error.to_string()),
        };
        if let Some(id) = &query.text_id
            && !seen.insert(id.to_string())
        {
            return builder.fault(Reason::DuplicateKey, place, "the text_id occurred before");
        }
        let mut pictures = Vec::new();
        for id in &query.image_ids {
            let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            match builder.known(&id) {
                Some(Some(picture)) => pictures.push(picture),
                _ => {
                    let detail = format!("no picture has the id {}", quote(&id));
                    builder.fault(Reason::MissingImage, place.clone(), detail);
                }
            }
        }
        if pictures.is_empty() {
            if query.image_ids.is_empty() {
                builder.fault(Reason::MissingImage, place, "the text names no picture");
            }
            return;
        }
        let first = pictures.remove(0);
        builder.caption(&query.text, first, pictures, None, &place);
    })
}

/// Both files: `path` is a folder, one of them, or what both begin with.
fn files(path: &Path, split: &str) -> [PathBuf; 2] {
    let of = |prefix: &str| {
        ["_imgs.tsv", "_texts.jsonl"].map(|ending| PathBuf::from(format!("{prefix}{ending}")))
    };
    let text = path.to_string_lossy();
    if path.is_dir() {
        return of(&path.join(split).to_string_lossy());
    }
    let prefix = ["_imgs.tsv", "_texts.jsonl"].iter().find_map(|ending| text.strip_suffix(ending));
    of(prefix.unwrap_or(&text))
}

/// Where the base64 of each picture lies.
fn index(builder: &mut Builder<'_>, path: &Path) -> Result<(), Error> {
    const PIECE: usize = 1 << 20;
    let files = Files::new(vec![path.to_owned()])?;
    let name = files.name(0).clone();
    let longest = MAX_PICTURE_BYTES / 3 * 4 + 4;
    let (end, mut offset, mut line) = (files.bytes(0), 0u64, 0u64);
    let (mut start, mut id) = (0u64, Vec::new());
    let mut tab: Option<u64> = None;
    let mut buffer = vec![0; PIECE];
    while offset < end {
        let len = usize::try_from(end - offset).unwrap_or(PIECE).min(PIECE);
        let piece = &mut buffer[..len];
        files.read(0, offset, piece).map_err(|source| Error::io(path, source))?;
        for (at, &byte) in (offset..).zip(piece.iter()) {
            let is_last = at + 1 == end;
            match byte {
                b'\t' if tab.is_none() => tab = Some(at),
                b'\n' => {}
                _ if tab.is_none() && id.len() < 1024 => id.push(byte),
                _ => {}
            }
            if byte == b'\n' || is_last {
                line += 1;
                let stop = if byte == b'\n' { at } else { at + 1 };
                let place = Place::line(&name, line);
                let stored =
                    std::str::from_utf8(&id).ok().zip(tab).filter(|(id, _)| !id.is_empty());
                match stored {
                    Some((_, tab)) if stop - tab - 1 > longest => {
                        builder.fault(Reason::TooLong, place, "a picture over the limit");
                    }
                    Some((id, tab)) => {
                        // At most `longest` bytes, which fits.
                        let len = usize::try_from(stop - tab - 1).unwrap_or(0);
                        builder.stored(id, Stored::Base64 { offset: tab + 1, len }, place);
                    }
                    None if stop == start => {}
                    None => {
                        builder.fault(Reason::BrokenLine, place, "neither an id nor a tab");
                    }
                }
                (start, tab) = (at + 1, None);
                id.clear();
            }
        }
        offset += len as u64;
    }
    builder.files = Some(files);
    Ok(())
}
