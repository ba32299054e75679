//! Added tokens: strings that are found in the text before anything else and have their own id.

use crate::Error;
use crate::normalizer::Normalizer;

/// Most added tokens of a Unigram tokenizer (XLM-R has 5).
pub(crate) const MAX_ADDED_TOKENS: usize = 1024;

/// An added token as tokenizer.json describes it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct AddedToken {
    pub(crate) content: String,
    #[serde(default)]
    pub(crate) single_word: bool,
    #[serde(default)]
    pub(crate) lstrip: bool,
    #[serde(default)]
    pub(crate) rstrip: bool,
    #[serde(default)]
    pub(crate) normalized: bool,
}

impl AddedToken {
    /// A special token with no options, as transformers makes it from a plain string.
    pub(crate) fn special(content: &str) -> Self {
        let content = content.to_owned();
        Self { content, single_word: false, lstrip: false, rstrip: false, normalized: false }
    }
}

/// A stretch of text, or an added token found in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Segment<'t> {
    Text(&'t str),
    Token(u32),
}

struct Pattern {
    text: String,
    id: u32,
    lstrip: bool,
    rstrip: bool,
}

/// Finds added tokens: leftmost first, the longest of those that start at one place.
pub(crate) struct Matcher {
    /// Longest first.
    patterns: Vec<Pattern>,
    first_bytes: [bool; 256],
}

impl Matcher {
    /// The matcher of the tokens whose `normalized` flag is `normalized`; their text is normalised
    /// first if it is set.
    pub(crate) fn new(
        tokens: &[(AddedToken, u32)],
        normalized: bool,
        normalizer: &Normalizer,
    ) -> Result<Self, Error> {
        let mut patterns = Vec::new();
        let mut first_bytes = [false; 256];
        for (token, id) in tokens.iter().filter(|(token, _)| token.normalized == normalized) {
            let refused = |why: &str| {
                Err(Error::Component {
                    place: "added_tokens",
                    name: format!("{why}: {}", token.content),
                })
            };
            let text = match normalized {
                true => normalizer.normalize(&token.content),
                false => token.content.clone(),
            };
            if token.single_word {
                return refused("single_word");
            }
            if text.trim() != text || text.is_empty() {
                return refused("spaces around the token");
            }
            first_bytes[usize::from(text.as_bytes()[0])] = true;
            let (id, lstrip, rstrip) = (*id, token.lstrip, token.rstrip);
            patterns.push(Pattern { text, id, lstrip, rstrip });
        }
        if patterns.len() > MAX_ADDED_TOKENS {
            let (what, found) = ("the number of added tokens is", patterns.len());
            return Err(Error::Limit { what, found, limit: MAX_ADDED_TOKENS });
        }
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.text.len()));
        Ok(Self { patterns, first_bytes })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Cuts `text` into stretches and tokens, in order; no stretch is empty.
    pub(crate) fn split<'t>(&self, text: &'t str, mut emit: impl FnMut(Segment<'t>)) {
        let bytes = text.as_bytes();
        let mut at = 0;
        // Everything before has been handed on.
        let mut done = 0;
        while let Some(&byte) = bytes.get(at) {
            if !self.first_bytes[usize::from(byte)] {
                at += 1;
                continue;
            }
            let rest = &bytes[at..];
            let found = self.patterns.iter().find(|p| rest.starts_with(p.text.as_bytes()));
            let Some(pattern) = found else {
                at += 1;
                continue;
            };
            let end = at + pattern.text.len();
            // A token that strips to its right can reach past this one's start only over spaces,
            // and no token starts with a space.
            let mut before = &text[done..at];
            if pattern.lstrip {
                before = before.trim_end();
            }
            if !before.is_empty() {
                emit(Segment::Text(before));
            }
            emit(Segment::Token(pattern.id));
            at = end;
            done = end;
            if pattern.rstrip {
                let rest = &text[end..];
                done += rest.len() - rest.trim_start().len();
                at = done;
            }
        }
        if done < text.len() {
            emit(Segment::Text(&text[done..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_leftmost_and_longest() {
        let token = |content: &str, lstrip, rstrip| AddedToken {
            lstrip,
            rstrip,
            ..AddedToken::special(content)
        };
        let tokens = [
            (token("<a>", true, false), 1),
            (token("<a><b>", false, false), 2),
            (token("<c>", false, true), 3),
        ];
        let matcher = Matcher::new(&tokens, false, &Normalizer::default()).unwrap();
        let split = |text: &'static str| {
            let mut all = Vec::new();
            matcher.split(text, |segment| all.push(segment));
            all
        };
        use Segment::{Text, Token};
        assert_eq!(split("x  <a> y"), [Text("x"), Token(1), Text(" y")]);
        assert_eq!(split("<a><b><a>"), [Token(2), Token(1)]);
        assert_eq!(split("x <c>  <a>z"), [Text("x "), Token(3), Token(1), Text("z")]);
        assert_eq!(split("  <a"), [Text("  <a")]);
        assert_eq!(split(""), []);
    }
}
