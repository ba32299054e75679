//! LoRA: a linear weight `W` [N, K] that is trained through `W' = W + scale · B · A`.
//!
//! `A` [R, K] begins with normal numbers and `B` [N, R] with zeros, so `W' = W` at first;
//! `scale = alpha / R`. Each step computes `W'` from the masters and trains as if it were the weight;
//! the gradient of `W'` then gives those of the factors:
//!
//! ```text
//! dB = scale · dW' · Aᵀ        dA = scale · Bᵀ · dW'
//! ```
//!
//! # Numerics
//! Sums in `f32`, each in the order of its index, whatever the number of threads.
//!
//! # Source
//! Hu et al., "LoRA: low-rank adaptation of large language models", arXiv 2106.09685. Names and the
//! initial values (standard deviation 1 / R: PEFT's `gaussian`) are those of PEFT.

use altclip_kernels::Pool;

use crate::parallel::map;
use crate::random::Random;

/// Columns of one task of a gradient.
const COLUMNS: usize = 256;

/// The sizes of one adapted weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lora {
    /// N, outputs of the weight.
    pub n: usize,
    /// K, inputs of the weight.
    pub k: usize,
    /// R, columns of `B` and rows of `A`.
    pub rank: usize,
    /// The update counts `alpha / rank` times.
    pub alpha: f32,
}

/// The two factors, or their gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// `A` [R, K].
    pub a: Vec<f32>,
    /// `B` [N, R].
    pub b: Vec<f32>,
}

impl Lora {
    /// `alpha / rank`.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }

    /// The factors before the first step; `random` is a stream of the weight's own.
    pub fn initial(&self, pool: &Pool, random: &Random) -> Factors {
        let mut a = vec![0.0; self.rank * self.k];
        random.fill_normal(pool, 1.0 / self.rank as f64, &mut a);
        Factors { a, b: vec![0.0; self.n * self.rank] }
    }

    /// `W + scale · B · A`, [N, K]: the weight of a step, and of the merged model.
    ///
    /// # Panics
    /// Panics if lengths do not fit the sizes.
    pub fn merged(&self, pool: &Pool, weight: &[f32], factors: &Factors) -> Vec<f32> {
        self.check(weight, factors);
        let scale = self.scale();
        let mut merged = weight.to_vec();
        let rows = merged.chunks_mut(self.k).zip(factors.b.chunks(self.rank)).collect();
        map(pool, rows, |(row, b): (&mut [f32], &[f32])| {
            for (b, a) in b.iter().zip(factors.a.chunks(self.k)) {
                add_scaled(row, scale * b, a);
            }
        });
        merged
    }

    /// The gradients of the factors, from that of the merged weight [N, K].
    ///
    /// # Panics
    /// Panics if lengths do not fit the sizes.
    pub fn gradients(&self, pool: &Pool, weight: &[f32], factors: &Factors) -> Factors {
        self.check(weight, factors);
        let scale = self.scale();
        let mut b = vec![0.0; self.n * self.rank];
        let rows = b.chunks_mut(self.rank).zip(weight.chunks(self.k)).collect();
        map(pool, rows, |(b, row): (&mut [f32], &[f32])| {
            for (b, a) in b.iter_mut().zip(factors.a.chunks(self.k)) {
                *b = scale * dot(row, a);
            }
        });
        let starts = (0..self.k).step_by(COLUMNS).collect();
        let bands = map(pool, starts, |start: usize| {
            let width = COLUMNS.min(self.k - start);
            let mut band = vec![0.0; self.rank * width];
            for (row, b) in weight.chunks(self.k).zip(factors.b.chunks(self.rank)) {
                for (a, b) in band.chunks_mut(width).zip(b) {
                    add_scaled(a, scale * b, &row[start..start + width]);
                }
            }
            band
        });
        let a = (0..self.rank).flat_map(|rank| {
            bands.iter().flat_map(move |band| {
                let width = band.len() / self.rank;
                &band[rank * width..][..width]
            })
        });
        Factors { a: a.copied().collect(), b }
    }

    fn check(&self, weight: &[f32], factors: &Factors) {
        assert!(self.rank > 0 && self.k > 0, "lora: no rank or no inputs");
        assert_eq!(weight.len(), self.n * self.k, "lora: the weight is not [N, K]");
        assert_eq!(factors.a.len(), self.rank * self.k, "lora: A is not [R, K]");
        assert_eq!(factors.b.len(), self.n * self.rank, "lora: B is not [N, R]");
    }
}

/// The names under which PEFT saves `A` and `B` of the weight `name` (`….query.weight`):
/// `base_model.model.….query.lora_A.weight` and the same with `lora_B`. `None` unless the name ends
/// in `.weight`.
pub fn peft_names(name: &str) -> Option<[String; 2]> {
    let module = name.strip_suffix(".weight")?;
    Some(["A", "B"].map(|factor| format!("base_model.model.{module}.lora_{factor}.weight")))
}

/// `y += factor · x`
fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// `Σ x · y` in sixteen lanes.
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (x_groups, x_rest) = x.as_chunks::<16>();
    let (y_groups, y_rest) = y.as_chunks::<16>();
    for (x, y) in x_groups.iter().zip(y_groups) {
        for ((sum, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    for ((sum, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *sum += x * y;
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LORA: Lora = Lora { n: 7, k: 2 * COLUMNS + 9, rank: 3, alpha: 6.0 };

    fn normals(stream: u64, len: usize) -> Vec<f32> {
        let mut values = vec![0.0; len];
        Random::new(2, stream).fill_normal(&Pool::new(1), 1.0, &mut values);
        values
    }

    fn factors() -> Factors {
        Factors { a: normals(0, LORA.rank * LORA.k), b: normals(1, LORA.n * LORA.rank) }
    }

    #[test]
    fn nothing_changes_at_first() {
        let pool = Pool::new(2);
        let weight = normals(2, LORA.n * LORA.k);
        let factors = LORA.initial(&pool, &Random::named(0, "query"));
        assert!(factors.a.iter().all(|&a| a != 0.0));
        assert_eq!(LORA.merged(&pool, &weight, &factors), weight);
    }

    /// The loss `Σ g · W'` is linear in each factor, so a gradient is a difference of any width.
    #[test]
    fn gradients_are_the_differences() {
        let pool = Pool::new(2);
        let (weight, gradient) = (normals(2, LORA.n * LORA.k), normals(3, LORA.n * LORA.k));
        let loss = |factors: &Factors| -> f64 {
            let merged = LORA.merged(&pool, &weight, factors);
            merged.iter().zip(&gradient).map(|(&w, &g)| f64::from(w) * f64::from(g)).sum()
        };
        let start = factors();
        let found = LORA.gradients(&pool, &gradient, &start);
        for (i, &expected) in found.a.iter().enumerate().step_by(41) {
            let mut moved = start.clone();
            moved.a[i] += 1.0;
            assert!((loss(&moved) - loss(&start) - f64::from(expected)).abs() < 1e-4, "A[{i}]");
        }
        for (i, &expected) in found.b.iter().enumerate() {
            let mut moved = start.clone();
            moved.b[i] += 1.0;
            assert!((loss(&moved) - loss(&start) - f64::from(expected)).abs() < 1e-3, "B[{i}]");
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        let gradient = normals(3, LORA.n * LORA.k);
        let result = |threads| LORA.gradients(&Pool::new(threads), &gradient, &factors());
        assert_eq!(result(1), result(3));
    }

    #[test]
    fn names_are_those_of_peft() {
        let [a, b] = peft_names("text_model.roberta.encoder.layer.0.attention.self.query.weight")
            .expect("a weight");
        let module = "base_model.model.text_model.roberta.encoder.layer.0.attention.self.query";
        assert_eq!(a, format!("{module}.lora_A.weight"));
        assert_eq!(b, format!("{module}.lora_B.weight"));
        assert_eq!(peft_names("logit_scale"), None);
    }
}
