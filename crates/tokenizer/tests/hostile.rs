//! Damaged and hostile files: each is refused with its code, none panics.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use altclip_report::{Code, Diagnose};
use altclip_tokenizer::{Error, MAX_PIECE_BYTES, MAX_PIECES, Tokenizer};
use serde_json::{Value, json};
use support::texts::Random;
use support::{golden_bytes, synthetic};

fn code(result: Result<Tokenizer, Error>) -> Code {
    let report = result.err().expect("refused").report();
    assert!(!report.help.is_empty() && !report.message.is_empty());
    let line = report.to_string();
    assert!(line.len() <= 400 && !line.contains('\n'), "{line}");
    report.code
}

/// The golden tokenizer.json, changed by `change`.
fn changed(change: impl FnOnce(&mut Value)) -> Result<Tokenizer, Error> {
    let mut file: Value =
        serde_json::from_slice(&golden_bytes("tokenizer/tokenizer.json")).unwrap();
    change(&mut file);
    Tokenizer::from_tokenizer_json(&serde_json::to_vec(&file).unwrap())
}

#[test]
fn damaged_json_is_refused_by_code() {
    type Change = fn(&mut Value);
    let cases: &[(&str, Code, Change)] = &[
        ("no model", Code::E3001, |f| drop(f.as_object_mut().unwrap().remove("model"))),
        ("no vocabulary", Code::E3001, |f| {
            drop(f["model"].as_object_mut().unwrap().remove("vocab"))
        }),
        ("a duplicate", Code::E3002, |f| f["model"]["vocab"][9] = f["model"]["vocab"][8].clone()),
        ("an empty piece", Code::E3002, |f| f["model"]["vocab"][9][0] = "".into()),
        ("no score", Code::E3002, |f| f["model"]["vocab"][9] = json!(["x"])),
        ("a score of text", Code::E3002, |f| f["model"]["vocab"][9] = json!(["x", "NaN"])),
        ("charsmap not base64", Code::E3003, |f| {
            f["normalizer"]["precompiled_charsmap"] = "§§§§".into()
        }),
        ("charsmap empty", Code::E3003, |f| f["normalizer"]["precompiled_charsmap"] = "".into()),
        ("charsmap too short", Code::E3003, |f| {
            f["normalizer"]["precompiled_charsmap"] = "ALwCAAAA".into()
        }),
        ("a regex", Code::E3004, |f| {
            f["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": false});
        }),
        ("a normaliser", Code::E3004, |f| f["normalizer"] = json!({"type": "Lowercase"})),
        ("a post-processor", Code::E3004, |f| f["post_processor"] = json!({"type": "Other"})),
        ("byte fallback", Code::E3004, |f| f["model"]["byte_fallback"] = true.into()),
        ("unk_id outside", Code::E3004, |f| f["model"]["unk_id"] = 600.into()),
        ("a long piece", Code::E3005, |f| {
            f["model"]["vocab"][9][0] = "x".repeat(MAX_PIECE_BYTES + 1).into()
        }),
        ("many added tokens", Code::E3005, |f| {
            let token = |n: usize| json!({"id": n, "content": format!("<{n}>"), "special": true});
            f["added_tokens"] = (0..5000).map(token).collect();
        }),
    ];
    for (name, expected, change) in cases {
        assert_eq!(code(changed(change)), *expected, "{name}");
    }
}

#[test]
fn numbers_that_are_none_are_refused_where_they_are() {
    let text = String::from_utf8(golden_bytes("tokenizer/tokenizer.json")).unwrap();
    let at = text.find("-4.410964012145996").unwrap();
    for number in ["NaN", "-Infinity", "1e999"] {
        let mut text = text.clone();
        text.replace_range(at..at + "-4.410964012145996".len(), number);
        match Tokenizer::from_tokenizer_json(text.as_bytes()).err().expect("refused") {
            Error::Piece { index: 5, line, .. } => assert!(line > 50),
            other => panic!("{number}: {other}"),
        }
    }
}

#[test]
fn other_kinds_and_sizes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(code(Tokenizer::from_dir(folder.path())), Code::E3001);
    let huge = std::fs::File::create(folder.path().join("tokenizer.json")).unwrap();
    huge.set_len(2 << 30).unwrap();
    assert_eq!(code(Tokenizer::from_dir(folder.path())), Code::E3005);
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    std::fs::create_dir(folder.path().join("tokenizer.json")).unwrap();
    assert_eq!(code(Tokenizer::from_dir(folder.path())), Code::E2001);

    for bytes in [&b""[..], b"{}", b"[]", b"null", b"\xff\xfe", b"{\"model\": 1}"] {
        assert_eq!(code(Tokenizer::from_tokenizer_json(bytes)), Code::E3001);
        assert_eq!(code(Tokenizer::from_sentencepiece(bytes)), Code::E3001);
    }
    let deep = "[".repeat(1 << 20);
    assert_eq!(code(Tokenizer::from_tokenizer_json(deep.as_bytes())), Code::E3001);
    let deep = format!("{{\"normalizer\": {deep}");
    assert_eq!(code(Tokenizer::from_tokenizer_json(deep.as_bytes())), Code::E3001);

    let piece = |piece: &str| (piece.to_owned(), -1.0);
    // A BPE model: `model_type` 2 in the trainer's settings.
    let mut bpe = synthetic::sentencepiece(&[piece("a"), piece("b")], &[]);
    let at = bpe.windows(4).position(|four| four == [2 << 3 | 2, 2, 3 << 3, 1]).unwrap();
    bpe[at + 3] = 2;
    assert_eq!(code(Tokenizer::from_sentencepiece(&bpe)), Code::E3001);
    let file = |list: &[&str]| {
        synthetic::sentencepiece(&list.iter().map(|p| piece(p)).collect::<Vec<_>>(), &[])
    };
    let model = |list: &[&str]| Tokenizer::from_sentencepiece(&file(list));
    assert_eq!(code(model(&["<unk>", "<s>", "</s>", "x", "x"])), Code::E3002);
    assert_eq!(code(model(&["<unk>", "<s>", "</s>", "<mask>"])), Code::E3002);
    assert_eq!(code(model(&["<unk>", "<s>", "</s>", ""])), Code::E3002);
    let mut pieces = vec![piece("<unk>"), piece("<s>"), piece("</s>"), piece("x")];
    pieces[3].1 = f32::NAN;
    let file = synthetic::sentencepiece(&pieces, &[]);
    assert_eq!(code(Tokenizer::from_sentencepiece(&file)), Code::E3002);
    let file = synthetic::sentencepiece(&pieces[..3], &[7, 0, 0, 0]);
    assert_eq!(code(Tokenizer::from_sentencepiece(&file)), Code::E3003);
    // Two bytes a piece: a field without content.
    let many = [1 << 3 | 2, 0].repeat(MAX_PIECES + 1);
    assert_eq!(code(Tokenizer::from_sentencepiece(&many)), Code::E3005);
}

#[test]
fn components_of_the_other_kinds_are_checked() {
    let change = |name: &str, change: fn(&mut Value)| {
        let mut file: Value = serde_json::from_slice(&golden_bytes(name)).unwrap();
        change(&mut file);
        Tokenizer::from_tokenizer_json(&serde_json::to_vec(&file).unwrap())
    };
    let clip = "tokenizer_clip/tokenizer.json";
    let bert = "tokenizer_bert/tokenizer.json";
    assert!(change(clip, |_| ()).is_ok() && change(bert, |_| ()).is_ok());
    type Fault = fn(&mut Value);
    let refused: [(&str, Fault); 6] = [
        (clip, |f| f["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a*)*b".into()),
        (clip, |f| f["normalizer"]["normalizers"][1]["pattern"]["Regex"] = "(a*)*b".into()),
        (clip, |f| f["model"]["dropout"] = 0.5.into()),
        (bert, |f| f["model"]["max_input_chars_per_word"] = 1_000_000.into()),
        (bert, |f| f["model"]["type"] = "WordLevel".into()),
        (bert, |f| f["pre_tokenizer"] = json!({"type": "Punctuation"})),
    ];
    for (name, fault) in refused {
        assert_eq!(code(change(name, fault)), Code::E3004);
    }
}

/// Byte flips, cuts, splices and numbers that grow: each file loads or is refused by a code of the
/// tokenizer, and what loads can encode.
#[test]
fn mutated_files_never_panic() {
    let mut random = Random::new(11);
    // A model with a small charsmap, so that mutations meet every part of the file.
    let mut units = vec![0u32; 768];
    units[0] = 256 << 10;
    units[256 + 97] = (((256 + 97) ^ 512) << 10) | (1 << 8) | 97;
    units[512] = 1 << 31;
    let mut charsmap = (4 * units.len() as u32).to_le_bytes().to_vec();
    charsmap.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    charsmap.extend(b"A\0");
    let model = synthetic::sentencepiece(&synthetic::pieces(7000)[..40], &charsmap);
    let mut small: Value =
        serde_json::from_slice(&golden_bytes("tokenizer/tokenizer.json")).unwrap();
    small["normalizer"] = Value::Null;
    small["model"]["vocab"].as_array_mut().unwrap().truncate(60);
    let json = serde_json::to_vec(&small).unwrap();
    let (clip, bert) = (
        golden_bytes("tokenizer_clip/tokenizer.json"),
        golden_bytes("tokenizer_bert/tokenizer.json"),
    );
    let mut accepted = 0;
    for round in 0..2000 {
        let seed = match round % 20 {
            0 => &clip,
            1 => &bert,
            2..11 => &json,
            _ => &model,
        };
        let mut bytes = seed.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len());
            match random.below(5) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = [0, 0xff, 0x7f, 0x80, b'9', b'"', b'['][random.below(7)],
                2 => bytes.truncate(at.max(1)),
                3 => drop(bytes.drain(at..(at + random.below(9)).min(bytes.len().max(at)))),
                _ => {
                    let from = random.below(bytes.len());
                    let part = bytes[from..(from + 12).min(bytes.len())].to_vec();
                    bytes.splice(at..at, part);
                }
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        let is_model = std::ptr::eq(seed, &model);
        let loaded = match is_model {
            true => Tokenizer::from_sentencepiece(&bytes),
            false => Tokenizer::from_tokenizer_json(&bytes),
        };
        match loaded {
            Ok(tokenizer) => {
                accepted += 1;
                // A text may be refused (no unknown token), but not with a panic.
                let _ = tokenizer.encode("a photo <mask> 一张猫 \u{10ffff}", 77);
            }
            Err(error) => {
                let code = error.report().code;
                assert!(code.as_str().starts_with("E30"), "{code}: {error}");
            }
        }
    }
    assert!((100..1900).contains(&accepted), "{accepted} accepted");
}
