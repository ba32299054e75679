//! Attention over `bf16` tiles: `softmax(scale · q · kᵀ) · v` per segment and head, all products
//! through the blocks of the matrix product.
//!
//! ```text
//! for each segment and head (tasks, in parallel):
//!     the head's keys as panels of kᵀ, its values as panels of v
//!     for each block of 32 queries:
//!         scores  = q · kᵀ                   [32, keys], f32
//!         weights = exp(scale·scores - max)  rounded to bf16, and their sum per row
//!         out     = weights · v / sum        rounded to bf16
//! ```
//!
//! A query that may not see a key has weight 0 there: the row of weights is cut where its keys end,
//! and the rest of the tile is zeros.

mod backward;

use super::tiles::{Tiles, tiles_bytes};
use super::{
    BLOCK_ROWS, BLOCK_SUMS, BlockArgs, PANEL_COLS, PANEL_STEP_BYTES, STEP_BYTES, TILE_BYTES,
    TILE_ROWS,
};
use crate::Pool;
use crate::aligned::with_scratch;
use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;
use crate::elementwise::SendPointer;
use crate::exp::exp_rough;

/// Values of one step.
const STEP_VALUES: usize = STEP_BYTES / 2;
/// Blocks of queries of one task at most, so that long segments make work for all threads.
const TASK_BLOCKS: usize = 16;

/// The arguments of [`Kernels::attention_bf16`].
#[derive(Clone, Copy, Debug)]
pub struct AttentionBf16<'a> {
    /// Queries [Tq, D].
    pub q: Tiles<'a>,
    /// Keys and values side by side [Tk, 2·D].
    pub kv: Tiles<'a>,
    /// Where the segments of the queries begin, and the end of the last: rising, from 0.
    pub query_segments: &'a [usize],
    /// The same for keys and values.
    pub key_segments: &'a [usize],
    /// Number of heads.
    pub heads: usize,
    /// Width of a head.
    pub head_size: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Query `i` of a segment sees only its keys `0 ..= i + (keys - queries)`.
    pub causal: bool,
}

/// Writes `exp(scale·row - max)` in `bf16` to its places in tiles, `out` being the first, and gives
/// back the sum of what was written before it was rounded. The rest of the last tile is zeros.
///
/// # Safety
/// The processor has the instruction set of `V`; `out` is writable for 64 bytes in each of the
/// `row.len() / 32` tiles, 1024 bytes apart.
#[inline(always)]
pub(crate) unsafe fn softmax_bf16<V: F32x16>(row: &[f32], scale: f32, out: *mut u8) -> f32 {
    let len = row.len();
    let whole = len / LANES * LANES;
    let x = row.as_ptr();
    // SAFETY: all offsets stay within the row, and within the tiles that the caller promises.
    unsafe {
        let lowest = V::splat(f32::NEG_INFINITY);
        let mut largest = lowest;
        for at in (0..whole).step_by(LANES) {
            largest = V::load(x.add(at)).max_or(largest);
        }
        if whole < len {
            let rest = V::load_head(x.add(whole), len - whole, f32::NEG_INFINITY);
            largest = rest.max_or(largest);
        }
        // `scale` is positive, so the largest stays the largest.
        let offset = V::splat(-largest.largest() * scale);
        let scale = V::splat(scale);
        let mut sum = V::splat(0.0);
        for at in (0..len.next_multiple_of(STEP_VALUES)).step_by(LANES) {
            let out = out.add(at / STEP_VALUES * TILE_BYTES + at % STEP_VALUES * 2);
            let weights = if at < whole {
                exp_rough(V::load(x.add(at)).fma(scale, offset))
            } else {
                // The rough function of -inf is not quite zero.
                let count = len.saturating_sub(at).min(LANES);
                let lanes = V::load_head(x.add(at.min(len)), count, f32::NEG_INFINITY);
                let weights = exp_rough(lanes.fma(scale, offset));
                lanes.if_less(V::splat(f32::MIN), V::splat(0.0), weights)
            };
            sum = sum + weights;
            weights.store_bf16(out.cast());
        }
        sum.sum()
    }
}

/// The parts of a task's scratch, in bytes.
struct Lens {
    /// Steps of a head, of the keys, and panels of each.
    head_steps: usize,
    key_steps: usize,
    head_panels: usize,
    key_panels: usize,
}

impl Lens {
    fn new(head_size: usize, keys: usize) -> Self {
        Self {
            head_steps: head_size.div_ceil(STEP_VALUES),
            key_steps: keys.div_ceil(STEP_VALUES),
            head_panels: head_size.div_ceil(PANEL_COLS),
            key_panels: keys.div_ceil(PANEL_COLS),
        }
    }

    /// kᵀ panels, v panels, q tiles, weights tiles, all in bytes; scores and sums in values.
    fn parts(&self) -> [usize; 6] {
        [
            self.key_panels * self.head_steps * PANEL_STEP_BYTES,
            self.head_panels * self.key_steps * PANEL_STEP_BYTES,
            2 * self.head_steps * TILE_BYTES,
            2 * self.key_steps * TILE_BYTES,
            self.key_panels * BLOCK_SUMS * 4,
            self.head_panels * BLOCK_SUMS * 4,
        ]
    }
}

impl Kernels {
    /// `out = softmax(scale · q · kᵀ) · v` as `bf16` tiles [Tq, heads · head_size].
    ///
    /// A row of `out` has the same bits whatever else is in the call and on any number of threads.
    /// A query that sees no key gives zeros.
    ///
    /// # Panics
    /// Panics if lengths do not fit each other.
    pub fn attention_bf16(&self, pool: &Pool, args: &AttentionBf16<'_>, out: &mut [u8]) {
        check(args, out);
        let width = args.heads * args.head_size;
        let block = width.div_ceil(STEP_VALUES) * TILE_BYTES;
        if !width.is_multiple_of(STEP_VALUES) {
            // What is behind the last head in its tile must be zeros.
            out.fill(0);
        }
        let mut tasks = Vec::new();
        for (segment, ends) in args.query_segments.windows(2).enumerate() {
            for first in (ends[0]..ends[1]).step_by(TASK_BLOCKS * BLOCK_ROWS) {
                tasks.push((segment, first, ends[1].min(first + TASK_BLOCKS * BLOCK_ROWS)));
            }
        }
        let start = SendPointer(out.as_mut_ptr());
        // Several heads share the 64-byte pieces of a row where a head is no whole number of them:
        // then one task does all heads.
        let shared = !args.head_size.is_multiple_of(STEP_VALUES);
        let per_task = if shared { args.heads } else { 1 };
        let parts = args.heads / per_task;
        pool.run(tasks.len() * parts, &|index| {
            let (segment, first, last) = tasks[index / parts];
            // SAFETY: a table exists only where its instruction set does.
            unsafe { (self.reduced.enter)() };
            for head in index % parts * per_task..(index % parts + 1) * per_task {
                let place = Place { out: start, block };
                // SAFETY: `check` has seen that all rows are there; tasks differ in their queries
                // or in the 64-byte pieces of their heads, and `out` is borrowed exclusively.
                unsafe { self.attention_head(args, segment, head, (first, last), &place) }
            }
            // SAFETY: as for `enter`.
            unsafe { (self.reduced.leave)() };
        });
    }

    /// The queries `first..last` of one segment and head.
    ///
    /// # Safety
    /// `args` has passed [`check`], and nobody else uses these rows' columns of this head.
    unsafe fn attention_head(
        &self,
        args: &AttentionBf16<'_>,
        segment: usize,
        head: usize,
        (first, last): (usize, usize),
        place: &Place,
    ) {
        let size = args.head_size;
        let keys = args.key_segments[segment]..args.key_segments[segment + 1];
        let query_end = args.query_segments[segment + 1];
        let lens = Lens::new(size, keys.len());
        let parts = lens.parts();
        with_scratch(parts.iter().sum::<usize>() / 4, |scratch| {
            let bytes = as_bytes(scratch);
            let (k_panels, bytes) = bytes.split_at_mut(parts[0]);
            let (v_panels, bytes) = bytes.split_at_mut(parts[1]);
            let (q_tiles, bytes) = bytes.split_at_mut(parts[2]);
            let (w_tiles, bytes) = bytes.split_at_mut(parts[3]);
            let (scores, sums) = bytes.split_at_mut(parts[4]);
            let width = args.heads * size;
            pack_keys(&args.kv, keys.clone(), head * size, size, k_panels);
            pack_values(&args.kv, keys.clone(), width + head * size, size, v_panels);
            let score_row = lens.key_panels * PANEL_COLS;
            for row in (first..last).step_by(BLOCK_ROWS) {
                let count = BLOCK_ROWS.min(last - row);
                for r in 0..count {
                    let at =
                        r / TILE_ROWS * lens.head_steps * TILE_BYTES + r % TILE_ROWS * STEP_BYTES;
                    copy_values(&args.q, row + r, head * size, size, &mut q_tiles[at..]);
                }
                self.blocks(q_tiles, lens.head_steps, k_panels, lens.key_panels, count, scores);
                let scores = as_floats(scores);
                let mut factors = [0.0; BLOCK_ROWS];
                for (r, factor) in factors[..count].iter_mut().enumerate() {
                    let behind = query_end - (row + r) - 1;
                    let seen =
                        if args.causal { keys.len().saturating_sub(behind) } else { keys.len() };
                    let at =
                        r / TILE_ROWS * lens.key_steps * TILE_BYTES + r % TILE_ROWS * STEP_BYTES;
                    let weights = &mut w_tiles[at..];
                    for step in seen.div_ceil(STEP_VALUES)..lens.key_steps {
                        weights[step * TILE_BYTES..][..STEP_BYTES].fill(0);
                    }
                    if seen > 0 {
                        let row = &scores[r * score_row..][..seen];
                        // SAFETY: a table exists only where its instruction set does; the row of
                        // weights has a piece in each of `key_steps` tiles.
                        let sum = unsafe {
                            (self.reduced.softmax)(row, args.scale, weights.as_mut_ptr())
                        };
                        *factor = 1.0 / sum;
                    }
                }
                self.blocks(w_tiles, lens.key_steps, v_panels, lens.head_panels, count, sums);
                let sums = as_floats(sums);
                for (r, &factor) in factors[..count].iter().enumerate() {
                    // SAFETY: the row and head are inside `out`, and only this task's.
                    unsafe {
                        let sums = &sums[r * lens.head_panels * PANEL_COLS..];
                        self.write_head(sums, factor, row + r, head * size, size, place);
                    }
                }
            }
        });
    }

    /// The sums of up to 32 rows of `a` with all panels of `b`, side by side: `c` [32, 32 · panels].
    fn blocks(&self, a: &[u8], steps: usize, b: &[u8], panels: usize, rows: usize, c: &mut [u8]) {
        assert!(a.len() >= 2 * steps * TILE_BYTES && b.len() >= panels * steps * PANEL_STEP_BYTES);
        assert!(c.len() >= panels * BLOCK_SUMS * 4);
        for panel in 0..panels {
            let b = &b[panel * steps * PANEL_STEP_BYTES..];
            // SAFETY: a table exists only where its instruction set does; the lengths are checked.
            unsafe {
                (self.reduced.block_bf16)(&BlockArgs {
                    steps,
                    rows,
                    a: a.as_ptr(),
                    a_block: steps * TILE_BYTES,
                    b: b.as_ptr(),
                    c: c[panel * PANEL_COLS * 4..].as_mut_ptr(),
                    c_row: panels * PANEL_COLS * 4,
                    resume: false,
                    prefetch: b.as_ptr(),
                    prefetch_lines: 0,
                });
            }
        }
    }

    /// Writes `factor` times the row `sums` to columns `column..` of row `row`.
    ///
    /// # Safety
    /// The row and its columns are inside the output, and nobody else uses them.
    #[allow(clippy::too_many_arguments, reason = "a row in, a row out, and where")]
    unsafe fn write_head(
        &self,
        sums: &[f32],
        factor: f32,
        row: usize,
        column: usize,
        size: usize,
        place: &Place,
    ) {
        let mut scaled = [0.0; PANEL_COLS];
        for start in (0..size).step_by(PANEL_COLS) {
            let count = PANEL_COLS.min(size - start);
            let block = &sums[start..][..PANEL_COLS];
            let mut rounded = [0u8; STEP_BYTES];
            // SAFETY: a table exists only where its instruction set does; 32 values are one piece.
            unsafe {
                (self.scale)(block, factor, &mut scaled);
                (self.reduced.pack_row)(&scaled, rounded.as_mut_ptr());
            }
            let mut from = 0;
            while from < count {
                let at = column + start + from;
                let piece = (STEP_VALUES - at % STEP_VALUES).min(count - from);
                let to = row / TILE_ROWS * place.block
                    + at / STEP_VALUES * TILE_BYTES
                    + row % TILE_ROWS * STEP_BYTES
                    + at % STEP_VALUES * 2;
                // SAFETY: inside one piece of the row, which the caller promises.
                unsafe {
                    let to = place.out.get().add(to);
                    std::ptr::copy_nonoverlapping(rounded[2 * from..].as_ptr(), to, 2 * piece);
                }
                from += piece;
            }
        }
    }
}

/// Where the output begins, and the bytes of 16 of its rows.
struct Place {
    out: SendPointer<u8>,
    block: usize,
}

/// Copies `count` values of a row from column `first` on into pieces 1024 bytes apart; what is
/// behind them in the last piece becomes zeros.
fn copy_values(x: &Tiles<'_>, row: usize, first: usize, count: usize, out: &mut [u8]) {
    if first.is_multiple_of(STEP_VALUES) && count.is_multiple_of(STEP_VALUES) {
        for step in 0..count / STEP_VALUES {
            let from: &[u8; STEP_BYTES] = x.piece_of(row, first / STEP_VALUES + step);
            if let Some(to) = out[step * TILE_BYTES..].first_chunk_mut() {
                *to = *from;
            }
        }
        return;
    }
    let mut at = 0;
    while at < count.next_multiple_of(STEP_VALUES) {
        let to = at / STEP_VALUES * TILE_BYTES + at % STEP_VALUES * 2;
        if at >= count {
            out[to..to + (STEP_VALUES - at % STEP_VALUES) * 2].fill(0);
            return;
        }
        let column = first + at;
        let piece = (STEP_VALUES - column % STEP_VALUES)
            .min(STEP_VALUES - at % STEP_VALUES)
            .min(count - at);
        let from = &x.piece_of(row, column / STEP_VALUES)[column % STEP_VALUES * 2..][..2 * piece];
        out[to..to + 2 * piece].copy_from_slice(from);
        at += piece;
    }
}

/// One head's keys as panels of kᵀ: `[panel][pair of the head's values][key 32][2]`.
fn pack_keys(
    kv: &Tiles<'_>,
    keys: std::ops::Range<usize>,
    first: usize,
    size: usize,
    panels: &mut [u8],
) {
    let steps = size.div_ceil(STEP_VALUES);
    let panel_bytes = steps * PANEL_STEP_BYTES;
    let mut piece = [0u8; STEP_BYTES];
    for (panel, panels) in panels.chunks_exact_mut(panel_bytes).enumerate() {
        for key in 0..PANEL_COLS {
            let row = keys.start + panel * PANEL_COLS + key;
            for step in 0..steps {
                if row < keys.end {
                    let at = step * STEP_VALUES;
                    let count = STEP_VALUES.min(size - at);
                    copy_values(kv, row, first + at, count, &mut piece);
                } else {
                    piece.fill(0);
                }
                let out = &mut panels[step * PANEL_STEP_BYTES..][..PANEL_STEP_BYTES];
                for (group, pair) in piece.chunks_exact(4).enumerate() {
                    out[group * PANEL_COLS * 4 + key * 4..][..4].copy_from_slice(pair);
                }
            }
        }
    }
}

/// One head's values as panels of v: `[panel][pair of keys][value of the head 32][2]`.
fn pack_values(
    kv: &Tiles<'_>,
    keys: std::ops::Range<usize>,
    first: usize,
    size: usize,
    panels: &mut [u8],
) {
    let steps = keys.len().div_ceil(STEP_VALUES);
    let panel_bytes = steps * PANEL_STEP_BYTES;
    let mut pieces = [[0u8; STEP_BYTES]; 2];
    for (panel, panels) in panels.chunks_exact_mut(panel_bytes.max(1)).enumerate() {
        let at = panel * PANEL_COLS;
        let count = PANEL_COLS.min(size - at);
        for pair in 0..steps * STEP_VALUES / 2 {
            for (half, piece) in pieces.iter_mut().enumerate() {
                let row = keys.start + 2 * pair + half;
                if row < keys.end {
                    copy_values(kv, row, first + at, count, piece);
                } else {
                    piece.fill(0);
                }
            }
            let out = &mut panels[pair * PANEL_COLS * 4..][..PANEL_COLS * 4];
            for (value, out) in out.chunks_exact_mut(4).enumerate() {
                out[..2].copy_from_slice(&pieces[0][2 * value..][..2]);
                out[2..].copy_from_slice(&pieces[1][2 * value..][..2]);
            }
        }
    }
}

/// The bytes of a scratch.
pub(super) fn as_bytes(scratch: &mut [f32]) -> &mut [u8] {
    // SAFETY: every byte of an `f32` is a byte, and the length is the same.
    unsafe { std::slice::from_raw_parts_mut(scratch.as_mut_ptr().cast(), scratch.len() * 4) }
}

/// Numbers in bytes that begin where a scratch, or whole blocks of one, begins.
fn as_floats(bytes: &mut [u8]) -> &mut [f32] {
    assert!((bytes.as_ptr() as usize).is_multiple_of(4), "scratch: not aligned");
    // SAFETY: aligned as checked, every four bytes are an `f32`, and the length is no longer.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / 4) }
}

/// Checks that the arguments fit each other.
///
/// # Panics
/// Panics, saying what does not fit.
fn check(args: &AttentionBf16<'_>, out: &[u8]) {
    check_operands(args);
    let width = args.heads * args.head_size;
    assert_eq!(out.len(), tiles_bytes(args.q.rows(), width), "attention: out is no such tiles");
}

/// The same for the operands alone.
fn check_operands(args: &AttentionBf16<'_>) {
    let width = args.heads * args.head_size;
    assert_eq!(args.q.cols(), width, "attention: width of the queries");
    assert_eq!(args.kv.cols(), 2 * width, "attention: width of keys and values");
    for (name, segments, rows) in
        [("query", args.query_segments, args.q.rows()), ("key", args.key_segments, args.kv.rows())]
    {
        assert_eq!(segments.first(), Some(&0), "attention: {name} segments do not begin at 0");
        assert!(segments.is_sorted(), "attention: {name} segments do not rise");
        assert_eq!(segments.last(), Some(&rows), "attention: {name} segments are not all rows");
    }
    assert_eq!(args.query_segments.len(), args.key_segments.len(), "attention: segments differ");
    assert!(args.scale > 0.0, "attention: scale is not positive");
}
