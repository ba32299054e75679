//! Reads tokenizer.json: the file as a stream, so that its vocabulary goes straight into place.
//!
//! The vocabulary's form tells the kind: a list of pieces with scores is Unigram and is kept; a map
//! belongs to WordPiece or byte BPE, which `library` reads from the same bytes.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;

use crate::Error;
use crate::added::AddedToken;
use crate::components;
use crate::pieces::{Pieces, Refusal};
use crate::pipeline::{Pipeline, WordRule};
use crate::unigram::Unigram;

pub(crate) const FILE: &str = "tokenizer.json";

/// What tokenizer.json turned out to be.
pub(crate) enum Parsed {
    Unigram(Box<Pipeline>),
    /// A tokenizer with a map as vocabulary.
    Other,
}

/// Settings of the files beside it that change a Unigram tokenizer.
#[derive(Default)]
pub(crate) struct Overrides {
    /// Added tokens that replace those of the same content.
    pub(crate) replace: Vec<AddedToken>,
    /// Added tokens that are added where there is none of the same content.
    pub(crate) add: Vec<AddedToken>,
    pub(crate) add_prefix_space: Option<bool>,
}

impl Overrides {
    pub(crate) fn apply(self, tokens: &mut Vec<AddedToken>, words: &mut WordRule) {
        // A later token of the same content replaces the earlier one.
        tokens.extend(self.replace);
        for token in self.add {
            if tokens.iter().all(|known| known.content != token.content) {
                tokens.push(token);
            }
        }
        if let Some(prepend) = self.add_prefix_space {
            words.prepend = prepend;
        }
    }
}

/// Reads a whole file.
///
/// # Errors
/// E3001 to E3005, see [`Error`].
pub(crate) fn parse(bytes: &[u8], overrides: Overrides) -> Result<Parsed, Error> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::Kind {
        file: FILE,
        what: "text that is not UTF-8".to_owned(),
        offset: Some(e.valid_up_to()),
    })?;
    // While the vocabulary is read: the index of the entry.
    let reading = Cell::new(None);
    let mut json = serde_json::Deserializer::from_str(text);
    let file = FileSeed { reading: &reading, bytes: text.len() }
        .deserialize(&mut json)
        .and_then(|file| json.end().map(|()| file))
        .map_err(|source| match reading.get() {
            Some(index) => Refusal::Problem(
                "cannot be read: it must be a piece and a finite number",
            )
            .at(FILE, index, source.line(), ""),
            None => Error::Json { file: FILE, source },
        })?;
    file.build(overrides)
}

/// The parts of the file. A part that is not there is null.
#[derive(Default)]
struct File {
    added_tokens: Vec<AddedToken>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    model: Option<Model>,
}

#[derive(Default)]
struct Model {
    kind: Option<String>,
    unk_id: Option<u64>,
    byte_fallback: bool,
    vocab: Option<Vocab>,
}

enum Vocab {
    Pieces(Pieces),
    Refused(Error),
    Map,
}

impl File {
    fn build(self, overrides: Overrides) -> Result<Parsed, Error> {
        let other = |what: &str| Error::Kind { file: FILE, what: what.to_owned(), offset: None };
        let model = self.model.ok_or(other("it has no model"))?;
        let pieces = match model.vocab.ok_or(other("its model has no vocabulary"))? {
            Vocab::Map => return Ok(Parsed::Other),
            Vocab::Refused(error) => return Err(error),
            Vocab::Pieces(pieces) => pieces,
        };
        let unsupported = |name: String| Error::Component { place: "model", name };
        if let Some(kind) = model.kind.filter(|kind| kind != "Unigram") {
            return Err(unsupported(format!("{kind} with a list as vocabulary")));
        }
        if model.byte_fallback {
            return Err(unsupported("byte_fallback".to_owned()));
        }
        let Some(unknown) = model.unk_id.filter(|id| *id < pieces.len() as u64) else {
            return Err(unsupported("unk_id outside the vocabulary".to_owned()));
        };
        let unigram = unigram(pieces, unknown as u32, FILE)?;
        let normalizer = components::normalizer(&self.normalizer)?;
        drop(self.normalizer);
        let mut words = components::pre_tokenizer(&self.pre_tokenizer)?;
        let mut tokens = self.added_tokens;
        overrides.apply(&mut tokens, &mut words);
        let mut pipeline = Pipeline::new(unigram, normalizer, words, tokens)?;
        (pipeline.prefix, pipeline.suffix) = components::post_processor(&self.post_processor)?;
        Ok(Parsed::Unigram(Box::new(pipeline)))
    }
}

/// The model of the pieces; a piece that occurs twice is refused.
pub(crate) fn unigram(pieces: Pieces, unknown: u32, file: &'static str) -> Result<Unigram, Error> {
    Unigram::new(pieces, unknown)
        .map_err(|(id, piece)| Refusal::Problem("occurs twice").at(file, id as usize, 0, &piece))
}

struct FileSeed<'c> {
    reading: &'c Cell<Option<usize>>,
    bytes: usize,
}

impl<'de> DeserializeSeed<'de> for FileSeed<'_> {
    type Value = File;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<File, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FileSeed<'_> {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tokenizer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let mut file = File::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "added_tokens" => {
                    file.added_tokens = map.next_value::<Option<_>>()?.unwrap_or_default();
                }
                "normalizer" => file.normalizer = map.next_value()?,
                "pre_tokenizer" => file.pre_tokenizer = map.next_value()?,
                "post_processor" => file.post_processor = map.next_value()?,
                "model" => {
                    let seed = ModelSeed { reading: self.reading, bytes: self.bytes };
                    file.model = Some(map.next_value_seed(seed)?);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(file)
    }
}

struct ModelSeed<'c> {
    reading: &'c Cell<Option<usize>>,
    bytes: usize,
}

impl<'de> DeserializeSeed<'de> for ModelSeed<'_> {
    type Value = Model;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Model, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ModelSeed<'_> {
    type Value = Model;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tokenizer model")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Model, A::Error> {
        let mut model = Model::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "type" => model.kind = map.next_value()?,
                "unk_id" => model.unk_id = map.next_value()?,
                "byte_fallback" => {
                    model.byte_fallback = map.next_value::<Option<_>>()?.unwrap_or_default();
                }
                "vocab" => {
                    let seed = VocabSeed { reading: self.reading, bytes: self.bytes };
                    model.vocab = Some(map.next_value_seed(seed)?);
                    self.reading.set(None);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(model)
    }
}

struct VocabSeed<'c> {
    reading: &'c Cell<Option<usize>>,
    bytes: usize,
}

impl<'de> DeserializeSeed<'de> for VocabSeed<'_> {
    type Value = Vocab;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Vocab, D::Error> {
        from.deserialize_any(self)
    }
}

#[derive(serde::Deserialize)]
struct Entry<'a>(#[serde(borrow)] Cow<'a, str>, f64);

impl<'de> Visitor<'de> for VocabSeed<'_> {
    type Value = Vocab;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vocabulary")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vocab, A::Error> {
        // An entry takes at least `["a",0],`; the buffers cannot outgrow the file.
        let mut pieces = Pieces::with_capacity(self.bytes / 64, self.bytes / 6);
        self.reading.set(Some(0));
        while let Some(Entry(piece, score)) = seq.next_element()? {
            let index = pieces.len();
            if let Err(why) = pieces.push(&piece, score) {
                self.reading.set(None);
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Vocab::Refused(why.at(FILE, index, 0, &piece)));
            }
            self.reading.set(Some(index + 1));
        }
        Ok(Vocab::Pieces(pieces))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vocab, A::Error> {
        IgnoredAny::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok(Vocab::Map)
    }
}
