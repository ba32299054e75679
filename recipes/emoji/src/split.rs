//! What of Chinese is kept out of training, so that three questions can be told apart.
//!
//! - *seen*: names that training has;
//! - *combined*: composed names ("农夫: 中等肤色") that training has not, though it has every word of them;
//! - *unseen*: names that occur in no Chinese training text at all, not even within another one;
//! - *hidden*: what is composed of an unseen name, and therefore neither trained on nor measured.
//!
//! English texts and all pictures are never held out. A choice depends on the seed and the name alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::SEED;
use crate::cldr::Label;
use crate::concept::Concept;
use crate::key::{Key, Kind};

/// The language that is split.
pub(crate) const LANGUAGE: &str = "zh";
/// Of 100 composed names, how many are held out.
const COMBINED_PERCENT: u64 = 20;
/// Of 100 names of single code points, how many are held out.
const UNSEEN_PERCENT: u64 = 10;
/// What CLDR puts between a name and its attributes.
const COLON: &str = ": ";

/// Where a concept's Chinese name belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    /// In training.
    Seen,
    /// Held out; its words are in training.
    Combined,
    /// Held out; it is in no training text.
    Unseen,
    /// Held out, because it holds an unseen name.
    Hidden,
}

/// The split, and what was chosen but had to stay in training, with the reason.
#[derive(Default)]
pub(crate) struct Split {
    parts: BTreeMap<Key, Part>,
    held_out: Vec<String>,
    /// Names and reasons.
    pub(crate) refused: Vec<(String, String)>,
}

impl Split {
    /// The part of a concept; `None` if it has no Chinese name.
    pub(crate) fn part(&self, key: &Key) -> Option<Part> {
        self.parts.get(key).copied()
    }

    /// What training may read of a concept in a language: everything, but of Chinese only seen names, and no
    /// keyword that holds a held-out name.
    pub(crate) fn training_label(&self, concept: &Concept, language: &str) -> Option<Label> {
        let mut label = concept.labels.get(language)?.clone();
        if language == LANGUAGE {
            if self.part(&concept.key) != Some(Part::Seen) {
                return None;
            }
            label.keywords.retain(|word| self.allows(word));
        }
        Some(label)
    }

    /// Whether a Chinese text holds no held-out name.
    pub(crate) fn allows(&self, text: &str) -> bool {
        self.held_out.iter().all(|name| !text.contains(name))
    }
}

fn chosen(name: &str, salt: u64, percent: u64) -> bool {
    xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), SEED + salt) % 100 < percent
}

/// Splits the Chinese names.
pub(crate) fn chinese(concepts: &[Concept]) -> Split {
    let named: Vec<(&Concept, &str)> =
        concepts.iter().filter_map(|concept| Some((concept, concept.name(LANGUAGE)?))).collect();
    let mut split = Split::default();
    let unseen = unseen(&named, &mut split.refused);
    let hidden = |name: &str| unseen.iter().any(|word| name != *word && name.contains(word));
    let open: Vec<&str> = named
        .iter()
        .map(|(_, name)| *name)
        .filter(|name| !unseen.contains(name) && !hidden(name))
        .collect();
    let combined = combined(&open, &words_of(&named), &mut split.refused);
    for (concept, name) in &named {
        let part = match () {
            () if unseen.contains(name) => Part::Unseen,
            () if hidden(name) => Part::Hidden,
            () if combined.contains(name) => Part::Combined,
            () => Part::Seen,
        };
        split.parts.insert(concept.key.clone(), part);
    }
    split.held_out = unseen.union(&combined).map(|name| (*name).to_owned()).collect();
    split
}

/// Names of single code points that no other name holds, except those composed of them.
fn unseen<'n>(
    named: &[(&Concept, &'n str)],
    refused: &mut Vec<(String, String)>,
) -> BTreeSet<&'n str> {
    let mut unseen = BTreeSet::new();
    let candidates = named.iter().filter(|(concept, name)| {
        concept.kind == Kind::Base && concept.complete() && chosen(name, 0, UNSEEN_PERCENT)
    });
    for (_, name) in candidates {
        let composed = format!("{name}{COLON}");
        let holder = named
            .iter()
            .map(|(_, other)| *other)
            .find(|other| other != name && other.contains(name) && !other.starts_with(&composed));
        match holder {
            Some(holder) => {
                refused.push(((*name).to_owned(), format!("unseen: \"{holder}\" holds it")));
            }
            None => {
                unseen.insert(*name);
            }
        }
    }
    unseen
}

/// The names of single code points: of what composed names are made, the longest first.
fn words_of<'n>(named: &[(&Concept, &'n str)]) -> Vec<&'n str> {
    let bases = named.iter().filter(|(concept, _)| concept.kind == Kind::Base);
    let mut words: Vec<&str> = bases.map(|(_, name)| *name).collect();
    words.sort_by_key(|word| (std::cmp::Reverse(word.len()), *word));
    words
}

/// The words of a name: what stands before the colon, then the attributes behind it. CLDR writes these without
/// anything between them in Chinese, so they are cut at known names; what is no row of known names is one word.
fn words<'n>(name: &'n str, known: &[&str]) -> Vec<&'n str> {
    let Some((head, tail)) = name.split_once(COLON) else { return vec![name] };
    let mut words = vec![head];
    let mut rest = tail;
    while !rest.is_empty() {
        match known.iter().find(|word| rest.starts_with(**word)) {
            Some(word) => {
                let (first, after) = rest.split_at(word.len());
                words.push(first);
                rest = after.trim_start_matches(['、', '，', ',', ' ']);
            }
            None => return vec![head, tail],
        }
    }
    words
}

/// Chosen composed names all of whose words stay in training, and that no training name holds.
fn combined<'n>(
    open: &[&'n str],
    known: &[&str],
    refused: &mut Vec<(String, String)>,
) -> BTreeSet<&'n str> {
    let (mut held, mut kept): (BTreeSet<&str>, BTreeSet<&str>) =
        open.iter().partition(|name| name.contains(COLON) && chosen(name, 1, COMBINED_PERCENT));
    // What goes back to training can only add words there; but it may hold a name that was held out.
    loop {
        let seen: BTreeSet<&str> = kept.iter().flat_map(|name| words(name, known)).collect();
        let back: Vec<(&str, String)> = held
            .iter()
            .filter_map(|name| {
                let missing = words(name, known).into_iter().find(|word| !seen.contains(word));
                let holder = || kept.iter().find(|other| other.contains(name));
                missing
                    .map(|word| format!("combined: \"{word}\" is in no other name"))
                    .or_else(|| holder().map(|holder| format!("combined: \"{holder}\" holds it")))
                    .map(|reason| (*name, reason))
            })
            .collect();
        if back.is_empty() {
            return held;
        }
        for (name, reason) in back {
            held.remove(name);
            kept.insert(name);
            refused.push((name.to_owned(), reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::Vendor;

    fn concept(text: &str, name: &str, keywords: &[&str]) -> Concept {
        let key = Key::of_text(text).unwrap();
        let keywords = keywords.iter().map(|word| (*word).to_owned()).collect();
        let label = Label { name: name.to_owned(), keywords };
        Concept {
            kind: key.kind(),
            key,
            group: None,
            labels: BTreeMap::from([(LANGUAGE, label)]),
            vendors: Vendor::ALL.to_vec(),
        }
    }

    /// Letters as heads, five tones as attributes: enough for every part to occur.
    fn world() -> Vec<Concept> {
        let tones = [("🏻", "浅"), ("🏼", "中浅"), ("🏽", "中"), ("🏾", "中深"), ("🏿", "深")];
        let mut world: Vec<Concept> =
            tones.iter().map(|(text, name)| concept(text, name, &[])).collect();
        for code in 0..60 {
            let base = char::from_u32(0x1f600 + code).unwrap();
            let head = format!("<{code}>");
            world.push(concept(&base.to_string(), &head, &["脸", &format!("好{head}")]));
            for (tone, name) in tones {
                let text = format!("{base}{tone}");
                world.push(concept(&text, &format!("{head}: {name}"), &[&head]));
            }
        }
        world
    }

    #[test]
    fn every_word_of_a_combined_name_is_seen_and_no_unseen_name_is() {
        let world = world();
        let split = &chinese(&world);
        let of = |part| {
            let names = world.iter().filter(move |c| split.part(&c.key) == Some(part));
            names.map(|c| c.name(LANGUAGE).unwrap()).collect::<Vec<_>>()
        };
        let (seen, combined, unseen) = (of(Part::Seen), of(Part::Combined), of(Part::Unseen));
        assert!(combined.len() > 20 && unseen.len() > 1, "{} {}", combined.len(), unseen.len());
        assert_eq!(of(Part::Hidden).len(), 5 * unseen.len());
        let mut texts: Vec<String> = seen.iter().map(|name| (*name).to_owned()).collect();
        let labels = world.iter().filter_map(|c| split.training_label(c, LANGUAGE));
        texts.extend(labels.flat_map(|label| label.keywords));
        for name in combined.iter().chain(&unseen) {
            assert!(texts.iter().all(|text| !text.contains(name)), "{name} is in training");
        }
        for name in &combined {
            let (head, tone) = name.split_once(": ").unwrap();
            assert!(seen.iter().any(|name| name.starts_with(head)), "{head}");
            assert!(seen.iter().any(|name| name.ends_with(tone)), "{tone}");
        }
    }

    #[test]
    fn a_word_that_occurs_once_is_not_held_out() {
        let world: Vec<Concept> = (0..100)
            .map(|i| {
                concept(
                    &format!("🇩{}", char::from_u32(0x1f1e6 + i).unwrap()),
                    &format!("旗: 国{i}"),
                    &[],
                )
            })
            .collect();
        let split = chinese(&world);
        assert!(world.iter().all(|c| split.part(&c.key) == Some(Part::Seen)));
        assert!(split.refused.len() > 5);
    }

    #[test]
    fn attributes_are_cut_at_known_names() {
        let known = ["中等-浅肤色", "较浅肤色", "男人"];
        let cases: [(&str, &[&str]); 4] = [
            (
                "情侣: 男人男人较浅肤色中等-浅肤色",
                &["情侣", "男人", "男人", "较浅肤色", "中等-浅肤色"],
            ),
            ("旗: 挪威", &["旗", "挪威"]),
            ("家庭: 男人、女孩", &["家庭", "男人、女孩"]),
            ("男人", &["男人"]),
        ];
        for (name, expected) in cases {
            assert_eq!(words(name, &known), expected);
        }
    }
}
