//! Windows and OS/2 bitmaps: 1, 4, 8, 16, 24 and 32 bits per pixel, bit fields and both run-length
//! codings, as Pillow reads them.
//!
//! The fourth byte of plain 32-bit pixels is no alpha, as for Pillow; bit fields may name one.

use crate::bytes::Bytes;
use crate::decode::{Alpha, DecodeOptions, over_white};
use crate::error::Error;
use crate::rgb::{Rgb, with_room, zeros};
use crate::sniff::Format;

/// How the pixels are stored.
#[derive(Clone, Copy, PartialEq)]
enum Coding {
    Raw,
    Rle8,
    Rle4,
    /// Masks of red, green, blue and alpha.
    Fields([u32; 4]),
}

struct Header {
    width: u32,
    height: u32,
    n_bytes: usize,
    top_down: bool,
    bits: u16,
    coding: Coding,
    /// RGB of each index.
    palette: Vec<[u8; 3]>,
    /// Where the pixels begin.
    start: usize,
}

pub(crate) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Rgb, Error> {
    let header = read_header(bytes, options)?;
    let mut input = Bytes::new(bytes, Format::Bmp);
    input.seek(header.start);
    let mut data = with_room(header.n_bytes)?;
    if matches!(header.coding, Coding::Rle8 | Coding::Rle4) {
        let indices = run_lengths(&mut input, &header)?;
        data.extend(indices.iter().flat_map(|&index| header.colour(index)));
    } else {
        let stride = (header.width as usize * usize::from(header.bits)).div_ceil(32) * 4;
        // The padding of the last row may be missing.
        let needed = stride * (header.height as usize - 1)
            + (header.width as usize * usize::from(header.bits)).div_ceil(8);
        if input.rest().len() < needed {
            let rows = Some(((input.rest().len() / stride) as u32, header.height));
            return Err(Error::Truncated { format: Format::Bmp, rows, bytes: bytes.len() as u64 });
        }
        for row in input.rest().chunks(stride).take(header.height as usize) {
            header.convert(row, options.alpha == Alpha::CompositeWhite, &mut data);
        }
    }
    if !header.top_down {
        flip(&mut data, 3 * header.width as usize);
    }
    Rgb::from_raw(header.width, header.height, data)
}

fn unsupported(found: &'static str) -> Error {
    Error::FormatUnsupported { found }
}

fn read_header(bytes: &[u8], options: &DecodeOptions) -> Result<Header, Error> {
    let mut input = Bytes::new(bytes, Format::Bmp);
    input.seek(10);
    let start = input.u32_le()? as usize;
    let size = input.u32_le()?;
    let mut top_down = false;
    let (width, height, bits, compression, mut n_colours, entry);
    if size == 12 {
        (width, height) = (u64::from(input.u16_le()?), u64::from(input.u16_le()?));
        input.u16_le()?;
        bits = input.u16_le()?;
        (compression, n_colours, entry) = (0, 0, 3);
    } else if matches!(size, 40 | 52 | 56 | 64 | 108 | 124) {
        let (columns, rows) = (input.i32_le()?, input.i32_le()?);
        top_down = rows < 0;
        (width, height) = (u64::try_from(columns).unwrap_or(0), u64::from(rows.unsigned_abs()));
        input.u16_le()?;
        bits = input.u16_le()?;
        compression = input.u32_le()?;
        input.take(12)?;
        n_colours = input.u32_le()?;
        input.u32_le()?;
        entry = 4;
    } else {
        return Err(unsupported("BMP with an unknown header"));
    }
    let (width, height, n_bytes) = options.limits.check(Format::Bmp, width, height)?;
    let coding = match (compression, bits) {
        (0, 1 | 4 | 8 | 24 | 32) => Coding::Raw,
        (0, 16) => Coding::Fields([0x7C00, 0x3E0, 0x1F, 0]),
        (1, 8) => Coding::Rle8,
        (2, 4) => Coding::Rle4,
        (3, 16 | 24 | 32) => fields(&mut input, size, bits)?,
        (4, _) => return Err(unsupported("BMP with JPEG inside")),
        (5, _) => return Err(unsupported("BMP with PNG inside")),
        _ => return Err(unsupported("BMP of this depth or compression")),
    };
    let mut palette = Vec::new();
    if bits <= 8 {
        if n_colours == 0 {
            n_colours = 1 << bits;
        }
        if n_colours > 65_536 {
            return Err(Error::damaged(Format::Bmp, format!("a palette of {n_colours} colours")));
        }
        input.seek(14 + size as usize);
        let entries = input.take(entry * n_colours as usize)?.chunks_exact(entry);
        palette = entries.take(256).map(|bgr| [bgr[2], bgr[1], bgr[0]]).collect();
    }
    let start = if start == 0 { input.position() } else { start };
    Ok(Header { width, height, n_bytes, top_down, bits, coding, palette, start })
}

/// The masks, of the layouts that Pillow knows.
fn fields(input: &mut Bytes<'_>, size: u32, bits: u16) -> Result<Coding, Error> {
    let mut masks = [input.u32_le()?, input.u32_le()?, input.u32_le()?, 0];
    if size >= 56 {
        masks[3] = input.u32_le()?;
    }
    let known: &[[u32; 4]] = match bits {
        16 => &[[0xF800, 0x7E0, 0x1F, 0], [0x7C00, 0x3E0, 0x1F, 0]],
        24 => &[[0xFF_0000, 0xFF00, 0xFF, 0]],
        _ => &[
            [0xFF_0000, 0xFF00, 0xFF, 0],
            [0xFF00_0000, 0xFF_0000, 0xFF00, 0],
            [0xFF00_0000, 0xFF00, 0xFF, 0],
            [0xFF00_0000, 0xFF_0000, 0xFF00, 0xFF],
            [0xFF, 0xFF00, 0xFF_0000, 0xFF00_0000],
            [0xFF_0000, 0xFF00, 0xFF, 0xFF00_0000],
            [0xFF00_0000, 0xFF00, 0xFF, 0xFF_0000],
            [0, 0, 0, 0],
        ],
    };
    if bits != 32 {
        masks[3] = 0;
    }
    if !known.contains(&masks) {
        return Err(unsupported("BMP with these bit fields"));
    }
    if masks == [0; 4] {
        masks = [0xFF_0000, 0xFF00, 0xFF, 0xFF00_0000];
    }
    Ok(Coding::Fields(masks))
}

impl Header {
    fn colour(&self, index: u8) -> [u8; 3] {
        self.palette.get(usize::from(index)).copied().unwrap_or([0; 3])
    }

    fn convert(&self, row: &[u8], composite: bool, out: &mut Vec<u8>) {
        let n = self.width as usize;
        let step = usize::from(self.bits / 8);
        match (self.bits, self.coding) {
            (1 | 4 | 8, _) => {
                let bits = usize::from(self.bits);
                for x in 0..n {
                    let Some(byte) = row.get(x * bits / 8) else { return };
                    let index = byte >> (8 - bits - x * bits % 8) & (0xFF >> (8 - bits));
                    out.extend_from_slice(&self.colour(index));
                }
            }
            (_, Coding::Fields(masks)) => {
                for pixel in row.chunks_exact(step).take(n) {
                    let value = pixel.iter().rev().fold(0, |v, &byte| v << 8 | u32::from(byte));
                    let alpha = if masks[3] == 0 { 255 } else { field(value, masks[3]) };
                    let rgb = [masks[0], masks[1], masks[2]].map(|mask| field(value, mask));
                    let shown = |v| if composite { over_white(v, alpha) } else { v };
                    out.extend_from_slice(&rgb.map(shown));
                }
            }
            _ => {
                let pixels = row.chunks_exact(step.max(3)).take(n);
                pixels.for_each(|bgr| out.extend_from_slice(&[bgr[2], bgr[1], bgr[0]]));
            }
        }
    }
}

/// The value beneath `mask`, scaled to 8 bits, rounded down as Pillow does.
fn field(value: u32, mask: u32) -> u8 {
    let top = mask >> mask.trailing_zeros();
    ((value & mask) >> mask.trailing_zeros()).saturating_mul(255).checked_div(top).unwrap_or(0)
        as u8
}

/// Run-length coded indices, bottom row first; what is not written stays index 0.
fn run_lengths(input: &mut Bytes<'_>, header: &Header) -> Result<Vec<u8>, Error> {
    let (width, rle4) = (header.width as usize, header.coding == Coding::Rle4);
    let n_pixels = width * header.height as usize;
    let mut indices = zeros::<u8>(n_pixels)?;
    let (mut at, mut x) = (0usize, 0usize);
    let write = |from: usize, values: &mut dyn Iterator<Item = u8>, out: &mut Vec<u8>| {
        let targets = out.get_mut(from.min(n_pixels)..).unwrap_or_default();
        targets.iter_mut().zip(values).map(|(target, value)| *target = value).count()
    };
    while at < n_pixels {
        match (input.u8()?, input.u8()?) {
            (0, 0) => {
                at = at.next_multiple_of(width);
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let (right, up) = (usize::from(input.u8()?), usize::from(input.u8()?));
                at = n_pixels.min(at + right + up * width);
                x = at % width;
            }
            (0, count) => {
                let n = usize::from(count).min(n_pixels - at);
                let values = input.take(if rle4 { n.div_ceil(2) } else { n })?;
                at += if rle4 {
                    let nibbles = values.iter().flat_map(|v| [v >> 4, v & 15]);
                    write(at, &mut nibbles.take(n), &mut indices)
                } else {
                    write(at, &mut values.iter().copied(), &mut indices)
                };
                x += usize::from(count);
                if !input.position().is_multiple_of(2) && at < n_pixels {
                    input.take(1)?;
                }
            }
            (count, value) => {
                let n = usize::from(count).min(width.saturating_sub(x));
                let pair = if rle4 { [value >> 4, value & 15] } else { [value; 2] };
                at += write(at, &mut pair.into_iter().cycle().take(n), &mut indices);
                x += n;
            }
        }
    }
    Ok(indices)
}

/// Turns the order of the rows around.
fn flip(data: &mut [u8], stride: usize) {
    let (upper, lower) = data.split_at_mut(data.len() / stride / 2 * stride);
    for (a, b) in upper.chunks_exact_mut(stride).zip(lower.rchunks_exact_mut(stride)) {
        a.swap_with_slice(b);
    }
}
