//! `altclip eval` on datasets from outside: the figures, the cache, and every sample that is refused.

use crate::support::child::{Outcome, altclip};
use crate::support::folder::{Folder, golden};
use serde_json::Value;
use std::path::{Path, PathBuf};

const PICTURES: [&str; 4] = ["checks.png", "rings.png", "sunset.png", "tower.png"];

/// A tiny model with a cache of its own, and a folder for datasets.
struct Bench {
    model: Folder,
    work: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { model: Folder::new("alt_l"), work: tempfile::tempdir().unwrap() };
        for name in PICTURES {
            bench.write(
                &format!("images/{name}"),
                std::fs::read(golden("alt_l").join(name)).unwrap(),
            );
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let model = self.model.dir().to_string_lossy().into_owned();
        let head = ["eval", args[0], "--model", &model];
        altclip(head.iter().chain(&args[1..])).env("ALTCLIP_CACHE", self.path("cache")).go()
    }

    fn json(&self, args: &[&str]) -> Value {
        let outcome = self.run(&[args, &["--json"]].concat());
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        let mut rows = outcome.rows();
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    }

    /// A dataset of captions, one line a row.
    fn captions(&self, lines: &[&str]) -> [String; 2] {
        let spec = format!("jsonl:{}", self.write("signs.jsonl", lines.join("\n")));
        [spec, self.path("images").to_string_lossy().into_owned()]
    }

    /// A folder for each class of two pictures.
    fn classes(&self) -> String {
        for (n, name) in PICTURES.iter().enumerate() {
            let bytes = std::fs::read(self.path("images").join(name)).unwrap();
            let class = ["flat", "round"][n % 2];
            for split in ["train", "test"] {
                self.write(&format!("classes/{split}/{class}/{name}"), &bytes);
            }
        }
        format!("imagenet:{}", self.path("classes").display())
    }
}

fn embeddings(bench: &Bench, flag: &str, inputs: &[String]) -> Vec<Vec<f64>> {
    let model = bench.model.dir().to_string_lossy().into_owned();
    let inputs = inputs.iter().flat_map(|input| [flag, input.as_str()]);
    let outcome = altclip(["embed", "--model", &model, "--json"].into_iter().chain(inputs)).ok();
    outcome.rows().iter().map(|row| crate::numbers(&row["embedding"])).collect()
}

fn paths(bench: &Bench) -> Vec<String> {
    PICTURES.map(|name| bench.path("images").join(name).to_string_lossy().into_owned()).to_vec()
}

#[test]
fn zeroshot_is_the_nearest_mean_of_prompts_and_the_second_run_computes_nothing() {
    let bench = Bench::new();
    let dataset = bench.classes();
    let names = bench.write("names.txt", "平\n圆\n");
    let templates = bench.write("templates.txt", "一张{}的照片\n{c}。\n");
    let args = [
        "zeroshot",
        "--dataset",
        &dataset,
        "--templates",
        &templates,
        "--classnames",
        &names,
        "--language",
        "zh",
    ];
    let first = bench.json(&args);
    let keys = ["dataset", "model", "pretrained", "task", "metrics", "language"];
    let found: Vec<&str> = first.as_object().unwrap().keys().map(String::as_str).take(6).collect();
    assert!(keys.iter().all(|key| first.get(*key).is_some()), "{found:?}");
    assert_eq!(
        (&first["task"], &first["language"]),
        (&"zeroshot_classification".into(), &"zh".into())
    );
    // By hand: the mean of each class's prompts, normalised, and the higher dot product.
    let prompts = ["一张平的照片", "平。", "一张圆的照片", "圆。"].map(str::to_owned);
    let texts = embeddings(&bench, "--text", &prompts);
    let mean = |a: &[f64], b: &[f64]| {
        let sum: Vec<f64> = a.iter().zip(b).map(|(a, b)| a + b).collect();
        let norm = crate::dot(&sum, &sum).sqrt();
        sum.into_iter().map(|value| value / norm).collect::<Vec<f64>>()
    };
    let classes = [mean(&texts[0], &texts[1]), mean(&texts[2], &texts[3])];
    let right = embeddings(&bench, "--image", &paths(&bench))
        .iter()
        .enumerate()
        .filter(|(n, image)| {
            let scores = [0, 1].map(|class| crate::dot(image, &classes[class]));
            (scores[1] > scores[0]) == (n % 2 == 1)
        })
        .count();
    assert_eq!(first["metrics"]["acc1"], right as f64 / 4.0);
    assert_eq!(first["acc1"], first["metrics"]["acc1"]);
    assert!(first["metrics"]["acc5"].is_null() && first["confusion_matrix"].is_array());
    assert_eq!(first["machine"]["work"]["pictures_computed"], 4);
    let second = bench.json(&args);
    assert_eq!(second["machine"]["work"]["pictures_computed"], 0);
    assert_eq!(second["machine"]["work"]["from_cache"], 8);
    assert_eq!(second["metrics"], first["metrics"]);
    assert_eq!(second["confusion_matrix"], first["confusion_matrix"]);
    // Without the cache the same, and another precision is another model.
    let none = bench.json(&[&args[..], &["--no-cache"]].concat());
    assert_eq!(
        (&none["metrics"], &none["machine"]["work"]["from_cache"]),
        (&first["metrics"], &0.into())
    );
    let bf16 = bench.json(&[&args[..], &["--precision", "bf16"]].concat());
    assert_eq!(bf16["machine"]["work"]["pictures_computed"], 4);
}

#[test]
fn retrieval_of_languages_is_that_of_the_arrays() {
    let bench = Bench::new();
    let [dataset, images] = bench.captions(&[
        r#"{"image":"checks.png","text":["checks","a board"],"language":"en"}"#,
        r#"{"image":"rings.png","text":"rings","language":"en"}"#,
        r#"{"image":"tower.png","text":"a tower","language":"en"}"#,
        r#"{"image":"rings.png","text":"圆环","language":"zh"}"#,
        r#"{"image":"sunset.png","text":"日落","language":"zh"}"#,
    ]);
    let out = bench.path("out").to_string_lossy().into_owned();
    let args = ["retrieval", "--dataset", &dataset, "--images", &images, "--out", &out, "--json"];
    let outcome = bench.run(&args);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
    let rows = outcome.rows();
    let shape: Vec<_> = rows
        .iter()
        .map(|row| (row["language"].as_str().unwrap(), &row["images"], &row["texts"]))
        .collect();
    assert_eq!(shape, [("en", &3.into(), &4.into()), ("zh", &2.into(), &2.into())]);
    // By hand for English: how many captions have their image first.
    let captions = ["checks", "a board", "rings", "a tower"].map(str::to_owned);
    let texts = embeddings(&bench, "--text", &captions);
    let pictures = [0, 1, 3].map(|n| paths(&bench)[n].clone());
    let pictures = embeddings(&bench, "--image", &pictures);
    let nearest = |text: &Vec<f64>| {
        let score = |n: &usize| crate::dot(text, &pictures[*n]);
        (0..3).max_by(|a, b| score(a).total_cmp(&score(b))).unwrap()
    };
    let hits = texts.iter().zip([0, 0, 1, 2]).filter(|(text, own)| nearest(text) == *own).count();
    assert_eq!(rows[0]["image_retrieval_recall@1"], hits as f64 / 4.0);
    assert_eq!(rows[0]["metrics"]["image_retrieval_recall@10"], 1.0);
    // The folder has the same results, their table and a page with the pictures.
    let pretrained = bench.model.dir().file_name().unwrap().to_string_lossy().into_owned();
    let model = rows[0]["model"].as_str().unwrap();
    let plain = pretrained.replace(|c: char| !c.is_alphanumeric() && !"-_.@".contains(c), "-");
    let name = format!("signs_{plain}_{model}_en_zeroshot_retrieval.json");
    let saved: Value =
        serde_json::from_slice(&std::fs::read(Path::new(&out).join(name)).unwrap()).unwrap();
    assert_eq!(saved, rows[0]);
    let csv = std::fs::read_to_string(Path::new(&out).join("results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 3);
    assert!(
        csv.starts_with("dataset,model,pretrained,model_fullname,task,language,image_retrieval")
    );
    let page = std::fs::read_to_string(Path::new(&out).join("report.html")).unwrap();
    assert!(page.contains("This machine"));
    let missed = rows.iter().any(|row| !row["worst"].as_array().unwrap().is_empty());
    assert_eq!(page.contains("data:image/png;base64,"), missed);
    assert_eq!(bench.run(&args).status, Some(2), "a folder that exists is not written to");
    let compare = altclip(["eval", "compare", &out, &out, "--json"]).ok().rows();
    assert_eq!(compare.len(), 14);
    assert!(compare.iter().all(|row| row["difference"] == 0.0 && row["intervals_apart"] != true));
    let html = bench.path("compared.html").to_string_lossy().into_owned();
    let args = ["eval", "compare", &out, &out, "--html", &html];
    assert!(altclip(args).ok().text().contains("B - A"));
    let page = std::fs::read_to_string(&html).unwrap();
    let figures = ["zeroshot retrieval", "image_retrieval_recall@1", "overlap", "+0.00"];
    assert!(figures.iter().all(|part| page.contains(part)), "{page}");
    assert_eq!(altclip(args).go().status, Some(2), "a page that exists is not written to");
    // The published table names the measured row.
    let karpathy =
        r#"{"images":[{"filename":"rings.png","split":"test","sentences":[{"raw":"rings"}]}]}"#;
    let spec = format!("flickr30k:{}", bench.write("dataset_flickr30k.json", karpathy));
    let table = bench.run(&[
        "retrieval",
        "--dataset",
        &spec,
        "--images",
        &images,
        "--language",
        "en",
        "--table",
    ]);
    assert!(
        table.text().contains("AltCLIP_T") && table.text().contains("(measured)"),
        "{}",
        table.text()
    );
}

#[test]
fn a_second_evaluation_does_not_touch_the_weights() {
    const BALLAST: usize = 2 << 20;
    let bench = Bench::new();
    // A file so large that its middle does not tell whether it changed.
    bench.model.edit_weights(|w| w.add("ballast", "F32", &[BALLAST as u64 / 4], vec![0; BALLAST]));
    let lines = [r#"{"image":"rings.png","text":"rings"}"#, r#"{"image":"tower.png","text":"塔"}"#];
    let [dataset, images] = bench.captions(&lines);
    let args = ["retrieval", "--dataset", &dataset, "--images", &images, "--allow-extra-keys"];
    let first = bench.json(&args);
    // Every weight becomes NaN; size and time stay.
    let path = bench.model.path("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let end = bytes.len() - BALLAST;
    bytes[header..end].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let second = bench.json(&args);
    assert_eq!(second["metrics"], first["metrics"]);
    // Control: without the cache it does.
    let none = bench.run(&[&args[..], &["--no-cache"]].concat());
    assert_eq!(none.status, Some(4), "{}", none.stderr);
    assert!(none.stderr.contains("error[E2104]"), "{}", none.stderr);
}

#[test]
fn texts_of_several_images_are_counted_as_muge_does() {
    let bench = Bench::new();
    let encode = |name: &str| {
        let bytes = std::fs::read(bench.path("images").join(name)).unwrap();
        base64(&bytes)
    };
    let tsv: Vec<String> =
        PICTURES.iter().enumerate().map(|(n, name)| format!("{n}\t{}\n", encode(name))).collect();
    bench.write("muge/test_imgs.tsv", tsv.concat());
    let texts = [("红裙子", [0, 1]), ("鞋", [1, 2])].map(|(text, ids)| {
        format!(r#"{{"text_id":{},"text":"{text}","image_ids":{ids:?}}}"#, ids[0])
    });
    bench.write("muge/test_texts.jsonl", texts.join("\n"));
    let spec = format!("muge:{}", bench.path("muge").display());
    let found = bench.json(&["retrieval", "--dataset", &spec, "--language", "zh"]);
    // By hand: any of a text's pictures is a hit; the fourth picture is a candidate.
    let vectors = embeddings(&bench, "--image", &paths(&bench));
    let queries = embeddings(&bench, "--text", &["红裙子".to_owned(), "鞋".to_owned()]);
    let first = |text: &Vec<f64>| {
        let score = |n: &usize| crate::dot(text, &vectors[*n]);
        (0..4).max_by(|a, b| score(a).total_cmp(&score(b))).unwrap()
    };
    let hits =
        queries.iter().zip([[0, 1], [1, 2]]).filter(|(text, own)| own.contains(&first(text)));
    let recall = hits.count() as f64 / 2.0;
    assert_eq!(found["image_retrieval_recall@1"], recall);
    assert_eq!((&found["images"], &found["images_without_caption"]), (&4.into(), &1.into()));
    let mean = (recall + 2.0) / 3.0;
    let muge = found["image_retrieval_mean_recall"].as_f64().unwrap();
    assert!((muge - mean).abs() < 1e-12, "{muge} {mean}");
    let ends = crate::numbers(&found["intervals"]["image_retrieval_mean_recall"]);
    assert!(ends[0] <= muge && muge <= ends[1], "{ends:?}");
    let shown = bench.run(&["retrieval", "--dataset", &spec, "--language", "zh"]);
    assert!(shown.text().contains("mean of image retrieval (MUGE's)"), "{}", shown.text());
}

/// Base64 as the files of MUGE have it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let of = |chunk: &[u8]| {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let letter = |n: usize| match n <= chunk.len() {
            true => char::from(LETTERS[(bits >> (18 - 6 * n)) as usize % 64]),
            false => '=',
        };
        (0..4).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(of).collect()
}

#[test]
fn single_published_figures_stand_beside_measured_ones() {
    let bench = Bench::new();
    let (dataset, names) = (bench.classes(), bench.write("names.txt", "平\n圆\n"));
    let args = ["zeroshot", "--dataset", &dataset, "--classnames", &names, "--language", "zh"];
    let table = bench.run(&[&args[..], &["--name", "imagenet-r", "--table"]].concat());
    assert_eq!(table.status, Some(0), "{}", table.stderr);
    let text = table.text();
    assert!(text.contains("imagenet-r zh, in percent") && text.contains("82.5"), "{text}");
    assert!(text.contains("(measured)"), "{text}");
    // XTD: the measured row has both ways.
    bench.write("xtd/test_image_names.txt", "rings.png\ntower.png\n");
    bench.write("xtd/test_1kcaptions_jp.txt", "環\n塔\n");
    let spec = format!("xtd:{}", bench.path("xtd").display());
    let images = bench.path("images").to_string_lossy().into_owned();
    let table = bench.run(&["retrieval", "--dataset", &spec, "--images", &images, "--table"]);
    let line =
        |part: &str| table.text().lines().find(|line| line.contains(part)).map(str::to_owned);
    let head = line("I2T R@10").unwrap_or_else(|| panic!("{} {}", table.text(), table.stderr));
    assert!(head.contains("T2I R@10"));
    assert!(line("AltCLIP-m9").unwrap().contains("91.7"));
    assert!(line("(measured)").unwrap().contains("100.0     100.0"), "{}", table.text());
    let both = bench.run(&[&args[..], &["--table", "--json"]].concat());
    assert_eq!(both.status, Some(2));
}

#[test]
fn bad_samples_have_their_codes_and_max_bad_allows_them() {
    let bench = Bench::new();
    let good = r#"{"id":1,"image":"rings.png","text":"rings"}"#;
    for (bad, code) in [
        (r#"{"id":2,"image":"gone.png","text":"x"}"#, "E5003"),
        (r#"{"id":2,"image":"rings.png","#, "E5004"),
        (r#"{"id":1,"image":"checks.png","text":"x"}"#, "E5003"),
        (r#"{"id":2,"image":"checks.png","text":""}"#, "E5003"),
        (r#"{"id":2,"image":"checks.png","text":"x","language":"fr"}"#, "E5011"),
        (r#"{"id":2,"image":"../images/checks.png","text":"x"}"#, "E5002"),
        (r#"{"id":2,"image":"text.png","text":"x"}"#, "E4001"),
    ] {
        bench.write("images/text.png", "not a picture");
        let [dataset, images] = bench.captions(&[good, bad]);
        let args = ["retrieval", "--dataset", &dataset, "--images", &images, "--language", "en"];
        let outcome = bench.run(&args);
        assert_eq!(outcome.status, Some(3), "{bad}: {}", outcome.stderr);
        assert!(outcome.stderr.starts_with(&format!("error[{code}]")), "{bad}: {}", outcome.stderr);
        assert_eq!(outcome.fault_of_stderr(), None);
        let found = bench.json(&[&args[..], &["--max-bad", "1"]].concat());
        assert_eq!((&found["images"], &found["texts"]), (&1.into(), &1.into()), "{bad}");
    }
    // Labels: out of range, and names that are not one for each class.
    let record = [vec![10], vec![0; 3072]].concat();
    bench.write("cifar/test_batch.bin", record);
    let cifar = format!("cifar10:{}", bench.path("cifar").display());
    let outcome = bench.run(&["zeroshot", "--dataset", &cifar]);
    assert!(outcome.stderr.starts_with("error[E5010]"), "{}", outcome.stderr);
    let names = bench.write("names.txt", "a\nb\nc\n");
    let dataset = bench.classes();
    let outcome = bench.run(&["zeroshot", "--dataset", &dataset, "--classnames", &names]);
    assert!(outcome.stderr.starts_with("error[E5010]"), "{}", outcome.stderr);
    let outcome = bench.run(&["retrieval", "--dataset", "flickr30k:no.json"]);
    assert_eq!(outcome.status, Some(7));
    assert!(outcome.stderr.starts_with("error[E5005]") && outcome.stderr.contains("Karpathy"));
}

#[test]
fn a_probe_and_two_languages() {
    let bench = Bench::new();
    let dataset = bench.classes();
    let probe = bench.json(&["linear-probe", "--dataset", &dataset, "--l2", "1e-6"]);
    assert_eq!((&probe["task"], &probe["metrics"]["acc1"]), (&"linear_probe".into(), &1.0.into()));
    assert_eq!(probe["train_acc1"], 1.0);
    let queries = bench.write("q.tsv", "zh\ten\n圆环\trings\n猫\t猫\n");
    let images = bench.path("images").to_string_lossy().into_owned();
    let args = [
        "consistency",
        "--queries",
        &queries,
        "--language-a",
        "en",
        "--language-b",
        "zh",
        "--images",
        &images,
    ];
    let found = bench.json(&args);
    assert_eq!((&found["queries"], &found["language"]), (&2.into(), &"en-zh".into()));
    let worst = &found["worst"][0];
    assert_eq!((&worst["a"], &worst["b"]), (&"rings".into(), &"圆环".into()));
    assert_eq!(found["worst"][1]["cosine"].as_f64().map(|cosine| cosine > 0.999_99), Some(true));
    assert_eq!(found["worst"][1]["overlap"], serde_json::json!([1.0, 1.0, 1.0]));
    bench.write("q.tsv", "one column\n");
    let outcome = bench.run(&args);
    assert!(outcome.stderr.starts_with("error[E5004]"), "{}", outcome.stderr);
}

/// What cannot be meant as prompts or names is refused with file, line and what was expected.
#[test]
fn prompts_and_names_that_cannot_be_meant() {
    let bench = Bench::new();
    let dataset = bench.classes();
    let refused = |flag: &str, name: &str, text: &str, parts: &[&str]| {
        let file = bench.write(name, text);
        let outcome = bench.run(&["zeroshot", "--dataset", &dataset, flag, &file]);
        assert_eq!(outcome.status, Some(3), "{text}: {}", outcome.stderr);
        assert_eq!(outcome.fault_of_stderr(), None);
        for part in ["error[E5010]", name].iter().chain(parts) {
            assert!(outcome.stderr.contains(part), "{text}: {part}: {}", outcome.stderr);
        }
    };
    let templates = |name, text, parts: &[&str]| refused("--templates", name, text, parts);
    templates("a.txt", "a photo of a {}\na photo\n", &["line 2", "«a photo»", "{} or {c}"]);
    templates("a.json", r#"["{c}", "{} and", "neither"]"#, &["entry 3", "«neither»"]);
    templates("a.txt", "{}\n\n{}\n", &["line 2", "empty"]);
    templates("prompts.txt", r#"{"en": ["a photo of {}"]}"#, &["line 1", "JSON", ".json"]);
    templates("prompts", "[\n  \"a photo of {}\"\n]\n", &["line 1", "JSON"]);
    let names = |name, text, parts: &[&str]| refused("--classnames", name, text, parts);
    names("n.txt", "flat\nround\nsquare\n", &["line 3", "3 names", "2, one for each class"]);
    names("n.txt", "flat\n", &["line 1", "1 names", "2, one for each class"]);
    names("n.json", r#"["flat", "round", "square", "red"]"#, &["entry 3", "4 names"]);
    names("n.list", r#"["flat", "round"]"#, &["line 1", "JSON"]);
    // Controls: the ending may be in capitals, and braces alone are a template.
    for (name, text) in [("A.JSON", r#"["{c}"]"#), ("b.txt", "{}\n"), ("c.txt", "[{}] {c}\n")] {
        let file = bench.write(name, text);
        bench.json(&["zeroshot", "--dataset", &dataset, "--templates", &file]);
    }
}

/// Shards without names of their own do not say how many classes there are.
#[test]
fn names_behind_the_highest_label_are_warned_of() {
    let bench = Bench::new();
    let mut tar = Vec::new();
    for (n, name) in PICTURES.iter().enumerate() {
        let picture = std::fs::read(bench.path("images").join(name)).unwrap();
        tar.extend(crate::shards::entry(&format!("{n}.png"), &picture));
        tar.extend(crate::shards::entry(&format!("{n}.cls"), (n % 2).to_string().as_bytes()));
    }
    tar.extend([0; 1024]);
    bench.write("shards/0.tar", tar);
    let dataset = format!("webdataset:{}", bench.path("shards").display());
    let run = |text: &str| {
        let names = bench.write("names.txt", text);
        let outcome = bench.run(&["zeroshot", "--dataset", &dataset, "--classnames", &names]);
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        outcome.stderr
    };
    let said = run("flat\nround\nsquare\n");
    assert!(said.contains("warning[W5013]") && said.contains("3 names, and no label above 1"));
    assert_eq!(run("flat\nround\n"), "");
    // With names of its own the dataset says how many there must be.
    bench.write("shards/classnames.txt", "flat\nround\n");
    let names = bench.write("names.txt", "a\nb\nc\n");
    let outcome = bench.run(&["zeroshot", "--dataset", &dataset, "--classnames", &names]);
    assert_eq!(outcome.status, Some(3));
    assert!(outcome.stderr.starts_with("error[E5010]"), "{}", outcome.stderr);
}

/// A program that the command runs in stops it in the middle of the fit, not only between pictures.
#[test]
fn a_fit_is_stopped() {
    use altclip_cli::{Called, Host, call};
    use std::{cell::Cell, rc::Rc};

    struct Patient {
        asked: Rc<Cell<usize>>,
        patience: usize,
    }
    impl Host for Patient {
        fn say(&mut self, _: &str) {}
        fn warn(&mut self, _: &altclip_report::Report) {}
        fn wants_stop(&mut self) -> bool {
            self.asked.set(self.asked.get() + 1);
            self.asked.get() > self.patience
        }
    }
    let bench = Bench::new();
    let (dataset, model) = (bench.classes(), bench.model.dir().to_string_lossy().into_owned());
    let run = |patience| {
        let args = ["altclip", "eval", "linear-probe", "--model", &model, "--dataset", &dataset];
        let args = args.iter().chain(&["--l2", "1e-3", "--no-cache", "--json"]).map(Into::into);
        let asked = Rc::new(Cell::new(0));
        let host = Patient { asked: Rc::clone(&asked), patience };
        (call(args.collect(), Box::new(host)), asked.get())
    };
    let (whole, asked) = run(usize::MAX);
    // Four pictures twice; everything else is the fit and its figures.
    assert!(whole.is_ok() && asked > 12, "{asked}");
    for patience in [8, 10, asked - 1] {
        assert!(matches!(run(patience), (Err(Called::Stopped), n) if n == patience + 1));
    }
}
