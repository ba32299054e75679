//! Crossmodal-3600: `captions.jsonl`, one picture a line with captions in 36 languages.
//!
//! # Source
//! Thapliyal et al., Crossmodal-3600 (EMNLP 2022).

use serde_json::Value;

use super::build::Builder;
use crate::{Error, Reason};

const FROM: &str = "captions.jsonl and the pictures are given out by the project Crossmodal-3600";

pub(super) fn read(builder: &mut Builder<'_>) -> Result<(), Error> {
    let mut path = builder.spec.path.clone();
    if path.is_dir() {
        path = path.join("captions.jsonl");
    }
    let asked = builder.options.language.clone();
    builder.lines(&path, FROM, |builder, line, place| {
        if line.trim().is_empty() {
            return;
        }
        let record: serde_json::Map<String, Value> = match serde_json::from_str(line) {
            Ok(record) => record,
            Err(error) => return builder.fault(Reason::BrokenLine, place, error.to_string()),
        };
        let Some(key) = record.get("image/key").and_then(Value::as_str) else {
            return builder.fault(Reason::BrokenLine, place, "no field «image/key»");
        };
        let name = format!("{key}.jpg");
        if builder.known(&name).is_some() {
            return builder.fault(Reason::DuplicateKey, place, "the id occurred before");
        }
        let inner = format!("images/{name}");
        let Some(picture) = builder.file(&[&name, &inner], &place) else { return };
        for (language, value) in &record {
            // Here a language is a field: those that were not asked for are other sets, not faults.
            if asked.as_ref().is_some_and(|asked| asked != language) {
                continue;
            }
            let captions = value.get("caption").and_then(Value::as_array);
            for caption in captions.into_iter().flatten().filter_map(Value::as_str) {
                builder.caption(caption, picture, Vec::new(), Some(language), &place);
            }
        }
    })
}
