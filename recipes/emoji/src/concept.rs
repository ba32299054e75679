//! A concept: a sequence that has a name, with everything known of it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::cldr::{Label, Names};
use crate::key::{Key, Kind};
use crate::vendor::{Pictures, Vendor};
use crate::{Result, at, read};

/// One concept.
#[derive(Clone, Debug)]
pub(crate) struct Concept {
    pub(crate) key: Key,
    pub(crate) kind: Kind,
    /// Unicode's group and subgroup, where the source gives them.
    pub(crate) group: Option<(String, String)>,
    /// By language; English is always there.
    pub(crate) labels: BTreeMap<&'static str, Label>,
    /// Who drew it, in [`Vendor::ALL`]'s order.
    pub(crate) vendors: Vec<Vendor>,
}

impl Concept {
    /// Whether it is part of the set: OpenMoji and at least two vendors for training drew it.
    pub(crate) fn belongs(&self) -> bool {
        self.vendors.len() >= 3 && self.vendors.contains(&Vendor::OpenMoji)
    }

    /// Whether all four vendors drew it.
    pub(crate) fn complete(&self) -> bool {
        self.vendors.len() == Vendor::ALL.len()
    }

    /// The name in a language.
    pub(crate) fn name(&self, language: &str) -> Option<&str> {
        self.labels.get(language).map(|label| label.name.as_str())
    }

    /// Its picture by a vendor, from the set's folder.
    pub(crate) fn image(&self, vendor: Vendor) -> String {
        format!("images/{}/{}.png", vendor.folder(), self.key)
    }
}

/// Everything that has an English name and that at least two vendors may have drawn.
pub(crate) fn gather(
    names: &Names,
    groups: &BTreeMap<Key, (String, String)>,
    vendors: &[(Vendor, Pictures)],
) -> Vec<Concept> {
    let english = names.get("en").into_iter().flatten();
    let drawn = |key: &Key| vendors.iter().filter(|(_, pictures)| pictures.may_have(key)).count();
    english
        .filter(|(key, _)| drawn(key) >= 3)
        .map(|(key, _)| Concept {
            key: key.clone(),
            kind: key.kind(),
            group: groups.get(key).cloned(),
            labels: names
                .iter()
                .filter_map(|(language, labels)| Some((*language, labels.get(key)?.clone())))
                .collect(),
            vendors: Vec::new(),
        })
        .collect()
}

#[derive(Deserialize)]
struct Row {
    unified: String,
    category: String,
    subcategory: String,
    #[serde(default)]
    skin_variations: BTreeMap<String, Variation>,
}

#[derive(Deserialize)]
struct Variation {
    unified: String,
}

/// Groups and subgroups out of the emoji.json of `emoji-datasource-twitter`.
pub(crate) fn read_groups(path: &Path) -> Result<BTreeMap<Key, (String, String)>> {
    parse_groups(&read(path)?).map_err(at(path))
}

fn parse_groups(json: &[u8]) -> Result<BTreeMap<Key, (String, String)>> {
    let rows: Vec<Row> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut groups = BTreeMap::new();
    for row in rows {
        let variations = row.skin_variations.values().map(|variation| variation.unified.as_str());
        for stem in std::iter::once(row.unified.as_str()).chain(variations) {
            if let Some(key) = Key::of_stem(stem) {
                groups.insert(key, (row.category.clone(), row.subcategory.clone()));
            }
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_reach_skin_variations() {
        let json = br#"[{"unified":"261D-FE0F","category":"People & Body","subcategory":"hand-single-finger",
            "skin_variations":{"1F3FB":{"unified":"261D-1F3FB"}}},
            {"unified":"1F600","category":"Smileys & Emotion","subcategory":"face-smiling"}]"#;
        let groups = parse_groups(json).unwrap();
        let group = |stem: &str| groups.get(&Key::of_stem(stem).unwrap()).map(|g| g.1.as_str());
        assert_eq!(group("261d"), Some("hand-single-finger"));
        assert_eq!(group("261d-1f3fb"), Some("hand-single-finger"));
        assert_eq!(group("1f600"), Some("face-smiling"));
        assert_eq!(group("1f601"), None);
    }
}
