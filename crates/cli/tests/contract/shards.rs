//! `altclip embed --shards` from outside: idempotent, and any number of workers beside each other.

use crate::support::child::{Run, altclip};
use crate::support::folder::Folder;
use crate::support::picture::pattern;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SHARDS: usize = 3;
const SAMPLES: usize = 5;

/// Three shards of five samples, one of which is no picture.
struct Place {
    dir: TempDir,
    model: Folder,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), model: Folder::new("alt_l") };
        std::fs::create_dir(place.path("shards")).unwrap();
        for shard in 0..SHARDS {
            let mut tar = Vec::new();
            for sample in 0..SAMPLES {
                let key = format!("{shard:02}{sample:02}");
                let picture = match (shard, sample) {
                    (1, 3) => b"not a picture".to_vec(),
                    _ => pattern(20 + shard as u32, 30 + sample as u32),
                };
                tar.extend(entry(&format!("{key}.png"), &picture));
                tar.extend(entry(&format!("{key}.txt"), format!("文 {key}").as_bytes()));
            }
            tar.extend([0; 1024]);
            std::fs::write(place.path(&format!("shards/{shard:05}.tar")), tar).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn embed(&self, out: &str, shard: &str) -> Run {
        self.embed_with(self.model.dir(), out, shard)
    }

    fn embed_with(&self, model: &Path, out: &str, shard: &str) -> Run {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let args = [
            "embed".into(),
            "--model".into(),
            path(model.to_owned()),
            "--shards".into(),
            path(self.path("shards")),
            "--out".into(),
            path(self.path(out)),
            "--shard".into(),
            shard.into(),
            "--max-bad".into(),
            "1".into(),
            "--json".into(),
        ];
        altclip(args)
    }

    /// Every file of a dump with its bytes, but for hidden ones.
    fn files(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for folder in ["img_emb", "metadata", "_SUCCESS"] {
            for entry in std::fs::read_dir(self.path(out).join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                assert!(!name.starts_with('.'), "{name} is left");
                found.insert(format!("{folder}/{name}"), std::fs::read(&path).unwrap());
            }
        }
        found
    }
}

/// An entry as ustar writes it.
pub(crate) fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    for (at, text) in [(100, "0000644\0"), (108, "0000000\0"), (116, "0000000\0")] {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = [&header[..], content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// What was said of each shard.
fn said(rows: &[Value]) -> Vec<(u64, u64, bool)> {
    let row = |row: &Value| {
        let number = |name: &str| row[name].as_u64().unwrap();
        (number("rows"), number("bad"), row["skipped"] == true)
    };
    rows.iter().map(row).collect()
}

#[test]
fn workers_beside_each_other_make_the_dump_that_one_makes() {
    let place = Place::new();
    let one = place.embed("one", "0/1").ok().rows();
    assert_eq!(said(&one), [(5, 0, false), (4, 1, false), (5, 0, false)]);
    let files = place.files("one");
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "_SUCCESS/0.json",
            "_SUCCESS/1.json",
            "_SUCCESS/2.json",
            "img_emb/img_emb_0.npy",
            "img_emb/img_emb_1.npy",
            "img_emb/img_emb_2.npy",
            "metadata/metadata_0.parquet",
            "metadata/metadata_1.parquet",
            "metadata/metadata_2.parquet",
        ]
    );
    assert!(String::from_utf8_lossy(&files["img_emb/img_emb_1.npy"][10..128]).contains("(4, 20)"));
    let workers: Vec<_> = ["0/2", "1/2"]
        .map(|shard| place.embed("two", shard))
        .into_iter()
        .map(|run| std::thread::spawn(move || run.ok().rows()))
        .collect();
    let rows: usize = workers.into_iter().map(|worker| worker.join().unwrap().len()).sum();
    assert_eq!((rows, place.files("two")), (SHARDS, files.clone()));
    // Two workers on the same shards get in each other's way no more than this.
    let workers: Vec<_> = (0..3)
        .map(|_| place.embed("same", "0/1"))
        .map(|run| std::thread::spawn(move || run.ok().rows()))
        .collect();
    for worker in workers {
        for row in worker.join().unwrap() {
            assert!(row["rows"].is_u64() || row["busy"] == true, "{row}");
        }
    }
    place.embed("same", "0/1").ok();
    assert_eq!(place.files("same"), files);
}

#[test]
fn what_is_complete_is_not_computed_again() {
    let place = Place::new();
    place.embed("dump", "0/1").ok();
    let files = place.files("dump");
    let time =
        |name: &str| std::fs::metadata(place.path("dump").join(name)).unwrap().modified().unwrap();
    let before = time("img_emb/img_emb_0.npy");
    let again = place.embed("dump", "0/1").ok().rows();
    assert_eq!(said(&again), [(5, 0, true), (4, 1, true), (5, 0, true)]);
    assert_eq!((place.files("dump"), time("img_emb/img_emb_0.npy")), (files.clone(), before));
    // A shard without its mark, with a mark that is cut, or that is another one now, is made again.
    std::fs::remove_file(place.path("dump/_SUCCESS/0.json")).unwrap();
    std::fs::write(place.path("dump/_SUCCESS/1.json"), "{\"shard\"").unwrap();
    let shard = place.path("shards/00002.tar");
    let mut tar = std::fs::read(&shard).unwrap();
    tar.extend([0; 512]);
    std::fs::write(shard, tar).unwrap();
    let again = place.embed("dump", "0/1").ok().rows();
    assert_eq!(said(&again), [(5, 0, false), (4, 1, false), (5, 0, false)]);
    let now = place.files("dump");
    assert!(files.iter().all(|(name, bytes)| now[name] == *bytes || name == "_SUCCESS/2.json"));
}

#[test]
fn another_model_and_parts_that_do_not_exist_are_refused() {
    let place = Place::new();
    place.embed("dump", "0/1").ok();
    let files = place.files("dump");
    let other = Folder::new("alt_h");
    let outcome = place.embed_with(other.dir(), "dump", "0/1").go();
    assert!(outcome.status == Some(5) && outcome.stderr.contains("E7004"), "{}", outcome.stderr);
    assert_eq!(place.files("dump"), files);
    for shard in ["2/2", "0/0", "1", "a/b"] {
        assert_eq!(place.embed("dump", shard).go().status, Some(2), "{shard}");
    }
    let none = altclip(["embed", "--text", "a", "--shard", "0/2"]).go();
    assert_eq!(none.status, Some(2));
}
