//! The ids of every golden text, for each form of the files, against those of transformers.

use std::fs;
use std::path::{Path, PathBuf};

use altclip_tokenizer::{Kind, Tokenizer};
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// Texts and ids; the column `also` where it is there, else `ids`.
fn expected(name: &str, also: &str) -> Vec<(String, Vec<u32>)> {
    let file = fs::read(golden(name).join("expected.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&file).unwrap();
    let rows = rows.iter().map(|row| {
        let ids = row.get(also).unwrap_or(&row["ids"]);
        (row["text"].as_str().unwrap().to_owned(), serde_json::from_value(ids.clone()).unwrap())
    });
    rows.collect()
}

/// The texts whose ids are not the expected ones.
fn differences(tokenizer: &Tokenizer, expected: &[(String, Vec<u32>)]) -> Vec<String> {
    let mut out = Vec::new();
    for (text, ids) in expected {
        let found = tokenizer.encode(text, usize::MAX).unwrap();
        if found.input_ids != *ids || found.truncated || found.tokens_total != ids.len() {
            out.push(format!("{text:?}: {:?}, expected {ids:?}", found.input_ids));
        }
    }
    out
}

fn assert_equal(tokenizer: &Tokenizer, expected: &[(String, Vec<u32>)]) {
    let found = differences(tokenizer, expected);
    assert!(found.is_empty(), "{} differ:\n{}", found.len(), found.join("\n"));
    assert!(expected.len() >= 300);
}

#[test]
fn xlmr_from_either_file() {
    let json = fs::read(golden("tokenizer/tokenizer.json")).unwrap();
    let model = fs::read(golden("tokenizer/sentencepiece.bpe.model")).unwrap();
    let from_json = Tokenizer::from_tokenizer_json(&json).unwrap();
    let from_model = Tokenizer::from_sentencepiece(&model).unwrap();
    assert_equal(&from_json, &expected("tokenizer", "ids"));
    assert_equal(&from_model, &expected("tokenizer", "ids_model_alone"));
    assert_eq!(from_json.kind(), Kind::Unigram);
    assert_eq!((from_json.vocab_size(), from_json.pad_id()), (600, 1));
    assert_eq!(from_model.id("<mask>"), Some(599));
    assert_eq!(from_json.fingerprint(), from_model.fingerprint());
}
