//! XTD: `test_image_names.txt`, and `test_1kcaptions_LANGUAGE.txt` with one caption a line for each picture.
//!
//! # Source
//! Aggarwal and Kale, Towards Zero-shot Cross-lingual Image Retrieval (2020): the project Cross-lingual-Test-Dataset-XTD10.

use std::path::{Path, PathBuf};

use super::build::{Builder, open};
use crate::{Error, Reason};

const FROM: &str = "the project Cross-lingual-Test-Dataset-XTD10 has test_image_names.txt and a file of captions for each \
                    language (MIC and STAIR for de, fr and ja); the pictures are MSCOCO's of 2014";

pub(super) fn read(builder: &mut Builder<'_>) -> Result<(), Error> {
    let path = builder.spec.path.clone();
    let (folder, files) = if path.is_dir() {
        (path.clone(), captions(&path)?)
    } else {
        drop(open(&path, FROM)?);
        (path.parent().unwrap_or(Path::new("")).to_owned(), vec![path.clone()])
    };
    let names = folder.join("test_image_names.txt");
    let mut pictures = Vec::new();
    builder.lines(&names, FROM, |builder, line, place| {
        let name = line.trim();
        if name.is_empty() {
            return;
        }
        // MSCOCO keeps the pictures of a split in its folder: COCO_val2014_….jpg in val2014.
        let split = name.split('_').nth(1).unwrap_or_default();
        pictures.push(builder.file(&[name, &format!("{split}/{name}")], &place));
    })?;
    for file in files {
        let language = language(&file);
        let mut count = 0;
        builder.lines(&file, FROM, |builder, line, place| {
            let picture = pictures.get(count).copied();
            count += 1;
            match picture {
                None => builder.fault(
                    Reason::BrokenLine,
                    place,
                    "there are more captions than pictures",
                ),
                Some(Some(picture)) => {
                    builder.caption(line, picture, Vec::new(), language.as_deref(), &place);
                }
                Some(None) => {}
            }
        })?;
        if count < pictures.len() {
            return Err(Error::table(
                &file,
                format!("{count} captions for {} pictures", pictures.len()),
                "one caption a line for each line of test_image_names.txt",
            ));
        }
    }
    Ok(())
}

/// The files of captions in a folder, sorted.
fn captions(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| Error::io(folder, source))? {
        let path = entry.map_err(|source| Error::io(folder, source))?.path();
        if path.extension().is_some_and(|ending| ending == "txt") && language(&path).is_some() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::Absent { path: folder.join("test_1kcaptions_en.txt"), from: FROM });
    }
    Ok(files)
}

/// The language in a file's name, by its usual code.
fn language(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    let code = stem
        .strip_prefix("test_1kcaptions_")
        .or_else(|| stem.rsplit_once("captions_").map(|p| p.1))?;
    Some(if code == "jp" { "ja".to_owned() } else { code.to_owned() })
}
