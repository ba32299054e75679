//! From component planes to RGB rows: libjpeg's «fancy» upsampling and colour conversion.
//!
//! Planes come band by band (one row of MCUs). Upsampling by two between rows needs the row above
//! and the row below, so a band is written when the next one is there; three bands of memory suffice
//! for any height.
//!
//! # Source
//! libjpeg-turbo 3.1, `jdsample.c` (which method for which factors, and the four filters),
//! `jdmainct.c` (edges: the first and the last real row stand in for what is missing), `jdcolor.c`.

use std::ops::Range;

use fearless_simd::{Level, dispatch};

use super::Component;
use crate::error::Error;
use crate::rgb::zeros;
use crate::sink::{Part, Pixel, Sink};

/// What the components mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Grey,
    YCbCr,
    Rgb,
    /// Stored inverted, as Adobe does and Pillow assumes.
    Cmyk,
    /// The same with the inks as YCbCr.
    Ycck,
}

/// How a component gets the size of the picture.
#[derive(Clone, Copy)]
enum Upsampling {
    Full,
    Across,
    Down,
    Both,
    Copies { across: usize, down: usize },
}

/// One component's samples of three bands.
struct Plane {
    stride: usize,
    /// Rows of one band.
    n_rows: usize,
    /// Real rows of the whole component.
    height: usize,
    /// The samples of a row that are wanted, with one more on each side where there is one.
    columns: Range<usize>,
    upsampling: Upsampling,
    current: Vec<u8>,
    previous: Vec<u8>,
    /// The last row of the band before `previous`.
    above: Vec<u8>,
    /// One output row.
    line: Vec<u8>,
    sums: Vec<u16>,
}

/// Collects bands and hands rows of pixels to a sink.
pub(super) struct Rows<'s> {
    planes: Vec<Plane>,
    colour: Colour,
    height: usize,
    band_rows: usize,
    n_bands: usize,
    part: Part,
    /// The bands that hold the part, and those beside them, at which the upsampling looks.
    bands: Range<usize>,
    pixels: Vec<Pixel>,
    sink: &'s mut dyn Sink,
}

impl<'s> Rows<'s> {
    /// `None` where the sampling factors are not multiples of each other.
    pub(super) fn new(
        components: &[Component],
        colour: Colour,
        (width, height): (u32, u32),
        sink: &'s mut dyn Sink,
    ) -> Option<Result<Self, Error>> {
        let max_h = components.iter().map(|c| c.h).max()?;
        let max_v = components.iter().map(|c| c.v).max()?;
        let upsamplings: Option<Vec<_>> =
            components.iter().map(|c| Upsampling::new(c, max_h, max_v)).collect();
        let upsamplings = upsamplings?;
        let rows = |sink: &'s mut dyn Sink| {
            let part = sink.begin(width, height)?;
            let mut planes = Vec::new();
            for (component, upsampling) in components.iter().zip(upsamplings) {
                planes.push(Plane::new(component, upsampling, width as usize, max_h, &part)?);
            }
            let pixels = zeros(part.columns.len())?;
            let (height, band_rows) = (height as usize, 8 * max_v);
            let bands = (part.rows.start / band_rows).saturating_sub(1)
                ..part.rows.end.div_ceil(band_rows) + 1;
            Ok(Self { planes, colour, height, band_rows, n_bands: 0, part, bands, pixels, sink })
        };
        Some(rows(sink))
    }

    /// Rows decoded so far.
    pub(super) fn n_rows(&self) -> u32 {
        self.height.min(self.n_bands * self.band_rows) as u32
    }

    /// The plane of component `i` in the band that is being filled, and its stride.
    pub(super) fn plane(&mut self, i: usize) -> (&mut [u8], usize) {
        match self.planes.get_mut(i) {
            Some(plane) => (&mut plane.current, plane.stride),
            None => (&mut [], 1),
        }
    }

    /// The blocks of component `i` in a row of the band that is being filled that are wanted.
    pub(super) fn blocks(&self, i: usize) -> Range<usize> {
        match self.planes.get(i) {
            Some(plane) if self.bands.contains(&self.n_bands) => {
                plane.columns.start / 8..plane.columns.end.div_ceil(8)
            }
            _ => 0..0,
        }
    }

    /// The band is full: hands out the one before it.
    pub(super) fn end_band(&mut self) {
        if self.n_bands > 0 {
            self.write(self.n_bands - 1, true);
        }
        for plane in &mut self.planes {
            let last = plane.previous.len() - plane.stride;
            plane.above.copy_from_slice(plane.previous.get(last..).unwrap_or_default());
            std::mem::swap(&mut plane.previous, &mut plane.current);
        }
        self.n_bands += 1;
    }

    /// Hands out the last band.
    pub(super) fn finish(mut self) {
        if self.n_bands > 0 {
            self.write(self.n_bands - 1, false);
        }
    }

    fn write(&mut self, band: usize, has_next: bool) {
        dispatch!(Level::new(), _ => self.write_inlined(band, has_next));
    }

    #[inline(always)]
    fn write_inlined(&mut self, band: usize, has_next: bool) {
        let first = band * self.band_rows;
        let rows = &self.part.rows;
        for y in rows.start.max(first)..rows.end.min(first + self.band_rows) {
            for plane in &mut self.planes {
                plane.upsample(y - first, band, has_next);
            }
            self.convert();
            self.sink.row(&self.pixels);
        }
    }

    /// The pixels of the lines of all planes.
    #[inline(always)]
    fn convert(&mut self) {
        let columns = &self.part.columns;
        let line = |i: usize| {
            let plane = self.planes.get(i);
            plane.and_then(|plane| plane.line.get(columns.clone())).unwrap_or_default()
        };
        let pixels = self.pixels.iter_mut();
        let lines = line(0).iter().zip(line(1)).zip(line(2));
        match self.colour {
            Colour::Grey => {
                for (pixel, &value) in pixels.zip(line(0)) {
                    *pixel = [value; 4];
                }
            }
            Colour::Rgb => {
                for (pixel, ((&r, &g), &b)) in pixels.zip(lines) {
                    *pixel = [r, g, b, 0];
                }
            }
            Colour::YCbCr => {
                for (pixel, ((&y, &cb), &cr)) in pixels.zip(lines) {
                    let [r, g, b] = ycc_to_rgb(y, cb, cr).map(u32::from);
                    *pixel = (r | g << 8 | b << 16).to_le_bytes();
                }
            }
            Colour::Cmyk => {
                for ((pixel, ((&c, &m), &y)), &k) in pixels.zip(lines).zip(line(3)) {
                    let inks = [c, m, y, k].map(|value| 255 - value);
                    let [r, g, b] = super::cmyk_to_rgb(inks);
                    *pixel = [r, g, b, 0];
                }
            }
            Colour::Ycck => {
                // libjpeg makes 255 - RGB of it, Pillow turns that and K around.
                for ((pixel, ((&y, &cb), &cr)), &k) in pixels.zip(lines).zip(line(3)) {
                    let [c, m, y] = ycc_to_rgb(y, cb, cr);
                    let [r, g, b] = super::cmyk_to_rgb([c, m, y, 255 - k]);
                    *pixel = [r, g, b, 0];
                }
            }
        }
    }
}

/// The constants are 1.402, 0.71414, 0.34414 and 1.772 times 2^16, rounded.
#[inline(always)]
fn ycc_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91_881i32.wrapping_mul(cr) + HALF) >> 16);
    let green = y + (((-22_554i32).wrapping_mul(cb) - 46_802i32.wrapping_mul(cr) + HALF) >> 16);
    let blue = y + ((116_130i32.wrapping_mul(cb) + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

impl Upsampling {
    fn new(component: &Component, max_h: usize, max_v: usize) -> Option<Self> {
        if !max_h.is_multiple_of(component.h) || !max_v.is_multiple_of(component.v) {
            return None;
        }
        // The filter across needs three columns.
        let wide = component.width > 2;
        Some(match (max_h / component.h, max_v / component.v) {
            (1, 1) => Self::Full,
            (2, 1) if wide => Self::Across,
            (1, 2) => Self::Down,
            (2, 2) if wide => Self::Both,
            (across, down) => Self::Copies { across, down },
        })
    }
}

impl Plane {
    fn new(
        component: &Component,
        upsampling: Upsampling,
        width: usize,
        max_h: usize,
        part: &Part,
    ) -> Result<Self, Error> {
        let stride = 8 * component.stride_blocks;
        let n_rows = 8 * component.v;
        let factor = max_h / component.h;
        let start = (part.columns.start / factor).saturating_sub(1);
        let end = (part.columns.end.div_ceil(factor) + 1).min(component.width);
        let sums = if matches!(upsampling, Upsampling::Both) { end - start } else { 0 };
        Ok(Self {
            stride,
            n_rows,
            height: component.height,
            columns: start..end,
            upsampling,
            current: zeros(stride * n_rows)?,
            previous: zeros(stride * n_rows)?,
            above: zeros(stride)?,
            line: zeros(width + 8)?,
            sums: zeros(sums)?,
        })
    }

    /// Makes output row `y` of band `band`, where it is wanted. The outermost samples are treated as
    /// the edges of the picture: either they are, or they are not wanted.
    #[inline(always)]
    fn upsample(&mut self, y: usize, band: usize, has_next: bool) {
        let last = self.height.saturating_sub(band * self.n_rows).clamp(1, self.n_rows) - 1;
        let stride = self.stride;
        let Range { start, end } = self.columns;
        let previous = |row: usize| {
            self.previous.get(row * stride + start..row * stride + end).unwrap_or_default()
        };
        let beside = |row: usize| {
            if y % 2 == 1 {
                if row < last {
                    previous(row + 1)
                } else if has_next {
                    self.current.get(start..end).unwrap_or_default()
                } else {
                    previous(last)
                }
            } else if row > 0 {
                previous(row - 1)
            } else if band > 0 {
                self.above.get(start..end).unwrap_or_default()
            } else {
                previous(0)
            }
        };
        let from = start
            * match self.upsampling {
                Upsampling::Full | Upsampling::Down => 1,
                Upsampling::Across | Upsampling::Both => 2,
                Upsampling::Copies { across, .. } => across,
            };
        let line = self.line.get_mut(from..).unwrap_or_default();
        match self.upsampling {
            Upsampling::Full => {
                for (out, &value) in line.iter_mut().zip(previous(y)) {
                    *out = value;
                }
            }
            Upsampling::Across => across(previous(y), line),
            Upsampling::Down => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                let rows = previous(y / 2).iter().zip(beside(y / 2));
                for (out, (&near, &far)) in line.iter_mut().zip(rows) {
                    *out = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
                }
            }
            Upsampling::Both => {
                let rows = previous(y / 2).iter().zip(beside(y / 2));
                for (sum, (&near, &far)) in self.sums.iter_mut().zip(rows) {
                    *sum = 3 * u16::from(near) + u16::from(far);
                }
                across_sums(&self.sums, line);
            }
            Upsampling::Copies { across, down } => {
                let row = previous(y / down);
                for (out, &value) in line.chunks_mut(across).zip(row) {
                    out.fill(value);
                }
            }
        }
    }
}

/// Twice as many columns: each is 3/4 of its own sample and 1/4 of the nearer neighbour, halves
/// rounded down on the left and up on the right.
#[inline(always)]
fn across(row: &[u8], line: &mut [u8]) {
    let (Some(&first), Some(&last)) = (row.first(), row.last()) else { return };
    let pairs = line.as_chunks_mut::<2>().0;
    let n = row.len().min(pairs.len());
    let (owns, rights) = (row.get(1..).unwrap_or_default(), row.get(2..).unwrap_or_default());
    let triples = row.iter().zip(owns).zip(rights);
    for (pair, ((&left, &own), &right)) in pairs.iter_mut().skip(1).zip(triples) {
        let own = 3 * u16::from(own);
        let (left, right) = (own + u16::from(left) + 1, own + u16::from(right) + 2);
        *pair = (left >> 2 | right >> 2 << 8).to_le_bytes();
    }
    if let (Some(&second), Some(&before)) = (row.get(1), row.get(row.len().saturating_sub(2))) {
        let blend = |own: u8, beside: u8, bias: u16| {
            ((3 * u16::from(own) + u16::from(beside) + bias) >> 2) as u8
        };
        if let Some(pair) = pairs.first_mut() {
            *pair = [first, blend(first, second, 2)];
        }
        if let Some(pair) = pairs.get_mut(n - 1) {
            *pair = [blend(last, before, 1), last];
        }
    }
}

/// The same of samples that are already sums of 3/4 and 1/4 of two rows, times 4.
#[inline(always)]
fn across_sums(sums: &[u16], line: &mut [u8]) {
    let (Some(&first), Some(&last)) = (sums.first(), sums.last()) else { return };
    let pairs = line.as_chunks_mut::<2>().0;
    let n = sums.len().min(pairs.len());
    // Wrapping, though nothing can overflow: checks would keep this from becoming vector code.
    let (owns, rights) = (sums.get(1..).unwrap_or_default(), sums.get(2..).unwrap_or_default());
    let triples = sums.iter().zip(owns).zip(rights);
    for (pair, ((&left, &own), &right)) in pairs.iter_mut().skip(1).zip(triples) {
        let own = own.wrapping_mul(3);
        let left = own.wrapping_add(left).wrapping_add(8) >> 4;
        let right = own.wrapping_add(right).wrapping_add(7) >> 4;
        *pair = (left | right << 8).to_le_bytes();
    }
    if let (Some(&second), Some(&before)) = (sums.get(1), sums.get(sums.len().saturating_sub(2))) {
        if let Some(pair) = pairs.first_mut() {
            *pair = [((4 * first + 8) >> 4) as u8, ((3 * first + second + 7) >> 4) as u8];
        }
        if let Some(pair) = pairs.get_mut(n - 1) {
            *pair = [((3 * last + before + 8) >> 4) as u8, ((4 * last + 7) >> 4) as u8];
        }
    }
}
