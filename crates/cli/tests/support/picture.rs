//! Pictures whose every byte is ours: PNG by hand, and edits of the golden JPEG, GIF and WebP files.

use super::folder::golden_json;
use std::collections::BTreeMap;

/// CRC-32 of zip and PNG.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}

pub(crate) fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat()
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    b << 16 | a
}

/// A zlib stream of stored blocks.
pub(crate) fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = bytes.chunks(65_535).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    stream.extend(adler32(bytes).to_be_bytes());
    stream
}

pub(crate) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

pub(crate) fn header(width: u32, height: u32, depth: u8, colour: u8) -> Vec<u8> {
    let mut data = [width.to_be_bytes(), height.to_be_bytes()].concat();
    data.extend([depth, colour, 0, 0, 0]);
    chunk(b"IHDR", &data)
}

/// A PNG of this header with filtered rows `raw`.
pub(crate) fn png_raw(width: u32, height: u32, depth: u8, colour: u8, raw: &[u8]) -> Vec<u8> {
    let parts =
        [header(width, height, depth, colour), chunk(b"IDAT", &stored(raw)), chunk(b"IEND", b"")];
    [SIGNATURE, &parts.concat()].concat()
}

/// An 8-bit RGB PNG.
pub(crate) fn png(width: u32, height: u32, rgb: &[u8]) -> Vec<u8> {
    assert_eq!(rgb.len(), 3 * width as usize * height as usize);
    let rows = rgb.chunks(3 * width as usize).flat_map(|row| [&[0], row].concat());
    png_raw(width, height, 8, 2, &rows.collect::<Vec<u8>>())
}

/// A picture with some structure.
pub(crate) fn pattern(width: u32, height: u32) -> Vec<u8> {
    let value = |n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8;
    png(width, height, &(0..3 * width * height).map(value).collect::<Vec<u8>>())
}

/// The golden picture files of every format by name.
pub(crate) fn goldens() -> BTreeMap<String, Vec<u8>> {
    let file = golden_json("image/pictures.json");
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let bytes = |hex: &str| hex.as_bytes().chunks(2).map(byte).collect();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let pictures = file["pictures"].as_array().unwrap().iter();
    pictures.map(|picture| (text(&picture["name"]), bytes(&text(&picture["file"])))).collect()
}

/// Where the payload of a JPEG segment begins, behind marker and length.
pub(crate) fn jpeg_segment(file: &[u8], marker: u8) -> usize {
    let mut at = 2;
    loop {
        let (found, length) = (file[at + 1], u16::from_be_bytes([file[at + 2], file[at + 3]]));
        if found == marker {
            return at + 4;
        }
        assert_ne!(found, 0xda, "no segment {marker:x}");
        at += 2 + usize::from(length);
    }
}

/// A JPEG without one of its segments.
pub(crate) fn without_segment(file: &[u8], marker: u8) -> Vec<u8> {
    let start = jpeg_segment(file, marker) - 4;
    let length = usize::from(u16::from_be_bytes([file[start + 2], file[start + 3]]));
    [&file[..start], &file[start + 2 + length..]].concat()
}

/// A JPEG with an APP1 segment of these bytes behind its start.
pub(crate) fn with_exif(file: &[u8], tiff: &[u8]) -> Vec<u8> {
    let body = [b"Exif\0\0", tiff].concat();
    let length = (body.len() as u16 + 2).to_be_bytes();
    [&file[..2], b"\xff\xe1", &length, &body, &file[2..]].concat()
}

/// A directory with an orientation, whose next directory is at `next`.
pub(crate) fn orientation(value: u16, next: u32) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    tiff.extend(u32::from(value).to_le_bytes());
    tiff.extend(next.to_le_bytes());
    tiff
}

/// Where the first image descriptor of a GIF begins.
pub(crate) fn gif_descriptor(file: &[u8]) -> usize {
    let table = if file[10] & 0x80 != 0 { 3 << ((file[10] & 7) + 1) } else { 0 };
    let at = 13 + table;
    assert_eq!(file[at], b',', "the first block is an image");
    at
}
