//! Bytes of an index that changed on the disk: what was acknowledged is there, or an error says that it is
//! not; never another answer.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod support;

use altclip_report::Code;
use altclip_search::{Error, SqliteStore, Store as _, repair};
use std::path::Path;
use std::sync::Arc;
use support::{answers, code, contents, copy, expected, file, filled, open, put, puts, write};

/// Numbers that look random.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An index whose last commits are in the log of the store only, as a killed writer leaves it: of 10
/// pictures and then of 15, one a commit.
fn with_log(dir: &Path) -> std::path::PathBuf {
    let (live, image) = (dir.join("live"), dir.join("image"));
    let mut index = filled(&live, 10);
    for n in 10..15 {
        index.commit(&[put(n)]).unwrap();
    }
    copy(&live, &image);
    assert!(std::fs::metadata(file(&image, "store.db-wal")).unwrap().len() > 0);
    image
}

#[test]
fn damage_in_the_log_before_what_was_acknowledged_is_never_silence() {
    let dir = tempfile::tempdir().unwrap();
    let image = with_log(dir.path());
    let log = file(&image, "store.db-wal");
    let bytes = std::fs::read(&log).unwrap();
    // The control: as it was left, all is there.
    assert_eq!(contents(&open(&image).unwrap()), expected(0..15));
    let check = |damaged: &[u8], what: String| {
        std::fs::write(&log, damaged).unwrap();
        let _ = std::fs::remove_file(file(&image, "store.db-shm"));
        match open(&image) {
            Err(Error::Lost { found, expected, .. }) => {
                assert!(found != expected && !found.is_empty(), "{what}");
            }
            Err(error) => panic!("{what}: {error:?}"),
            Ok(_) => panic!("{what} was not noticed"),
        }
    };
    for byte in (0..bytes.len()).step_by(211) {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1 << (byte % 8);
        check(&damaged, format!("byte {byte}"));
    }
    for cut in (0..bytes.len()).step_by(509) {
        check(&bytes[..cut], format!("cut at {cut}"));
    }
}

#[test]
fn a_torn_last_commit_is_dropped_and_a_whole_one_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let (live, image) = (dir.path().join("live"), dir.path().join("image"));
    let mut index = filled(&live, 10);
    let before = std::fs::metadata(file(&live, "store.db-wal")).unwrap().len();
    let head = std::fs::read(file(&live, "HEAD")).unwrap();
    index.commit(&[put(10), put(11)]).unwrap();
    copy(&live, &image);
    // The power went between the commit and the word about it.
    std::fs::write(file(&image, "HEAD"), head).unwrap();
    let log = std::fs::read(file(&image, "store.db-wal")).unwrap();
    let state = |cut: usize| {
        let torn = dir.path().join("torn");
        copy(&image, &torn);
        std::fs::write(file(&torn, "store.db-wal"), &log[..cut]).unwrap();
        let mut index = write(&torn).unwrap();
        (contents(&index), index.take_notices())
    };
    for cut in (before as usize..log.len()).step_by(397) {
        assert_eq!(state(cut), (expected(0..10), vec![]), "cut at {cut}");
    }
    let (rows, notices) = state(log.len());
    assert_eq!((rows, notices[0].code), (expected(0..12), Code::I7002));
}

#[test]
fn a_flipped_bit_of_the_store_changes_no_answer_unsaid() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    let mut index = filled(&dir, 40);
    let clean = answers(&mut index).unwrap();
    drop(index);
    let (store, flat) = (file(&dir, "store.db"), file(&dir, "flat"));
    let bytes = std::fs::read(&store).unwrap();
    let (mut seed, mut refused, mut harmless) = (7, 0, 0);
    for _ in 0..700 {
        let (byte, bit) = (random(&mut seed) as usize % bytes.len(), random(&mut seed) % 8);
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1 << bit;
        std::fs::write(&store, &damaged).unwrap();
        let _ = std::fs::remove_file(&flat);
        let found = match open(&dir) {
            Err(_) => true,
            Ok(mut index) => {
                let said = !index.verify().is_ok_and(|found| found.is_empty());
                match answers(&mut index) {
                    Ok(found) if !said => {
                        assert_eq!(found, clean, "byte {byte}, bit {bit}");
                        false
                    }
                    Ok(found) => {
                        // It may be in what was not asked for, but no answer may differ.
                        assert_eq!(found, clean, "byte {byte}, bit {bit}");
                        true
                    }
                    Err(_) => true,
                }
            }
        };
        *if found { &mut refused } else { &mut harmless } += 1;
    }
    println!("{refused} refused, {harmless} harmless");
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_block_with_a_forged_hash_differs_from_the_store() {
    // The control of the checksums: what has the right one is not found by it.
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    let mut index = filled(&dir, 30);
    let clean = answers(&mut index).unwrap();
    drop(index);
    let flat = file(&dir, "flat");
    let mut bytes = std::fs::read(&flat).unwrap();
    let (start, end) = (48, bytes.len() - 8);
    bytes[end - 1] ^= 0x40;
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[start..end], 0);
    bytes[end..].copy_from_slice(&hash.to_le_bytes());
    std::fs::write(&flat, &bytes).unwrap();
    let mut index = open(&dir).unwrap();
    let found = index.verify().unwrap();
    assert_eq!(found.iter().map(|report| report.code).collect::<Vec<_>>(), [Code::E7003]);
    assert!(found[0].message.contains("other vectors"), "{:?}", found[0]);
    let forged = answers(&mut index).unwrap();
    assert!(index.take_notices().is_empty() && forged.len() == clean.len());
}

#[test]
fn the_pointer_is_read_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    drop(filled(&dir, 5));
    let path = dir.join("CURRENT");
    let bytes = std::fs::read(&path).unwrap();
    for byte in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 2;
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(code(open(&dir)), Some(Code::E7003), "byte {byte}");
    }
    for cut in 0..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert_eq!(code(open(&dir)), Some(Code::E7003), "cut at {cut}");
    }
}

mod repairs {
    use super::*;
    use altclip_durable::RealFs;
    use altclip_search::Repair;

    fn run(dir: &Path, accepts_loss: bool) -> Repair {
        repair(Arc::new(RealFs), dir, accepts_loss).unwrap()
    }

    /// Every file with its bytes.
    fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path));
            } else if !["LOCK", "RESERVE", "store.db-wal", "store.db-shm"]
                .iter()
                .any(|name| path.ends_with(name))
            {
                found.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_sound_index_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("index");
        drop(filled(&dir, 30));
        let before = files(&dir);
        assert_eq!(run(&dir, true), Repair { kept: 30, ..Repair::default() });
        assert!(files(&dir) == before);
    }

    #[test]
    fn a_damaged_row_is_named_and_given_up_only_if_that_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("index");
        drop(filled(&dir, 30));
        let store = file(&dir, "store.db");
        let mut bytes = std::fs::read(&store).unwrap();
        let wanted = altclip_search::to_bytes(&support::vector(7));
        let at = bytes.windows(wanted.len()).position(|window| window == wanted).unwrap();
        bytes[at + 3] ^= 0x10;
        std::fs::write(&store, bytes).unwrap();
        let before = files(&dir);
        let found = run(&dir, false);
        assert_eq!((found.kept, found.loses(), found.is_repaired), (29, true, false));
        assert_eq!(found.lost[0].path.as_deref(), Some("/p/7.jpg"));
        assert!(files(&dir) == before, "nothing is changed");
        assert!(run(&dir, true).is_repaired);
        let index = open(&dir).unwrap();
        assert_eq!(contents(&index), expected((0..30).filter(|&n| n != 7)));
        assert_eq!(index.settings(), &support::settings("f"));
        assert_eq!(index.verify().unwrap(), []);
        assert_eq!(run(&dir, false), Repair { kept: 29, ..Repair::default() });
    }

    #[test]
    fn pages_of_the_store_are_lost_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (sound, dir) = (dir.path().join("sound"), dir.path().join("index"));
        drop(filled(&sound, 600));
        let pages = std::fs::metadata(file(&sound, "store.db")).unwrap().len() as usize / 4096;
        let (mut seed, mut repaired, mut least) = (3, 0, 600);
        for _ in 0..25 {
            copy(&sound, &dir);
            let store = file(&dir, "store.db");
            let mut bytes = std::fs::read(&store).unwrap();
            let page = 1 + random(&mut seed) as usize % (pages - 1);
            for byte in &mut bytes[page * 4096..(page + 1) * 4096] {
                *byte = random(&mut seed) as u8;
            }
            std::fs::write(&store, bytes).unwrap();
            // The page of the settings or the root of a table: there is nothing to go by.
            let Ok(found) = repair(Arc::new(RealFs), &dir, true) else { continue };
            let index = open(&dir).unwrap();
            assert_eq!(index.verify().unwrap(), [], "page {page}");
            let all = expected(0..600);
            let rows = contents(&index);
            assert!(rows.iter().all(|row| all.contains(row)), "page {page}");
            assert_eq!(
                (rows.len() as u64, found.is_repaired || !found.was_damaged),
                (found.kept, true)
            );
            // Rows whose pages are gone have no number left to be named by.
            assert!(
                found.kept + found.lost.len() as u64 + found.gone >= 600,
                "page {page}: {found:?}"
            );
            least = least.min(rows.len());
            repaired += 1;
        }
        println!("{repaired} of 25 repaired, at least {least} of 600 rows kept");
        assert!(repaired >= 15 && least >= 300, "{repaired}, {least}");
    }

    #[test]
    fn what_can_be_made_again_is_no_loss() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("index");
        for name in ["HEAD", "CURRENT"] {
            let _ = std::fs::remove_dir_all(&dir);
            drop(filled(&dir, 12));
            let path = if name == "HEAD" { file(&dir, name) } else { dir.join(name) };
            std::fs::write(&path, "what").unwrap();
            assert!(open(&dir).is_err());
            let found = run(&dir, false);
            assert_eq!((found.kept, found.loses(), found.is_repaired), (12, false, true), "{name}");
            assert_eq!(contents(&open(&dir).unwrap()), expected(0..12));
        }
    }

    #[test]
    fn commits_that_were_lost_with_the_log_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let image = with_log(dir.path());
        let log = file(&image, "store.db-wal");
        let bytes = std::fs::read(&log).unwrap();
        std::fs::write(&log, &bytes[..bytes.len() - 5]).unwrap();
        assert_eq!(code(open(&image)), Some(Code::E7001));
        let found = run(&image, false);
        assert_eq!((found.kept, found.gone, found.commits), (14, 1, 1));
        assert!(!found.is_repaired && run(&image, true).is_repaired);
        assert_eq!(contents(&open(&image).unwrap()), expected(0..14));
    }

    #[test]
    fn without_a_store_there_is_nothing_to_keep() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("index");
        drop(filled(&dir, 12));
        std::fs::write(file(&dir, "store.db"), vec![0; 8192]).unwrap();
        assert!(repair(Arc::new(RealFs), &dir, true).is_err());
        assert!(repair(Arc::new(RealFs), &dir.join("none"), true).is_err());
    }
}

#[test]
fn a_store_of_another_version_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let mut store = SqliteStore::create(&path).unwrap();
    store.commit(&puts(0..3)).unwrap();
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    // user_version, big-endian, at byte 60 of SQLite's header.
    bytes[63] += 1;
    std::fs::write(&path, bytes).unwrap();
    match SqliteStore::open(&path, false) {
        Err(Error::NoIndex { found, .. }) => assert!(found.contains("version 2"), "{found}"),
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("a version that does not exist was read"),
    }
}
