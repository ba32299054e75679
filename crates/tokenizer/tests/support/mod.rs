//! What tests, bench and example share: golden files, random and hostile texts, a synthetic model of
//! XLM-R's size, and the memory in use.
#![allow(dead_code, missing_docs, unreachable_pub)] // Each user takes a part.

pub mod memory;
pub mod synthetic;
pub mod texts;

use std::path::{Path, PathBuf};

/// A file or folder of `tests/golden`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// Bytes of a golden file.
pub fn golden_bytes(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).expect("the golden file is there")
}
