//! Foreign picture bytes to pixel values, bit for bit as Pillow and the CLIP image processor of
//! transformers (its Pillow backend) compute them.
//!
//! Three steps, each usable alone: [`sniff()`] says what the bytes are, [`decode()`] gives 8-bit RGB as
//! Pillow's `convert("RGB")` does, and [`Preprocessor`] resizes, crops and normalises to the float
//! tensor `[3, H, W]` that a vision tower takes. [`decode_and_preprocess`] does both with less work.
//! [`read_file`] reads a path with the limits on.
//!
//! Everything that comes from outside is checked against [`Limits`] before memory is taken for it.
//! The resize computes the kept crop window only, so that a picture of 1 x 65,535 pixels costs no
//! more than a square one of as many pixels.
//!
//! ```
//! use altclip_image::{DecodeOptions, Preprocessor, decode};
//! let ppm = b"P6 2 2 255 \xff\x00\x00\x00\xff\x00\x00\x00\xff\xff\xff\xff";
//! let picture = decode(ppm, &DecodeOptions::default())?;
//! assert_eq!((picture.width(), picture.height()), (2, 2));
//! let pixel_values = Preprocessor::clip(224).apply(&picture)?;
//! assert_eq!(pixel_values.len(), 3 * 224 * 224);
//! # Ok::<(), altclip_image::Error>(())
//! ```

#![forbid(unsafe_code)]

mod bmp;
mod bytes;
mod clock;
mod config;
mod decode;
mod error;
mod exif;
mod file;
mod gif;
mod jpeg;
mod normalized;
mod png;
mod pnm;
mod preprocess;
mod resize;
mod resizer;
mod rgb;
mod sink;
mod sniff;
mod tiff;
mod webp;

pub use decode::{Alpha, DecodeOptions, Limits, decode};
pub use error::Error;
pub use file::read_file;
pub use preprocess::{Preprocessor, Resize, decode_and_preprocess};
pub use resize::{Filter, Window, resize_window};
pub use rgb::Rgb;
pub use sniff::{Format, sniff};
