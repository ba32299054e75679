//! Packed model files that are damaged, foreign or not what was asked for.

use crate::row::{Case, Row, bad_input, refused, warned};
use crate::support::child::{Run, altclip};
use altclip_report::Code;
use std::ffi::OsStr;
use std::path::PathBuf;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        refused("CK13", "a flipped bit in the header", Code::E2105, &["header", "hash"], |case| {
            embed(&packed(case, |bytes| bytes[200] ^= 1), &[])
        }),
        bad_input("CK13", "a flipped bit in a matrix", Code::E2105, &["tensor", "hash"], |case| {
            embed(&packed(case, |bytes| flip_matrices(bytes)), &[])
        }),
        refused("CK13", "a packed file that is cut", Code::E2106, &["bytes"], |case| {
            embed(&packed(case, |bytes| bytes.truncate(bytes.len() - 1)), &[])
        }),
        refused("CK13", "plain weights with the name of a packed file", Code::E2108, &[], |case| {
            let weights = std::fs::read(case.model().join("model.safetensors")).unwrap();
            embed(&case.file("plain.altclip", weights), &[])
        }),
        refused("CK13", "a packed file in another precision", Code::E2109, &["int8"], |case| {
            embed(&packed(case, |_| ()), &["--precision", "bf16"])
        }),
        warned("CK13", "a cache that cannot be made", Code::W2123, &["memory"], |case| {
            let blocked = case.file("file", "").join("cache");
            let model = case.model().to_owned();
            embed(&model, &["--precision", "int8"]).env("ALTCLIP_CACHE", blocked)
        }),
    ]
}

/// The sound model packed to 8 bits, and then damaged.
fn packed(case: &Case, damage: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let out = case.path("model.altclip");
    let (model, file) = (case.model().as_os_str(), out.as_os_str());
    let arg = OsStr::new;
    altclip([
        arg("convert"),
        arg("--precision"),
        arg("int8"),
        arg("--model"),
        model,
        arg("--out"),
        file,
    ])
    .ok();
    let mut bytes = std::fs::read(&out).unwrap();
    damage(&mut bytes);
    std::fs::write(&out, bytes).unwrap();
    out
}

/// Changes a bit in each matrix; the small files behind them stay sound.
fn flip_matrices(bytes: &mut [u8]) {
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    for (name, tensor) in json.as_object().unwrap() {
        if name.ends_with(".packed") {
            let begin = tensor["data_offsets"][0].as_u64().unwrap() as usize;
            bytes[header + begin] ^= 4;
        }
    }
}

fn embed(model: &std::path::Path, more: &[&str]) -> Run {
    let head = ["embed", "--text", "a", "--json", "--model"].map(OsStr::new);
    let more = more.iter().map(OsStr::new);
    altclip(head.into_iter().chain([model.as_os_str()]).chain(more))
}
