//! Gradients of attention: of queries, keys and values from that of the result.
//!
//! ```text
//! for each segment and head (tasks, in parallel):
//!     p  = softmax(scale · q · kᵀ)          again, as forward
//!     dp = do · vᵀ
//!     ds = p · (dp - Σ p·dp)                 row by row
//!     dv = pᵀ · do,  dq = scale · ds · k,  dk = scale · dsᵀ · q
//! ```
//!
//! A task holds the scores of its head and segment whole: segments are short. Nothing but the
//! operands is kept from the forward pass. All products go through its register tiles.

use crate::Pool;
use crate::aligned::with_scratch;
use crate::arch::generic::LANES;
use crate::dispatch::Kernels;
use crate::elementwise::SendPointer;
use crate::transpose::TransposeArgs;

use super::{AttentionF32, HeadRows, Panels, Products, SeenKeys, check};

/// Where [`Kernels::attention_backward_f32`] writes.
#[derive(Debug)]
pub struct AttentionGradients<'a> {
    /// Of the queries, [queries, heads · head_size] row after row.
    pub dq: &'a mut [f32],
    /// Of keys and values side by side, [keys, 2 · heads · head_size] row after row.
    pub dkv: &'a mut [f32],
}

/// Where the gradients begin.
#[derive(Clone, Copy)]
struct Places {
    dq: SendPointer<f32>,
    dkv: SendPointer<f32>,
}

impl Kernels {
    /// The gradients of attention from `grad`, that of its result [queries, heads · head_size].
    ///
    /// The gradients of a segment have the same bits whatever else is in the call, on any number of
    /// threads and on every instruction set. A hidden key gets zeros.
    ///
    /// # Panics
    /// As [`Kernels::attention_f32`].
    ///
    /// # Numerics
    /// Weights and sums in `f32`, one accumulator per output in the order of rows.
    pub fn attention_backward_f32(
        &self,
        pool: &Pool,
        args: &AttentionF32<'_>,
        grad: &[f32],
        out: &mut AttentionGradients<'_>,
    ) {
        check(args, grad);
        check(args, out.dq);
        let keys = args.key_segments.last().copied().unwrap_or(0);
        let width = args.heads * args.head_size;
        assert_eq!(out.dkv.len(), keys * 2 * width, "attention: dkv has not 2 · width columns");
        let segments = args.query_segments.len().saturating_sub(1);
        let places =
            Places { dq: SendPointer(out.dq.as_mut_ptr()), dkv: SendPointer(out.dkv.as_mut_ptr()) };
        pool.run(segments * args.heads, &|task| {
            let (segment, head) = (task / args.heads, task % args.heads);
            // SAFETY: `check` has seen that all rows are there and that segments rise; tasks
            // differ in their rows or their head, and both outputs are borrowed exclusively.
            unsafe { self.attention_backward_task(args, grad, segment, head, places) }
        });
    }

    /// One segment and head.
    ///
    /// # Safety
    /// The arguments have passed the checks of [`Kernels::attention_backward_f32`]; nobody else uses
    /// the rows of this segment in the columns of this head.
    unsafe fn attention_backward_task(
        &self,
        args: &AttentionF32<'_>,
        grad: &[f32],
        segment: usize,
        head: usize,
        places: Places,
    ) {
        let (size, width) = (args.head_size, args.heads * args.head_size);
        let queries = args.query_segments[segment]..args.query_segments[segment + 1];
        let keys = args.key_segments[segment]..args.key_segments[segment + 1];
        let column = head * size;
        let seen = SeenKeys::new(args, queries.clone(), keys.clone());
        let (n_queries, n_keys) = (queries.len(), seen.rows.len());
        // Where the row of a gradient is, in the columns of this head.
        let dq_row =
            |row: usize| places.dq.get().wrapping_add((queries.start + row) * width + column);
        let dkv_row = |row: usize, part: usize| {
            places.dkv.get().wrapping_add((2 * row + part) * width + column)
        };
        if n_keys < keys.len() || n_queries == 0 {
            for row in keys {
                for part in 0..2 {
                    // SAFETY: as promised by the caller.
                    unsafe { std::slice::from_raw_parts_mut(dkv_row(row, part), size).fill(0.0) };
                }
            }
        }
        let pad = |len: usize| len.next_multiple_of(LANES);
        let square = n_queries * pad(n_keys);
        let lens = [
            pad(n_keys) * size,                // kᵀ, then vᵀ
            n_queries.max(n_keys) * pad(size), // k, q or do
            square,                            // p
            square,                            // dp, ds
            n_keys * pad(n_queries),           // pᵀ or dsᵀ
            self.mr * pad(size),               // sums
        ];
        let q = HeadRows { values: args.q, stride: args.q_stride, column, size };
        let k = HeadRows { values: args.k, stride: args.k_stride, column, size };
        let v = HeadRows { values: args.v, stride: args.v_stride, column, size };
        let d_out = HeadRows { values: grad, stride: width, column, size };
        let query_rows: Vec<usize> = queries.clone().collect();
        with_scratch(lens.iter().sum(), |scratch| {
            let (columns, scratch) = scratch.split_at_mut(lens[0]);
            let (panels, scratch) = scratch.split_at_mut(lens[1]);
            let (p, scratch) = scratch.split_at_mut(lens[2]);
            let (ds, scratch) = scratch.split_at_mut(lens[3]);
            let (across, sums) = scratch.split_at_mut(lens[4]);
            for (rows, of, scores) in [(&q, &k, &mut *p), (&d_out, &v, &mut *ds)] {
                self.pack_columns_of(of, &seen.rows, columns);
                let columns = Panels { values: columns, n: n_keys, k: size };
                // SAFETY: rows of `q` and `grad`, whose lengths have been checked, and scores of
                // the padded width.
                unsafe {
                    let a = rows.values.as_ptr().add(queries.start * rows.stride + column);
                    self.all_products(a, rows.stride, n_queries, &columns, scores);
                }
            }
            for (row, (p, ds)) in p
                .chunks_exact_mut(pad(n_keys).max(1))
                .zip(ds.chunks_exact_mut(pad(n_keys).max(1)))
                .enumerate()
            {
                let visible = seen.visible(queries.start + row);
                // SAFETY: a table exists only where its instruction set does; one length.
                unsafe {
                    let sum = (self.softmax_weights)(&mut p[..visible], args.scale);
                    p[visible..].fill(0.0);
                    p[..visible].iter_mut().for_each(|weight| *weight /= sum);
                    (self.backward.softmax)(&p[..visible], &mut ds[..visible]);
                    ds[visible..].fill(0.0);
                }
            }
            // Rows of queries by columns of keys, or the other way round, times rows of a head.
            let right = [(&*p, &d_out, 1, 1.0), (&*ds, &q, 0, args.scale)];
            for (scores, rows, part, factor) in right {
                // SAFETY: `scores` is [queries, pad(keys)], `across` [keys, pad(queries)].
                unsafe {
                    (self.backward.transpose)(&TransposeArgs {
                        x: scores.as_ptr(),
                        x_row: pad(n_keys),
                        rows: n_queries,
                        cols: n_keys,
                        out: across.as_mut_ptr(),
                        out_row: pad(n_queries),
                    });
                }
                self.pack_rows_of(rows, &query_rows, panels);
                let panels = Panels { values: panels, n: size, k: n_queries };
                let left = Left { values: across, row: pad(n_queries), rows: n_keys };
                let out = |row: usize| dkv_row(seen.rows[row], part);
                // SAFETY: rows of this segment in the columns of this head.
                unsafe { self.scaled_products(&left, &panels, factor, sums, &out) };
            }
            self.pack_rows_of(&k, &seen.rows, panels);
            let panels = Panels { values: panels, n: size, k: n_keys };
            let left = Left { values: ds, row: pad(n_keys), rows: n_queries };
            // SAFETY: as above.
            unsafe { self.scaled_products(&left, &panels, args.scale, sums, &dq_row) };
        });
    }

    /// All products of rows, `a_row` apart, with `b`: `c` [rows, padded width of `b`].
    ///
    /// # Safety
    /// `a` is readable for `rows` rows of as many values as `b` has terms; `c` has their sums.
    unsafe fn all_products(
        &self,
        a: *const f32,
        a_row: usize,
        rows: usize,
        b: &Panels<'_>,
        c: &mut [f32],
    ) {
        let c_row = b.n.next_multiple_of(LANES);
        for row in (0..rows).step_by(self.mr) {
            let count = self.mr.min(rows - row);
            // SAFETY: rows `row .. row + count` of what the caller promises.
            unsafe {
                let products = Products { a: a.add(row * a_row), a_row, rows: count, k: b.k };
                self.products(&products, b, 0, &mut c[row * c_row..], false);
            }
        }
    }

    /// `factor` times the products of `left` with `b`, each row to where `out` says.
    ///
    /// # Safety
    /// What `out` gives for a row of `left` is writable for the width of `b`.
    unsafe fn scaled_products(
        &self,
        left: &Left<'_>,
        b: &Panels<'_>,
        factor: f32,
        sums: &mut [f32],
        out: &dyn Fn(usize) -> *mut f32,
    ) {
        let padded = b.n.next_multiple_of(LANES);
        for row in (0..left.rows).step_by(self.mr) {
            let count = self.mr.min(left.rows - row);
            let a = &left.values[row * left.row..];
            assert!(a.len() >= (count - 1) * left.row + b.k && sums.len() >= count * padded);
            // SAFETY: the rows are inside `left`, as just seen.
            unsafe {
                let products = Products { a: a.as_ptr(), a_row: left.row, rows: count, k: b.k };
                self.products(&products, b, 0, sums, false);
            }
            for (r, sums) in sums.chunks_exact(padded).take(count).enumerate() {
                // SAFETY: a table exists only where its instruction set does; the row is as
                // promised, and of one length with its sums.
                unsafe {
                    let out = std::slice::from_raw_parts_mut(out(row + r), b.n);
                    (self.scale)(&sums[..b.n], factor, out);
                }
            }
        }
    }
}

/// The left side of products: rows `row` values apart.
struct Left<'a> {
    values: &'a [f32],
    row: usize,
    rows: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::testing::{Bound, Place, Random, Runner};

    struct Case {
        heads: usize,
        size: usize,
        queries: Vec<usize>,
        keys: Vec<usize>,
        causal: bool,
        masked: bool,
    }

    impl Case {
        fn check(&self, runner: &Runner, random: &mut Random) {
            let width = self.heads * self.size;
            let offsets = |lens: &[usize]| {
                let mut end = 0;
                let ends = lens.iter().map(|len| {
                    end += len;
                    end
                });
                std::iter::once(0).chain(ends.collect::<Vec<_>>()).collect::<Vec<_>>()
            };
            let (query_segments, key_segments) = (offsets(&self.queries), offsets(&self.keys));
            let (rows, keys) = (query_segments[self.queries.len()], key_segments[self.keys.len()]);
            let (q, kv) = (random.values(rows * width), random.values(keys * 2 * width));
            let grad = random.values(rows * width);
            let mask: Vec<bool> = (0..keys).map(|key| key % 3 != 1).collect();
            let with = |q: &[f32], kv: &[f32], f: &dyn Fn(&AttentionF32<'_>)| {
                f(&AttentionF32 {
                    q,
                    q_stride: width,
                    k: kv,
                    k_stride: 2 * width,
                    v: kv.get(width..).unwrap_or(&[]),
                    v_stride: 2 * width,
                    query_segments: &query_segments,
                    key_segments: &key_segments,
                    heads: self.heads,
                    head_size: self.size,
                    scale: 1.0 / (self.size as f32).sqrt(),
                    causal: self.causal,
                    key_mask: self.masked.then_some(&mask),
                });
            };
            let expected = std::cell::RefCell::new(Vec::new());
            with(&q, &kv, &|args| {
                let (dq, dkv) = reference::attention_backward(args, &grad);
                *expected.borrow_mut() = [dq, dkv].concat();
            });
            let run = |kernels: &Kernels, pool: &Pool, place: Place| {
                let (mut dq, mut dkv) =
                    (place.fill(f32::NAN, q.len()), place.fill(f32::NAN, kv.len()));
                let (q, kv, grad) = (place.put(&q), place.put(&kv), place.put(&grad));
                let out =
                    std::cell::RefCell::new(AttentionGradients { dq: &mut dq, dkv: &mut dkv });
                with(&q, &kv, &|args| {
                    kernels.attention_backward_f32(pool, args, &grad, &mut out.borrow_mut());
                });
                [dq.to_vec(), dkv.to_vec()].concat()
            };
            let name = format!("attention backward {:?} {:?}", self.queries, self.keys);
            let bound = Bound::Relative(1e-5);
            runner.check(&name, &expected.borrow(), &bound, &|k, p| run(k, p, Place::Anywhere));
            runner.in_all_places(&name, &run);
        }
    }

    #[test]
    fn gradients_agree_with_the_oracle() {
        let runner = Runner::new();
        let mut random = Random::new(1);
        for (heads, size) in [(1, 1), (3, 5), (2, 16), (1, 64), (2, 80)] {
            for causal in [false, true] {
                let lens = vec![1, 5, 0, 17, 2, 33];
                let keys = vec![1, 7, 3, 17, 0, 70];
                for (queries, keys) in [(lens.clone(), lens), (vec![1, 1, 0, 1, 2, 5], keys)] {
                    for masked in [false, true] {
                        let queries = queries.clone();
                        let keys = keys.clone();
                        let case = Case { heads, size, queries, keys, causal, masked };
                        case.check(&runner, &mut random);
                    }
                }
            }
        }
    }
}
