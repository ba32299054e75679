//! The contrastive loss of CLIP over a batch, for any number of right texts per picture.
//!
//! With `u` the image and `w` the text features divided by their norms, and
//! `s[i][j] = exp(logit_scale) · u[i] · w[j]`:
//!
//! ```text
//! loss = ½ mean over i of H(t[i], softmax of row i) + ½ mean over j of H(t'[j], softmax of column j)
//! ```
//!
//! where H is the cross-entropy, and the target `t` of a row is spread evenly over its right texts
//! (`t'` of a column over its right pictures): with one each, this is transformers' `clip_loss`.
//!
//! The square of logits is never held: it is made twice, a block of rows at a time.
//!
//! ```text
//! pass 1: of each row its maximum and Σ exp; of each column the same, block by block
//! pass 2: the gradient of each logit in its place:
//!             g[i][j] = ½ (softmax of row i - t) / rows + ½ (softmax of column j - t') / columns
//!         images' gradient of the block = g · w
//!         texts' gradient              += gᵀ · u
//! ```
//!
//! # Source
//! Radford et al., "Learning transferable visual models from natural language supervision", 2021,
//! figure 3; transformers 5.23, `clip_loss`.

use std::convert::Infallible;
use std::ops::Range;

use altclip_kernels::{Activation, GemmF32, Kernels, PackedF32, Pool};

use super::normalize::{Normalized, normalize};
use super::{MAX_LOGIT_SCALE, PairLoss, Positives, clamp_logit_scale};
use crate::elementary::{exp, exp_f32, ln};
use crate::parallel::{lane_sum, map, tree_sum};

/// Rows of the logits that are held at once.
pub const CONTRASTIVE_BLOCK: usize = 256;
/// Columns of one task.
const COLUMNS: usize = 1024;

/// What a contrastive loss is taken of.
#[derive(Clone, Copy, Debug)]
pub struct Contrastive<'a> {
    /// Image features [B, E], not normalised.
    pub images: &'a [f32],
    /// Text features [C, E], not normalised.
    pub texts: &'a [f32],
    /// E.
    pub width: usize,
    /// B rows over C texts; each picture and each text has at least one.
    pub positives: &'a Positives,
    /// Logarithm of the scale; see [`MAX_LOGIT_SCALE`].
    pub logit_scale: f32,
}

/// The mean of both directions' cross-entropies, and the gradients of features and logit scale.
///
/// # Panics
/// Panics if lengths do not fit, or a picture or text has nothing that is right for it.
///
/// # Numerics
/// Logits, their exponentials and gradients are `f32`; sums are `f64`. What is not finite in the
/// features makes the loss NaN.
pub fn contrastive(kernels: &Kernels, pool: &Pool, args: &Contrastive<'_>) -> PairLoss {
    let positives = args.positives;
    let every_text = (0..positives.n_texts()).all(|text| positives.n_images_of_text(text) > 0);
    assert!(every_text, "contrastive: a text without a picture");
    let directions = Directions { images: 0.5, texts: 0.5 };
    soft_cross_entropy(kernels, pool, args, directions)
}

/// How much each direction counts.
#[derive(Clone, Copy)]
pub(super) struct Directions {
    /// From a picture over all texts.
    pub(super) images: f64,
    /// From a text over all pictures.
    pub(super) texts: f64,
}

/// The maximum of some logits, and the sum of `exp(logit - maximum)`.
#[derive(Clone, Copy)]
struct LogSumExp {
    maximum: f32,
    sum: f64,
}

impl LogSumExp {
    const NOTHING: LogSumExp = LogSumExp { maximum: f32::NEG_INFINITY, sum: 0.0 };

    fn value(self) -> f64 {
        // A NaN among the logits is a NaN of the sum, which `ln` is not made for.
        if self.sum.is_normal() { f64::from(self.maximum) + ln(self.sum) } else { f64::NAN }
    }
}

pub(super) fn soft_cross_entropy(
    kernels: &Kernels,
    pool: &Pool,
    args: &Contrastive<'_>,
    directions: Directions,
) -> PairLoss {
    let (n_images, n_texts) = (args.positives.n_images(), args.positives.n_texts());
    assert!(n_images > 0 && args.width > 0, "loss: an empty batch");
    assert_eq!(args.images.len(), n_images * args.width, "loss: not one image row per picture");
    assert_eq!(args.texts.len(), n_texts * args.width, "loss: not one text row per text");
    let every_image = (0..n_images).all(|image| !args.positives.of_image(image).is_empty());
    assert!(every_image, "loss: a picture without a text");
    let batch = Batch {
        kernels,
        pool,
        positives: args.positives,
        images: normalize(pool, args.images, args.width),
        texts: normalize(pool, args.texts, args.width),
        width: args.width,
        n_texts,
        scale: exp(f64::from(clamp_logit_scale(args.logit_scale))),
        per_row: directions.images / n_images as f64,
        per_column: directions.texts / n_texts as f64,
    };
    let packed = batch.pack(&batch.texts.unit, args.width);
    let (rows, columns) = batch.log_sums(&packed);
    let mut all: Vec<f64> = rows.iter().map(|row| batch.per_row * row.value()).collect();
    if batch.per_column > 0.0 {
        all.extend(columns.iter().map(|column| batch.per_column * column.value()));
    }
    let sums = batch.gradients(&packed, &rows, &columns);
    let (mut images, mut texts) = (sums.images, sums.texts);
    // Σ over logits of gradient · logit = scale · Σ over pictures of u · (their gradient).
    let along = batch.images.backward(pool, batch.scale, &mut images);
    batch.texts.backward(pool, batch.scale, &mut texts);
    let stuck = args.logit_scale > MAX_LOGIT_SCALE;
    PairLoss {
        loss: (tree_sum(&all) - sums.logits) as f32,
        images,
        texts,
        logit_scale: if stuck { 0.0 } else { (batch.scale * along) as f32 },
    }
}

struct Batch<'a> {
    kernels: &'a Kernels,
    pool: &'a Pool,
    positives: &'a Positives,
    images: Normalized,
    texts: Normalized,
    width: usize,
    n_texts: usize,
    scale: f64,
    /// What one row's cross-entropy counts.
    per_row: f64,
    /// What one column's cross-entropy counts.
    per_column: f64,
}

/// What pass 2 gives.
struct Sums {
    /// Gradient of the normalised image features, without the factor of the scale.
    images: Vec<f32>,
    /// Gradient of the normalised text features, without the factor of the scale.
    texts: Vec<f32>,
    /// Σ of the right logits, weighted by their targets: what the loss takes off.
    logits: f64,
}

impl Batch<'_> {
    /// `weight` [N, `k`] for a product.
    fn pack(&self, weight: &[f32], k: usize) -> PackedF32 {
        let fill = |rows: Range<usize>, out: &mut [f32]| {
            out.copy_from_slice(&weight[rows.start * k..rows.end * k]);
            Ok(())
        };
        let packed: Result<PackedF32, Infallible> =
            PackedF32::with_rows(self.pool, self.kernels.isa(), weight.len() / k, k, &fill);
        match packed {
            Ok(packed) => packed,
            Err(never) => match never {},
        }
    }

    fn product(&self, x: &[f32], k: usize, weight: &PackedF32, out: &mut [f32]) {
        self.product_onto(x, k, weight, None, out);
    }

    /// `out = x · Wᵀ + residual`, `x` [M, `k`].
    fn product_onto(
        &self,
        x: &[f32],
        k: usize,
        weight: &PackedF32,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let gemm = GemmF32 {
            x,
            x_stride: k,
            m: x.len() / k,
            weight,
            bias: None,
            activation: Activation::Identity,
            residual,
        };
        self.kernels.gemm_f32(self.pool, &gemm, out);
    }

    /// Calls `f(first row, unit image rows, their cosines with all texts)` block after block.
    fn for_each_block(&self, texts: &PackedF32, mut f: impl FnMut(usize, &[f32], &mut [f32])) {
        let mut cosines = Vec::new();
        for (block, images) in self.images.unit.chunks(CONTRASTIVE_BLOCK * self.width).enumerate() {
            cosines.resize(images.len() / self.width * self.n_texts, 0.0);
            self.product(images, self.width, texts, &mut cosines);
            f(block * CONTRASTIVE_BLOCK, images, &mut cosines);
        }
    }

    /// Pass 1: of each row, and of each column.
    fn log_sums(&self, texts: &PackedF32) -> (Vec<LogSumExp>, Vec<LogSumExp>) {
        let scale = self.scale as f32;
        let mut rows = Vec::new();
        let mut columns = vec![LogSumExp::NOTHING; self.n_texts];
        self.for_each_block(texts, |_, _, block| {
            let of_rows = map(self.pool, block.chunks_mut(self.n_texts).collect(), |row| {
                let mut maximum = f32::NEG_INFINITY;
                for logit in &mut *row {
                    *logit *= scale;
                    maximum = if *logit > maximum { *logit } else { maximum };
                }
                let sum = lane_sum(row, row, |logit, _| f64::from(exp_f32(logit - maximum)));
                LogSumExp { maximum, sum }
            });
            rows.extend(of_rows);
            if self.per_column > 0.0 {
                let pieces = columns.chunks_mut(COLUMNS).enumerate().collect();
                map(self.pool, pieces, |(piece, columns)| {
                    add_rows(columns, block, self.n_texts, piece * COLUMNS);
                });
            }
        });
        (rows, columns)
    }

    /// Pass 2.
    fn gradients(&self, texts: &PackedF32, rows: &[LogSumExp], columns: &[LogSumExp]) -> Sums {
        let transposed = transpose(self.pool, &self.texts.unit, self.width);
        let texts_by_feature = self.pack(&transposed, self.n_texts);
        drop(transposed);
        let factors: Vec<[f32; 2]> = columns
            .iter()
            .map(|column| [column.maximum, (self.per_column / column.sum) as f32])
            .collect();
        let mut of_images = vec![0.0; self.images.unit.len()];
        let mut of_texts = vec![0.0; self.texts.unit.len()];
        let mut before = vec![0.0; of_texts.len()];
        let mut sums = Vec::new();
        self.for_each_block(texts, |first, images, block| {
            let pieces = block.chunks_mut(self.n_texts).enumerate().collect();
            sums.extend(map(self.pool, pieces, |(i, row)| {
                self.row_gradient(first + i, rows[first + i], &factors, row)
            }));
            let own = &mut of_images[first * self.width..][..images.len()];
            self.product(block, self.n_texts, &texts_by_feature, own);

            let n_rows = images.len() / self.width;
            let images = transpose(self.pool, images, self.width);
            let images = self.pack(&images, n_rows);
            let gradient = transpose(self.pool, block, self.n_texts);
            std::mem::swap(&mut before, &mut of_texts);
            self.product_onto(&gradient, n_rows, &images, Some(&before), &mut of_texts);
        });
        Sums { images: of_images, texts: of_texts, logits: tree_sum(&sums) }
    }

    /// Turns the cosines of the picture `image` into the gradients of its logits; the sum of its
    /// right logits, weighted as the loss takes them off.
    fn row_gradient(
        &self,
        image: usize,
        of_row: LogSumExp,
        columns: &[[f32; 2]],
        row: &mut [f32],
    ) -> f64 {
        let scale = self.scale as f32;
        let positives = self.positives.of_image(image);
        let weight = |text: usize| {
            self.per_row / positives.len() as f64
                + self.per_column / f64::from(self.positives.n_images_of_text(text))
        };
        let mut logits = 0.0;
        for &text in positives {
            logits += weight(text as usize) * f64::from(row[text as usize] * scale);
        }
        let factor = (self.per_row / of_row.sum) as f32;
        let row_softmax = |cosine: f32| exp_f32(cosine * scale - of_row.maximum) * factor;
        if self.per_column > 0.0 {
            for (value, [maximum, factor]) in row.iter_mut().zip(columns) {
                *value = row_softmax(*value) + exp_f32(*value * scale - maximum) * factor;
            }
        } else {
            for value in &mut *row {
                *value = row_softmax(*value);
            }
        }
        for &text in positives {
            row[text as usize] -= weight(text as usize) as f32;
        }
        logits
    }
}

/// Adds the rows of `block` [rows, `n_texts`] to the columns from `first` on.
fn add_rows(columns: &mut [LogSumExp], block: &[f32], n_texts: usize, first: usize) {
    let mut maxima: Vec<f32> = columns.iter().map(|column| column.maximum).collect();
    let rows = || block.chunks(n_texts).map(|row| &row[first..first + columns.len()]);
    for row in rows() {
        for (maximum, &logit) in maxima.iter_mut().zip(row) {
            *maximum = if logit > *maximum { logit } else { *maximum };
        }
    }
    let mut sums = vec![0.0; columns.len()];
    for row in rows() {
        for ((sum, &maximum), &logit) in sums.iter_mut().zip(&maxima).zip(row) {
            *sum += f64::from(exp_f32(logit - maximum));
        }
    }
    for ((column, maximum), sum) in columns.iter_mut().zip(maxima).zip(sums) {
        let before = f64::from(exp_f32(column.maximum - maximum)) * column.sum;
        *column = LogSumExp { maximum, sum: before + sum };
    }
}

/// `x` [rows, `width`] as [`width`, rows].
fn transpose(pool: &Pool, x: &[f32], width: usize) -> Vec<f32> {
    let n_rows = x.len() / width;
    let mut out = vec![0.0; x.len()];
    let bands = out.chunks_mut(16 * n_rows).enumerate().collect();
    map(pool, bands, |(band, out): (usize, &mut [f32])| {
        for (i, row) in x.chunks(width).enumerate() {
            for (j, column) in out.chunks_mut(n_rows).enumerate() {
                column[i] = row[band * 16 + j];
            }
        }
    });
    out
}
