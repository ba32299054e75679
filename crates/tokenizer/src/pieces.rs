//! The vocabulary of a Unigram model: every piece in one buffer, with its score.

use crate::Error;

/// Most entries of a vocabulary (XLM-R has 250,002).
pub const MAX_PIECES: usize = 2_000_000;
/// Longest entry of a vocabulary, in bytes (sentencepiece stops at 16 characters by default).
pub const MAX_PIECE_BYTES: usize = 1024;

/// Pieces by id.
#[derive(Default)]
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    scores: Vec<f64>,
    longest: usize,
}

/// Why a piece was refused; the caller knows the file and the line.
pub(crate) enum Refusal {
    Problem(&'static str),
    Limit { what: &'static str, found: usize, limit: usize },
}

impl Refusal {
    pub(crate) fn at(self, file: &'static str, index: usize, line: usize, piece: &str) -> Error {
        match self {
            Refusal::Problem(problem) => {
                Error::Piece { file, index, line, piece: piece.to_owned(), problem }
            }
            Refusal::Limit { what, found, limit } => Error::Limit { what, found, limit },
        }
    }
}

impl Pieces {
    pub(crate) fn with_capacity(pieces: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(pieces.min(MAX_PIECES)),
            scores: Vec::with_capacity(pieces.min(MAX_PIECES)),
            longest: 0,
        }
    }

    /// Adds the piece of the next id.
    pub(crate) fn push(&mut self, piece: &str, score: f64) -> Result<(), Refusal> {
        if piece.is_empty() {
            return Err(Refusal::Problem("is empty"));
        }
        if !score.is_finite() {
            return Err(Refusal::Problem("has a score that is not a finite number"));
        }
        if piece.len() > MAX_PIECE_BYTES {
            let (found, limit) = (piece.len(), MAX_PIECE_BYTES);
            return Err(Refusal::Limit {
                what: "the bytes of a vocabulary entry are",
                found,
                limit,
            });
        }
        if self.len() >= MAX_PIECES {
            let (found, limit) = (self.len() + 1, MAX_PIECES);
            return Err(Refusal::Limit { what: "the vocabulary is", found, limit });
        }
        // At most 2·10⁶ pieces of 1024 bytes: the end fits in 31 bits.
        self.bytes.extend_from_slice(piece.as_bytes());
        self.ends.push(self.bytes.len() as u32);
        self.scores.push(score);
        self.longest = self.longest.max(piece.len());
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of the longest piece.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The bytes of a piece (valid UTF-8), empty for an id outside the vocabulary.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = match id.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(0) as usize,
            None => 0,
        };
        let end = self.ends.get(id).copied().unwrap_or(0) as usize;
        self.bytes.get(start..end).unwrap_or(&[])
    }

    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        std::str::from_utf8(self.bytes(id)).ok().filter(|piece| !piece.is_empty())
    }

    pub(crate) fn score(&self, id: u32) -> f64 {
        self.scores.get(id as usize).copied().unwrap_or(f64::NEG_INFINITY)
    }

    pub(crate) fn scores(&self) -> &[f64] {
        &self.scores
    }

    pub(crate) fn lowest_score(&self) -> f64 {
        self.scores.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Gives back what was reserved and not used.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.scores.shrink_to_fit();
    }
}
