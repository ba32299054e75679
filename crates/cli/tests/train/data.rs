//! What the runs train on: tiny models of the golden files, and pictures and texts that are made here.

use crate::support::child::{Outcome, Run, altclip};
use crate::support::folder::{Folder, golden_bytes, golden_json};
use crate::support::picture::png;
use crate::support::weights::Weights;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Colours in two languages, and as RGB.
const COLOURS: [(&str, &str, [u8; 3]); 6] = [
    ("red", "红", [220, 30, 30]),
    ("green", "绿", [30, 200, 40]),
    ("blue", "蓝", [30, 40, 220]),
    ("white", "白", [250, 250, 250]),
    ("black", "黑", [5, 5, 5]),
    ("yellow", "黄", [240, 230, 20]),
];
/// Shapes in two languages, as what is painted at a place of a picture of 40 × 40.
type Shape = (&'static str, &'static str, fn(i32, i32) -> bool);
const SHAPES: [Shape; 4] = [
    ("square", "方", |x, y| x.abs().max(y.abs()) < 12),
    ("circle", "圆", |x, y| x * x + y * y < 196),
    ("bar", "条", |_, y| y.abs() < 6),
    ("cross", "十", |x, y| x.abs() < 5 || y.abs() < 5),
];

fn painted(rgb: [u8; 3], shape: fn(i32, i32) -> bool) -> Vec<u8> {
    let ground = [120, 120, 120];
    let places = (0..40).flat_map(|y| (0..40).map(move |x| (x - 20, y - 20)));
    let pixels = places.flat_map(|(x, y)| if shape(x, y) { rgb } else { ground });
    png(40, 40, &pixels.collect::<Vec<u8>>())
}

/// A folder with models and data.
pub(crate) struct Data {
    dir: TempDir,
    models: BTreeMap<&'static str, Folder>,
}

impl Data {
    pub(crate) fn new() -> Self {
        let models = ["clip", "alt_h", "alt_l"].map(|name| (name, Folder::new(name)));
        let data = Self { dir: tempfile::tempdir().unwrap(), models: models.into() };
        data.write_texts();
        data.write_pictures();
        data.write_starts();
        data
    }

    /// A path in the folder, as an argument.
    pub(crate) fn at(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    /// The folder of a golden model.
    pub(crate) fn model(&self, name: &str) -> String {
        self.models[name].dir().to_string_lossy().into_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        self.at(name)
    }

    /// `pairs.tsv`: 24 lines of English and Chinese.
    fn write_texts(&self) {
        let line = |(en, zh): (String, String)| format!("{en}\t{zh}\n");
        self.write("pairs.tsv", texts().map(line).collect::<String>());
    }

    /// `pictures/`, `captions.jsonl` and, by colour, `labelled/`.
    fn write_pictures(&self) {
        let mut lines = String::new();
        let mut captions = texts();
        for (colour, _, rgb) in COLOURS {
            for (shape, _, inside) in SHAPES {
                let (file, (en, zh)) = (format!("{colour}_{shape}.png"), captions.next().unwrap());
                let bytes = painted(rgb, inside);
                self.write(&format!("pictures/{file}"), &bytes);
                self.write(&format!("labelled/{colour}/{shape}.png"), &bytes);
                let line = json!({ "image": file, "text": [en, zh], "language": "en" });
                lines += &format!("{line}\n");
            }
        }
        self.write("captions.jsonl", lines);
    }

    /// `student/` (an XLM-R's config.json and tokenizer) and `clip/` (a CLIP's): random starts.
    fn write_starts(&self) {
        let text = json!({
            "model_type": "xlm-roberta", "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 600,
            "max_position_embeddings": 130, "type_vocab_size": 1, "pad_token_id": 1,
            "hidden_act": "gelu", "layer_norm_eps": 1e-5,
        });
        self.write("student/config.json", text.to_string());
        for (from, to) in [("tokenizer", "student"), ("tokenizer_clip", "clip")] {
            for file in ["tokenizer.json", "tokenizer_config.json"] {
                self.write(&format!("{to}/{file}"), golden_bytes(&format!("{from}/{file}")));
            }
        }
        self.write("clip/config.json", golden_json("clip/config.json").to_string());
        let preprocessor = golden_bytes("clip/preprocessor_config.json");
        self.write("clip/preprocessor_config.json", preprocessor);
    }

    /// A kind of training on this data, with small batches; nothing said of the number of steps.
    pub(crate) fn train(&self, kind: &str, out: &str, flags: &[&str]) -> Run {
        let mut args: Vec<String> = vec!["train".into(), kind.into()];
        let mut add = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
        match kind {
            "distill" => {
                add("--teacher", self.model("clip"));
                add("--student", self.model("alt_h"));
                add("--pairs", self.at("pairs.tsv"));
            }
            "finetune" => {
                add("--model", self.model("alt_l"));
                add("--data", self.at("labelled"));
            }
            _ => {
                if kind == "clip" {
                    add("--config", self.at("clip/config.json"));
                } else {
                    add("--model", self.model("alt_l"));
                }
                add("--pairs", self.at("captions.jsonl"));
                add("--images", self.at("pictures"));
            }
        }
        add("--out", self.at(out));
        for (flag, value) in [("--batch-size", "6"), ("--lr", "1e-3")] {
            if !flags.contains(&flag) {
                add(flag, value.into());
            }
        }
        // A repeated flag is an error; of what has a default here the caller's goes first.
        for flag in flags {
            if let Some(place) = args.iter().position(|arg| arg == flag && flag.starts_with("--")) {
                args.drain(place..place + 2);
            }
        }
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        altclip(args).address_space_mib(4096)
    }

    /// The same, which must succeed; gives the folder.
    pub(crate) fn trained(&self, kind: &str, out: &str, flags: &[&str]) -> Out {
        self.train(kind, out, flags).ok();
        self.out(out)
    }

    pub(crate) fn out(&self, name: &str) -> Out {
        Out(self.dir.path().join(name))
    }
}

/// English and Chinese of all colours and shapes.
fn texts() -> impl Iterator<Item = (String, String)> {
    COLOURS.into_iter().flat_map(|(en, zh, _)| {
        SHAPES.into_iter().map(move |(shape, form, _)| {
            (format!("a {en} {shape} on grey"), format!("灰色上的{zh}{form}"))
        })
    })
}

/// What a run left.
pub(crate) struct Out(pub(crate) PathBuf);

impl Out {
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// The losses of `metrics.jsonl`.
    pub(crate) fn losses(&self) -> Vec<f64> {
        let loss = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["loss"].as_f64().unwrap()
        };
        self.text("metrics.jsonl").lines().map(loss).collect()
    }

    /// Weights by name, as f32.
    pub(crate) fn weights(&self) -> BTreeMap<String, Vec<f32>> {
        tensors(&self.0.join("model.safetensors"))
    }

    /// Everything that must be the same in two runs: the model, the log, the newest checkpoint.
    pub(crate) fn essence(&self) -> Vec<(String, Vec<u8>)> {
        let newest = self.text("LATEST").trim().to_owned();
        let files =
            ["model.safetensors", "config.json", "metrics.jsonl", "bad_batches.jsonl", "LATEST"];
        let state = ["state.safetensors", "state.json", "CHECKSUMS"];
        let state = state.iter().map(|file| format!("{newest}/{file}"));
        let names = files.iter().map(|&file| file.to_owned()).chain(state);
        names.map(|name| (name.clone(), self.read(&name))).collect()
    }
}

/// Tensors of a file in f32 by name.
pub(crate) fn tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let file = Weights::parse(&std::fs::read(path).unwrap());
    let values = |bytes: &[u8]| {
        let number = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
        bytes.chunks_exact(4).map(number).collect()
    };
    let f32s = file.tensors.into_iter().filter(|tensor| tensor.dtype == "F32");
    f32s.map(|tensor| (tensor.name, values(&tensor.bytes))).collect()
}

/// Two runs are the same run.
pub(crate) fn assert_same(a: &Out, b: &Out, what: &str) {
    for ((name, a), (_, b)) in a.essence().into_iter().zip(b.essence()) {
        assert!(a == b, "{what}: {name} differs");
    }
}

/// Embeddings of one picture and one text by a folder that a run left.
pub(crate) fn embed(out: &Out, picture: &str, text: &str) -> Vec<Vec<f64>> {
    let model = out.0.to_string_lossy().into_owned();
    let args = ["embed", "--model", &model, "--image", picture, "--text", text, "--json"];
    let rows = altclip(args).ok().rows();
    let numbers = |row: &Value| {
        let values = row["embedding"].as_array().unwrap().iter();
        values.map(|value| value.as_f64().unwrap()).collect::<Vec<f64>>()
    };
    rows.iter().map(numbers).collect()
}

/// The largest difference of two lists of the same length.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The one JSON object on stdout.
pub(crate) fn summary(outcome: &Outcome) -> Value {
    let rows = outcome.rows();
    assert_eq!(rows.len(), 1, "{}", outcome.text());
    rows.into_iter().next().unwrap()
}
