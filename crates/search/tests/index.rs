//! An index that is damaged, shortened, mixed up or cannot be written says so, and searching goes on where it can.
#![allow(clippy::unwrap_used)]

mod support;

use altclip_durable::RealFs;
use altclip_report::{Code, Diagnose as _};
use altclip_search::{Change, Error, Filter, Index, Scan, Searcher, Settings, to_bytes};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{answers, file, filled, open, put, settings, vector};

#[test]
fn every_damaged_byte_of_the_derived_file_is_found_and_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    let mut index = filled(&dir, 30);
    let clean = answers(&mut index).unwrap();
    drop(index);
    let path = file(&dir, "flat");
    let bytes = std::fs::read(&path).unwrap();
    let check = |damaged: &[u8], what: &str| {
        std::fs::write(&path, damaged).unwrap();
        let index = open(&dir).unwrap();
        let found = index.verify().unwrap();
        assert!(found.iter().any(|report| report.code == Code::E7003), "{what}: {found:?}");
    };
    for byte in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1 << (byte % 8);
        check(&damaged, &format!("byte {byte}"));
    }
    for cut in (0..bytes.len()).step_by(7) {
        check(&bytes[..cut], &format!("cut at {cut}"));
    }
    let mut longer = bytes.clone();
    longer.push(0);
    check(&longer, "one byte more");
    // The answers are those of the clean index, with a word about it.
    let mut index = open(&dir).unwrap();
    assert_eq!(answers(&mut index).unwrap(), clean);
    assert_eq!(index.take_notices()[0].code, Code::W7012);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    // The control: without damage nothing is found.
    assert_eq!(open(&dir).unwrap().verify().unwrap(), []);
}

#[test]
fn a_damaged_row_of_the_store_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    drop(filled(&dir, 30));
    let path = file(&dir, "store.db");
    let bytes = std::fs::read(&path).unwrap();
    // A vector lies in the file as it was put there.
    let wanted = to_bytes(&vector(7));
    let at = bytes.windows(wanted.len()).position(|window| window == wanted).unwrap();
    for byte in at..at + wanted.len() {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let mut index = open(&dir).unwrap();
        let found = index.verify().unwrap();
        assert!(found.iter().any(|report| report.code == Code::E7003), "byte {byte}");
        assert!(matches!(index.flat(), Err(Error::Damaged { .. })), "byte {byte}");
    }
}

#[test]
fn fewer_rows_than_acknowledged_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    let mut index = filled(&dir, 5);
    drop(index);
    let store = file(&dir, "store.db");
    let old = std::fs::read(&store).unwrap();
    index = Index::open_to_write(Arc::new(RealFs), &dir).unwrap();
    index.commit(&[put(100)]).unwrap();
    drop(index);
    let new = std::fs::read(&store).unwrap();
    let lost = |what: &str| match open(&dir) {
        Err(error) => assert_eq!(error.report().code, Code::E7001, "{what}: {error}"),
        Ok(_) => panic!("{what} was not noticed"),
    };
    std::fs::write(&store, &old).unwrap();
    lost("an older store");
    std::fs::remove_file(&store).unwrap();
    lost("no store");
    std::fs::write(&store, &new).unwrap();
    std::fs::rename(file(&dir, "HEAD"), dir.join("kept")).unwrap();
    lost("no HEAD");
    std::fs::rename(dir.join("kept"), file(&dir, "HEAD")).unwrap();
    open(&dir).unwrap();
    // A lost pointer does not make a new index over the old one.
    std::fs::remove_file(dir.join("CURRENT")).unwrap();
    assert!(matches!(
        Index::create(Arc::new(RealFs), &dir, settings("f")),
        Err(Error::Lost { .. })
    ));
}

#[test]
fn one_writer_at_a_time_and_readers_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    let mut writer = filled(&dir, 5);
    match Index::open_to_write(Arc::new(RealFs), &dir) {
        Err(error) => assert_eq!(error.report().code, Code::E7008),
        Ok(_) => panic!("two writers"),
    }
    let mut reader = open(&dir).unwrap();
    assert_eq!(answers(&mut reader).unwrap().len(), 5);
    assert!(reader.commit(&[put(9)]).is_err());
    writer.commit(&[put(9)]).unwrap();
    assert_eq!(open(&dir).unwrap().head().images, 6);
}

#[test]
fn a_rebuild_is_beside_the_old_index_until_it_counts() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    drop(filled(&dir, 5));
    let mut new = Index::rebuild(Arc::new(RealFs), &dir, settings("other")).unwrap();
    new.commit(&[put(1)]).unwrap();
    let old = open(&dir).unwrap();
    assert_eq!((old.head().images, old.settings().fingerprint.as_str()), (5, "f"));
    // Interrupted, it goes on with what it has; with other settings it begins anew.
    drop(new);
    let new = Index::rebuild(Arc::new(RealFs), &dir, settings("other")).unwrap();
    assert_eq!(new.head().images, 1);
    drop(new);
    let new = Index::rebuild(Arc::new(RealFs), &dir, settings("third")).unwrap();
    assert_eq!(new.head().images, 0);
    drop(new.publish().unwrap());
    let index = open(&dir).unwrap();
    assert_eq!(index.settings().fingerprint, "third");
    assert!(!dir.join("g1").exists());
}

#[test]
fn an_answer_is_of_one_moment_whatever_a_writer_does() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    let mut writer = filled(&dir, 1);
    // Pictures that were acknowledged; one more may be there.
    let acknowledged = AtomicUsize::new(1);
    const LAST: usize = 150;
    let read = || {
        let mut answers = 0;
        while acknowledged.load(Ordering::SeqCst) < LAST {
            let before = acknowledged.load(Ordering::SeqCst);
            let mut index = open(&dir).unwrap();
            let flat = index.flat().unwrap();
            let after = acknowledged.load(Ordering::SeqCst);
            let pool = altclip_kernels::Pool::new(1);
            let hits = Searcher::new(&flat, &pool).nearest(&vector(answers), 3, None, Scan::Auto);
            assert!(
                (before..=after + 1).contains(&flat.len()),
                "{} of {before}..{after}",
                flat.len()
            );
            let score = |row: usize| -> f32 {
                let stored = altclip_search::to_numbers(&to_bytes(&vector(row)));
                stored.iter().zip(vector(answers)).map(|(a, b)| a * b).sum()
            };
            let mut all: Vec<f32> = (0..flat.len()).map(score).collect();
            all.sort_by(|a, b| b.total_cmp(a));
            for (hit, expected) in hits.iter().zip(&all) {
                assert!((hit.score - expected).abs() < 1e-3, "{hit:?}, not {expected}");
            }
            answers += 1;
        }
        answers
    };
    std::thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read)];
        for n in 1..LAST {
            writer.commit(&[put(n)]).unwrap();
            acknowledged.store(n + 1, Ordering::SeqCst);
        }
        for reader in readers {
            assert!(reader.join().unwrap() > 2);
        }
    });
}

#[test]
fn no_index_and_other_folders_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let code = |dir: &Path| open(dir).err().unwrap().report().code;
    assert_eq!(code(&dir.path().join("none")), Code::E7011);
    assert_eq!(code(dir.path()), Code::E7011);
    std::fs::write(dir.path().join("CURRENT"), "../../etc\n").unwrap();
    assert_eq!(code(dir.path()), Code::E7003);
}

#[test]
fn no_file_of_anybody_else_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let create = |dir: &Path| Index::create(Arc::new(RealFs), dir, settings("f"));
    for place in ["holiday.jpg", "g1/holiday.jpg", "g1/more/holiday.jpg"] {
        let dir = dir.path().join(place.replace('/', "-"));
        let picture = dir.join(place);
        std::fs::create_dir_all(picture.parent().unwrap()).unwrap();
        std::fs::write(&picture, "mine").unwrap();
        match create(&dir) {
            Err(Error::NoIndex { found, .. }) => {
                assert!(found.contains("holiday.jpg") || found.contains("more"), "{found}")
            }
            Err(error) => panic!("{place}: {error:?}"),
            Ok(_) => panic!("an index among {place}"),
        }
        assert!(
            Index::rebuild(Arc::new(RealFs), &dir, settings("f")).is_err() || place.contains('/')
        );
        assert_eq!(std::fs::read(&picture).unwrap(), b"mine");
    }
    // A folder that somebody puts beside the generations is not swept away with them.
    let index = dir.path().join("index");
    drop(filled(&index, 3));
    std::fs::create_dir(index.join("g7")).unwrap();
    std::fs::write(index.join("g7/holiday.jpg"), "mine").unwrap();
    drop(Index::rebuild(Arc::new(RealFs), &index, settings("other")).unwrap().publish().unwrap());
    assert_eq!(std::fs::read(index.join("g7/holiday.jpg")).unwrap(), b"mine");
    assert!(!index.join("g1").exists());
}

#[test]
fn a_rebuild_is_the_way_out_of_any_damage() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    let damages: [fn(&Path); 4] = [
        |dir| std::fs::write(dir.join("CURRENT"), "what").unwrap(),
        |dir| std::fs::remove_file(dir.join("CURRENT")).unwrap(),
        |dir| std::fs::write(file(dir, "HEAD"), "what").unwrap(),
        |dir| std::fs::write(file(dir, "store.db"), "what").unwrap(),
    ];
    for damage in damages {
        let _ = std::fs::remove_dir_all(&dir);
        drop(filled(&dir, 3));
        damage(&dir);
        assert!(open(&dir).is_err());
        let mut index = Index::rebuild(Arc::new(RealFs), &dir, settings("f")).unwrap();
        index.commit(&[put(1)]).unwrap();
        drop(index.publish().unwrap());
        assert_eq!(open(&dir).unwrap().head().images, 1);
    }
}

#[test]
fn a_full_disk_is_said_and_searching_goes_on() {
    use altclip_search::{SqliteStore, Store as _};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let mut store = SqliteStore::create(&path).unwrap();
    store.commit(&(0..50).map(put).collect::<Vec<_>>()).unwrap();
    store.limit_pages(16).unwrap();
    let many: Vec<Change> = (50..5000).map(put).collect();
    let error = store.commit(&many).unwrap_err();
    assert_eq!(error.report().code, Code::E7007);
    assert_eq!(error.report().code.exit_status(), 6);
    assert_eq!((store.images().unwrap(), store.sequence().unwrap()), (50, 1));
    // Room again, and it works without being opened anew.
    store.limit_pages(1 << 20).unwrap();
    store.commit(&many).unwrap();
    assert_eq!(store.images().unwrap(), 5000);
}

#[test]
fn rows_are_selected_before_they_are_scored() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = filled(&dir.path().join("index"), 30);
    let filter = Filter { paths: vec!["?.jpg".into()], ..Filter::default() };
    let ids = index.store().select(&filter).unwrap();
    assert_eq!(ids.len(), 10);
    let flat = index.flat().unwrap();
    let rows: Vec<usize> = ids.iter().filter_map(|&id| flat.row_of(id)).collect();
    let pool = altclip_kernels::Pool::new(2);
    let searcher = Searcher::new(&flat, &pool);
    let all = searcher.nearest(&vector(20), 30, None, Scan::Auto);
    let some = searcher.nearest(&vector(20), 30, Some(&rows), Scan::Auto);
    let expected: Vec<_> = all.into_iter().filter(|hit| rows.contains(&hit.row)).collect();
    assert_eq!(some, expected);
}

#[test]
fn settings_that_ask_for_more_memory_than_a_vector_has_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    for width in [0, altclip_search::MAX_WIDTH + 1, 1 << 40, usize::MAX] {
        let dir = dir.path().join(width.to_string());
        let lie = Settings { width, ..settings("f") };
        drop(Index::create(Arc::new(RealFs), &dir, lie));
        match open(&dir) {
            Err(error) => assert_eq!(error.report().code, Code::E7003, "{width}: {error}"),
            Ok(_) => panic!("{width} numbers"),
        }
    }
}

/// Which models may share an index.
mod same_model {
    use super::*;
    use altclip::{LoadOptions, Model};

    /// A small model folder.
    fn folder(to: &Path) -> PathBuf {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
        std::fs::create_dir_all(to).unwrap();
        for file in ["config.json", "model.safetensors", "preprocessor_config.json"] {
            std::fs::copy(golden.join("clip").join(file), to.join(file)).unwrap();
        }
        for entry in std::fs::read_dir(golden.join("tokenizer_clip")).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with("expected.json") {
                std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
        }
        to.to_owned()
    }

    fn load(dir: &Path) -> Model {
        Model::load(dir, &LoadOptions::default()).unwrap()
    }

    #[test]
    fn near_misses_are_refused_and_the_same_model_elsewhere_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let original = folder(&dir.path().join("original"));
        let model = load(&original);
        let settings = Settings::of(&original, "original", &model, "f32").unwrap();
        let check = |dir: &Path| settings.check(dir, "name", &load(dir), Path::new("index"));
        assert!(settings.is_at(&original).unwrap());
        // The control: copied, with other times and the same contents, it is the same model.
        let moved = folder(&dir.path().join("moved"));
        let found = check(&moved).unwrap();
        assert_eq!((found.model.as_str(), &found.fingerprint), ("name", &settings.fingerprint));
        let mut near_misses = Vec::new();
        // One bit of one weight, anywhere.
        for place in 1..=5 {
            let near = folder(&dir.path().join(format!("weight-{place}")));
            let path = near.join("model.safetensors");
            let mut bytes = std::fs::read(&path).unwrap();
            let at = bytes.len() - place * 997;
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            near_misses.push(near);
        }
        for (from, to) in [
            ("0.48145466", "0.5"),
            ("0.26862954", "0.5"),
            ("\"resample\": 3", "\"resample\": 2"),
            ("\"shortest_edge\": 32", "\"shortest_edge\": 40"),
        ] {
            let near = folder(&dir.path().join(format!("setting-{}", near_misses.len())));
            let path = near.join("preprocessor_config.json");
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{from}");
            std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
            near_misses.push(near);
        }
        // Another order of merges: the same weights get other ids.
        let near = folder(&dir.path().join("merges"));
        let path = near.join("tokenizer.json");
        let mut json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        json["model"]["merges"].as_array_mut().unwrap().swap(0, 1);
        std::fs::write(&path, json.to_string()).unwrap();
        near_misses.push(near);
        assert_eq!(near_misses.len(), 10);
        for near in &near_misses {
            match check(near) {
                Err(error) => {
                    let report = error.report();
                    assert_eq!(report.code, Code::E7004, "{}: {report}", near.display());
                    assert_eq!(report.code.exit_status(), 5);
                }
                Ok(_) => panic!("{} is taken for the same model", near.display()),
            }
        }
        // Pictures that are turned have other vectors.
        let mut decode = model.options().decode.clone();
        settings.check_decode(&decode, Path::new("index")).unwrap();
        decode.apply_exif_orientation = true;
        assert!(settings.check_decode(&decode, Path::new("index")).is_err());
    }
}
