//! Small indexes made of numbers, and copies of them at a moment at which the power goes.
#![allow(dead_code)]

use altclip_durable::RealFs;
use altclip_report::{Code, Diagnose as _};
use altclip_search::{Change, Error, Index, Picture, Scan, Searcher, Settings, to_bytes};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const WIDTH: usize = 24;

pub(crate) fn settings(fingerprint: &str) -> Settings {
    Settings {
        model: "m".into(),
        fingerprint: fingerprint.into(),
        identity: "i".into(),
        width: WIDTH,
        precision: "f32".into(),
        decode: String::new(),
        roots: vec!["/p".into()],
        forgotten: vec![],
    }
}

pub(crate) fn vector(n: usize) -> Vec<f32> {
    (0..WIDTH).map(|i| ((n * 37 + i * i * 11) % 101) as f32 / 50.0 - 1.0).collect()
}

pub(crate) fn path(n: usize) -> String {
    format!("/p/{n}.jpg")
}

pub(crate) fn put(n: usize) -> Change {
    let picture = Picture {
        path: path(n),
        hash: n as u128,
        bytes: n as u64,
        modified: n as i64,
        tags: vec!["t".into()],
        ..Picture::default()
    };
    Change::Put(picture, to_bytes(&vector(n)))
}

pub(crate) fn puts(numbers: std::ops::Range<usize>) -> Vec<Change> {
    numbers.map(put).collect()
}

pub(crate) fn filled(dir: &Path, count: usize) -> Index {
    let mut index = Index::create(Arc::new(RealFs), dir, settings("f")).unwrap();
    index.commit(&puts(0..count)).unwrap();
    index
}

pub(crate) fn open(dir: &Path) -> Result<Index, Error> {
    Index::open(Arc::new(RealFs), dir)
}

pub(crate) fn write(dir: &Path) -> Result<Index, Error> {
    Index::open_to_write(Arc::new(RealFs), dir)
}

pub(crate) fn code<T>(result: Result<T, Error>) -> Option<Code> {
    result.err().map(|error| error.report().code)
}

/// A file of the generation that counts.
pub(crate) fn file(dir: &Path, name: &str) -> PathBuf {
    let current = std::fs::read_to_string(dir.join("CURRENT")).unwrap();
    dir.join(current.lines().nth(1).unwrap()).join(name)
}

pub(crate) fn answers_of(index: &mut Index, query: &[f32]) -> Result<Vec<(i64, f32)>, Error> {
    let flat = index.flat()?;
    let pool = altclip_kernels::Pool::new(1);
    let hits = Searcher::new(&flat, &pool).nearest(query, 5, None, Scan::Exact);
    Ok(hits.iter().map(|hit| (flat.id(hit.row).unwrap(), hit.score)).collect())
}

pub(crate) fn answers(index: &mut Index) -> Result<Vec<(i64, f32)>, Error> {
    answers_of(index, &vector(3))
}

/// All paths of an index with their vectors, sorted.
pub(crate) fn contents(index: &Index) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let visit =
        &mut |_, picture: Picture, vector: &[u8]| found.push((picture.path, vector.to_vec()));
    index.store().rows(visit).unwrap();
    found.sort();
    found
}

/// What an index must hold that was given these numbers.
pub(crate) fn expected(numbers: impl Iterator<Item = usize>) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = numbers.map(|n| (path(n), to_bytes(&vector(n)))).collect();
    found.sort();
    found
}

/// The folder as it lies on the disk at this moment, whoever works in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (name, path) = (entry.file_name(), entry.path());
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if !["RESERVE", "store.db-shm"].iter().any(|left_out| name == *left_out) {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
