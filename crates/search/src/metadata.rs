//! Size and date of a picture, from the first bytes of its file; unknown where they cannot be read.

use crate::filter::days;

/// Pixels across and down as the header says.
pub fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    let be32 = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let le32 = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let le24 = |at: usize| match bytes.get(at..at + 3)? {
        [a, b, c] => Some(u32::from_le_bytes([*a, *b, *c, 0])),
        _ => None,
    };
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some((be32(16)?, be32(20)?)),
        [0xff, 0xd8, ..] => segments(bytes).find_map(|(marker, body)| match (marker, body) {
            (0xc0..=0xc3, [_, h1, h0, w1, w0, ..]) => {
                Some((u16::from_be_bytes([*w1, *w0]).into(), u16::from_be_bytes([*h1, *h0]).into()))
            }
            _ => None,
        }),
        [b'G', b'I', b'F', ..] => Some((le32(6)? & 0xffff, le32(6)? >> 16)),
        [b'B', b'M', ..] => Some((le32(18)?, le32(22)?.cast_signed().unsigned_abs())),
        [b'R', b'I', b'F', b'F', ..] => match bytes.get(12..16)? {
            b"VP8X" => Some((le24(24)? + 1, le24(27)? + 1)),
            b"VP8L" => Some(((le32(21)? & 0x3fff) + 1, (le32(21)? >> 14 & 0x3fff) + 1)),
            b"VP8 " => Some((le32(26)? & 0x3fff, le32(26)? >> 16 & 0x3fff)),
            _ => None,
        },
        _ => None,
    }
}

/// When a JPEG says it was taken: seconds since 1970 by the clock of the camera.
pub fn taken(bytes: &[u8]) -> Option<i64> {
    let exif = segments(bytes)
        .find_map(|(marker, body)| body.strip_prefix(b"Exif\0\0").filter(|_| marker == 0xe1))?;
    let little = match exif.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let tiff = Tiff { bytes: exif, little };
    let first = tiff.u32(4)? as usize;
    let text = |directory: usize, tag: u16| {
        let at = tiff.entry(directory, tag)?;
        tiff.bytes.get(tiff.u32(at)? as usize..)?.get(..19)
    };
    let own = tiff.entry(first, 0x8769).and_then(|at| tiff.u32(at));
    // DateTimeOriginal of the Exif directory, else DateTime of the first.
    let date = own.and_then(|own| text(own as usize, 0x9003)).or_else(|| text(first, 0x0132))?;
    seconds(std::str::from_utf8(date).ok()?)
}

/// `2024:05:31 12:30:00`.
fn seconds(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u16>().ok().map(i64::from);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && year > 1800;
    let time = hour * 3600 + minute * 60 + second;
    (valid && hour < 24 && minute < 60 && second <= 60)
        .then(|| days(year, month, day) * 86_400 + time)
}

struct Tiff<'a> {
    bytes: &'a [u8],
    little: bool,
}

impl Tiff<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        let pair = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let four = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) })
    }

    /// Where the value of an entry of a directory lies.
    fn entry(&self, directory: usize, tag: u16) -> Option<usize> {
        let entries = usize::from(self.u16(directory)?).min(512);
        let places = (0..entries).map(|i| directory + 2 + 12 * i);
        places.filter(|&at| self.u16(at) == Some(tag)).map(|at| at + 8).next()
    }
}

/// Markers of a JPEG with what follows their lengths, up to the first scan.
fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut at = 2;
    std::iter::from_fn(move || {
        let [0xff, marker, high, low] = *bytes.get(at..at + 4)? else { return None };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let body = bytes.get(at + 4..at + 2 + len)?;
        at += 2 + len;
        (marker != 0xda).then_some((marker, body))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg(exif: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1];
        bytes.extend(((exif.len() + 8) as u16).to_be_bytes());
        bytes.extend(b"Exif\0\0");
        bytes.extend(exif);
        bytes.extend([0xff, 0xc0, 0, 11, 8, 0x01, 0x02, 0x03, 0x04, 1, 0, 0, 0]);
        bytes
    }

    #[test]
    fn date_and_size_of_a_jpeg() {
        let mut exif = b"MM\0*\0\0\0\x08\0\x01".to_vec();
        exif.extend([0x01, 0x32, 0, 2, 0, 0, 0, 20, 0, 0, 0, 26, 0, 0, 0, 0]);
        exif.extend(b"2024:05:31 12:30:01\0");
        let bytes = jpeg(&exif);
        assert_eq!(dimensions(&bytes), Some((0x304, 0x102)));
        assert_eq!(taken(&bytes), Some(1_717_158_601));
        // Whatever is cut or turned over, there is an answer or none.
        for cut in 0..bytes.len() {
            let _ = (dimensions(&bytes[..cut]), taken(&bytes[..cut]));
            let mut damaged = bytes.clone();
            damaged[cut] ^= 0xff;
            let _ = (dimensions(&damaged), taken(&damaged));
        }
        assert_eq!(seconds("2024:13:31 12:30:01"), None);
    }

    #[test]
    fn sizes_of_other_formats() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        png.extend([0, 0, 1, 0, 0, 0, 0, 7]);
        assert_eq!(dimensions(&png), Some((256, 7)));
        assert_eq!(dimensions(b"GIF89a\x02\x01\x03\x00"), Some((258, 3)));
        assert_eq!(dimensions(b"no picture"), None);
        assert_eq!(dimensions(b""), None);
    }
}
