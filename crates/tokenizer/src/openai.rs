//! CLIP's merges as OpenAI publishes them: one compressed text, from which the vocabulary follows.
//!
//! # Source
//! openai/CLIP `clip/simple_tokenizer.py` (commit d05afc4).

use crate::Error;
use crate::library::MAX_BYTES;
use serde_json::Value;
use std::io::Read;

/// Names of the file.
pub(crate) const FILES: [&str; 2] =
    ["bpe_simple_vocab_16e6.txt.gz", "clip_bpe_simple_vocab_16e6.txt.gz"];
/// Merges that CLIP uses, of the many in the file.
const MERGES: usize = 49_152 - 256 - 2;

/// What the Hub calls `vocab.json` and `merges.txt`.
///
/// Ids are given to the 256 bytes, to the same at the end of a word, to each merge in its order, and to
/// the two special tokens.
///
/// # Errors
/// [`Error::Kind`] for what is not such a file, [`Error::Limit`] for one that is too large.
pub(crate) fn vocab_and_merges(compressed: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let kind = |what: &str| Error::Kind { file: FILES[0], what: what.to_owned(), offset: None };
    let mut text = String::new();
    let limit = MAX_BYTES as u64 + 1;
    let mut decoder = flate2::read::GzDecoder::new(compressed).take(limit);
    decoder.read_to_string(&mut text).map_err(|_| kind("not a text compressed with gzip"))?;
    if text.len() > MAX_BYTES {
        let what = "the bytes of a tokenizer file are";
        return Err(Error::Limit { what, found: text.len(), limit: MAX_BYTES });
    }
    // The first line says the version.
    let merges: Vec<&str> = text.lines().skip(1).take(MERGES).collect();
    if let Some(line) = merges.iter().find(|line| line.split(' ').count() != 2) {
        return Err(kind(&format!("a line that is not two pieces: {line}")));
    }
    let bytes = byte_chars();
    let ends = bytes.iter().map(|c| format!("{c}</w>"));
    let pieces = bytes.iter().map(char::to_string).chain(ends);
    let pieces = pieces.chain(merges.iter().map(|line| line.replace(' ', "")));
    let special = ["<|startoftext|>", "<|endoftext|>"].map(str::to_owned);
    let ids = pieces.chain(special).enumerate().map(|(id, piece)| (piece, id.into()));
    let vocab: serde_json::Map<String, Value> = ids.collect();
    let vocab = Value::Object(vocab).to_string().into_bytes();
    Ok((vocab, merges.join("\n").into_bytes()))
}

/// A visible character for each byte, in the order of their ids: those that are visible themselves, then
/// the others from U+0100 on.
fn byte_chars() -> Vec<char> {
    let visible = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let themselves = (0..=255u8).filter(visible).map(char::from);
    let others = (0..=255u8).filter(|byte| !visible(byte)).count() as u32;
    themselves.chain((0..others).filter_map(|nth| char::from_u32(0x100 + nth))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;
    use std::io::Write;

    fn compressed(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_vocabulary_follows_from_the_merges() {
        let file = compressed("\"#version: 0.2\nt h\nth e</w>\nc a\nca t</w>\n");
        let tokenizer = Tokenizer::from_files("x".as_ref(), &|name| {
            Ok((name == FILES[1]).then(|| file.clone()))
        })
        .unwrap();
        let ids = |text: &str| tokenizer.encode(text, 77).unwrap().input_ids;
        // 512 byte pieces, four merges, two special tokens.
        assert_eq!(ids("The cat"), [516, 513, 515, 517]);
        let letter = |c: u8| u32::from(c - b'!');
        assert_eq!(ids("a"), [516, 256 + letter(b'a'), 517]);
        assert_eq!(ids("the\u{e9}").len(), 6);
    }

    #[test]
    fn other_files_are_refused() {
        for bytes in [&b"not gzip"[..], &compressed("version\none two three\n")] {
            assert!(matches!(vocab_and_merges(bytes), Err(Error::Kind { .. })));
        }
    }

    #[test]
    fn every_byte_has_a_character() {
        let chars = byte_chars();
        assert_eq!(chars.len(), 256);
        assert_eq!((chars[0], chars[188], chars[255]), ('!', '\u{100}', '\u{143}'));
    }
}
