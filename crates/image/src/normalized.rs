//! The order of Wukong's authors: values are normalised first, and the floating-point picture is resized.
//!
//! What they run resizes as OpenCV does: four source values a direction however much is shrunk, nothing
//! rounded to 8 bits, nothing clamped.
//!
//! ```text
//! x     = (i + 0.5) * source / output - 0.5, of which t is the fraction
//! out_i = sum of w_k(t) * in[floor(x) - 1 + k], k = 0..4, the border repeated; cubic with a = -0.75
//! ```
//!
//! # Source
//! mindspore-ai/models `research/mm/wukong/src/dataset/dataset.py` (commit 0b9c579); mindspore-ai/mindspore
//! `minddata/dataset/kernels/image/{resize_op,image_utils,center_crop_op}.cc` (commit 0a365e9), which calls
//! `cv::resize` with `INTER_CUBIC`.

use crate::error::Error;
use crate::resize::Window;
use crate::rgb::{Rgb, zeros};

/// The source positions of one output position, and their weights.
struct Taps {
    at: [u32; 4],
    weights: [f32; 4],
}

impl Taps {
    fn new(output_at: u32, source: u32, output: u32) -> Self {
        const A: f32 = -0.75;
        let scale = f64::from(source) / f64::from(output);
        let x = ((f64::from(output_at) + 0.5) * scale - 0.5) as f32;
        let t = x - x.floor();
        let near = |t: f32| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
        let before = ((A * (t + 1.0) - 5.0 * A) * (t + 1.0) + 8.0 * A) * (t + 1.0) - 4.0 * A;
        let (first, second) = (near(t), near(1.0 - t));
        let last = i64::from(source) - 1;
        let at = |k: i64| (x.floor() as i64 - 1 + k).clamp(0, last.max(0)) as u32;
        Self {
            at: [0, 1, 2, 3].map(at),
            weights: [before, first, second, 1.0 - before - first - second],
        }
    }
}

/// The long side of a picture whose short side becomes `size`: rounded, in single precision.
pub(crate) fn long_side(short: u32, long: u32, size: u32) -> u32 {
    (long as f32 / short as f32 * size as f32).round() as u32
}

/// The values of each channel by its pixel value.
type Table = [[f32; 256]; 3];

/// Where a window comes from and goes to.
pub(crate) struct Placed {
    /// Width and height of the resized picture.
    pub(crate) size: (u32, u32),
    /// The part that is kept.
    pub(crate) window: Window,
    /// Width and height of the output, and where in it the window lies.
    pub(crate) output: (usize, usize),
    pub(crate) left: usize,
    pub(crate) top: usize,
}

/// Writes the normalised and resized picture to `out` `[3, H, W]`; zeros around the window.
///
/// # Errors
/// [`Error::Memory`].
pub(crate) fn resize(
    table: &Table,
    image: &Rgb,
    placed: &Placed,
    out: &mut [f32],
) -> Result<(), Error> {
    let Placed { size, window, output: (width, height), left, top } = placed;
    let (left, top) = (*left, *top);
    let columns: Vec<Taps> = (window.left..window.left + window.width)
        .map(|x| Taps::new(x, image.width(), size.0))
        .collect();
    let row_len = 3 * columns.len();
    // The four source rows of an output row, resampled; consecutive rows never share a slot.
    let mut slots = zeros::<f32>(4 * row_len)?;
    let mut held = [None; 4];
    out.fill(0.0);
    for y in 0..window.height {
        let taps = Taps::new(window.top + y, image.height(), size.1);
        for at in taps.at {
            let slot = (at % 4) as usize;
            if held[slot] != Some(at) {
                held[slot] = Some(at);
                let row = slots.get_mut(slot * row_len..(slot + 1) * row_len).unwrap_or_default();
                across(table, image.row(at), &columns, row);
            }
        }
        for (channel, plane) in out.chunks_exact_mut((width * height).max(1)).enumerate() {
            let start = (top + y as usize) * width + left;
            let row = plane.get_mut(start..start + columns.len()).unwrap_or_default();
            for (x, value) in row.iter_mut().enumerate() {
                let source = |at: u32| slots[(at % 4) as usize * row_len + 3 * x + channel];
                let terms =
                    taps.at.iter().zip(taps.weights).map(|(&at, weight)| source(at) * weight);
                *value = terms.sum();
            }
        }
    }
    Ok(())
}

/// One source row, normalised, at the columns of the window; the three channels side by side.
fn across(table: &Table, row: &[u8], columns: &[Taps], out: &mut [f32]) {
    let pixels = row.as_chunks::<3>().0;
    for (taps, out) in columns.iter().zip(out.as_chunks_mut::<3>().0) {
        *out = [0.0; 3];
        for (&at, weight) in taps.at.iter().zip(taps.weights) {
            let Some(pixel) = pixels.get(at as usize) else { continue };
            for ((out, &value), table) in out.iter_mut().zip(pixel).zip(table) {
                *out += table[usize::from(value)] * weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_cubic() {
        // Half way the cubic with a = -0.75 is (-0.09375, 0.59375, 0.59375, -0.09375).
        let taps = Taps::new(1, 8, 4);
        assert_eq!(taps.at, [1, 2, 3, 4]);
        assert_eq!(taps.weights, [-0.09375, 0.59375, 0.59375, -0.09375]);
        // Nothing changes where the size does not.
        let taps = Taps::new(0, 5, 5);
        assert_eq!((taps.at, taps.weights), ([0, 0, 1, 2], [0.0, 1.0, 0.0, 0.0]));
        assert_eq!(Taps::new(3, 1, 4).at, [0; 4]);
    }

    #[test]
    fn the_long_side_is_rounded() {
        assert_eq!(long_side(480, 640, 224), 299);
        assert_eq!(long_side(3, 3, 224), 224);
    }
}
