//! Fine-tuning: which weights change and how, and the failure of FlagAI#561, where a model was trained on
//! class numbers and all its embeddings became one.

use crate::data::{Data, Out, embed, tensors};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Weights = BTreeMap<String, Vec<f32>>;

fn start(data: &Data) -> Weights {
    tensors(&Path::new(&data.model("alt_l")).join("model.safetensors"))
}

/// Names of the tensors that a run changed.
fn changed(before: &Weights, out: &Out) -> BTreeSet<String> {
    let after = out.weights();
    assert!(after.keys().all(|name| before.contains_key(name)));
    after
        .into_iter()
        .filter(|(name, values)| before[name] != *values)
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn a_part_is_trained_and_the_rest_stays() {
    let data = Data::new();
    let before = start(&data);
    let run = |part: &str| {
        let flags = ["--max-steps", "3", "--part", part, "--last", "1"];
        changed(&before, &data.trained("finetune", part, &flags))
    };
    let is_image = |name: &String| name.starts_with("vision_model") || name.starts_with("visual_");
    let (full, text, image, last) = (run("full"), run("text"), run("image"), run("last"));
    assert!(full.iter().any(is_image) && !full.iter().all(is_image));
    assert!(!text.is_empty() && !text.iter().any(is_image), "{text:?}");
    assert!(!image.is_empty() && image.iter().all(is_image), "{image:?}");
    assert!(last.contains("logit_scale") && last.len() < full.len());
    let blocks: BTreeSet<&str> = last
        .iter()
        .filter_map(|name| name.split_once(".layer.").or(name.split_once(".layers.")))
        .filter_map(|(_, rest)| rest.split('.').next())
        .collect();
    assert_eq!(blocks, BTreeSet::from(["2"]), "both towers have 3 blocks");
    assert!(!last.iter().any(|name| name.contains("embedding")), "{last:?}");
}

/// The model holds `W + scale · B A`, and the adapter beside it the factors.
#[test]
fn low_rank_updates_are_merged_and_saved() {
    let data = Data::new();
    let before = start(&data);
    let flags = ["--max-steps", "4", "--lora-rank", "2", "--lora-alpha", "6", "--save-adapter"];
    let out = data.trained("finetune", "lora", &flags);
    let factors = tensors(&out.0.join("adapter/adapter_model.safetensors"));
    let config = out.json("adapter/adapter_config.json");
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(2), &json!(6.0)));
    let (after, changed) = (out.weights(), changed(&before, &out));
    let mut updated = BTreeSet::new();
    for (name, a) in factors.iter().filter(|(name, _)| name.contains("lora_A")) {
        let b = &factors[&name.replace("lora_A", "lora_B")];
        let place = name.strip_prefix("base_model.model.").unwrap_or(name);
        let place = place.replace(".lora_A.weight", ".weight");
        let (old, new) = (&before[&place], &after[&place]);
        let (n, k) = (b.len() / 2, a.len() / 2);
        assert_eq!(old.len(), n * k, "{name}");
        for row in 0..n {
            for col in 0..k {
                let update: f32 = (0..2).map(|r| b[2 * row + r] * a[r * k + col]).sum();
                let expected = old[row * k + col] + 3.0 * update;
                let found = new[row * k + col];
                assert!((found - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{place}");
            }
        }
        updated.insert(place);
    }
    assert!(updated.len() > 10 && changed.is_subset(&updated), "{changed:?}");
    embed(&out, &data.at("pictures/red_bar.png"), "red");
}

/// WiSE-FT of a half is the mean of start and end.
#[test]
fn weights_are_mixed_with_the_start() {
    let data = Data::new();
    let before = start(&data);
    for flags in [&["--part", "full"][..], &["--lora-rank", "2"]] {
        let run = |name: &str, more: &[&str]| {
            let out = format!("{name}{}", flags[0]);
            let flags = [flags, more, &["--max-steps", "4"]].concat();
            data.trained("finetune", &out, &flags).weights()
        };
        let (tuned, mixed) = (run("tuned", &[]), run("mixed", &["--wise-ft", "0.5"]));
        let mut far = 0.0f32;
        for (name, tuned) in &tuned {
            for ((tuned, mixed), old) in tuned.iter().zip(&mixed[name]).zip(&before[name]) {
                let mean = 0.5 * (tuned + old);
                assert!((mixed - mean).abs() <= 1e-6 * (1.0 + mean.abs()), "{name} {mixed} {mean}");
                far = far.max((tuned - old).abs());
            }
        }
        assert!(far > 1e-4, "nothing was tuned");
    }
}

/// Class numbers for names: the pre-check says what is wrong, and nothing is trained.
#[test]
fn class_numbers_are_refused() {
    let data = Data::new();
    for (n, colour) in ["red", "green", "blue"].iter().enumerate() {
        for shape in ["square", "bar"] {
            let bytes = std::fs::read(data.at(&format!("labelled/{colour}/{shape}.png"))).unwrap();
            data.write(&format!("numbers/{n}/{shape}.png"), bytes);
        }
    }
    let numbers = data.at("numbers");
    let outcome = data.train("finetune", "out", &["--data", &numbers, "--max-steps", "2"]).go();
    assert_eq!(outcome.status, Some(3), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("[E5010]"), "{}", outcome.stderr);

    // The same in captions, as FlagAI's example has them.
    let line = |n: usize| {
        let line = json!({ "image": "red_bar.png", "text": format!("{}", n % 3) });
        format!("{line}\n")
    };
    let file = data.write("numbers.jsonl", (0..24).map(line).collect::<String>());
    let outcome =
        data.train("contrastive", "captions", &["--pairs", &file, "--max-steps", "2"]).go();
    assert_eq!(outcome.status, Some(3), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("[E5012]"), "{}", outcome.stderr);
    let findings = data.out("captions").json("check.json");
    let finding = find(&findings, "numeric_captions");
    assert_eq!(finding["severity"], "error");
    assert!(finding["text"].as_str().unwrap().contains("100"), "{finding}");
}

fn find<'a>(findings: &'a Value, name: &str) -> &'a Value {
    let list = findings["findings"].as_array().unwrap();
    list.iter().find(|finding| finding["name"] == name).unwrap_or_else(|| panic!("{findings}"))
}

/// Ten captions over and over: what the loss cannot fall below is said in advance, as a number, and it is
/// the entropy that is left: with `n` copies of each of ten captions in a batch, `ln n`.
#[test]
fn the_floor_of_the_loss_is_explained() {
    let data = Data::new();
    let line = |n: usize| {
        let text = ["cat", "dog", "ship", "car", "deer", "frog", "horse", "bird", "truck", "plane"];
        let line = json!({ "image": "red_bar.png", "text": format!("a {}", text[n % 10]) });
        format!("{line}\n")
    };
    let file = data.write("ten.jsonl", (0..1000).map(line).collect::<String>());
    let flags = ["--pairs", &file, "--max-steps", "1", "--batch-size", "500", "--ignore-check"];
    data.trained("contrastive", "out", &flags);
    let findings = data.out("out").json("check.json");
    let floor = find(&findings, "loss_floor");
    let number = floor["number"].as_f64().unwrap();
    assert!((number - 50f64.ln()).abs() < 0.05, "{floor}");
    assert!(floor["text"].as_str().unwrap().contains(&format!("{number:.3}")), "{floor}");
    assert_eq!(find(&findings, "distinct_captions")["number"], 10.0);
}

/// After fine-tuning on names, different pictures still have different embeddings, and labels are told apart.
#[test]
fn a_tuned_model_does_not_collapse() {
    let data = Data::new();
    let flags = ["--max-steps", "80", "--batch-size", "12", "--augment", "none", "--lr", "2e-3"];
    let out = data.trained("finetune", "out", &flags);
    let colours = ["red", "green", "blue", "white", "black", "yellow"];
    let picture = |colour: &str| data.at(&format!("labelled/{colour}/circle.png"));
    let both = colours.map(|c| embed(&out, &picture(c), &format!("a photo of a {c}.")));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut right = 0;
    for (n, pair) in both.iter().enumerate() {
        let scores = both.iter().map(|other| dot(&pair[0], &other[1]));
        let best = scores.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
        right += usize::from(best == n);
        for other in &both[..n] {
            assert!(dot(&pair[0], &other[0]) < 0.99, "collapsed");
        }
    }
    assert!(right >= 5, "{right} of 6 colours");
}
