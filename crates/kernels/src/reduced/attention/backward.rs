//! Gradients of attention over `bf16` tiles, all products through the blocks of the matrix product.
//!
//! The formulas and the tasks are those of the f32 form (`attention/backward.rs` of the crate):
//!
//! ```text
//! p  = softmax(scale · q · kᵀ)         f32, from bf16 products; rounded where it is multiplied
//! ds = p · (do · vᵀ - Σ)               f32, rounded where it is multiplied
//! dv = pᵀ · do,  dq = scale · ds · k,  dk = scale · dsᵀ · q      f32
//! ```

use super::super::tiles::Tiles;
use super::super::{
    BLOCK_ROWS, BLOCK_SUMS, PANEL_COLS, PANEL_STEP_BYTES, STEP_BYTES, TILE_BYTES, TILE_ROWS,
};
use super::{AttentionBf16, STEP_VALUES, as_bytes, as_floats, copy_values, pack_keys, pack_values};
use crate::aligned::with_scratch;
use crate::dispatch::Kernels;
use crate::elementwise::SendPointer;
use crate::{AttentionGradients, Pool};

/// Sizes of a task in blocks of 32: steps, panels and blocks of rows are all of 32 values.
#[derive(Clone, Copy)]
struct Blocks {
    queries: usize,
    keys: usize,
    head: usize,
}

impl Blocks {
    /// Bytes of tiles or panels of so many blocks by blocks.
    fn bytes(rows: usize, steps: usize) -> usize {
        const { assert!(2 * TILE_BYTES == PANEL_STEP_BYTES) };
        rows * steps * PANEL_STEP_BYTES
    }

    /// The parts of a task's scratch, in bytes.
    fn parts(self) -> [usize; 8] {
        let Self { queries, keys, head } = self;
        let scores = queries * keys * BLOCK_SUMS * 4;
        [
            Self::bytes(keys, head),              // kᵀ, then vᵀ
            Self::bytes(head, queries.max(keys)), // do, q or k
            Self::bytes(1, head),                 // a block of q or do
            scores,                               // p
            scores,                               // dp, ds
            Self::bytes(queries, keys),           // p or ds, rounded
            Self::bytes(keys, queries),           // its transpose
            head * BLOCK_SUMS * 4,                // sums
        ]
    }
}

/// One segment and head.
struct Task<'a> {
    args: &'a AttentionBf16<'a>,
    queries: std::ops::Range<usize>,
    keys: std::ops::Range<usize>,
    /// Where the head begins in a row.
    column: usize,
    blocks: Blocks,
}

impl Task<'_> {
    /// How many keys the query in row `row` of the segment sees.
    fn seen(&self, row: usize) -> usize {
        let behind = self.queries.len() - row - 1;
        if self.args.causal { self.keys.len().saturating_sub(behind) } else { self.keys.len() }
    }
}

impl Kernels {
    /// The gradients of attention from `grad`, that of its result, rounded.
    ///
    /// The gradients of a segment have the same bits whatever else is in the call and on any number
    /// of threads.
    ///
    /// # Panics
    /// As [`Kernels::attention_bf16`].
    pub fn attention_backward_bf16(
        &self,
        pool: &Pool,
        args: &AttentionBf16<'_>,
        grad: &Tiles<'_>,
        out: &mut AttentionGradients<'_>,
    ) {
        super::check_operands(args);
        let (size, width) = (args.head_size, args.heads * args.head_size);
        let same = (grad.rows(), grad.cols()) == (args.q.rows(), width);
        assert!(same, "attention: the gradient has another shape");
        assert_eq!(out.dq.len(), args.q.rows() * width, "attention: dq has another length");
        assert_eq!(out.dkv.len(), args.kv.rows() * 2 * width, "attention: dkv has another length");
        let dq = SendPointer(out.dq.as_mut_ptr());
        let dkv = SendPointer(out.dkv.as_mut_ptr());
        let segments = args.query_segments.len() - 1;
        pool.run(segments * args.heads, &|index| {
            let (segment, column) = (index / args.heads, index % args.heads * size);
            let queries = args.query_segments[segment]..args.query_segments[segment + 1];
            let keys = args.key_segments[segment]..args.key_segments[segment + 1];
            let blocks = Blocks {
                queries: queries.len().div_ceil(BLOCK_ROWS),
                keys: keys.len().div_ceil(PANEL_COLS),
                head: size.div_ceil(PANEL_COLS),
            };
            let (first_query, first_key) = (queries.start, keys.start);
            let task = Task { args, queries, keys, column, blocks };
            let write = |place: Gradient, row: usize, sums: &[f32], factor: f32| {
                let start = match place {
                    Gradient::Query => dq.get().wrapping_add((first_query + row) * width),
                    Gradient::Key => dkv.get().wrapping_add((first_key + row) * 2 * width),
                    Gradient::Value => dkv.get().wrapping_add(((first_key + row) * 2 + 1) * width),
                };
                // SAFETY: segments are inside the outputs, whose lengths are checked; tasks differ
                // in their rows or in the columns of their head; a table exists only where its
                // instruction set does.
                unsafe {
                    let out = std::slice::from_raw_parts_mut(start.wrapping_add(column), size);
                    (self.scale)(&sums[..size], factor, out);
                }
            };
            // SAFETY: a table exists only where its instruction set does.
            unsafe { (self.reduced.enter)() };
            self.attention_backward_head(&task, grad, &write);
            // SAFETY: as for `enter`.
            unsafe { (self.reduced.leave)() };
        });
    }

    fn attention_backward_head(&self, task: &Task<'_>, grad: &Tiles<'_>, write: &Write<'_>) {
        let &Task { args, ref queries, ref keys, column, blocks } = task;
        let (size, width) = (args.head_size, args.heads * args.head_size);
        if queries.is_empty() || keys.is_empty() {
            let zeros = vec![0.0; size];
            (0..queries.len()).for_each(|row| write(Gradient::Query, row, &zeros, 1.0));
            for gradient in [Gradient::Key, Gradient::Value] {
                (0..keys.len()).for_each(|row| write(gradient, row, &zeros, 1.0));
            }
            return;
        }
        let parts = blocks.parts();
        with_scratch(parts.iter().sum::<usize>() / 4, |scratch| {
            let bytes = as_bytes(scratch);
            let (columns, bytes) = bytes.split_at_mut(parts[0]);
            let (rows, bytes) = bytes.split_at_mut(parts[1]);
            let (left, bytes) = bytes.split_at_mut(parts[2]);
            let (p, bytes) = bytes.split_at_mut(parts[3]);
            let (ds, bytes) = bytes.split_at_mut(parts[4]);
            let (rounded, bytes) = bytes.split_at_mut(parts[5]);
            let (across, sums) = bytes.split_at_mut(parts[6]);
            let score_block = blocks.keys * BLOCK_SUMS * 4;
            for (of, first, scores) in [(&args.q, 0, &mut *p), (grad, width, &mut *ds)] {
                pack_keys(&args.kv, keys.clone(), first + column, size, columns);
                for block in 0..blocks.queries {
                    let first = block * BLOCK_ROWS;
                    let count = BLOCK_ROWS.min(queries.len() - first);
                    for row in 0..count {
                        let out = &mut left[place(row, blocks.head)..];
                        copy_values(of, queries.start + first + row, column, size, out);
                    }
                    let c = &mut scores[block * score_block..][..score_block];
                    self.blocks(left, blocks.head, columns, blocks.keys, count, c);
                }
            }
            let (p, ds) = (as_floats(p), as_floats(ds));
            let score_row = blocks.keys * PANEL_COLS;
            for row in 0..queries.len() {
                let seen = task.seen(row);
                let p = &mut p[row * score_row..][..keys.len()];
                let ds = &mut ds[row * score_row..][..keys.len()];
                // SAFETY: a table exists only where its instruction set does; one length.
                unsafe {
                    let sum = (self.softmax_weights)(&mut p[..seen], args.scale);
                    p[seen..].fill(0.0);
                    p[..seen].iter_mut().for_each(|weight| *weight /= sum);
                    (self.backward.softmax)(&p[..seen], &mut ds[..seen]);
                    ds[seen..].fill(0.0);
                }
            }
            let right =
                [(&*p, grad, Gradient::Value, 1.0), (&*ds, &args.q, Gradient::Key, args.scale)];
            for (scores, of, gradient, factor) in right {
                self.round_scores(task, scores, rounded);
                for block in 0..blocks.queries {
                    for step in 0..blocks.keys {
                        let piece = |row: usize| {
                            let at = block * Blocks::bytes(1, blocks.keys)
                                + place(row, blocks.keys)
                                + step * TILE_BYTES;
                            rounded[at..][..STEP_BYTES].as_ptr()
                        };
                        let at = 2 * step * blocks.queries + block;
                        let out = &mut across[at * TILE_BYTES..];
                        assert!(out.len() >= (blocks.queries + 1) * TILE_BYTES);
                        // SAFETY: the pieces are inside `rounded`; both tiles are inside `across`.
                        unsafe {
                            let out = out.as_mut_ptr();
                            self.transpose_block(piece, out, blocks.queries * TILE_BYTES);
                        }
                    }
                }
                pack_values(
                    of,
                    queries.clone(),
                    column,
                    size,
                    &mut rows[..Blocks::bytes(blocks.head, blocks.queries)],
                );
                let left = Left { tiles: across, steps: blocks.queries, rows: keys.len() };
                self.head_products(&left, rows, blocks.head, sums, &|row, sums| {
                    write(gradient, row, sums, factor);
                });
            }
            // What is rounded now is ds.
            pack_values(
                &args.kv,
                keys.clone(),
                column,
                size,
                &mut rows[..Blocks::bytes(blocks.head, blocks.keys)],
            );
            let left = Left { tiles: rounded, steps: blocks.keys, rows: queries.len() };
            self.head_products(&left, rows, blocks.head, sums, &|row, sums| {
                write(Gradient::Query, row, sums, args.scale);
            });
        });
    }

    /// Rounds all rows of scores to tiles; rows that do not exist are zeros.
    fn round_scores(&self, task: &Task<'_>, scores: &[f32], out: &mut [u8]) {
        let Blocks { queries, keys, .. } = task.blocks;
        for row in 0..queries * BLOCK_ROWS {
            let at = row / BLOCK_ROWS * Blocks::bytes(1, keys) + place(row % BLOCK_ROWS, keys);
            if row < task.queries.len() {
                let scores = &scores[row * keys * PANEL_COLS..][..task.keys.len()];
                let out = &mut out[at..];
                assert!(out.len() >= (keys - 1) * TILE_BYTES + STEP_BYTES);
                // SAFETY: a table exists only where its instruction set does; a piece of this row
                // in each of `keys` tiles, as just seen.
                unsafe { (self.reduced.pack_row)(scores, out.as_mut_ptr()) };
            } else {
                for step in 0..keys {
                    out[at + step * TILE_BYTES..][..STEP_BYTES].fill(0);
                }
            }
        }
    }

    /// The products of `left` with panels of a head, row by row to `write`.
    fn head_products(
        &self,
        left: &Left<'_>,
        panels: &[u8],
        head: usize,
        sums: &mut [u8],
        write: &dyn Fn(usize, &[f32]),
    ) {
        for first in (0..left.rows).step_by(BLOCK_ROWS) {
            let count = BLOCK_ROWS.min(left.rows - first);
            let tiles = &left.tiles[first / BLOCK_ROWS * Blocks::bytes(1, left.steps)..];
            self.blocks(tiles, left.steps, panels, head, count, sums);
            let sums = as_floats(sums);
            for row in 0..count {
                write(first + row, &sums[row * head * PANEL_COLS..][..head * PANEL_COLS]);
            }
        }
    }
}

/// Takes row `row` of a gradient, and what it is to be multiplied by.
type Write<'a> = dyn Fn(Gradient, usize, &[f32], f32) + 'a;

/// Which gradient a row belongs to.
#[derive(Clone, Copy)]
enum Gradient {
    Query,
    Key,
    Value,
}

/// Rows in tiles, 32 by 32.
struct Left<'a> {
    tiles: &'a [u8],
    steps: usize,
    rows: usize,
}

/// Where row `row` of a block of 32 rows begins in its tiles of `steps` steps.
fn place(row: usize, steps: usize) -> usize {
    row / TILE_ROWS * steps * TILE_BYTES + row % TILE_ROWS * STEP_BYTES
}

const _: () = assert!(STEP_VALUES == PANEL_COLS && BLOCK_ROWS == PANEL_COLS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bound, Place, Random, Runner};
    use crate::{AttentionF32, reference, tiles_bytes};

    #[test]
    fn gradients_agree_with_the_oracle_on_rounded_operands() {
        let runner = Runner::new();
        let mut random = Random::new(1);
        let plain: (&[usize], &[usize]) = (&[0, 1, 6, 6, 40, 73], &[0, 1, 6, 6, 40, 73]);
        let mixed: (&[usize], &[usize]) = (&[0, 1, 2, 2, 5, 8], &[0, 7, 8, 11, 11, 90]);
        for (heads, size) in [(1, 3), (3, 20), (2, 32), (1, 64), (2, 80)] {
            for causal in [false, true] {
                for (query_segments, key_segments) in [plain, mixed] {
                    let width = heads * size;
                    let (rows, keys) = (query_segments[5], key_segments[5]);
                    let round = |x: Vec<f32>| -> Vec<f32> {
                        x.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect()
                    };
                    let q = round(random.values(rows * width));
                    let kv = round(random.values(keys * 2 * width));
                    let grad = round(random.values(rows * width));
                    let scale = 1.0 / (size as f32).sqrt();
                    let f32_args = AttentionF32 {
                        q: &q,
                        q_stride: width,
                        k: &kv,
                        k_stride: 2 * width,
                        v: &kv[width..],
                        v_stride: 2 * width,
                        query_segments,
                        key_segments,
                        heads,
                        head_size: size,
                        scale,
                        causal,
                        key_mask: None,
                    };
                    let (dq, dkv) = reference::attention_backward(&f32_args, &grad);
                    let expected = [dq, dkv].concat();
                    let name = format!("attention backward {heads}x{size} {causal} {rows}");
                    // Weights and slopes are rounded once, to 2^-9 of each; what they multiply is
                    // below 1, and sums of weights are 1 for each of up to 40 queries.
                    let bound = Bound::Relative(2e-2);
                    let run = |kernels: &Kernels, pool: &Pool, at: Place| {
                        let tiles = |x: &[f32], rows, cols| {
                            let mut tiles = at.fill(0xff, tiles_bytes(rows, cols));
                            kernels.pack_tiles(pool, x, rows, cols, &mut tiles);
                            tiles
                        };
                        let (q, kv) = (tiles(&q, rows, width), tiles(&kv, keys, 2 * width));
                        let grad = tiles(&grad, rows, width);
                        let args = AttentionBf16 {
                            q: Tiles::new(&q, rows, width),
                            kv: Tiles::new(&kv, keys, 2 * width),
                            query_segments,
                            key_segments,
                            heads,
                            head_size: size,
                            scale,
                            causal,
                        };
                        let mut dq = at.fill(f32::NAN, rows * width);
                        let mut dkv = at.fill(f32::NAN, keys * 2 * width);
                        let mut out = AttentionGradients { dq: &mut dq, dkv: &mut dkv };
                        let grad = Tiles::new(&grad, rows, width);
                        kernels.attention_backward_bf16(pool, &args, &grad, &mut out);
                        [dq.to_vec(), dkv.to_vec()].concat()
                    };
                    runner.check_each(&name, &expected, &bound, &|kernels, pool| {
                        run(kernels, pool, Place::Anywhere)
                    });
                    runner.in_all_places(&name, &run);
                }
            }
        }
    }
}
