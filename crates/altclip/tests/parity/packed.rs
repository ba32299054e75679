//! Packed model files and the cache of them: the same bits as the folder, and no damage that stays.

use crate::golden::Golden;
use crate::independence::{Entry, write};
use altclip::checkpoint::{Checkpoint, MatrixFormat};
use altclip::tensor::{Format, Precision};
use altclip::{Event, LoadOptions, Model, Observer};
use altclip_report::Diagnose;
use safetensors::SafeTensors;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

fn options(precision: Precision, cache: Option<&Path>) -> LoadOptions {
    let mut options = LoadOptions::default();
    options.threads = 2;
    options.precision = precision;
    options.cache = cache.map(Path::to_owned);
    options
}

/// Options that collect the codes of warnings and the stages of progress.
fn listening(precision: Precision, cache: &Path) -> (LoadOptions, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut options = options(precision, Some(cache));
    let list = Arc::clone(&heard);
    options.observer = Observer::new(move |event| {
        let what = match event {
            Event::Notice(report) => report.code.as_str(),
            Event::Progress { stage, .. } => stage,
            _ => "other",
        };
        let mut list = list.lock().unwrap();
        if list.last().is_none_or(|last| last != what) {
            list.push(what.to_owned());
        }
    });
    (options, heard)
}

/// The bits of all golden texts and pictures.
fn answers(model: &Model, golden: &Golden) -> Vec<u32> {
    let texts = model.text_features(&golden.inputs("texts")).unwrap();
    let images = model.image_features(&golden.pictures(model)).unwrap();
    texts.as_slice().iter().chain(images.as_slice()).map(|number| number.to_bits()).collect()
}

fn only_file(cache: &Path) -> PathBuf {
    let files: Vec<PathBuf> =
        std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn a_packed_file_answers_as_its_folder_does() {
    for name in ["alt_l", "alt_h", "clip"] {
        let golden = Golden::new(name);
        let exact = answers(&golden.load(), &golden);
        for precision in [Precision::Bf16, Precision::Int8] {
            let in_memory = golden.load_from(golden.dir.path(), options(precision, None));
            let expected = answers(&in_memory, &golden);
            assert_ne!(expected, exact, "{name}: {precision} is not another precision");

            let out = golden.dir.path().join("model.altclip");
            let converted =
                altclip::convert(golden.dir.path(), &options(precision, None), &out).unwrap();
            assert_eq!(converted.bytes, std::fs::metadata(&out).unwrap().len());
            // Alone in a folder, and moved: nothing beside it is needed.
            let elsewhere = tempfile::tempdir().unwrap();
            let moved = elsewhere.path().join("x.altclip");
            std::fs::rename(&out, &moved).unwrap();
            let packed = golden.load_from(&moved, LoadOptions::default());
            assert_eq!(packed.precision(), precision);
            assert_eq!(answers(&packed, &golden), expected, "{name} {precision}");
            let count = |model: &Model| model.opened().parameters();
            assert_eq!(count(&packed), count(&in_memory));
            if name != "clip" {
                let states = |model: &Model| model.conditioning(&["一只猫"], None).unwrap();
                assert_eq!(states(&packed), states(&in_memory), "{name} {precision}");
            }
        }
    }
}

#[test]
fn chosen_formats_are_stored() {
    let golden = Golden::new("alt_l");
    let joined = |info: &altclip::checkpoint::PackedInfo, part: &str| {
        info.matrices.keys().find(|name| name.contains(part)).unwrap().clone()
    };
    let out = golden.dir.path().join("a.altclip");
    let int8 = options(Precision::Int8, None);
    let info = altclip::convert(golden.dir.path(), &int8, &out).unwrap().info;
    let (key_value, query) = (joined(&info, "+"), joined(&info, ".query."));
    let smoothed = joined(&info, "intermediate");
    assert_eq!(info.matrices[&query].format, MatrixFormat::Int8);
    let factors: Arc<[f32]> = (0..info.matrices[&smoothed].k).map(|n| 0.5 + n as f32).collect();

    let mut chosen = int8;
    chosen.formats.insert(key_value.clone(), Format::BF16);
    chosen.formats.insert(query.clone(), Format::F32);
    chosen
        .formats
        .insert(smoothed.clone(), Format::Int8 { smoothing: Some(factors.clone()), mean: None });
    let expected = answers(&golden.load_from(golden.dir.path(), chosen.clone()), &golden);
    let before = info.share(MatrixFormat::Bf16);
    let info = altclip::convert(golden.dir.path(), &chosen, &out).unwrap().info;
    assert_eq!(info.matrices[&key_value].format, MatrixFormat::Bf16);
    assert_eq!(info.matrices[&query].format, MatrixFormat::F32);
    assert!(info.share(MatrixFormat::Bf16) > before);
    let file = Checkpoint::open_packed(&out).unwrap();
    let matrix = file.packed_matrix(&smoothed).unwrap().unwrap();
    assert_eq!(matrix.smoothing.as_deref(), Some(&*factors));
    assert_eq!(answers(&golden.load_from(&out, LoadOptions::default()), &golden), expected);
}

#[test]
fn a_cache_is_made_once_and_again_when_the_model_changes() {
    let golden = Golden::new("alt_l");
    let cache = tempfile::tempdir().unwrap();
    let load = |precision| {
        let (options, heard) = listening(precision, cache.path());
        let model = golden.load_from(golden.dir.path(), options);
        assert_eq!(
            model.opened().checkpoint().packed_info().is_some(),
            precision != Precision::F32
        );
        let answers = answers(&model, &golden);
        let heard = heard.lock().unwrap().join(" ");
        (answers, heard)
    };
    load(Precision::F32);
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0, "f32 is not kept");
    let (first, heard) = load(Precision::Int8);
    assert_eq!(heard, "calibrating packing writing");
    assert_eq!(load(Precision::Int8), (first.clone(), String::new()));
    let file = only_file(cache.path());

    // The same bytes with another time; a settings file; a format that was chosen.
    let weights = golden.dir.path().join("model.safetensors");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    File::options().write(true).open(&weights).unwrap().set_modified(later).unwrap();
    assert_eq!(load(Precision::Int8), (first, "calibrating packing writing".into()));
    golden.copy("alt_l/config_legacy.json", "config.json");
    assert_eq!(load(Precision::Int8).1, "calibrating packing writing");
    assert_eq!(only_file(cache.path()), file, "a stale cache is not left behind");
    load(Precision::Bf16);
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 2);
}

#[test]
fn a_damaged_cache_is_made_again() {
    let golden = Golden::new("alt_l");
    let cache = tempfile::tempdir().unwrap();
    let (options, heard) = listening(Precision::Int8, cache.path());
    let load = || golden.load_from(golden.dir.path(), options.clone());
    let expected = answers(&load(), &golden);
    let path = only_file(cache.path());
    let sound = std::fs::read(&path).unwrap();
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    heard.lock().unwrap().clear();

    let header = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
    let places = [60, header / 2, header, header + 3000, sound.len() / 2, sound.len() - 1];
    let damage = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, bytes).unwrap();
        // The time does not betray it.
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    };
    for at in places {
        damage(at);
        assert_eq!(answers(&load(), &golden), expected, "byte {at}");
        let heard = std::mem::take(&mut *heard.lock().unwrap()).join(" ");
        assert_eq!(heard, "W2123 calibrating packing writing", "byte {at}");
        assert!(std::fs::read(&path).unwrap() == sound, "byte {at}: the cache is sound again");
    }
    // Damage, a cut and a foreign file while the model is in use.
    for at in [header, header + 3000] {
        let model = load();
        damage(at);
        let found = (0..2).map(|_| answers(&model, &golden)).collect::<Vec<_>>();
        assert_eq!(found, [expected.clone(), expected.clone()], "byte {at}");
        assert_eq!(heard.lock().unwrap().drain(..).next().unwrap(), "W2123");
    }
    for bytes in [&sound[..header + 10], b"", b"not a model"] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(answers(&load(), &golden), expected);
        assert_eq!(heard.lock().unwrap().drain(..).next().unwrap(), "W2123");
    }
    // A damaged file that was named is refused: there is no folder to go back to.
    damage(header);
    let model = Model::load(&path, &LoadOptions::default()).unwrap();
    let error = model.text_encoder().err().or(model.image_encoder().err()).unwrap();
    assert_eq!(altclip::Kind::Model, error.kind());
}

/// A word table that is too large to be copied is read by row, long after the model was loaded.
#[test]
fn damage_is_found_in_the_row_that_a_text_uses() {
    let golden = Golden::new("alt_l");
    let path = golden.dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<Entry<'_>> =
        file.iter().map(|(name, view)| Entry::new(name, &view)).collect();
    let words = tensors.iter_mut().find(|e| e.name.ends_with("word_embeddings.weight")).unwrap();
    let rows = 70_000;
    let mut table = words.bytes.to_vec();
    table.resize(rows * words.shape[1] * 4, 0);
    (words.shape[0], words.bytes) = (rows, table.into());
    let name = words.name.clone();
    write(&path, tensors.iter(), 0);
    let config = golden.dir.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"vocab_size\": 600", "\"vocab_size\": 70000")).unwrap();

    let cache = tempfile::tempdir().unwrap();
    let (options, heard) = listening(Precision::Int8, cache.path());
    let model = golden.load_from(golden.dir.path(), options.clone());
    let expected = answers(&model, &golden);
    let packed = only_file(cache.path());
    for named in [false, true] {
        let model = match named {
            true => golden.load_from(&packed, LoadOptions::default()),
            false => golden.load_from(golden.dir.path(), options.clone()),
        };
        model.text_encoder().unwrap();
        heard.lock().unwrap().clear();
        let mut bytes = std::fs::read(&packed).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
        let begin = json[&name]["data_offsets"][0].as_u64().unwrap() as usize;
        bytes[header + begin] ^= 1;
        let modified = std::fs::metadata(&packed).unwrap().modified().unwrap();
        std::fs::write(&packed, bytes).unwrap();
        File::options().write(true).open(&packed).unwrap().set_modified(modified).unwrap();
        if named {
            let error = model.encode_text(&["一只猫"]).unwrap_err();
            assert_eq!(error.report().code.as_str(), "E2105");
        } else {
            assert_eq!(answers(&model, &golden), expected);
            assert_eq!(heard.lock().unwrap().join(" "), "W2123 calibrating packing writing");
        }
    }
}

#[test]
fn a_cache_that_cannot_be_written_does_not_stop_the_model() {
    let golden = Golden::new("alt_l");
    let expected =
        answers(&golden.load_from(golden.dir.path(), options(Precision::Int8, None)), &golden);
    // A file stands where the folder should be; nothing else stops a test that runs as root.
    let blocked = golden.dir.path().join("config.json").join("cache");
    let (options, heard) = listening(Precision::Int8, &blocked);
    let model = golden.load_from(golden.dir.path(), options);
    assert_eq!(*heard.lock().unwrap(), ["calibrating", "W2123"]);
    assert!(model.opened().checkpoint().packed_info().is_none());
    assert_eq!(answers(&model, &golden), expected);
}

#[test]
fn many_may_make_the_same_cache_at_once() {
    let golden = Golden::new("alt_l");
    let cache = tempfile::tempdir().unwrap();
    let found = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let options = options(Precision::Int8, Some(cache.path()));
                    answers(&golden.load_from(golden.dir.path(), options), &golden)
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(found.iter().all(|answers| *answers == found[0]));
    let only = only_file(cache.path());
    assert_eq!(answers(&golden.load_from(&only, LoadOptions::default()), &golden), found[0]);
}

#[test]
fn freezing_changes_the_precision_in_memory() {
    let golden = Golden::new("alt_l");
    let cache = tempfile::tempdir().unwrap();
    let mut bits = Vec::new();
    for precision in Precision::ALL {
        let model = golden.load_from(golden.dir.path(), options(precision, None));
        bits.push(answers(&model, &golden));
    }
    // From each precision, in memory and from a cache, to each other one.
    for (from, before) in Precision::ALL.into_iter().zip(&bits) {
        for kept in [None, Some(cache.path())] {
            let mut model = golden.load_from(golden.dir.path(), options(from, kept));
            for (to, after) in Precision::ALL.into_iter().zip(&bits) {
                assert_eq!(
                    &answers(&model, &golden),
                    if to == Precision::F32 { before } else { &bits[to as usize - 1] }
                );
                model.freeze(to).unwrap();
                assert_eq!(model.precision(), to);
                assert_eq!(&answers(&model, &golden), after, "{from} to {to}");
            }
        }
    }
    let out = golden.dir.path().join("x.altclip");
    altclip::convert(golden.dir.path(), &options(Precision::Bf16, None), &out).unwrap();
    let mut packed = golden.load_from(&out, LoadOptions::default());
    packed.freeze(Precision::Bf16).unwrap();
    assert!(matches!(packed.freeze(Precision::Int8), Err(altclip::Error::Precision { .. })));
    assert_eq!(answers(&packed, &golden), bits[1]);
    let refused = Model::load(&out, &options(Precision::Int8, None)).err().unwrap();
    assert!(matches!(refused, altclip::Error::Precision { .. }));
    let f32 = altclip::convert(golden.dir.path(), &options(Precision::F32, None), &out);
    assert!(matches!(f32, Err(altclip::Error::Precision { .. })));
}

#[test]
fn weights_in_own_memory_outlive_their_files() {
    let golden = Golden::new("alt_l");
    let packed = golden.dir.path().join("model.altclip");
    altclip::convert(golden.dir.path(), &options(Precision::Bf16, None), &packed).unwrap();
    // The folder last: the packed file is made from it.
    for (path, weights) in [
        (packed.as_path(), packed.clone()),
        (golden.dir.path(), golden.dir.path().join("model.safetensors")),
    ] {
        let mut options = options(Precision::F32, None);
        options.own_memory = true;
        let model = golden.load_from(path, options);
        let before = answers(&model, &golden);
        // Cut to nothing: a page of a mapping of it could not even be read.
        File::options().write(true).open(&weights).unwrap().set_len(0).unwrap();
        assert_eq!(answers(&model, &golden), before, "{}", weights.display());
    }
}
