//! The interfaces that stay fixed, called from outside exactly as they are written down.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]
// The suites share `support`, and each needs another part of it.
#![allow(dead_code)]

mod eval;
mod families;
mod index;
mod retrieval;
mod serve;
mod shards;

#[path = "../support/mod.rs"]
mod support;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use serde_json::Value;
use std::path::Path;
use support::child::altclip;
use support::folder::{Folder, golden, golden_json};

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn picture(name: &str) -> String {
    golden("alt_l").join(name).to_string_lossy().into_owned()
}

fn model(folder: &Folder) -> String {
    folder.dir().to_string_lossy().into_owned()
}

#[test]
fn embed_answers_in_typed_order_whatever_the_flags() {
    let folder = Folder::new("alt_l");
    let (model, rings, checks) = (model(&folder), picture("rings.png"), picture("checks.png"));
    let texts = folder.write("texts.txt", "第一行\r\nsecond line\n");
    let texts = texts.to_string_lossy();
    let args =
        ["embed", "--model", &model, "--image", &rings, "--text", "一只猫", "--texts", &texts];
    let rows =
        altclip(args.iter().chain(&["--image", &checks, "--text", "a dog", "--json"])).ok().rows();
    let found: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (row["kind"].as_str().unwrap(), row["input"].as_str().unwrap()))
        .collect();
    let expected = [
        ("image", &*rings),
        ("text", "一只猫"),
        ("text", "第一行"),
        ("text", "second line"),
        ("image", &*checks),
        ("text", "a dog"),
    ];
    assert_eq!(found, expected);
    for row in &rows {
        let vector = numbers(&row["embedding"]);
        assert!((dot(&vector, &vector) - 1.0).abs() < 1e-5, "{} is not of length 1", row["input"]);
        assert_eq!(row.as_object().unwrap().len(), 3);
    }
    let raw = altclip([
        "embed",
        "--model",
        &model,
        "--text",
        "一只猫",
        "--no-normalize",
        "--precision",
        "f32",
        "--json",
    ])
    .ok();
    let raw = numbers(&raw.rows()[0]["embedding"]);
    let length = dot(&raw, &raw).sqrt();
    assert!((length - 1.0).abs() > 1e-3, "length {length}");
    let normed = numbers(&rows[1]["embedding"]);
    assert!(raw.iter().zip(&normed).all(|(raw, normed)| (raw / length - normed).abs() < 1e-6));
}

#[test]
fn an_empty_file_has_no_text() {
    let folder = Folder::new("alt_l");
    for (bytes, rows) in [("", 0), ("\u{feff}", 0), ("\n", 1), ("a\n\nb", 3)] {
        let file = folder.write("texts.txt", bytes).to_string_lossy().into_owned();
        let found =
            altclip(["embed", "--model", &model(&folder), "--texts", &file, "--json"]).ok().rows();
        assert_eq!(found.len(), rows, "{bytes:?}");
    }
}

#[test]
fn a_folder_is_walked_and_bad_files_are_rows() {
    let folder = Folder::new("alt_l");
    let pictures = tempfile::tempdir().unwrap();
    std::fs::create_dir(pictures.path().join("b")).unwrap();
    for (from, to) in [("rings.png", "b/鳥 1.png"), ("checks.png", "c.PNG")] {
        std::fs::copy(golden("alt_l").join(from), pictures.path().join(to)).unwrap();
    }
    std::fs::write(pictures.path().join("a.jpg"), "not a picture").unwrap();
    let (model, dir) = (model(&folder), pictures.path().to_string_lossy().into_owned());
    let run = |max_bad: &str| {
        altclip(["embed", "--model", &model, "--image", &dir, "--max-bad", max_bad, "--json"]).go()
    };
    let outcome = run("0");
    assert_eq!(outcome.status, Some(3));
    let rows = outcome.rows();
    let names: Vec<&str> =
        rows.iter().map(|row| &row["input"].as_str().unwrap()[dir.len()..]).collect();
    assert_eq!(names, ["/a.jpg", "/b/鳥 1.png", "/c.PNG"]);
    assert_eq!(rows[0]["error"]["code"], "E4001");
    assert!(rows[0]["error"]["message"].is_string() && rows[0]["kind"] == "image");
    assert!(rows[1]["embedding"].is_array() && rows[2]["embedding"].is_array());
    assert_eq!(
        (run("1").status, run("34%").status, run("33%").status),
        (Some(0), Some(0), Some(3))
    );
}

#[test]
fn many_pictures_keep_their_order_among_bad_ones() {
    let folder = Folder::new("alt_l");
    let pictures = tempfile::tempdir().unwrap();
    for n in 0..60 {
        let path = pictures.path().join(format!("{n:02}.png"));
        match n % 4 {
            0 => drop(std::fs::copy(golden("alt_l").join("rings.png"), path)),
            1 => drop(std::fs::copy(golden("alt_l").join("checks.png"), path)),
            2 => std::fs::write(path, "not a picture").unwrap(),
            _ => std::fs::write(path, "").unwrap(),
        }
    }
    let (model, dir) = (model(&folder), pictures.path().to_string_lossy().into_owned());
    let one = |name: &str| {
        altclip(["embed", "--model", &model, "--image", &picture(name), "--json"]).ok().rows()[0]
            ["embedding"]
            .clone()
    };
    let expected = [one("rings.png"), one("checks.png")];
    for threads in ["1", "2", "5"] {
        let args = ["embed", "--model", &model, "--image", &dir, "--threads", threads, "--json"];
        let outcome = altclip(args).go();
        let rows = outcome.rows();
        assert_eq!((outcome.status, rows.len()), (Some(3), 60));
        for (n, row) in rows.iter().enumerate() {
            assert!(row["input"].as_str().unwrap().ends_with(&format!("{n:02}.png")));
            match expected.get(n % 4) {
                Some(expected) => assert_eq!(row["embedding"], *expected),
                None => assert_eq!(row["error"]["code"], "E4001"),
            }
        }
    }
}

#[test]
fn bench_of_a_folder_says_what_was_measured() {
    let folder = Folder::new("alt_l");
    let pictures = tempfile::tempdir().unwrap();
    let dir = pictures.path().to_string_lossy().into_owned();
    let bench = |precision| {
        let args = ["bench", "--model", &model(&folder), "--images", &dir];
        altclip(args.iter().chain(&["--precision", precision, "--json"])).go()
    };
    assert_eq!(bench("f32").status, Some(7), "an empty folder");
    for n in 0..9 {
        let path = pictures.path().join(format!("{n}.png"));
        std::fs::copy(golden("alt_l").join("rings.png"), path).unwrap();
    }
    std::fs::write(pictures.path().join("bad.png"), "not a picture").unwrap();
    for precision in ["f32", "bf16", "int8"] {
        let rows = bench(precision).rows();
        let row = &rows[0];
        assert_eq!(rows.len(), 1);
        assert_eq!((&row["tower"], &row["mode"]), (&"image".into(), &"end_to_end".into()));
        assert_eq!(row["precision"], precision);
        assert_eq!(row["items"], 10);
        assert_eq!((&row["errors"], &row["threads"]), (&1.into(), &2.into()));
        for number in ["seconds_per_item", "encoder_seconds_per_item", "ratio"] {
            assert!(row[number].as_f64().unwrap() > 0.0, "{number}");
        }
    }
}

#[test]
fn truncation_is_never_silent() {
    let folder = Folder::new("alt_l");
    let (model, long) = (model(&folder), "cat ".repeat(100));
    let outcome =
        altclip(["embed", "--model", &model, "--text", &long, "--max-length", "10", "--json"]).ok();
    assert_eq!(outcome.rows()[0]["truncated"], true);
    assert!(outcome.rows()[0]["tokens_total"].as_u64().unwrap() > 100);
    assert!(outcome.stderr.contains("W3107"), "{}", outcome.stderr);
    let row = &altclip(["tokenize", "--model", &model, "--json", "--", &long]).ok().rows()[0];
    let ids = row["input_ids"].as_array().unwrap();
    assert_eq!(
        (ids.len(), &ids[0], &ids[76], &row["truncated"]),
        (77, &0.into(), &2.into(), &true.into())
    );
}

#[test]
fn tokenize_gives_the_golden_ids() {
    let folder = Folder::new("alt_l");
    let rows = altclip(["tokenize", "--model", &model(&folder), "--json", "--", "一只猫", "-x"])
        .ok()
        .rows();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["input"], "一只猫");
    assert_eq!(
        rows[0]["attention_mask"].as_array().unwrap().len(),
        rows[0]["input_ids"].as_array().unwrap().len()
    );
    assert_eq!(rows[0]["truncated"], false);
    assert_eq!(rows[1]["input"], "-x");
}

#[test]
fn classify_agrees_with_embed() {
    let folder = Folder::new("alt_l");
    let (model, rings) = (model(&folder), picture("rings.png"));
    let labels = ["红色", "blau", "a dog"];
    let args = [
        "classify", "--model", &model, "--label", labels[0], "--label", labels[1], "--label",
        labels[2], &rings, "--json",
    ];
    let row = &altclip(args).ok().rows()[0];
    assert_eq!(row["input"], *rings);
    let cells = row["labels"].as_array().unwrap();
    assert_eq!(
        cells.iter().map(|cell| cell["label"].as_str().unwrap()).collect::<Vec<_>>(),
        labels
    );
    let sum: f64 = cells.iter().map(|cell| cell["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-6);
    let embeds =
        altclip(["embed", "--model", &model, "--image", &rings, "--text", labels[0], "--json"])
            .ok()
            .rows();
    let cosine = dot(&numbers(&embeds[0]["embedding"]), &numbers(&embeds[1]["embedding"]));
    let similar = &altclip([
        "similarity",
        "--model",
        &model,
        "--image",
        &rings,
        "--text",
        labels[0],
        "--json",
    ])
    .ok()
    .rows()[0];
    assert!((similar["cosine"].as_f64().unwrap() - cosine).abs() < 1e-6);
    assert!(
        (similar["logit"].as_f64().unwrap() - cells[0]["logit"].as_f64().unwrap()).abs() < 1e-4
    );
    let with_template = altclip(args.iter().chain(&["--template", "一张{}的照片"])).ok();
    assert_ne!(with_template.rows()[0]["labels"][0]["logit"], cells[0]["logit"]);
}

#[test]
fn preprocess_writes_numpys_format() {
    let folder = Folder::new("alt_l");
    let (model, out) = (model(&folder), folder.path("x.npy"));
    let shown = out.to_string_lossy().into_owned();
    altclip(["preprocess", "--model", &model, &picture("rings.png"), "--out", &shown]).ok();
    let bytes = std::fs::read(&out).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    let header = String::from_utf8_lossy(&bytes[10..128]).into_owned();
    assert!(
        header.contains("'descr': '<f4'") && header.contains("'shape': (3, 32, 32)"),
        "{header}"
    );
    assert_eq!(bytes.len(), 128 + 4 * 3 * 32 * 32);
}

#[test]
fn info_names_what_the_folder_holds() {
    let folder = Folder::new("alt_l");
    folder.copy("alt_l/config_legacy.json", "config.json");
    let info = &altclip(["info", "--model", &model(&folder), "--json"]).ok().rows()[0];
    assert_eq!((&info["family"], &info["dtype"]), (&"altclip".into(), &"F32".into()));
    assert_eq!(
        info["sizes"]["vision"]["patch_size"],
        golden_json("alt_l/config.json")["vision_config"]["patch_size"]
    );
    assert_eq!(info["sizes"]["text"]["hidden_act"], "gelu");
    assert_eq!(info["sizes"]["vision"]["hidden_act"], "quick_gelu");
    assert!(info["parameters"].as_u64().unwrap() > 10_000);
    assert_eq!(info["files"][0]["format"], "safetensors");
    assert!(!info["conflicts"].as_array().unwrap().is_empty());
    assert!(info["languages"].is_null() && info["problems"].as_array().unwrap().is_empty());
}

#[test]
fn a_dump_is_laid_out_as_clip_retrieval_reads_it() {
    let folder = Folder::new("alt_l");
    let out = folder.path("dump");
    let (model, shown) = (model(&folder), out.to_string_lossy().into_owned());
    let (rings, checks) = (picture("rings.png"), picture("checks.png"));
    let args = [
        "embed", "--model", &model, "--image", &rings, "--image", &checks, "--format", "npy",
        "--out", &shown,
    ];
    altclip(args.iter().chain(&["--text", "rings", "--text", "checks"])).ok();
    for array in ["img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy"] {
        let bytes = std::fs::read(out.join(array)).unwrap();
        assert!(String::from_utf8_lossy(&bytes[10..128]).contains("'shape': (2, 20)"), "{array}");
        assert_eq!(bytes.len(), 128 + 2 * 20 * 4);
    }
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!((&manifest["dtype"], &manifest["normalized"]), (&"float32".into(), &true.into()));
    assert_eq!(captions(&out.join("metadata/metadata_0.parquet")), ["rings", "checks"]);
    // A second run must not touch the first.
    assert_eq!(altclip(args).go().status, Some(2));
}

fn captions(table: &Path) -> Vec<String> {
    let file = std::fs::File::open(table).unwrap();
    let rows = SerializedFileReader::new(file).unwrap();
    rows.get_row_iter(None)
        .unwrap()
        .map(|row| row.unwrap().get_string(1).unwrap().clone())
        .collect()
}

#[test]
fn without_a_model_the_help_names_one() {
    let outcome = altclip(["embed", "--text", "a"]).without_env("ALTCLIP_MODEL").go();
    assert_eq!(outcome.status, Some(2));
    assert!(
        outcome.stderr.contains("E1002") && outcome.stderr.contains("BAAI/AltCLIP"),
        "{}",
        outcome.stderr
    );
    let folder = Folder::new("alt_l");
    altclip(["embed", "--text", "a", "--json"]).env("ALTCLIP_MODEL", model(&folder)).ok();
}

#[test]
fn every_command_has_help_with_an_example() {
    let commands = [
        "embed",
        "classify",
        "similarity",
        "tokenize",
        "preprocess",
        "info",
        "download",
        "bench",
        "doctor",
        "convert",
        "completions",
    ];
    for command in commands {
        assert!(altclip([command, "--help"]).ok().text().contains("Example"), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(altclip(["completions", shell]).ok().text().contains("altclip"), "{shell}");
    }
    assert_eq!(altclip(["completions", "bash"]).with_reader_that_leaves().status, Some(0));
}

/// A converted copy of a folder's model, in the folder.
fn converted(folder: &Folder, precision: &str) -> String {
    let out = folder.path("model.altclip").to_string_lossy().into_owned();
    let (model, precision) = (model(folder), ["--precision", precision]);
    let args = ["convert", "--model", &model, "--out", &out, "--overwrite", "--json"];
    let row = &altclip(args.iter().chain(&precision)).ok().rows()[0];
    assert_eq!(row["bytes"].as_u64(), Some(std::fs::metadata(&out).unwrap().len()));
    assert_eq!((&row["packed"]["precision"], &row["out"]), (&precision[1].into(), &(*out).into()));
    out
}

#[test]
fn a_packed_file_serves_every_command() {
    let folder = Folder::new("alt_l");
    let (rings, checks) = (picture("rings.png"), picture("checks.png"));
    for precision in ["bf16", "int8"] {
        let (from, file) = (model(&folder), converted(&folder, precision));
        let pixels = folder.path("x.npy").to_string_lossy().into_owned();
        let with = |model: &str, args: &[&str]| {
            let model = ["--model", model, "--json"];
            altclip(args.iter().chain(&model)).ok().text().to_string()
        };
        let precise = ["--precision", precision, "--no-cache"];
        for args in [
            &["embed", "--text", "一只猫", "--image", &rings][..],
            &["classify", "--label", "猫", "--label", "a dog", &rings, &checks],
            &["similarity", "--text", "一只猫", "--text", "a dog"],
        ] {
            let expected = with(&from, &[args, &precise].concat());
            assert_eq!(with(&file, args), expected, "{args:?}");
            assert_eq!(with(&file, &[args, &precise].concat()), expected, "{args:?}");
        }
        assert_eq!(with(&file, &["tokenize", "一只猫"]), with(&from, &["tokenize", "一只猫"]));
        let preprocess = ["preprocess", &rings, "--out", &pixels, "--overwrite"];
        assert_eq!(with(&file, &preprocess), with(&from, &preprocess));

        let info = &altclip(["info", "--model", &file, "--json"]).ok().rows()[0];
        let of_folder = &altclip(["info", "--model", &from, "--json"]).ok().rows()[0];
        for field in ["family", "sizes", "parameters"] {
            assert_eq!(info[field], of_folder[field], "{field}");
        }
        assert_eq!(info["files"][0]["format"], "altclip");
        assert_eq!(
            (&info["packed"]["precision"], &info["packed"]["version"]),
            (&precision.into(), &"1".into())
        );
        assert_eq!(info["packed"]["fingerprint"].as_str().unwrap().len(), 32);
        assert!(of_folder["packed"].is_null());
        assert!(altclip(["info", "--model", &file]).ok().text().contains("products in bf16"));
        let rows = altclip(["doctor", "--model", &file, "--full", "--json"]).ok().rows();
        assert!(rows.iter().all(|row| row["ok"] == true), "{rows:?}");
    }
}

#[test]
fn convert_refuses_what_would_be_lost() {
    let folder = Folder::new("alt_l");
    let (from, file) = (model(&folder), converted(&folder, "int8"));
    let before = std::fs::read(&file).unwrap();
    let convert = |model: &str, out: &str| {
        altclip(["convert", "--model", model, "--precision", "int8", "--out", out]).go()
    };
    let weights = folder.path("model.safetensors").to_string_lossy().into_owned();
    let other = folder.path("other.altclip").to_string_lossy().into_owned();
    for (outcome, code) in [
        (convert(&from, &file), "E1003"),
        (convert(&from, &weights), "E1001"),
        (convert(&file, &other), "E1001"),
        (
            altclip(["convert", "--model", &from, "--precision", "f32", "--out", &other]).go(),
            "E1001",
        ),
    ] {
        assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(code), "{}", outcome.stderr);
    }
    assert!(std::fs::read(&file).unwrap() == before && !folder.path("other.altclip").exists());
}

#[test]
fn the_cache_is_where_the_variables_say() {
    let folder = Folder::new("alt_l");
    let home = tempfile::tempdir().unwrap();
    let files =
        |dir: &str| std::fs::read_dir(home.path().join(dir)).map_or(0, |dir| dir.flatten().count());
    let model = model(&folder);
    let embed =
        || altclip(["embed", "--model", &model, "--text", "a", "--precision", "int8", "--json"]);
    let at_home = |run: support::child::Run| run.env("HOME", home.path());
    let without = |run: support::child::Run| run.without_env("ALTCLIP_CACHE");
    let first = at_home(without(embed())).without_env("XDG_CACHE_HOME").ok();
    assert_eq!(files(".cache/altclip"), 1);
    at_home(without(embed())).env("XDG_CACHE_HOME", home.path().join("xdg")).ok();
    assert_eq!(files("xdg/altclip"), 1);
    let again = at_home(embed()).env("ALTCLIP_CACHE", home.path().join("own")).ok();
    assert_eq!((files("own"), again.text()), (1, first.text()));

    let elsewhere = home.path().join("none");
    let args =
        ["embed", "--model", &model, "--text", "a", "--precision", "int8", "--json", "--no-cache"];
    assert_eq!(altclip(args).env("ALTCLIP_CACHE", &elsewhere).ok().text(), first.text());
    assert!(!elsewhere.exists());
}

#[test]
fn a_killed_conversion_leaves_the_old_file_or_the_new_one() {
    let folder = Folder::new("alt_l");
    let (from, file) = (model(&folder), converted(&folder, "int8"));
    let answer = |file: &str| {
        altclip(["embed", "--model", file, "--text", "a", "--json"]).ok().text().to_string()
    };
    let old = answer(&file);
    for delay_us in (0..20_000).step_by(500) {
        let mut child = std::process::Command::new(support::child::ALTCLIP)
            .args([
                "convert",
                "--model",
                &from,
                "--precision",
                "int8",
                "--overwrite",
                "--out",
                &file,
            ])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(delay_us));
        child.kill().unwrap();
        child.wait().unwrap();
        let rows = altclip(["info", "--model", &file, "--json"]).ok().rows();
        assert_eq!(rows[0]["packed"]["precision"], "int8");
    }
    assert_eq!(answer(&file), old);
}

#[test]
fn doctor_reads_every_weight() {
    let folder = Folder::new("alt_h");
    let rows = altclip(["doctor", "--model", &model(&folder), "--full", "--json"]).ok().rows();
    assert!(rows.iter().all(|row| row["ok"] == true), "{rows:?}");
    assert!(rows.iter().any(|row| row["check"] == "weights"));
}

#[test]
fn bench_prints_a_line_a_tower_with_the_agreed_names() {
    let folder = Folder::new("alt_l");
    let model = model(&folder);
    for precision in ["f32", "bf16", "int8"] {
        let args = ["bench", "--model", &model, "--precision", precision, "--batch", "2"];
        let rows = altclip(args.iter().chain(&["--tokens", "5", "--threads", "2", "--json"])).ok();
        let rows = rows.rows();
        let towers: Vec<_> = rows.iter().map(|row| row["tower"].as_str().unwrap()).collect();
        assert_eq!(towers, ["image", "text"]);
        for row in &rows {
            assert_eq!(row["precision"], precision);
            assert_eq!((&row["batch"], &row["threads"]), (&2.into(), &2.into()));
            for name in ["seconds_per_item", "gflops", "peak_gflops"] {
                assert!(row[name].as_f64().unwrap() > 0.0, "{name}");
            }
        }
        assert_eq!(rows[1]["tokens"], 5);
    }
    let lengths = ["bench", "--model", &model, "--tower", "text", "--lengths", "2..9"];
    let rows = altclip(lengths.iter().chain(&["--texts", "7", "--batch", "3", "--json"])).ok();
    assert_eq!(rows.rows()[0]["tokens"], "mixed");
}

#[test]
fn doctor_tells_how_far_reduced_precisions_are() {
    let folder = Folder::new("alt_l");
    let args = ["doctor", "--model", &model(&folder), "--accuracy", "--json"].map(str::to_owned);
    let rows = altclip(args.iter()).ok().rows();
    let found: Vec<_> = rows.iter().filter(|row| row["check"] == "accuracy").collect();
    assert_eq!(found.len(), 2);
    for (row, precision) in found.iter().zip(["bf16", "int8"]) {
        let numbers = &row["numbers"];
        assert_eq!(numbers["precision"], precision);
        assert!(numbers["image"]["mean_cosine"].as_f64().unwrap() > 0.999);
        assert!(numbers["text"]["worst_cosine"].as_f64().unwrap() > 0.99);
        assert!(numbers["top1_agreement"].as_f64().unwrap() > 0.5);
    }
    // A packed file has no f32 weights: it says what to do instead.
    let file = folder.dir().join("a.altclip").display().to_string();
    let args = ["convert", "--model", &model(&folder), "--precision", "bf16", "--out", &file];
    altclip(args.map(str::to_owned).iter()).ok();
    let args = ["doctor", "--model", &file, "--accuracy", "--json"].map(str::to_owned);
    let rows = altclip(args.iter()).go().rows();
    let row = rows.iter().find(|row| row["check"] == "accuracy").unwrap();
    assert_eq!(row["problems"][0]["code"], "E2109");
    assert!(row["problems"][0]["help"].as_str().unwrap().contains("model folder"));
}
