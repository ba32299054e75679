//! The ordinary order of Pillow's two passes, fed with rows from the top: across, then down.
//!
//! Two rows lie side by side in eight lanes, so that one weight serves both. Resampled rows wait in a
//! ring until no later output row needs them; the source picture need not exist as a whole.

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, i8x16, i32x8, u8x16, u8x32, u32x8};

use crate::error::Error;
use crate::resize::{Axis, Columns, Filter, PRECISION_BITS, Weights, Window, columns_first};
use crate::rgb::zeros;
use crate::sink::{Part, Pixel};

/// Half of the last bit, and 128 less, which [`narrow`] gives back.
const START: i32 = (1 << (PRECISION_BITS - 1)) - (128 << PRECISION_BITS);

/// Pixels that one step of the pass down makes.
const STEP: usize = 8;

/// Resizes one picture.
pub(crate) struct Resizer {
    part: Part,
    columns: Columns,
    down: Axis,
    weights: Weights,
    /// The first source row of the next output row.
    first: usize,
    /// Output rows: the next one and the end.
    next_out: u32,
    end_out: u32,
    /// The next source row to come.
    next_in: usize,
    /// The row before it, while it waits for company.
    waiting: Vec<Pixel>,
    /// Two rows, widened to the lanes of the arithmetic.
    pair: Vec<[i32; 8]>,
    ring: Vec<Pixel>,
    /// Pixels in a row of the ring: those of the window, filled up to whole steps.
    stride: usize,
    out: Vec<Pixel>,
}

impl Resizer {
    /// For a picture of `source` size and the `window` of it at `size`, both width and height; `None`
    /// where Pillow skips a pass or takes the other order.
    pub(crate) fn new(
        source: (u32, u32),
        size: (u32, u32),
        filter: Filter,
        window: Window,
    ) -> Option<Result<Self, Error>> {
        let across = Axis::new(source.0, size.0, filter);
        let down = Axis::new(source.1, size.1, filter);
        if across.same || down.same || columns_first(source, size) {
            return None;
        }
        Some(Self::with_axes(&across, down, window))
    }

    fn with_axes(across: &Axis, down: Axis, window: Window) -> Result<Self, Error> {
        let columns = Columns::new(across, window.left, window.width)?;
        let used = columns.used_values();
        let mut weights = Weights::new(&down)?;
        let end_out = window.top + window.height;
        let end = weights.fill(&down, end_out - 1) + weights.fixed.len();
        let first = weights.fill(&down, window.top);
        let part = Part { columns: used.start / 3..used.end / 3, rows: first..end };
        let stride = (window.width as usize).next_multiple_of(STEP);
        // Rows come in pairs, so one more than needed may be there, and one for the odd end.
        let n_slots = part.rows.len().min(down.n_weights) + 2;
        Ok(Self {
            columns,
            down,
            weights,
            first,
            next_out: window.top,
            end_out,
            next_in: first,
            waiting: zeros(part.columns.len())?,
            pair: zeros(part.columns.len())?,
            ring: zeros(stride * n_slots)?,
            stride,
            out: zeros(stride)?,
            part,
        })
    }

    /// What is needed of the source.
    pub(crate) fn part(&self) -> Part {
        self.part.clone()
    }

    /// Takes the next row of [`Self::part`]; `emit` gets each row of the window as it is ready.
    pub(crate) fn push(&mut self, row: &[Pixel], emit: &mut dyn FnMut(&[Pixel])) {
        let is_second = (self.next_in - self.part.rows.start) % 2 == 1;
        self.next_in += 1;
        if !is_second && self.next_in < self.part.rows.end {
            for (waiting, &pixel) in self.waiting.iter_mut().zip(row) {
                *waiting = pixel;
            }
            return;
        }
        let slots = [self.next_in - 1 - usize::from(is_second), self.next_in - 1];
        dispatch!(Level::new(), simd => self.across(simd, row, is_second, slots));
        while self.next_out < self.end_out {
            if self.first + self.weights.fixed.len() > self.next_in {
                break;
            }
            dispatch!(Level::new(), simd => self.down(simd));
            emit(self.out.get(..self.columns.starts.len()).unwrap_or_default());
            self.next_out += 1;
            if self.next_out < self.end_out {
                self.first = self.weights.fill(&self.down, self.next_out);
            }
        }
    }

    /// Resamples the waiting row and `row` into two slots of the ring.
    #[inline(always)]
    fn across<S: Simd>(&mut self, simd: S, row: &[Pixel], is_second: bool, slots: [usize; 2]) {
        let upper = if is_second { self.waiting.as_slice() } else { row };
        for ((pair, upper), lower) in self.pair.iter_mut().zip(upper).zip(row) {
            let ([a, b, c, d], [e, f, g, h]) = (*upper, *lower);
            *pair = [a, b, c, d, e, f, g, h].map(i32::from);
        }
        let n_slots = self.ring.len() / self.stride;
        let starts = slots.map(|row| row % n_slots * self.stride);
        let mut weights = self.columns.weights.as_slice();
        for (x, &(first, len)) in self.columns.starts.iter().enumerate() {
            let Some((these, rest)) = weights.split_at_checked(len) else { break };
            weights = rest;
            let from = first - self.part.columns.start;
            let pixels = self.pair.get(from..from + len).unwrap_or_default();
            let mut sum = i32x8::splat(simd, START);
            for (pixel, &weight) in pixels.iter().zip(these) {
                sum += i32x8::simd_from(simd, *pixel) * weight;
            }
            let bytes: [u8; 16] = narrow(simd, sum, sum).into();
            let [a, b, c, d, e, f, g, h, ..] = bytes;
            for (start, pixel) in starts.into_iter().zip([[a, b, c, d], [e, f, g, h]]) {
                if let Some(slot) = self.ring.get_mut(start + x) {
                    *slot = pixel;
                }
            }
        }
    }

    /// Sums the rows of the ring to the next output row.
    #[inline(always)]
    fn down<S: Simd>(&mut self, simd: S) {
        let n_slots = self.ring.len() / self.stride;
        for (step, out) in self.out.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
            let mut sums = [i32x8::splat(simd, START); 4];
            let mut slot = self.first % n_slots;
            for &weight in &self.weights.fixed {
                let at = slot * self.stride + step * STEP;
                slot = if slot + 1 == n_slots { 0 } else { slot + 1 };
                let Some(pixels) = self.ring.get(at..).and_then(|rest| rest.first_chunk::<STEP>())
                else {
                    continue;
                };
                let bytes = u8x32::from_slice(simd, pixels.as_flattened());
                let (low, high) = simd.widen_u8x32(bytes);
                let ((a, b), (c, d)) = (simd.widen_u16x16(low), simd.widen_u16x16(high));
                for (sum, values) in sums.iter_mut().zip([a, b, c, d]) {
                    let values: u32x8<S> = values;
                    *sum += values.bitcast::<i32x8<S>>() * weight;
                }
            }
            let [a, b, c, d] = sums;
            let halves: [[u8; 16]; 2] = [narrow(simd, a, b).into(), narrow(simd, c, d).into()];
            *out = halves.as_flattened().as_chunks::<4>().0.try_into().unwrap_or(*out);
        }
    }
}

/// The sums without the bits after the point, clamped to 8 bits.
#[inline(always)]
fn narrow<S: Simd>(simd: S, a: i32x8<S>, b: i32x8<S>) -> u8x16<S> {
    let (a, b) = (a >> PRECISION_BITS, b >> PRECISION_BITS);
    let ((a0, a1), (b0, b1)) = (simd.split_i32x8(a), simd.split_i32x8(b));
    let (a, b) = (simd.saturating_narrow_i32x4(a0, a1), simd.saturating_narrow_i32x4(b0, b1));
    let bytes: i8x16<S> = simd.saturating_narrow_i16x8(a, b);
    bytes.bitcast::<u8x16<S>>() ^ 0x80
}
