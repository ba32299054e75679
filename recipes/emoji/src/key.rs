//! What identifies a concept: its code points without U+FE0F, as CLDR keys its names.

use std::fmt;

use serde::Serialize;

/// The presentation selector, which packages write or leave out as they please.
const SELECTOR: u32 = 0xfe0f;
/// Joins emoji to one.
const JOINER: u32 = 0x200d;

/// A sequence of code points without U+FE0F.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(Vec<char>);

/// How a concept is made of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// One code point.
    Base,
    /// With a skin tone, whatever else.
    SkinTone,
    /// A country, a region, or a flag joined of two emoji.
    Flag,
    /// A digit or sign on a key.
    Keycap,
    /// A person joined with hair.
    Hair,
    /// A person joined with ♀ or ♂.
    Gender,
    /// Any other joined sequence: families, occupations, animals.
    Joined,
}

impl Key {
    /// The key of an emoji's text; `None` if nothing is left of it.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        Self::of(text.chars())
    }

    /// The key of a file's stem, `1F468-200D-2695-FE0F`; `None` if it is not of that form.
    pub(crate) fn of_stem(stem: &str) -> Option<Self> {
        let chars: Option<Vec<char>> = stem
            .split('-')
            .map(|part| u32::from_str_radix(part, 16).ok().and_then(char::from_u32))
            .collect();
        Self::of(chars?.into_iter())
    }

    fn of(chars: impl Iterator<Item = char>) -> Option<Self> {
        let chars: Vec<char> = chars.filter(|c| u32::from(*c) != SELECTOR).collect();
        (!chars.is_empty()).then_some(Self(chars))
    }

    /// The sequence as text, without U+FE0F.
    pub(crate) fn text(&self) -> String {
        self.0.iter().collect()
    }

    /// Whether it is the flag of a country or of a part of one.
    pub(crate) fn is_region(&self) -> bool {
        let region = |c: &char| matches!(u32::from(*c), 0x1f1e6..=0x1f1ff | 0xe0020..=0xe007f);
        self.0.len() > 1 && self.0.iter().any(region)
    }

    /// The same with the medium and the medium-light skin tone exchanged.
    pub(crate) fn with_medium_tones_exchanged(&self) -> Self {
        let exchange = |c: &char| match c {
            '\u{1f3fc}' => '\u{1f3fd}',
            '\u{1f3fd}' => '\u{1f3fc}',
            c => *c,
        };
        Self(self.0.iter().map(exchange).collect())
    }

    /// How it is made.
    pub(crate) fn kind(&self) -> Kind {
        let has =
            |low: u32, high: u32| self.0.iter().any(|c| (low..=high).contains(&u32::from(*c)));
        // 🏳 and 🏴 joined with a sign.
        let flags = self.is_region() || (has(0x1f3f3, 0x1f3f4) && has(JOINER, JOINER));
        match () {
            () if self.0.len() == 1 => Kind::Base,
            () if has(0x1f3fb, 0x1f3ff) => Kind::SkinTone,
            () if flags => Kind::Flag,
            () if has(0x20e3, 0x20e3) => Kind::Keycap,
            () if has(0x1f9b0, 0x1f9b3) => Kind::Hair,
            () if has(0x2640, 0x2640) || has(0x2642, 0x2642) => Kind::Gender,
            () => Kind::Joined,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, c) in self.0.iter().enumerate() {
            let hyphen = if i == 0 { "" } else { "-" };
            write!(f, "{hyphen}{:x}", u32::from(*c))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_sequence_are_one_key() {
        let key = Key::of_stem("1F468-200D-2695-FE0F").unwrap();
        assert_eq!(key.to_string(), "1f468-200d-2695");
        assert_eq!(Key::of_stem("1f468-200d-2695"), Some(key.clone()));
        assert_eq!(Key::of_text("👨‍⚕️"), Some(key.clone()));
        assert_eq!(Key::of_text(&key.text()), Some(key));
        assert_eq!(Key::of_stem("00a9-fe0f"), Key::of_stem("A9"));
        for stem in ["", "fe0f", "1f3f4-e0067e0062", "grin", "1f600_color", "d800"] {
            assert_eq!(Key::of_stem(stem), None, "{stem}");
        }
    }

    #[test]
    fn medium_tones_are_exchanged_and_nothing_else_is() {
        let key = |stem| Key::of_stem(stem).unwrap();
        let cases = [("1f44d-1f3fc", "1f44d-1f3fd"), ("1f44d-1f3fb", "1f44d-1f3fb")];
        for (from, to) in cases {
            assert_eq!(key(from).with_medium_tones_exchanged(), key(to));
            assert_eq!(key(to).with_medium_tones_exchanged(), key(from));
        }
        assert!(key("1f1e9-1f1ea").is_region() && !key("1f3f4-200d-2620").is_region());
    }

    #[test]
    fn kinds() {
        let cases = [
            ("1f600", Kind::Base),
            ("1f44d-1f3fb", Kind::SkinTone),
            ("1f468-1f3fb-200d-1f9b0", Kind::SkinTone),
            ("1f1e9-1f1ea", Kind::Flag),
            ("1f3f3-fe0f-200d-1f308", Kind::Flag),
            ("23-fe0f-20e3", Kind::Keycap),
            ("1f468-200d-1f9b0", Kind::Hair),
            ("1f6b4-200d-2640", Kind::Gender),
            ("1f468-200d-1f467", Kind::Joined),
        ];
        for (stem, kind) in cases {
            assert_eq!(Key::of_stem(stem).unwrap().kind(), kind, "{stem}");
        }
    }
}
