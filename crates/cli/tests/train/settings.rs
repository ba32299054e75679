//! Flags do what they say.

use crate::data::{Data, assert_same, distance, summary};
use serde_json::json;

/// A text file is used exactly as given: spaces, quotes, odd characters; the oracle is a JSONL file, which
/// another reader reads.
#[test]
fn lines_are_used_as_given() {
    let data = Data::new();
    let pairs = [
        ("  two spaces in front", "前面有空格 "),
        ("\"quoted\"", "“引号”"),
        ("a, comma; and 'marks'", "逗号，\"和\"引号"),
        ("Ünïcödé e\u{301}", "ｆｕｌｌ　ｗｉｄｔｈ"),
        ("trailing ", " leading"),
        ("#not a comment", "\\t no tab"),
    ];
    let lines = pairs.map(|(a, b)| format!("{a}\t{b}\n")).concat();
    let rows = pairs.map(|(a, b)| json!({ "source": a, "target": b }).to_string() + "\n").concat();
    let (tsv, jsonl) = (data.write("raw.tsv", lines), data.write("raw.jsonl", rows));
    let run = |out, file: &str| {
        data.trained("distill", out, &["--pairs", file, "--max-steps", "3", "--no-shuffle"])
            .losses()
    };
    let (a, b) = (run("a", &tsv), run("b", &jsonl));
    assert_eq!(a, b);
    let trimmed = pairs.map(|(a, b)| format!("{}\t{}\n", a.trim(), b.trim())).concat();
    let trimmed = data.write("trimmed.tsv", trimmed.replace('"', ""));
    assert_ne!(run("c", &trimmed), a, "the control");
}

#[test]
fn without_shuffling_the_file_says_the_order() {
    let data = Data::new();
    let text = data.out("pairs.tsv").0;
    let text = std::fs::read_to_string(text).unwrap();
    let first: String = text.lines().take(12).map(|line| format!("{line}\n")).collect();
    let first = data.write("first.tsv", first);
    let flags = ["--max-steps", "2", "--no-shuffle", "--seed"];
    let whole = data.trained("distill", "whole", &[&flags[..], &["1"]].concat());
    let part = data.trained("distill", "part", &[&flags[..], &["2", "--pairs", &first]].concat());
    assert_eq!(whole.losses(), part.losses());
    let shuffled = data.trained("distill", "shuffled", &["--max-steps", "2", "--seed", "1"]);
    assert_ne!(whole.losses(), shuffled.losses());
}

#[test]
fn an_identity_pair_is_a_line_with_the_sentence_twice() {
    let data = Data::new();
    let text = std::fs::read_to_string(data.out("pairs.tsv").0).unwrap();
    let twice = |line: &str| {
        let (source, _) = line.split_once('\t').unwrap();
        format!("{line}\n{source}\t{source}\n")
    };
    let written = data.write("written.tsv", text.lines().map(twice).collect::<String>());
    let flags = ["--max-steps", "8", "--no-shuffle"];
    let flag = data.trained("distill", "flag", &[&flags[..], &["--add-identity-pairs"]].concat());
    let file = data.trained("distill", "file", &[&flags[..], &["--pairs", &written]].concat());
    assert_eq!(flag.losses(), file.losses());
    assert_eq!(flag.read("model.safetensors"), file.read("model.safetensors"));
}

#[test]
fn texts_are_cut_at_the_longest_length() {
    let data = Data::new();
    let long = |n: usize| format!("{}\t{}\n", "red ".repeat(n), "红 ".repeat(n)).repeat(6);
    let file = data.write("long.tsv", long(200));
    let run = |out, flags: &[&str]| {
        let flags = [flags, &["--max-steps", "2", "--pairs", &file]].concat();
        data.trained("distill", out, &flags).losses()
    };
    let usual = run("usual", &[]);
    assert_eq!(run("same", &["--max-length", "75"]), usual);
    assert_ne!(run("shorter", &["--max-length", "9"]), usual);
}

#[test]
fn dropout_is_reproducible() {
    let data = Data::new();
    let run = |out, flags: &[&str]| {
        data.trained("distill", out, &[flags, &["--max-steps", "6"]].concat())
    };
    let (a, b) = (run("a", &["--dropout", "0.1"]), run("b", &["--dropout", "0.1"]));
    assert_same(&a, &b, "the same dropout");
    let (other, none) = (run("other", &["--dropout", "0.1", "--seed", "1"]), run("none", &[]));
    assert_ne!(a.losses(), other.losses());
    assert_ne!(a.losses(), none.losses());
}

#[test]
fn bf16_is_near_f32_and_its_file_half_as_large() {
    let data = Data::new();
    for kind in ["distill", "clip"] {
        let run = |name: &str, flags: &[&str]| {
            let flags = [flags, &["--max-steps", "6"]].concat();
            data.trained(kind, &format!("{kind}_{name}"), &flags)
        };
        let (f32, bf16) = (run("f32", &[]), run("bf16", &["--precision", "bf16", "--save-bf16"]));
        let (a, b) = (f32.losses(), bf16.losses());
        assert_ne!(a, b);
        assert!(distance(&a, &b) < 0.05 * a[0], "{a:?} {b:?}");
        let size = |out: &crate::data::Out| out.read("model.safetensors").len() as f64;
        assert!(size(&bf16) < 0.6 * size(&f32));
        crate::data::embed(&bf16, &data.at("pictures/red_bar.png"), "red");
    }
}

#[test]
fn memory_is_saved_without_a_change() {
    let data = Data::new();
    for (kind, precision) in [("distill", "f32"), ("clip", "bf16"), ("contrastive", "f32")] {
        let run = |name: &str, flags: &[&str]| {
            let flags = [flags, &["--max-steps", "5", "--precision", precision]].concat();
            data.trained(kind, &format!("{kind}_{name}"), &flags)
        };
        let (plain, again) = (run("plain", &[]), run("again", &["--checkpoint-activations"]));
        for file in ["model.safetensors", "metrics.jsonl"] {
            assert!(plain.read(file) == again.read(file), "{kind}: {file}");
        }
        if precision == "f32" {
            let chunks = run("chunks", &["--chunk-size", "4"]);
            let (a, b) = (plain.losses(), chunks.losses());
            assert!(distance(&a, &b) < 1e-5 * a[0], "{kind}: {a:?} {b:?}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let data = Data::new();
    let run =
        |threads: &str| data.trained("clip", threads, &["--max-steps", "5", "--threads", threads]);
    assert_same(&run("1"), &run("3"), "threads");
}

/// What is left is the best model, not the one that came behind it.
#[test]
fn a_run_that_ends_early_leaves_its_best_model() {
    let data = Data::new();
    let captions = data.at("captions.jsonl");
    let flags = ["--max-steps", "60", "--eval", &captions, "--eval-every", "2", "--lr", "0.5"];
    let early = data.trained("contrastive", "early", &[&flags[..], &["--patience", "2"]].concat());
    // What the model could before its first step stands beside what the data can teach.
    let baseline = early.json("check.json")["baseline"].clone();
    assert!(baseline["en/mean_recall"].is_f64(), "{baseline}");
    let best = early.text("BEST");
    let step: u64 = best.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap();
    let last = early.losses().len() as u64;
    assert_eq!(last, step + 4, "{best}");
    let weights = |file: &str, prefix: &str| {
        let bytes = early.read(file);
        let (length, rest) = bytes.split_at(8);
        let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
        let header: serde_json::Value = serde_json::from_slice(header).unwrap();
        let at = &header[format!("{prefix}text_projection.weight")]["data_offsets"];
        let at = |n: usize| at[n].as_u64().unwrap() as usize;
        data[at(0)..at(1)].to_vec()
    };
    let state = |step: u64| format!("checkpoints/step-{step:08}/state.safetensors");
    let model = weights("model.safetensors", "");
    assert!(model == weights(&state(step), "weight."));
    assert!(model != weights(&state(last), "weight."));
}

/// Nothing gets better at a learning rate of 0.
#[test]
fn a_run_without_progress_ends_early() {
    let data = Data::new();
    let captions = data.at("captions.jsonl");
    let mut flags =
        vec!["--max-steps", "20", "--eval", &captions, "--eval-every", "2", "--lr", "0"];
    flags.extend(["--patience", "3", "--json"]);
    let outcome = data.train("contrastive", "out", &flags).ok();
    let found = summary(&outcome);
    assert_eq!(found["end"], "early_stopping");
    assert_eq!(found["steps"], 6);
    let said = |line: &str| line.contains("[I6016]") && line.contains("since step 0");
    assert!(outcome.stderr.lines().any(said), "{}", outcome.stderr);
    let out = data.out("out");
    assert!(out.has("model.safetensors") && out.has("BEST"));
    // A run that was killed behind its end does not begin again.
    std::fs::remove_file(out.0.join("model.safetensors")).unwrap();
    flags.push("--resume");
    let found = summary(&data.train("contrastive", "out", &flags).ok());
    assert_eq!((found["end"].as_str(), found["steps"].as_u64()), (Some("early_stopping"), Some(6)));
    assert!(out.has("model.safetensors"));
}
