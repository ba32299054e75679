//! The same operations as plain loops: the oracle of the tests.
//!
//! Every sum is accumulated in `f64`, every function is evaluated in `f64`, and only the result is
//! rounded to `f32`. Nothing here is fast, and nothing is shared with the kernels.

use crate::{Activation, AttentionF32};

/// `activation(x)` in `f64`.
pub fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Gelu => x * normal_distribution(x),
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        Activation::Tanh => x.tanh(),
    }
}

/// Φ(x), the normal distribution function, to about 1e-15.
///
/// Around 0 by the series `Φ(x) = 1/2 + φ(x)·(x + x³/3 + x⁵/15 + …)`; in the tails by the continued
/// fraction `Φ(-a) = φ(a) / (a + 1/(a + 2/(a + 3/(a + …))))`.
pub fn normal_distribution(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    let density = (-0.5 * a * a).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let below = if a < 3.0 {
        let (mut term, mut sum, mut odd) = (a, a, 1.0);
        while term > sum * 1e-17 {
            odd += 2.0;
            term *= a * a / odd;
            sum += term;
        }
        0.5 - density * sum
    } else {
        let mut fraction = a;
        for i in (1..=100).rev() {
            fraction = a + f64::from(i) / fraction;
        }
        density / fraction
    };
    if x < 0.0 { below } else { 1.0 - below }
}

/// `activation(x · Wᵀ + bias) + residual` with `x` [M, K] (rows `x_stride` apart), `weight` [N, K].
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    x: &[f32],
    x_stride: usize,
    m: usize,
    weight: &[f32],
    n: usize,
    k: usize,
    bias: Option<&[f32]>,
    activation: Activation,
    residual: Option<&[f32]>,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(m * n);
    for row in 0..m {
        for column in 0..n {
            let mut sum = 0.0;
            for i in 0..k {
                sum += f64::from(x[row * x_stride + i]) * f64::from(weight[column * k + i]);
            }
            let y = activate(activation, sum + bias.map_or(0.0, |bias| f64::from(bias[column])));
            out.push((y + residual.map_or(0.0, |r| f64::from(r[row * n + column]))) as f32);
        }
    }
    out
}

/// Attention; the arguments are those of the kernel.
pub fn attention(args: &AttentionF32<'_>) -> Vec<f32> {
    let (heads, size) = (args.heads, args.head_size);
    let mut out = vec![0.0; args.query_segments.last().map_or(0, |&t| t * heads * size)];
    for segment in 0..args.query_segments.len().saturating_sub(1) {
        let queries = args.query_segments[segment]..args.query_segments[segment + 1];
        let keys = args.key_segments[segment]..args.key_segments[segment + 1];
        for (i, query) in queries.clone().enumerate() {
            let sees = |key: usize| {
                let shown = args.key_mask.is_none_or(|mask| mask[key]);
                let j = key - keys.start;
                shown && (!args.causal || j + queries.len() <= i + keys.len())
            };
            let seen: Vec<usize> = keys.clone().filter(|&key| sees(key)).collect();
            for head in 0..heads {
                let at = |row: usize, stride: usize, d: usize| row * stride + head * size + d;
                let score = |&key: &usize| -> f64 {
                    let product = |d: usize| {
                        f64::from(args.q[at(query, args.q_stride, d)])
                            * f64::from(args.k[at(key, args.k_stride, d)])
                    };
                    (0..size).map(product).sum::<f64>() * f64::from(args.scale)
                };
                let scores: Vec<f64> = seen.iter().map(score).collect();
                let weights = softmax_f64(&scores);
                for d in 0..size {
                    let value = |key: usize| f64::from(args.v[at(key, args.v_stride, d)]);
                    let sum: f64 = seen.iter().zip(&weights).map(|(&k, w)| w * value(k)).sum();
                    out[at(query, heads * size, d)] = sum as f32;
                }
            }
        }
    }
    out
}

/// The softmax of a row.
pub fn softmax(row: &[f32]) -> Vec<f32> {
    let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
    softmax_f64(&row).into_iter().map(|x| x as f32).collect()
}

fn softmax_f64(row: &[f64]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = row.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// The layer norm of a row.
pub fn layer_norm(row: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let len = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / len;
    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / len;
    let root = (variance + f64::from(eps)).sqrt();
    let normed = row.iter().map(|&x| (f64::from(x) - mean) / root);
    let affine = normed.zip(weight.iter().zip(bias));
    affine.map(|(x, (&w, &b))| (x * f64::from(w) + f64::from(b)) as f32).collect()
}

/// A row divided by its Euclidean length.
pub fn l2_normalize(row: &[f32]) -> Vec<f32> {
    let norm = dot(row, row).sqrt();
    row.iter().map(|&x| (f64::from(x) / norm) as f32).collect()
}

/// The dot product, in `f64`.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// `dy · activation'(x)`.
pub fn activation_backward(activation: Activation, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let slope = |x: f64| match activation {
        Activation::Identity => 1.0,
        Activation::Gelu => {
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            normal_distribution(x) + x * density
        }
        Activation::QuickGelu => {
            let sigmoid = 1.0 / (1.0 + (-1.702 * x).exp());
            sigmoid * (1.0 + 1.702 * x * (1.0 - sigmoid))
        }
        Activation::Tanh => 1.0 - x.tanh().powi(2),
    };
    x.iter().zip(dy).map(|(&x, &dy)| (f64::from(dy) * slope(f64::from(x))) as f32).collect()
}

/// `Σ_r x[r, c]` for each column of rows of `cols` values.
pub fn column_sums(x: &[f32], cols: usize) -> Vec<f32> {
    let sum = |c: usize| x.iter().skip(c).step_by(cols).map(|&x| f64::from(x)).sum::<f64>();
    (0..cols).map(|c| sum(c) as f32).collect()
}

/// The gradients of the layer norm of rows: of the rows, the weight and the bias, one after the other.
pub fn layer_norm_backward(x: &[f32], dy: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let cols = weight.len();
    let len = cols as f64;
    let (mut dx, mut sums) = (Vec::new(), vec![0.0; 2 * cols]);
    for (x, dy) in x.chunks(cols).zip(dy.chunks(cols)) {
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / len;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / len;
        let root = (variance + f64::from(eps)).sqrt();
        let n: Vec<f64> = x.iter().map(|&x| (f64::from(x) - mean) / root).collect();
        let g: Vec<f64> =
            dy.iter().zip(weight).map(|(&dy, &w)| f64::from(dy) * f64::from(w)).collect();
        let mean_g = g.iter().sum::<f64>() / len;
        let mean_gn = g.iter().zip(&n).map(|(g, n)| g * n).sum::<f64>() / len;
        for i in 0..cols {
            dx.push(((g[i] - mean_g - n[i] * mean_gn) / root) as f32);
            sums[i] += f64::from(dy[i]) * n[i];
            sums[cols + i] += f64::from(dy[i]);
        }
    }
    dx.extend(sums.into_iter().map(|sum| sum as f32));
    dx
}

/// The gradients of attention from that of its result: of the queries, and of keys and values side
/// by side. The arguments are those of the kernel.
pub fn attention_backward(args: &AttentionF32<'_>, grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (heads, size, scale) = (args.heads, args.head_size, f64::from(args.scale));
    let width = heads * size;
    let rows = |segments: &[usize]| segments.last().copied().unwrap_or(0);
    let mut dq = vec![0.0; rows(args.query_segments) * width];
    let mut dkv = vec![0.0; rows(args.key_segments) * 2 * width];
    let dot = |a: &[f32], b: &[f32]| self::dot(&a[..size], &b[..size]);
    for segment in 0..args.query_segments.len().saturating_sub(1) {
        let queries = args.query_segments[segment]..args.query_segments[segment + 1];
        let keys = args.key_segments[segment]..args.key_segments[segment + 1];
        for (i, query) in queries.clone().enumerate() {
            let sees = |key: &usize| {
                let shown = args.key_mask.is_none_or(|mask| mask[*key]);
                shown && (!args.causal || key - keys.start + queries.len() <= i + keys.len())
            };
            let seen: Vec<usize> = keys.clone().filter(sees).collect();
            for first in (0..width).step_by(size) {
                let q = &args.q[query * args.q_stride + first..];
                let grad = &grad[query * width + first..];
                let k = |key: usize| &args.k[key * args.k_stride + first..];
                let v = |key: usize| &args.v[key * args.v_stride + first..];
                let scores: Vec<f64> = seen.iter().map(|&key| dot(q, k(key)) * scale).collect();
                let p = softmax_f64(&scores);
                let dp: Vec<f64> = seen.iter().map(|&key| dot(grad, v(key))).collect();
                let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                for (at, &key) in seen.iter().enumerate() {
                    let ds = p[at] * (dp[at] - mean) * scale;
                    for d in 0..size {
                        dq[query * width + first + d] += ds * f64::from(k(key)[d]);
                        dkv[key * 2 * width + first + d] += ds * f64::from(q[d]);
                        dkv[(key * 2 + 1) * width + first + d] += p[at] * f64::from(grad[d]);
                    }
                }
            }
        }
    }
    let narrow = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect();
    (narrow(dq), narrow(dkv))
}

/// `x` with values dropped as [`crate::DropoutMask`] says, from the formulas alone.
pub fn dropout(x: &[f32], p: f32, seed: u64, offset: u64) -> Vec<f32> {
    let finalize = |mut h: u32| {
        for (shift, factor) in [(16, 0x85eb_ca6b_u32), (13, 0xc2b2_ae35)] {
            h = (h ^ (h >> shift)).wrapping_mul(factor);
        }
        h ^ (h >> 16)
    };
    let mut key = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9_u64), (27, 0x94d0_49bb_1331_11eb)] {
        key = (key ^ (key >> shift)).wrapping_mul(factor);
    }
    key ^= key >> 31;
    let kept = |i: usize| {
        let position = offset.wrapping_add(i as u64);
        let high = finalize((position >> 32) as u32 ^ (key >> 32) as u32);
        let hash = finalize(finalize(position as u32 ^ key as u32).wrapping_add(high));
        f64::from(hash) / 2f64.powi(32) >= f64::from(p)
    };
    let scale = 1.0 / (1.0 - p);
    x.iter().enumerate().map(|(i, &x)| if kept(i) { x * scale } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_function_has_known_values() {
        // Values of the NIST handbook's function (DLMF 7.17), 16 digits.
        for (x, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-1.0, 0.158_655_253_931_457_05),
            (2.5, 0.993_790_334_674_223_8),
            (-4.0, 3.167_124_183_311_992e-5),
            (-10.0, 7.619_853_024_160_527e-24),
        ] {
            let found = normal_distribution(x);
            assert!((found / expected - 1.0).abs() < 1e-13, "{x}: {found:e} {expected:e}");
        }
    }
}
