//! Captions in which a class is a number: `3`, `a photo of a 3`. A model learns the numeral from them, not the class.

use std::collections::{HashMap, HashSet};

/// Texts that must fit a pattern with numbers before it counts.
const MIN_TEXTS: u64 = 3;
/// Different numbers that a pattern must have, unless it is a number alone.
const MIN_NUMBERS: usize = 2;

/// Patterns with one number in them, and how many texts have them.
#[derive(Default)]
pub(crate) struct Numerals {
    patterns: HashMap<String, (u64, HashSet<String>)>,
}

impl Numerals {
    pub(crate) fn add(&mut self, text: &str) {
        if let Some((pattern, number)) = pattern(text) {
            let (texts, numbers) = self.patterns.entry(pattern).or_default();
            *texts += 1;
            // More are not needed to know that there are several.
            if numbers.len() < MIN_NUMBERS {
                numbers.insert(number);
            }
        }
    }

    /// Texts in which a number stands for a class, and the pattern that most of them have.
    pub(crate) fn found(&self) -> (u64, Option<&str>) {
        let counts = |(pattern, (texts, numbers)): &(&String, &(u64, HashSet<String>))| {
            pattern.as_str() == "{}" || (*texts >= MIN_TEXTS && numbers.len() >= MIN_NUMBERS)
        };
        let found: Vec<_> = self.patterns.iter().filter(counts).collect();
        let texts = found.iter().map(|(_, (texts, _))| texts).sum();
        let most = found.iter().max_by_key(|(pattern, (texts, _))| (*texts, *pattern));
        (texts, most.map(|(pattern, _)| pattern.as_str()))
    }
}

/// The text with `{}` for its one number, and the number.
fn pattern(text: &str) -> Option<(String, String)> {
    let text = text.trim();
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let digits = text[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - start);
    let (before, rest) = text.split_at(start);
    let (number, after) = rest.split_at(digits);
    let one = !after.contains(|c: char| c.is_ascii_digit());
    // `3.` and `-3` are numbers alone too.
    let alone = |rest: &str| rest.chars().all(|c| c.is_ascii_punctuation() || c.is_whitespace());
    let pattern = if alone(before) && alone(after) {
        "{}".to_owned()
    } else {
        format!("{before}{{}}{after}")
    };
    one.then_some((pattern, number.to_owned()))
}

/// Whether a template was used without filling it in: `{}`, `{c}`, `{label}`, `{0}` or `%s` stands in the text.
pub(crate) fn has_placeholder(text: &str) -> bool {
    let braces = text.split('{').skip(1).any(|rest| {
        rest.split_once('}').is_some_and(|(name, _)| {
            name.len() <= 20 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    });
    braces || text.split_whitespace().any(|word| word.trim_end_matches(['.', ',']) == "%s")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(texts: &[&str]) -> (u64, Option<String>) {
        let mut numerals = Numerals::default();
        texts.iter().for_each(|text| numerals.add(text));
        let (count, pattern) = numerals.found();
        (count, pattern.map(str::to_owned))
    }

    #[test]
    fn class_numbers_are_found() {
        let some = |count, pattern: &str| (count, Some(pattern.to_owned()));
        assert_eq!(found(&["3", " 7. ", "a cat"]), some(2, "{}"));
        let prompts = ["a photo of a 3", "a photo of a 4", "a photo of a 3", "a cat"];
        assert_eq!(found(&prompts), some(3, "a photo of a {}"));
        assert_eq!(found(&["一张3的照片", "一张4的照片", "一张5的照片"]), some(3, "一张{}的照片"));
        let good =
            ["2 dogs on a beach", "3 men", "route 66", "route 66", "route 66", "in 1990, 3 men"];
        assert_eq!(found(&good), (0, None));
    }

    #[test]
    fn placeholders_are_found() {
        for text in ["a photo of a {}", "{c}.", "a {class_name} here", "a %s."] {
            assert!(has_placeholder(text), "{text}");
        }
        for text in ["a photo", "{ }", "set {a, b}", "100 %", "}{"] {
            assert!(!has_placeholder(text), "{text}");
        }
    }
}
