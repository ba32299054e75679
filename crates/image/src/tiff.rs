//! TIFF, the first picture of a file, to RGB as Pillow converts it.
//!
//! Grey of 16 and 32 bits is clipped at 255, colour of 16 bits keeps its high byte, colours that were
//! multiplied with their alpha are divided by it again.

use std::io::Cursor;

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use crate::decode::{Alpha, DecodeOptions, over_white};
use crate::error::Error;
use crate::exif::short_entry;
use crate::jpeg::cmyk_to_rgb;
use crate::rgb::{Rgb, with_room};
use crate::sniff::Format;

pub(crate) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Rgb, Error> {
    let explain = |error| explain(error, bytes);
    let indexed = as_grey(bytes)?;
    let source = indexed.as_deref().unwrap_or(bytes);
    let mut decoder = Decoder::new(Cursor::new(source)).map_err(explain)?;
    let (width, height) = decoder.dimensions().map_err(explain)?;
    let (width, height, n_bytes) =
        options.limits.check(Format::Tiff, u64::from(width), u64::from(height))?;
    let mut limits = Limits::default();
    limits.decoding_buffer_size = 3 * n_bytes + (1 << 20);
    limits.intermediate_buffer_size = 3 * n_bytes + (1 << 20);
    let mut decoder = decoder.with_limits(limits);
    let color = decoder.colortype().map_err(explain)?;
    let palette = match indexed {
        Some(_) => Some(decoder.get_tag_u16_vec(Tag::ColorMap).map_err(explain)?),
        None => None,
    };
    let associated = decoder
        .find_tag_unsigned_vec::<u16>(Tag::ExtraSamples)
        .map_err(explain)?
        .is_some_and(|kinds| kinds.first() == Some(&1));
    let samples = decoder.read_image().map_err(explain)?;
    let composite = options.alpha == Alpha::CompositeWhite;
    let pixels = Pixels { width: width as usize, color, palette, associated, composite };
    let mut data = with_room(n_bytes)?;
    match samples {
        DecodingResult::U8(samples) if color == ColorType::RGB(8) => data = samples,
        DecodingResult::U8(samples) => pixels.convert(&samples, &mut data),
        DecodingResult::U16(samples) => match color {
            ColorType::Gray(_) if pixels.palette.is_none() => {
                grey(samples.iter().map(|&v| f64::from(v)), &mut data);
            }
            _ => {
                let mut high = with_room(samples.len())?;
                high.extend(samples.iter().map(|v| (v >> 8) as u8));
                drop(samples);
                pixels.convert(&high, &mut data);
            }
        },
        DecodingResult::I16(samples) => grey(samples.iter().map(|&v| f64::from(v)), &mut data),
        DecodingResult::I32(samples) => grey(samples.iter().map(|&v| f64::from(v)), &mut data),
        // Pillow reads these as signed.
        DecodingResult::U32(samples) => {
            grey(samples.iter().map(|&v| f64::from(v.cast_signed())), &mut data);
        }
        DecodingResult::F32(samples) => grey(samples.iter().map(|&v| f64::from(v)), &mut data),
        _ => return Err(Error::FormatUnsupported { found: "TIFF with samples of this type" }),
    }
    if data.len() != n_bytes {
        return Err(Error::FormatUnsupported { found: "TIFF with channels of this kind" });
    }
    Rgb::from_raw(width, height, data)
}

/// Grey values clipped to 8 bits.
fn grey(samples: impl Iterator<Item = f64>, data: &mut Vec<u8>) {
    data.extend(samples.flat_map(|value| [value.clamp(0.0, 255.0) as u8; 3]));
}

struct Pixels {
    width: usize,
    color: ColorType,
    /// Red of all indices, then green, then blue, of 16 bits.
    palette: Option<Vec<u16>>,
    associated: bool,
    composite: bool,
}

impl Pixels {
    fn convert(&self, samples: &[u8], data: &mut Vec<u8>) {
        match (self.color, &self.palette) {
            (ColorType::Gray(bits @ (1 | 2 | 4 | 8)), Some(palette)) => {
                let n_colours = palette.len() / 3;
                let high = |i: usize| palette.get(i).map_or(0, |v| (v >> 8) as u8);
                let colour = |index: u8| {
                    let index = usize::from(index);
                    if index >= n_colours {
                        return [0; 3];
                    }
                    [high(index), high(n_colours + index), high(2 * n_colours + index)]
                };
                self.packed(samples, bits, colour, data);
            }
            (ColorType::Gray(8), None) => {
                data.extend(samples.iter().flat_map(|&value| [value; 3]));
            }
            (ColorType::Gray(bits @ (1 | 2 | 4)), None) => {
                let top = (1u16 << bits) - 1;
                self.packed(samples, bits, |v| [(u16::from(v) * (255 / top)) as u8; 3], data);
            }
            (ColorType::Multiband { bit_depth: 8, num_samples: 2 }, None) => {
                samples.chunks_exact(2).for_each(|p| self.push([p[0]; 3], p[1], data));
            }
            (ColorType::RGB(16), None) => data.extend_from_slice(samples),
            (ColorType::RGBA(8 | 16), None) => {
                samples.chunks_exact(4).for_each(|p| self.push([p[0], p[1], p[2]], p[3], data));
            }
            (ColorType::CMYK(8 | 16), None) => {
                let pixels = samples.chunks_exact(4);
                data.extend(pixels.flat_map(|p| cmyk_to_rgb([p[0], p[1], p[2], p[3]])));
            }
            _ => {}
        }
    }

    fn packed(&self, samples: &[u8], bits: u8, colour: impl Fn(u8) -> [u8; 3], data: &mut Vec<u8>) {
        let bits = usize::from(bits);
        let stride = (self.width * bits).div_ceil(8);
        for row in samples.chunks(stride.max(1)) {
            for x in 0..self.width {
                let byte = row.get(x * bits / 8).copied().unwrap_or(0);
                let value = byte >> (8 - bits - x * bits % 8) & (0xFF >> (8 - bits));
                data.extend_from_slice(&colour(value));
            }
        }
    }

    fn push(&self, mut pixel: [u8; 3], alpha: u8, data: &mut Vec<u8>) {
        if self.associated {
            let alpha = u32::from(alpha);
            pixel =
                pixel.map(|v| (u32::from(v) * 255).checked_div(alpha).unwrap_or(0).min(255) as u8);
        }
        if self.composite {
            pixel = pixel.map(|value| over_white(value, alpha));
        }
        data.extend_from_slice(&pixel);
    }
}

/// The `tiff` crate does not read pictures with a palette. It is given a copy that says grey instead,
/// and the grey values are the indices.
fn as_grey(bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    const PHOTOMETRIC: u16 = 262;
    const PALETTE: u16 = 3;
    let Some((at, PALETTE)) = short_entry(bytes, PHOTOMETRIC) else { return Ok(None) };
    let mut copy = with_room(bytes.len())?;
    copy.extend_from_slice(bytes);
    // The value is 3 in one of the two bytes, by byte order; 1 is grey with 0 as black.
    for byte in copy.iter_mut().skip(at).take(2).filter(|byte| **byte == 3) {
        *byte = 1;
    }
    Ok(Some(copy))
}

fn explain(error: TiffError, bytes: &[u8]) -> Error {
    match error {
        TiffError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::truncated(Format::Tiff, bytes.len())
        }
        TiffError::UnsupportedError(_) => Error::FormatUnsupported { found: "TIFF of this kind" },
        TiffError::LimitsExceeded | TiffError::IntSizeError => {
            Error::damaged(Format::Tiff, "its parts need more memory than its pixels")
        }
        other => Error::damaged(Format::Tiff, other.to_string()),
    }
}
