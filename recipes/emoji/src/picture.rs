//! One form for all pictures: RGB on white, square, [`SIDE`] pixels, PNG.
//!
//! Vendors leave different margins around a drawing; here all have the same, so that what a picture shows
//! and not how large is what tells pictures apart.

use altclip_image::{Alpha, DecodeOptions, Preprocessor, Rgb, decode};
use resvg::{tiny_skia, usvg};

use crate::Result;
use std::ops::Range;

/// Side of a picture of the set, in pixels.
pub(crate) const SIDE: u32 = 96;

/// An SVG is rendered so many times larger than it will be.
const SUPERSAMPLE: u32 = 3;
/// What is lighter than this in every channel is ground.
const GROUND: u8 = 250;
/// The margin on each side, as a share of the drawing's longer side.
const MARGIN: f64 = 0.04;

/// A PNG of any size, laid on white.
pub(crate) fn from_png(bytes: &[u8]) -> Result<Rgb> {
    let options = DecodeOptions { alpha: Alpha::CompositeWhite, ..DecodeOptions::default() };
    framed(&decode(bytes, &options).map_err(|error| error.to_string())?)
}

/// The drawing without its ground, in the middle of a white square with a margin, resized by Pillow's
/// bicubic filter.
fn framed(image: &Rgb) -> Result<Rgb> {
    let square = pad(&trimmed(image)?)?;
    Preprocessor::clip(SIDE).crop_rgb(&square).map_err(|error| error.to_string())
}

/// The smallest window that holds every pixel that is not ground.
fn trimmed(image: &Rgb) -> Result<Rgb> {
    let is_drawn = |pixel: &[u8; 3]| pixel.iter().any(|&value| value < GROUND);
    let nowhere = Range { start: u32::MAX, end: 0 };
    let (mut columns, mut rows) = (nowhere.clone(), nowhere);
    for y in 0..image.height() {
        for (x, _) in (0u32..).zip(image.row(y).as_chunks().0).filter(|(_, p)| is_drawn(p)) {
            (columns.start, columns.end) = (columns.start.min(x), columns.end.max(x + 1));
            (rows.start, rows.end) = (rows.start.min(y), rows.end.max(y + 1));
        }
    }
    if columns.is_empty() {
        return Ok(image.clone());
    }
    let bytes = 3 * columns.start as usize..3 * columns.end as usize;
    let data = rows.clone().flat_map(|y| image.row(y).get(bytes.clone()).unwrap_or(&[]));
    let (width, height) = (columns.end - columns.start, rows.end - rows.start);
    Rgb::from_raw(width, height, data.copied().collect()).map_err(|error| error.to_string())
}

/// An SVG, rendered so that its longer side fits.
pub(crate) fn from_svg(text: &str) -> Result<Rgb> {
    let tree =
        usvg::Tree::from_str(text, &usvg::Options::default()).map_err(|error| error.to_string())?;
    let (width, height) = (tree.size().width(), tree.size().height());
    let pixels = SIDE * SUPERSAMPLE;
    let side = pixels as f32;
    let scale = side / width.max(height);
    let transform = tiny_skia::Transform::from_scale(scale, scale)
        .post_translate((side - width * scale) / 2.0, (side - height * scale) / 2.0);
    let mut canvas = tiny_skia::Pixmap::new(pixels, pixels).ok_or("no room for a picture")?;
    canvas.fill(tiny_skia::Color::WHITE);
    resvg::render(&tree, transform, &mut canvas.as_mut());
    let data = canvas.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    framed(&Rgb::from_raw(pixels, pixels, data).map_err(|error| error.to_string())?)
}

/// The picture in the middle of a white square, with its margin.
fn pad(image: &Rgb) -> Result<Rgb> {
    let longer = image.width().max(image.height());
    let side = longer + 2 * (f64::from(longer) * MARGIN).ceil() as u32;
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
        assert_eq!((padded.width(), padded.height()), (4, 4));
        assert_eq!((pixel(&padded, 1, 1), pixel(&padded, 1, 2)), ([255, 0, 0], [255; 3]));
        let image = from_png(&to_png(&red).unwrap()).unwrap();
        assert_eq!((image.width(), image.height()), (SIDE, SIDE));
        assert_eq!((pixel(&image, 48, 5), pixel(&image, 48, 90)), ([255; 3], [255; 3]));
        // Bicubic: the ground around it still shows a little.
        let [r, g, b] = pixel(&image, 48, 36);
        assert!(r == 255 && g < 16 && b < 16, "{r} {g} {b}");
    }

    #[test]
    fn the_ground_around_a_drawing_has_no_say() {
        let dot = |side: u32| {
            let mut data = vec![255; (side * side * 3) as usize];
            let at = (3 * (side * (side / 2) + side / 2)) as usize;
            data[at..at + 3].copy_from_slice(&[0, 0, 255]);
            Rgb::from_raw(side, side, data).unwrap()
        };
        assert_eq!(trimmed(&dot(9)).unwrap(), Rgb::from_raw(1, 1, vec![0, 0, 255]).unwrap());
        assert_eq!(framed(&dot(9)).unwrap(), framed(&dot(31)).unwrap());
        let white = Rgb::from_raw(2, 2, vec![255; 12]).unwrap();
        assert_eq!(trimmed(&white).unwrap(), white);
    }

    #[test]
    fn an_svg_is_fitted_and_centred_on_white() {
        let svg = r##"<svg xmlns="http://www.w3.org/2000/svg" width="2" height="1"><rect width="2" height="1" fill="#00f"/></svg>"##;
        let image = from_svg(svg).unwrap();
        assert_eq!((pixel(&image, 10, 48), pixel(&image, 85, 48)), ([0, 0, 255], [0, 0, 255]));
        assert_eq!((pixel(&image, 0, 48), pixel(&image, 95, 48)), ([255; 3], [255; 3]));
        assert_eq!((pixel(&image, 48, 10), pixel(&image, 48, 85)), ([255; 3], [255; 3]));
        assert!(from_svg("<svg").is_err());
    }
}
