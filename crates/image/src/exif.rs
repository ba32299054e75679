//! The Exif orientation: read with limits from whatever the file has, ignored where it is broken.
//!
//! Only the entry 0x0112 of the first directory is looked at. Offsets to other directories are never
//! followed, so a loop among them cannot matter.

use crate::error::Error;
use crate::rgb::{Rgb, with_room};
use crate::sniff::Format;

/// Entries of a directory that are looked at.
const MAX_ENTRIES: usize = 512;

/// The orientation of a file, 1 to 8; 1 where there is none or it cannot be read.
pub(crate) fn orientation(bytes: &[u8], format: Format) -> u16 {
    let tiff = match format {
        Format::Jpeg => jpeg_segment(bytes),
        Format::Png => chunk(bytes.get(8..), 4, false, |name| name == b"eXIf"),
        Format::WebP => chunk(bytes.get(12..), 0, true, |name| name == b"EXIF"),
        Format::Tiff => Some(bytes),
        _ => None,
    };
    let tiff = tiff.map(|tiff| tiff.strip_prefix(b"Exif\0\0").unwrap_or(tiff));
    tiff.and_then(first_directory).filter(|value| (1..=8).contains(value)).unwrap_or(1)
}

/// The Exif segment of a JPEG, before its first scan.
fn jpeg_segment(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 2;
    loop {
        match bytes.get(at..at + 2)? {
            [0xFF, 0xFF] => at += 1,
            [0xFF, 0xDA | 0xD9] => return None,
            [0xFF, marker] => {
                let len = bytes.get(at + 2..at + 4)?;
                let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
                let body = bytes.get(at + 4..at + 2 + len)?;
                if *marker == 0xE1 && body.starts_with(b"Exif\0\0") {
                    return Some(body);
                }
                at += 2 + len;
            }
            _ => return None,
        }
    }
}

/// The body of the first chunk of a name: PNG has length, name, body and `after` bytes of checksum,
/// RIFF has name, little-endian length and a body of even length.
fn chunk(
    bytes: Option<&[u8]>,
    after: usize,
    riff: bool,
    wanted: impl Fn(&[u8]) -> bool,
) -> Option<&[u8]> {
    let mut rest = bytes?;
    loop {
        let (first, second) = (rest.get(..4)?, rest.get(4..8)?);
        let (name, len) = if riff { (first, second) } else { (second, first) };
        let len: [u8; 4] = len.try_into().ok()?;
        let len = if riff { u32::from_le_bytes(len) } else { u32::from_be_bytes(len) } as usize;
        let body = rest.get(8..8usize.checked_add(len)?)?;
        if wanted(name) {
            return Some(body);
        }
        let padding = if riff { len % 2 } else { after };
        rest = rest.get(8 + len + padding..)?;
    }
}

fn first_directory(tiff: &[u8]) -> Option<u16> {
    short_entry(tiff, 0x0112).map(|(_, value)| value)
}

/// Offset and value of an entry of one 16-bit number in the first directory of a TIFF.
pub(crate) fn short_entry(tiff: &[u8], wanted: u16) -> Option<(usize, u16)> {
    let big = match tiff.get(..4)? {
        b"II*\0" => false,
        b"MM\0*" => true,
        _ => return None,
    };
    let u16_at = |at: usize| -> Option<u16> {
        let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let offset = tiff.get(4..8)?.try_into().ok()?;
    let offset = if big { u32::from_be_bytes(offset) } else { u32::from_le_bytes(offset) } as usize;
    let n_entries = usize::from(u16_at(offset)?).min(MAX_ENTRIES);
    (0..n_entries).map(|i| offset + 2 + 12 * i).find_map(|entry| {
        let (tag, kind) = (u16_at(entry)?, u16_at(entry + 2)?);
        let value = (entry + 8, u16_at(entry + 8)?);
        if tag == wanted && kind == 3 { Some(value) } else { None }
    })
}

/// The picture turned and mirrored as `orientation` says.
pub(crate) fn orient(image: Rgb, orientation: u16) -> Result<Rgb, Error> {
    // Each result pixel (x, y) comes from: transposed?, from the right?, from the bottom?
    let (transposed, right, bottom) = match orientation {
        2 => (false, true, false),
        3 => (false, true, true),
        4 => (false, false, true),
        5 => (true, false, false),
        6 => (true, false, true),
        7 => (true, true, true),
        8 => (true, true, false),
        _ => return Ok(image),
    };
    let (columns, rows) = (image.width(), image.height());
    let (width, height) = if transposed { (rows, columns) } else { (columns, rows) };
    let mut data = with_room(image.data().len())?;
    for y in 0..height {
        for x in 0..width {
            let (column, row) = if transposed { (y, x) } else { (x, y) };
            let column = if right { columns - 1 - column } else { column };
            let row = if bottom { rows - 1 - row } else { row };
            let start = 3 * column as usize;
            data.extend_from_slice(image.row(row).get(start..start + 3).unwrap_or(&[0; 3]));
        }
    }
    Rgb::from_raw(width, height, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TIFF header with one directory of one entry.
    fn exif(tag: u16, kind: u16, value: u16) -> Vec<u8> {
        let mut tiff = b"MM\0*\0\0\0\x08\0\x01".to_vec();
        for part in [tag, kind, 0, 1, value, 0, 0, 8] {
            tiff.extend_from_slice(&part.to_be_bytes());
        }
        tiff
    }

    #[test]
    fn every_orientation_moves_the_corners() {
        let image = Rgb::from_raw(3, 2, (0..18).collect()).unwrap();
        // First value of the first pixel, first value of the last pixel, width.
        let expected = [
            (0, 15, 3),
            (6, 9, 3),
            (15, 0, 3),
            (9, 6, 3),
            (0, 15, 2),
            (9, 6, 2),
            (15, 0, 2),
            (6, 9, 2),
        ];
        for (orientation, (first, last, width)) in (1..).zip(expected) {
            let turned = orient(image.clone(), orientation).unwrap();
            let data = turned.data();
            assert_eq!((data[0], data[15], turned.width()), (first, last, width), "{orientation}");
        }
    }

    #[test]
    fn broken_directories_are_ignored() {
        assert_eq!(first_directory(&exif(0x0112, 3, 6)), Some(6));
        assert_eq!(first_directory(&exif(0x0112, 4, 6)), None);
        assert_eq!(first_directory(&exif(0x0111, 3, 6)), None);
        assert_eq!(orientation(&exif(0x0112, 3, 9), Format::Tiff), 1);
        for len in 0..exif(0x0112, 3, 6).len() {
            orientation(&exif(0x0112, 3, 6)[..len], Format::Tiff);
        }
        assert_eq!(orientation(b"II*\0\xff\xff\xff\xff", Format::Tiff), 1);
    }
}
