//! Gradient through an activation: `dx = dy · act'(x)`.
//!
//! - GELU: `Φ(x) + x·φ(x)`, with `φ(x) = exp(-x²/2) / √(2π)`.
//! - QuickGELU: `σ(z)·(1 + z·(1 - σ(z)))`, with `z = 1.702·x`.
//! - tanh: `1 - tanh²(x)`.

use super::{load, store};
use crate::activation::{Activation, activation_slope};
use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;
use crate::elementwise::for_chunks;
use crate::{Pool, Source};

/// `out = dy · activation'(x)`.
///
/// # Safety
/// The processor has the instruction set of `V`; the slices have one length.
#[inline(always)]
pub(crate) unsafe fn activation_backward<V: F32x16>(
    activation: Activation,
    x: &[f32],
    dy: &[f32],
    out: &mut [f32],
) {
    debug_assert!(x.len() == out.len() && dy.len() == out.len());
    let (x, dy, len) = (x.as_ptr(), dy.as_ptr(), out.len());
    for at in (0..len).step_by(LANES) {
        let count = LANES.min(len - at);
        // SAFETY: all offsets stay within the length that the slices have.
        unsafe {
            let slope = activation_slope(activation, load::<V>(x.add(at), count, 0.0));
            let dx = slope * load::<V>(dy.add(at), count, 0.0);
            store(dx, out.as_mut_ptr().add(at), count);
        }
    }
}

impl Kernels {
    /// `out = dy · activation'(x)` per value, `x` what the activation was applied to.
    ///
    /// # Panics
    /// Panics if the lengths differ.
    ///
    /// # Numerics
    /// The slope is within 8e-7 of the true one.
    pub fn activation_backward_f32(
        &self,
        pool: &Pool,
        activation: Activation,
        x: &[f32],
        dy: &[f32],
        out: &mut [f32],
    ) {
        assert_eq!(x.len(), out.len(), "activation: x and out differ in length");
        assert_eq!(dy.len(), out.len(), "activation: dy and out differ in length");
        for_chunks(pool, out, 1, &|range, out| {
            // SAFETY: a table exists only where its instruction set does; the lengths are equal.
            unsafe { (self.backward.activation)(activation, &x[range.clone()], &dy[range], out) }
        });
    }

    /// The same for `x` [`rows`, `cols`], rounded to `bf16` tiles.
    ///
    /// # Panics
    /// Panics if the lengths do not fit.
    #[allow(clippy::too_many_arguments, reason = "two operands, their shape, and the result")]
    pub fn activation_backward_tiles(
        &self,
        pool: &Pool,
        activation: Activation,
        x: &Source<'_>,
        dy: &[f32],
        rows: usize,
        cols: usize,
        out: &mut [u8],
    ) {
        x.check(rows, cols);
        assert_eq!(dy.len(), rows * cols, "activation: dy has another length");
        self.write_tiles(pool, rows, cols, out, &|row, write| {
            crate::aligned::with_scratch(2 * cols, |scratch| {
                let (x_row, dx) = scratch.split_at_mut(cols);
                self.read_row(x, row, cols, x_row);
                let dy = &dy[row * cols..][..cols];
                // SAFETY: a table exists only where its instruction set does; all are `cols` long.
                unsafe { (self.backward.activation)(activation, x_row, dy, dx) };
                write(dx);
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::testing::{Bound, Place, Random, Runner, lengths};
    use crate::{Tiles, tiles_bytes};

    const ALL: [Activation; 4] =
        [Activation::Identity, Activation::Gelu, Activation::QuickGelu, Activation::Tanh];

    #[test]
    fn slopes_agree_with_the_oracle() {
        let runner = Runner::new();
        let mut random = Random::new(1);
        for activation in ALL {
            // A grid over where the slope lives, and beyond.
            let grid: Vec<f32> = (-1600..=1600).map(|i| i as f32 * 0.0125).collect();
            let mut cases = vec![grid, vec![-200.0, 200.0]];
            cases.extend(lengths().map(|len| random.hostile(len)));
            for x in cases {
                let dy = random.values(x.len());
                let expected = reference::activation_backward(activation, &x, &dy);
                let run = |kernels: &Kernels, pool: &Pool, place: Place| {
                    let mut out = place.fill(f32::NAN, x.len());
                    let (x, dy) = (place.put(&x), place.put(&dy));
                    kernels.activation_backward_f32(pool, activation, &x, &dy, &mut out);
                    out.to_vec()
                };
                let name = format!("slope of {activation:?}, {}", x.len());
                let bound = Bound::Absolute(8e-7);
                runner.check(&name, &expected, &bound, &|k, p| run(k, p, Place::Anywhere));
                if x.len() < 70 {
                    runner.in_all_places(&name, &run);
                }
            }
        }
    }

    #[test]
    fn tiles_hold_the_same_rounded() {
        let mut random = Random::new(2);
        let pool = Pool::new(2);
        for (rows, cols) in [(1, 1), (17, 33), (40, 64)] {
            let (x, dy) = (random.values(rows * cols), random.values(rows * cols));
            for kernels in Runner::new().kernels() {
                let mut plain = vec![0.0; x.len()];
                kernels.activation_backward_f32(&pool, Activation::Gelu, &x, &dy, &mut plain);
                let mut expected = vec![0; tiles_bytes(rows, cols)];
                kernels.pack_tiles(&pool, &plain, rows, cols, &mut expected);
                let mut out = vec![0; tiles_bytes(rows, cols)];
                let source = Source::Rows(&x);
                let gelu = Activation::Gelu;
                kernels.activation_backward_tiles(&pool, gelu, &source, &dy, rows, cols, &mut out);
                assert!(out == expected);
                assert_eq!(Tiles::new(&out, rows, cols).rows(), rows);
            }
        }
    }
}
