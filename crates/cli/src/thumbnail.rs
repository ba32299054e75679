//! Small pictures for pages.

use altclip::image::DecodeOptions;
use altclip_page::Picture;

/// Pixels of the longer side of a thumbnail.
const SIDE: u32 = 192;

/// A thumbnail of the picture in `file`, where it can be decoded; `alt` says what it shows.
pub(crate) fn of(file: &[u8], alt: &str, options: &DecodeOptions) -> Option<Picture> {
    let png = altclip_search::thumbnail(file, SIDE, options).ok()?;
    Picture::new(&png, alt).ok()
}
