//! Every stage of both towers against transformers.

use crate::golden::{Golden, assert_stage};
use altclip::models::TextTower;
use altclip::tensor::{Backend, Tensor};
use altclip::{Conditioning, Model};

fn read(model: &Model, tensor: Result<Tensor, altclip::models::Error>) -> Vec<f32> {
    model.backend().read(&tensor.unwrap()).unwrap()
}

fn check_text(golden: &Golden) {
    let model = golden.load();
    let unpadded = golden.unpadded("text");
    let encode = |text: &String| model.tokenize(text).unwrap().input_ids;
    let texts = golden.inputs("texts");
    assert_eq!(texts.iter().map(encode).collect::<Vec<_>>(), unpadded, "token ids");

    let ids: Vec<&[u32]> = unpadded.iter().map(Vec::as_slice).collect();
    let (b, encoder) = (model.backend(), model.text_encoder().unwrap());
    for layer in 0..=encoder.tower().num_hidden_layers() {
        let state = encoder.tower().hidden_state(b, &ids, layer);
        let stage = layer
            .checked_sub(1)
            .map_or("text.embeddings".into(), |block| format!("text.block.{block}"));
        assert_stage(&stage, &read(&model, state), &golden.unpadded_rows(&stage));
    }
    if let TextTower::AltClip(tower) = encoder.tower() {
        let state = read(&model, tower.last_hidden_state(b, &ids));
        assert_stage(
            "text.last_hidden_state",
            &state,
            &golden.unpadded_rows("text.last_hidden_state"),
        );
    }
    assert_stage(
        "text.pooled",
        &read(&model, encoder.pooled(b, &ids)),
        &golden.f32s("text.pooled"),
    );
    let features = model.text_features(&texts).unwrap();
    assert_stage("text.features", features.as_slice(), &golden.f32s("text.features"));
    let embeds = model.encode_text(&texts).unwrap();
    assert_stage("text.embeds", embeds.as_slice(), &golden.f32s("text.embeds"));
    for (nth, text) in texts.iter().enumerate() {
        let stage = format!("single.{nth}.features");
        if golden.has(&stage) {
            let alone = model.text_features(&[text]).unwrap();
            assert_stage(&stage, alone.as_slice(), &golden.f32s(&stage));
        }
    }
}

fn check_vision(golden: &Golden) {
    let model = golden.load();
    let pictures = golden.pictures(&model);
    let pixels: Vec<f32> =
        pictures.iter().flat_map(|picture| model.preprocess(picture).unwrap()).collect();
    let expected = golden.f32s("vision.pixel_values");
    let wrong = pixels.iter().zip(&expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    assert_eq!((pixels.len(), wrong), (expected.len(), 0), "pixel values that differ");

    let tower = model.image_encoder().unwrap();
    let (b, encoder) = (model.backend(), &tower.0);
    let pixels = b.tensor(pictures.len(), pixels.len() / pictures.len(), &pixels).unwrap();
    let layers = model.opened().config().vision.unwrap().blocks.num_hidden_layers;
    for layer in 0..=layers {
        let state = encoder.tower().hidden_state(b, &pixels, layer);
        let stage = layer
            .checked_sub(1)
            .map_or("vision.pre_layrnorm".into(), |block| format!("vision.block.{block}"));
        assert_stage(&stage, &read(&model, state), &golden.f32s(&stage));
    }
    assert_stage(
        "vision.pooled",
        &read(&model, encoder.tower().pooled(b, &pixels)),
        &golden.f32s("vision.pooled"),
    );
    let features = model.image_features(&pictures).unwrap();
    assert_stage("vision.features", features.as_slice(), &golden.f32s("vision.features"));
    let embeds = model.encode_image(&pictures).unwrap();
    assert_stage("vision.embeds", embeds.as_slice(), &golden.f32s("vision.embeds"));
}

fn check_joint(golden: &Golden) {
    let model = golden.load();
    let labels = model.encode_text(&golden.inputs("texts")).unwrap();
    let classified = model.classify(&golden.pictures(&model), &labels).unwrap();
    let logits: Vec<f32> = classified.rows().flatten().map(|label| label.logit).collect();
    let probabilities: Vec<f32> =
        classified.rows().flatten().map(|label| label.probability).collect();
    assert_stage("logits_per_image", &logits, &golden.f32s("logits_per_image"));
    assert_stage("probabilities", &probabilities, &golden.f32s("probabilities"));
    let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    let winners: Vec<_> = probabilities.chunks(labels.len()).map(best).collect();
    assert!(
        winners.iter().any(|winner| *winner != winners[0]),
        "all pictures have one winner: {winners:?}"
    );
}

fn check_conditioning(golden: &Golden, generation: Conditioning, stage: &str) {
    let model = golden.load();
    let states = model.conditioning(&golden.inputs("prompts"), Some(generation)).unwrap();
    assert_stage(stage, states.as_slice(), &golden.f32s(stage));
}

#[test]
fn alt_clip_of_the_l_shape() {
    let golden = Golden::new("alt_l");
    check_text(&golden);
    check_vision(&golden);
    check_joint(&golden);
}

#[test]
fn alt_clip_of_the_h_shape() {
    let golden = Golden::new("alt_h");
    check_text(&golden);
    check_vision(&golden);
    check_joint(&golden);
}

#[test]
fn clip_in_the_hubs_layout() {
    let golden = Golden::new("clip");
    check_text(&golden);
    check_vision(&golden);
    check_joint(&golden);
}

#[test]
fn the_states_of_both_generations_of_alt_diffusion() {
    check_conditioning(&Golden::new("alt_l"), Conditioning::M9, "diffusion.m9");
    check_conditioning(&Golden::new("alt_h"), Conditioning::M18, "diffusion.m18");
}

#[test]
fn legacy_configurations_describe_the_same_model() {
    for config in ["config_legacy.json", "config_modelhub.json"] {
        let golden = Golden::new("alt_l");
        golden.copy(&format!("alt_l/{config}"), "config.json");
        golden.copy("alt_l/preprocessor_config_old.json", "preprocessor_config.json");
        assert!(
            golden.load().warnings().iter().any(|warning| warning.code.as_str() == "W2122"),
            "{config}"
        );
        check_text(&golden);
        check_vision(&golden);
    }
}

#[test]
fn both_rules_of_the_end_of_text_token() {
    for (config, stage) in
        [("config.json", "eos.first.features"), ("config_eos2.json", "eos.legacy.features")]
    {
        let golden = Golden::new("clip");
        golden.copy(&format!("clip/{config}"), "config.json");
        let ids = golden.unpadded("eos");
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let features = golden.load().features_of_ids(&ids).unwrap();
        assert_stage(stage, features.as_slice(), &golden.f32s(stage));
    }
}
