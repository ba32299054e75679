//! Attention over packed rows: `softmax(scale · q · kᵀ) · v` per segment and head.
//!
//! ```text
//! for each segment, head and block of queries (tasks, in parallel):
//!     pack the head's keys as panels of kᵀ and its values as panels of v   (what may be seen only)
//!     for each tile of up to MR queries:
//!         scores  = q · kᵀ                  [MR, keys], register tiles of the matrix product
//!         weights = exp(scale·scores - max), and their sum per row
//!         out     = weights · v / sum
//! ```
//!
//! Only one tile of scores exists per thread. Masked keys are left out when keys are packed, and
//! keys that a causal query may not see are left out of its sums, so what is masked cannot leave
//! a trace in the result: padded and unpadded rows give the same bits, and so do segments alone
//! and together. Sums are `f32`, one accumulator per output in the order of the keys; the sum of
//! the weights is 16 partial sums and a fixed tree.

mod backward;

use std::ops::Range;

pub use backward::AttentionGradients;

use crate::Pool;
use crate::aligned::with_scratch;
use crate::arch::generic::LANES;
use crate::dispatch::Kernels;
use crate::elementwise::SendPointer;
use crate::gemm::{TileArgs, pack_panel, panel_width};

/// Queries of a task where there are segments and heads enough for all threads.
const QUERY_BLOCK: usize = 1024;
/// Queries that a task keeps even if that leaves threads without work: packing must pay.
const QUERY_BLOCK_MIN: usize = 96;
/// Tasks there should be for each thread.
const TASKS_PER_THREAD: usize = 4;

/// The arguments of [`Kernels::attention_f32`].
///
/// Queries, keys and values may be column slices of wider rows (of one [T, 3·D] buffer, say): row
/// `i` of `q` begins at `i · q_stride`, and head `h` of it at `h · head_size` from there.
#[derive(Clone, Copy, Debug)]
pub struct AttentionF32<'a> {
    /// Queries.
    pub q: &'a [f32],
    /// Values from one row of `q` to the next.
    pub q_stride: usize,
    /// Keys.
    pub k: &'a [f32],
    /// Values from one row of `k` to the next.
    pub k_stride: usize,
    /// Values.
    pub v: &'a [f32],
    /// Values from one row of `v` to the next.
    pub v_stride: usize,
    /// Where the segments of the queries begin, and the end of the last: rising, from 0.
    pub query_segments: &'a [usize],
    /// The same for keys and values. Segment `s` of the queries sees segment `s` of the keys.
    pub key_segments: &'a [usize],
    /// Number of heads.
    pub heads: usize,
    /// Width of a head.
    pub head_size: usize,
    /// Factor of the scores, commonly `1 / sqrt(head_size)`.
    pub scale: f32,
    /// Query `i` of a segment sees only its keys `0 ..= i + (keys - queries)`.
    pub causal: bool,
    /// One flag per row of `k`: `false` hides it.
    pub key_mask: Option<&'a [bool]>,
}

impl Kernels {
    /// `out = softmax(scale · q · kᵀ) · v`, `out` [queries, heads · head_size] row after row.
    ///
    /// A row of `out` has the same bits whatever else is in the call, on any number of threads and
    /// on every instruction set. A query that sees no key gives zeros.
    ///
    /// # Panics
    /// Panics if lengths do not fit each other.
    ///
    /// # Numerics
    /// Scores, weights and sums in `f32`; the sum of weights divides at the end.
    pub fn attention_f32(&self, pool: &Pool, args: &AttentionF32<'_>, out: &mut [f32]) {
        check(args, out);
        if out.is_empty() {
            return;
        }
        let tasks = self.attention_tasks(args, pool.threads());
        let start = SendPointer(out.as_mut_ptr());
        pool.run(tasks.len() * args.heads, &|index| {
            let (segment, first, last) = tasks[index / args.heads];
            let head = index % args.heads;
            // SAFETY: `check` has seen that `out` has a row for every query, and that segments
            // rise; tasks differ in their queries or their head, and `out` is borrowed exclusively.
            unsafe { self.attention_task(args, segment, head, first, last, start.get()) }
        });
    }

    /// The runs of queries `(segment, first row, end)` that make a task with each head.
    fn attention_tasks(
        &self,
        args: &AttentionF32<'_>,
        threads: usize,
    ) -> Vec<(usize, usize, usize)> {
        let segments = args.query_segments.len().saturating_sub(1);
        let units = (segments * args.heads).max(1);
        let parts = if threads == 1 { 1 } else { (threads * TASKS_PER_THREAD).div_ceil(units) };
        let mut tasks = Vec::new();
        for (segment, ends) in args.query_segments.windows(2).enumerate() {
            let len = ends[1].saturating_sub(ends[0]);
            let block = len.div_ceil(parts).clamp(QUERY_BLOCK_MIN, QUERY_BLOCK);
            let block = block.next_multiple_of(self.mr);
            for first in (ends[0]..ends[1]).step_by(block) {
                tasks.push((segment, first, ends[1].min(first + block)));
            }
        }
        tasks
    }

    /// The queries `first..last` of one segment and head.
    ///
    /// # Safety
    /// `args` has passed [`check`]; `out` is its output, and nobody else uses these rows' columns
    /// of this head.
    unsafe fn attention_task(
        &self,
        args: &AttentionF32<'_>,
        segment: usize,
        head: usize,
        first: usize,
        last: usize,
        out: *mut f32,
    ) {
        let size = args.head_size;
        let queries = args.query_segments[segment]..args.query_segments[segment + 1];
        let keys = args.key_segments[segment]..args.key_segments[segment + 1];
        let seen = SeenKeys::new(args, queries, keys);
        let padded_keys = seen.rows.len().next_multiple_of(LANES);
        let padded_size = size.next_multiple_of(LANES);
        let lens = [
            padded_keys * size,            // kᵀ
            seen.rows.len() * padded_size, // v
            self.mr * padded_keys,         // scores
            self.mr * padded_size,         // sums of out
        ];
        with_scratch(lens.iter().sum(), |scratch| {
            let (k_panels, scratch) = scratch.split_at_mut(lens[0]);
            let (v_panels, scratch) = scratch.split_at_mut(lens[1]);
            let (scores, sums) = scratch.split_at_mut(lens[2]);
            let column = head * size;
            let k = HeadRows { values: args.k, stride: args.k_stride, column, size };
            let v = HeadRows { values: args.v, stride: args.v_stride, column, size };
            self.pack_columns_of(&k, &seen.rows, k_panels);
            self.pack_rows_of(&v, &seen.rows, v_panels);
            let keys = seen.rows.len();
            let k_panels = Panels { values: k_panels, n: keys, k: size };
            let v_panels = Panels { values: v_panels, n: size, k: keys };
            for row in (first..last).step_by(self.mr) {
                let count = self.mr.min(last - row);
                // SAFETY: queries are rows of `q`, whose length `check` has seen; kᵀ is packed
                // above, and `scores` holds `mr` rows of its padded width.
                unsafe {
                    let q = args.q.as_ptr().add(row * args.q_stride + head * size);
                    let products = Products { a: q, a_row: args.q_stride, rows: count, k: size };
                    self.products(&products, &k_panels, 0, scores, false);
                }
                let mut factors = [0.0; MAX_ROWS];
                for (r, factor) in factors[..count].iter_mut().enumerate() {
                    let visible = seen.visible(row + r);
                    let scores = &mut scores[r * padded_keys..][..visible];
                    // SAFETY: a table exists only where its instruction set does.
                    let sum = unsafe { (self.softmax_weights)(scores, args.scale) };
                    *factor = if visible == 0 { 0.0 } else { 1.0 / sum };
                }
                // All rows of the tile see the keys of its first; the others go on alone, so that
                // what they see and it does not cannot touch it.
                let common = seen.visible(row);
                let weights = scores.as_ptr();
                // SAFETY: `scores` holds `count` rows of `padded_keys`, `common` and `visible` are
                // no more than that, and `sums` holds `mr` rows of the padded head size.
                unsafe {
                    let products =
                        Products { a: weights, a_row: padded_keys, rows: count, k: common };
                    self.products(&products, &v_panels, 0, sums, false);
                    for r in 1..count {
                        let visible = seen.visible(row + r);
                        if visible > common {
                            let products = Products {
                                a: weights.add(r * padded_keys + common),
                                a_row: padded_keys,
                                rows: 1,
                                k: visible - common,
                            };
                            let sums = &mut sums[r * padded_size..];
                            self.products(&products, &v_panels, common, sums, true);
                        }
                    }
                }
                for (r, &factor) in factors[..count].iter().enumerate() {
                    let sums = &sums[r * padded_size..][..size];
                    // SAFETY: row and head are inside `out`, and only this task's.
                    unsafe {
                        let at = ((row + r) * args.heads + head) * size;
                        let out = std::slice::from_raw_parts_mut(out.add(at), size);
                        (self.scale)(sums, factor, out);
                    }
                }
            }
        });
    }

    /// `c (+)= a · b` for a tile of rows and all panels of `b`, whose terms are taken from
    /// `first_term` on; rows of `c` are as far apart as `b` is wide.
    ///
    /// # Safety
    /// `a` is readable as [`Products`] says; `b` has `first_term + k` terms.
    unsafe fn products(
        &self,
        products: &Products,
        b: &Panels<'_>,
        first_term: usize,
        c: &mut [f32],
        resume: bool,
    ) {
        let &Products { a, a_row, rows, k } = products;
        let c_row = b.n.next_multiple_of(LANES);
        debug_assert!(first_term + k <= b.k && c.len() >= (rows - 1) * c_row + c_row);
        for start in (0..b.n).step_by(self.isa.panel_width()) {
            let width = panel_width(self.isa.panel_width(), b.n, start);
            let panel = &b.values[start * b.k + first_term * width..][..k * width];
            // SAFETY: the caller promises `a`; the panel has k terms, and the columns from `start`
            // on are inside the rows of `c`.
            unsafe {
                self.tiles[width / LANES - 1][rows - 1](&TileArgs {
                    k,
                    a,
                    a_row,
                    b: panel.as_ptr(),
                    c: c.as_mut_ptr().add(start),
                    c_row,
                    resume,
                });
            }
        }
    }

    /// Packs rows of a head as panels of their transpose: [head_size, rows].
    fn pack_columns_of(&self, head: &HeadRows<'_>, rows: &[usize], values: &mut [f32]) {
        let width = self.isa.panel_width();
        for (start, rows) in (0..).step_by(width).zip(rows.chunks(width)) {
            let panel = &mut values[start * head.size..];
            let row = |index: usize| head.row(rows[index]);
            pack_panel(&row, rows.len(), head.size, panel, rows.len().next_multiple_of(LANES));
        }
    }

    /// Packs rows of a head as panels of them: [rows, head_size].
    fn pack_rows_of(&self, head: &HeadRows<'_>, rows: &[usize], values: &mut [f32]) {
        let size = head.size;
        for start in (0..size).step_by(self.isa.panel_width()) {
            let width = panel_width(self.isa.panel_width(), size, start);
            let count = width.min(size - start);
            let panel = &mut values[start * rows.len()..][..rows.len() * width];
            for (&row, line) in rows.iter().zip(panel.chunks_exact_mut(width)) {
                line[..count].copy_from_slice(&head.row(row)[start..start + count]);
                line[count..].fill(0.0);
            }
        }
    }
}

/// The columns of one head in rows `stride` values apart.
struct HeadRows<'a> {
    values: &'a [f32],
    stride: usize,
    column: usize,
    size: usize,
}

impl HeadRows<'_> {
    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.stride + self.column..][..self.size]
    }
}

/// Rows of the largest register tile of any level.
const MAX_ROWS: usize = 16;

/// The left side of a small product: `rows` rows of `k` values, `a_row` apart.
struct Products {
    a: *const f32,
    a_row: usize,
    rows: usize,
    k: usize,
}

/// A packed right side: [k, n] as panels of columns.
struct Panels<'a> {
    values: &'a [f32],
    n: usize,
    k: usize,
}

/// The keys of a segment that the mask leaves, and how many of them each query sees.
struct SeenKeys {
    /// Their rows, rising.
    rows: Vec<usize>,
    /// Per query of the segment, if queries differ.
    counts: Option<Vec<usize>>,
    first_query: usize,
}

impl SeenKeys {
    fn new(args: &AttentionF32<'_>, queries: Range<usize>, keys: Range<usize>) -> Self {
        let shown = |&row: &usize| args.key_mask.is_none_or(|mask| mask[row]);
        let rows: Vec<usize> = keys.clone().filter(shown).collect();
        let counts = args.causal.then(|| {
            let count = |query: usize| {
                // Query i sees keys below i + 1 + (keys - queries); none if that is not above 0.
                let end = (query + 1 + keys.len()).saturating_sub(queries.len());
                rows.partition_point(|&row| row < keys.start + end)
            };
            (0..queries.len()).map(count).collect()
        });
        Self { rows, counts, first_query: queries.start }
    }

    /// How many of `rows`, from the first on, the query in row `query` sees; rises with `query`.
    fn visible(&self, query: usize) -> usize {
        self.counts.as_ref().map_or(self.rows.len(), |counts| counts[query - self.first_query])
    }
}

/// Checks that the arguments fit each other.
///
/// # Panics
/// Panics, saying what does not fit.
fn check(args: &AttentionF32<'_>, out: &[f32]) {
    let width = args.heads * args.head_size;
    let rows = |name: &str, segments: &[usize]| {
        assert_eq!(segments.first(), Some(&0), "attention: {name} segments do not begin at 0");
        assert!(segments.is_sorted(), "attention: {name} segments do not rise");
        segments.last().copied().unwrap_or(0)
    };
    let queries = rows("query", args.query_segments);
    let keys = rows("key", args.key_segments);
    assert_eq!(
        args.query_segments.len(),
        args.key_segments.len(),
        "attention: queries and keys differ in segments"
    );
    for (name, values, stride, rows) in [
        ("q", args.q, args.q_stride, queries),
        ("k", args.k, args.k_stride, keys),
        ("v", args.v, args.v_stride, keys),
    ] {
        assert!(stride >= width, "attention: {name}_stride {stride} is below the width {width}");
        let needed = if rows == 0 { 0 } else { (rows - 1) * stride + width };
        let found = values.len();
        assert!(found >= needed, "attention: {name} has {found} values, needs {needed}");
    }
    if let Some(mask) = args.key_mask {
        assert_eq!(mask.len(), keys, "attention: key_mask has not a flag per key");
    }
    assert_eq!(out.len(), queries * width, "attention: out has not queries · width values");
}

#[cfg(test)]
mod tests;
