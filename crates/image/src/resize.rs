//! Pillow's resampling, bit for bit, of the kept window only.
//!
//! Every output value is a weighted sum of source values, along the rows first and then along the
//! columns, each pass rounded to 8 bits:
//!
//! ```text
//! centre = (i + 0.5) * scale            scale = source / output, filter widened by max(scale, 1)
//! w_k    = round(filter(k - centre + 0.5) / sum * 2^22)
//! out_i  = clip8((2^21 + sum_k w_k * in_k) >> 22)
//! ```
//!
//! Weights depend on the position alone, so a window of the output needs just its own weights and
//! the source rows beneath it. The second pass runs over a ring of as many resampled rows as one
//! output row needs; memory does not grow with the picture.
//!
//! # Source
//! Pillow 13.0, `src/libImaging/Resample.c` (`precompute_coeffs`, `normalize_coeffs_8bpc`,
//! `ImagingResampleHorizontal_8bpc`, `ImagingResampleVertical_8bpc`).

use std::f64::consts::PI;

use crate::error::Error;
use crate::rgb::{Rgb, with_room, zeros};

/// Bits after the point of a weight: 32 bits less 8 of the value and 2 for sums beyond the range.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// A resampling filter, by Pillow's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filter {
    /// `BOX`, 4.
    Box,
    /// `BILINEAR`, 2.
    Bilinear,
    /// `HAMMING`, 5.
    Hamming,
    /// `BICUBIC`, 3, with a = -0.5.
    Bicubic,
    /// `LANCZOS`, 1, of three lobes.
    Lanczos,
}

impl Filter {
    /// The filter of Pillow's number, `None` for nearest neighbour (0) and unknown ones.
    pub fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Lanczos),
            2 => Some(Self::Bilinear),
            3 => Some(Self::Bicubic),
            4 => Some(Self::Box),
            5 => Some(Self::Hamming),
            _ => None,
        }
    }

    /// Half the width of the filter, in source pixels where nothing is shrunk.
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        match self {
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Hamming => {
                let x = x.abs();
                if x == 0.0 {
                    1.0
                } else if x >= 1.0 {
                    0.0
                } else {
                    let x = x * PI;
                    x.sin() / x * (0.54 + 0.46 * x.cos())
                }
            }
            Self::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Self::Lanczos => {
                if (-3.0..3.0).contains(&x) {
                    sinc(x) * sinc(x / 3.0)
                } else {
                    0.0
                }
            }
        }
    }
}

/// A rectangle of the resized picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Number of columns, at least 1.
    pub width: u32,
    /// Number of rows, at least 1.
    pub height: u32,
}

/// The part `window` of `image` resized to `width` x `height`, as Pillow's `resize` gives it.
///
/// # Errors
/// [`Error::Pixels`] where the window is empty or reaches outside, [`Error::Memory`].
pub fn resize_window(
    image: &Rgb,
    width: u32,
    height: u32,
    filter: Filter,
    window: Window,
) -> Result<Rgb, Error> {
    check("columns of the window", window.left, window.width, width)?;
    check("rows of the window", window.top, window.height, height)?;
    let n_values = 3 * window.width as usize;
    let mut out = zeros::<u8>(n_values * window.height as usize)?;
    let across = Axis::new(image.width(), width, filter);
    let down = Axis::new(image.height(), height, filter);
    let columns = Columns::new(&across, window.left, window.width)?;

    if down.same {
        for (y, row) in (window.top..).zip(out.chunks_exact_mut(n_values)) {
            columns.resample(image.row(y), row);
        }
    } else {
        // Resampled rows wait in a ring until no later output row needs them.
        let mut ring = zeros::<u8>(n_values * down.n_weights.min(image.height() as usize))?;
        let n_slots = ring.len() / n_values;
        let mut taps = with_room(down.n_weights)?;
        let mut weights = with_room(down.n_weights)?;
        let mut sums = zeros::<i32>(n_values)?;
        let mut next = 0;
        for (y, row) in (window.top..).zip(out.chunks_exact_mut(n_values)) {
            let first = down.weights(y, &mut taps, &mut weights);
            next = next.max(first);
            while next < first + weights.len() {
                let slot = next % n_slots * n_values;
                let slot = ring.get_mut(slot..slot + n_values).unwrap_or_default();
                columns.resample(image.row(next as u32), slot);
                next += 1;
            }
            sums.fill(1 << (PRECISION_BITS - 1));
            for (source, &weight) in (first..).zip(&weights) {
                let slot = source % n_slots * n_values;
                let slot = ring.get(slot..slot + n_values).unwrap_or_default();
                for (sum, &value) in sums.iter_mut().zip(slot) {
                    *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(value)));
                }
            }
            for (value, &sum) in row.iter_mut().zip(&sums) {
                *value = clip8(sum);
            }
        }
    }
    Rgb::from_raw(window.width, window.height, out)
}

fn check(what: &'static str, start: u32, len: u32, size: u32) -> Result<(), Error> {
    let end = u64::from(start) + u64::from(len);
    if len == 0 || end > u64::from(size) {
        return Err(Error::Pixels { what, found: end, expected: u64::from(size) });
    }
    Ok(())
}

/// The weights of one direction.
struct Axis {
    source: u32,
    scale: f64,
    support: f64,
    /// Most weights that one output value can have.
    n_weights: usize,
    filter: Filter,
    /// Nothing changes in this direction, so Pillow skips the pass.
    same: bool,
}

impl Axis {
    fn new(source: u32, output: u32, filter: Filter) -> Self {
        let scale = f64::from(source) / f64::from(output);
        let support = filter.support() * scale.max(1.0);
        let n_weights = support.ceil() as usize * 2 + 1;
        Self { source, scale, support, n_weights, filter, same: source == output }
    }

    /// Fills `weights` for output position `at` and gives the first source position.
    fn weights(&self, at: u32, taps: &mut Vec<f64>, weights: &mut Vec<i32>) -> usize {
        let centre = (f64::from(at) + 0.5) * self.scale;
        // Casting from float to integer cuts the fraction and stays in range, as in C where in range.
        let first = (centre - self.support + 0.5).max(0.0) as u32;
        let end = ((centre + self.support + 0.5) as u32).min(self.source);
        let shrink = 1.0 / self.scale.max(1.0);
        taps.clear();
        let mut total = 0.0;
        for k in 0..end.saturating_sub(first) {
            // Upstream adds the integers first, then subtracts the centre.
            let weight = self.filter.weight((f64::from(k + first) - centre + 0.5) * shrink);
            taps.push(weight);
            total += weight;
        }
        weights.clear();
        weights.extend(taps.iter().map(|&weight| {
            let weight = if total == 0.0 { weight } else { weight / total };
            let fixed = weight * f64::from(1 << PRECISION_BITS);
            (if weight < 0.0 { fixed - 0.5 } else { fixed + 0.5 }) as i32
        }));
        first as usize
    }
}

/// The first pass for the columns of a window: for each its first source column and its weights.
struct Columns {
    left: usize,
    same: bool,
    starts: Vec<(usize, usize)>,
    weights: Vec<i32>,
}

impl Columns {
    fn new(axis: &Axis, left: u32, width: u32) -> Result<Self, Error> {
        let mut columns =
            Self { left: left as usize, same: axis.same, starts: Vec::new(), weights: Vec::new() };
        if axis.same {
            return Ok(columns);
        }
        let n_weights = axis.n_weights.min(axis.source as usize);
        columns.starts = with_room(width as usize)?;
        columns.weights = with_room(width as usize * n_weights)?;
        let mut taps = with_room(axis.n_weights)?;
        let mut weights = with_room(axis.n_weights)?;
        for at in left..left + width {
            let first = axis.weights(at, &mut taps, &mut weights);
            columns.starts.push((first, weights.len()));
            columns.weights.extend_from_slice(&weights);
        }
        Ok(columns)
    }

    /// Resamples one source row into one row of the window.
    fn resample(&self, source: &[u8], out: &mut [u8]) {
        if self.same {
            let start = 3 * self.left;
            out.copy_from_slice(source.get(start..start + out.len()).unwrap_or_default());
            return;
        }
        let mut weights = self.weights.as_slice();
        for (pixel, &(first, len)) in out.chunks_exact_mut(3).zip(&self.starts) {
            let (these, rest) = weights.split_at(len);
            weights = rest;
            let from = source.get(3 * first..3 * (first + len)).unwrap_or_default();
            let half = 1 << (PRECISION_BITS - 1);
            let (mut r, mut g, mut b) = (half, half, half);
            for (value, &weight) in from.chunks_exact(3).zip(these) {
                let &[red, green, blue] = value else { continue };
                r = weight.wrapping_mul(i32::from(red)).wrapping_add(r);
                g = weight.wrapping_mul(i32::from(green)).wrapping_add(g);
                b = weight.wrapping_mul(i32::from(blue)).wrapping_add(b);
            }
            pixel.copy_from_slice(&[clip8(r), clip8(g), clip8(b)]);
        }
    }
}

fn clip8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_outside_is_refused() {
        let image = Rgb::from_raw(2, 2, vec![0; 12]).unwrap();
        let window = Window { left: 3, top: 0, width: 2, height: 1 };
        assert!(resize_window(&image, 4, 4, Filter::Bicubic, window).is_err());
        let window = Window { left: 0, top: 0, width: 0, height: 1 };
        assert!(resize_window(&image, 4, 4, Filter::Bicubic, window).is_err());
    }

    #[test]
    fn a_flat_picture_stays_flat() {
        let image = Rgb::from_raw(7, 5, vec![131; 105]).unwrap();
        for filter in [1, 2, 3, 4, 5].map(|n| Filter::from_number(n).unwrap()) {
            let window = Window { left: 0, top: 0, width: 11, height: 3 };
            let out = resize_window(&image, 11, 3, filter, window).unwrap();
            assert!(out.data().iter().all(|&value| value == 131), "{filter:?}");
        }
        assert_eq!(Filter::from_number(0), None);
    }
}
