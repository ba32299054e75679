//! Products, quantisation and attention against the scalar oracle, on every level.

use super::*;
use crate::testing::{Bound, Random, Runner, assert_close, assert_same_bits};
use crate::{Activation, Kernels, Pool, reference};
use std::convert::Infallible;

const MS: [usize; 8] = [1, 2, 15, 16, 17, 31, 33, 70];
const NS: [usize; 7] = [1, 15, 16, 31, 32, 33, 100];
const KS: [usize; 9] = [1, 2, 3, 31, 32, 33, 64, 65, 300];

fn bf16(x: &[f32]) -> Vec<f32> {
    let round = |&x: &f32| f32::from_bits(u32::from(crate::arch::generic::round_to_bf16(x)) << 16);
    x.iter().map(round).collect()
}

fn pack_bf16(pool: &Pool, w: &[f32], n: usize, k: usize) -> PackedBf16 {
    let packed = PackedBf16::with_rows(pool, n, k, None, &|rows, out: &mut [f32]| {
        out.copy_from_slice(&w[rows.start * k..rows.end * k]);
        Ok::<(), Infallible>(())
    });
    packed.unwrap()
}

fn pack_i8(pool: &Pool, w: &[f32], n: usize, k: usize, smoothing: Option<&[f32]>) -> PackedI8 {
    let smoothing = smoothing.map(std::sync::Arc::from);
    let packed = PackedI8::with_rows(pool, n, k, smoothing, None, &|rows, out: &mut [f32]| {
        out.copy_from_slice(&w[rows.start * k..rows.end * k]);
        Ok::<(), Infallible>(())
    });
    packed.unwrap()
}

/// One product with everything that can be added to it.
struct Case {
    m: usize,
    n: usize,
    k: usize,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Option<Vec<f32>>,
    activation: Activation,
    residual: Option<Vec<f32>>,
}

impl Case {
    fn new(random: &mut Random, m: usize, n: usize, k: usize, hostile: bool) -> Self {
        let mut values = |len| if hostile { random.hostile(len) } else { random.values(len) };
        let (x, w) = (values(m * k), values(n * k));
        let extras = (m + n + k) % 3;
        Self {
            bias: (extras > 0).then(|| values(n)),
            residual: (extras > 1).then(|| values(m * n)),
            activation: [Activation::Identity, Activation::Gelu, Activation::QuickGelu]
                [(m + 2 * n + k) % 3],
            x,
            w,
            m,
            n,
            k,
        }
    }

    fn args<'a>(&'a self, operands: ReducedWeight<'a>) -> GemmReduced<'a> {
        GemmReduced {
            operands,
            bias: self.bias.as_deref(),
            activation: self.activation,
            residual: self.residual.as_deref(),
        }
    }

    fn bf16(&self, kernels: &Kernels, pool: &Pool) -> Vec<f32> {
        let weight = pack_bf16(pool, &self.w, self.n, self.k);
        let mut tiles = vec![0xff; tiles_bytes(self.m, self.k)];
        kernels.pack_tiles(pool, &self.x, self.m, self.k, &mut tiles);
        let operands = ReducedWeight::Bf16(Tiles::new(&tiles, self.m, self.k), &weight);
        self.run(kernels, pool, operands)
    }

    fn i8(&self, kernels: &Kernels, pool: &Pool, smoothing: Option<&[f32]>) -> Vec<f32> {
        let weight = pack_i8(pool, &self.w, self.n, self.k, smoothing);
        let mut bytes = vec![0xff; Quantized::bytes_of(self.m, self.k)];
        let mut scales = vec![RowScale::default(); self.m];
        let x = Source::Rows(&self.x);
        kernels.quantize(pool, &x, self.m, self.k, smoothing, &mut bytes, &mut scales);
        let x = Quantized { bytes: &bytes, scales: &scales, cols: self.k };
        self.run(kernels, pool, ReducedWeight::I8(x, &weight))
    }

    /// Rows, after a check that tiles hold the same rounded.
    fn run(&self, kernels: &Kernels, pool: &Pool, operands: ReducedWeight<'_>) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.m * self.n];
        kernels.gemm_reduced(pool, &self.args(operands), Out::Rows(&mut out));
        let mut tiles = vec![0xff; tiles_bytes(self.m, self.n)];
        kernels.gemm_reduced(pool, &self.args(operands), Out::Tiles(&mut tiles));
        let mut unpacked = vec![0.0; self.m * self.n];
        kernels.unpack_tiles(pool, &Tiles::new(&tiles, self.m, self.n), &mut unpacked);
        if self.activation == Activation::Identity {
            assert_same_bits("tiles", &unpacked, &bf16(&out));
        } else {
            // Half a unit of the last of 8 bits, and as much for the rough activation.
            let bound =
                out.iter().zip(self.residual.iter().flatten().chain([&0.0; 1].into_iter().cycle()));
            let bound = bound.map(|(y, r)| 8e-3 * f64::from(y.abs() + r.abs()) + 4e-4).collect();
            assert_close("tiles", &unpacked, &out, &Bound::Each(bound));
        }
        out
    }

    /// The oracle on given inputs and weights, and what rounding of sums may cost each value.
    fn expected(&self, x: &[f32], w: &[f32], per_term: f64) -> (Vec<f32>, Bound) {
        let (m, n, k) = (self.m, self.n, self.k);
        let expected = reference::gemm(
            x,
            k,
            m,
            w,
            n,
            k,
            self.bias.as_deref(),
            self.activation,
            self.residual.as_deref(),
        );
        let bound = (0..m * n).map(|at| {
            let (row, column) = (at / n, at % n);
            let terms = x[row * k..][..k].iter().zip(&w[column * k..][..k]);
            let size: f64 = terms.map(|(&x, &w)| f64::from((x * w).abs())).sum();
            let size = size + self.bias.as_ref().map_or(0.0, |b| f64::from(b[column].abs()));
            // The slope of an activation is at most 1.13.
            1.2 * per_term * size + 1e-6 * (1.0 + f64::from(expected[at].abs()))
        });
        let bound = Bound::Each(bound.collect());
        (expected, bound)
    }
}

fn cases(hostile: bool) -> Vec<Case> {
    let mut random = Random::new(7);
    let mut cases = Vec::new();
    for (i, m) in MS.into_iter().enumerate() {
        for (j, n) in NS.into_iter().enumerate() {
            let k = KS[(i * 3 + j) % KS.len()];
            cases.push(Case::new(&mut random, m, n, k, hostile));
        }
    }
    // K in several parts, rows in several chunks, panels in several groups.
    cases.push(Case::new(&mut random, 70, 65, 700, hostile));
    cases.push(Case::new(&mut random, 530, 40, 530, hostile));
    cases
}

#[test]
fn bf16_products_agree_with_the_oracle() {
    let runner = Runner::new();
    for hostile in [false, true] {
        for case in cases(hostile) {
            let name = format!("bf16 {}x{}x{}", case.m, case.k, case.n);
            let (expected, bound) = case.expected(&bf16(&case.x), &bf16(&case.w), 2e-6);
            runner.check_each(&name, &expected, &bound, &|kernels, pool| case.bf16(kernels, pool));
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_others() {
    let mut random = Random::new(3);
    let case = Case::new(&mut random, 70, 65, 700, false);
    for kernels in Runner::new().kernels() {
        for pool in [Pool::new(1), Pool::new(2)] {
            let together = case.bf16(kernels, &pool);
            let together_i8 = case.i8(kernels, &pool, None);
            for row in [0, 1, 17, 31, 32, 69] {
                let alone = Case {
                    m: 1,
                    x: case.x[row * case.k..][..case.k].to_vec(),
                    w: case.w.clone(),
                    bias: case.bias.clone(),
                    residual: case
                        .residual
                        .as_ref()
                        .map(|residual| residual[row * case.n..][..case.n].to_vec()),
                    ..case
                };
                let of = |all: &[f32]| all[row * case.n..][..case.n].to_vec();
                assert_same_bits("bf16", &alone.bf16(kernels, &pool), &of(&together));
                assert_same_bits("i8", &alone.i8(kernels, &pool, None), &of(&together_i8));
            }
        }
    }
}

/// What a quantised row stands for.
fn dequantised(kernels: &Kernels, case: &Case, factors: &[f32]) -> Vec<f32> {
    let mut bytes = vec![0; Quantized::bytes_of(case.m, case.k)];
    let mut scales = vec![RowScale::default(); case.m];
    let x = Source::Rows(&case.x);
    let pool = Pool::new(1);
    kernels.quantize(&pool, &x, case.m, case.k, Some(factors), &mut bytes, &mut scales);
    let steps = case.k.div_ceil(STEP_BYTES);
    let value = |row: usize, k: usize| {
        let at = (row / TILE_ROWS * steps + k / STEP_BYTES) * TILE_BYTES
            + row % TILE_ROWS * STEP_BYTES
            + k % STEP_BYTES;
        (f64::from(scales[row].scale) * f64::from(i32::from(bytes[at]) - scales[row].zero)) as f32
    };
    (0..case.m * case.k).map(|at| value(at / case.k, at % case.k)).collect()
}

fn dequantised_weight(case: &Case, factors: &[f32]) -> Vec<f32> {
    let row = |n: usize| {
        let row: Vec<f32> =
            case.w[n * case.k..][..case.k].iter().zip(factors).map(|(w, f)| w / f).collect();
        let largest = row.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
        let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        row.into_iter().map(move |w| (w / scale).round_ties_even() * scale).collect::<Vec<_>>()
    };
    (0..case.n).flat_map(row).collect()
}

#[test]
fn byte_products_are_those_of_the_quantised_values_and_the_same_everywhere() {
    let runner = Runner::new();
    for hostile in [false, true] {
        for (nth, case) in cases(hostile).into_iter().enumerate() {
            let name = format!("i8 {}x{}x{}", case.m, case.k, case.n);
            let factors: Vec<f32> = (0..case.k)
                .map(|k| if nth % 2 == 0 { 1.0 } else { 0.5 + (k % 4) as f32 })
                .collect();
            let x = dequantised(runner.kernels()[0], &case, &factors);
            let (expected, bound) = case.expected(&x, &dequantised_weight(&case, &factors), 1e-6);
            runner.check(&name, &expected, &bound, &|kernels, pool| {
                case.i8(kernels, pool, Some(&factors))
            });
        }
    }
}

#[test]
fn a_quantised_row_is_within_half_a_step_and_keeps_zero() {
    let runner = Runner::new();
    let mut random = Random::new(11);
    for k in [1, 5, 16, 63, 64, 65, 200] {
        let mut case = Case::new(&mut random, 3, 1, k, k % 2 == 0);
        case.x[0] = 0.0;
        for kernels in runner.kernels() {
            let found = dequantised(kernels, &case, &vec![1.0; k]);
            for (row, (found, x)) in found.chunks(k).zip(case.x.chunks(k)).enumerate() {
                let (low, high) =
                    x.iter().fold((0.0f32, 0.0f32), |(l, h), &x| (l.min(x), h.max(x)));
                let half = f64::from(high - low) / 255.0 * 0.5001;
                // The zero point is rounded too, which can cut half a step off an end.
                for (f, x) in found.iter().zip(x) {
                    assert!((f64::from(*f) - f64::from(*x)).abs() <= 2.0 * half, "{row}: {f} {x}");
                }
            }
            assert_eq!(found[0], 0.0);
        }
    }
}

#[test]
fn values_that_are_no_numbers_reach_their_row_only() {
    let mut random = Random::new(5);
    for kernels in Runner::new().kernels() {
        let pool = Pool::new(1);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut case = Case::new(&mut random, 20, 40, 70, false);
            (case.activation, case.residual) = (Activation::Identity, None);
            case.x[17 * 70 + 69] = bad;
            for out in [case.bf16(kernels, &pool), case.i8(kernels, &pool, None)] {
                for (row, values) in out.chunks(40).enumerate() {
                    let finite = values.iter().all(|y| y.is_finite());
                    assert_eq!(finite, row != 17, "{} row {row} {bad}", kernels.isa());
                    assert!(row != 17 || values.iter().all(|y| !y.is_finite()));
                }
            }
        }
    }
}

#[test]
fn rows_of_zeros_and_of_tiny_numbers() {
    for kernels in Runner::new().kernels() {
        for value in [0.0, 1e-42, 1e-30, -1e-30] {
            let case = Case {
                m: 2,
                n: 3,
                k: 40,
                x: vec![value; 80],
                w: vec![1.0; 120],
                bias: None,
                activation: Activation::Identity,
                residual: None,
            };
            let out = case.i8(kernels, &Pool::new(1), None);
            assert_close("tiny", &out, &[40.0 * value; 6], &Bound::Absolute(1e-31));
        }
    }
}

#[test]
fn attention_agrees_with_the_oracle() {
    let runner = Runner::new();
    let mut random = Random::new(9);
    // (segments of queries, of keys, heads, head size, causal)
    let same = |lengths: &[usize]| (lengths.to_vec(), lengths.to_vec());
    let shapes = [
        (same(&[1]), 1, 64, false),
        (same(&[5, 16, 33]), 2, 64, false),
        (same(&[16, 16, 16, 16]), 4, 64, false),
        (same(&[77]), 2, 64, true),
        (same(&[257]), 1, 80, false),
        (same(&[40, 3]), 3, 80, true),
        (same(&[9]), 2, 7, false),
        ((vec![1, 1], vec![30, 257]), 2, 64, false),
        ((vec![40, 40], vec![1, 33]), 1, 32, true),
        (same(&[600]), 1, 16, false),
    ];
    for ((queries, keys), heads, size, causal) in shapes {
        let ends = |lengths: &[usize]| {
            let mut ends = vec![0];
            ends.extend(lengths.iter().scan(0, |end, length| {
                *end += length;
                Some(*end)
            }));
            ends
        };
        let (queries, keys) = (ends(&queries), ends(&keys));
        let (tq, tk, width) = (queries[queries.len() - 1], keys[keys.len() - 1], heads * size);
        let q = bf16(&random.values(tq * width));
        let kv = bf16(&random.values(tk * 2 * width));
        let args = crate::AttentionF32 {
            q: &q,
            q_stride: width,
            k: &kv,
            k_stride: 2 * width,
            v: &kv[width..],
            v_stride: 2 * width,
            query_segments: &queries,
            key_segments: &keys,
            heads,
            head_size: size,
            scale: 0.125,
            causal,
            key_mask: None,
        };
        let expected = reference::attention(&args);
        let run = |kernels: &Kernels, pool: &Pool| {
            let mut q_tiles = vec![0xff; tiles_bytes(tq, width)];
            let mut kv_tiles = vec![0xff; tiles_bytes(tk, 2 * width)];
            kernels.pack_tiles(pool, &q, tq, width, &mut q_tiles);
            kernels.pack_tiles(pool, &kv, tk, 2 * width, &mut kv_tiles);
            let args = AttentionBf16 {
                q: Tiles::new(&q_tiles, tq, width),
                kv: Tiles::new(&kv_tiles, tk, 2 * width),
                query_segments: &queries,
                key_segments: &keys,
                heads,
                head_size: size,
                scale: 0.125,
                causal,
            };
            let mut out = vec![0; tiles_bytes(tq, width)];
            kernels.attention_bf16(pool, &args, &mut out);
            let mut rows = vec![0.0; tq * width];
            kernels.unpack_tiles(pool, &Tiles::new(&out, tq, width), &mut rows);
            rows
        };
        // Weights and result are rounded to 8 bits of mantissa.
        let name = format!("attention {tq}x{tk} {heads}x{size}");
        runner.check_each(&name, &expected, &Bound::Absolute(8e-3), &run);
    }
}

/// What is added to a product of the mean input is what rounding has taken from it, with control: the
/// product without it is off.
#[test]
fn a_correction_makes_up_for_rounding_at_the_mean() {
    let (pool, mut random) = (Pool::new(2), Random::new(8));
    let (n, k) = (33, 70);
    let w = random.values(n * k);
    let fill = |rows: std::ops::Range<usize>, out: &mut [f32]| {
        out.copy_from_slice(&w[rows.start * k..rows.end * k]);
        Ok::<(), Infallible>(())
    };
    // Powers of two as factors, and a mean that both precisions hold exactly: whole steps of 1, up to 255.
    let smoothing: Vec<f32> = (0..k).map(|at| [0.5, 1.0, 2.0][at % 3]).collect();
    let levels: Vec<f32> = (0..k).map(|at| (255 - at * 37 % 256) as f32).collect();
    let mean: Vec<f32> = levels.iter().zip(&smoothing).map(|(q, s)| q / s).collect();
    let exact = |row: usize| -> f64 {
        let row = &w[row * k..][..k];
        row.iter().zip(&mean).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
    };
    let in_bf16 = PackedBf16::with_rows(&pool, n, k, Some(&mean), &fill).unwrap();
    let factors = Some(std::sync::Arc::from(smoothing.as_slice()));
    let in_8_bits = PackedI8::with_rows(&pool, n, k, factors, Some(&mean), &fill).unwrap();
    let kernels = Kernels::get();
    let mut tiles = vec![0; tiles_bytes(1, k)];
    kernels.pack_tiles(&pool, &mean, 1, k, &mut tiles);
    let (mut bytes, mut scales) = (vec![0; Quantized::bytes_of(1, k)], [RowScale::default()]);
    let rows = Source::Rows(&mean);
    kernels.quantize(&pool, &rows, 1, k, Some(&smoothing), &mut bytes, &mut scales);
    let operands = [
        (ReducedWeight::Bf16(Tiles::new(&tiles, 1, k), &in_bf16), in_bf16.correction()),
        (
            ReducedWeight::I8(Quantized { bytes: &bytes, scales: &scales, cols: k }, &in_8_bits),
            in_8_bits.correction(),
        ),
    ];
    for (operands, correction) in operands {
        let off = |bias| -> f64 {
            let activation = Activation::Identity;
            let args = GemmReduced { operands, bias, activation, residual: None };
            let mut out = vec![0.0; n];
            kernels.gemm_reduced(&pool, &args, Out::Rows(&mut out));
            let errors = out.iter().enumerate().map(|(n, &y)| (f64::from(y) - exact(n)).abs());
            errors.fold(0.0, f64::max)
        };
        let (with, without) = (off(correction), off(None));
        assert!(with < 5e-3 && without > 0.1, "{with:e}, without {without:e}");
    }
}

#[test]
fn what_the_activation_is_applied_to_can_be_kept() {
    let mut random = Random::new(21);
    let pool = Pool::new(2);
    for (m, n, k) in [(1, 1, 1), (7, 17, 300), (40, 70, 5)] {
        let case = Case { activation: Activation::Gelu, ..Case::new(&mut random, m, n, k, false) };
        let weight = pack_bf16(&pool, &case.w, n, k);
        for kernels in Runner::new().kernels() {
            let mut x = vec![0xff; tiles_bytes(m, k)];
            kernels.pack_tiles(&pool, &case.x, m, k, &mut x);
            let args = case.args(ReducedWeight::Bf16(Tiles::new(&x, m, k), &weight));
            let plain = GemmReduced { activation: Activation::Identity, residual: None, ..args };
            let run = |args: &GemmReduced<'_>| {
                let mut rows = vec![f32::NAN; m * n];
                kernels.gemm_reduced(&pool, args, Out::Rows(&mut rows));
                let mut tiles = vec![0; tiles_bytes(m, n)];
                kernels.gemm_reduced(&pool, args, Out::Tiles(&mut tiles));
                (rows, tiles)
            };
            let (mut out, mut before) = (
                (vec![f32::NAN; m * n], vec![0; tiles_bytes(m, n)]),
                (vec![f32::NAN; m * n], vec![0; tiles_bytes(m, n)]),
            );
            kernels.gemm_reduced_keeping(
                &pool,
                &args,
                Out::Rows(&mut out.0),
                Out::Rows(&mut before.0),
            );
            kernels.gemm_reduced_keeping(
                &pool,
                &args,
                Out::Tiles(&mut out.1),
                Out::Tiles(&mut before.1),
            );
            assert!(out == run(&args) && before == run(&plain), "{m} {n} {k} {}", kernels.isa());
        }
    }
}
