//! The gradient of one tensor: all of its values, or some rows of a table.

use std::ops::Range;

use altclip_kernels::Pool;

use crate::parallel::{PIECE, map, sum_of_squares, tree_sum};

/// What stands for the rows without a gradient, piece by piece.
static ZEROS: [f32; 2048] = [0.0; 2048];

/// The gradient of one tensor.
#[derive(Clone, Copy, Debug)]
pub enum Gradient<'a> {
    /// One value for each of the tensor.
    Dense(&'a [f32]),
    /// Rows of a table; every other row has the gradient zero.
    Rows {
        /// The rows' numbers, strictly ascending.
        ids: &'a [u32],
        /// The rows, [`ids.len()`, `width`].
        values: &'a [f32],
        /// Values in a row of the table.
        width: usize,
    },
}

impl<'a> Gradient<'a> {
    /// The values that are not zero by form.
    pub fn values(&self) -> &'a [f32] {
        match *self {
            Gradient::Dense(values) | Gradient::Rows { values, .. } => values,
        }
    }

    /// Panics unless it fits a tensor of `len` values.
    pub(crate) fn check(&self, name: &str, len: usize) {
        match *self {
            Gradient::Dense(values) => {
                assert_eq!(values.len(), len, "gradient of `{name}`: another length");
            }
            Gradient::Rows { ids, values, width } => {
                assert_eq!(values.len(), ids.len() * width, "gradient of `{name}`: row length");
                let ascending = ids.is_sorted_by(|a, b| a < b);
                assert!(ascending, "gradient of `{name}`: rows not strictly ascending");
                let end = ids.last().map_or(0, |&id| (id as usize + 1) * width);
                assert!(end <= len, "gradient of `{name}`: a row outside the table");
            }
        }
    }

    /// Calls `f` with runs of the tensor's values that together are `range`, in order, and the
    /// gradient of each.
    pub(crate) fn for_each_run(
        &self,
        range: Range<usize>,
        mut f: impl FnMut(Range<usize>, &[f32]),
    ) {
        let (ids, values, width) = match *self {
            Gradient::Dense(values) => return f(range.clone(), &values[range]),
            Gradient::Rows { ids, values, width } => (ids, values, width),
        };
        let mut row = ids.partition_point(|&id| (id as usize + 1) * width <= range.start);
        let mut start = range.start;
        while start < range.end {
            let row_start = ids.get(row).map_or(range.end, |&id| id as usize * width);
            let end;
            if start < row_start {
                end = row_start.min(range.end).min(start + ZEROS.len());
                f(start..end, &ZEROS[..end - start]);
            } else {
                end = (row_start + width).min(range.end);
                let values = &values[row * width..][..width];
                f(start..end, &values[start - row_start..end - row_start]);
                row += 1;
            }
            start = end;
        }
    }
}

/// The norms of the gradients of one step.
///
/// Squares of `f32` do not overflow an `f64`, so a norm is finite exactly if all values are: this pass
/// is the check of [`crate::guard`] too.
#[derive(Clone, Debug)]
pub struct Norms {
    squares: Vec<f64>,
}

impl Norms {
    /// Reads every gradient once.
    ///
    /// # Numerics
    /// Squares are summed in `f64`, over a tree that does not depend on the threads.
    pub fn of(pool: &Pool, gradients: &[Gradient<'_>]) -> Norms {
        let pieces =
            gradients.iter().flat_map(|gradient| gradient.values().chunks(PIECE)).collect();
        let sums = map(pool, pieces, sum_of_squares);
        let mut rest = &sums[..];
        let squares = gradients.iter().map(|gradient| {
            let (own, others) = rest.split_at(gradient.values().len().div_ceil(PIECE));
            rest = others;
            tree_sum(own)
        });
        Norms { squares: squares.collect() }
    }

    /// The Euclidean norm of all gradients together, before any clipping.
    pub fn global(&self) -> f64 {
        tree_sum(&self.squares).sqrt()
    }

    /// The Euclidean norm of the gradient `index`.
    pub fn tensor(&self, index: usize) -> f64 {
        self.squares[index].sqrt()
    }

    /// The first gradient that holds an infinity or a NaN, or whose norm is so large (1.8e19) that
    /// the square in a second moment could be infinite.
    pub fn non_finite(&self) -> Option<usize> {
        let fits = |&square: &f64| square <= f64::from(f32::MAX);
        self.squares.iter().position(|square| !fits(square))
    }

    /// The factor that clips the gradients to the norm `max_norm`: `max_norm / (norm + 1e-6)`, at
    /// most 1; 1 if `max_norm` is 0, which turns clipping off.
    ///
    /// Give it to the optimiser as [`super::Step::gradient_scale`].
    ///
    /// # Source
    /// `torch.nn.utils.clip_grad_norm_`.
    pub fn clip_coefficient(&self, max_norm: f64) -> f32 {
        if max_norm == 0.0 {
            return 1.0;
        }
        (max_norm / (self.global() + 1e-6)).min(1.0) as f32
    }
}
