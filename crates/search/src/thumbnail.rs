//! A picture small, as PNG: for pages that show what was found.

use altclip::image::{DecodeOptions, Error, Filter, Format, Rgb, Window, decode, resize_window};

/// The picture in `file` as PNG, its longer side at most `side` pixels.
///
/// # Errors
/// It cannot be decoded.
pub fn thumbnail(file: &[u8], side: u32, options: &DecodeOptions) -> Result<Vec<u8>, Error> {
    let small = small(decode(file, options)?, side)?;
    png_of(&small).map_err(|error| {
        let what = error.to_string();
        Error::Damaged { format: Format::Png, what, marker: None, offset: None }
    })
}

fn small(image: Rgb, side: u32) -> Result<Rgb, Error> {
    let (width, height) = (image.width(), image.height());
    let longer = width.max(height);
    if longer <= side {
        return Ok(image);
    }
    let scaled = |of: u32| (u64::from(of) * u64::from(side) / u64::from(longer)).max(1) as u32;
    let (width, height) = (scaled(width), scaled(height));
    let window = Window { left: 0, top: 0, width, height };
    resize_window(&image, width, height, Filter::Bicubic, window)
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
    use crate::metadata::dimensions;

    #[test]
    fn the_longer_side_is_as_asked() {
        let options = DecodeOptions::default();
        for (width, height, expected) in
            [(400u32, 100u32, (64, 16)), (30, 20, (30, 20)), (1, 1000, (1, 64))]
        {
            let mut file = format!("P6 {width} {height} 255 ").into_bytes();
            file.extend(vec![7; (width * height * 3) as usize]);
            let png = thumbnail(&file, 64, &options).unwrap();
            assert_eq!(dimensions(&png), Some(expected));
            assert!(decode(&png, &options).unwrap().data().iter().all(|&x| x == 7));
        }
        assert!(thumbnail(b"no picture", 64, &options).is_err());
    }
}
