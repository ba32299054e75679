//! Small pictures for pages.

use altclip::image::{DecodeOptions, Filter, Rgb, Window, decode, resize_window};
use altclip_page::Picture;

/// Pixels of the longer side of a thumbnail.
const SIDE: u32 = 192;

/// A thumbnail of the picture in `file`, where it can be decoded; `alt` says what it shows.
pub(crate) fn of(file: &[u8], alt: &str, options: &DecodeOptions) -> Option<Picture> {
    let image = small(decode(file, options).ok()?)?;
    Picture::new(&png_of(&image).ok()?, alt).ok()
}

/// The picture, its longer side at most [`SIDE`].
fn small(image: Rgb) -> Option<Rgb> {
    let (width, height) = (image.width(), image.height());
    let longer = width.max(height);
    if longer <= SIDE {
        return Some(image);
    }
    let scaled = |side: u32| (u64::from(side) * u64::from(SIDE) / u64::from(longer)).max(1) as u32;
    let (width, height) = (scaled(width), scaled(height));
    let window = Window { left: 0, top: 0, width, height };
    resize_window(&image, width, height, Filter::Bicubic, window).ok()
}

fn png_of(image: &Rgb) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.data())?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_picture_becomes_small_and_no_picture_none() {
        let rgb = |width: u32, height: u32| {
            let numbers =
                (0..3 * width * height).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
            Rgb::from_raw(width, height, numbers.collect()).unwrap()
        };
        let options = DecodeOptions::default();
        assert_eq!(small(rgb(400, 100)).map(|i| (i.width(), i.height())), Some((192, 48)));
        assert_eq!(small(rgb(20, 10)).map(|i| (i.width(), i.height())), Some((20, 10)));
        assert!(of(&png_of(&rgb(30, 3000)).unwrap(), "x", &options).is_some());
        assert!(of(b"not a picture", "x", &options).is_none());
    }
}
