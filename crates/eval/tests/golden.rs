//! The figures of CLIP_benchmark's definitions (`scripts/reference/make_eval_goldens.py`), with and without
//! equal similarities.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use altclip_eval::{Pairs, RetrievalOptions, Rows, Scorer, retrieval, zeroshot};
use serde_json::Value;

#[test]
fn figures_are_those_of_clip_benchmark() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/eval/metrics.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let floats = |name: &str| -> Vec<f32> {
            case[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
        };
        let whole = |name: &str| -> Vec<usize> {
            case[name].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect()
        };
        let width = case["width"].as_u64().unwrap() as usize;
        let (images, texts, classes) = (floats("images"), floats("texts"), floats("classes"));
        let rows = |values| Rows::new("rows", values, width).unwrap();
        let (index, labels) = (whole("text_image_index"), whole("labels"));
        let scorer = Scorer::new(2).with_blocks(8, 16);
        let pairs = Pairs::new(rows(&images), rows(&texts), &index).unwrap();
        let report = retrieval(&scorer, &pairs, &RetrievalOptions::default());
        let found = serde_json::to_value(&report).unwrap();
        let classified = zeroshot(&scorer, &rows(&images), &rows(&classes), &labels).unwrap();
        let classified = serde_json::to_value(classified.report().unwrap()).unwrap();
        for (name, expected) in case["expected"].as_object().unwrap() {
            let found = found.get(name).or_else(|| classified.get(name)).unwrap().as_f64().unwrap();
            let expected = expected.as_f64().unwrap();
            assert!((found - expected).abs() < 1e-12, "{name}: {found}, expected {expected}");
        }
        // The cases are what they say: the rule decides in one half of them.
        let ties = report.ties.image_retrieval + report.ties.text_retrieval;
        println!("{ties} queries with ties");
        assert_eq!(ties > 20, case["ties"].as_bool().unwrap());
    }
}
