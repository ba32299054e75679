//! A model of XLM-R's size and shape, made from a fixed seed, as both kinds of file.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::texts::Random;

/// Pieces of XLM-R's sentencepiece model.
pub const XLMR_PIECES: usize = 250_000;

/// Pieces (`<unk> <s> </s>` first) with falling scores.
pub fn pieces(count: usize) -> Vec<(String, f32)> {
    let mut random = Random::new(7);
    let mut seen = HashSet::new();
    let mut all =
        vec![("<unk>".to_owned(), 0.0), ("<s>".to_owned(), 0.0), ("</s>".to_owned(), 0.0)];
    let scripts: [(u32, u32, usize); 8] = [
        (0x61, 26, 9),
        (0x61, 26, 9),
        (0x61, 26, 9),
        (0x430, 32, 8),
        (0x4e00, 4000, 3),
        (0xac00, 2000, 3),
        (0x627, 40, 6),
        (0x905, 60, 6),
    ];
    for (first, size, _) in scripts {
        for c in (first..first + size).filter_map(char::from_u32) {
            seen.insert(c.to_string());
        }
    }
    seen.insert("▁".to_owned());
    let mut singles: Vec<String> = seen.iter().cloned().collect();
    singles.sort();
    all.extend(singles.into_iter().map(|piece| (piece, -11.0)));
    while all.len() < count {
        let (first, size, longest) = scripts[random.below(scripts.len())];
        let mut piece = String::new();
        if random.below(2) == 0 {
            piece.push('▁');
        }
        for _ in 0..2 + random.below(longest - 1) {
            // Small letters are frequent, as in words.
            let at = random.below(size as usize).min(random.below(size as usize));
            piece.extend(char::from_u32(first + at as u32));
        }
        if seen.insert(piece.clone()) {
            let score = -4.0 - (all.len() as f32).ln();
            all.push((piece, score));
        }
    }
    all
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length > 127 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

/// A `sentencepiece.bpe.model`.
pub fn sentencepiece(pieces: &[(String, f32)], charsmap: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for (index, (piece, score)) in pieces.iter().enumerate() {
        let mut message = Vec::new();
        field(&mut message, 1, piece.as_bytes());
        message.push(2 << 3 | 5);
        message.extend_from_slice(&score.to_le_bytes());
        // Unknown, control, control, then normal pieces (the default, which is not written).
        if index < 3 {
            message.extend_from_slice(&[3 << 3, if index == 0 { 2 } else { 3 }]);
        }
        field(&mut file, 1, &message);
    }
    field(&mut file, 2, &[3 << 3, 1]);
    let mut normalizer = Vec::new();
    field(&mut normalizer, 1, b"nmt_nfkc");
    field(&mut normalizer, 2, charsmap);
    field(&mut file, 3, &normalizer);
    file
}

/// The tokenizer.json that transformers saves for it, indented as it does.
pub fn tokenizer_json(pieces: &[(String, f32)], small: &serde_json::Value) -> Vec<u8> {
    let mut head = small.clone();
    let mask = pieces.len() + 1;
    head["added_tokens"][4]["id"] = mask.into();
    head["model"]["vocab"] = "VOCAB".into();
    let text = serde_json::to_string_pretty(&head).expect("it was JSON");
    let mut vocab = String::from("[\n");
    let first = ["<s>", "<pad>", "</s>", "<unk>"].map(|name| (name, 0.0f32));
    let own = pieces.iter().skip(3).map(|(piece, score)| (piece.as_str(), *score));
    for (piece, score) in first.into_iter().chain(own).chain([("<mask>", 0.0)]) {
        let piece = serde_json::to_string(piece).expect("a string");
        let score = f64::from(score);
        write!(vocab, "      [\n        {piece},\n        {score:?}\n      ],\n").expect("memory");
    }
    vocab.truncate(vocab.len() - 2);
    vocab.push_str("\n    ]");
    text.replace("\"VOCAB\"", &vocab).into_bytes()
}

/// The charsmap of a sentencepiece model that has one: its longest field.
pub fn charsmap(small: &serde_json::Value) -> Vec<u8> {
    let text = small["normalizer"]["precompiled_charsmap"].as_str().expect("a charsmap");
    let six = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let body = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::new();
    for four in body.chunks(4) {
        let bits = four.iter().fold(0u32, |bits, byte| bits << 6 | u32::from(six(*byte)));
        let bits = bits << (6 * (4 - four.len()) + 8);
        out.extend_from_slice(&bits.to_be_bytes()[..four.len() * 6 / 8]);
    }
    out
}
