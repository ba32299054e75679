//! WebP: the picture, or the first frame of an animation, as Pillow's `convert("RGB")` shows it.
//!
//! The first frame of an animation is decoded as if it were a file of its own and laid on a
//! transparent black canvas without blending, which is what libwebp's animation decoder does.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use crate::bytes::Bytes;
use crate::decode::{Alpha, DecodeOptions, over_white};
use crate::error::Error;
use crate::rgb::{Rgb, with_room, zeros};
use crate::sniff::Format;

pub(crate) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Rgb, Error> {
    // A file shorter than its container says is a truncated one, whatever is missing.
    let declared = Bytes::new(bytes.get(4..).unwrap_or(&[]), Format::WebP).u32_le()?;
    if u64::from(declared) + 8 > bytes.len() as u64 + 1 {
        return Err(Error::truncated(Format::WebP, bytes.len()));
    }
    let decoder = open(bytes)?;
    let (width, height) = decoder.dimensions();
    let (width, height, n_bytes) =
        options.limits.check(Format::WebP, u64::from(width), u64::from(height))?;
    let composite = options.alpha == Alpha::CompositeWhite;
    if !decoder.is_animated() {
        return Rgb::from_raw(width, height, still(decoder, composite)?);
    }

    let frame = first_frame(bytes)?;
    let (right, bottom) = (frame.left + frame.width, frame.top + frame.height);
    if right > width || bottom > height {
        return Err(invalid("it reaches outside of the canvas"));
    }
    let decoder = open(&frame.file)?;
    if decoder.dimensions() != (frame.width, frame.height) {
        return Err(invalid("its picture has another size"));
    }
    let pixels = still(decoder, composite)?;
    let mut data = with_room(n_bytes)?;
    data.resize(n_bytes, if composite { 255 } else { 0 });
    let rows = data.chunks_exact_mut(3 * width as usize).skip(frame.top as usize);
    for (row, source) in rows.zip(pixels.chunks_exact(3 * frame.width as usize)) {
        let start = 3 * frame.left as usize;
        if let Some(target) = row.get_mut(start..start + source.len()) {
            target.copy_from_slice(source);
        }
    }
    Rgb::from_raw(width, height, data)
}

fn open(bytes: &[u8]) -> Result<WebPDecoder<Cursor<&[u8]>>, Error> {
    WebPDecoder::new(Cursor::new(bytes)).map_err(|error| explain(error, bytes.len()))
}

/// The RGB bytes of a file with one picture.
fn still(mut decoder: WebPDecoder<Cursor<&[u8]>>, composite: bool) -> Result<Vec<u8>, Error> {
    let (width, height) = decoder.dimensions();
    let n_pixels = width as usize * height as usize;
    let alpha = decoder.has_alpha();
    let mut data = zeros::<u8>(n_pixels * if alpha { 4 } else { 3 })?;
    decoder.read_image(&mut data).map_err(|error| explain(error, 0))?;
    if alpha {
        for i in 0..n_pixels {
            let Some(&[r, g, b, a]) = data.get(4 * i..4 * i + 4) else { break };
            let shown = |value| if composite { over_white(value, a) } else { value };
            if let Some(target) = data.get_mut(3 * i..3 * i + 3) {
                target.copy_from_slice(&[r, g, b].map(shown));
            }
        }
        data.truncate(3 * n_pixels);
    }
    Ok(data)
}

struct Frame {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    /// The frame as a WebP file.
    file: Vec<u8>,
}

/// The first `ANMF` chunk.
fn first_frame(bytes: &[u8]) -> Result<Frame, Error> {
    let mut input = Bytes::new(bytes, Format::WebP);
    input.take(12)?;
    let body = loop {
        let name = input.array::<4>()?;
        let len = input.u32_le()? as usize;
        let body = input.take(len)?;
        if &name == b"ANMF" {
            break body;
        }
        if len % 2 == 1 {
            input.u8()?;
        }
    };
    let mut input = Bytes::new(body, Format::WebP);
    let mut u24 = || input.array::<3>().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]));
    let (left, top, width, height) = (2 * u24()?, 2 * u24()?, u24()? + 1, u24()? + 1);
    u24()?;
    input.u8()?;
    let chunks = input.rest();
    let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
    if chunks.starts_with(b"ALPH") {
        file.extend_from_slice(b"VP8X\x0a\0\0\0\x10\0\0\0");
        for side in [width - 1, height - 1] {
            file.extend_from_slice(side.to_le_bytes().get(..3).unwrap_or_default());
        }
    }
    file.extend_from_slice(chunks);
    let size = u32::try_from(file.len() - 8).unwrap_or(u32::MAX);
    if let Some(field) = file.get_mut(4..8) {
        field.copy_from_slice(&size.to_le_bytes());
    }
    Ok(Frame { left, top, width, height, file })
}

fn invalid(what: &str) -> Error {
    Error::Frame { format: Format::WebP, what: what.into() }
}

fn explain(error: DecodingError, n_bytes: usize) -> Error {
    match error {
        DecodingError::IoError(_) | DecodingError::NotEnoughInitData => {
            Error::truncated(Format::WebP, n_bytes)
        }
        other => Error::damaged(Format::WebP, other.to_string()),
    }
}
