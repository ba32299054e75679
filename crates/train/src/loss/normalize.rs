//! Rows of length 1, and the way back of their gradients.

use altclip_kernels::Pool;

use crate::parallel::{lane_sum, map, sum_of_squares, tree_sum};

/// Features divided by their Euclidean norms.
pub(super) struct Normalized {
    /// [rows, width].
    pub(super) unit: Vec<f32>,
    /// 1 / norm of each row.
    inverse: Vec<f64>,
    width: usize,
}

/// `x / ‖x‖` of each row of `x` [rows, `width`]. A row of zeros becomes NaN, as in transformers.
pub(super) fn normalize(pool: &Pool, x: &[f32], width: usize) -> Normalized {
    let mut unit = x.to_vec();
    let inverse = map(pool, unit.chunks_mut(width).collect(), |row| {
        let inverse = 1.0 / sum_of_squares(row).sqrt();
        for value in row {
            *value = (f64::from(*value) * inverse) as f32;
        }
        inverse
    });
    Normalized { unit, inverse, width }
}

impl Normalized {
    /// Turns the gradient of `scale ·` the unit rows into that of the rows before:
    /// `(g - u (u · g)) · scale / ‖x‖`. Gives back the sum of `u · g` over the rows.
    pub(super) fn backward(&self, pool: &Pool, scale: f64, gradient: &mut [f32]) -> f64 {
        let rows = gradient.chunks_mut(self.width).zip(self.unit.chunks(self.width));
        let along = map(pool, rows.zip(&self.inverse).collect(), |((gradient, unit), inverse)| {
            let dot =
                lane_sum(unit, gradient, |unit, gradient| f64::from(unit) * f64::from(gradient));
            for (gradient, unit) in gradient.iter_mut().zip(unit) {
                let along = f64::from(*unit) * dot;
                *gradient = ((f64::from(*gradient) - along) * scale * inverse) as f32;
            }
            dot
        });
        tree_sum(&along)
    }
}
