//! One result as CLIP_benchmark writes it: an object a run, and a table of many.
//!
//! # Source
//! `clip_benchmark/cli.py`, LAION-AI/CLIP_benchmark@082089f: keys, file names, and what `build` makes of them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The figures of one model on one dataset in one language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Name of the dataset.
    pub dataset: String,
    /// Name of the architecture.
    pub model: String,
    /// Name of the weights.
    pub pretrained: String,
    /// `zeroshot_classification`, `zeroshot_retrieval`, `linear_probe` or `consistency`.
    pub task: String,
    /// Figures by name, shares from 0 to 1.
    pub metrics: Map<String, Value>,
    /// The language of the texts.
    pub language: String,
    /// What CLIP_benchmark does not have: intervals, worst queries, the machine. Beside the keys above.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Record {
    /// `{dataset}_{pretrained}_{model}_{language}_{task}.json`, with `-` for what no file name can have.
    pub fn file_name(&self) -> String {
        let Self { dataset, pretrained, model, language, task, .. } = self;
        let name = format!("{dataset}_{pretrained}_{model}_{language}_{task}");
        let plain = |c: char| if c.is_alphanumeric() || "-_.@".contains(c) { c } else { '-' };
        format!("{}.json", name.chars().map(plain).collect::<String>())
    }

    /// A figure, if there is one of that name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.get(name)?.as_f64()
    }
}

/// The results as CSV: a column for each figure that one of them has.
pub fn csv(records: &[Record]) -> String {
    let figures: BTreeSet<&String> =
        records.iter().flat_map(|record| record.metrics.keys()).collect();
    let mut out = String::new();
    let head = ["dataset", "model", "pretrained", "model_fullname", "task", "language"];
    let names = head.iter().copied().chain(figures.iter().map(|name| name.as_str()));
    row(&mut out, names.map(str::to_owned));
    for record in records {
        let Record { dataset, model, pretrained, task, language, .. } = record;
        let fullname = format!("{model} {pretrained}");
        let own = [dataset, model, pretrained, &fullname, task, language].map(String::clone);
        let figures = figures.iter().map(|name| match record.metrics.get(*name) {
            None | Some(Value::Null) => String::new(),
            Some(value) => value.to_string(),
        });
        row(&mut out, own.into_iter().chain(figures));
    }
    out
}

fn row(out: &mut String, cells: impl Iterator<Item = String>) {
    for (column, cell) in cells.enumerate() {
        if column > 0 {
            out.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            out.push_str(&format!("\"{}\"", cell.replace('"', "\"\"")));
        } else {
            out.push_str(&cell);
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_clip_benchmarks() {
        let text = r#"{"dataset":"wds/x","model":"ViT-B-32","pretrained":"openai","task":"zeroshot_classification","metrics":{"acc1":0.5,"acc5":null},"language":"en","seconds":1}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!(record.file_name(), "wds-x_openai_ViT-B-32_en_zeroshot_classification.json");
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        let other = Record { dataset: "a, \"b\"".into(), metrics: Map::new(), ..record.clone() };
        assert_eq!(
            csv(&[record, other]),
            "dataset,model,pretrained,model_fullname,task,language,acc1,acc5\n\
             wds/x,ViT-B-32,openai,ViT-B-32 openai,zeroshot_classification,en,0.5,\n\
             \"a, \"\"b\"\"\",ViT-B-32,openai,ViT-B-32 openai,zeroshot_classification,en,,\n"
        );
    }
}
