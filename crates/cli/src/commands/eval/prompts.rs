//! Files of templates and class names: one a line, or JSON as CLIP_benchmark keeps them, a list for each dataset.

use crate::failure::Failure;
use altclip_report::{Code, Report, quote};
use serde_json::Value;
use std::path::Path;

/// Which list of a JSON file is meant.
pub(super) struct Wanted<'a> {
    /// As the user said.
    pub(super) name: Option<&'a str>,
    pub(super) dataset: &'a str,
    pub(super) language: &'a str,
    /// Entries that it must have.
    pub(super) count: Option<usize>,
}

/// The entries of a file.
pub(super) fn read(path: &Path, wanted: &Wanted<'_>) -> Result<Vec<String>, Failure> {
    let shown = quote(&path.to_string_lossy());
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::one(
            Report::new(
                Code::E4201,
                "input",
                format!("the file of prompts cannot be read: {error}"),
            )
            .place(shown.clone())
            .expected("a text file with one prompt or name a line, or JSON")
            .help("check the path"),
        )
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_json = path.extension().is_some_and(|ending| ending == "json");
    let entries = if is_json {
        let value = serde_json::from_str(text).map_err(|e| wrong(&shown, e.to_string(), "JSON"))?;
        list(&value, wanted, &shown)?
    } else {
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    };
    if let Some(line) = entries.iter().position(|entry| entry.trim().is_empty()) {
        return Err(wrong(&shown, format!("entry {} is empty", line + 1), "no empty entry"));
    }
    match wanted.count {
        _ if entries.is_empty() => Err(wrong(&shown, "nothing".into(), "at least one entry")),
        Some(count) if entries.len() != count => Err(wrong(
            &shown,
            format!("{} names", entries.len()),
            &format!("{count}, one for each class of the dataset"),
        )),
        _ => Ok(entries),
    }
}

fn wrong(place: &str, got: String, expected: &str) -> Failure {
    Failure::one(
        Report::new(Code::E5010, "eval", "the file of prompts or names cannot be used")
            .place(place)
            .got(got)
            .expected(expected)
            .help("write one entry a line, or name the list with --prompts"),
    )
}

/// The list that is meant, through the level of languages if there is one.
fn list(value: &Value, wanted: &Wanted<'_>, place: &str) -> Result<Vec<String>, Failure> {
    match value {
        Value::Array(entries) => entries
            .iter()
            .map(|entry| entry.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| wrong(place, "an entry that is no text".into(), "texts")),
        Value::Object(lists) => {
            let plain = |name: &str| -> String {
                name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
            };
            let named = |name: &str| {
                lists.iter().find(|(key, _)| plain(key) == plain(name)).map(|(_, list)| list)
            };
            let languages = match wanted.language {
                "zh" => ["zh", "cn"],
                "ja" => ["ja", "jp"],
                language => [language, language],
            };
            let fits = |list: &&Value| {
                wanted.count.is_none_or(|count| list.as_array().is_none_or(|l| l.len() == count))
            };
            let only = || {
                let mut fitting = lists.values().filter(fits);
                fitting.next().filter(|_| fitting.next().is_none())
            };
            let found = wanted
                .name
                .and_then(named)
                .or_else(|| languages.into_iter().find_map(|name| lists.get(name)))
                .or_else(|| named(wanted.dataset).filter(|_| wanted.name.is_none()))
                .or_else(|| only().filter(|_| wanted.name.is_none()));
            match found {
                Some(found) => list(found, wanted, place),
                None => {
                    let names: Vec<&str> = lists.keys().map(String::as_str).collect();
                    let expected = format!("one of them, by --prompts, for {}", wanted.dataset);
                    Err(wrong(place, format!("the lists {}", names.join(", ")), &expected))
                }
            }
        }
        _ => Err(wrong(place, "neither a list nor lists by name".into(), "a list of texts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str, name: Option<&str>, count: Option<usize>) -> Option<Vec<String>> {
        let value = serde_json::from_str(json).unwrap();
        let wanted = Wanted { name, dataset: "cifar-10", language: "zh", count };
        list(&value, &wanted, "x").ok()
    }

    #[test]
    fn the_list_that_is_meant() {
        let two = r#"{"cifar10":["{}"],"imagenet1k":["a {}","b {}"]}"#;
        assert_eq!(found(two, None, None).unwrap().len(), 1);
        assert_eq!(found(two, Some("imagenet1k"), None).unwrap().len(), 2);
        assert_eq!(found(two, Some("mnist"), None), None);
        assert_eq!(found(r#"{"imagenet1k":["{c}的照片"]}"#, None, None).unwrap().len(), 1);
        assert_eq!(found(r#"{"a":["1"],"b":["1","2"]}"#, None, Some(2)).unwrap().len(), 2);
        assert_eq!(found(r#"{"a":["1"],"b":["1","2"]}"#, None, None), None);
        assert_eq!(found(r#"{"cn":{"cifar10":["猫"]},"en":{}}"#, None, None).unwrap(), ["猫"]);
        assert_eq!(found("[1]", None, None), None);
    }
}
