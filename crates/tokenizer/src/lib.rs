//! Text to ids, as transformers gives them.
//!
//! XLM-R's Unigram (AltCLIP) has its own encoder here, because the usual library needs half a second
//! and 430 MB to load its 250,002 pieces: read `pipeline.rs` (the way of a text), then `unigram.rs`
//! (the cut of a word) and `trie.rs`. WordPiece (BERT) and byte BPE (CLIP) come from the `tokenizers`
//! crate, behind a check of what their files ask for (`library.rs`).
//!
//! ```no_run
//! let tokenizer = altclip_tokenizer::Tokenizer::from_dir("model".as_ref())?;
//! let encoding = tokenizer.encode("一张猫的照片", altclip_tokenizer::DEFAULT_MAX_LENGTH)?;
//! println!("{:?}, truncated: {}", encoding.input_ids, encoding.truncated);
//! # Ok::<(), altclip_tokenizer::Error>(())
//! ```
//!
//! A text goes through in one pass; beside the ids asked for, memory does not grow with it as long
//! as no added token is matched in normalised text and the normaliser is a charsmap alone, which is
//! how XLM-R's files are.
#![forbid(unsafe_code)]

mod added;
mod charsmap;
mod components;
mod error;
mod folder;
mod library;
mod normalizer;
mod openai;
mod pieces;
mod pipeline;
mod sentencepiece;
mod text;
mod tokenizer_json;
mod trie;
mod unigram;

pub use error::Error;
pub use folder::{FILES, Lookup, MAX_FILE_BYTES};
pub use pieces::{MAX_PIECE_BYTES, MAX_PIECES};
pub use text::{MAX_TEXT_BYTES, check_size, from_utf8};

use std::path::{Path, PathBuf};

use crate::library::{Library, Model};
use crate::pipeline::Pipeline;

/// Tokens of a text, special tokens included, beyond which it is truncated unless asked otherwise.
pub const DEFAULT_MAX_LENGTH: usize = 77;

/// What cuts words into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// sentencepiece Unigram (XLM-R).
    Unigram,
    /// Longest match first (BERT).
    WordPiece,
    /// Byte pairs merged by rank (CLIP).
    ByteBpe,
}

/// The ids of one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Ids with the special tokens, at most the maximal length; not padded.
    pub input_ids: Vec<u32>,
    /// Whether tokens are missing. The closing special token never is.
    pub truncated: bool,
    /// Tokens of the whole text with the special tokens.
    pub tokens_total: usize,
}

impl Encoding {
    /// This encoding, if it is whole.
    ///
    /// # Errors
    /// [`Error::TooManyTokens`] if it was truncated.
    pub fn whole(self) -> Result<Self, Error> {
        match self.truncated {
            true => {
                let limit = self.input_ids.len();
                Err(Error::TooManyTokens { found: self.tokens_total, limit })
            }
            false => Ok(self),
        }
    }
}

/// A tokenizer, ready to use from any thread.
pub struct Tokenizer {
    inner: Inner,
    pad_id: u32,
    source_files: Vec<PathBuf>,
}

enum Inner {
    Unigram(Box<Pipeline>),
    Library(Box<Library>),
}

impl Inner {
    fn id(&self, token: &str) -> Option<u32> {
        match self {
            Inner::Unigram(pipeline) => pipeline.id(token),
            Inner::Library(library) => library.id(token),
        }
    }
}

impl Tokenizer {
    /// The tokenizer of a model folder: `tokenizer.json`, else `sentencepiece.bpe.model`, else
    /// `vocab.txt` (BERT), else `vocab.json` with `merges.txt` (CLIP), else the file that CLIP's authors
    /// publish, with the settings of `tokenizer_config.json` and `special_tokens_map.json` that change ids.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none, [`Error::Read`] if a file cannot be read, otherwise as
    /// [`Tokenizer::from_tokenizer_json`].
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        folder::open_folder(dir)
    }

    /// The same from files that `files` gives by their names, of [`FILES`]; `place` is where they are,
    /// for messages.
    ///
    /// # Errors
    /// As [`Tokenizer::from_dir`], and those of `files`.
    pub fn from_files(place: &Path, files: Lookup<'_>) -> Result<Self, Error> {
        folder::open(files, place)
    }

    /// The tokenizer of a tokenizer.json.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::Kind`] and [`Error::Library`] for a damaged file, [`Error::Piece`],
    /// [`Error::Charsmap`], [`Error::Component`] and [`Error::Limit`] for what it holds.
    pub fn from_tokenizer_json(bytes: &[u8]) -> Result<Self, Error> {
        folder::open_json(bytes)
    }

    /// XLM-R's tokenizer of a sentencepiece Unigram model: ids moved by one, `<mask>` last.
    ///
    /// # Errors
    /// As [`Tokenizer::from_tokenizer_json`].
    pub fn from_sentencepiece(bytes: &[u8]) -> Result<Self, Error> {
        folder::open_sentencepiece(bytes)
    }

    /// The ids of `text`, at most `max_length` of them with the special tokens.
    ///
    /// # Errors
    /// [`Error::MaxLength`] if the special tokens alone are more, [`Error::Library`] if WordPiece or
    /// byte BPE cannot encode the text.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<Encoding, Error> {
        let (prefix, suffix) = match &self.inner {
            Inner::Unigram(pipeline) => (&pipeline.prefix, &pipeline.suffix),
            Inner::Library(library) => (&library.prefix, &library.suffix),
        };
        let special_tokens = prefix.len() + suffix.len();
        let room = max_length
            .checked_sub(special_tokens)
            .ok_or(Error::MaxLength { max_length, special_tokens })?;
        let (ids, total) = match &self.inner {
            Inner::Unigram(pipeline) => pipeline.encode(text, room),
            Inner::Library(library) => {
                let mut ids = library.encode(text)?;
                let total = ids.len();
                ids.truncate(room);
                (ids, total)
            }
        };
        let mut input_ids = Vec::with_capacity(ids.len() + special_tokens);
        input_ids.extend_from_slice(prefix);
        input_ids.extend_from_slice(&ids);
        input_ids.extend_from_slice(suffix);
        let tokens_total = total.saturating_add(special_tokens);
        Ok(Encoding { input_ids, truncated: total > room, tokens_total })
    }

    /// Number of ids: the highest plus one.
    pub fn vocab_size(&self) -> usize {
        match &self.inner {
            Inner::Unigram(pipeline) => pipeline.vocab_size(),
            Inner::Library(library) => library.vocab_size,
        }
    }

    /// The id with which shorter texts of a batch are filled up.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// What cuts words into tokens.
    pub fn kind(&self) -> Kind {
        match &self.inner {
            Inner::Unigram(_) => Kind::Unigram,
            Inner::Library(library) => match library.model {
                Model::WordPiece => Kind::WordPiece,
                Model::ByteBpe => Kind::ByteBpe,
            },
        }
    }

    /// The files that were read, the vocabulary first; empty if it came from memory.
    pub fn source_files(&self) -> &[PathBuf] {
        &self.source_files
    }

    /// The token of an id.
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.inner {
            Inner::Unigram(pipeline) => pipeline.token(id).map(str::to_owned),
            Inner::Library(library) => library.token(id),
        }
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.id(token)
    }

    /// A number that differs between vocabularies: FNV-1a over every token in the order of the ids,
    /// and over the scores of a Unigram model.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for id in 0..u32::try_from(self.vocab_size()).unwrap_or(u32::MAX) {
            add(self.token(id).unwrap_or_default().as_bytes());
            add(&[0xff]);
        }
        if let Inner::Unigram(pipeline) = &self.inner {
            pipeline.model.pieces.scores().iter().for_each(|score| add(&score.to_le_bytes()));
        }
        hash
    }

    /// Checks that a word table of `rows` rows has one for each id.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it has not.
    pub fn check_rows(&self, rows: usize) -> Result<(), Error> {
        match self.vocab_size() {
            vocab_size if vocab_size > rows => Err(Error::Mismatch { vocab_size, rows }),
            _ => Ok(()),
        }
    }
}
