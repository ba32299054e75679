//! JPEG (being written: refused for now).

use crate::decode::DecodeOptions;
use crate::error::Error;
use crate::rgb::Rgb;

pub(crate) fn decode(_bytes: &[u8], _options: &DecodeOptions) -> Result<Rgb, Error> {
    Err(Error::JpegUnsupported { kind: "any".into() })
}

/// Pillow's conversion, with its exact division by 255.
pub(crate) fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let white = 255 - i32::from(k);
    [c, m, y].map(|ink| {
        let product = i32::from(ink) * white + 128;
        (white - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
}
