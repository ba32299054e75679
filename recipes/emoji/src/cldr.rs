//! Names and keywords of emoji in many languages: CLDR's annotations.
//!
//! `annotations/LANGUAGE.xml` holds what translators wrote, `annotationsDerived` what was composed of it by
//! rule (skin tones, hair, families, flags).

use std::collections::BTreeMap;
use std::path::Path;

use crate::key::Key;
use crate::{Result, at, read_text};

/// The languages of AltCLIP-m18.
pub(crate) const LANGUAGES: [&str; 18] = [
    "en", "zh", "ja", "th", "ko", "hi", "uk", "ar", "tr", "vi", "pl", "nl", "pt", "it", "es", "de",
    "fr", "ru",
];

/// What one language says of one concept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Label {
    /// The short name (`type="tts"`), unique within the language.
    pub(crate) name: String,
    /// Keywords in the file's order, without the name.
    pub(crate) keywords: Vec<String>,
}

/// The labels of one language.
pub(crate) type Labels = BTreeMap<Key, Label>;
/// The labels of all languages.
pub(crate) type Names = BTreeMap<&'static str, Labels>;

/// The labels of all languages, from the folder that holds `annotations` and `annotationsDerived`.
pub(crate) fn read_all(common: &Path) -> Result<Names> {
    let mut all = Names::new();
    for language in LANGUAGES {
        let mut labels = Labels::new();
        for folder in ["annotations", "annotationsDerived"] {
            let path = common.join(folder).join(format!("{language}.xml"));
            parse(&read_text(&path)?, &mut labels).map_err(at(&path))?;
        }
        labels.retain(|_, label| !label.name.is_empty());
        all.insert(language, labels);
    }
    Ok(all)
}

/// Adds the annotations of one file.
fn parse(xml: &str, labels: &mut Labels) -> Result<()> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document =
        roxmltree::Document::parse_with_options(xml, options).map_err(|error| error.to_string())?;
    for node in document.descendants().filter(|node| node.has_tag_name("annotation")) {
        let text = node.text().unwrap_or_default().trim();
        // Three arrows stand for "as in the parent language".
        let Some(key) = node.attribute("cp").and_then(Key::of_text).filter(|_| text != "↑↑↑")
        else {
            continue;
        };
        let label = labels.entry(key).or_default();
        match node.attribute("type") {
            Some("tts") => label.name = text.to_owned(),
            _ => label.keywords = text.split('|').map(|word| word.trim().to_owned()).collect(),
        }
        let name = label.name.clone();
        label.keywords.retain(|word| !word.is_empty() && *word != name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r#"<?xml version="1.0" encoding="UTF-8" ?>
<!DOCTYPE ldml SYSTEM "../../common/dtd/ldml.dtd">
<ldml><annotations>
<annotation cp="😀">face | grin | grinning face</annotation>
<annotation cp="😀" type="tts">grinning face</annotation>
<annotation cp="❤️">heart</annotation>
<annotation cp="❤" type="tts">red heart &amp; more</annotation>
<annotation cp="☃" type="tts">↑↑↑</annotation>
</annotations></ldml>"#;

    #[test]
    fn names_and_keywords() {
        let mut labels = Labels::new();
        parse(XML, &mut labels).unwrap();
        let label = |text: &str| labels.get(&Key::of_text(text).unwrap());
        let grin = Label {
            name: "grinning face".to_owned(),
            keywords: vec!["face".to_owned(), "grin".to_owned()],
        };
        assert_eq!(label("😀"), Some(&grin));
        assert_eq!(label("❤").unwrap().name, "red heart & more");
        assert_eq!(label("❤").unwrap().keywords, ["heart"]);
        assert_eq!(label("☃"), None);
        assert!(parse("<ldml><annotations>", &mut labels).is_err());
    }
}
