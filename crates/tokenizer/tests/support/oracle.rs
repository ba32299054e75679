//! The oracle: the same tokenizer.json, read by the `tokenizers` crate.

use altclip_tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::support::golden_bytes;
use crate::support::texts::Random;

/// One file, read by both.
pub struct Pair {
    pub name: &'static str,
    ours: Tokenizer,
    theirs: tokenizers::Tokenizer,
}

impl Pair {
    fn new(name: &'static str, file: &Value) -> Self {
        let bytes = serde_json::to_vec(file).expect("JSON");
        let ours = Tokenizer::from_tokenizer_json(&bytes).expect(name);
        let theirs = tokenizers::Tokenizer::from_bytes(&bytes).expect(name);
        Self { name, ours, theirs }
    }

    /// What differs for `text`, at full length and at some shorter one.
    pub fn difference(&self, text: &str, random: &mut Random) -> Option<String> {
        let theirs = self.theirs.encode_fast(text, true).expect("the oracle encodes");
        let theirs = theirs.get_ids();
        let whole = self.ours.encode(text, usize::MAX).expect("encoded");
        if whole.input_ids != theirs || whole.truncated || whole.tokens_total != theirs.len() {
            return Some(format!(
                "{}: {text:?}: {:?}, oracle {theirs:?}",
                self.name, whole.input_ids
            ));
        }
        let max_length = 2 + random.below(theirs.len() + 3);
        let short = self.ours.encode(text, max_length).expect("encoded");
        let mut expected: Vec<u32> = theirs.to_vec();
        if max_length < theirs.len() {
            expected.truncate(max_length - 1);
            expected.extend(theirs.last());
        }
        let good = short.input_ids == expected
            && short.truncated == (max_length < theirs.len())
            && short.tokens_total == theirs.len();
        (!good).then(|| format!("{}: {text:?} at {max_length}: {short:?}", self.name))
    }
}

/// The layouts of tokenizer.json that transformers has written over time.
pub fn pairs() -> Vec<Pair> {
    let new: Value =
        serde_json::from_slice(&golden_bytes("tokenizer/tokenizer.json")).expect("JSON");
    let charsmap = new["normalizer"].clone();

    // transformers 4, converted from sentencepiece: Strip, Replace, Metaspace alone.
    let mut converted = new.clone();
    converted["normalizer"] = json!({"type": "Sequence", "normalizers": [
        charsmap,
        {"type": "Strip", "strip_left": false, "strip_right": true},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
    ]});
    converted["pre_tokenizer"] =
        json!({"type": "Metaspace", "replacement": "▁", "add_prefix_space": true});

    // The files on the Hub: Replace by a space, the mask matched in normalised text.
    let mut hub = new.clone();
    hub["normalizer"] = json!({"type": "Sequence", "normalizers": [
        charsmap,
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ]});
    hub["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"},
        {"type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": true},
    ]});
    hub["added_tokens"][4]["normalized"] = true.into();

    let mut normalized = new.clone();
    normalized["added_tokens"][4]["normalized"] = true.into();
    normalized["added_tokens"][4]["rstrip"] = true.into();
    normalized["added_tokens"][3]["rstrip"] = true.into();

    // No normaliser, no prefix, marks inside words stay.
    let mut plain = new.clone();
    plain["normalizer"] = Value::Null;
    plain["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": false},
    ]});

    // Few pieces, many ties, positive scores (where a run of unknowns can be a piece), long pieces.
    let mut odd = new.clone();
    let mut random = Random::new(3);
    let mut vocab = vec![
        json!(["<s>", 0.0]),
        json!(["<pad>", 0.0]),
        json!(["</s>", 0.0]),
        json!(["<unk>", 0.0]),
    ];
    let mut seen = std::collections::HashSet::new();
    for length in [1, 2, 2, 3, 3, 4, 9, 30] {
        for _ in 0..14 {
            let piece: String =
                (0..length).map(|_| ['a', 'b', '▁', 'é', '猫'][random.below(5)]).collect();
            let score = [20.0, 20.0, 21.0, 40.0, 60.0][random.below(5)];
            if (piece.len() > 1 || piece == "a") && seen.insert(piece.clone()) {
                vocab.push(json!([piece, score]));
            }
        }
    }
    vocab.push(json!(["<mask>", 0.0]));
    for entry in vocab.iter_mut().take(4) {
        entry[1] = 30.0.into();
    }
    odd["added_tokens"][4]["id"] = (vocab.len() - 1).into();
    odd["model"]["vocab"] = vocab.into();

    vec![
        Pair::new("transformers 5", &new),
        Pair::new("converted", &converted),
        Pair::new("hub", &hub),
        Pair::new("normalized tokens", &normalized),
        Pair::new("plain", &plain),
        Pair::new("odd scores", &odd),
    ]
}

/// A text of the few characters of the odd model, as a hard case for the cut.
pub fn odd_text(random: &mut Random) -> String {
    (0..random.below(60))
        .map(|_| ['a', 'b', '▁', 'é', '猫', ' ', 'z', '😀'][random.below(8)])
        .collect()
}

/// Compares `rounds` random texts, each for one of the pairs, and gives back the differences.
pub fn compare(pairs: &[Pair], rounds: usize, seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let mut found = Vec::new();
    for round in 0..rounds {
        let text = match round % 4 {
            0 => odd_text(&mut random),
            _ => crate::support::texts::random(&mut random),
        };
        // Half of all texts go to the layout of today.
        let pair = if random.below(2) == 0 { 0 } else { random.below(pairs.len()) };
        found.extend(pairs[pair].difference(&text, &mut random));
    }
    found
}
