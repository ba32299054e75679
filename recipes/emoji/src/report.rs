//! `REPORT.md` and `LICENSES/`: what is in the set, what is not, and whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use crate::cldr::{LANGUAGES, Names};
use crate::concept::Concept;
use crate::key::Key;
use crate::split::{LANGUAGE, Part, Split};
use crate::vendor::{Pictures, Vendor};
use crate::{Result, read, write as write_file};

/// What the report tells of.
pub(crate) struct Facts<'f> {
    pub(crate) names: &'f Names,
    pub(crate) vendors: &'f [(Vendor, Pictures)],
    pub(crate) concepts: &'f [Concept],
    pub(crate) split: &'f Split,
    pub(crate) faults: &'f [String],
}

/// Licence texts: the place among the sources, the name in `LICENSES/`.
const LICENCES: [(&str, &str); 5] = [
    ("noto/usr/share/doc/fonts-noto-color-emoji/copyright", "noto-color-emoji.txt"),
    ("cldr/usr/share/doc/unicode-cldr-core/copyright", "unicode-cldr.txt"),
    ("fluent-licence/LICENSE", "fluent-emoji.txt"),
    ("twemoji/README.md", "emoji-datasource-twitter.md"),
    ("openmoji/LICENSE.txt", "openmoji.txt"),
];

const CREDITS: &str = "\
## Licences and credits

| part | source | licence |
|---|---|---|
| `images/noto` | Noto Color Emoji, Google (Debian `fonts-noto-color-emoji` 2.042) | SIL Open Font License 1.1; images Apache-2.0 |
| `images/fluent` | Fluent Emoji, Microsoft (npm `@lobehub/fluent-emoji-flat` 1.1.0; licence text of `fluentui-emoji-js` 1.2.1) | MIT |
| `images/twemoji` | Twemoji, Twitter and contributors (npm `emoji-datasource-twitter` 16.0.0) | CC BY 4.0, <https://creativecommons.org/licenses/by/4.0/>; resized and laid on white |
| `images/openmoji` | OpenMoji (npm `openmoji` 17.0.0): held out, for measuring only | CC BY-SA 4.0 |
| names and keywords | Unicode CLDR 41 (Debian `unicode-cldr-core`) | Unicode licence |
| groups | `emoji-datasource-twitter` 16.0.0 | MIT |

The pictures of OpenMoji are in no training file. Neither they nor weights trained on them are to be shipped.
";

/// Writes both.
pub(crate) fn write(set: &Path, sources: &Path, facts: &Facts<'_>) -> Result<()> {
    for (from, to) in LICENCES {
        write_file(&set.join("LICENSES").join(to), &read(&sources.join(from))?)?;
    }
    write_file(&set.join("REPORT.md"), text(facts).as_bytes())
}

fn text(facts: &Facts<'_>) -> String {
    // Writing to a string cannot fail.
    let mut out = String::new();
    let complete = facts.concepts.iter().filter(|concept| concept.complete());
    let _ = writeln!(
        out,
        "# The emoji set\n\n{} concepts, {} of them drawn by all four vendors.\n",
        facts.concepts.len(),
        complete.count()
    );
    kinds(&mut out, facts);
    vendors(&mut out, facts);
    languages(&mut out, facts);
    chinese(&mut out, facts.split, facts.concepts);
    out.push_str(CREDITS);
    unmatched(&mut out, facts);
    out
}

fn kinds(out: &mut String, facts: &Facts<'_>) {
    let _ = writeln!(out, "| kind | concepts | by all four |\n|---|---|---|");
    let mut counts: BTreeMap<_, (usize, usize)> = BTreeMap::new();
    for concept in facts.concepts {
        let (all, complete) = counts.entry(concept.kind).or_default();
        *all += 1;
        *complete += usize::from(concept.complete());
    }
    for (kind, (all, complete)) in counts {
        let _ = writeln!(out, "| {kind:?} | {all} | {complete} |");
    }
}

fn vendors(out: &mut String, facts: &Facts<'_>) {
    let _ = writeln!(out, "\n| vendor | pictures in the package | in the set |\n|---|---|---|");
    for (vendor, pictures) in facts.vendors {
        let found = match pictures {
            Pictures::Font(_) => "a font".to_owned(),
            Pictures::Files { by_key, unread } => (by_key.len() + unread.len()).to_string(),
        };
        let used = facts.concepts.iter().filter(|c| c.vendors.contains(vendor)).count();
        let _ = writeln!(out, "| {vendor:?} | {found} | {used} |");
    }
}

fn languages(out: &mut String, facts: &Facts<'_>) {
    let _ = writeln!(
        out,
        "\n| language | names in CLDR | in the set | distinct | in training |\n|---|---|---|---|---|"
    );
    for language in LANGUAGES {
        let all = facts.names.get(language).map_or(0, BTreeMap::len);
        let names = || facts.concepts.iter().filter_map(|concept| concept.name(language));
        let (named, distinct) = (names().count(), names().collect::<BTreeSet<_>>().len());
        let trained = |c: &&Concept| facts.split.training_label(c, language).is_some();
        let trained = facts.concepts.iter().filter(trained).count();
        let _ = writeln!(out, "| {language} | {all} | {named} | {distinct} | {trained} |");
    }
}

fn chinese(out: &mut String, split: &Split, concepts: &[Concept]) {
    let _ = writeln!(out, "\n## What Chinese holds out\n\n| part | concepts |\n|---|---|");
    for part in [Part::Seen, Part::Combined, Part::Unseen, Part::Hidden] {
        let count = concepts.iter().filter(|c| split.part(&c.key) == Some(part)).count();
        let _ = writeln!(out, "| {part:?} | {count} |");
    }
    let label = |c: &&Concept| split.part(&c.key) == Some(Part::Unseen);
    let unseen: Vec<&str> =
        concepts.iter().filter(label).filter_map(|c| c.name(LANGUAGE)).collect();
    let _ = writeln!(out, "\nUnseen: {}.\n\nChosen, but kept in training:\n", unseen.join(", "));
    for (name, reason) in &split.refused {
        let _ = writeln!(out, "- {name} ({reason})");
    }
    out.push('\n');
}

fn unmatched(out: &mut String, facts: &Facts<'_>) {
    let in_set = |key: &Key| facts.concepts.binary_search_by(|c| c.key.cmp(key)).is_ok();
    let _ = writeln!(out, "\n## Not in the set\n");
    for (vendor, pictures) in facts.vendors {
        let Pictures::Files { by_key, unread } = pictures else { continue };
        let left: Vec<String> =
            by_key.keys().filter(|key| !in_set(key)).map(Key::to_string).collect();
        let _ = writeln!(
            out,
            "{vendor:?}: {} sequences without a name or without enough vendors: {}\n",
            left.len(),
            left.join(" ")
        );
        if !unread.is_empty() {
            let _ = writeln!(
                out,
                "{vendor:?}: {} files that are no sequence of code points: {}\n",
                unread.len(),
                unread.join(" ")
            );
        }
    }
    let drawn = |vendor| facts.concepts.iter().filter(move |c| !c.vendors.contains(&vendor));
    for vendor in Vendor::ALL {
        let missing: Vec<String> = drawn(vendor).map(|c| c.key.to_string()).collect();
        let _ = writeln!(
            out,
            "In the set, but not drawn by {vendor:?}: {}: {}\n",
            missing.len(),
            missing.join(" ")
        );
    }
    for fault in facts.faults {
        let _ = writeln!(out, "- not read: {fault}");
    }
}
