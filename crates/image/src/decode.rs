//! Bytes to RGB: which decoder, within which limits, with which of the named options.

use std::time::Duration;

use crate::error::Error;
use crate::rgb::Rgb;
use crate::sniff::{Format, sniff};
use crate::{bmp, exif, gif, jpeg, png, pnm, tiff, webp};

/// What a picture may cost. The defaults are those of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest file, in bytes.
    pub file_bytes: u64,
    /// Most pixels, width times height.
    pub pixels: u64,
    /// Longest side, in pixels.
    pub side: u32,
    /// Most scans of a JPEG.
    pub jpeg_scans: u32,
    /// Most processor time for decoding; `None` sets no limit. It is looked at between the rows of JPEG and
    /// PNG: decoders of other formats cannot be interrupted, and their time is bounded by the
    /// pixels alone.
    pub time: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 20 << 20, pixels: 64_000_000, side: 65_535, jpeg_scans: 100, time: None }
    }
}

impl Limits {
    /// The size as `u32` and the number of RGB bytes, where the picture is within the limits.
    pub(crate) fn check(
        &self,
        format: Format,
        width: u64,
        height: u64,
    ) -> Result<(u32, u32, usize), Error> {
        if width == 0 || height == 0 {
            return Err(Error::damaged(format, format!("the picture is {width} x {height}")));
        }
        let over = |what, found, limit| Error::OverLimit {
            format,
            what,
            size: (width, height),
            found,
            limit,
        };
        let pixels = width.saturating_mul(height);
        if pixels > self.pixels {
            return Err(over("pixels", pixels, self.pixels));
        }
        let side = width.max(height);
        if side > u64::from(self.side) {
            return Err(over("pixels of one side", side, u64::from(self.side)));
        }
        let bytes = pixels.checked_mul(3).and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = bytes.ok_or_else(|| over("pixels", pixels, self.pixels))?;
        Ok((width as u32, height as u32, bytes))
    }
}

/// What happens to transparency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alpha {
    /// It is dropped, and the colours beneath it show: what Pillow's `convert("RGB")` does.
    #[default]
    Drop,
    /// The picture is laid on white, as a person usually sees it and as the image processor of
    /// transformers 5.23 does when it is given a Pillow image that still has its alpha.
    CompositeWhite,
}

/// How a picture is decoded. The default is parity with Pillow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// What the picture may cost.
    pub limits: Limits,
    /// Turns the picture as its Exif orientation says. Pillow's `convert("RGB")` does not.
    pub apply_exif_orientation: bool,
    /// What happens to transparency.
    pub alpha: Alpha,
}

/// The picture in `bytes` as RGB.
///
/// # Numerics
/// Equal to `PIL.Image.open(...).convert("RGB")` of Pillow 13.0 for the pictures that are accepted.
///
/// # Errors
/// Every variant of [`Error`] with a code from E4001 to E4008; [`Error::FileTooLarge`];
/// [`Error::Memory`].
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Rgb, Error> {
    let format = format_within_limits(bytes, options)?;
    let rgb = match format {
        Format::Jpeg => jpeg::decode(bytes, options),
        Format::Png => fence(format, png::decode, bytes, options),
        Format::WebP => fence(format, webp::decode, bytes, options),
        Format::Gif => fence(format, gif::decode, bytes, options),
        Format::Bmp => bmp::decode(bytes, options),
        Format::Tiff => fence(format, tiff::decode, bytes, options),
        Format::Pnm => pnm::decode(bytes, options),
        Format::Avif => Err(Error::FormatUnsupported { found: "AVIF (no decoder built in)" }),
        Format::Heic => Err(Error::FormatUnsupported { found: "HEIC (no decoder built in)" }),
    }?;
    if options.apply_exif_orientation {
        exif::orient(rgb, exif::orientation(bytes, format))
    } else {
        Ok(rgb)
    }
}

/// What the bytes are, where they are not too many.
pub(crate) fn format_within_limits(bytes: &[u8], options: &DecodeOptions) -> Result<Format, Error> {
    let limit = options.limits.file_bytes;
    if bytes.len() as u64 > limit {
        return Err(Error::FileTooLarge { path: None, bytes: bytes.len() as u64, limit });
    }
    sniff(bytes)
}

/// Lays one colour value on white, rounded as Pillow's `alpha_composite` does.
pub(crate) fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    // Upstream: `AlphaComposite.c` divides by 255 with 7 more bits of precision.
    let sum = (value * alpha + 255 * (255 - alpha) + 128) << 7;
    ((((sum >> 8) + sum) >> 8) >> 7) as u8
}

/// Runs a decoder of another crate. Those are written to return errors, but a panic in one of them
/// must not take down a process that works through a folder: it becomes [`Error::Damaged`].
///
/// The closures own or only read what they use, so nothing half-changed can be seen afterwards.
fn fence(
    format: Format,
    decoder: fn(&[u8], &DecodeOptions) -> Result<Rgb, Error>,
    bytes: &[u8],
    options: &DecodeOptions,
) -> Result<Rgb, Error> {
    std::panic::catch_unwind(|| decoder(bytes, options))
        .unwrap_or_else(|_| Err(Error::damaged(format, "its decoder gave up")))
}
