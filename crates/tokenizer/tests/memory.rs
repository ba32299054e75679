//! What loading and encoding take in memory: a model of XLM-R's size, and texts of 10 MiB.
#![allow(missing_docs, unreachable_pub)]

#[path = "support/mod.rs"]
mod support;

use altclip_tokenizer::{DEFAULT_MAX_LENGTH, Tokenizer};
use support::{golden_bytes, memory, synthetic, texts};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

// One test: the count is of the whole process.
#[test]
fn memory_is_bounded() {
    let small = serde_json::from_slice(&golden_bytes("tokenizer/tokenizer.json")).unwrap();
    let pieces = synthetic::pieces(synthetic::XLMR_PIECES);
    let folder = tempfile::tempdir().unwrap();
    let write = |name, bytes: Vec<u8>| std::fs::write(folder.path().join(name), bytes).unwrap();
    write(
        "sentencepiece.bpe.model",
        synthetic::sentencepiece(&pieces, &synthetic::charsmap(&small)),
    );
    let (model, from_model) = memory::peak(|| Tokenizer::from_dir(folder.path()).unwrap());
    write("tokenizer.json", synthetic::tokenizer_json(&pieces, &small));
    let (json, from_json) = memory::peak(|| Tokenizer::from_dir(folder.path()).unwrap());
    assert!(from_model <= 60_000_000, "{from_model} bytes from sentencepiece.bpe.model");
    assert!(from_json <= 60_000_000, "{from_json} bytes from tokenizer.json");
    assert_eq!(json.vocab_size(), synthetic::XLMR_PIECES + 2);
    assert_eq!(json.fingerprint(), model.fingerprint());

    // Both files agree, and the families take little.
    for (name, text) in texts::hostile(1 << 16) {
        let (encoding, peak) = memory::peak(|| model.encode(&text, DEFAULT_MAX_LENGTH).unwrap());
        assert!(peak <= 1 << 20, "{name}: {peak} bytes");
        assert_eq!(encoding, json.encode(&text, DEFAULT_MAX_LENGTH).unwrap(), "{name}");
    }
    // Ten times the limit of the command line, for those that could pile up.
    for unit in ["a", "\u{fdfa}", "\u{10ffff}"] {
        let text = unit.repeat((10 << 20) / unit.len());
        let (_, peak) = memory::peak(|| model.encode(&text, DEFAULT_MAX_LENGTH).unwrap());
        assert!(peak <= 2 << 20, "{unit:?}: {peak} bytes for {}", text.len());
    }
}
