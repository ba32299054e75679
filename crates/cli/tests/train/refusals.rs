//! What a run refuses and what it endures: the rows TR and DS of the contract through the built command.

use crate::data::{Data, Out};
use crate::support::child::{Outcome, Run, altclip};
use crate::support::folder::golden_bytes;
use altclip_report::Code;
use serde_json::json;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// A row: what is run, and what must come of it. Without a code it must succeed.
struct Row {
    name: &'static str,
    code: Option<Code>,
    parts: &'static [&'static str],
    run: fn(&Data) -> Run,
}

fn row(
    name: &'static str,
    code: impl Into<Option<Code>>,
    parts: &'static [&'static str],
    run: fn(&Data) -> Run,
) -> Row {
    Row { name, code: code.into(), parts, run }
}

impl Row {
    fn check(&self) -> Result<(), String> {
        let data = Data::new();
        let outcome = (self.run)(&data).go();
        let seen = format!("{:?} {}", outcome.status, outcome.stderr);
        let exit = self.code.map_or(0, |code| i32::from(code.exit_status()));
        if outcome.status != Some(exit) {
            return Err(format!("expected {exit}: {seen}"));
        }
        let code = self.code.map_or(String::new(), |code| format!("[{code}]"));
        // A run that ends well says on stdout what it endured.
        let all = outcome.stderr.lines().chain(outcome.text().lines());
        let mut lines = all.filter(|line| line.contains(&code));
        let fits = |line: &str| self.parts.iter().all(|part| line.contains(part));
        if !lines.any(fits) {
            return Err(format!("no line with {code} and {:?}: {seen}", self.parts));
        }
        if let (true, Some(fault)) = (self.code.is_some(), reports_fault(&outcome)) {
            return Err(fault);
        }
        Ok(())
    }
}

/// Reports among the lines for people, of which each must keep the contract.
fn reports_fault(outcome: &Outcome) -> Option<String> {
    let is_report = |line: &&str| line.starts_with("error[") || line.starts_with("warning[");
    let stderr: Vec<&str> = outcome.stderr.lines().filter(is_report).collect();
    let only = Outcome { status: None, stdout: Vec::new(), stderr: stderr.join("\n") };
    only.fault_of_stderr()
}

/// Captions with these rows in front of the sound ones.
fn captions(data: &Data, rows: &[String]) -> String {
    let sound = std::fs::read_to_string(data.at("captions.jsonl")).unwrap();
    data.write("bad.jsonl", rows.concat() + &sound)
}

fn contrastive(data: &Data, pairs: &str, flags: &[&str]) -> Run {
    let steps: &[&str] = if flags.contains(&"--max-steps") { &[] } else { &["--max-steps", "5"] };
    data.train("contrastive", "out", &[&["--pairs", pairs], steps, flags].concat())
}

fn distill(data: &Data, flags: &[&str]) -> Run {
    data.train("distill", "out", &[&["--max-steps", "4"], flags].concat())
}

/// A CLIP from random numbers whose configuration has another number somewhere.
fn clip_with(data: &Data, pointer: &str, number: u64) -> Run {
    let path = data.at("clip/config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    *config.pointer_mut(pointer).unwrap() = json!(number);
    std::fs::write(&path, config.to_string()).unwrap();
    data.train("clip", "out", &["--max-steps", "1"])
}

fn entry(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
    let mut head = vec![0u8; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..108].copy_from_slice(b"0000644\0");
    head[108..116].copy_from_slice(b"0000000\0");
    head[116..124].copy_from_slice(b"0000000\0");
    head[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    head[136..148].copy_from_slice(b"00000000000\0");
    head[148..156].copy_from_slice(b"        ");
    head[156] = kind;
    head[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = [&head[..], data].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A tar of all pictures with their captions; a second one is good.
fn shards(data: &Data, first: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    let mut tar = Vec::new();
    for colour in ["red", "green", "blue", "white", "black", "yellow"] {
        for shape in ["square", "circle", "bar", "cross"] {
            let picture =
                std::fs::read(data.at(&format!("pictures/{colour}_{shape}.png"))).unwrap();
            let key = format!("{colour}{shape}");
            tar.extend(entry(&format!("{key}.png"), b'0', &picture));
            tar.extend(entry(&format!("{key}.txt"), b'0', format!("{colour} {shape}").as_bytes()));
        }
    }
    tar.extend([0; 1024]);
    data.write("shards/00001.tar", &tar);
    data.write("shards/00000.tar", first(tar));
    format!("webdataset:{}", data.at("shards"))
}

/// A folder with files of a golden model of another family, and a tokenizer.
fn family(data: &Data, name: &str, files: &[&str]) -> String {
    for file in files {
        data.write(&format!("{name}/{file}"), golden_bytes(&format!("families/{name}/{file}")));
    }
    data.write(&format!("{name}/vocab.txt"), golden_bytes("tokenizer_bert/vocab.txt"));
    let preprocessor = r#"{"size": {"height": 24, "width": 24}, "do_center_crop": false}"#;
    data.write(&format!("{name}/preprocessor_config.json"), preprocessor);
    data.at(name)
}

/// CN-CLIP in the Hub's layout trains, and what it leaves is a CN-CLIP.
#[test]
fn chinese_clip_trains() {
    let data = Data::new();
    let model = family(&data, "chinese_clip", &["config.json", "model.safetensors"]);
    let flags = ["--max-steps", "8", "--model", &model, "--max-length", "32", "--lr", "1e-3"];
    let run = contrastive(&data, &data.at("captions.jsonl"), &flags).go();
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let out = data.out("out");
    let losses = out.losses();
    assert!(losses[7] < losses[0], "{losses:?}");
    assert_eq!(out.json("config.json")["model_type"], "chinese_clip");
    let (images, folder) = (data.at("pictures"), data.at("out"));
    let set = format!("jsonl:{}", data.at("captions.jsonl"));
    let args = ["eval", "retrieval", "--model", &folder, "--dataset", &set, "--images", &images];
    let found = altclip(args.iter().chain(&["--json", "--no-cache"])).ok().rows().remove(0);
    assert_eq!((&found["model"], &found["images"]), (&"chinese_clip".into(), &24.into()));
}

fn rows() -> Vec<Row> {
    let mut rows = datasets();
    rows.extend(bounds());
    rows.extend(settings());
    rows
}

/// A picture that is a symbolic link, as a row of captions.
fn link(data: &Data) -> String {
    let picture = data.at("pictures/link.png");
    std::os::unix::fs::symlink(data.at("pictures/red_bar.png"), picture).unwrap();
    json!({ "image": "link.png", "text": "a" }).to_string() + "\n"
}

fn datasets() -> Vec<Row> {
    vec![
        row("DS1 a shard that is cut", Code::E5007, &["damaged shard"], |data| {
            let pairs = shards(data, |tar| tar[..tar.len() / 2].to_vec());
            contrastive(data, &pairs, &["--max-steps", "30"])
        }),
        row("DS1 within the bound", None, &["damaged shard"], |data| {
            let pairs = shards(data, |tar| tar[..tar.len() / 2].to_vec());
            contrastive(data, &pairs, &["--max-steps", "30", "--max-bad", "10%"])
        }),
        row("DS2 a path that leaves the folder", Code::E5007, &["forbidden path"], |data| {
            let bad = json!({ "image": "../captions.jsonl", "text": "a" }).to_string() + "\n";
            let pairs = captions(data, &[bad]);
            contrastive(data, &pairs, &[])
        }),
        row("DS2 a link", Code::E5007, &["forbidden path", "cp -rL"], |data| {
            let bad = link(data);
            let pairs = captions(data, &[bad]);
            contrastive(data, &pairs, &[])
        }),
        row("DS2 nothing but links", Code::E5012, &["symbolic link", "cp -rL"], |data| {
            let bad = link(data);
            let pairs = data.write("bad.jsonl", bad.repeat(30));
            contrastive(data, &pairs, &[])
        }),
        row("DS3 a picture that is missing", Code::E5007, &["missing image"], |data| {
            let bad = json!({ "image": "none.png", "text": "a" }).to_string() + "\n";
            let pairs = captions(data, &[bad]);
            contrastive(data, &pairs, &[])
        }),
        row("DS3 no text", Code::E5007, &["no text"], |data| {
            let bad = json!({ "image": "red_bar.png", "text": "" }).to_string() + "\n";
            let pairs = captions(data, &[bad]);
            contrastive(data, &pairs, &[])
        }),
        row("DS4 a line that is no JSON", Code::E5007, &["broken line"], |data| {
            let pairs = captions(data, &["{\"image\": \"red_bar.png\", \"text\": }\n".into()]);
            contrastive(data, &pairs, &[])
        }),
        row("DS4 a line of TSV without a tab", Code::E5007, &["broken line"], |data| {
            let sound = std::fs::read_to_string(data.at("pairs.tsv")).unwrap();
            let pairs = data.write("bad.tsv", format!("no tab\n{sound}"));
            distill(data, &["--pairs", &pairs])
        }),
        row("DS4 three columns", Code::E5007, &["broken line"], |data| {
            let sound = std::fs::read_to_string(data.at("pairs.tsv")).unwrap();
            let pairs = data.write("bad.tsv", format!("a\tb\tc\n{sound}"));
            distill(data, &["--pairs", &pairs])
        }),
        row("DS4 not UTF-8", Code::E5007, &["not UTF-8"], |data| {
            let sound = std::fs::read(data.at("pairs.tsv")).unwrap();
            let pairs = data.write("bad.tsv", [&b"a\xff\tb\n"[..], &sound].concat());
            distill(data, &["--pairs", &pairs])
        }),
        row("DS5 no such file", Code::E5005, &["none.tsv"], |data| {
            let pairs = data.at("none.tsv");
            distill(data, &["--pairs", &pairs])
        }),
        row("DS7 nothing is good, seen in advance", Code::E5012, &["100.0 %", "missing"], |data| {
            let bad = json!({ "image": "none.png", "text": "a" }).to_string() + "\n";
            let pairs = data.write("bad.jsonl", bad.repeat(30));
            contrastive(data, &pairs, &["--max-bad", "100%"])
        }),
        row("DS7 nothing is good", Code::E5007, &["missing image", "bad.jsonl"], |data| {
            let bad = json!({ "image": "none.png", "text": "a" }).to_string() + "\n";
            let pairs = data.write("bad.jsonl", bad.repeat(30));
            contrastive(data, &pairs, &["--max-bad", "100%", "--ignore-check"])
        }),
        row("DS8 a file twice", Code::E5008, &["pairs.tsv"], |data| {
            let pairs = data.at("pairs.tsv");
            distill(data, &["--pairs", &pairs, "--pairs", &pairs])
        }),
        row("DS9 an address", Code::E5009, &["http"], |data| {
            contrastive(data, "http://127.0.0.1:9/a.tar", &[])
        }),
        row("DS9 a command", Code::E5009, &["pipe:"], |data| {
            contrastive(data, "pipe:touch /tmp/altclip-was-here", &[])
        }),
        row("a picture that is none", Code::E5007, &["bad picture"], |data| {
            data.write("pictures/none.png", "<html>");
            let bad = json!({ "image": "none.png", "text": "a" }).to_string() + "\n";
            let pairs = captions(data, &[bad]);
            contrastive(data, &pairs, &[])
        }),
    ]
}

/// The same fault below and above the bound.
fn bounds() -> Vec<Row> {
    fn one_of_25(data: &Data, max_bad: &str) -> Run {
        let bad = json!({ "image": "none.png", "text": "a" }).to_string() + "\n";
        let pairs = captions(data, &[bad]);
        contrastive(data, &pairs, &["--max-bad", max_bad])
    }
    vec![
        row("D9 one of 25 at 4 %", None, &["1 of ", "1 missing image"], |d| one_of_25(d, "4%")),
        row("D9 one of 25 at 3.9 %", Code::E5007, &["missing image"], |d| one_of_25(d, "3.9%")),
        row("D9 no share", Code::E1001, &["--max-bad", "«many»"], |d| one_of_25(d, "many")),
    ]
}

fn settings() -> Vec<Row> {
    vec![
        row("a Chinese-CLIP as teacher", Code::E6013, &["CLIP"], |data| {
            for (from, file) in [
                ("families/chinese_clip", "config.json"),
                ("families/chinese_clip", "model.safetensors"),
                ("clip", "preprocessor_config.json"),
                ("tokenizer_bert", "tokenizer.json"),
                ("tokenizer_bert", "tokenizer_config.json"),
            ] {
                data.write(&format!("cn/{file}"), golden_bytes(&format!("{from}/{file}")));
            }
            distill(data, &["--teacher", &data.at("cn")])
        }),
        row("a CLIP as student", Code::E6013, &["--student"], |data| {
            let student = data.model("clip");
            distill(data, &["--student", &student])
        }),
        row("patches larger than the picture", Code::E6013, &["patch_size"], |data| {
            clip_with(data, "/vision_config/patch_size", 1000)
        }),
        row("more blocks than can be", Code::E6013, &["num_hidden_layers"], |data| {
            clip_with(data, "/text_config/num_hidden_layers", 100_000_000)
        }),
        row("fewer tokens than the tokenizer has", Code::E6013, &["vocab_size"], |data| {
            clip_with(data, "/text_config/vocab_size", 1)
        }),
        row("a student of another width", Code::E6013, &["24", "32"], |data| {
            let student = data.model("alt_l");
            distill(data, &["--student", &student])
        }),
        row("Taiyi", Code::E6013, &["Taiyi-CLIP", "CN-CLIP"], |data| {
            let model = family(data, "taiyi", &["config.json", "pytorch_model.bin"]);
            contrastive(data, &data.at("captions.jsonl"), &["--model", &model])
        }),
        row("R2D2", Code::E6013, &["author's own", "CN-CLIP"], |data| {
            let model = family(data, "r2d2", &["r2d2_tiny.pth"]);
            contrastive(data, &data.at("captions.jsonl"), &["--model", &model])
        }),
        row("an author's own file", Code::E6013, &["author's own", "CN-CLIP"], |data| {
            let model = family(data, "openai", &["ViT-tiny.pt"]) + "/ViT-tiny.pt";
            contrastive(data, &data.at("captions.jsonl"), &["--model", &model])
        }),
        row("a batch that no memory holds", Code::E9002, &["--batch-size", "5000000"], |data| {
            let pairs = data.at("captions.jsonl");
            contrastive(data, &pairs, &["--batch-size", "5000000"])
        }),
        row("a batch of pairs that no memory holds", Code::E9002, &["4294967295"], |data| {
            distill(data, &["--batch-size", "4294967295"])
        }),
        row("a smaller batch goes on in the same folder", None, &["steps"], |data| {
            let refused = distill(data, &["--batch-size", "4294967295"]).go();
            assert_eq!(refused.status, Some(6), "{}", refused.stderr);
            distill(data, &[])
        }),
        row("a batch of one", Code::E5012, &["compares"], |data| {
            let pairs = data.at("captions.jsonl");
            contrastive(data, &pairs, &["--batch-size", "1"])
        }),
        row("a folder with a run", Code::E1003, &["--resume"], |data| {
            distill(data, &[]).ok();
            distill(data, &[])
        }),
        row("a folder with a model", Code::E1003, &["--out"], |data| {
            data.write("out/config.json", "{}");
            distill(data, &[])
        }),
        row("a folder with something else", Code::E1003, &["--out", "report.html"], |data| {
            data.write("out/report.html", "mine");
            distill(data, &[])
        }),
        row("a model as --out, even with --resume", Code::E1003, &["config.json"], |data| {
            data.write("out/config.json", "{}");
            distill(data, &["--resume"])
        }),
        row("--out that is a file", Code::E1004, &["out"], |data| {
            data.write("out", "");
            distill(data, &[])
        }),
        row("a template without a place", Code::E1001, &["--template"], |data| {
            data.train("finetune", "out", &["--template", "a photo", "--max-steps", "1"])
        }),
        row("a settings file that is none", Code::E1001, &["--config"], |data| {
            let config = data.write("run.toml", "batch-size = {");
            distill(data, &["--config", &config])
        }),
        row("settings in a file of another name", Code::E1001, &["batch-sise"], |data| {
            let config = data.write("run.conf", "batch-sise = 3");
            distill(data, &["--config", &config])
        }),
        row("weights that overflow", Code::E6004, &["the weights"], |data| {
            distill(data, &["--lr", "1e300", "--warmup-steps", "0"])
        }),
        row("a setting that is none", Code::E1001, &["batch-sise"], |data| {
            let config = data.write("run.toml", "batch-sise = 3");
            distill(data, &["--config", &config])
        }),
    ]
}

#[test]
fn every_row_is_refused_or_endured() {
    let rows = rows();
    let check = |row: &Row| row.check().err().map(|fault| format!("{}: {fault}", row.name));
    let faults: Vec<String> = rows.iter().filter_map(check).collect();
    println!("{} rows", rows.len());
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), rows.len(), faults.join("\n"));
    assert!(!Path::new("/tmp/altclip-was-here").exists());
    let wrong = row("control", Code::E5009, &[], |data| distill(data, &[]));
    assert!(wrong.check().is_err());
}

fn essence(out: &Out) -> Vec<Vec<u8>> {
    let files =
        ["config.toml", "metrics.jsonl", "model.safetensors", "LATEST", "cache/teacher.rows"];
    files.iter().map(|file| out.read(file)).collect()
}

/// What is typed must mean something; TOML goes the same way.
#[test]
fn numbers_without_a_meaning_are_refused() {
    let data = Data::new();
    for [flag, value] in [
        ["--lr", "nan"],
        ["--lr", "inf"],
        ["--lr", "-1"],
        ["--weight-decay", "-5"],
        ["--beta1", "1"],
        ["--beta2", "-0.1"],
        ["--eps", "0"],
        ["--grad-clip", "nan"],
        ["--spike-guard", "-1"],
        ["--dropout", "1"],
        ["--wise-ft", "2"],
        ["--wise-ft", "nan"],
        ["--last", "0"],
        ["--lora-rank", "0"],
        ["--lora-alpha", "3"],
        ["--patience", "2"],
    ] {
        let outcome = data.train("finetune", "out", &[flag, value, "--max-steps", "1"]).go();
        assert_eq!(outcome.status, Some(2), "{flag} {value}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("[E1001]"), "{flag} {value}: {}", outcome.stderr);
        assert!(!data.out("out").0.exists(), "{flag} {value}");
    }
    let config = data.write("run.toml", "lr = nan");
    let args = ["--config", &config, "--max-steps", "1"];
    // The helper types a rate, which would hide that of the file.
    let teacher = data.model("clip");
    let student = data.model("alt_h");
    let (pairs, out) = (data.at("pairs.tsv"), data.at("out"));
    let line =
        ["train", "distill", "--teacher", &teacher, "--student", &student, "--pairs", &pairs];
    let outcome =
        crate::support::child::altclip(line.iter().chain(&["--out", &out]).chain(&args)).go();
    assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
    let outcome =
        crate::support::child::altclip(["train", "finetune", "--data", "x", "--out", "y"]).go();
    assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("[E1002]") && outcome.stderr.contains("--model nano"));
}

/// TR5: every field that differs is named, and nothing in the folder is touched.
#[test]
fn another_run_does_not_go_on() {
    let data = Data::new();
    let out = data.trained("distill", "out", &["--max-steps", "4"]);
    let before = essence(&out);
    let text = std::fs::read_to_string(data.at("pairs.tsv")).unwrap();
    let pairs = data.write("other.tsv", text.replace("red", "rot"));
    let student = data.at("student");
    for (flags, fields) in [
        (&["--batch-size", "7"][..], &["«batch-size»"][..]),
        (&["--lr", "1e-4", "--seed", "3"], &["«lr»", "«seed»"]),
        (&["--max-steps", "9"], &["«max-steps»"]),
        (&["--student", &student], &["«student»"]),
        (&["--pairs", &pairs], &["«data»", "«pairs»"]),
    ] {
        let flags = [&["--max-steps", "4"][..], flags, &["--resume"]].concat();
        let flags = if flags.iter().filter(|flag| **flag == "--max-steps").count() > 1 {
            &flags[2..]
        } else {
            &flags[..]
        };
        let outcome = data.train("distill", "out", flags).go();
        assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
        for field in fields {
            let named = |line: &str| line.contains("[E6003]") && line.contains(field);
            assert!(outcome.stderr.lines().any(named), "{field}: {}", outcome.stderr);
        }
        assert!(essence(&out) == before, "{flags:?} changed the folder");
    }
    // Data that changed under the same name.
    data.write("pairs.tsv", text.replace("blue", "blau"));
    let outcome = data.train("distill", "out", &["--max-steps", "4", "--resume"]).go();
    assert!(outcome.stderr.contains("[E6003]") && outcome.stderr.contains("«data»"));
    assert!(essence(&out) == before);
}

/// TR4: a damaged checkpoint is passed over with a word on what is lost, or refused where that was asked.
#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let data = Data::new();
    let flags = ["--max-steps", "20", "--save-every", "5", "--keep", "3"];
    let whole = data.trained("distill", "out", &flags);
    let expected = (whole.read("model.safetensors"), whole.read("metrics.jsonl"));
    let path = whole.0.join("checkpoints/step-00000020/state.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let resume = |which: &[&str]| {
        data.train("distill", "out", &[&flags[..], &["--resume"], which].concat()).go()
    };
    let outcome = resume(&["exact"]);
    assert_eq!(outcome.status, Some(4), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("[E6010]"), "{}", outcome.stderr);
    let outcome = resume(&[]);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    let warned = |line: &str| line.contains("[W6002]") && line.contains("5 steps are lost");
    assert!(outcome.stderr.lines().any(warned), "{}", outcome.stderr);
    assert!(expected == (whole.read("model.safetensors"), whole.read("metrics.jsonl")));
}

/// TR10: the second run in a folder is refused, and says who is the first.
#[test]
fn two_runs_do_not_share_a_folder() {
    let data = Data::new();
    let flags = ["--batch-size", "200000", "--max-steps", "3"];
    let mut first = data.train("distill", "out", &flags).spawn();
    let (out, begun) = (data.out("out"), Instant::now());
    while !out.has("LATEST") && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let flags = [&flags[..], &["--resume"]].concat();
    let outcome = data.train("distill", "out", &flags).go();
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
    let holder = format!("process {}", first.id());
    let named = |line: &str| line.contains("[E6008]") && line.contains(&holder);
    assert!(outcome.stderr.lines().any(named), "{}", outcome.stderr);
}

/// TR3: a disk without room, where this process may mount a small one: nothing begins that cannot be saved.
#[test]
fn a_disk_without_room_is_said_at_once() {
    let data = Data::new();
    std::fs::create_dir(data.at("small")).unwrap();
    let small = data.at("small");
    let mount = ["-t", "tmpfs", "-o", "size=600k", "tmpfs", &small];
    let mounted = std::process::Command::new("mount").args(mount).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: no file system can be mounted here");
        return;
    }
    let outcome = data.train("distill", "small/out", &["--max-steps", "4"]).go();
    let _ = std::process::Command::new("umount").arg(&small).status();
    assert_eq!(outcome.status, Some(6), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("[E6001]"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("free") && outcome.stderr.contains("bytes"));
}

/// Runs while `disturb` is called, once, behind the first checkpoint.
fn disturbed(data: &Data, run: Run, out: &str, disturb: impl FnOnce()) -> Outcome {
    let out = data.out(out);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run.go());
        let begun = Instant::now();
        while !out.has("LATEST") && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        disturb();
        running.join().unwrap()
    })
}

const ENDLESS: [&str; 4] = ["--max-steps", "1000000", "--save-every", "20"];

/// TR3: a disk that fills up while a run goes on: said each time, and the third time is the last.
#[test]
fn a_disk_that_fills_up_ends_a_run_with_its_last_checkpoint() {
    let data = Data::new();
    std::fs::create_dir(data.at("small")).unwrap();
    let small = data.at("small");
    let mount = ["-t", "tmpfs", "-o", "size=12m", "tmpfs", &small];
    let mounted = std::process::Command::new("mount").args(mount).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: no file system can be mounted here");
        return;
    }
    let run = data.train("distill", "small/out", &ENDLESS);
    let fill = || {
        let mut file = std::fs::File::create(data.at("small/filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    };
    let outcome = disturbed(&data, run, "small/out", fill);
    let refused = outcome.stderr.lines().filter(|line| line.contains("[E6001]")).count();
    std::fs::remove_file(data.at("small/filler")).unwrap();
    let on = data.train("distill", "small/out", &[&ENDLESS[..], &["--resume", "exact"]].concat());
    let mut on = on.spawn();
    std::thread::sleep(Duration::from_millis(500));
    let goes_on = on.try_wait().unwrap().is_none();
    on.kill().unwrap();
    on.wait().unwrap();
    let _ = std::process::Command::new("umount").arg(&small).status();
    assert_eq!(outcome.status, Some(6), "{}", outcome.stderr);
    assert_eq!(refused, 3, "{}", outcome.stderr);
    assert!(goes_on, "it does not resume");
}

/// DS6: data that change while they are trained on end the run where the next epoch begins, or are allowed.
#[test]
fn data_that_change_between_epochs_are_noticed() {
    let data = Data::new();
    let pairs = data.at("captions.jsonl");
    let touch = || {
        let file = std::fs::OpenOptions::new().append(true).open(&pairs).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    };
    let run = contrastive(&data, &pairs, &ENDLESS);
    let outcome = disturbed(&data, run, "out", touch);
    assert_eq!(outcome.status, Some(3), "{}", outcome.stderr);
    let said = |line: &str| line.contains("[E5006]") && line.contains("captions.jsonl");
    assert!(outcome.stderr.lines().any(said), "{}", outcome.stderr);
    let flags = ["--max-steps", "40", "--allow-changed"];
    let run = data.train("contrastive", "allowed", &flags);
    let outcome = disturbed(&data, run, "allowed", touch);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
}
