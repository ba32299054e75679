//! The ids of every golden text, for each form of the files, against those of transformers.
#![allow(missing_docs, clippy::unwrap_used)]

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

/// A folder with some of the files of a golden folder.
fn folder(name: &str, files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        fs::copy(golden(name).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

#[test]
fn xlmr_from_a_folder() {
    let alone = folder("tokenizer", &["sentencepiece.bpe.model"]);
    let from_model = Tokenizer::from_dir(alone.path()).unwrap();
    assert_equal(&from_model, &expected("tokenizer", "ids_model_alone"));
    assert_eq!(from_model.source_files(), [alone.path().join("sentencepiece.bpe.model")]);
    let whole = Tokenizer::from_dir(&golden("tokenizer")).unwrap();
    assert_equal(&whole, &expected("tokenizer", "ids"));
    assert!(whole.source_files()[0].ends_with("tokenizer.json"));
    assert!(whole.check_rows(600).is_ok());
    assert!(whole.check_rows(599).is_err());
}

#[test]
fn bert_from_either_file() {
    let ids = expected("tokenizer_bert", "ids");
    let json = Tokenizer::from_dir(&golden("tokenizer_bert")).unwrap();
    assert_equal(&json, &ids);
    assert_eq!((json.kind(), json.pad_id(), json.vocab_size()), (Kind::WordPiece, 0, 570));
    let alone = folder("tokenizer_bert", &["vocab.txt"]);
    assert_equal(&Tokenizer::from_dir(alone.path()).unwrap(), &ids);
    // The setting counts for both forms, as in transformers.
    let cased = expected("tokenizer_bert", "ids_cased");
    let setting = r#"{"do_lower_case": false}"#;
    fs::write(alone.path().join("tokenizer_config.json"), setting).unwrap();
    assert_equal(&Tokenizer::from_dir(alone.path()).unwrap(), &cased);
    let json = folder("tokenizer_bert", &["tokenizer.json"]);
    fs::write(json.path().join("tokenizer_config.json"), setting).unwrap();
    assert_equal(&Tokenizer::from_dir(json.path()).unwrap(), &cased);
}

#[test]
fn clip_from_either_form() {
    let ids = expected("tokenizer_clip", "ids");
    let json = Tokenizer::from_dir(&golden("tokenizer_clip")).unwrap();
    assert_equal(&json, &ids);
    assert_eq!((json.kind(), json.pad_id(), json.vocab_size()), (Kind::ByteBpe, 794, 795));
    let alone = folder("tokenizer_clip", &["vocab.json", "merges.txt"]);
    assert_equal(&Tokenizer::from_dir(alone.path()).unwrap(), &ids);
}

#[test]
fn truncation_keeps_the_end_and_is_reported() {
    for name in ["tokenizer", "tokenizer_bert", "tokenizer_clip"] {
        let tokenizer = Tokenizer::from_dir(&golden(name)).unwrap();
        let text = "a photo of two dogs playing in the snow";
        let whole = tokenizer.encode(text, usize::MAX).unwrap();
        for max_length in 2..whole.input_ids.len() + 2 {
            let encoding = tokenizer.encode(text, max_length).unwrap();
            let kept = max_length.min(whole.input_ids.len());
            assert_eq!(encoding.input_ids.len(), kept);
            assert_eq!(encoding.input_ids[..kept - 1], whole.input_ids[..kept - 1]);
            assert_eq!(encoding.input_ids.last(), whole.input_ids.last());
            assert_eq!(encoding.truncated, max_length < whole.input_ids.len());
            assert_eq!(encoding.tokens_total, whole.tokens_total);
            assert_eq!(encoding.clone().whole().is_err(), encoding.truncated);
        }
        assert!(tokenizer.encode(text, 1).is_err());
    }
}

/// Negative control: each of these faults must be seen by the comparison of this file.
#[test]
fn faults_are_seen() {
    let json: Value =
        serde_json::from_slice(&fs::read(golden("tokenizer/tokenizer.json")).unwrap()).unwrap();
    let expected = expected("tokenizer", "ids");
    type Fault = fn(&mut Value);
    let faults: [(&str, Fault); 6] = [
        ("charsmap skipped", |f| f["normalizer"] = Value::Null),
        ("offset off by one", |f| {
            f["model"]["vocab"]
                .as_array_mut()
                .unwrap()
                .insert(4, serde_json::json!(["\u{1}x", -30.0]));
        }),
        ("no prefix", |f| {
            f["pre_tokenizer"]["pretokenizers"][1]["prepend_scheme"] = "never".into()
        }),
        ("scores of nothing", |f| {
            for entry in f["model"]["vocab"].as_array_mut().unwrap() {
                entry[1] = 0.0.into();
            }
        }),
        ("no mask", |f| drop(f["added_tokens"].as_array_mut().unwrap().pop())),
        ("no end token", |f| drop(f["post_processor"]["single"].as_array_mut().unwrap().pop())),
    ];
    for (name, fault) in faults {
        let mut file = json.clone();
        fault(&mut file);
        let tokenizer =
            Tokenizer::from_tokenizer_json(&serde_json::to_vec(&file).unwrap()).unwrap();
        let found = differences(&tokenizer, &expected).len();
        assert!(found > 0, "{name} was not seen");
    }
}
