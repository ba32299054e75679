//! The Unigram model: the cut of a word into pieces with the highest sum of scores (Viterbi).
//!
//! For every position, from left to right, the best score of a path that ends there is known; each
//! piece that starts there offers its end a path. A character that is no piece may be passed as
//! unknown at a penalty; neighbouring unknowns on the best path become one token.
//!
//! A word is cut in one of two ways with the same result:
//! - [`Sink::cut`]: keeps where each best path came from, then walks back from the end. Six bytes
//!   per byte of the word.
//! - [`Stream`]: for words that are too long to keep. A path carries its number of tokens and its
//!   first ids (as many as are asked for), shared between paths; only the positions that a piece can
//!   still reach are alive, so memory does not grow with the word.

use std::collections::HashMap;
use std::rc::Rc;

use crate::pieces::Pieces;
use crate::trie::Trie;

/// From so many tokens on, the cuts of short words are remembered: long texts repeat themselves, and
/// U+FDFA is one character of three bytes that becomes four words.
const REMEMBER_FROM: usize = 512;
/// Longest word and most words that are remembered: less than 1 MiB.
const REMEMBERED_BYTES: usize = 64;
const REMEMBERED_WORDS: usize = 4096;
/// What an unknown character costs below the lowest score of the vocabulary.
const UNKNOWN_PENALTY: f64 = 10.0;
/// Words over this size are cut as a stream.
const STREAM_BYTES: usize = 32 << 10;
/// Beyond so many ids asked for, a path's ids are too long to carry.
const STREAM_IDS: usize = 4096;

/// Pieces, their trie and the id for what is none of them.
pub(crate) struct Unigram {
    pub(crate) pieces: Pieces,
    trie: Trie,
    unknown: u32,
    unknown_score: f64,
}

impl Unigram {
    /// The model of these pieces, or the second id of a piece that occurs twice, and that piece.
    pub(crate) fn new(mut pieces: Pieces, unknown: u32) -> Result<Self, (u32, String)> {
        pieces.shrink();
        let trie = Trie::build(&pieces)
            .map_err(|(_, id)| (id, pieces.text(id).unwrap_or_default().to_owned()))?;
        let unknown_score = pieces.lowest_score() - UNKNOWN_PENALTY;
        Ok(Self { pieces, trie, unknown, unknown_score })
    }

    pub(crate) fn id(&self, piece: &str) -> Option<u32> {
        self.trie.get(&self.pieces, piece.as_bytes())
    }

    /// Slots of a ring in which every position that a piece can reach has its own.
    fn ring_slots(&self) -> usize {
        // A character that is no piece reaches up to four bytes.
        (self.pieces.longest().max(4) + 1).next_power_of_two()
    }

    /// Calls `offer(length, id, score)` for each way on from the start of `text`; gives back the
    /// length of its first character.
    #[inline]
    fn ways(&self, text: &[u8], mut offer: impl FnMut(usize, u32, f64)) -> usize {
        let first = char_bytes(text).max(1);
        let mut known = false;
        self.trie.prefixes(&self.pieces, text, |length, id| {
            known |= length == first;
            offer(length, id, self.pieces.score(id));
        });
        if !known {
            offer(first, self.unknown, self.unknown_score);
        }
        first
    }

    /// The id of a run of unknowns. Upstream: the run is looked up as a whole, and a piece that is
    /// exactly the run wins.
    fn run_id(&self, run: &[u8]) -> u32 {
        if run.len() > self.pieces.longest() {
            return self.unknown;
        }
        self.trie.get(&self.pieces, run).unwrap_or(self.unknown)
    }
}

/// Bytes of the character that `text` starts with, from its lead byte.
fn char_bytes(text: &[u8]) -> usize {
    match text.first() {
        None => 0,
        Some(0..0x80) => 1,
        Some(0x80..0xe0) => 2,
        Some(0xe0..0xf0) => 3,
        Some(0xf0..) => 4,
    }
}

/// Takes the characters of one text and gathers its ids.
pub(crate) struct Sink<'m> {
    model: &'m Unigram,
    /// How many ids are kept; all are counted.
    limit: usize,
    stream_bytes: usize,
    pub(crate) ids: Vec<u32>,
    pub(crate) total: usize,
    word: Vec<u8>,
    stream: Option<Stream>,
    scratch: Scratch,
    remembered: HashMap<Box<[u8]>, Box<[u32]>>,
}

/// Buffers of [`Sink::cut`], kept from word to word.
#[derive(Default)]
struct Scratch {
    /// Best score of each live position and whether there is one.
    ring: Vec<(f64, bool)>,
    /// For each position, the last piece of its best path: length and id.
    lengths: Vec<u16>,
    ids: Vec<u32>,
    found: Vec<u32>,
}

impl<'m> Sink<'m> {
    pub(crate) fn new(model: &'m Unigram, limit: usize) -> Self {
        let stream_bytes = if limit <= STREAM_IDS { STREAM_BYTES } else { usize::MAX };
        Self {
            model,
            limit,
            stream_bytes,
            ids: Vec::new(),
            total: 0,
            word: Vec::new(),
            stream: None,
            scratch: Scratch::default(),
            remembered: HashMap::new(),
        }
    }

    /// Words over `bytes` are cut as a stream.
    #[cfg(test)]
    pub(crate) fn stream_over(mut self, bytes: usize) -> Self {
        self.stream_bytes = bytes;
        self
    }

    /// Adds a character to the word.
    #[inline]
    pub(crate) fn push(&mut self, c: char) {
        if c.is_ascii() {
            self.word.push(c as u8);
        } else {
            self.word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        if self.word.len() > self.stream_bytes {
            let wanted = self.limit.saturating_sub(self.ids.len());
            let stream = self.stream.get_or_insert_with(|| Stream::new(self.model, wanted));
            stream.advance(self.model, &mut self.word, false);
        }
    }

    /// Ends the word: its tokens are appended.
    pub(crate) fn end_word(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            stream.advance(self.model, &mut self.word, true);
            let (ids, total) = stream.finish(self.model, &self.word);
            self.ids.extend_from_slice(&ids);
            self.total = self.total.saturating_add(total);
        } else if !self.word.is_empty() {
            self.end_short_word();
        }
        self.word.clear();
    }

    fn end_short_word(&mut self) {
        let remember = self.total >= REMEMBER_FROM && self.word.len() <= REMEMBERED_BYTES;
        if remember && let Some(known) = self.remembered.get(self.word.as_slice()) {
            self.total = self.total.saturating_add(known.len());
            let wanted = self.limit.saturating_sub(self.ids.len());
            self.ids.extend(known.iter().take(wanted));
            return;
        }
        self.cut();
        if remember && self.remembered.len() < REMEMBERED_WORDS {
            let ids = self.scratch.found.iter().rev().copied().collect();
            self.remembered.insert(self.word.as_slice().into(), ids);
        }
    }

    /// Appends a token that is not part of a word.
    pub(crate) fn token(&mut self, id: u32) {
        self.end_word();
        if self.ids.len() < self.limit {
            self.ids.push(id);
        }
        self.total = self.total.saturating_add(1);
    }

    fn cut(&mut self) {
        let Scratch { ring, lengths, ids, found } = &mut self.scratch;
        let (model, word) = (self.model, self.word.as_slice());
        let mask = model.ring_slots() - 1;
        ring.clear();
        ring.resize(mask + 1, (0.0, false));
        lengths.clear();
        lengths.resize(word.len() + 1, 0);
        ids.clear();
        ids.resize(word.len() + 1, 0);
        let mut start = 0;
        while start < word.len() {
            let (here, _) = std::mem::replace(&mut ring[start & mask], (0.0, false));
            start += model.ways(&word[start..], |length, id, score| {
                let end = start + length;
                let best = &mut ring[end & mask];
                // The first of equals stays: the longest last piece.
                if !best.1 || here + score > best.0 {
                    *best = (here + score, true);
                    lengths[end] = length as u16;
                    ids[end] = id;
                }
            });
        }

        found.clear();
        let mut end = word.len();
        // End of the run of unknowns that is being walked over.
        let mut run = None;
        while end > 0 {
            let start = end - usize::from(lengths[end]).max(1).min(end);
            if ids[end] == model.unknown {
                run = run.or(Some(end));
            } else {
                if let Some(run) = run.take() {
                    found.push(model.run_id(&word[end..run]));
                }
                found.push(ids[end]);
            }
            end = start;
        }
        if let Some(run) = run {
            found.push(model.run_id(&word[..run]));
        }
        self.total = self.total.saturating_add(found.len());
        let wanted = self.limit.saturating_sub(self.ids.len());
        self.ids.extend(found.iter().rev().take(wanted));
    }
}

/// The best path to a position.
#[derive(Clone, Default)]
struct Path {
    /// Its first ids, without the run of unknowns at its end.
    ids: Rc<Vec<u32>>,
    /// Its tokens, without that run.
    total: usize,
    /// Where that run starts.
    unknown_from: Option<usize>,
}

/// A live position of a [`Stream`].
#[derive(Clone, Default)]
struct Slot {
    /// Whether a path ends here, and the score, last length and last id of the best one.
    reached: bool,
    score: f64,
    length: u16,
    id: u32,
    /// That path, once its last piece's start has been passed.
    path: Path,
}

/// A long word that is cut while it arrives.
struct Stream {
    /// Position in the word of the first byte that is still kept.
    base: usize,
    /// First position that has not been passed.
    at: usize,
    slots: Vec<Slot>,
    wanted: usize,
}

impl Stream {
    fn new(model: &Unigram, wanted: usize) -> Self {
        Self { base: 0, at: 0, slots: vec![Slot::default(); model.ring_slots()], wanted }
    }

    /// Passes all positions whose ways on lie within `word`, the kept end of the word, and drops
    /// what is no longer needed of it.
    fn advance(&mut self, model: &Unigram, word: &mut Vec<u8>, ended: bool) {
        let mask = self.slots.len() - 1;
        let ahead = if ended { 0 } else { self.slots.len() };
        while self.at + ahead < self.base + word.len() {
            self.settle(model, word);
            let Some(text) = word.get(self.at - self.base..) else { return };
            let (at, slots) = (self.at, &mut self.slots);
            let here = slots[at & mask].score;
            let first = model.ways(text, |length, id, score| {
                let best = &mut slots[(at + length) & mask];
                if !best.reached || here + score > best.score {
                    best.reached = true;
                    best.score = here + score;
                    best.length = length as u16;
                    best.id = id;
                }
            });
            self.at += first;
        }
        if ended {
            self.settle(model, word);
        } else {
            // A short run of unknowns before the last piece may still be looked up.
            let keep_from = self.at.saturating_sub(2 * self.slots.len());
            word.drain(..keep_from.saturating_sub(self.base).min(word.len()));
            self.base = self.base.max(keep_from);
        }
    }

    /// Makes the path of the current position from that of its best predecessor.
    fn settle(&mut self, model: &Unigram, word: &[u8]) {
        let mask = self.slots.len() - 1;
        let slot = &mut self.slots[self.at & mask];
        slot.reached = false;
        let (length, id) = (usize::from(slot.length), slot.id);
        if self.at == 0 {
            slot.path = Path::default();
            slot.score = 0.0;
            return;
        }
        let start = self.at.saturating_sub(length);
        let before = self.slots[start & mask].path.clone();
        self.slots[self.at & mask].path = if id == model.unknown {
            Path { unknown_from: before.unknown_from.or(Some(start)), ..before }
        } else {
            let before = self.close(model, word, before, start);
            self.with(before, || id)
        };
    }

    /// Turns the run of unknowns before `end` into a token.
    fn close(&self, model: &Unigram, word: &[u8], path: Path, end: usize) -> Path {
        let Some(from) = path.unknown_from else { return path };
        let run = from.checked_sub(self.base).and_then(|from| word.get(from..end - self.base));
        self.with(path, || run.map_or(model.unknown, |run| model.run_id(run)))
    }

    fn with(&self, mut path: Path, id: impl FnOnce() -> u32) -> Path {
        if path.ids.len() < self.wanted {
            let mut ids = Vec::with_capacity(path.ids.len() + 1);
            ids.extend_from_slice(&path.ids);
            ids.push(id());
            path.ids = Rc::new(ids);
        }
        path.unknown_from = None;
        path.total += 1;
        path
    }

    /// The first ids of the whole word and the number of its tokens.
    fn finish(mut self, model: &Unigram, word: &[u8]) -> (Rc<Vec<u32>>, usize) {
        let mask = self.slots.len() - 1;
        let last = std::mem::take(&mut self.slots[self.at & mask].path);
        let last = self.close(model, word, last, self.at);
        (last.ids, last.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Unigram {
        let mut pieces = Pieces::default();
        let list = [
            ("<unk>", 0.0),
            ("a", -2.0),
            ("aa", -3.0),
            ("aaaa", -5.0),
            ("b", -2.5),
            ("ab", -4.5),
            ("ba", -4.5),
            ("é", -6.0),
            ("猫", -4.0),
            ("猫a", -6.0),
            ("xyz", -40.0),
            ("x", -8.0),
        ];
        for (piece, score) in list {
            assert!(pieces.push(piece, score).is_ok());
        }
        Unigram::new(pieces, 0).ok().unwrap()
    }

    fn cut(sink: Sink<'_>, word: &str) -> (Vec<u32>, usize) {
        let mut sink = sink;
        word.chars().for_each(|c| sink.push(c));
        sink.end_word();
        (sink.ids, sink.total)
    }

    #[test]
    fn equals_are_decided_for_the_longer_last_piece() {
        let model = model();
        // `a|ba` and `ab|a` have equal sums; the path that reaches the end from the earliest start
        // was there first.
        assert_eq!(cut(Sink::new(&model, 10), "aba").0, [1, 6]);
        assert_eq!(cut(Sink::new(&model, 10), "zzbz").0, [0, 4, 0]);
        assert_eq!(cut(Sink::new(&model, 2), "aaaaaaaaa"), (vec![1, 3], 3));
    }

    #[test]
    fn a_stream_cuts_as_the_whole_word_does() {
        let model = model();
        let alphabet = ['a', 'a', 'b', 'é', '猫', 'x', 'y', 'z', 'q', '😀', '<'];
        let mut state = 1u32;
        for round in 0..400 {
            let word: String = (0..round % 97)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    alphabet[(state >> 16) as usize % alphabet.len()]
                })
                .collect();
            for limit in [0, 1, 3, 1000] {
                let whole = cut(Sink::new(&model, limit), &word);
                for bytes in [0, 7, 40] {
                    let stream = cut(Sink::new(&model, limit).stream_over(bytes), &word);
                    assert_eq!(stream, whole, "{word:?} limit {limit} stream over {bytes}");
                }
            }
        }
        let long = "a".repeat(200_001);
        assert_eq!(cut(Sink::new(&model, 5), &long).1, cut(Sink::new(&model, usize::MAX), &long).1);
    }
}
