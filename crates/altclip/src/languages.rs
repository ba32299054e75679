//! Which languages a published model was trained on.

use altclip_models::config::{Family, Model, Text};

const ALT_CLIP: &[&str] = &["zh", "en"];
const M9: &[&str] = &["en", "zh", "es", "fr", "ru", "ja", "ko", "ar", "it"];
const M18: &[&str] = &[
    "en", "zh", "ja", "th", "ko", "hi", "uk", "ar", "tr", "vi", "pl", "nl", "pt", "it", "es", "de",
    "fr", "ru",
];
const CHINESE: &[&str] = &["zh"];
const ENGLISH: &[&str] = &["en"];

/// The languages of a model, as far as its shape and its name tell; `None` where they do not.
///
/// AltCLIP and AltCLIP-m9 have the same shape: `name` (folder or hub id) tells them apart.
pub fn languages(config: &Model, name: &str) -> Option<&'static [&'static str]> {
    let name = name.to_lowercase();
    let is = |part: &str| name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == part);
    match (&config.text, &config.vision) {
        (Text::Clip(_), _) if config.family == Family::Clip => Some(ENGLISH),
        (Text::Clip(_) | Text::Bert(_), _) => Some(CHINESE),
        (Text::AltClip(_), Some(vision)) if vision.blocks.hidden_size == 1280 => Some(M18),
        _ if is("m18") => Some(M18),
        // The miniature's names of emoji are in m9's languages.
        _ if is("m9") || is("nano") => Some(M9),
        _ if is("altclip") => Some(ALT_CLIP),
        _ => None,
    }
}
