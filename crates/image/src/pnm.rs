//! PBM, PGM and PPM, plain and raw, as Pillow reads them.
//!
//! Grey of more than 8 bits is brought to 0…65,535 and then clipped at 255, Pillow's way from mode
//! `I` to `RGB`; colour is scaled to 8 bits, halves to the even neighbour.

use crate::bytes::Bytes;
use crate::decode::DecodeOptions;
use crate::error::Error;
use crate::rgb::{Rgb, with_room};
use crate::sniff::Format;

pub(crate) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Rgb, Error> {
    let mut input = Bytes::new(bytes, Format::Pnm);
    let kind = input.array::<2>()?[1];
    let width = number(&mut input)?;
    let height = number(&mut input)?;
    let bitmap = matches!(kind, b'1' | b'4');
    let max = if bitmap { 1 } else { number(&mut input)? };
    if !(1..=65_535).contains(&max) {
        return Err(Error::damaged(Format::Pnm, format!("the largest value is {max}")));
    }
    let (width, height, n_bytes) = options.limits.check(Format::Pnm, width, height)?;
    let scale = Scale { max: max as u32, grey: matches!(kind, b'1' | b'2' | b'4' | b'5'), bitmap };
    let n_samples = if scale.grey { n_bytes / 3 } else { n_bytes };
    let wide = max > 255;
    if matches!(kind, b'4' | b'5' | b'6') {
        // Before room is made for the pixels, the file must hold them.
        let row = if bitmap { (width as usize).div_ceil(8) } else { 0 };
        let needed = if bitmap { row * height as usize } else { n_samples << u32::from(wide) };
        if input.rest().len() < needed {
            let stride = (needed / height as usize).max(1);
            let rows = Some(((input.rest().len() / stride) as u32, height));
            return Err(Error::Truncated { format: Format::Pnm, rows, bytes: bytes.len() as u64 });
        }
    } else if input.rest().len() < n_samples {
        return Err(Error::truncated(Format::Pnm, bytes.len()));
    }
    let mut data = with_room(n_bytes)?;
    match kind {
        b'1' => {
            for _ in 0..n_samples {
                scale.push(bit(&mut input)?, &mut data);
            }
        }
        b'4' => {
            for _ in 0..height {
                let row = input.take((width as usize).div_ceil(8))?;
                let bits = row.iter().flat_map(|byte| (0..8).map(move |i| byte >> (7 - i) & 1));
                bits.take(width as usize).for_each(|bit| scale.push(u32::from(bit), &mut data));
            }
        }
        b'2' | b'3' => {
            for _ in 0..n_samples {
                let value = number(&mut input)?;
                if value > max {
                    let what = format!("a value of {value} where {max} is the largest");
                    return Err(Error::damaged(Format::Pnm, what));
                }
                scale.push(value as u32, &mut data);
            }
        }
        _ if wide => {
            let samples = input.take(2 * n_samples)?.chunks_exact(2);
            samples.for_each(|s| scale.push(u32::from(s[0]) << 8 | u32::from(s[1]), &mut data));
        }
        _ => input.take(n_samples)?.iter().for_each(|&s| scale.push(u32::from(s), &mut data)),
    }
    Rgb::from_raw(width, height, data)
}

struct Scale {
    max: u32,
    grey: bool,
    bitmap: bool,
}

impl Scale {
    fn push(&self, value: u32, data: &mut Vec<u8>) {
        let value = if self.bitmap {
            if value == 0 { 255 } else { 0 }
        } else {
            let top = if self.grey && self.max > 255 { 65_535 } else { 255 };
            if self.max == top {
                value.min(255)
            } else {
                // Python's round: halves go to the even neighbour.
                let scaled = f64::from(value) / f64::from(self.max) * f64::from(top);
                (scaled.round_ties_even() as u32).min(255)
            }
        };
        let value = value as u8;
        if self.grey { data.extend_from_slice(&[value; 3]) } else { data.push(value) }
    }
}

/// The next number, after white space and comments, and the one byte that ends it.
fn number(input: &mut Bytes<'_>) -> Result<u64, Error> {
    let mut digits = 0;
    let mut value = 0u64;
    loop {
        match input.u8() {
            Ok(digit @ b'0'..=b'9') if digits < 10 => {
                value = 10 * value + u64::from(digit - b'0');
                digits += 1;
            }
            Ok(b'#') => while !matches!(input.u8(), Ok(b'\r' | b'\n') | Err(_)) {},
            Ok(byte) if byte.is_ascii_whitespace() || byte == b'\x0b' => {
                if digits > 0 {
                    return Ok(value);
                }
            }
            Ok(byte) => {
                let offset = Some(input.position() as u64 - 1);
                let what = format!("a number has the byte {byte:#04x} in it");
                return Err(Error::Damaged { format: Format::Pnm, what, marker: None, offset });
            }
            // The last number of a plain file may end with the file.
            Err(error) => return if digits > 0 { Ok(value) } else { Err(error) },
        }
    }
}

/// The next digit of a plain bitmap; white space between digits is optional.
fn bit(input: &mut Bytes<'_>) -> Result<u32, Error> {
    loop {
        match input.u8()? {
            b'0' => return Ok(0),
            b'1' => return Ok(1),
            b'#' => while !matches!(input.u8(), Ok(b'\r' | b'\n') | Err(_)) {},
            byte if byte.is_ascii_whitespace() || byte == b'\x0b' => {}
            byte => {
                let what = format!("a bitmap has the byte {byte:#04x} in it");
                return Err(Error::damaged(Format::Pnm, what));
            }
        }
    }
}
