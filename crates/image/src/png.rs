//! PNG, row by row, to RGB as Pillow converts it.
//!
//! Rows keep their native form until each is converted, so that a bitmap of one bit per pixel never
//! becomes more than its RGB result. Of an APNG the default image is read. Pillow's conversions: grey
//! of 16 bits is clipped at 255 (mode `I;16`), colour of 16 bits keeps its high byte, an index
//! outside of the palette is black.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodingError, Transformations};

use crate::clock::Clock;
use crate::decode::{Alpha, DecodeOptions, over_white};
use crate::error::Error;
use crate::rgb::{Rgb, with_room, zeros};
use crate::sniff::Format;

/// Memory that the decoder may use beside the picture, for rows, text and colour profiles.
const MAX_DECODER_BYTES: usize = 8 << 20;

/// First column, step, first row, step of the seven passes of an interlaced picture.
const ADAM7: [(u32, u32, u32, u32); 7] = [
    (0, 8, 0, 8),
    (4, 8, 0, 8),
    (0, 4, 4, 8),
    (2, 4, 0, 4),
    (0, 2, 2, 4),
    (1, 2, 0, 2),
    (0, 1, 1, 2),
];

pub(crate) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Rgb, Error> {
    let (width, height) = header_size(bytes)?;
    let (width, height, n_bytes) =
        options.limits.check(Format::Png, u64::from(width), u64::from(height))?;
    let limits = png::Limits { bytes: MAX_DECODER_BYTES };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(|error| explain(error, bytes, None))?;
    let rows = Rows::new(reader.info(), options.alpha);
    let truncated = |row| Some((row, height));
    let clock = Clock::start(options.limits.time);

    let data = if reader.info().interlaced {
        let mut data = zeros::<u8>(n_bytes)?;
        let mut pixels = with_room(3 * width as usize)?;
        for (x0, dx, y0, dy) in ADAM7 {
            let n_columns = width.saturating_sub(x0).div_ceil(dx) as usize;
            if n_columns == 0 {
                continue;
            }
            for y in (y0..height).step_by(dy as usize) {
                clock.check(Format::Png, (width, height))?;
                let row = reader.next_interlaced_row();
                let row = row.map_err(|error| explain(error, bytes, None))?;
                let row = row.ok_or_else(|| short(y))?;
                pixels.clear();
                rows.convert(row.data(), n_columns, &mut pixels);
                let start = 3 * (y as usize * width as usize + x0 as usize);
                let targets = data.get_mut(start..).unwrap_or_default().chunks_mut(3 * dx as usize);
                for (target, pixel) in targets.zip(pixels.chunks_exact(3)) {
                    for (target, &value) in target.iter_mut().zip(pixel) {
                        *target = value;
                    }
                }
            }
        }
        data
    } else {
        let mut data = with_room(n_bytes)?;
        for y in 0..height {
            clock.check(Format::Png, (width, height))?;
            let row = reader.next_row().map_err(|error| explain(error, bytes, truncated(y)))?;
            let row = row.ok_or_else(|| short(y))?;
            rows.convert(row.data(), width as usize, &mut data);
        }
        data
    };
    // The checksum of the last piece of data is only checked here. What comes after the picture is
    // as little a reason to refuse it as for Pillow.
    if let Err(error @ DecodingError::Format(_)) = reader.finish()
        && error.to_string().contains("IDAT")
    {
        return Err(explain(error, bytes, None));
    }
    Rgb::from_raw(width, height, data)
}

/// Width and height in the header, read before anything else is done.
fn header_size(bytes: &[u8]) -> Result<(u32, u32), Error> {
    let field = |at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
    if let Some(name) = field(12)
        && &name != b"IHDR"
    {
        let chunk = String::from_utf8_lossy(&name).into_owned();
        return Err(Error::PngChunk { chunk, what: "it stands where IHDR must be".into() });
    }
    match (field(16), field(20)) {
        (Some(width), Some(height)) => Ok((u32::from_be_bytes(width), u32::from_be_bytes(height))),
        _ => Err(Error::truncated(Format::Png, bytes.len())),
    }
}

fn short(row: u32) -> Error {
    Error::PngChunk { chunk: "IDAT".into(), what: format!("it holds {row} rows only") }
}

fn explain(error: DecodingError, bytes: &[u8], rows: Option<(u32, u32)>) -> Error {
    match error {
        DecodingError::IoError(_) => {
            Error::Truncated { format: Format::Png, rows, bytes: bytes.len() as u64 }
        }
        DecodingError::LimitsExceeded => Error::OverLimit {
            format: Format::Png,
            what: "bytes beside the pixels",
            size: header_size(bytes).map_or((0, 0), |(w, h)| (u64::from(w), u64::from(h))),
            found: MAX_DECODER_BYTES as u64 + 1,
            limit: MAX_DECODER_BYTES as u64,
        },
        other => {
            let what = other.to_string().trim_end_matches('.').to_lowercase();
            let known = ["IHDR", "PLTE", "tRNS", "IDAT", "acTL", "fcTL", "fdAT", "IEND"];
            let place = |chunk: &&str| what.find(&chunk.to_lowercase());
            // The one that the message names first.
            let named =
                known.iter().filter(|chunk| place(chunk).is_some()).min_by_key(|c| place(c));
            let of_header = ["color type", "bit depth", "interlace", "compression method"];
            let in_header = of_header.iter().any(|field| what.contains(field));
            let chunk = named.unwrap_or(if in_header { &"IHDR" } else { &"IDAT" });
            Error::PngChunk { chunk: (*chunk).to_owned(), what }
        }
    }
}

/// How the rows of one picture become RGB.
struct Rows {
    color: ColorType,
    depth: BitDepth,
    /// RGB of each index.
    palette: Vec<u8>,
    /// Opacity of each index of a palette, or the samples of the one transparent value.
    trns: Vec<u8>,
    composite: bool,
}

impl Rows {
    fn new(info: &png::Info<'_>, alpha: Alpha) -> Self {
        Self {
            color: info.color_type,
            depth: info.bit_depth,
            palette: info.palette.as_deref().unwrap_or_default().to_vec(),
            trns: info.trns.as_deref().unwrap_or_default().to_vec(),
            composite: alpha == Alpha::CompositeWhite,
        }
    }

    /// Appends the RGB of the `n` pixels of `row`.
    fn convert(&self, row: &[u8], n: usize, out: &mut Vec<u8>) {
        let wide = self.depth == BitDepth::Sixteen;
        match (self.color, wide) {
            (ColorType::Grayscale | ColorType::Indexed, false) => self.packed(row, n, out),
            (ColorType::Grayscale, true) => {
                for sample in row.chunks_exact(2).take(n) {
                    let value = if sample.starts_with(&[0]) { sample[1] } else { 255 };
                    self.push([value; 3], if sample == self.trns { 0 } else { 255 }, out);
                }
            }
            (ColorType::Rgb, false) if !(self.composite && self.trns.len() == 3) => {
                out.extend_from_slice(row.get(..3 * n).unwrap_or(row));
            }
            (ColorType::Rgb | ColorType::Rgba | ColorType::GrayscaleAlpha, _) => {
                self.samples(row, n, wide, out);
            }
            (ColorType::Indexed, true) => {}
        }
    }

    /// Grey or indices of 1, 2, 4 or 8 bits.
    fn packed(&self, row: &[u8], n: usize, out: &mut Vec<u8>) {
        let bits = self.depth as usize;
        let top = (1u16 << bits) as usize - 1;
        let grey = self.color == ColorType::Grayscale;
        for x in 0..n {
            let Some(byte) = row.get(x * bits / 8) else { return };
            let shift = 8 - bits - x * bits % 8;
            let value = usize::from(byte >> shift) & top;
            if grey {
                let value = (value * (255 / top)) as u8;
                self.push([value; 3], if self.is_key(value) { 0 } else { 255 }, out);
            } else {
                let pixel = self.palette.get(3 * value..3 * value + 3);
                let pixel = pixel.map_or([0; 3], |p| [p[0], p[1], p[2]]);
                self.push(pixel, self.trns.get(value).copied().unwrap_or(255), out);
            }
        }
    }

    /// Whether grey of up to 8 bits is the transparent value. Upstream: Pillow compares the value in
    /// the file with the value spread to 8 bits, but knows better for 1 bit.
    fn is_key(&self, value: u8) -> bool {
        match *self.trns.as_slice() {
            [key] if self.depth == BitDepth::One => (value != 0) == (key != 0),
            [key] => key == value,
            _ => false,
        }
    }

    /// Colour, or anything with an alpha channel; of 16 bits the high byte counts.
    fn samples(&self, row: &[u8], n: usize, wide: bool, out: &mut Vec<u8>) {
        let step = 1 + usize::from(wide);
        for pixel in row.chunks_exact(self.color.samples() * step).take(n) {
            let at = |i: usize| pixel.get(i * step).copied().unwrap_or(0);
            match self.color {
                ColorType::GrayscaleAlpha => self.push([at(0); 3], at(1), out),
                ColorType::Rgba => self.push([at(0), at(1), at(2)], at(3), out),
                _ => {
                    let transparent = self.trns == pixel;
                    self.push([at(0), at(1), at(2)], if transparent { 0 } else { 255 }, out);
                }
            }
        }
    }

    fn push(&self, pixel: [u8; 3], alpha: u8, out: &mut Vec<u8>) {
        if self.composite {
            out.extend_from_slice(&pixel.map(|value| over_white(value, alpha)));
        } else {
            out.extend_from_slice(&pixel);
        }
    }
}
