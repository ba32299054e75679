//! The script that most letters of a text are in, by ranges of Unicode.

use std::fmt;

use serde::Serialize;

/// A script, or a family that one language mixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Script {
    /// Latin.
    Latin,
    /// Chinese characters without kana.
    Han,
    /// Chinese characters with hiragana or katakana.
    Japanese,
    /// Hangul.
    Hangul,
    /// Cyrillic.
    Cyrillic,
    /// Greek.
    Greek,
    /// Arabic.
    Arabic,
    /// Hebrew.
    Hebrew,
    /// Devanagari.
    Devanagari,
    /// Other scripts of India: Bengali to Sinhala.
    Indic,
    /// Thai and Lao.
    Thai,
    /// Any other.
    Other,
    /// No letter at all.
    None,
}

/// First and last character of a block, and its script.
const BLOCKS: &[(u32, u32, Script)] = &[
    (0x0041, 0x024f, Script::Latin),
    (0x0370, 0x03ff, Script::Greek),
    (0x0400, 0x052f, Script::Cyrillic),
    (0x0590, 0x05ff, Script::Hebrew),
    (0x0600, 0x077f, Script::Arabic),
    (0x08a0, 0x08ff, Script::Arabic),
    (0x0900, 0x097f, Script::Devanagari),
    (0x0980, 0x0dff, Script::Indic),
    (0x0e00, 0x0eff, Script::Thai),
    (0x1100, 0x11ff, Script::Hangul),
    (0x1e00, 0x1eff, Script::Latin),
    (0x1f00, 0x1fff, Script::Greek),
    (0x3005, 0x3007, Script::Han),
    (0x3040, 0x30ff, Script::Japanese),
    (0x3130, 0x318f, Script::Hangul),
    (0x31f0, 0x31ff, Script::Japanese),
    (0x3400, 0x4dbf, Script::Han),
    (0x4e00, 0x9fff, Script::Han),
    (0xac00, 0xd7ff, Script::Hangul),
    (0xf900, 0xfaff, Script::Han),
    (0xfb50, 0xfdff, Script::Arabic),
    (0xfe70, 0xfeff, Script::Arabic),
    (0xff21, 0xff5a, Script::Latin),
    (0xff66, 0xff9d, Script::Japanese),
    (0x20000, 0x323af, Script::Han),
];

impl Script {
    /// The script of most letters of a text; Chinese characters beside kana are Japanese.
    pub fn of(text: &str) -> Self {
        let mut counts = [0u32; Self::None as usize + 1];
        for letter in text.chars().filter(|c| c.is_alphabetic()) {
            counts[Self::of_letter(letter) as usize] += 1;
        }
        if counts[Self::Japanese as usize] > 0 {
            counts[Self::Japanese as usize] += std::mem::take(&mut counts[Self::Han as usize]);
        }
        let most = |scripts: &(Self, u32)| (scripts.1, std::cmp::Reverse(scripts.0));
        let all = BLOCKS.iter().map(|block| block.2).chain([Self::Other]);
        let found = all.map(|script| (script, counts[script as usize])).max_by_key(most);
        found.filter(|&(_, count)| count > 0).map_or(Self::None, |(script, _)| script)
    }

    fn of_letter(letter: char) -> Self {
        let code = u32::from(letter);
        let at = BLOCKS.partition_point(|&(first, _, _)| first <= code);
        let block = at.checked_sub(1).and_then(|at| BLOCKS.get(at));
        block.filter(|&&(_, last, _)| code <= last).map_or(Self::Other, |block| block.2)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no letters"),
            Self::Other => f.write_str("other"),
            script => write!(f, "{script:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_known() {
        assert!(BLOCKS.windows(2).all(|pair| pair[0].1 < pair[1].0));
        let cases = [
            ("a cat é", Script::Latin),
            ("一只猫 (cat)", Script::Latin),
            ("一只可爱的猫 A", Script::Han),
            ("猫がいます", Script::Japanese),
            ("고양이", Script::Hangul),
            ("кошка", Script::Cyrillic),
            ("قطة", Script::Arabic),
            ("γάτα", Script::Greek),
            ("बिल्ली", Script::Devanagari),
            ("แมว", Script::Thai),
            ("ድመት", Script::Other),
            ("12 !", Script::None),
            ("", Script::None),
        ];
        for (text, script) in cases {
            assert_eq!(Script::of(text), script, "{text}");
        }
    }
}
