//! Each operation in `f64`, by its formula alone.

use super::support::Matrix;
use altclip_tensor::Activation;

/// `Φ(x)` by the series around 0; the arguments of the tests are small.
fn normal_distribution(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-18 {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + density * sum
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Gelu => x * normal_distribution(x),
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        Activation::Tanh => x.tanh(),
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn linear(
    x: &Matrix,
    weight: &Matrix,
    bias: Option<&Matrix>,
    activation: Activation,
    residual: Option<&Matrix>,
) -> Vec<f64> {
    let mut out = Vec::new();
    for row in 0..x.rows {
        for n in 0..weight.rows {
            let z = dot(x.row(row), weight.row(n)) + bias.map_or(0.0, |bias| bias.values[n]);
            let residual = residual.map_or(0.0, |r| r.row(row)[n]);
            out.push(activate(activation, z) + residual);
        }
    }
    out
}

pub(crate) fn layer_norm(x: &Matrix, weight: &Matrix, bias: &Matrix, eps: f64) -> Vec<f64> {
    let mut out = Vec::new();
    for row in 0..x.rows {
        let (x, len) = (x.row(row), x.cols as f64);
        let mean = x.iter().sum::<f64>() / len;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / len;
        let affine = weight.values.iter().zip(&bias.values);
        out.extend(
            x.iter().zip(affine).map(|(x, (w, b))| (x - mean) / (variance + eps).sqrt() * w + b),
        );
    }
    out
}

/// Segments by their lengths.
pub(crate) struct Shape<'a> {
    pub(crate) heads: usize,
    pub(crate) queries: &'a [usize],
    pub(crate) keys: &'a [usize],
    pub(crate) causal: bool,
}

pub(crate) fn attention(q: &Matrix, kv: &Matrix, shape: &Shape<'_>) -> Vec<f64> {
    let (width, size) = (q.cols, q.cols / shape.heads);
    let mut out = vec![0.0; q.values.len()];
    let (mut first_query, mut first_key) = (0, 0);
    for (&queries, &keys) in shape.queries.iter().zip(shape.keys) {
        for i in 0..queries {
            let seen = if shape.causal { (i + 1 + keys).saturating_sub(queries) } else { keys };
            for column in (0..width).step_by(size) {
                let q = &q.row(first_query + i)[column..column + size];
                let k = |j: usize| &kv.row(first_key + j)[column..column + size];
                let scores: Vec<f64> =
                    (0..seen).map(|j| dot(q, k(j)) / (size as f64).sqrt()).collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for (j, weight) in weights.iter().enumerate() {
                    let v = &kv.row(first_key + j)[width + column..];
                    for (d, v) in v[..size].iter().enumerate() {
                        out[(first_query + i) * width + column + d] += weight / sum * v;
                    }
                }
            }
        }
        first_query += queries;
        first_key += keys;
    }
    out
}

pub(crate) fn embed(tables: &[Matrix], ids: &[Vec<u32>]) -> Vec<f64> {
    let mut out = Vec::new();
    for place in 0..ids[0].len() {
        for column in 0..tables[0].cols {
            let terms = tables.iter().zip(ids).map(|(t, ids)| t.row(ids[place] as usize)[column]);
            out.push(terms.sum());
        }
    }
    out
}

pub(crate) fn class_token(x: &Matrix, class: &Matrix, positions: &Matrix) -> Vec<f64> {
    let tokens = positions.rows;
    let mut out = Vec::new();
    for picture in 0..x.rows / (tokens - 1) {
        for token in 0..tokens {
            let row = match token {
                0 => &class.values[..],
                _ => x.row(picture * (tokens - 1) + token - 1),
            };
            out.extend(row.iter().zip(positions.row(token)).map(|(a, b)| a + b));
        }
    }
    out
}

pub(crate) fn l2_normalize(x: &Matrix) -> Vec<f64> {
    let normed = |row: usize| {
        let norm = dot(x.row(row), x.row(row)).sqrt();
        x.row(row).iter().map(move |x| x / norm).collect::<Vec<_>>()
    };
    (0..x.rows).flat_map(normed).collect()
}

pub(crate) fn similarity(a: &Matrix, b: &Matrix, scale: f64) -> Vec<f64> {
    let row = |i: usize| (0..b.rows).map(move |j| scale * dot(a.row(i), b.row(j)));
    (0..a.rows).flat_map(row).collect()
}

/// The pixel that each number of the patches is a copy of.
pub(crate) fn patch_sources(
    pictures: usize,
    channels: usize,
    [height, width]: [usize; 2],
    patch: usize,
) -> Vec<usize> {
    let mut sources = Vec::new();
    for picture in 0..pictures {
        for y0 in (0..height / patch).map(|y| y * patch) {
            for x0 in (0..width / patch).map(|x| x * patch) {
                for channel in 0..channels {
                    for y in y0..y0 + patch {
                        for x in x0..x0 + patch {
                            sources.push(((picture * channels + channel) * height + y) * width + x);
                        }
                    }
                }
            }
        }
    }
    sources
}
