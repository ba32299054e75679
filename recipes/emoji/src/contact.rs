//! One picture of pictures: the same concepts in rows, a vendor a row, so that a person can look at them.

use std::path::Path;

use altclip_image::{DecodeOptions, Rgb, decode};

use crate::concept::Concept;
use crate::picture::{self, SIDE};
use crate::vendor::Vendor;
use crate::{Result, at, read, write as write_file};

/// Concepts on the sheet.
const COLUMNS: usize = 24;

/// Draws the sheet: concepts that all vendors drew, spread evenly over the set.
pub(crate) fn write(images: &Path, concepts: &[Concept], to: &Path) -> Result<()> {
    let complete: Vec<&Concept> = concepts.iter().filter(|concept| concept.complete()).collect();
    let shown: Vec<&Concept> =
        complete.iter().step_by((complete.len() / COLUMNS).max(1)).take(COLUMNS).copied().collect();
    let side = SIDE as usize;
    let stride = 3 * side * COLUMNS;
    let mut data = vec![255; stride * side * Vendor::ALL.len()];
    for (band, vendor) in data.chunks_exact_mut(stride * side).zip(Vendor::ALL) {
        for (column, concept) in shown.iter().enumerate() {
            let path = images.join(vendor.folder()).join(format!("{}.png", concept.key));
            let image = decode(&read(&path)?, &DecodeOptions::default()).map_err(at(&path))?;
            for (row, y) in band.chunks_exact_mut(stride).zip(0..image.height()) {
                let source = image.row(y);
                let left = 3 * side * column;
                if let Some(target) = row.get_mut(left..left + source.len()) {
                    target.copy_from_slice(source);
                }
            }
        }
    }
    let width = SIDE * COLUMNS as u32;
    let sheet = Rgb::from_raw(width, SIDE * Vendor::ALL.len() as u32, data);
    write_file(to, &picture::to_png(&sheet.map_err(|error| error.to_string())?)?)
}
