//! One caption a line behind the id of its picture: `1007129816.jpg#0⇥caption` as Flickr30k has it,
//! `COCO_val2014_000000000042#zhm#0 caption` as COCO-CN and Flickr30k-CN, or `path,caption` as CLIP_benchmark.

use std::collections::HashSet;
use std::path::Path;

use super::build::Builder;
use crate::{Error, Reason};

const FROM: &str = "Flickr30k-CN and COCO-CN are given out by their authors (the projects cross-lingual-cap and coco-cn), \
                    CLIP_benchmark's lists by the project retrieval_annotations; the pictures by Flickr30k and MSCOCO";
/// Endings of pictures in these lists.
const PICTURES: [&str; 4] = [".jpg", ".jpeg", ".png", ".webp"];

pub(super) fn read(builder: &mut Builder<'_>) -> Result<(), Error> {
    let wanted = ids(builder)?;
    let path = builder.spec.path.clone();
    let mut seen = HashSet::new();
    builder.lines(&path, FROM, |builder, line, place| {
        if line.trim().is_empty() {
            return;
        }
        let Some((id, caption)) = split(line) else {
            // CLIP_benchmark's lists begin with the names of their columns.
            if place.line != Some(1) {
                let detail = "neither `ID#N caption` nor `path,caption`";
                builder.fault(Reason::BrokenLine, place, detail);
            }
            return;
        };
        let name = id.split('#').next().unwrap_or(id);
        if wanted.as_ref().is_some_and(|ids| !ids.contains(stem(name))) {
            return;
        }
        if id.contains('#') && !seen.insert(id.to_owned()) {
            return builder.fault(Reason::DuplicateKey, place, "the id occurred before");
        }
        let with_ending = format!("{name}.jpg");
        let names: &[&str] = if stem(name) == name { &[&with_ending] } else { &[name] };
        if let Some(picture) = builder.file(names, &place) {
            builder.caption(caption, picture, Vec::new(), None, &place);
        }
    })
}

/// The ids of the split, where it is a file of them.
fn ids(builder: &mut Builder<'_>) -> Result<Option<HashSet<String>>, Error> {
    let path = builder.options.split.clone();
    let path = Path::new(&path);
    if !path.is_file() {
        return Ok(None);
    }
    let mut ids = HashSet::new();
    builder.lines(path, FROM, |_, line, _| {
        ids.insert(stem(line.trim()).to_owned());
    })?;
    Ok(Some(ids))
}

/// The id and the caption of a line.
fn split(line: &str) -> Option<(&str, &str)> {
    let end = line.find(['\t', ' ', ',']).unwrap_or(line.len());
    if line[..end].contains('#') && line.get(end..=end) != Some(",") {
        return line.get(end + 1..).map(|caption| (&line[..end], caption));
    }
    let (path, caption) = line.split_once([',', '\t'])?;
    let is_picture = stem(path) != path;
    let caption = caption.strip_prefix('"').and_then(|c| c.strip_suffix('"')).unwrap_or(caption);
    is_picture.then_some((path, caption))
}

/// A name without the ending of a picture.
fn stem(name: &str) -> &str {
    PICTURES.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_form() {
        assert_eq!(split("1.jpg#0\t一只 猫"), Some(("1.jpg#0", "一只 猫")));
        assert_eq!(split("COCO_1#zhm#0 一只猫，坐着"), Some(("COCO_1#zhm#0", "一只猫，坐着")));
        assert_eq!(split("a/1.jpg,\"A cat, sitting.\""), Some(("a/1.jpg", "A cat, sitting.")));
        assert_eq!(split("a/1.jpg,A cat"), Some(("a/1.jpg", "A cat")));
        for wrong in ["image,caption", "just words", "", "#", "1.jpg"] {
            assert_eq!(split(wrong).filter(|(_, caption)| !caption.is_empty()), None, "{wrong}");
        }
    }
}
