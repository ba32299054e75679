//! The files of the set.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use crate::cldr::{LANGUAGES, Label};
use crate::concept::Concept;
use crate::key::{Key, Kind};
use crate::split::{self, Part, Split};
use crate::vendor::Vendor;
use crate::{Result, write as write_file};

/// The texts for a vocabulary, by language: names and lists of keywords that training has.
pub(crate) type Texts = BTreeMap<&'static str, BTreeSet<String>>;

/// A line of `concepts.jsonl`.
#[derive(Serialize)]
struct ConceptLine<'c> {
    key: String,
    emoji: String,
    kind: Kind,
    group: Option<&'c str>,
    subgroup: Option<&'c str>,
    vendors: &'c [Vendor],
    zh: Option<Part>,
    names: BTreeMap<&'c str, &'c str>,
    keywords: BTreeMap<&'c str, &'c [String]>,
}

/// A picture with its texts.
#[derive(Serialize)]
struct Pair {
    image: String,
    text: Vec<String>,
    language: &'static str,
}

/// Writes everything but the pictures.
pub(crate) fn write(set: &Path, concepts: &[Concept], split: &Split) -> Result<Texts> {
    lines(&set.join("concepts.jsonl"), concepts.iter().map(|c| concept_line(c, split)))?;
    let mut texts = Texts::new();
    for language in LANGUAGES {
        let label = |concept: &Concept| split.training_label(concept, language);
        let train: Vec<Pair> = Vendor::TRAINING
            .iter()
            .flat_map(|vendor| {
                let drawn = concepts.iter().filter(|concept| concept.vendors.contains(vendor));
                drawn.filter_map(|concept| {
                    let text = captions(&label(concept)?, language);
                    Some(Pair { image: concept.image(*vendor), text, language })
                })
            })
            .collect();
        let of_language: BTreeSet<String> =
            train.iter().flat_map(|pair| pair.text.iter().cloned()).collect();
        check(&of_language, language, split)?;
        lines(&set.join(format!("train.{language}.jsonl")), train)?;
        write_file(&set.join(format!("texts.{language}.txt")), &joined(&of_language))?;
        texts.insert(language, of_language);
        if language != "en" {
            let parallel: BTreeSet<String> = concepts
                .iter()
                .filter_map(|concept| {
                    Some(format!("{}\t{}", concept.name("en")?, label(concept)?.name))
                })
                .collect();
            write_file(&set.join(format!("parallel.{language}.tsv")), &joined(&parallel))?;
        }
        for vendor in [Vendor::OpenMoji, Vendor::Noto] {
            evaluation(set, concepts, split, language, vendor)?;
        }
    }
    Ok(texts)
}

fn concept_line<'c>(concept: &'c Concept, split: &Split) -> ConceptLine<'c> {
    let labels = || concept.labels.iter();
    ConceptLine {
        key: concept.key.to_string(),
        emoji: concept.key.text(),
        kind: concept.kind,
        group: concept.group.as_ref().map(|group| group.0.as_str()),
        subgroup: concept.group.as_ref().map(|group| group.1.as_str()),
        vendors: &concept.vendors,
        zh: split.part(&concept.key),
        names: labels().map(|(language, label)| (*language, label.name.as_str())).collect(),
        keywords: labels()
            .map(|(language, label)| (*language, label.keywords.as_slice()))
            .collect(),
    }
}

/// The texts of a picture: the name, and the keywords as one list.
fn captions(label: &Label, language: &str) -> Vec<String> {
    let comma = match language {
        "zh" | "ja" => "、",
        "ar" => "، ",
        _ => ", ",
    };
    let keywords = (!label.keywords.is_empty()).then(|| label.keywords.join(comma));
    std::iter::once(label.name.clone()).chain(keywords).collect()
}

/// The last word on the split: no Chinese training text holds a held-out name.
fn check(texts: &BTreeSet<String>, language: &str, split: &Split) -> Result<()> {
    match texts.iter().find(|text| language == split::LANGUAGE && !split.allows(text)) {
        Some(text) => Err(format!("a training text holds a held-out name: {text}")),
        None => Ok(()),
    }
}

/// `eval.VENDOR.LANGUAGE.jsonl`, Chinese in its parts and English over the same pictures too; and `…-base`
/// with single code points only.
fn evaluation(
    set: &Path,
    concepts: &[Concept],
    split: &Split,
    language: &'static str,
    vendor: Vendor,
) -> Result<()> {
    let parts: &[(&str, Option<Part>)] = &[
        ("", None),
        ("-seen", Some(Part::Seen)),
        ("-combined", Some(Part::Combined)),
        ("-unseen", Some(Part::Unseen)),
    ];
    let parts = match language {
        "en" => parts,
        split::LANGUAGE => &parts[1..],
        _ => &parts[..1],
    };
    for (suffix, part) in parts {
        let wanted = |key: &Key| part.is_none() || split.part(key) == *part;
        let of = |base: bool| {
            concepts
                .iter()
                .filter(move |c| c.vendors.contains(&vendor) && (!base || c.kind == Kind::Base))
                .filter(move |c| wanted(&c.key))
                .filter_map(move |c| {
                    let text = vec![c.name(language)?.to_owned()];
                    Some(Pair { image: c.image(vendor), text, language })
                })
        };
        let stem = format!("eval.{}.{language}{suffix}", vendor.folder());
        lines(&set.join(format!("{stem}.jsonl")), of(false))?;
        if matches!(part, None | Some(Part::Seen)) {
            lines(&set.join(format!("{stem}-base.jsonl")), of(true))?;
        }
    }
    Ok(())
}

/// One JSON value a line.
fn lines<T: Serialize>(path: &Path, rows: impl IntoIterator<Item = T>) -> Result<()> {
    let mut out = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut out, &row).map_err(|error| error.to_string())?;
        out.push(b'\n');
    }
    write_file(path, &out)
}

/// One text a line.
fn joined(texts: &BTreeSet<String>) -> Vec<u8> {
    texts.iter().flat_map(|text| text.bytes().chain([b'\n'])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concept(text: &str, english: &str, chinese: &str) -> Concept {
        let key = Key::of_text(text).unwrap();
        let label = |name: &str, word: &str| Label {
            name: name.to_owned(),
            keywords: vec![word.to_owned()],
        };
        Concept {
            kind: key.kind(),
            key,
            group: None,
            labels: BTreeMap::from([("en", label(english, "face")), ("zh", label(chinese, "脸"))]),
            vendors: Vendor::ALL.to_vec(),
        }
    }

    #[test]
    fn the_same_concepts_give_the_same_files() {
        let concepts = [concept("😀", "grin", "笑"), concept("🐱", "cat", "猫")];
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let split = split::chinese(&concepts);
        for folder in &folders {
            write(folder.path(), &concepts, &split).unwrap();
        }
        let read =
            |i: usize, name: &str| std::fs::read_to_string(folders[i].path().join(name)).unwrap();
        for entry in std::fs::read_dir(folders[0].path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert_eq!(read(0, &name), read(1, &name), "{name}");
        }
        let train = read(0, "train.en.jsonl");
        assert_eq!(
            train.lines().next().unwrap(),
            r#"{"image":"images/noto/1f600.png","text":["grin","face"],"language":"en"}"#
        );
        assert_eq!(train.lines().count(), 6);
        assert!(!train.contains("openmoji"));
        assert_eq!(read(0, "eval.openmoji.en.jsonl").lines().count(), 2);
        assert!(
            read(0, "eval.openmoji.en.jsonl").contains(r#""image":"images/openmoji/1f431.png""#)
        );
        assert!(read(0, "parallel.zh.tsv").contains("cat\t猫\n"));
        assert_eq!(read(0, "parallel.fr.tsv"), "");
    }
}
