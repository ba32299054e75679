//! Unigram's pieces by expectation and maximisation (Kudo 2018, <https://arxiv.org/abs/1804.10959>), as
//! sentencepiece does it, in one thread and in a fixed order, so that the same texts give the same scores.
//!
//! From many candidates: count how often each piece is expected in all ways to cut the words, drop the pieces
//! whose loss costs least, and again, until few enough are left.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Longest piece, in characters.
const MAX_CHARS: usize = 16;
/// Candidates for each piece that is wanted.
const CANDIDATES: usize = 12;
/// The share of pieces that a round of pruning keeps.
const KEPT: f64 = 0.75;
/// Expectations between two prunings.
const ROUNDS: usize = 2;
/// What a character costs that no cut uses, beyond the rarest piece.
const UNUSED: f64 = 2.0;

/// `size` pieces with their log probabilities, the likeliest first: all characters of `alphabet`, and the best
/// longer ones. Fewer where the words do not give as many, more where the alphabet is larger.
pub(crate) fn train(
    words: &BTreeMap<String, u64>,
    alphabet: &BTreeSet<char>,
    size: usize,
) -> Vec<(String, f64)> {
    let words: Vec<(&str, f64)> =
        words.iter().map(|(word, count)| (word.as_str(), *count as f64)).collect();
    let mut model = Model::new(candidates(&words, alphabet, size * CANDIDATES));
    loop {
        for _ in 0..ROUNDS {
            let expected = model.expected(&words);
            model = model.maximised(&expected);
        }
        if model.pieces.len() <= size {
            break;
        }
        let target = size.max((model.pieces.len() as f64 * KEPT) as usize);
        let before = model.pieces.len();
        model = model.pruned(&words, target);
        if model.pieces.len() == before {
            break;
        }
    }
    let mut pieces: Vec<(String, f64)> =
        model.pieces.into_iter().map(|(piece, score)| (piece.to_owned(), score)).collect();
    pieces.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    pieces
}

fn is_char(piece: &str) -> bool {
    piece.chars().nth(1).is_none()
}

/// Byte positions at which characters begin, and the end.
fn boundaries(word: &str) -> Vec<usize> {
    word.char_indices().map(|(at, _)| at).chain([word.len()]).collect()
}

/// All characters, and the longer parts of words that occur twice and hold the most characters in sum.
fn candidates<'w>(
    words: &[(&'w str, f64)],
    alphabet: &BTreeSet<char>,
    limit: usize,
) -> Vec<(&'w str, f64)> {
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for (word, count) in words {
        let bounds = boundaries(word);
        for (i, from) in bounds.iter().enumerate() {
            for to in bounds.iter().skip(i + 1).take(MAX_CHARS) {
                if let Some(part) = word.get(*from..*to) {
                    *counts.entry(part).or_default() += count;
                }
            }
        }
    }
    let (mut chars, mut longer): (Vec<_>, Vec<_>) =
        counts.into_iter().partition(|(part, _)| is_char(part));
    longer.retain(|(_, count)| *count > 1.0);
    let mass = |(part, count): &(&str, f64)| part.chars().count() as f64 * count;
    longer.sort_by(|a, b| mass(b).total_cmp(&mass(a)).then_with(|| a.0.cmp(b.0)));
    longer.truncate(limit);
    let present: BTreeSet<char> =
        chars.iter().filter_map(|(part, _)| part.chars().next()).collect();
    // Characters that no word has live as long as the program: there are few, and it ends soon.
    let absent = alphabet.difference(&present);
    chars.extend(absent.map(|c| (&*String::leak(c.to_string()), 0.0)));
    chars.extend(longer);
    chars
}

/// Pieces with their scores, and the way back from a piece to its index.
struct Model<'w> {
    pieces: Vec<(&'w str, f64)>,
    index: HashMap<&'w str, usize>,
}

/// A piece in a word, between two of its boundaries.
struct Edge {
    from: usize,
    to: usize,
    piece: usize,
}

impl<'w> Model<'w> {
    /// A model of counts; the scores become log probabilities.
    fn new(counts: Vec<(&'w str, f64)>) -> Self {
        let total: f64 = counts.iter().map(|(_, count)| count).sum();
        let score = |count: f64| (count.max(1e-9) / total).ln();
        let pieces: Vec<_> = counts.iter().map(|(piece, count)| (*piece, score(*count))).collect();
        let index = pieces.iter().enumerate().map(|(i, (piece, _))| (*piece, i)).collect();
        Self { pieces, index }
    }

    fn score(&self, piece: usize) -> f64 {
        self.pieces.get(piece).map_or(f64::NEG_INFINITY, |(_, score)| *score)
    }

    /// Every piece in `word`, in the order of its end, and the number of boundaries.
    fn edges(&self, word: &str) -> (Vec<Edge>, usize) {
        let bounds = boundaries(word);
        let mut edges = Vec::new();
        for (to, end) in bounds.iter().enumerate() {
            let first = to.saturating_sub(MAX_CHARS);
            for (from, start) in bounds.iter().enumerate().take(to).skip(first) {
                let piece = word.get(*start..*end).and_then(|part| self.index.get(part));
                edges.extend(piece.map(|&piece| Edge { from, to, piece }));
            }
        }
        (edges, bounds.len())
    }

    /// How often each piece is expected in the words, over all cuts.
    fn expected(&self, words: &[(&str, f64)]) -> Vec<f64> {
        let mut expected = vec![0.0; self.pieces.len()];
        for (word, count) in words {
            let (edges, n) = self.edges(word);
            let (mut ahead, mut behind) = (vec![f64::NEG_INFINITY; n], vec![f64::NEG_INFINITY; n]);
            set(&mut ahead, 0, 0.0);
            for edge in &edges {
                let through = get(&ahead, edge.from) + self.score(edge.piece);
                let sum = log_add(get(&ahead, edge.to), through);
                set(&mut ahead, edge.to, sum);
            }
            set(&mut behind, n - 1, 0.0);
            for edge in edges.iter().rev() {
                let through = get(&behind, edge.to) + self.score(edge.piece);
                let sum = log_add(get(&behind, edge.from), through);
                set(&mut behind, edge.from, sum);
            }
            let whole = get(&ahead, n - 1);
            for edge in &edges {
                let cut = get(&ahead, edge.from) + self.score(edge.piece) + get(&behind, edge.to);
                if let Some(expected) = expected.get_mut(edge.piece) {
                    *expected += count * (cut - whole).exp();
                }
            }
        }
        expected
    }

    /// The model of the expected counts, without longer pieces that are hardly expected. The digamma function in
    /// place of the logarithm makes rare pieces rarer (sentencepiece does so too).
    fn maximised(self, expected: &[f64]) -> Self {
        let kept: Vec<(&str, f64)> = self
            .pieces
            .iter()
            .zip(expected)
            .filter(|((piece, _), count)| is_char(piece) || **count >= 0.5)
            .map(|((piece, _), count)| (*piece, *count))
            .collect();
        let total = digamma(kept.iter().map(|(_, count)| count).sum());
        let score = |count: f64| digamma(count) - total;
        let rarest = kept.iter().filter(|(_, count)| *count >= 0.5).map(|(_, c)| score(*c));
        let floor = rarest.fold(0.0, f64::min) - UNUSED;
        let pieces: Vec<(&str, f64)> = kept
            .iter()
            .map(|(piece, count)| (*piece, if *count >= 0.5 { score(*count) } else { floor }))
            .collect();
        let index = pieces.iter().enumerate().map(|(i, (piece, _))| (*piece, i)).collect();
        Self { pieces, index }
    }

    /// The best cut of `word` without the piece `without`, as pieces and score.
    fn best(&self, word: &str, without: Option<usize>) -> (Vec<usize>, f64) {
        let (edges, n) = self.edges(word);
        let mut best: Vec<(f64, Option<&Edge>)> = vec![(f64::NEG_INFINITY, None); n];
        if let Some(start) = best.first_mut() {
            start.0 = 0.0;
        }
        for edge in edges.iter().filter(|edge| Some(edge.piece) != without) {
            let through = best.get(edge.from).map_or(f64::NEG_INFINITY, |(score, _)| *score)
                + self.score(edge.piece);
            if let Some(end) = best.get_mut(edge.to)
                && through > end.0
            {
                *end = (through, Some(edge));
            }
        }
        let (mut cut, mut at) = (Vec::new(), n - 1);
        while let Some((_, Some(edge))) = best.get(at) {
            cut.push(edge.piece);
            at = edge.from;
        }
        (cut, best.last().map_or(f64::NEG_INFINITY, |(score, _)| *score))
    }

    /// Keeps all characters and, up to `target` pieces, the longer ones whose loss would cost the texts most:
    /// how often the best cuts use a piece, times what its best replacement scores less.
    fn pruned(self, words: &[(&str, f64)], target: usize) -> Self {
        let mut used = vec![0.0; self.pieces.len()];
        for (word, count) in words {
            for piece in self.best(word, None).0 {
                if let Some(used) = used.get_mut(piece) {
                    *used += count;
                }
            }
        }
        let mut costs: Vec<(f64, usize)> = Vec::new();
        for (i, ((piece, score), used)) in self.pieces.iter().zip(&used).enumerate() {
            if !is_char(piece) {
                let loss = if *used > 0.0 { score - self.best(piece, Some(i)).1 } else { 0.0 };
                costs.push((used * loss, i));
            }
        }
        let chars = self.pieces.len() - costs.len();
        costs.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        costs.truncate(target.saturating_sub(chars));
        let kept: BTreeSet<usize> = costs.into_iter().map(|(_, i)| i).collect();
        let pieces: Vec<(&str, f64)> = self
            .pieces
            .iter()
            .enumerate()
            .filter(|(i, (piece, _))| is_char(piece) || kept.contains(i))
            .map(|(_, piece)| *piece)
            .collect();
        let index = pieces.iter().enumerate().map(|(i, (piece, _))| (*piece, i)).collect();
        Self { pieces, index }
    }
}

fn get(values: &[f64], at: usize) -> f64 {
    values.get(at).copied().unwrap_or(f64::NEG_INFINITY)
}

fn set(values: &mut [f64], at: usize, value: f64) {
    if let Some(place) = values.get_mut(at) {
        *place = value;
    }
}

/// `ln(exp(a) + exp(b))`.
fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// The derivative of the logarithm of the gamma function, for positive numbers.
fn digamma(mut x: f64) -> f64 {
    let mut sum = 0.0;
    // The series below holds to 1e-10 from 7 on.
    while x < 7.0 {
        sum -= 1.0 / x.max(1e-9);
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    sum + x.ln() - 0.5 / x - square * (1.0 / 12.0 - square * (1.0 / 120.0 - square / 252.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[(&str, u64)]) -> BTreeMap<String, u64> {
        list.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
    }

    fn alphabet(words: &BTreeMap<String, u64>) -> BTreeSet<char> {
        words.keys().flat_map(|word| word.chars()).collect()
    }

    #[test]
    fn digamma_at_known_places() {
        // ψ(1) = -γ, ψ(x + 1) = ψ(x) + 1/x.
        assert!((digamma(1.0) + 0.577_215_664_901_532_9).abs() < 1e-9);
        assert!((digamma(10.5) - digamma(9.5) - 1.0 / 9.5).abs() < 1e-9);
    }

    #[test]
    fn expected_counts_are_those_of_all_cuts_written_out() {
        let model = Model::new(vec![("a", 2.0), ("b", 1.0), ("ab", 1.0)]);
        // Cuts of "ab": a·b with 1/2 · 1/4, ab with 1/4: 1/3 and 2/3 of the mass.
        let expected = model.expected(&[("ab", 3.0)]);
        for (found, wanted) in expected.iter().zip([1.0, 1.0, 2.0]) {
            assert!((found - wanted).abs() < 1e-12, "{expected:?}");
        }
        assert_eq!(model.best("ab", None).0, [2]);
        assert_eq!(model.best("ab", Some(2)).0, [1, 0]);
    }

    #[test]
    fn frequent_words_become_pieces_and_characters_stay() {
        let words = words(&[("▁grinning", 50), ("▁face", 80), ("▁facing", 3), ("▁xylophone", 1)]);
        let mut alphabet = alphabet(&words);
        alphabet.insert('鹅');
        let pieces = train(&words, &alphabet, alphabet.len() + 3);
        let has = |piece: &str| pieces.iter().any(|(known, _)| known == piece);
        assert_eq!(pieces.len(), alphabet.len() + 3);
        assert!(has("▁face") && has("▁grinning") && has("鹅"), "{pieces:?}");
        assert!(alphabet.iter().all(|c| has(&c.to_string())));
        assert!(pieces.is_sorted_by(|a, b| a.1 >= b.1));
        assert_eq!(pieces, train(&words, &alphabet, alphabet.len() + 3));
    }
}
