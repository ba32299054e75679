//! The pipelines against one item at a time: the same bits, the same order, and every fault at its own
//! place.

use crate::golden::{Golden, folder};
use altclip::tensor::Precision;
use altclip::{Error, LoadOptions, Model, Picture, PictureOptions};
use altclip_report::Diagnose;
use std::path::{Path, PathBuf};

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

fn load(golden: &Golden, precision: Precision) -> Model {
    let mut options = LoadOptions::default();
    options.threads = 2;
    options.precision = precision;
    options.decode.alpha = altclip::image::Alpha::CompositeWhite;
    Model::load(golden.dir.path(), &options).unwrap()
}

fn options(model: &Model, batch: usize, threads: usize) -> PictureOptions {
    let mut options = model.picture_options();
    (options.batch, options.threads) = (batch, threads);
    options
}

/// What reading, decoding and encoding one after the other gives: bits, or the code of the error.
fn alone(model: &Model, path: &Path, normalize: bool) -> Result<Vec<u32>, &'static str> {
    let code = |error: Error| error.report().code.as_str();
    let image = model.open_image(path).map_err(code)?;
    let images = [image];
    let rows = if normalize { model.encode_image(&images) } else { model.image_features(&images) };
    Ok(bits(rows.map_err(code)?.as_slice()))
}

fn together(
    model: &Model,
    paths: &[PathBuf],
    options: &PictureOptions,
) -> Vec<Result<Vec<u32>, &'static str>> {
    let paths: Vec<PathBuf> = paths.to_vec();
    let rows = model.pictures(paths.into_iter(), options).unwrap();
    rows.map(|row| row.map(|row| bits(&row)).map_err(|error| error.report().code.as_str()))
        .collect()
}

/// The golden pictures several times over, with files between them that are none.
fn mixed(dir: &Path, golden: &Golden, name: &str) -> Vec<PathBuf> {
    let (text, cut) = (dir.join("text.jpg"), dir.join("cut.png"));
    let good: Vec<PathBuf> =
        golden.inputs("pictures").iter().map(|file| folder(name).join(file)).collect();
    std::fs::write(&text, "not a picture").unwrap();
    let bytes = std::fs::read(&good[0]).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let mut bad = vec![text, cut, dir.join("missing.png"), dir.to_owned()];
    if cfg!(unix) {
        let pipe = dir.join("pipe.jpg");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        bad.push(pipe);
    }
    let place = |n: usize| if n % 3 == 1 { &bad[n / 3 % bad.len()] } else { &good[n % good.len()] };
    (0..29).map(place).cloned().collect()
}

#[test]
fn pictures_have_the_same_bits_in_every_precision_and_batch() {
    let golden = Golden::new("alt_l");
    let dir = tempfile::tempdir().unwrap();
    let paths = mixed(dir.path(), &golden, "alt_l");
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let model = load(&golden, precision);
        for normalize in [true, false] {
            let expected: Vec<_> =
                paths.iter().map(|path| alone(&model, path, normalize)).collect();
            assert!(expected.iter().any(Result::is_ok) && expected.iter().any(Result::is_err));
            for (batch, threads) in [(1, 1), (3, 0), (4, 2), (8, 3), (64, 2)] {
                let mut options = options(&model, batch, threads);
                options.normalize = normalize;
                let found = together(&model, &paths, &options);
                assert_eq!(found, expected, "{precision:?}, batch {batch}, {threads} threads");
            }
        }
    }
}

#[test]
fn nothing_and_nothing_good() {
    let golden = Golden::new("alt_l");
    let model = load(&golden, Precision::F32);
    let options = options(&model, 4, 2);
    assert!(together(&model, &[], &options).is_empty());
    let missing: Vec<PathBuf> =
        (0..50).map(|n| golden.dir.path().join(format!("{n}.png"))).collect();
    assert_eq!(together(&model, &missing, &options), vec![Err("E4201"); 50]);
}

#[test]
fn a_file_may_vanish_before_its_turn() {
    let golden = Golden::new("alt_l");
    let model = load(&golden, Precision::F32);
    let dir = tempfile::tempdir().unwrap();
    let picture = folder("alt_l").join(&golden.inputs("pictures")[0]);
    let paths: Vec<PathBuf> = (0..40).map(|n| dir.path().join(format!("{n}.png"))).collect();
    for path in &paths {
        std::fs::copy(&picture, path).unwrap();
    }
    let options = options(&model, 2, 2);
    let mut rows = model.pictures(paths.clone().into_iter(), &options).unwrap();
    let first = bits(&rows.next().unwrap().unwrap());
    // Four batches at most have been begun.
    std::fs::remove_file(&paths[39]).unwrap();
    let rest: Vec<_> = rows.collect();
    assert_eq!(rest.len(), 39);
    assert_eq!(rest[38].as_ref().unwrap_err().report().code.as_str(), "E4201");
    assert!(rest[..38].iter().all(|row| bits(row.as_ref().unwrap()) == first));
}

/// A source that panics on the thread that takes it up.
struct Bomb(Option<PathBuf>);

impl From<Bomb> for Picture {
    fn from(Bomb(path): Bomb) -> Self {
        Picture::File(path.expect("a bomb"))
    }
}

#[test]
fn a_panic_is_the_row_of_its_picture() {
    let golden = Golden::new("alt_l");
    let model = load(&golden, Precision::F32);
    let picture = folder("alt_l").join(&golden.inputs("pictures")[0]);
    let expected = alone(&model, &picture, true).unwrap();
    for threads in [0, 1, 2] {
        let picture = picture.clone();
        let sources = (0..20).map(move |n| Bomb((n % 5 != 2).then(|| picture.clone())));
        let rows = model.pictures(sources, &options(&model, 4, threads)).unwrap();
        for (n, row) in rows.enumerate() {
            match row {
                Ok(row) => assert!(n % 5 != 2 && bits(&row) == expected),
                Err(Error::Panicked { message }) => assert!(n % 5 == 2 && message == "a bomb"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn an_endless_source_can_be_left() {
    let golden = Golden::new("alt_l");
    let model = load(&golden, Precision::F32);
    let bytes = std::fs::read(folder("alt_l").join(&golden.inputs("pictures")[0])).unwrap();
    for (threads, taken) in [(0, 3), (2, 0), (2, 1), (3, 9)] {
        let bytes = bytes.clone();
        let sources = std::iter::repeat_with(move || bytes.clone());
        let rows = model.pictures(sources, &options(&model, 4, threads)).unwrap();
        assert_eq!(rows.take(taken).filter(Result::is_ok).count(), taken);
    }
}

#[test]
fn texts_have_the_same_bits_packed_and_repeated() {
    let golden = Golden::new("alt_l");
    let words = golden.inputs("texts");
    // More than one pack, with repetitions near and far, and texts that are truncated.
    let text = |n: usize| match n % 7 {
        0 => words[n % words.len()].clone(),
        6 => words.concat().repeat(4),
        _ => format!("{} {}", words[n % words.len()], n / 3),
    };
    let texts: Vec<String> = (0..700).map(text).collect();
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let model = load(&golden, precision);
        let rows: Vec<_> =
            model.texts(texts.clone().into_iter(), true).map(Result::unwrap).collect();
        assert_eq!(rows.len(), texts.len());
        assert!(rows.iter().any(|row| row.truncated_from.is_some()));
        for (row, text) in rows.iter().zip(&texts) {
            let encoding = model.tokenize(text).unwrap();
            let expected = model.encode_text(&[text]).unwrap();
            assert_eq!(bits(&row.vector), bits(expected.as_slice()), "{precision:?}: {text}");
            let total = encoding.truncated.then_some(encoding.tokens_total);
            assert_eq!(row.truncated_from, total);
        }
    }
    assert_eq!(load(&golden, Precision::F32).texts(std::iter::empty::<&str>(), true).count(), 0);
}
