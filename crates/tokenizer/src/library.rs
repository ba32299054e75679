//! WordPiece and byte BPE by the `tokenizers` crate, behind a check of what the file asks for.
//!
//! Whatever the files are, they become one tokenizer.json in memory; its components are compared with
//! a list of known ones, so that no regular expression of a stranger is ever run.

use serde_json::{Value, json};

use crate::Error;
use crate::components;
use crate::pieces::MAX_PIECES;

/// Largest tokenizer.json, vocab.txt, vocab.json or merges.txt of these kinds (CLIP's has 3.6 MB).
pub(crate) const MAX_BYTES: usize = 32 << 20;
/// Longest word that WordPiece cuts; its time grows with the square of it. BERT's value is 100.
const MAX_WORD_CHARS: u64 = 1000;

/// CLIP's expression for words, as transformers 5 and 4 write it.
const CLIP_WORDS: [&str; 2] = [
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
];

/// Which of the two models it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    WordPiece,
    ByteBpe,
}

pub(crate) struct Library {
    tokenizer: tokenizers::Tokenizer,
    pub(crate) model: Model,
    pub(crate) prefix: Vec<u32>,
    pub(crate) suffix: Vec<u32>,
    pub(crate) vocab_size: usize,
}

fn too_large(found: usize) -> Error {
    Error::Limit {
        what: "the bytes of a WordPiece or byte BPE tokenizer are",
        found,
        limit: MAX_BYTES,
    }
}

/// Reads a JSON file of at most [`MAX_BYTES`].
pub(crate) fn json_value(bytes: &[u8], file: &'static str) -> Result<Value, Error> {
    if bytes.len() > MAX_BYTES {
        return Err(too_large(bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(|source| Error::Json { file, source })
}

/// What the tokenizer's class in transformers sets anew, whatever tokenizer.json says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BertSettings {
    pub(crate) lowercase: bool,
    pub(crate) strip_accents: Option<bool>,
    pub(crate) handle_chinese_chars: bool,
}

impl BertSettings {
    fn json(self) -> Value {
        json!({
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": self.handle_chinese_chars,
            "strip_accents": self.strip_accents,
            "lowercase": self.lowercase,
        })
    }
}

impl Library {
    /// Checks and loads a tokenizer.json.
    pub(crate) fn from_json(
        mut file: Value,
        name: &'static str,
        bert: Option<BertSettings>,
    ) -> Result<Self, Error> {
        let kind = |what: &str| Error::Kind { file: name, what: what.to_owned(), offset: None };
        let root = file.as_object_mut().ok_or(kind("not an object"))?;
        // Length is the caller's business, and nothing is decoded.
        for part in ["truncation", "padding", "decoder"] {
            root.insert(part.to_owned(), Value::Null);
        }
        let model = root.get_mut("model").and_then(Value::as_object_mut);
        let model = model.ok_or(kind("it has no model"))?;
        let model = check_model(model)?;
        let part = |name: &str| root.get(name).unwrap_or(&Value::Null);
        check(part("normalizer"), "normalizer", "normalizers", &known_normalizer)?;
        check(part("pre_tokenizer"), "pre_tokenizer", "pretokenizers", &known_pre_tokenizer)?;
        let (prefix, suffix) = components::post_processor(part("post_processor"))?;
        let is_bert = part("normalizer").get("type").is_some_and(|kind| kind == "BertNormalizer");
        // The special tokens are added here, in one place for all kinds.
        root.insert("post_processor".to_owned(), Value::Null);
        if let Some(bert) = bert
            && is_bert
        {
            root.insert("normalizer".to_owned(), bert.json());
        }

        let text =
            serde_json::to_vec(&file).map_err(|source| Error::Json { file: name, source })?;
        let tokenizer = tokenizers::Tokenizer::from_bytes(text)
            .map_err(|e| Error::Library { place: name, message: e.to_string() })?;
        let ids = tokenizer.get_vocab(true).into_values();
        let vocab_size = ids.max().map_or(0, |id| id as usize + 1);
        Ok(Self { tokenizer, model, prefix, suffix, vocab_size })
    }

    /// A BERT tokenizer from its list of words.
    pub(crate) fn from_vocab_txt(bytes: &[u8], bert: BertSettings) -> Result<Self, Error> {
        let file = "vocab.txt";
        let text = utf8(bytes, file)?;
        let mut vocab = serde_json::Map::new();
        for (index, word) in text.split_inclusive('\n').enumerate() {
            let word = word.trim_end();
            if word.is_empty() {
                continue;
            }
            if vocab.insert(word.to_owned(), index.into()).is_some() {
                let (piece, problem) = (word.to_owned(), "occurs twice");
                return Err(Error::Piece { file, index, line: index + 1, piece, problem });
            }
        }
        let names = ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"];
        let (added, ids) = special_tokens(&vocab, &names);
        let [Some(_), Some(sep), _, Some(cls), _] = ids[..] else {
            let what = "a list of words without [UNK], [CLS] or [SEP]".to_owned();
            return Err(Error::Kind { file, what, offset: None });
        };
        let json = json!({
            "version": "1.0",
            "added_tokens": added,
            "normalizer": bert.json(),
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", sep], "cls": ["[CLS]", cls] },
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": vocab,
            },
        });
        Self::from_json(json, file, None)
    }

    /// A CLIP tokenizer from its vocabulary and its merges.
    pub(crate) fn from_vocab_and_merges(vocab: &[u8], merges: &[u8]) -> Result<Self, Error> {
        let file = "vocab.json";
        let Value::Object(vocab) = json_value(vocab, file)? else {
            return Err(Error::Kind { file, what: "not an object".to_owned(), offset: None });
        };
        let merges = utf8(merges, "merges.txt")?.lines();
        let merges: Vec<&str> =
            merges.filter(|line| !line.is_empty() && !line.starts_with("#version")).collect();
        let (added, ids) = special_tokens(&vocab, &["<|startoftext|>", "<|endoftext|>"]);
        let [Some(start), Some(end)] = ids[..] else {
            let what = "a vocabulary without <|startoftext|> or <|endoftext|>".to_owned();
            return Err(Error::Kind { file, what, offset: None });
        };
        let json = json!({
            "version": "1.0",
            "added_tokens": added,
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "NFC" },
                { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
                { "type": "Lowercase" },
            ] },
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                { "type": "Split", "pattern": { "Regex": CLIP_WORDS[0] }, "behavior": "Removed", "invert": true },
                { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            ] },
            "post_processor": {
                "type": "RobertaProcessing",
                "sep": ["<|endoftext|>", end],
                "cls": ["<|startoftext|>", start],
                "trim_offsets": false,
                "add_prefix_space": false,
            },
            "model": {
                "type": "BPE",
                "unk_token": "<|endoftext|>",
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "</w>",
                "fuse_unk": false,
                "vocab": vocab,
                "merges": merges,
            },
        });
        Self::from_json(json, file, None)
    }

    /// All ids of `text`, without the special tokens around it.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|e| Error::Library { place: "text", message: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    pub(crate) fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }
}

fn utf8<'b>(bytes: &'b [u8], file: &'static str) -> Result<&'b str, Error> {
    if bytes.len() > MAX_BYTES {
        return Err(too_large(bytes.len()));
    }
    std::str::from_utf8(bytes).map_err(|e| Error::Kind {
        file,
        what: "text that is not UTF-8".to_owned(),
        offset: Some(e.valid_up_to()),
    })
}

/// Added tokens for `names`, and the ids of those that are in the vocabulary.
fn special_tokens(
    vocab: &serde_json::Map<String, Value>,
    names: &[&str],
) -> (Vec<Value>, Vec<Option<u64>>) {
    let ids: Vec<Option<u64>> =
        names.iter().map(|name| vocab.get(*name).and_then(Value::as_u64)).collect();
    let added = names.iter().zip(&ids).map(|(name, id)| {
        json!({
            "id": id.unwrap_or(0), "content": name, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        })
    });
    (added.collect(), ids)
}

fn refused(place: &'static str, name: impl Into<String>) -> Error {
    Error::Component { place, name: name.into() }
}

fn check_model(model: &mut serde_json::Map<String, Value>) -> Result<Model, Error> {
    let guess = if model.contains_key("merges") { "BPE" } else { "WordPiece" };
    let name = model.entry("type").or_insert_with(|| guess.into()).as_str().unwrap_or_default();
    let kind = match name {
        "WordPiece" => Model::WordPiece,
        "BPE" => Model::ByteBpe,
        other => return Err(refused("model", other)),
    };
    let n_words = model.get("vocab").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    if n_words > MAX_PIECES {
        return Err(Error::Limit { what: "the vocabulary is", found: n_words, limit: MAX_PIECES });
    }
    if model.get("max_input_chars_per_word").and_then(Value::as_u64).unwrap_or(0) > MAX_WORD_CHARS {
        return Err(refused("model", format!("max_input_chars_per_word over {MAX_WORD_CHARS}")));
    }
    if model.get("dropout").is_some_and(|d| !d.is_null() && d.as_f64() != Some(0.0)) {
        return Err(refused("model", "dropout"));
    }
    Ok(kind)
}

/// Compares a component, or each of a sequence, with the known ones.
fn check(
    value: &Value,
    place: &'static str,
    list: &str,
    known: &impl Fn(&str, &Value) -> bool,
) -> Result<(), Error> {
    if value.is_null() {
        return Ok(());
    }
    let name = value.get("type").and_then(Value::as_str).unwrap_or("no type");
    if name == "Sequence" {
        let parts = value.get(list).and_then(Value::as_array).ok_or(refused(place, name))?;
        return parts.iter().try_for_each(|part| check(part, place, list, known));
    }
    match (known(name, value), value.get("pattern")) {
        (true, _) => Ok(()),
        (false, Some(pattern)) => Err(refused(place, format!("{name} of {pattern}"))),
        (false, None) => Err(refused(place, name)),
    }
}

fn regex(value: &Value) -> Option<&str> {
    value.get("pattern")?.get("Regex")?.as_str()
}

fn known_normalizer(name: &str, value: &Value) -> bool {
    match name {
        "BertNormalizer" | "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "StripAccents" => true,
        "Replace" => regex(value) == Some(r"\s+"),
        _ => false,
    }
}

fn known_pre_tokenizer(name: &str, value: &Value) -> bool {
    match name {
        "BertPreTokenizer" | "ByteLevel" | "WhitespaceSplit" => true,
        "Split" => regex(value).is_some_and(|regex| CLIP_WORDS.contains(&regex)),
        _ => false,
    }
}
