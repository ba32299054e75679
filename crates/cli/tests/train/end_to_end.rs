//! Each kind of training leaves a complete folder, and its settings make the same run again.

use crate::data::{Data, Out, assert_same, embed, summary};

/// What every finished run has.
fn assert_complete(data: &Data, out: &Out, steps: usize) {
    for file in ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"] {
        assert!(out.has(file), "{file}");
    }
    for file in ["config.toml", "check.json", "bad_batches.jsonl", "LATEST", "timings.jsonl"] {
        assert!(out.has(file), "{file}");
    }
    let log = out.text("metrics.jsonl");
    assert_eq!(log.lines().count(), steps);
    for (n, line) in log.lines().enumerate() {
        // The fields of the contract, in its order.
        let rest = line.strip_prefix(&format!("{{\"step\":{},\"loss\":", n + 1)).unwrap();
        let (_, rest) = rest.split_once(",\"lr\":").unwrap();
        let (lr, norm) = rest.split_once(",\"grad_norm\":").unwrap();
        assert!(lr.parse::<f64>().unwrap() >= 0.0);
        let norm: f64 = norm.split([',', '}']).next().unwrap().parse().unwrap();
        assert!(norm > 0.0, "{line}");
    }
    let page = out.text("report.html");
    assert!(page.contains("<svg") && !page.contains("http://") && !page.contains("https://"));
    let names = std::fs::read_dir(&out.0).unwrap().map(|e| e.unwrap().file_name());
    let events =
        |name: std::ffi::OsString| name.to_string_lossy().starts_with("events.out.tfevents");
    assert!(names.into_iter().any(events), "TensorBoard");
    let vectors = embed(out, &data.at("pictures/red_bar.png"), "a red bar");
    assert_eq!(vectors[0].len(), vectors[1].len());
    for vector in vectors {
        let length: f64 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }
}

/// Trains, looks at everything, and trains again from the settings that were saved.
fn end_to_end(kind: &str, flags: &[&str]) {
    let data = Data::new();
    let flags = [flags, &["--max-steps", "12", "--json"]].concat();
    let outcome = data.train(kind, "out", &flags).ok();
    let out = data.out("out");
    let found = summary(&outcome);
    assert_eq!(found["kind"], kind);
    assert_eq!(found["steps"], 12);
    assert_eq!(found["end"], "finished");
    assert_eq!(found["bad_batches"], 0);
    assert_eq!(found["loss"].as_f64().unwrap(), *out.losses().last().unwrap());
    assert_complete(&data, &out, 12);
    let losses = out.losses();
    // An epoch is four steps.
    let epoch = |n: usize| losses[n..n + 4].iter().sum::<f64>();
    assert!(epoch(8) < epoch(0), "nothing was learned: {losses:?}");

    let (config, other) = (data.at("out/config.toml"), data.at("other"));
    crate::support::child::altclip(["train", kind, "--config", &config, "--out", &other])
        .address_space_mib(4096)
        .ok();
    assert_same(&out, &data.out("other"), "a run from config.toml");
    // A finished run that is asked to go on says so and changes nothing.
    data.train(kind, "out", &[&flags[..], &["--resume"]].concat()).ok();
    assert_same(&data.out("other"), &out, "a finished run");
}

#[test]
fn distill() {
    end_to_end("distill", &["--lr-schedule", "cosine", "--warmup-steps", "2"]);
}

#[test]
fn distill_from_random() {
    let data = Data::new();
    let student = data.at("student");
    let out = data.trained("distill", "out", &["--student", &student, "--max-steps", "4"]);
    assert_complete(&data, &out, 4);
    // What is not trained is the teacher's, bit for bit.
    let teacher =
        crate::data::tensors(&std::path::Path::new(&data.model("clip")).join("model.safetensors"));
    let weights = out.weights();
    for (name, values) in &teacher {
        if name.starts_with("vision_model.") || name.contains("projection") || name == "logit_scale"
        {
            assert_eq!(weights[name], *values, "{name}");
        }
    }
}

#[test]
fn distill_from_an_altclip() {
    let data = Data::new();
    let model = data.model("alt_l");
    let flags = ["--teacher", &model, "--student", &model, "--max-steps", "4"];
    let out = data.trained("distill", "out", &flags);
    assert_complete(&data, &out, 4);
}

#[test]
fn contrastive() {
    let eval = ["--chunk-size", "4", "--eval-every", "6", "--eval"];
    let data = Data::new();
    let captions = data.at("captions.jsonl");
    let out = data.trained(
        "contrastive",
        "measured",
        &[&eval[..], &[&captions, "--max-steps", "12"]].concat(),
    );
    let log = out.text("metrics.jsonl");
    assert!(log.lines().nth(5).unwrap().contains("\"eval/en/"), "{log}");
    end_to_end("contrastive", &["--optimizer", "stable-adamw"]);
}

#[test]
fn clip() {
    end_to_end("clip", &["--augment", "crop", "--lr-schedule", "linear"]);
}

#[test]
fn finetune() {
    end_to_end("finetune", &["--augment", "strong"]);
}
