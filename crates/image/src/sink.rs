//! Where decoders put rows: into a whole picture, or straight into the resizer, which wants a part.

use std::ops::Range;

use crate::error::Error;
use crate::rgb::{Rgb, with_room};

/// Red, green, blue and a byte without meaning: four lanes make vector code simple.
pub(crate) type Pixel = [u8; 4];

/// The part of a picture that is wanted. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) columns: Range<usize>,
    pub(crate) rows: Range<usize>,
}

/// Takes the rows of a picture, from the top.
pub(crate) trait Sink {
    /// Hears the size, before any row, and says which part it wants.
    fn begin(&mut self, width: u32, height: u32) -> Result<Part, Error>;

    /// Takes the next row of the wanted part.
    fn row(&mut self, pixels: &[Pixel]);
}

/// Collects the whole picture.
#[derive(Default)]
pub(crate) struct Whole {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl Whole {
    /// The picture, once all rows are there.
    pub(crate) fn into_rgb(self) -> Result<Rgb, Error> {
        Rgb::from_raw(self.width, self.height, self.data)
    }
}

impl Sink for Whole {
    fn begin(&mut self, width: u32, height: u32) -> Result<Part, Error> {
        (self.width, self.height) = (width, height);
        let (width, height) = (width as usize, height as usize);
        self.data = with_room((3 * width).saturating_mul(height))?;
        Ok(Part { columns: 0..width, rows: 0..height })
    }

    fn row(&mut self, pixels: &[Pixel]) {
        let start = self.data.len();
        self.data.resize(start + 3 * pixels.len(), 0);
        let row = self.data.get_mut(start..).unwrap_or_default();
        let (fours, rest) = row.as_chunks_mut::<12>();
        let (four_pixels, rest_pixels) = pixels.as_chunks::<4>();
        for (out, &pixels) in fours.iter_mut().zip(four_pixels) {
            let [a, b, c, d] = pixels.map(u32::from_le_bytes).map(|pixel| pixel & 0xFF_FFFF);
            let words = [a | b << 24, b >> 8 | c << 16, c >> 16 | d << 8];
            for (out, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                *out = word.to_le_bytes();
            }
        }
        for (out, &[r, g, b, _]) in rest.as_chunks_mut::<3>().0.iter_mut().zip(rest_pixels) {
            *out = [r, g, b];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_packed() {
        for width in 1..10u8 {
            let mut whole = Whole::default();
            let part = whole.begin(width.into(), 2).unwrap();
            assert_eq!(part, Part { columns: 0..width.into(), rows: 0..2 });
            let row: Vec<Pixel> = (0..width).map(|i| [3 * i, 3 * i + 1, 3 * i + 2, 255]).collect();
            whole.row(&row);
            whole.row(&row);
            let rgb = whole.into_rgb().unwrap();
            let expected: Vec<u8> = (0..3 * width).collect();
            assert_eq!([rgb.row(0), rgb.row(1)], [expected.as_slice(); 2]);
        }
    }
}
