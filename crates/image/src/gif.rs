//! The first frame of a GIF, on its canvas, as Pillow's `convert("RGB")` shows it.
//!
//! Around a frame that is smaller than the canvas Pillow puts the transparent index, else index 0;
//! transparency itself is dropped. Without any colour table the indices are grey values.

use std::io::Cursor;

use gif::{ColorOutput, DecodingError, MemoryLimit};

use crate::decode::{Alpha, DecodeOptions};
use crate::error::Error;
use crate::rgb::{Rgb, with_room, zeros};
use crate::sniff::Format;

pub(crate) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Rgb, Error> {
    let size = |at: usize| bytes.get(at..at + 2).map(|b| u64::from(b[0]) | u64::from(b[1]) << 8);
    let (Some(width), Some(height)) = (size(6), size(8)) else {
        return Err(Error::truncated(Format::Gif, bytes.len()));
    };
    let (width, height, n_bytes) = options.limits.check(Format::Gif, width, height)?;
    let mut settings = gif::DecodeOptions::new();
    settings.set_color_output(ColorOutput::Indexed);
    settings.set_memory_limit(MemoryLimit::Bytes(
        (u64::from(width) * u64::from(height) + (1 << 20))
            .try_into()
            .unwrap_or(std::num::NonZeroU64::MIN),
    ));
    let explain = |error| explain(error, bytes);
    let mut decoder = settings.read_info(Cursor::new(bytes)).map_err(explain)?;
    let frame = decoder.next_frame_info().map_err(explain)?;
    let frame = frame.ok_or_else(|| invalid("there is none".into()))?;
    let (left, top) = (u32::from(frame.left), u32::from(frame.top));
    let (columns, rows) = (u32::from(frame.width), u32::from(frame.height));
    let transparent = frame.transparent;
    if columns == 0 || rows == 0 || left + columns > width || top + rows > height {
        return Err(invalid(format!(
            "{columns} x {rows} pixels at ({left}, {top}) on a canvas of {width} x {height}"
        )));
    }
    let mut indices = zeros::<u8>(columns as usize * rows as usize)?;
    decoder.read_into_buffer(&mut indices).map_err(explain)?;

    let grey = decoder.palette().is_err();
    let palette = decoder.palette().unwrap_or_default();
    let composite = options.alpha == Alpha::CompositeWhite;
    let colours: Vec<[u8; 3]> = (0..=255u8)
        .map(|index| match palette.get(3 * usize::from(index)..3 * usize::from(index) + 3) {
            _ if composite && transparent == Some(index) => [255; 3],
            _ if grey => [index; 3],
            Some(colour) => [colour[0], colour[1], colour[2]],
            None => [0; 3],
        })
        .collect();
    let colour = |index: u8| colours.get(usize::from(index)).copied().unwrap_or_default();

    let ground = colour(transparent.unwrap_or(0));
    let mut data = with_room(n_bytes)?;
    let mut frame_rows = indices.chunks_exact(columns as usize);
    for y in 0..height {
        let row = if (top..top + rows).contains(&y) { frame_rows.next() } else { None };
        let row = row.unwrap_or_default();
        let right = width - if row.is_empty() { 0 } else { left + columns };
        let before = if row.is_empty() { 0 } else { left };
        data.extend((0..before).flat_map(|_| ground));
        data.extend(row.iter().flat_map(|&index| colour(index)));
        data.extend((0..right).flat_map(|_| ground));
    }
    Rgb::from_raw(width, height, data)
}

fn invalid(what: String) -> Error {
    Error::Frame { format: Format::Gif, what }
}

fn explain(error: DecodingError, bytes: &[u8]) -> Error {
    match error {
        DecodingError::UnexpectedEof | DecodingError::EndCodeNotFound => {
            Error::truncated(Format::Gif, bytes.len())
        }
        DecodingError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::truncated(Format::Gif, bytes.len())
        }
        DecodingError::OutOfMemory | DecodingError::MemoryLimit => {
            invalid("it needs more memory than its canvas".into())
        }
        other => Error::damaged(Format::Gif, other.to_string()),
    }
}
