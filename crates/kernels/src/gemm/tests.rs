//! The matrix product against the oracle, and against itself: levels, threads, batches.

use super::*;
use crate::reference;
use crate::testing::{Bound, Random, Runner, assert_same_bits, unaligned};

/// A product with everything it can have.
struct Case {
    m: usize,
    n: usize,
    k: usize,
    x_stride: usize,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    activation: Activation,
    residual: Option<Vec<f32>>,
}

impl Case {
    fn new(m: usize, n: usize, k: usize, random: &mut Random) -> Self {
        let x_stride = k + random.below(4);
        Case {
            m,
            n,
            k,
            x_stride,
            x: random.values(m * x_stride),
            weight: random.values(n * k),
            bias: (random.below(2) == 0).then(|| random.values(n)),
            activation: [Activation::Identity, Activation::Gelu, Activation::QuickGelu]
                [random.below(3)],
            residual: (random.below(2) == 0).then(|| random.values(m * n)),
        }
    }

    fn run(&self, kernels: &Kernels, pool: &Pool) -> Vec<f32> {
        self.run_rows(kernels, pool, 0..self.m)
    }

    fn run_rows(&self, kernels: &Kernels, pool: &Pool, rows: std::ops::Range<usize>) -> Vec<f32> {
        let weight = PackedF32::pack(kernels.isa(), &self.weight, self.n, self.k);
        let (x, from) = unaligned(&self.x[rows.start * self.x_stride..rows.end * self.x_stride]);
        let cut = |r: &'_ Vec<f32>| r[rows.start * self.n..rows.end * self.n].to_vec();
        let residual = self.residual.as_ref().map(cut);
        let args = GemmF32 {
            x: &x[from..],
            x_stride: self.x_stride,
            m: rows.len(),
            weight: &weight,
            bias: self.bias.as_deref(),
            activation: self.activation,
            residual: residual.as_deref(),
        };
        // The output begins off a boundary too, and its surroundings must stay as they are.
        let mut out = vec![7.0; rows.len() * self.n + 2];
        let end = out.len() - 1;
        kernels.gemm_f32(pool, &args, &mut out[1..end]);
        assert_eq!((out[0], out[end]), (7.0, 7.0), "wrote beside the output");
        out[1..end].to_vec()
    }

    fn reference(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        reference::gemm(
            x,
            self.x_stride,
            self.m,
            weight,
            self.n,
            self.k,
            bias,
            self.activation,
            self.residual.as_deref(),
        )
    }

    fn check(&self, runner: &Runner) {
        let expected = self.reference(&self.x, &self.weight, self.bias.as_deref());
        // Of a sum of k terms in f32 the error is below k · 2^-24 times the sum of magnitudes; an
        // activation passes it on by a factor below 1.2 and adds its own.
        let abs = |values: &[f32]| values.iter().map(|x| x.abs()).collect::<Vec<_>>();
        let plain = Case { activation: Activation::Identity, residual: None, ..self.copy() };
        let sizes = plain.reference(&abs(&self.x), &abs(&self.weight), None);
        let unit = 2f64.powi(-24);
        let bound = sizes.iter().zip(&expected).map(|(&size, &y)| {
            let size = f64::from(size) + 2.0;
            1.2 * (self.k + 4) as f64 * unit * size + 4.0 * unit * f64::from(y).abs() + 2e-7 * size
        });
        let Case { m, n, k, activation, .. } = self;
        runner.check(
            &format!("gemm {m}×{k}×{n} {activation:?}"),
            &expected,
            &Bound::Each(bound.collect()),
            &|kernels, pool| self.run(kernels, pool),
        );
    }

    fn copy(&self) -> Case {
        Case {
            x: self.x.clone(),
            weight: self.weight.clone(),
            bias: self.bias.clone(),
            residual: self.residual.clone(),
            ..*self
        }
    }
}

#[test]
fn every_tail_agrees_with_the_oracle() {
    let runner = Runner::new();
    let mut random = Random::new(1);
    for m in [1, 2, 3, 4, 5, 6, 7, 13] {
        for n in [1, 15, 16, 17, 31, 33, 48, 63, 64, 65, 130] {
            for k in [0, 1, 2, 7, 64, 255, 256, 257] {
                Case::new(m, n, k, &mut random).check(&runner);
            }
        }
    }
}

#[test]
fn large_and_cancelling_values_agree_with_the_oracle() {
    let runner = Runner::new();
    let mut random = Random::new(2);
    for (m, n, k) in [(7, 70, 300), (2, 16, 1000), (30, 5, 513)] {
        let mut case = Case::new(m, n, k, &mut random);
        case.x = random.hostile(m * case.x_stride);
        case.weight = random.hostile(n * k);
        case.check(&runner);
    }
}

#[test]
fn a_row_has_the_same_bits_in_every_batch() {
    let runner = Runner::new();
    let mut random = Random::new(3);
    let case = Case::new(64, 81, 530, &mut random);
    for kernels in runner.kernels() {
        let pool = Pool::new(2);
        let rows: Vec<f32> =
            (0..64).flat_map(|row| case.run_rows(kernels, &pool, row..row + 1)).collect();
        for m in 1..=64 {
            let start = (64 - m) / 2;
            let found = case.run_rows(kernels, &pool, start..start + m);
            let name = format!("{m} rows on {}", kernels.isa());
            assert_same_bits(&name, &found, &rows[start * 81..(start + m) * 81]);
        }
    }
}

#[test]
fn threads_and_row_blocks_do_not_show() {
    let mut random = Random::new(4);
    // More rows than two blocks, so that blocks are cut differently for each thread count.
    let case = Case::new(2 * ROW_BLOCK + 29, 40, 70, &mut random);
    let kernels = Kernels::get();
    let one = case.run(kernels, &Pool::new(1));
    for threads in [2, 3, 7] {
        let found = case.run(kernels, &Pool::new(threads));
        assert_same_bits(&format!("{threads} threads"), &found, &one);
    }
}

#[test]
fn nan_and_infinity_reach_their_row_and_column_and_nothing_else() {
    let runner = Runner::new();
    let mut random = Random::new(5);
    for (bad, activation) in [
        (f32::NAN, Activation::Identity),
        (f32::INFINITY, Activation::Gelu),
        (f32::NEG_INFINITY, Activation::QuickGelu),
    ] {
        let mut case = Case { activation, ..Case::new(8, 70, 37, &mut random) };
        case.x[3 * case.x_stride + 20] = bad;
        case.weight[66 * 37 + 5] = bad;
        let found =
            runner.same_bits("gemm with a bad value", &|kernels, pool| case.run(kernels, pool));
        for (i, y) in found.iter().enumerate() {
            let touched = i / 70 == 3 || i % 70 == 66;
            // An activation may bring -inf back to NaN, but +inf stays: either is not finite.
            assert_eq!(!y.is_finite(), touched, "{bad} {activation:?}: value {i} is {y}");
        }
    }
}

#[test]
fn what_the_activation_is_applied_to_can_be_kept() {
    let runner = Runner::new();
    let mut random = Random::new(7);
    for (m, n, k) in [(1, 1, 1), (7, 17, 300), (30, 70, 5)] {
        let case = Case { activation: Activation::Gelu, ..Case::new(m, n, k, &mut random) };
        let plain = Case { activation: Activation::Identity, residual: None, ..case.copy() };
        runner.in_all_places("kept", &|kernels, pool, place| {
            let weight = PackedF32::pack(kernels.isa(), &case.weight, n, k);
            let args = GemmF32 {
                x: &case.x,
                x_stride: case.x_stride,
                m,
                weight: &weight,
                bias: case.bias.as_deref(),
                activation: case.activation,
                residual: case.residual.as_deref(),
            };
            let mut out = place.fill(f32::NAN, m * n);
            let mut before = place.fill(f32::NAN, m * n);
            kernels.gemm_f32_keeping(pool, &args, &mut out, &mut before);
            assert_same_bits("out", &out, &case.run(kernels, pool));
            assert_same_bits("before", &before, &plain.run(kernels, pool));
            [out.to_vec(), before.to_vec()].concat()
        });
    }
}

#[test]
fn no_rows_and_no_columns_are_no_trouble() {
    let kernels = Kernels::get();
    let pool = Pool::new(2);
    let mut random = Random::new(6);
    for (m, n, k) in [(0, 5, 3), (4, 0, 3), (0, 0, 0)] {
        assert!(Case::new(m, n, k, &mut random).run(kernels, &pool).is_empty());
    }
}

#[test]
#[should_panic(expected = "gemm: x has 5 values, needs 6")]
fn a_short_input_is_refused() {
    let kernels = Kernels::get();
    let weight = PackedF32::pack(kernels.isa(), &[0.0; 3], 1, 3);
    let args = GemmF32 {
        x: &[0.0; 5],
        x_stride: 3,
        m: 2,
        weight: &weight,
        bias: None,
        activation: Activation::Identity,
        residual: None,
    };
    kernels.gemm_f32(&Pool::new(1), &args, &mut [0.0; 2]);
}
