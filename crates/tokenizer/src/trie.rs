//! All vocabulary entries that begin a text, found in one walk.
//!
//! A byte trie without its tails: a node under which only one piece remains is a leaf, and the rest
//! of that piece is compared with the text directly. Children of a node lie side by side in the
//! order of their bytes, so a node needs only the first child and the number of children; a node
//! with many children has a 256-bit set beside it, and a child's place is the number of bits below.
//!
//! Building takes one sort and one pass. The sort compares the first 16 bytes of each piece as
//! one integer, and the pass reads its bytes from that integer too, so that both rarely look at the
//! pieces themselves: 250,002 pieces take some 25 ms.

use crate::pieces::Pieces;

const NO_PIECE: u32 = u32::MAX;
/// From so many children on, a bit set is faster than looking through the children's bytes.
const WIDE: usize = 12;

#[derive(Clone, Copy)]
struct Node {
    /// The first child; of a leaf, the number of bytes on the way to it.
    first: u32,
    /// Low 9 bits: number of children. The others: index of the bit set plus one.
    shape: u32,
    /// The piece that ends here.
    piece: u32,
}

impl Node {
    fn n_children(self) -> usize {
        (self.shape & 511) as usize
    }
}

#[derive(Default)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    /// The byte that leads to each node.
    labels: Vec<u8>,
    sets: Vec<[u64; 4]>,
}

/// A piece in the sort: its first 16 bytes, big end first, padded with zeros.
#[derive(Clone, Copy)]
struct Entry {
    key: u128,
    piece: u32,
    len: u32,
}

impl Trie {
    /// The trie of all pieces, or the two ids of a piece that occurs twice.
    pub(crate) fn build(pieces: &Pieces) -> Result<Self, (u32, u32)> {
        let mut entries: Vec<Entry> = (0..pieces.len() as u32)
            .map(|piece| {
                let bytes = pieces.bytes(piece);
                let mut key = [0; 16];
                for (to, from) in key.iter_mut().zip(bytes) {
                    *to = *from;
                }
                Entry { key: u128::from_be_bytes(key), piece, len: bytes.len() as u32 }
            })
            .collect();
        entries.sort_unstable_by(|a, b| {
            a.key.cmp(&b.key).then_with(|| pieces.bytes(a.piece).cmp(pieces.bytes(b.piece)))
        });
        for pair in entries.windows(2) {
            if let [a, b] = pair
                && a.key == b.key
                && pieces.bytes(a.piece) == pieces.bytes(b.piece)
            {
                return Err((a.piece.min(b.piece), a.piece.max(b.piece)));
            }
        }

        let mut trie = Trie::default();
        // Most vocabularies have fewer nodes than that; what is not used is never touched.
        let expected = 2 * entries.len() + 1;
        trie.nodes.reserve(expected);
        trie.labels.reserve(expected);
        // The entries under each node; nodes are numbered level by level.
        let mut ranges = Vec::with_capacity(expected);
        ranges.push((0, entries.len() as u32));
        trie.add(0);
        let mut depth = 0;
        let mut level_end = 1;
        let mut node = 0;
        while let Some(&(start, end)) = ranges.get(node) {
            if node == level_end {
                depth += 1;
                level_end = ranges.len();
            }
            let under = &entries[start as usize..end as usize];
            trie.fill(node, depth, start, under, pieces, &mut ranges);
            node += 1;
        }
        trie.nodes.shrink_to_fit();
        trie.labels.shrink_to_fit();
        Ok(trie)
    }

    fn add(&mut self, label: u8) {
        self.nodes.push(Node { first: 0, shape: 0, piece: NO_PIECE });
        self.labels.push(label);
    }

    /// Gives `node` its piece and its children, whose ranges are appended to `ranges`.
    fn fill(
        &mut self,
        node: usize,
        depth: usize,
        start: u32,
        mut entries: &[Entry],
        pieces: &Pieces,
        ranges: &mut Vec<(u32, u32)>,
    ) {
        let mut start = start;
        if let [only] = entries {
            self.nodes[node] = Node { first: depth as u32, shape: 0, piece: only.piece };
            return;
        }
        let mut piece = NO_PIECE;
        if let [shortest, others @ ..] = entries
            && shortest.len as usize == depth
        {
            piece = shortest.piece;
            entries = others;
            start += 1;
        }
        let label = |entry: &Entry| match depth {
            0..16 => (entry.key >> (120 - 8 * depth)) as u8,
            _ => pieces.bytes(entry.piece).get(depth).copied().unwrap_or(0),
        };
        let first = self.nodes.len();
        let mut set = [0u64; 4];
        for group in entries.chunk_by(|a, b| label(a) == label(b)) {
            let byte = group.first().map_or(0, label);
            self.add(byte);
            let end = start + group.len() as u32;
            ranges.push((start, end));
            start = end;
            set[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
        let n_children = self.nodes.len() - first;
        let mut shape = n_children as u32;
        if n_children >= WIDE {
            self.sets.push(set);
            shape |= (self.sets.len() as u32) << 9;
        }
        self.nodes[node] = Node { first: first as u32, shape, piece };
    }

    fn child(&self, node: Node, byte: u8) -> Option<usize> {
        let first = node.first as usize;
        if let Some(set) = (node.shape >> 9).checked_sub(1) {
            let set = self.sets.get(set as usize)?;
            let word = usize::from(byte >> 6);
            let bit = 1u64 << (byte & 63);
            if set[word] & bit == 0 {
                return None;
            }
            let below = set[..word].iter().map(|w| w.count_ones()).sum::<u32>()
                + (set[word] & (bit - 1)).count_ones();
            return Some(first + below as usize);
        }
        let labels = self.labels.get(first..first + node.n_children())?;
        labels.iter().position(|&label| label == byte).map(|at| first + at)
    }

    /// Calls `visit(length, piece)` for each piece that begins `text`, shortest first.
    #[inline]
    pub(crate) fn prefixes(&self, pieces: &Pieces, text: &[u8], mut visit: impl FnMut(usize, u32)) {
        let mut at = 0;
        let mut next = 0;
        while let Some(&node) = self.nodes.get(next) {
            if node.shape == 0 {
                let piece = pieces.bytes(node.piece);
                if let (Some(rest), Some(text)) = (piece.get(at..), text.get(at..))
                    && text.starts_with(rest)
                    && !piece.is_empty()
                {
                    visit(piece.len(), node.piece);
                }
                return;
            }
            if node.piece != NO_PIECE {
                visit(at, node.piece);
            }
            let Some(child) = text.get(at).and_then(|&byte| self.child(node, byte)) else { return };
            at += 1;
            next = child;
        }
    }

    /// The piece that is exactly `text`.
    pub(crate) fn get(&self, pieces: &Pieces, text: &[u8]) -> Option<u32> {
        let mut found = None;
        self.prefixes(pieces, text, |length, piece| {
            if length == text.len() {
                found = Some(piece);
            }
        });
        found
    }
}
