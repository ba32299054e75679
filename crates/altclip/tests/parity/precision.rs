//! bf16 and int8: near f32, and the same bits whatever the batch and the number of threads.

use crate::golden::Golden;
use altclip::tensor::{CpuBackend, Isa, Kernels, Precision};
use altclip::{Embeddings, LoadOptions, Model};

fn load(golden: &Golden, precision: Precision, threads: usize) -> Model {
    let mut options = LoadOptions::default();
    (options.precision, options.threads) = (precision, threads);
    golden.load_from(golden.dir.path(), options)
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|number| number.to_bits()).collect()
}

/// Mean and smallest cosine of the rows.
fn cosines(found: &Embeddings, exact: &Embeddings) -> (f64, f64) {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let cosine = |(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let all: Vec<f64> = found.rows().zip(exact.rows()).map(cosine).collect();
    (all.iter().sum::<f64>() / all.len() as f64, all.into_iter().fold(1.0, f64::min))
}

#[test]
fn reduced_precisions_are_near_f32() {
    for name in ["alt_l", "alt_h", "clip"] {
        let golden = Golden::new(name);
        let exact = load(&golden, Precision::F32, 2);
        let (texts, pictures) = (golden.inputs("texts"), golden.pictures(&exact));
        for (precision, least) in [(Precision::Bf16, 0.9999), (Precision::Int8, 0.999)] {
            let model = load(&golden, precision, 2);
            let of = |model: &Model| {
                let texts = model.text_features(&texts).unwrap();
                (texts, model.image_features(&pictures).unwrap())
            };
            let ((texts, images), (exact_texts, exact_images)) = (of(&model), of(&exact));
            let (text, worst_text) = cosines(&texts, &exact_texts);
            let (image, worst_image) = cosines(&images, &exact_images);
            println!("{name} {precision}: texts {text:.6}, worst {worst_text:.6}");
            println!("{name} {precision}: pictures {image:.6}, worst {worst_image:.6}");
            assert!(text >= least && image >= least, "{name} {precision}: {text} {image}");
        }
    }
}

#[test]
fn batch_and_threads_change_no_bit_in_any_precision() {
    let golden = Golden::new("alt_l");
    for precision in Precision::ALL {
        let model = load(&golden, precision, 2);
        let texts = golden.inputs("texts");
        let pictures = golden.pictures(&model);
        let together = model.text_features(&texts).unwrap();
        let images = model.image_features(&pictures).unwrap();
        for (text, row) in texts.iter().zip(together.rows()) {
            let alone = model.text_features(&[text]).unwrap();
            assert_eq!(bits(alone.as_slice()), bits(row), "{precision} {text}");
        }
        for (picture, row) in pictures.iter().zip(images.rows()) {
            let alone = model.image_features(std::slice::from_ref(picture)).unwrap();
            assert_eq!(bits(alone.as_slice()), bits(row), "{precision}");
        }
        for threads in [1, 8] {
            let other = load(&golden, precision, threads);
            let texts = other.text_features(&texts).unwrap();
            assert_eq!(bits(texts.as_slice()), bits(together.as_slice()), "{precision} {threads}");
            let found = other.image_features(&pictures).unwrap();
            assert_eq!(bits(found.as_slice()), bits(images.as_slice()), "{precision} {threads}");
        }
    }
}

#[test]
fn every_level_runs_every_precision() {
    let golden = Golden::new("alt_h");
    let exact = load(&golden, Precision::F32, 1);
    let ids: Vec<_> =
        golden.inputs("texts").iter().map(|text| exact.tokenize(text).unwrap().input_ids).collect();
    let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    let expected = exact.features_of_ids(&ids).unwrap();
    for isa in Isa::ALL {
        let Some(kernels) = Kernels::for_isa(isa) else {
            println!("skipped: this machine has no {isa}");
            continue;
        };
        for (precision, least) in [(Precision::Bf16, 0.9999), (Precision::Int8, 0.998)] {
            let backend = CpuBackend::with_kernels(2, kernels).with_precision(precision);
            let encoder = exact.opened().text_encoder(&backend).unwrap();
            let features = encoder.features(&backend, &ids).unwrap();
            let numbers = altclip::tensor::Backend::read(&backend, &features).unwrap();
            let found = Embeddings::new(expected.width(), numbers).unwrap();
            let (mean, _) = cosines(&found, &expected);
            assert!(mean >= least, "{isa} {precision}: {mean}");
        }
    }
}
