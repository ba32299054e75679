//! The pictures of an answer on one page, small.

use crate::failure::Failure;
use crate::{files, thumbnail};
use altclip::image::{DecodeOptions, read_file};
use altclip_page::{Page, Sheet, Tile};
use altclip_search::{Answer, Match};
use std::path::Path;

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
        // A picture that is gone since is named, not shown.
        let bytes = read_file(file, decode).ok();
        match bytes.and_then(|bytes| thumbnail::of(&bytes, &picture.path, decode)) {
            Some(shown) => {
                sheet.tile(Tile::new(shown, &picture.path).note(note));
            }
            None => {
                page.note(&format!("{} cannot be shown ({note})", picture.path));
            }
        }
    }
    page.add(&sheet);
    // A sheet takes the place of an older one, never of anything else.
    let is_page = path.extension().is_some_and(|extension| extension == "html");
    files::write_file(path, is_page, |out| out.write_all(page.html().as_bytes()))?;
    if open {
        show(path);
    }
    Ok(())
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
