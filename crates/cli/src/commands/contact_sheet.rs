//! The pictures of an answer on one page, small.

use crate::failure::Failure;
use crate::files;
use altclip::image::{DecodeOptions, Filter, Rgb, Window, read_file, resize_window};
use altclip_page::{Page, Picture, Sheet, Tile};
use altclip_search::{Answer, Match};
use std::path::Path;

/// Pixels of the longer side of a thumbnail.
const SIDE: u32 = 192;

/// Writes the page, and shows it if asked.
pub(super) fn write(
    path: &Path,
    query: &str,
    found: &Answer,
    decode: &DecodeOptions,
    open: bool,
) -> Result<(), Failure> {
    let mut page = Page::new(query);
    if found.no_match {
        page.paragraph("Nothing matches. The nearest pictures are:");
    }
    if let Some(reason) = found.uncalibrated {
        page.note(&format!("Uncalibrated: {}.", reason.reason()));
    }
    let mut sheet = Sheet::new();
    for found in &found.matches {
        let Match { picture, score, probability, .. } = found;
        let note = match probability {
            Some(p) => format!("{:.0} %, cosine {score:.3}", 100.0 * p),
            None => format!("cosine {score:.3}"),
        };
        let file = Path::new(&picture.path);
        let image =
            read_file(file, decode).and_then(|bytes| altclip::image::decode(&bytes, decode));
        let thumbnail = image.ok().and_then(|image| png_of(&small(image)?).ok());
        // A picture that is gone since is named, not shown.
        let shown = thumbnail.and_then(|bytes| Picture::new(&bytes, &picture.path).ok());
        match shown {
            Some(shown) => {
                sheet.tile(Tile::new(shown, &picture.path).note(note));
            }
            None => {
                page.note(&format!("{} cannot be shown ({note})", picture.path));
            }
        }
    }
    page.add(&sheet);
    files::write_file(path, true, |out| out.write_all(page.html().as_bytes()))?;
    if open {
        show(path);
    }
    Ok(())
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

/// Asks the desktop to show a file; where there is none, the file is there all the same.
fn show(path: &Path) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let _ = std::process::Command::new(program)
        .arg(path)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
}
