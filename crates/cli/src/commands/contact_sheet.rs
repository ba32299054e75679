//! The pictures of an answer on one page, small.

use crate::failure::Failure;
use crate::{files, thumbnail};
use altclip::image::{DecodeOptions, read_file};
use altclip_page::{HEAD_BYTES, Page, Sheet, Tile, is_page};
use altclip_search::{Answer, Match};
use std::io::Read as _;
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
    if found.none_passes {
        page.paragraph("No picture passes the filters.");
    } else if found.no_match {
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
    files::write_file(path, is_ours(path), |out| out.write_all(page.html().as_bytes()))?;
    if open {
        show(path);
    }
    Ok(())
}

/// Whether a file is a page that this program wrote.
fn is_ours(path: &Path) -> bool {
    // What is no file may never end.
    if !path.is_file() {
        return false;
    }
    let mut head = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
    read.is_ok() && is_page(&head)
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
