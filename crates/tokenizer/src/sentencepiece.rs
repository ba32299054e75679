//! Reads a sentencepiece model: the few fields of its protobuf that a Unigram tokenizer needs.
//!
//! `ModelProto`: 1 pieces (1 piece, 2 score, 3 type), 2 trainer_spec (3 model_type), 3
//! normalizer_spec (2 precompiled_charsmap). Source: sentencepiece's `sentencepiece_model.proto`.

use crate::Error;
use crate::charsmap::Charsmap;
use crate::normalizer::{Normalizer, Step};
use crate::pieces::{MAX_PIECES, Pieces, Refusal};

pub(crate) const FILE: &str = "sentencepiece.bpe.model";

/// `TrainerSpec.ModelType.UNIGRAM`.
const UNIGRAM: u64 = 1;
/// `SentencePiece.Type`: `CONTROL` and `USER_DEFINED` pieces are found in the text as they are.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// What the file says.
pub(crate) struct Model<'a> {
    /// Piece and score, in the order of the file.
    pub(crate) pieces: Vec<(&'a str, f32)>,
    /// Indices of the control and user-defined pieces.
    pub(crate) marked: Vec<usize>,
    pub(crate) charsmap: Option<&'a [u8]>,
}

impl<'a> Model<'a> {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Kind`] if it is damaged or not a Unigram model, [`Error::Piece`] and
    /// [`Error::Limit`] for its vocabulary.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        // A piece takes about twenty bytes of the file.
        let pieces = Vec::with_capacity(bytes.len() / 16);
        let mut model = Self { pieces, marked: Vec::new(), charsmap: None };
        let mut kind = UNIGRAM;
        let mut file = Message { bytes, at: 0, start: 0 };
        while let Some((field, value)) = file.next()? {
            match (field, value) {
                (1, Value::Bytes(start, bytes)) => {
                    model.add_piece(Message { bytes, at: 0, start })?
                }
                (2, Value::Bytes(start, bytes)) => {
                    let mut trainer = Message { bytes, at: 0, start };
                    while let Some((field, value)) = trainer.next()? {
                        if let (3, Value::Number(number)) = (field, value) {
                            kind = number;
                        }
                    }
                }
                (3, Value::Bytes(start, bytes)) => {
                    let mut normalizer = Message { bytes, at: 0, start };
                    while let Some((field, value)) = normalizer.next()? {
                        if let (2, Value::Bytes(_, bytes)) = (field, value) {
                            model.charsmap = Some(bytes).filter(|bytes| !bytes.is_empty());
                        }
                    }
                }
                _ => {}
            }
        }
        let other = |what: String| Error::Kind { file: FILE, what, offset: None };
        match kind {
            UNIGRAM if model.pieces.is_empty() => Err(other("it has no pieces".to_owned())),
            UNIGRAM => Ok(model),
            2 => Err(other("a sentencepiece BPE model".to_owned())),
            kind => Err(other(format!("a sentencepiece model of type {kind}"))),
        }
    }

    fn add_piece(&mut self, mut message: Message<'a>) -> Result<(), Error> {
        let index = self.pieces.len();
        let (mut piece, mut score, mut kind): (&[u8], f32, u64) = (&[], 0.0, 1);
        while let Some((field, value)) = message.next()? {
            match (field, value) {
                (1, Value::Bytes(_, bytes)) => piece = bytes,
                (2, Value::Float(number)) => score = number,
                (3, Value::Number(number)) => kind = number,
                _ => {}
            }
        }
        let Ok(piece) = std::str::from_utf8(piece) else {
            let problem = Refusal::Problem("is not UTF-8");
            return Err(problem.at(FILE, index, 0, &String::from_utf8_lossy(piece)));
        };
        if index >= MAX_PIECES {
            let (what, found) = ("the vocabulary is", index + 1);
            return Err(Error::Limit { what, found, limit: MAX_PIECES });
        }
        if kind == CONTROL || kind == USER_DEFINED {
            self.marked.push(index);
        }
        self.pieces.push((piece, score));
        Ok(())
    }

    /// XLM-R's vocabulary: `<s> <pad> </s> <unk>`, the pieces from the fourth on, `<mask>`.
    ///
    /// # Errors
    /// As [`Model::parse`].
    pub(crate) fn xlmr_pieces(&self, names: &Names) -> Result<Pieces, Error> {
        let bytes = self.pieces.iter().map(|(piece, _)| piece.len()).sum::<usize>();
        let mut pieces = Pieces::with_capacity(self.pieces.len() + 2, bytes + 64);
        let first = [&names.bos, &names.pad, &names.eos, &names.unknown].map(|n| (n.as_str(), 0.0));
        let own = self.pieces.iter().skip(3).copied();
        for (id, (piece, score)) in
            first.into_iter().chain(own).chain([(names.mask.as_str(), 0.0)]).enumerate()
        {
            let index = id.saturating_sub(1);
            pieces.push(piece, f64::from(score)).map_err(|why| why.at(FILE, index, 0, piece))?;
        }
        Ok(pieces)
    }
}

/// The special tokens that transformers puts around the pieces.
pub(crate) struct Names {
    pub(crate) bos: String,
    pub(crate) pad: String,
    pub(crate) eos: String,
    pub(crate) unknown: String,
    pub(crate) mask: String,
}

impl Default for Names {
    fn default() -> Self {
        let [bos, pad, eos, unknown, mask] =
            ["<s>", "<pad>", "</s>", "<unk>", "<mask>"].map(str::to_owned);
        Self { bos, pad, eos, unknown, mask }
    }
}

enum Value<'a> {
    Number(u64),
    Float(f32),
    /// Position in the file, and the bytes.
    Bytes(usize, &'a [u8]),
    Other,
}

/// A protobuf message that is read field by field.
struct Message<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Position in the file of the first byte.
    start: usize,
}

impl<'a> Message<'a> {
    fn damaged<T>(&self, what: &str) -> Result<T, Error> {
        let offset = Some(self.start + self.at);
        Err(Error::Kind { file: FILE, what: format!("damaged protobuf, {what}"), offset })
    }

    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Error> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Other
            }
            2 => {
                let length = self.varint()?;
                let start = self.start + self.at;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Value::Bytes(start, self.take(length)?)
            }
            5 => {
                let (bytes, _) = self.take(4)?.as_chunks::<4>();
                bytes.first().map_or(Value::Other, |bytes| Value::Float(f32::from_le_bytes(*bytes)))
            }
            _ => return self.damaged("unknown wire type"),
        };
        match key >> 3 {
            0 => self.damaged("field number 0"),
            field => Ok(Some((field, value))),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(length);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(bytes) => {
                self.at += length;
                Ok(bytes)
            }
            None => self.damaged("a field is longer than its message"),
        }
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut number = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return self.damaged("a number is cut off");
            };
            self.at += 1;
            // As protobuf does, bits beyond the 64th are dropped.
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        self.damaged("a number has more than ten bytes")
    }
}

/// The normaliser of a model: its charsmap, if it has one.
pub(crate) fn normalizer(charsmap: Option<&[u8]>) -> Result<Normalizer, Error> {
    let step = charsmap.map(Charsmap::parse).transpose()?.map(Step::Charsmap);
    Ok(Normalizer { steps: step.into_iter().collect() })
}
