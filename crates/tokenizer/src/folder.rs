//! Finds the tokenizer among the files of a model folder.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::added::AddedToken;
use crate::library::{self, BertSettings, Library};
use crate::openai;
use crate::pipeline::{METASPACE, Pipeline};
use crate::sentencepiece::{self, Names};
use crate::tokenizer_json::{self, Overrides, Parsed};
use crate::{Error, Inner, Tokenizer};

/// Largest tokenizer file (XLM-R's tokenizer.json has 17 MB).
pub const MAX_FILE_BYTES: usize = 256 << 20;

/// The small files beside a tokenizer.
#[derive(Default)]
struct Settings {
    config: Value,
    special_tokens: Value,
}

/// Names of special tokens in the order in which transformers adds them.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl Settings {
    fn named(&self, key: &str) -> Option<AddedToken> {
        let value = self.config.get(key).filter(|value| !value.is_null());
        as_token(value.or_else(|| self.special_tokens.get(key))?)
    }

    fn name(&self, key: &str, otherwise: &str) -> String {
        self.named(key).map_or_else(|| otherwise.to_owned(), |token| token.content)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.config.get(key).and_then(Value::as_bool)
    }

    fn bert(&self) -> BertSettings {
        BertSettings {
            lowercase: self.flag("do_lower_case").unwrap_or(true),
            strip_accents: self.flag("strip_accents"),
            handle_chinese_chars: self.flag("tokenize_chinese_chars").unwrap_or(true),
        }
    }

    fn unigram(&self) -> Overrides {
        let decoder = self.config.get("added_tokens_decoder").and_then(Value::as_object);
        let mut decoded: Vec<(u64, AddedToken)> = decoder
            .into_iter()
            .flatten()
            .filter_map(|(id, token)| Some((id.parse().ok()?, as_token(token)?)))
            .collect();
        decoded.sort_by_key(|(id, _)| *id);
        let extra =
            ["extra_special_tokens", "additional_special_tokens"].into_iter().flat_map(|key| {
                let lists = [self.config.get(key), self.special_tokens.get(key)];
                lists.into_iter().flatten().filter_map(Value::as_array).flatten()
            });
        Overrides {
            replace: decoded.into_iter().map(|(_, token)| token).collect(),
            add: NAMED
                .iter()
                .filter_map(|key| self.named(key))
                .chain(extra.filter_map(as_token))
                .collect(),
            add_prefix_space: self.flag("add_prefix_space"),
        }
    }
}

fn as_token(value: &Value) -> Option<AddedToken> {
    match value {
        Value::String(content) => Some(AddedToken::special(content)),
        Value::Object(_) => serde_json::from_value(value.clone()).ok(),
        _ => None,
    }
}

/// Every file that may be asked for.
pub const FILES: [&str; 11] = [
    tokenizer_json::FILE,
    sentencepiece::FILE,
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    openai::FILES[0],
    openai::FILES[1],
    VOCABULARIES[1],
    VOCABULARIES[2],
];

/// Names of BERT's list of words; the second is Wukong's.
const VOCABULARIES: [&str; 3] = ["vocab.txt", "vocab_zh.txt", "chinese_bert_vocab.txt"];

/// Gives a file by its name, `None` if there is none.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<u8>>, Error>;

/// A file of whatever holds them, and a note that it was used.
fn read(files: Lookup<'_>, name: &str, used: &mut Vec<PathBuf>) -> Result<Option<Vec<u8>>, Error> {
    let found = files(name)?;
    if found.is_some() {
        used.push(name.into());
    }
    Ok(found)
}

/// The first of these files that is there.
fn first(
    files: Lookup<'_>,
    names: &[&str],
    used: &mut Vec<PathBuf>,
) -> Result<Option<Vec<u8>>, Error> {
    for name in names {
        if let Some(bytes) = read(files, name, used)? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// A file of the folder, `None` if there is none.
fn read_file(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let path = folder.join(name);
    let failed = |source| Error::Read { path: path.clone(), source };
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let size = file.metadata().map_err(failed)?.len();
    let too_large = |found| Error::Limit {
        what: "the bytes of a tokenizer file are",
        found,
        limit: MAX_FILE_BYTES,
    };
    if size > MAX_FILE_BYTES as u64 {
        return Err(too_large(usize::try_from(size).unwrap_or(usize::MAX)));
    }
    let mut bytes = Vec::with_capacity(size as usize + 1);
    // The size can be a lie (a pipe has none), so the reading stops at the limit too.
    file.by_ref().take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(too_large(bytes.len()));
    }
    Ok(Some(bytes))
}

fn settings_file(
    folder: Lookup<'_>,
    name: &'static str,
    used: &mut Vec<PathBuf>,
) -> Result<Value, Error> {
    match read(folder, name, used)? {
        Some(bytes) => library::json_value(&bytes, name),
        None => Ok(Value::Null),
    }
}

pub(crate) fn open_folder(folder: &Path) -> Result<Tokenizer, Error> {
    let mut tokenizer = open(&|name| read_file(folder, name), folder)?;
    tokenizer.source_files.iter_mut().for_each(|file| *file = folder.join(&file));
    Ok(tokenizer)
}

/// The tokenizer of these files; `place` is where they are, for messages.
pub(crate) fn open(folder: Lookup<'_>, place: &Path) -> Result<Tokenizer, Error> {
    let mut used = Vec::new();
    let mut settings_used = Vec::new();
    let settings = Settings {
        config: settings_file(folder, "tokenizer_config.json", &mut settings_used)?,
        special_tokens: settings_file(folder, "special_tokens_map.json", &mut settings_used)?,
    };
    let inner = if let Some(bytes) = read(folder, tokenizer_json::FILE, &mut used)? {
        from_json(&bytes, &settings, true)?
    } else if let Some(bytes) = read(folder, sentencepiece::FILE, &mut used)? {
        from_sentencepiece(&bytes, &settings)?
    } else if let Some(bytes) = first(folder, &VOCABULARIES, &mut used)? {
        Inner::Library(Box::new(Library::from_vocab_txt(&bytes, settings.bert())?))
    } else if let Some(vocab) = read(folder, "vocab.json", &mut used)?
        && let Some(merges) = read(folder, "merges.txt", &mut used)?
    {
        Inner::Library(Box::new(Library::from_vocab_and_merges(&vocab, &merges)?))
    } else if let Some(bytes) = first(folder, &openai::FILES, &mut used)? {
        let (vocab, merges) = openai::vocab_and_merges(&bytes)?;
        Inner::Library(Box::new(Library::from_vocab_and_merges(&vocab, &merges)?))
    } else {
        return Err(Error::Missing { folder: place.to_owned() });
    };
    used.extend(settings_used);
    Ok(finish(inner, &settings, used))
}

pub(crate) fn open_json(bytes: &[u8]) -> Result<Tokenizer, Error> {
    let settings = Settings::default();
    Ok(finish(from_json(bytes, &settings, false)?, &settings, Vec::new()))
}

pub(crate) fn open_sentencepiece(bytes: &[u8]) -> Result<Tokenizer, Error> {
    let settings = Settings::default();
    Ok(finish(from_sentencepiece(bytes, &settings)?, &settings, Vec::new()))
}

fn finish(inner: Inner, settings: &Settings, source_files: Vec<PathBuf>) -> Tokenizer {
    let named = settings.named("pad_token").and_then(|token| inner.id(&token.content));
    let usual = ["<pad>", "[PAD]", "<|endoftext|>"].into_iter();
    let pad_id = named.or_else(|| usual.filter_map(|name| inner.id(name)).next()).unwrap_or(0);
    Tokenizer { inner, pad_id, source_files }
}

fn from_json(bytes: &[u8], settings: &Settings, in_folder: bool) -> Result<Inner, Error> {
    match tokenizer_json::parse(bytes, settings.unigram())? {
        Parsed::Unigram(pipeline) => Ok(Inner::Unigram(pipeline)),
        Parsed::Other => {
            let file = library::json_value(bytes, tokenizer_json::FILE)?;
            // Upstream: the classes of transformers set BERT's normaliser anew from
            // tokenizer_config.json, with lower case where it says nothing.
            let bert = in_folder.then(|| settings.bert());
            Ok(Inner::Library(Box::new(Library::from_json(file, tokenizer_json::FILE, bert)?)))
        }
    }
}

fn from_sentencepiece(bytes: &[u8], settings: &Settings) -> Result<Inner, Error> {
    let file = sentencepiece::Model::parse(bytes)?;
    let names = Names {
        bos: settings.name("bos_token", "<s>"),
        pad: settings.name("pad_token", "<pad>"),
        eos: settings.name("eos_token", "</s>"),
        unknown: settings.name("unk_token", "<unk>"),
        mask: settings.name("mask_token", "<mask>"),
    };
    let pieces = file.xlmr_pieces(&names)?;
    let model = tokenizer_json::unigram(pieces, 3, sentencepiece::FILE)?;
    let mut tokens: Vec<AddedToken> =
        [&names.bos, &names.eos, &names.unknown, &names.pad, &names.mask]
            .map(|name| AddedToken::special(name))
            .into();
    let mut words = METASPACE;
    let overrides = settings.unigram();
    overrides.apply(&mut tokens, &mut words);
    // Upstream: control and user-defined pieces become special tokens too.
    for (piece, _) in file.marked.iter().filter_map(|index| file.pieces.get(*index)) {
        if tokens.iter().all(|token| token.content != *piece) {
            tokens.push(AddedToken::special(piece));
        }
    }
    let normalizer = sentencepiece::normalizer(file.charsmap)?;
    let mut pipeline = Pipeline::new(model, normalizer, words, tokens)?;
    pipeline.prefix = vec![0];
    pipeline.suffix = vec![2];
    Ok(Inner::Unigram(Box::new(pipeline)))
}
