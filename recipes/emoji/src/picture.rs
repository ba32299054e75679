//! One form for all pictures: RGB on white, square, [`SIDE`] pixels, PNG.

use altclip_image::{Alpha, DecodeOptions, Preprocessor, Rgb, decode};
use resvg::{tiny_skia, usvg};

use crate::Result;

/// Side of a picture of the set, in pixels.
pub(crate) const SIDE: u32 = 96;

/// A PNG of any size: laid on white, padded to a square, resized by Pillow's bicubic filter.
pub(crate) fn from_png(bytes: &[u8]) -> Result<Rgb> {
    let options = DecodeOptions { alpha: Alpha::CompositeWhite, ..DecodeOptions::default() };
    let square = pad(&decode(bytes, &options).map_err(|error| error.to_string())?)?;
    Preprocessor::clip(SIDE).crop_rgb(&square).map_err(|error| error.to_string())
}

/// An SVG, rendered so that its longer side fits.
pub(crate) fn from_svg(text: &str) -> Result<Rgb> {
    let tree =
        usvg::Tree::from_str(text, &usvg::Options::default()).map_err(|error| error.to_string())?;
    let (width, height) = (tree.size().width(), tree.size().height());
    let side = SIDE as f32;
    let scale = side / width.max(height);
    let transform = tiny_skia::Transform::from_scale(scale, scale)
        .post_translate((side - width * scale) / 2.0, (side - height * scale) / 2.0);
    let mut canvas = tiny_skia::Pixmap::new(SIDE, SIDE).ok_or("no room for a picture")?;
    canvas.fill(tiny_skia::Color::WHITE);
    resvg::render(&tree, transform, &mut canvas.as_mut());
    let data = canvas.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    Rgb::from_raw(SIDE, SIDE, data).map_err(|error| error.to_string())
}

/// The picture in the middle of a white square.
fn pad(image: &Rgb) -> Result<Rgb> {
    let side = image.width().max(image.height());
    let left = 3 * ((side - image.width()) / 2) as usize;
    let top = (side - image.height()) / 2;
    let stride = 3 * side as usize;
    let mut data = vec![255; stride * side as usize];
    for (row, y) in data.chunks_exact_mut(stride).skip(top as usize).zip(0..image.height()) {
        let source = image.row(y);
        if let Some(target) = row.get_mut(left..left + source.len()) {
            target.copy_from_slice(source);
        }
    }
    Rgb::from_raw(side, side, data).map_err(|error| error.to_string())
}

/// The PNG file of a picture.
pub(crate) fn to_png(image: &Rgb) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(|error| error.to_string())?;
    writer.write_image_data(image.data()).map_err(|error| error.to_string())?;
    writer.finish().map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(image: &Rgb, x: u32, y: u32) -> [u8; 3] {
        image.row(y).as_chunks::<3>().0[x as usize]
    }

    #[test]
    fn a_png_is_padded_with_white_and_resized() {
        let red = Rgb::from_raw(2, 1, vec![255, 0, 0, 255, 0, 0]).unwrap();
        let padded = pad(&red).unwrap();
        assert_eq!((padded.width(), padded.height()), (2, 2));
        assert_eq!((pixel(&padded, 1, 0), pixel(&padded, 1, 1)), ([255, 0, 0], [255; 3]));
        let image = from_png(&to_png(&red).unwrap()).unwrap();
        assert_eq!((image.width(), image.height()), (SIDE, SIDE));
        assert_eq!((pixel(&image, 48, 5), pixel(&image, 48, 90)), ([255, 0, 0], [255; 3]));
    }

    #[test]
    fn an_svg_is_fitted_and_centred_on_white() {
        let svg = r##"<svg xmlns="http://www.w3.org/2000/svg" width="2" height="1"><rect width="2" height="1" fill="#00f"/></svg>"##;
        let image = from_svg(svg).unwrap();
        assert_eq!((pixel(&image, 0, 48), pixel(&image, 95, 48)), ([0, 0, 255], [0, 0, 255]));
        assert_eq!((pixel(&image, 48, 10), pixel(&image, 48, 85)), ([255; 3], [255; 3]));
        assert!(from_svg("<svg").is_err());
    }
}
