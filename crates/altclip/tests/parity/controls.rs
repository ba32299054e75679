//! Models that are wrong on purpose: the comparisons of `stages.rs` must refuse them.

use crate::golden::{Golden, TOLERANCE, compare, folder};
use crate::independence::{Entry, write};
use altclip::Conditioning;
use altclip::models::TextTower;
use altclip::tensor::Backend;
use safetensors::SafeTensors;

fn assert_refused(mistake: &str, stage: &str, found: &[f32], expected: &[f32]) {
    match compare(stage, found, expected, TOLERANCE) {
        Err(message) => println!("{mistake}: {message}"),
        Ok(error) => panic!("{mistake} went unnoticed: {stage} differs by {error:.1e}"),
    }
}

#[test]
fn without_pre_ln_the_pooled_state_is_refused() {
    let golden = Golden::new("alt_l");
    let model = golden.load();
    let ids = golden.unpadded("text");
    let encoder = model.text_encoder().unwrap();
    let TextTower::AltClip(tower) = encoder.tower() else { panic!("alt_l is an AltCLIP") };
    // AltDiffusion's states are the head without `pre_LN`; the first row of each text is its <s>.
    let mut pooled = Vec::new();
    for ids in &ids {
        let states = tower.conditioning(model.backend(), &[ids], Conditioning::M9).unwrap();
        pooled.extend_from_slice(&model.backend().read(&states).unwrap()[..states.cols()]);
    }
    assert_refused("no pre_LN", "text.pooled", &pooled, &golden.f32s("text.pooled"));
}

#[test]
fn positions_off_by_one_are_refused() {
    const TABLE: &str = "text_model.roberta.embeddings.position_embeddings.weight";
    let golden = Golden::new("alt_l");
    let bytes = std::fs::read(folder("alt_l").join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut entries: Vec<Entry<'_>> =
        file.iter().map(|(name, view)| Entry::new(name, &view)).collect();
    let row = 4 * file.tensor(TABLE).unwrap().shape()[1];
    for entry in entries.iter_mut().filter(|entry| entry.name == TABLE) {
        entry.bytes.to_mut().rotate_left(row);
    }
    write(&golden.dir.path().join("model.safetensors"), entries.iter(), 0);
    let features = golden.load().text_features(&golden.inputs("texts")).unwrap();
    assert_refused(
        "positions off by one",
        "text.features",
        features.as_slice(),
        &golden.f32s("text.features"),
    );
}

#[test]
fn a_resize_off_by_one_is_refused() {
    let golden = Golden::new("alt_l");
    let path = golden.dir.path().join("preprocessor_config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let edge = config["size"]["shortest_edge"].as_u64().unwrap();
    config["size"]["shortest_edge"] = (edge + 1).into();
    std::fs::write(&path, config.to_string()).unwrap();
    let model = golden.load();
    let pixels: Vec<f32> =
        golden.pictures(&model).iter().flat_map(|p| model.preprocess(p).unwrap()).collect();
    assert_ne!(pixels, golden.f32s("vision.pixel_values"));
    let features = model.image_features(&golden.pictures(&model)).unwrap();
    assert_refused(
        "resize off by one",
        "vision.features",
        features.as_slice(),
        &golden.f32s("vision.features"),
    );
}

#[test]
fn a_number_that_is_not_finite_is_refused() {
    assert!(compare("stage", &[1.0, f32::NAN], &[1.0, 2.0], TOLERANCE).is_err());
    assert!(compare("stage", &[1.0], &[1.0, 2.0], TOLERANCE).is_err());
    assert!(compare("stage", &[1.0, 2.00001], &[1.0, 2.0], TOLERANCE).is_ok());
}
