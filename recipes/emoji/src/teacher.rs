//! The teacher's tokenizer: CLIP's byte BPE, trained on the English texts.
//!
//! Ids as CLIP has them: bytes, bytes at the end of a word, merges, `<|startoftext|>`, `<|endoftext|>`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::output::Texts;
use crate::{Result, tokenizer_folder};

/// Tokens, the two special ones included.
const VOCAB_SIZE: usize = 4096;
const END_OF_WORD: &str = "</w>";
const SPECIAL: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];
/// CLIP's expression for words, as transformers writes it.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Trains it and writes its folder.
pub(crate) fn write(texts: &Texts, folder: &Path) -> Result<()> {
    let english = texts.get("en").ok_or("there are no English texts")?;
    let files = train(english, VOCAB_SIZE)?;
    let config = json!({
        "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer",
    });
    tokenizer_folder::write_json(&folder.join("vocab.json"), &files.vocab)?;
    crate::write(&folder.join("merges.txt"), files.merges.as_bytes())?;
    tokenizer_folder::write_json(&folder.join("tokenizer.json"), &files.tokenizer)?;
    tokenizer_folder::write_json(&folder.join("tokenizer_config.json"), &config)?;
    tokenizer_folder::check(folder, english)
}

/// The three files that say the same.
struct Files {
    vocab: Value,
    merges: String,
    tokenizer: Value,
}

/// The letters that stand for bytes.
fn letters() -> Vec<String> {
    let letters: BTreeSet<char> = ByteLevel::alphabet().into_iter().collect();
    letters.into_iter().map(String::from).collect()
}

fn train(texts: &BTreeSet<String>, vocab_size: usize) -> Result<Files> {
    let letters = letters();
    let mut tokens = letters.clone();
    tokens.extend(letters.iter().map(|letter| format!("{letter}{END_OF_WORD}")));
    let room = vocab_size.saturating_sub(tokens.len() + SPECIAL.len());
    let merges = merges(texts, &tokens, room)?;
    let mut known: BTreeSet<String> = tokens.iter().cloned().collect();
    let merged = merges.iter().map(|(left, right)| format!("{left}{right}"));
    tokens.extend(merged.filter(|token| known.insert(token.clone())));
    tokens.extend(SPECIAL.map(str::to_owned));
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let id = |token: &str| vocab.get(token).cloned().unwrap_or_default();
    let mut tokenizer = skeleton(&Value::Object(vocab.clone()), &merges);
    let added = SPECIAL.map(|token| tokenizer_folder::added_token(token, id(token)));
    let root = tokenizer.as_object_mut().ok_or("not an object")?;
    root.insert("added_tokens".to_owned(), Value::from(added.to_vec()));
    root.insert(
        "post_processor".to_owned(),
        json!({
            "type": "RobertaProcessing", "trim_offsets": false, "add_prefix_space": false,
            "sep": [SPECIAL[1], id(SPECIAL[1])], "cls": [SPECIAL[0], id(SPECIAL[0])],
        }),
    );
    let lines = merges.iter().map(|(left, right)| format!("{left} {right}\n"));
    let merges = std::iter::once("#version: 0.2\n".to_owned()).chain(lines).collect();
    Ok(Files { vocab: Value::Object(vocab), merges, tokenizer })
}

/// CLIP's pipeline around a vocabulary.
fn skeleton(vocab: &Value, merges: &[(String, String)]) -> Value {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
            { "type": "Lowercase" },
        ]},
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": WORDS }, "behavior": "Removed", "invert": true },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        ]},
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": SPECIAL[1], "continuing_subword_prefix": "",
            "end_of_word_suffix": END_OF_WORD, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    })
}

/// At most `room` merges, best first.
fn merges(
    texts: &BTreeSet<String>,
    alphabet: &[String],
    room: usize,
) -> Result<Vec<(String, String)>> {
    let empty = skeleton(&json!({ SPECIAL[1]: 0 }), &[]);
    let mut tokenizer = Tokenizer::from_bytes(empty.to_string()).map_err(|e| e.to_string())?;
    // The alphabet is handed over as special tokens: the trainer breaks ties by id, and numbers endings of
    // words in the order in which it meets them, which differs from run to run.
    let special: Vec<AddedToken> =
        alphabet.iter().map(|token| AddedToken::from(token.clone(), true)).collect();
    let trainer = BpeTrainer::builder()
        .vocab_size(alphabet.len() + room)
        .special_tokens(special)
        .end_of_word_suffix(END_OF_WORD.to_owned())
        .show_progress(false)
        .build();
    let mut trainer = TrainerWrapper::from(trainer);
    tokenizer.train(&mut trainer, texts.iter()).map_err(|e| e.to_string())?;
    let model = serde_json::to_value(tokenizer.get_model()).map_err(|e| e.to_string())?;
    let merges = model.get("merges").cloned().unwrap_or_default();
    serde_json::from_value(merges).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> BTreeSet<String> {
        let texts =
            ["grinning face", "Grinning Cat!", "red heart", "person: dark skin tone", "1st", "été"];
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn ours_reads_what_was_trained() {
        let folder = tempfile::tempdir().unwrap();
        write(&Texts::from([("en", texts())]), folder.path()).unwrap();
        let ours = altclip_tokenizer::Tokenizer::from_dir(folder.path()).unwrap();
        let (start, end) = (ours.id(SPECIAL[0]).unwrap(), ours.id(SPECIAL[1]).unwrap());
        assert_eq!(end as usize + 1, ours.vocab_size());
        assert_eq!((start, ours.id("!"), ours.id("!</w>")), (end - 1, Some(0), Some(256)));
        let ids = ours.encode("grinning face", 77).unwrap().input_ids;
        let tokens: Vec<String> = ids.iter().map(|id| ours.token(*id).unwrap()).collect();
        assert_eq!(tokens, [SPECIAL[0], "grinning</w>", "face</w>", SPECIAL[1]]);
    }

    #[test]
    fn training_twice_gives_the_same_bytes() {
        let bytes = || {
            let files = train(&texts(), 540).unwrap();
            assert_eq!(files.vocab.as_object().unwrap().len(), 540);
            (files.vocab.to_string(), files.merges, files.tokenizer.to_string())
        };
        assert_eq!(bytes(), bytes());
    }
}
