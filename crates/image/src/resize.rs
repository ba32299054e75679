//! Pillow's resampling, bit for bit, of the kept window only.
//!
//! Every output value is a weighted sum of source values, in two passes that each round to 8 bits:
//! usually along the rows first and then along the columns, for high pictures that shrink the other
//! way around ([`columns_first`]).
//!
//! ```text
//! centre = (i + 0.5) * scale            scale = source / output, filter widened by max(scale, 1)
//! w_k    = round(filter(k - centre + 0.5) / sum * 2^22)
//! out_i  = clip8((2^21 + sum_k w_k * in_k) >> 22)
//! ```
//!
//! Weights depend on the position alone, so a window of the output needs just its own weights and
//! the source rows beneath it. The usual order is in `resizer.rs`; the other one and sizes that only
//! change in one direction are here.
//!
//! # Source
//! Pillow 13.0, `src/libImaging/Resample.c` (`precompute_coeffs`, `normalize_coeffs_8bpc`,
//! `ImagingResampleHorizontal_8bpc`, `ImagingResampleVertical_8bpc`).

use std::f64::consts::PI;

use crate::error::Error;
use crate::resizer::Resizer;
use crate::rgb::{Rgb, with_room, zeros};
use crate::sink::{Part, Pixel, Sink, Whole};

/// Bits after the point of a weight: 32 bits less 8 of the value and 2 for sums beyond the range.
pub(crate) const PRECISION_BITS: u32 = 32 - 8 - 2;

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
    if let Some(resizer) = Resizer::new(image.size(), (width, height), filter, window) {
        let mut whole = Whole::default();
        whole.begin(window.width, window.height)?;
        resize_rows(image, &mut resizer?, &mut |row| whole.row(row))?;
        return whole.into_rgb();
    }
    let mut out = zeros::<u8>(n_values * window.height as usize)?;
    let across = Axis::new(image.width(), width, filter);
    let down = Axis::new(image.height(), height, filter);
    let columns = Columns::new(&across, window.left, window.width)?;

    if down.same {
        for (y, row) in (window.top..).zip(out.chunks_exact_mut(n_values)) {
            columns.resample(image.row(y), row);
        }
    } else {
        resample_down_first(image, &down, &columns, window.top, &mut out)?;
    }
    Rgb::from_raw(window.width, window.height, out)
}

/// Whether Pillow 13.0 runs the pass along the columns first: where it takes away more than twice as
/// many rows as the other pass takes away columns, so for pictures more than twice as high as wide
/// that shrink. Found by comparing both orders with Pillow's result for 10,887 sizes and three
/// filters, without exception.
pub(crate) fn columns_first(source: (u32, u32), size: (u32, u32)) -> bool {
    let less = |from: u32, to: u32| i64::from(from) - i64::from(to);
    let rows = less(source.1, size.1);
    rows > 0 && rows > 2 * less(source.0, size.0)
}

/// Feeds a resizer with the rows of a picture.
pub(crate) fn resize_rows(
    image: &Rgb,
    resizer: &mut Resizer,
    emit: &mut dyn FnMut(&[Pixel]),
) -> Result<(), Error> {
    let Part { columns, rows } = resizer.part();
    let mut pixels = zeros::<Pixel>(columns.len())?;
    for y in rows {
        let row = image.row(y as u32).get(3 * columns.start..3 * columns.end).unwrap_or_default();
        for (pixel, &[r, g, b]) in pixels.iter_mut().zip(row.as_chunks().0) {
            *pixel = [r, g, b, 0];
        }
        resizer.push(&pixels, emit);
    }
    Ok(())
}

/// The order of [`columns_first`], and where nothing changes across: each output row is summed from
/// whole source rows, then resampled.
fn resample_down_first(
    image: &Rgb,
    down: &Axis,
    columns: &Columns,
    top: u32,
    out: &mut [u8],
) -> Result<(), Error> {
    let used = columns.used_values();
    let mut weights = Weights::new(down)?;
    let mut sums = zeros::<i32>(used.len())?;
    let mut middle = zeros::<u8>(3 * image.width() as usize)?;
    for (y, row) in (top..).zip(out.chunks_exact_mut(columns.n_values)) {
        let first = weights.fill(down, y);
        let source = |y: usize| image.row(y as u32).get(used.clone()).unwrap_or_default();
        let target = middle.get_mut(used.clone()).unwrap_or_default();
        sum_rows(source, first, &weights.fixed, &mut sums, target);
        columns.resample(&middle, row);
    }
    Ok(())
}

/// One row as the weighted sum of rows from `first` on.
fn sum_rows<'a>(
    source: impl Fn(usize) -> &'a [u8],
    first: usize,
    weights: &[i32],
    sums: &mut [i32],
    out: &mut [u8],
) {
    sums.fill(1 << (PRECISION_BITS - 1));
    for (y, &weight) in (first..).zip(weights) {
        for (sum, &value) in sums.iter_mut().zip(source(y)) {
            *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(value)));
        }
    }
    for (value, &sum) in out.iter_mut().zip(sums.iter()) {
        *value = clip8(sum);
    }
}

fn check(what: &'static str, start: u32, len: u32, size: u32) -> Result<(), Error> {
    let end = u64::from(start) + u64::from(len);
    if len == 0 || end > u64::from(size) {
        return Err(Error::Pixels { what, found: end, expected: u64::from(size) });
    }
    Ok(())
}

/// The weights of one direction.
pub(crate) struct Axis {
    source: u32,
    scale: f64,
    support: f64,
    /// Most weights that one output value can have.
    pub(crate) n_weights: usize,
    filter: Filter,
    /// Nothing changes in this direction, so Pillow skips the pass.
    pub(crate) same: bool,
}

impl Axis {
    pub(crate) fn new(source: u32, output: u32, filter: Filter) -> Self {
        let scale = f64::from(source) / f64::from(output);
        let support = filter.support() * scale.max(1.0);
        let n_weights = support.ceil() as usize * 2 + 1;
        Self { source, scale, support, n_weights, filter, same: source == output }
    }
}

/// The weights of one output position.
pub(crate) struct Weights {
    exact: Vec<f64>,
    pub(crate) fixed: Vec<i32>,
}

impl Weights {
    pub(crate) fn new(axis: &Axis) -> Result<Self, Error> {
        Ok(Self { exact: with_room(axis.n_weights)?, fixed: with_room(axis.n_weights)? })
    }

    /// Computes the weights for output position `at` and gives the first source position.
    pub(crate) fn fill(&mut self, axis: &Axis, at: u32) -> usize {
        let centre = (f64::from(at) + 0.5) * axis.scale;
        // The fraction is cut off, as by a cast in C.
        let first = (centre - axis.support + 0.5).max(0.0) as u32;
        let end = ((centre + axis.support + 0.5) as u32).min(axis.source);
        let shrink = 1.0 / axis.scale.max(1.0);
        self.exact.clear();
        let mut total = 0.0;
        for k in first..end {
            let weight = axis.filter.weight((f64::from(k) - centre + 0.5) * shrink);
            self.exact.push(weight);
            total += weight;
        }
        self.fixed.clear();
        self.fixed.extend(self.exact.iter().map(|&weight| {
            let weight = if total == 0.0 { weight } else { weight / total };
            let fixed = weight * f64::from(1 << PRECISION_BITS);
            (if weight < 0.0 { fixed - 0.5 } else { fixed + 0.5 }) as i32
        }));
        first as usize
    }
}

/// The first pass for the columns of a window: for each its first source column and its weights.
pub(crate) struct Columns {
    left: usize,
    same: bool,
    /// Values in one row of the window.
    n_values: usize,
    /// The first column and the number of weights of each output column.
    pub(crate) starts: Vec<(usize, usize)>,
    /// The weights of all output columns, one after the other.
    pub(crate) weights: Vec<i32>,
}

impl Columns {
    pub(crate) fn new(axis: &Axis, left: u32, width: u32) -> Result<Self, Error> {
        let mut columns = Self {
            left: left as usize,
            same: axis.same,
            n_values: 3 * width as usize,
            starts: Vec::new(),
            weights: Vec::new(),
        };
        if axis.same {
            return Ok(columns);
        }
        let n_weights = axis.n_weights.min(axis.source as usize);
        columns.starts = with_room(width as usize)?;
        columns.weights = with_room(width as usize * n_weights)?;
        let mut weights = Weights::new(axis)?;
        for at in left..left + width {
            let first = weights.fill(axis, at);
            columns.starts.push((first, weights.fixed.len()));
            columns.weights.extend_from_slice(&weights.fixed);
        }
        Ok(columns)
    }

    /// The values of a source row that have a weight.
    pub(crate) fn used_values(&self) -> std::ops::Range<usize> {
        if self.same {
            return 3 * self.left..3 * self.left + self.n_values;
        }
        let start = self.starts.first().map_or(0, |&(first, _)| first);
        let end = self.starts.last().map_or(0, |&(first, len)| first + len);
        3 * start..3 * end
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
