//! XLM-R's way from a text to ids: added tokens, normaliser, words, Unigram, special tokens.

use crate::Error;
use crate::added::{AddedToken, Matcher, Segment};
use crate::normalizer::Normalizer;
use crate::unigram::{Sink, Unigram};

/// How normalised text becomes words (`WhitespaceSplit` and `Metaspace`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WordRule {
    /// White space ends a word and is dropped.
    pub(crate) split_whitespace: bool,
    /// What stands for a space, `▁`.
    pub(crate) mark: char,
    /// Each word gets the mark in front unless it starts with it.
    pub(crate) prepend: bool,
    /// A mark inside a word starts a new one.
    pub(crate) split_mark: bool,
}

/// XLM-R's rule.
pub(crate) const METASPACE: WordRule =
    WordRule { split_whitespace: true, mark: '▁', prepend: true, split_mark: true };

/// A Unigram tokenizer with everything around its model.
pub(crate) struct Pipeline {
    pub(crate) model: Unigram,
    pub(crate) normalizer: Normalizer,
    pub(crate) words: WordRule,
    pub(crate) added: Vec<(AddedToken, u32)>,
    /// Special tokens before and after the text.
    pub(crate) prefix: Vec<u32>,
    pub(crate) suffix: Vec<u32>,
    raw: Matcher,
    normalized: Matcher,
}

impl Pipeline {
    /// Puts the parts together. Added tokens get their id in the vocabulary, others the next free.
    pub(crate) fn new(
        model: Unigram,
        normalizer: Normalizer,
        words: WordRule,
        tokens: Vec<AddedToken>,
    ) -> Result<Self, Error> {
        let mut added: Vec<(AddedToken, u32)> = Vec::new();
        let mut next = model.pieces.len() as u32;
        for token in tokens {
            if token.content.is_empty() {
                continue;
            }
            if let Some(known) = added.iter_mut().find(|(t, _)| t.content == token.content) {
                known.0 = token;
                continue;
            }
            let id = model.id(&token.content).unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            added.push((token, id));
            if added.len() > crate::added::MAX_ADDED_TOKENS {
                let (what, found) = ("the number of added tokens is", added.len());
                return Err(Error::Limit { what, found, limit: crate::added::MAX_ADDED_TOKENS });
            }
        }
        let raw = Matcher::new(&added, false, &normalizer)?;
        let normalized = Matcher::new(&added, true, &normalizer)?;
        let (prefix, suffix) = (Vec::new(), Vec::new());
        Ok(Self { model, normalizer, words, added, prefix, suffix, raw, normalized })
    }

    /// Id of an added token or a piece.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        let added = self.added.iter().find(|(added, _)| added.content == token);
        added.map(|(_, id)| *id).or_else(|| self.model.id(token))
    }

    pub(crate) fn token(&self, id: u32) -> Option<&str> {
        let added = self.added.iter().find(|(_, added)| *added == id);
        added.map(|(token, _)| token.content.as_str()).or_else(|| self.model.pieces.text(id))
    }

    pub(crate) fn vocab_size(&self) -> usize {
        let added = self.added.iter().map(|(_, id)| *id as usize + 1).max().unwrap_or(0);
        added.max(self.model.pieces.len())
    }

    /// The first `limit` ids of `text` and the number of all, without prefix and suffix.
    pub(crate) fn encode(&self, text: &str, limit: usize) -> (Vec<u32>, usize) {
        let mut sink = Sink::new(&self.model, limit);
        self.raw.split(text, |segment| match segment {
            Segment::Token(id) => sink.token(id),
            Segment::Text(text) => self.encode_stretch(text, &mut sink),
        });
        (sink.ids, sink.total)
    }

    /// A stretch without added tokens in its raw form.
    fn encode_stretch(&self, text: &str, sink: &mut Sink<'_>) {
        if self.normalized.is_empty() && self.normalizer.streams() {
            let mut words = Words::new(self.words);
            self.normalizer.each_char(text, |c| words.push(c, sink));
            sink.end_word();
            return;
        }
        let text = self.normalizer.normalize(text);
        self.normalized.split(&text, |segment| match segment {
            Segment::Token(id) => sink.token(id),
            Segment::Text(text) => {
                let mut words = Words::new(self.words);
                text.chars().for_each(|c| words.push(c, sink));
                sink.end_word();
            }
        });
    }
}

/// Cuts a stream of characters into words.
struct Words {
    rule: WordRule,
    at_start: bool,
}

impl Words {
    fn new(rule: WordRule) -> Self {
        Self { rule, at_start: true }
    }

    #[inline]
    fn push(&mut self, c: char, sink: &mut Sink<'_>) {
        let rule = self.rule;
        if rule.split_whitespace && c.is_whitespace() {
            sink.end_word();
            self.at_start = true;
            return;
        }
        let c = if c == ' ' { rule.mark } else { c };
        if std::mem::replace(&mut self.at_start, false) {
            if rule.prepend && c != rule.mark {
                sink.push(rule.mark);
            }
        } else if rule.split_mark && c == rule.mark {
            sink.end_word();
        }
        sink.push(c);
    }
}
