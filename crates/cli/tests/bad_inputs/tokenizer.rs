//! TK1 to TK6: tokenizer files.

use crate::row::{Row, check, model};
use crate::support::child::altclip;
use crate::support::folder::{Folder, golden_bytes};
use altclip_report::Code;
use serde_json::{Value, json};
use std::ffi::OsStr;

pub(crate) fn rows() -> Vec<Row> {
    [kinds(), pieces(), tables(), components(), sizes()].into_iter().flatten().collect()
}

/// The tokenizer.json of the folder, changed.
fn changed(
    id: &'static str,
    name: &'static str,
    code: Code,
    parts: &'static [&'static str],
    change: fn(&mut Value),
) -> Row {
    model(id, name, code, parts, move |f| f.edit_json("tokenizer.json", change))
}

/// A folder whose only tokenizer file is this sentencepiece model.
fn sentencepiece(folder: &Folder, bytes: &[u8]) {
    folder.remove("tokenizer.json");
    folder.write("sentencepiece.bpe.model", bytes);
}

/// A message of protocol buffers that is one field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 127 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(bytes);
    out
}

/// A small model of these pieces and this `model_type`.
fn pieces_file(pieces: &[(&str, f32)], model_type: u8) -> Vec<u8> {
    let mut file = Vec::new();
    for (index, (piece, score)) in pieces.iter().enumerate() {
        let mut message = field(1, piece.as_bytes());
        message.push(2 << 3 | 5);
        message.extend(score.to_le_bytes());
        if index < 3 {
            message.extend([3 << 3, if index == 0 { 2 } else { 3 }]);
        }
        file.extend(field(1, &message));
    }
    file.extend(field(2, &[3 << 3, model_type]));
    file
}

const HEAD: [(&str, f32); 3] = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)];

fn with(more: &[(&'static str, f32)], model_type: u8) -> Vec<u8> {
    pieces_file(&[&HEAD[..], more].concat(), model_type)
}

fn kinds() -> Vec<Row> {
    vec![
        model(
            "TK1",
            "no tokenizer",
            Code::E3001,
            &["tokenizer.json", "sentencepiece.bpe.model"],
            |f| {
                f.remove("tokenizer.json");
            },
        ),
        model("TK1", "not JSON", Code::E3001, &["tokenizer.json, line 1"], |f| {
            drop(f.write("tokenizer.json", "tokenizer"));
        }),
        model("TK1", "an HTML page", Code::E3001, &[], |f| {
            drop(f.write("tokenizer.json", "<!DOCTYPE html>"));
        }),
        model("TK1", "deeply nested", Code::E3001, &[], |f| {
            drop(f.write("tokenizer.json", "{\"normalizer\":".repeat(100_000)));
        }),
        model(
            "TK1",
            "a sentencepiece model of BPE",
            Code::E3001,
            &["sentencepiece.bpe.model"],
            |f| {
                sentencepiece(f, &with(&[("a", -1.0), ("b", -2.0)], 2));
            },
        ),
        model("TK1", "a sentencepiece model that is cut", Code::E3001, &["byte"], |f| {
            let bytes = golden_bytes("tokenizer/sentencepiece.bpe.model");
            sentencepiece(f, &bytes[..bytes.len() / 2]);
        }),
        model("TK1", "a sentencepiece model that is none", Code::E3001, &[], |f| {
            sentencepiece(f, b"version https://git-lfs.github.com/spec/v1\n");
        }),
        changed("TK1", "BPE without merges", Code::E3001, &[], |t| {
            t["normalizer"] = Value::Null;
            t["pre_tokenizer"] = Value::Null;
            t["model"] = json!({"type": "BPE", "vocab": {"a": 0}});
        }),
        changed("TK1", "no model", Code::E3001, &["model"], |t| {
            t.as_object_mut().unwrap().remove("model");
        }),
        model("TK1", "the tokenizer is a folder", Code::E2001, &["tokenizer.json"], |f| {
            f.remove("tokenizer.json");
            std::fs::create_dir(f.path("tokenizer.json")).unwrap();
        }),
    ]
}

fn pieces() -> Vec<Row> {
    let score = |number: &'static str| {
        move |f: &Folder| {
            let text = String::from_utf8(f.read("tokenizer.json")).unwrap();
            assert!(text.contains("-4.410964012145996"));
            f.write("tokenizer.json", text.replacen("-4.410964012145996", number, 1));
        }
    };
    vec![
        changed("TK2", "a piece twice", Code::E3002, &["entry 9"], |t| {
            t["model"]["vocab"][9] = t["model"]["vocab"][8].clone();
        }),
        changed("TK2", "an empty piece", Code::E3002, &["entry 9", "empty"], |t| {
            t["model"]["vocab"][9][0] = "".into();
        }),
        model("TK2", "a score of NaN", Code::E3002, &["line"], score("NaN")),
        model("TK2", "a score of infinity", Code::E3002, &["line"], score("-Infinity")),
        model("TK2", "a score beyond all numbers", Code::E3002, &["line"], score("1e999")),
        model("TK2", "sentencepiece: a piece twice", Code::E3002, &["«x»"], |f| {
            sentencepiece(f, &with(&[("x", -1.0), ("x", -2.0)], 1));
        }),
        model("TK2", "sentencepiece: an empty piece", Code::E3002, &["entry 3"], |f| {
            sentencepiece(f, &with(&[("", -1.0)], 1));
        }),
        model("TK2", "sentencepiece: a score of NaN", Code::E3002, &["«x»"], |f| {
            sentencepiece(f, &with(&[("x", f32::NAN)], 1));
        }),
    ]
}

fn tables() -> Vec<Row> {
    fn table(name: &'static str, base64: &'static str) -> Row {
        model("TK3", name, Code::E3003, &["charsmap"], move |f| {
            f.edit_json("tokenizer.json", |t| {
                t["normalizer"]["precompiled_charsmap"] = base64.into()
            });
        })
    }
    vec![
        table("not base64", "§§§§"),
        table("empty", ""),
        table("longer than it is", "ALwCAAAA"),
        model("TK3", "a unit that points outside", Code::E3003, &["byte"], |f| {
            // A double array of 256 units whose root leads far away.
            let mut bytes = (1024u32).to_le_bytes().to_vec();
            bytes.extend([0xff; 1024]);
            bytes.extend(b"a\0");
            f.edit_json("tokenizer.json", |t| {
                t["normalizer"]["precompiled_charsmap"] = base64(&bytes).into();
            });
        }),
        model("TK3", "sentencepiece: a table that is cut", Code::E3003, &[], |f| {
            let mut file = with(&[("x", -1.0)], 1);
            file.extend(field(3, &field(2, &[7, 0, 0, 0])));
            sentencepiece(f, &file);
        }),
    ]
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0u32, |n, i| n << 8 | u32::from(*three.get(i).unwrap_or(&0)));
        for i in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

fn components() -> Vec<Row> {
    vec![
        changed("TK4", "a regex that explodes", Code::E3004, &["pre_tokenizer"], |t| {
            t["pre_tokenizer"] = json!({
                "type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": false,
            });
        }),
        changed("TK4", "an unknown normaliser", Code::E3004, &["normalizer", "Lowercase"], |t| {
            t["normalizer"] = json!({"type": "Lowercase"});
        }),
        changed(
            "TK4",
            "an unknown post-processor",
            Code::E3004,
            &["post_processor", "Other"],
            |t| {
                t["post_processor"] = json!({"type": "Other"});
            },
        ),
        changed("TK4", "byte fallback", Code::E3004, &["byte_fallback"], |t| {
            t["model"]["byte_fallback"] = true.into();
        }),
        model("TK4", "CLIP's tokenizer with another regex", Code::E3004, &["pre_tokenizer"], |f| {
            f.copy("tokenizer_clip/tokenizer.json", "tokenizer.json");
            f.edit_json("tokenizer.json", |t| {
                t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a*)*b".into();
            });
        }),
    ]
}

fn sizes() -> Vec<Row> {
    vec![
        model("TK5", "a file of 2 GiB", Code::E3005, &["2147483648", "268435456"], |f| {
            let file = std::fs::File::create(f.path("tokenizer.json")).unwrap();
            // Sparse: it takes no room.
            file.set_len(2 << 30).unwrap();
        }),
        model("TK5", "2,000,001 pieces", Code::E3005, &["2000001", "2000000"], |f| {
            sentencepiece(f, &[1 << 3 | 2, 0].repeat(2_000_001));
        }),
        changed("TK5", "a piece of 4 KiB", Code::E3005, &["4096"], |t| {
            t["model"]["vocab"][9][0] = "x".repeat(4096).into();
        }),
        model("TK6", "more ids than the word table has rows", Code::E3006, &["795", "600"], |f| {
            f.copy("tokenizer_clip/tokenizer.json", "tokenizer.json");
            f.copy("tokenizer_clip/tokenizer_config.json", "tokenizer_config.json");
        }),
        check("TK6", "fewer ids than rows: a warning", |_| {
            let folder = Folder::new("alt_l");
            folder.edit_weights(|w| {
                let words = w.get("text_model.roberta.embeddings.word_embeddings.weight");
                words.shape[0] += 8;
                words.bytes.extend([0; 4 * 32 * 8]);
            });
            folder.edit_json("config.json", |c| c["text_config"]["vocab_size"] = 608.into());
            let arg = OsStr::new;
            let args = [arg("embed"), arg("--text=a"), arg("--model"), folder.dir().as_os_str()];
            let outcome = altclip(args).ok();
            assert!(outcome.stderr.contains("[W2122]"), "{}", outcome.stderr);
            assert_eq!(outcome.fault_of_stderr(), None);
        }),
    ]
}
