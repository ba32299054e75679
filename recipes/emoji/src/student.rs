//! The student's tokenizer: Unigram in XLM-R's form, trained on the texts of all languages.
//!
//! Everything but the pieces is what XLM-R's file has, its charsmap included; it is taken from the golden
//! tokenizer of this repository.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    Tokenizer,
};

use crate::concept::Concept;
use crate::output::Texts;
use crate::{Result, tokenizer_folder, unigram};

/// Pieces, the special ones included.
const VOCAB_SIZE: usize = 8000;
/// The languages for which the pieces are made in the first place (those of AltCLIP-m9) …
const MAIN: [&str; 9] = ["en", "zh", "es", "fr", "ru", "ja", "ko", "ar", "it"];
/// … by counting their texts this many times.
const MAIN_WEIGHT: u64 = 4;
/// Ids 0 to 3; `<mask>` is the last one.
const SPECIAL: [&str; 4] = ["<s>", "<pad>", "</s>", "<unk>"];
const MASK: &str = "<mask>";

/// Trains it and writes its folder.
///
/// Pieces are made of training texts only; but every character of a name is a piece, also of names that training
/// does not have, so that no name is unknown for want of a character.
pub(crate) fn write(texts: &Texts, concepts: &[Concept], folder: &Path) -> Result<()> {
    let names = concepts.iter().flat_map(|concept| concept.labels.values());
    let names: BTreeSet<String> = names.map(|label| label.name.clone()).collect();
    write_folder(texts, &names, VOCAB_SIZE, folder)?;
    let all: BTreeSet<String> = texts.values().flatten().cloned().chain(names).collect();
    tokenizer_folder::check(folder, &all)
}

fn write_folder(
    texts: &Texts,
    names: &BTreeSet<String>,
    vocab_size: usize,
    folder: &Path,
) -> Result<()> {
    let golden = include_str!("../../../tests/golden/tokenizer/tokenizer.json");
    let mut file: Value = serde_json::from_str(golden).map_err(|error| error.to_string())?;
    let cutter = Tokenizer::from_bytes(golden).map_err(|error| error.to_string())?;
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    for (language, texts) in texts {
        let weight = if MAIN.contains(language) { MAIN_WEIGHT } else { 1 };
        for text in texts {
            for word in cut(&cutter, text)? {
                *words.entry(word).or_default() += weight;
            }
        }
    }
    let mut alphabet: BTreeSet<char> = words.keys().flat_map(|word| word.chars()).collect();
    for name in names {
        alphabet.extend(cut(&cutter, name)?.iter().flat_map(|word| word.chars()));
    }
    let room = vocab_size.saturating_sub(SPECIAL.len() + 1);
    let pieces = unigram::train(&words, &alphabet, room);

    let special = |token: &str| json!([token, 0.0]);
    let mut vocab: Vec<Value> = SPECIAL.map(special).to_vec();
    vocab.extend(pieces.iter().map(|(piece, score)| json!([piece, score])));
    let mask = vocab.len();
    vocab.push(special(MASK));
    let mut added: Vec<Value> = SPECIAL
        .iter()
        .zip(0..)
        .map(|(token, id)| tokenizer_folder::added_token(token, Value::from(id)))
        .collect();
    added.push(tokenizer_folder::added_token(MASK, mask.into()));
    let root = file.as_object_mut().ok_or("not an object")?;
    root.insert("added_tokens".to_owned(), Value::from(added));
    root.insert(
        "model".to_owned(),
        json!({ "type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": false }),
    );
    let mut map = json!({
        "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>",
        "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": {
            "content": MASK, "lstrip": true, "rstrip": false, "normalized": false, "single_word": false,
        },
    });
    tokenizer_folder::write_json(&folder.join("tokenizer.json"), &file)?;
    tokenizer_folder::write_json(&folder.join("special_tokens_map.json"), &map)?;
    let root = map.as_object_mut().ok_or("not an object")?;
    root.insert("mask_token".to_owned(), MASK.into());
    root.insert("add_prefix_space".to_owned(), true.into());
    root.insert("model_max_length".to_owned(), 77.into());
    root.insert("tokenizer_class".to_owned(), "XLMRobertaTokenizer".into());
    tokenizer_folder::write_json(&folder.join("tokenizer_config.json"), &map)
}

/// The words of a text as the model sees them: normalised, with the mark of a space in front.
fn cut(cutter: &Tokenizer, text: &str) -> Result<Vec<String>> {
    let mut normalized = NormalizedString::from(text);
    if let Some(normalizer) = cutter.get_normalizer() {
        normalizer.normalize(&mut normalized).map_err(|error| error.to_string())?;
    }
    let mut words = PreTokenizedString::from(normalized);
    if let Some(pre_tokenizer) = cutter.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut words).map_err(|error| error.to_string())?;
    }
    let splits = words.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    Ok(splits.into_iter().map(|(word, _, _)| word.to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Texts {
        let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Texts::from([
            ("en", set(&["grinning face", "grinning cat", "cat face", "face"])),
            ("zh", set(&["嘿嘿", "笑脸", "猫脸", "农夫: 中等肤色", "农夫: 较深肤色"])),
            ("de", set(&["grinsendes Gesicht", "Gesicht"])),
        ])
    }

    #[test]
    fn ours_reads_what_was_trained_and_training_twice_gives_the_same_bytes() {
        let names = BTreeSet::from(["企鹅".to_owned()]);
        let read = || {
            let folder = tempfile::tempdir().unwrap();
            write_folder(&texts(), &names, 120, folder.path()).unwrap();
            tokenizer_folder::check(folder.path(), &texts().into_values().flatten().collect())
                .unwrap();
            let ours = altclip_tokenizer::Tokenizer::from_dir(folder.path()).unwrap();
            assert_eq!((ours.id("<s>"), ours.id("<unk>"), ours.pad_id()), (Some(0), Some(3), 1));
            assert_eq!(ours.id(MASK).unwrap() as usize + 1, ours.vocab_size());
            let ids = ours.encode("企鹅 face", 77).unwrap().input_ids;
            assert!(!ids.contains(&3), "{ids:?}");
            assert!(ours.encode("ש", 77).unwrap().input_ids.contains(&3));
            std::fs::read(folder.path().join("tokenizer.json")).unwrap()
        };
        assert_eq!(read(), read());
    }
}
