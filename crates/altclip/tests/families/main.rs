//! The other models of the table against their references (`tests/golden/families`, made by
//! `scripts/reference/make_family_goldens.py`): transformers for CLIP, CN-CLIP and Taiyi's towers, functions
//! written from the papers for Wukong, PRD2 and R2D2.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use altclip::checkpoint::Checkpoint;
use altclip::models::Family;
use altclip::tensor::{Backend, Precision};
use altclip::{LoadOptions, Model, Similarity};
use altclip_report::Diagnose;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Largest error of a stage, relative to the largest magnitude of that stage.
const TOLERANCE: f32 = 1e-5;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// A model as a user would have it, and its expected values.
struct Case {
    dir: TempDir,
    expected: Vec<u8>,
}

impl Case {
    /// The files of a golden folder that `keep` names, with the tokenizer of its family.
    fn new(name: &str, keep: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let from = golden().join("families").join(name);
        for file in keep {
            let to = dir.path().join(file);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(from.join(file), to).unwrap();
        }
        let tokenizer = if name == "openai" { "tokenizer_clip" } else { "tokenizer_bert" };
        for file in ["vocab.txt", "vocab.json", "merges.txt"] {
            let from = golden().join(tokenizer).join(file);
            if from.exists() {
                std::fs::copy(from, dir.path().join(file)).unwrap();
            }
        }
        Self { dir, expected: std::fs::read(from.join("expected.safetensors")).unwrap() }
    }

    fn load(&self, path: &str) -> Model {
        let mut options = LoadOptions::default();
        options.threads = 2;
        Model::load(&self.dir.path().join(path), &options).unwrap_or_else(|error| {
            panic!("{:?}", error.reports().iter().map(ToString::to_string).collect::<Vec<_>>())
        })
    }

    fn f32s(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.expected).unwrap();
        let tensor = file.tensor(name).unwrap_or_else(|_| panic!("no golden tensor {name}"));
        tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.expected).unwrap().tensor(name).is_ok()
    }

    /// Token ids without padding, and which rows of a padded stage they are.
    fn texts(&self) -> (Vec<Vec<u32>>, Vec<bool>) {
        let file = SafeTensors::deserialize(&self.expected).unwrap();
        let ints = |name: &str| -> Vec<u32> {
            let tensor = file.tensor(name).unwrap();
            tensor.data().as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as u32).collect()
        };
        let length = file.tensor("text.input_ids").unwrap().shape()[1];
        let (ids, mask) = (ints("text.input_ids"), ints("text.attention_mask"));
        let texts = ids.chunks(length).zip(mask.chunks(length)).map(|(ids, mask)| {
            ids.iter().zip(mask).filter(|(_, m)| **m == 1).map(|(&id, _)| id).collect()
        });
        (texts.collect(), mask.iter().map(|&m| m == 1).collect())
    }
}

/// Asserts a stage and prints its error.
fn assert_stage(stage: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{stage}");
    let error = error_of(found, expected);
    println!("{stage:<36} {error:.1e}");
    assert!(error <= TOLERANCE, "{stage}: {error:.1e}");
}

fn error_of(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    off.fold(0.0f32, |worst, error| if error.is_nan() { f32::INFINITY } else { worst.max(error) })
        / largest
}

/// Every stage of a dual encoder that the golden file has.
fn check(case: &Case, model: &Model, name: &str) {
    let (texts, mask) = case.texts();
    let ids: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let pixels = case.f32s("vision.pixel_values");
    let b = model.backend();
    let (text, image) = (model.text_encoder().unwrap(), model.image_encoder().unwrap());
    let read = |tensor| b.read(&tensor).unwrap();
    let one = pixels.len() / 3;
    let pictures = b.tensor(3, one, &pixels).unwrap();
    for layer in 0..=text.tower().num_hidden_layers() {
        let stage = format!("text.state.{layer}");
        if case.has(&stage) {
            let found = text.tower().hidden_state(b, &ids, layer).unwrap();
            let width = found.cols();
            let expected = case.f32s(&stage);
            // The oracle has no padding; the rows of padding of the reference reach no feature.
            let expected: Vec<f32> = if expected.len() == mask.len() * width {
                let rows = expected.chunks(width).zip(&mask);
                rows.filter(|(_, keep)| **keep).flat_map(|(row, _)| row).copied().collect()
            } else {
                expected
            };
            assert_stage(&format!("{name} {stage}"), &read(found), &expected);
        }
    }
    for layer in 0..=model.opened().config().vision.unwrap().blocks.num_hidden_layers {
        let stage = format!("vision.state.{layer}");
        if case.has(&stage) {
            let found = image.0.tower().hidden_state(b, &pictures, layer).unwrap();
            assert_stage(&format!("{name} {stage}"), &read(found), &case.f32s(&stage));
        }
    }
    let features = model.features_of_ids(&ids).unwrap();
    let stage = "text.features";
    assert_stage(&format!("{name} {stage}"), features.as_slice(), &case.f32s(stage));
    let pictures = model.features_of_pixels(&pixels).unwrap();
    let stage = "vision.features";
    assert_stage(&format!("{name} {stage}"), pictures.as_slice(), &case.f32s(stage));
    let labels = model.normalize(&features).unwrap();
    let logits = model.classify_embeds(&model.normalize(&pictures).unwrap(), &labels).unwrap();
    let logits: Vec<f32> = logits.rows().flatten().map(|label| label.logit).collect();
    assert_stage(&format!("{name} logits"), &logits, &case.f32s("logits_per_image"));
}

fn family(model: &Model) -> Family {
    model.opened().family()
}

#[test]
fn openais_archive_gives_the_numbers_of_transformers() {
    let case = Case::new("openai", &["ViT-tiny.pt"]);
    // The file alone, and the folder that holds it.
    for path in ["ViT-tiny.pt", ""] {
        let model = case.load(path);
        assert_eq!(family(&model), Family::Clip);
        check(&case, &model, "openai");
        let clip = altclip::image::Preprocessor::clip(24);
        assert_eq!(model.preprocessor().unwrap(), clip);
        assert_eq!(altclip::preprocessor(&case.dir.path().join(path)).unwrap(), clip);
        assert_eq!(model.max_length(), 12);
    }
}

#[test]
fn chinese_clip_in_both_forms() {
    let hub = Case::new("chinese_clip", &["config.json", "model.safetensors"]);
    let preprocessor = r#"{"size": {"height": 24, "width": 24}, "do_center_crop": false}"#;
    std::fs::write(hub.dir.path().join("preprocessor_config.json"), preprocessor).unwrap();
    let model = hub.load("");
    assert_eq!(family(&model), Family::ChineseClip);
    check(&hub, &model, "chinese_clip");
    let theirs = Case::new("chinese_clip", &["clip_cn_tiny.pt"]);
    let original = theirs.load("clip_cn_tiny.pt");
    assert_eq!(family(&original), Family::ChineseClip);
    check(&theirs, &original, "clip_cn");
    assert_eq!(original.preprocessor().unwrap(), model.preprocessor().unwrap());
    assert_eq!(original.opened().config(), model.opened().config());
}

#[test]
fn taiyi_of_two_folders() {
    let files = [
        "config.json",
        "pytorch_model.bin",
        "image_tower/config.json",
        "image_tower/model.safetensors",
    ];
    let case = Case::new("taiyi", &files);
    let preprocessor = r#"{"size": 24, "crop_size": 24}"#;
    std::fs::write(case.dir.path().join("image_tower/preprocessor_config.json"), preprocessor)
        .unwrap();
    let model = case.load("");
    assert_eq!(family(&model), Family::TaiyiClip);
    check(&case, &model, "taiyi");
    // The text tower alone is a text encoder.
    let alone = Case::new("taiyi", &files[..2]).load("");
    let (texts, _) = case.texts();
    let ids: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    assert_eq!(
        alone.features_of_ids(&ids).unwrap().as_slice(),
        model.features_of_ids(&ids).unwrap().as_slice()
    );
}

#[test]
fn prd2_has_no_norm_behind_its_last_block() {
    let case = Case::new("prd2", &["prd2_tiny.pth"]);
    let model = case.load("");
    assert_eq!(family(&model), Family::Prd2);
    assert_eq!(model.similarity(), Similarity::Cosine);
    check(&case, &model, "prd2");
    assert!((model.opened().scale().unwrap() - 1.0 / 0.07).abs() < 1e-4);
}

#[test]
fn r2d2_looks_twice() {
    let case = Case::new("r2d2", &["r2d2_tiny.pth"]);
    let model = case.load("");
    assert_eq!(family(&model), Family::R2d2);
    check(&case, &model, "r2d2");
    let (texts, _) = case.texts();
    let ids: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let texts = model.id_side(&ids).unwrap();
    let images = model.pixel_side(&case.f32s("vision.pixel_values"), 3).unwrap();
    let expected = case.f32s("similarity");
    let found = model.compare(&images, &texts).unwrap();
    assert_stage("r2d2 similarity of pictures", &found, &expected);
    // Control: the cosine alone is another number.
    let cosines = images.embeddings().unwrap().cosines(texts.embeddings().unwrap()).unwrap();
    assert!(error_of(&cosines, &expected) > 1e-2);
    let turned = model.compare(&texts, &images).unwrap();
    let back: Vec<f32> = (0..12).map(|at| turned[at % ids.len() * 3 + at / ids.len()]).collect();
    assert_stage("r2d2 similarity of texts", &back, &expected);
    // 140 texts: the 128 best of each picture are looked at again, the others are behind.
    let many: Vec<Vec<u32>> = (0..140).map(|n| vec![2, 5 + n, 40 + n, 3]).collect();
    let many: Vec<&[u32]> = many.iter().map(Vec::as_slice).collect();
    let one = model.pixel_side(&case.f32s("vision.pixel_values")[..3 * 24 * 24], 1).unwrap();
    let scores = model.compare(&one, &model.id_side(&many).unwrap()).unwrap();
    assert_eq!(scores.iter().filter(|&&score| score == altclip::models::BEHIND).count(), 12);
    assert!(model.compare(&images, &one).is_err());
}

#[test]
fn kept_sides_compare_as_before() {
    for (name, file) in [
        ("openai", "ViT-tiny.pt"),
        ("r2d2", "r2d2_tiny.pth"),
        ("wukong", "wukong_tiny.pth"),
        ("wukong_learner", "wukong_tiny.pth"),
    ] {
        let case = Case::new(name, &[file]);
        let model = case.load(file);
        let (texts, _) = case.texts();
        let ids: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let sides = [
            model.id_side(&ids).unwrap(),
            model.pixel_side(&case.f32s("vision.pixel_values"), 3).unwrap(),
        ];
        let expected = model.compare(&sides[1], &sides[0]).unwrap();
        let [texts, images] = [0, 1].map(|n| {
            let (side, is_text) = (&sides[n], n == 0);
            let kept = (0..side.len()).map(|n| model.kept(side, n).unwrap());
            let kept: Vec<Vec<f32>> = kept.collect();
            assert!(kept.iter().all(|item| item.len() == model.kept_len(is_text)));
            model.side_of_kept(is_text, &kept).unwrap()
        });
        assert_eq!(model.compare(&images, &texts).unwrap(), expected, "{name}");
        // One of them alone, and what is none.
        let one = model.side_of_kept(false, &[model.kept(&sides[1], 2).unwrap()]).unwrap();
        let columns = ids.len();
        assert_eq!(model.compare(&one, &texts).unwrap(), expected[2 * columns..], "{name}");
        assert!(model.side_of_kept(true, &[vec![0.0f32; 3]]).is_err());
        assert_eq!(images.tokens().is_some(), name.starts_with("wukong"));
    }
}

#[test]
fn wukong_compares_token_by_token() {
    for name in ["wukong", "wukong_learner"] {
        let case = Case::new(name, &["wukong_tiny.pth"]);
        let model = case.load("");
        assert_eq!(family(&model), Family::Wukong);
        assert_eq!(model.similarity(), Similarity::TokenWise);
        // Its authors normalise before they resize.
        assert_eq!(model.preprocessor().unwrap(), altclip::image::Preprocessor::wukong(24));
        assert_eq!(model.opened().config().token_learner.is_some(), name == "wukong_learner");
        let (texts, _) = case.texts();
        let ids: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let texts = model.id_side(&ids).unwrap();
        let images = model.pixel_side(&case.f32s("vision.pixel_values"), 3).unwrap();
        let found = model.compare(&images, &texts).unwrap();
        assert_stage(&format!("{name} similarity"), &found, &case.f32s("similarity"));
        let found = model.compare(&texts, &images).unwrap();
        let expected = case.f32s("similarity_of_texts");
        assert_stage(&format!("{name} similarity of texts"), &found, &expected);
        // One row of it would be another model.
        let error = model.features_of_ids(&ids).unwrap_err().report();
        assert_eq!(error.code.as_str(), "E2302");
    }
}

#[test]
fn labels_by_tokens_are_the_mean_over_templates() {
    let case = Case::new("wukong", &["wukong_tiny.pth"]);
    let model = case.load("");
    let rgb = |seed: u8| {
        let bytes = (0..24 * 24 * 3).map(|n| (n as u8).wrapping_mul(seed)).collect();
        altclip::image::Rgb::from_raw(24, 24, bytes).unwrap()
    };
    let labels = ["猫", "狗", "a"];
    let classify = |templates: &[&str]| {
        let templates = altclip::Templates::new(templates.iter().map(|t| t.to_string()));
        let found = model.zero_shot(&[rgb(3), rgb(7)], &labels, &templates).unwrap();
        found.rows().flatten().map(|label| label.probability).collect::<Vec<_>>()
    };
    let (one, two) = (classify(&["{}"]), classify(&["一张{}"]));
    let mean: Vec<f32> = one.iter().zip(&two).map(|(a, b)| (a + b) / 2.0).collect();
    assert_stage("wukong, two templates", &classify(&["{}", "一张{}"]), &mean);
}

#[test]
fn authors_files_are_packed_like_any_other() {
    for (name, file) in [
        ("openai", "ViT-tiny.pt"),
        ("chinese_clip", "clip_cn_tiny.pt"),
        ("r2d2", "r2d2_tiny.pth"),
        ("wukong_learner", "wukong_tiny.pth"),
    ] {
        let case = Case::new(name, &[file]);
        let (texts, _) = case.texts();
        let ids: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let pixels = case.f32s("vision.pixel_values");
        let answers = |model: &Model| {
            let (texts, images) =
                (model.id_side(&ids).unwrap(), model.pixel_side(&pixels, 3).unwrap());
            model.compare(&images, &texts).unwrap()
        };
        let mut options = LoadOptions::default();
        (options.threads, options.precision) = (2, Precision::Bf16);
        let path = case.dir.path().join(file);
        let out = case.dir.path().join("packed.altclip");
        altclip::convert(&path, &options, &out).unwrap();
        let in_memory = answers(&Model::load(&path, &options).unwrap());
        let packed = Model::load(&out, &LoadOptions::default()).unwrap();
        assert_eq!(answers(&packed), in_memory, "{name}");
        let exact = answers(&case.load(file));
        let error = error_of(&in_memory, &exact);
        println!("{name} in bf16: {error:.1e}");
        assert!(error > 0.0 && error < 0.2, "{name}: {error}");
    }
}

#[test]
fn embeddings_of_an_authors_file_depend_on_its_tokenizer() {
    let case = Case::new("chinese_clip", &["clip_cn_tiny.pt"]);
    let fingerprint = || case.load("clip_cn_tiny.pt").fingerprint().unwrap();
    let first = fingerprint();
    assert_eq!(fingerprint(), first);
    let vocab = case.dir.path().join("vocab.txt");
    let words = std::fs::read_to_string(&vocab).unwrap();
    let turned: Vec<&str> = words
        .lines()
        .map(|word| {
            if word == "猫" {
                "狗"
            } else if word == "狗" {
                "猫"
            } else {
                word
            }
        })
        .collect();
    std::fs::write(&vocab, turned.join("\n")).unwrap();
    assert_ne!(fingerprint(), first);
}

#[test]
fn a_resnet_is_named_and_a_foreign_file_asks_for_its_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let mut header =
            format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        header.push_str(&" ".repeat((8 - header.len() % 8) % 8));
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
        std::fs::write(dir.path().join("x.pt"), bytes).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(checkpoint.names().count(), 1);
        let error = Model::load(dir.path(), &LoadOptions::default()).err().unwrap();
        error.report().to_string()
    };
    assert!(write("visual.layer1.0.conv1.weight").contains("ResNet"));
    assert!(write("something").contains("config.json"));
}
