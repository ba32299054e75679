//! What both tokenizers need: the files' form, and the check that ours reads them as the usual library does.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::{Result, at, read_text, write};

/// Longest text of a comparison, in tokens.
const MAX_LENGTH: usize = 512;

/// An entry of `added_tokens`.
pub(crate) fn added_token(content: &str, id: Value) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": content == "<mask>",
        "rstrip": false, "normalized": false, "special": true,
    })
}

/// Writes a JSON file.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    write(path, format!("{value:#}\n").as_bytes())
}

fn open(folder: &Path) -> Result<altclip_tokenizer::Tokenizer> {
    altclip_tokenizer::Tokenizer::from_dir(folder).map_err(at(folder))
}

fn ids(tokenizer: &altclip_tokenizer::Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode(text, MAX_LENGTH).and_then(altclip_tokenizer::Encoding::whole);
    encoding.map(|encoding| encoding.input_ids).map_err(|error| format!("{text}: {error}"))
}

/// Compares the ids of every text: our reader, and the `tokenizers` library on the same file.
pub(crate) fn check(folder: &Path, texts: &BTreeSet<String>) -> Result<()> {
    let ours = open(folder)?;
    let file = folder.join("tokenizer.json");
    let theirs = tokenizers::Tokenizer::from_file(&file).map_err(at(&file))?;
    for text in texts {
        let expected = theirs.encode(text.as_str(), true).map_err(at(&file))?;
        let found = ids(&ours, text)?;
        if found != expected.get_ids() {
            return Err(format!(
                "{text}: {found:?}, but tokenizers gives {:?}",
                expected.get_ids()
            ));
        }
    }
    Ok(())
}

/// Prints the ids of each line of a file, a JSON list a line.
pub(crate) fn print_ids(folder: &Path, texts: &Path) -> Result<()> {
    let tokenizer = open(folder)?;
    for text in read_text(texts)?.lines() {
        println!("{:?}", ids(&tokenizer, text)?);
    }
    Ok(())
}
