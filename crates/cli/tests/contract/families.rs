//! `altclip eval` with models that compare more than one row an item: Wukong token by token, R2D2 with its
//! second look. The library's `Model::compare` on everything at once is the oracle.

use crate::support::child::{Outcome, altclip};
use crate::support::folder::golden;
use altclip::{LoadOptions, Model, Templates};
use serde_json::Value;
use std::path::PathBuf;

const PICTURES: [&str; 4] = ["checks.png", "rings.png", "sunset.png", "tower.png"];
const CAPTIONS: [(usize, &str); 7] = [
    (0, "一只猫"),
    (0, "a dog"),
    (1, "红色的圆环"),
    (2, "日落"),
    (2, "海边的日落和一只猫"),
    (3, "塔"),
    (3, "a tower"),
];

/// A tiny model of a family with its tokenizer, pictures with captions, and a cache.
struct Bench {
    model: tempfile::TempDir,
    work: tempfile::TempDir,
}

impl Bench {
    fn new(family: &str, file: &str) -> Self {
        let bench =
            Self { model: tempfile::tempdir().unwrap(), work: tempfile::tempdir().unwrap() };
        let into = |dir: &tempfile::TempDir, from: PathBuf, name: &str| {
            let to = dir.path().join(name);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, std::fs::read(from).unwrap()).unwrap();
        };
        into(&bench.model, golden("families").join(family).join(file), file);
        into(&bench.model, golden("tokenizer_bert").join("vocab.txt"), "vocab.txt");
        for (n, name) in PICTURES.iter().enumerate() {
            into(&bench.work, golden("alt_l").join(name), &format!("images/{name}"));
            let class = ["flat", "round"][n % 2];
            into(&bench.work, golden("alt_l").join(name), &format!("test/{class}/{name}"));
        }
        let lines = CAPTIONS.map(|(picture, text)| {
            format!(r#"{{"image":"{}","text":"{text}","language":"zh"}}"#, PICTURES[picture])
        });
        std::fs::write(bench.path("set.jsonl"), lines.join("\n")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> String {
        self.work.path().join(name).to_string_lossy().into_owned()
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let model = self.model.path().to_string_lossy().into_owned();
        let head = ["eval", args[0], "--model", &model];
        altclip(head.iter().chain(&args[1..]))
            .env("ALTCLIP_CACHE", self.path("cache"))
            .env("TMPDIR", self.path(""))
            .go()
    }

    fn json(&self, args: &[&str]) -> Value {
        let outcome = self.run(&[args, &["--json"]].concat());
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        outcome.rows().remove(0)
    }

    /// The model, its pictures, and the similarities of all texts with all pictures and back.
    fn oracle(&self) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let model = self.load();
        let images = model.image_side(&self.pictures(&model)).unwrap();
        let texts = model.text_side(&CAPTIONS.map(|(_, text)| text)).unwrap();
        let rows =
            |scores: Vec<f32>, width: usize| scores.chunks(width).map(<[f32]>::to_vec).collect();
        (
            rows(model.compare(&texts, &images).unwrap(), PICTURES.len()),
            rows(model.compare(&images, &texts).unwrap(), CAPTIONS.len()),
        )
    }

    fn load(&self) -> Model {
        Model::load(self.model.path(), &LoadOptions::default())
            .unwrap_or_else(|_| panic!("no model"))
    }

    fn pictures(&self, model: &Model) -> Vec<altclip::image::Rgb> {
        let open = |name: &str| model.open_image(self.path(&format!("images/{name}")).as_ref());
        PICTURES.map(|name| open(name).unwrap()).to_vec()
    }
}

/// The share of queries that find one that fits among the first `k`.
fn recall(scores: &[Vec<f32>], k: usize, fits: impl Fn(usize, usize) -> bool) -> f64 {
    let hit = |query: &usize| {
        let mut order: Vec<usize> = (0..scores[*query].len()).collect();
        order.sort_by(|&a, &b| scores[*query][b].total_cmp(&scores[*query][a]));
        order.iter().take(k).any(|&row| fits(*query, row))
    };
    (0..scores.len()).filter(hit).count() as f64 / scores.len() as f64
}

#[test]
fn retrieval_is_by_the_models_own_similarity_and_is_kept() {
    for (family, file) in [
        ("r2d2", "r2d2_tiny.pth"),
        ("wukong", "wukong_tiny.pth"),
        ("wukong_learner", "wukong_tiny.pth"),
    ] {
        let bench = Bench::new(family, file);
        let (of_texts, of_images) = bench.oracle();
        let (set, images) = (format!("jsonl:{}", bench.path("set.jsonl")), bench.path("images"));
        let args = ["retrieval", "--dataset", &set, "--images", &images];
        let first = bench.json(&args);
        for k in [1, 5] {
            let image = recall(&of_texts, k, |text, image| CAPTIONS[text].0 == image);
            let text = recall(&of_images, k, |image, text| CAPTIONS[text].0 == image);
            assert_eq!(first[format!("image_retrieval_recall@{k}")], image, "{family} {k}");
            assert_eq!(first[format!("text_retrieval_recall@{k}")], text, "{family} {k}");
        }
        // What was found first has the oracle's similarity.
        for query in first["worst"].as_array().unwrap() {
            let own = query["query"].as_str().unwrap();
            let scores = match query["direction"].as_str().unwrap() {
                "image_retrieval" => {
                    &of_texts[CAPTIONS.iter().position(|(_, text)| *text == own).unwrap()]
                }
                _ => &of_images[PICTURES.iter().position(|name| *name == own).unwrap()],
            };
            let best = scores.iter().copied().fold(f32::MIN, f32::max);
            let found = query["found"][0]["score"].as_f64().unwrap() as f32;
            assert!((found - best).abs() < 1e-5, "{family} {own}: {found} {best}");
        }
        let work = |run: &Value| run["machine"]["work"].clone();
        assert_eq!(work(&first)["pictures_computed"], 4);
        assert_eq!(work(&first)["texts_computed"], 7);
        // Again: the encoders are not called. Without a cache: they are, and nothing stays behind.
        let second = bench.json(&args);
        assert_eq!(second["metrics"], first["metrics"]);
        assert_eq!(
            (&work(&second)["pictures_computed"], &work(&second)["from_cache"]),
            (&0.into(), &11.into())
        );
        let none = bench.json(&[&args[..], &["--no-cache"]].concat());
        assert_eq!(none["metrics"], first["metrics"]);
        assert_eq!(work(&none)["pictures_computed"], 4);
        let left = std::fs::read_dir(bench.work.path()).unwrap();
        let left: Vec<String> =
            left.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        assert!(!left.iter().any(|name| name.starts_with("altclip-eval")), "{left:?}");
    }
}

#[test]
fn wukongs_templates_vote_and_one_row_is_refused() {
    let bench = Bench::new("wukong", "wukong_tiny.pth");
    let (names, templates) = (bench.path("names.txt"), bench.path("templates.txt"));
    std::fs::write(&names, "平\n圆\n").unwrap();
    std::fs::write(&templates, "一张{}的照片\n{c}。\na {}\n").unwrap();
    let dataset = format!("imagenet:{}", bench.work.path().display());
    let args =
        ["zeroshot", "--dataset", &dataset, "--classnames", &names, "--templates", &templates];
    let found = bench.json(&args);
    let model = bench.load();
    let templates = ["一张{}的照片", "{c}。", "a {}"].map(str::to_owned);
    let labels = model
        .zero_shot(&bench.pictures(&model), &["平", "圆"], &Templates::new(templates))
        .unwrap();
    let right = labels.rows().enumerate().filter(|(picture, row)| {
        let class = usize::from(row[1].probability > row[0].probability);
        class == picture % 2
    });
    assert_eq!(found["metrics"]["acc1"], right.count() as f64 / 4.0);
    // What needs one row an item says so.
    let queries = bench.path("q.tsv");
    std::fs::write(&queries, "zh\ten\n猫\ta cat\n").unwrap();
    let languages = ["--language-a", "zh", "--language-b", "en", "--images", &bench.path("images")];
    let outcome = bench.run(&[&["consistency", "--queries", &queries][..], &languages].concat());
    assert_eq!(outcome.status, Some(4));
    assert!(outcome.stderr.starts_with("error[E2302]"), "{}", outcome.stderr);
}
