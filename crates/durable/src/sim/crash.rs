//! What a power cut leaves.

use super::state::{Change, Effect, Inode, Node, State, apply};
use std::collections::BTreeSet;

/// What a disk writes at once or not at all, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// What becomes of the effects that no sync has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Damage {
    /// None reached the disk.
    DropAll,
    /// All did.
    KeepAll,
    /// Names did, contents did not: files are empty.
    NamesOnly,
    /// Names and lengths did, contents did not: files are zeros.
    Zeroed,
    /// Contents did, names did not.
    ContentsOnly,
    /// The last half did, the first did not.
    LastHalf,
    /// Each sector, length and name by the throw of a die with this seed: kept, dropped, zeroed or
    /// torn, in a shuffled order.
    Random(u64),
}

/// The disk after the cut: what is durable is also what is seen, and nothing waits.
pub(super) fn crash(state: &State, damage: Damage) -> State {
    let mut inodes = state.inodes.clone();
    let mut pieces: Vec<Effect> = state.effects.iter().flat_map(sectors).collect();
    let half = pieces.len() / 2;
    let mut die = Die(match damage {
        Damage::Random(seed) => seed,
        _ => 0,
    });
    if matches!(damage, Damage::Random(_)) {
        shuffle(&mut pieces, &mut die);
    }
    for (i, piece) in pieces.iter_mut().enumerate() {
        let is_name = matches!(piece.change, Change::Names(_));
        let is_length = matches!(piece.change, Change::Length(_));
        let keep = match damage {
            Damage::DropAll => false,
            Damage::KeepAll => true,
            Damage::NamesOnly => is_name,
            Damage::Zeroed => is_name || is_length,
            Damage::ContentsOnly => !is_name,
            Damage::LastHalf => i >= half,
            Damage::Random(_) => die.below(2) == 0,
        };
        if !keep {
            continue;
        }
        if let (Damage::Random(_), Change::Write { bytes, .. }) = (damage, &mut piece.change) {
            hurt(bytes, &mut die);
        }
        land(&mut inodes[piece.of].durable, &piece.change);
    }
    let inodes = inodes.into_iter().map(|inode| {
        let durable = inode.durable;
        Inode { seen: durable.clone(), durable }
    });
    let mut after = State { inodes: inodes.collect(), ..State::default() };
    after.write_bytes = state.write_bytes;
    after.free = state.free;
    forget_unreachable(&mut after);
    after
}

/// A write in sectors, after the length that it gives the file; anything else as it is.
fn sectors(effect: &Effect) -> Vec<Effect> {
    let piece = |change| Effect { of: effect.of, change, doomed: effect.doomed };
    let Change::Write { at, bytes } = &effect.change else { return vec![effect.clone()] };
    let mut pieces = vec![piece(Change::Write { at: at + bytes.len(), bytes: Vec::new() })];
    let (mut start, end) = (*at, at + bytes.len());
    while start < end {
        let next = end.min((start / SECTOR_BYTES + 1) * SECTOR_BYTES);
        let bytes = bytes[start - at..next - at].to_vec();
        pieces.push(piece(Change::Write { at: start, bytes }));
        start = next;
    }
    pieces
}

/// Brings a piece to the disk. A sector beyond the end of a file whose length did not get there is
/// lost with it.
fn land(node: &mut Node, change: &Change) {
    match (node, change) {
        (Node::File(file), Change::Write { at, bytes }) if !bytes.is_empty() => {
            let end = file.len().min(at + bytes.len());
            if *at < end {
                file[*at..end].copy_from_slice(&bytes[..end - at]);
            }
        }
        (node, change) => apply(node, change),
    }
}

/// One in four kept sectors is zeroed, one in four torn.
fn hurt(bytes: &mut [u8], die: &mut Die) {
    match die.below(4) {
        0 => bytes.fill(0),
        1 => {
            let torn = die.below(bytes.len().max(1));
            bytes[torn..].fill(0);
        }
        _ => {}
    }
}

/// Empties what no name leads to, so that many crashes of crashes stay small.
fn forget_unreachable(state: &mut State) {
    let mut reached = BTreeSet::from([0]);
    let mut open = vec![0];
    while let Some(id) = open.pop() {
        if let Node::Dir(names) = &state.inodes[id].durable {
            open.extend(names.values().copied().filter(|id| reached.insert(*id)));
        }
    }
    for (id, inode) in state.inodes.iter_mut().enumerate() {
        if !reached.contains(&id) {
            let empty = Node::File(Vec::new());
            *inode = Inode { seen: empty.clone(), durable: empty };
        }
    }
}

/// Any order, but for names among themselves: no file system gives a folder two places.
fn shuffle(pieces: &mut [Effect], die: &mut Die) {
    let is_name = |piece: &Effect| matches!(piece.change, Change::Names(_));
    let names: Vec<Effect> = pieces.iter().filter(|piece| is_name(piece)).cloned().collect();
    for i in (1..pieces.len()).rev() {
        pieces.swap(i, die.below(i + 1));
    }
    for (piece, name) in pieces.iter_mut().filter(|piece| is_name(piece)).zip(names) {
        *piece = name;
    }
}

/// SplitMix64: all that is needed of chance here.
struct Die(u64);

impl Die {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}
