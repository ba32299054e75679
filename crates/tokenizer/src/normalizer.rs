//! What happens to the text before it is split: charsmap, replacements, stripping.

use unicode_segmentation::UnicodeSegmentation;

use crate::charsmap::Charsmap;

/// Longest grapheme cluster, in bytes, that the charsmap sees whole.
///
/// Upstream: `tokenizers` looks up clusters of fewer than six bytes whole and longer ones character
/// by character (`normalizers/precompiled.rs`).
const MAX_CLUSTER_BYTES: usize = 5;

pub(crate) enum Step {
    Charsmap(Charsmap),
    Replace {
        literal: String,
        with: String,
    },
    /// Two or more spaces become one string: the expression ` {2,}`.
    ReplaceSpaces {
        with: String,
    },
    Strip {
        left: bool,
        right: bool,
    },
}

/// Steps that are applied one after the other.
#[derive(Default)]
pub(crate) struct Normalizer {
    pub(crate) steps: Vec<Step>,
}

impl Normalizer {
    /// Whether characters can be handed on as they come, without a copy of the text.
    pub(crate) fn streams(&self) -> bool {
        matches!(self.steps.as_slice(), [] | [Step::Charsmap(_)])
    }

    /// Hands the normalised characters of `text` to `emit`.
    pub(crate) fn each_char(&self, text: &str, mut emit: impl FnMut(char)) {
        match self.steps.as_slice() {
            [] => text.chars().for_each(emit),
            [Step::Charsmap(charsmap)] => apply(charsmap, text, emit),
            _ => self.normalize(text).chars().for_each(&mut emit),
        }
    }

    pub(crate) fn normalize(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for step in &self.steps {
            text = match step {
                Step::Charsmap(charsmap) => {
                    let mut out = String::with_capacity(text.len());
                    apply(charsmap, &text, |c| out.push(c));
                    out
                }
                Step::Replace { literal, with } => text.replace(literal.as_str(), with),
                Step::ReplaceSpaces { with } => replace_spaces(&text, with),
                Step::Strip { left, right } => {
                    let mut rest = text.as_str();
                    if *left {
                        rest = rest.trim_start();
                    }
                    if *right {
                        rest = rest.trim_end();
                    }
                    rest.to_owned()
                }
            };
        }
        text
    }
}

fn apply(charsmap: &Charsmap, text: &str, mut emit: impl FnMut(char)) {
    for cluster in text.graphemes(true) {
        if cluster.len() <= MAX_CLUSTER_BYTES
            && let Some(replacement) = charsmap.replacement(cluster)
        {
            replacement.chars().for_each(&mut emit);
            continue;
        }
        for c in cluster.chars() {
            match charsmap.replacement(c.encode_utf8(&mut [0; 4])) {
                Some(replacement) => replacement.chars().for_each(&mut emit),
                None => emit(c),
            }
        }
    }
}

fn replace_spaces(text: &str, with: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("  ") {
        let (before, run) = rest.split_at(at);
        out.push_str(before);
        out.push_str(with);
        rest = run.trim_start_matches(' ');
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_spaces_are_replaced_whole() {
        assert_eq!(replace_spaces("a b  c   d ", "_"), "a b_c_d ");
        assert_eq!(replace_spaces("   ", "_"), "_");
        assert_eq!(replace_spaces("", "_"), "");
    }
}
