//! Files of templates and class names: one a line, or JSON as CLIP_benchmark keeps them, a list for each dataset.

use crate::failure::Failure;
use altclip_report::{Code, Report, quote};
use serde_json::Value;
use std::path::Path;

/// Which list of a JSON file is meant, and what must be in it.
pub(super) struct Wanted<'a> {
    /// As the user said.
    pub(super) name: Option<&'a str>,
    pub(super) dataset: &'a str,
    pub(super) language: &'a str,
    pub(super) entries: Entries,
}

/// What the entries of a list are.
#[derive(Clone, Copy)]
pub(super) enum Entries {
    /// Prompts, each with a place for the class.
    Templates,
    /// The names of the classes: as many as there are classes, where that is known.
    Names(Option<usize>),
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
    let (entries, unit) = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        let value = serde_json::from_str(text).map_err(|e| wrong(&shown, e.to_string(), "JSON"))?;
        (list(&value, wanted, &shown)?, "entry")
    } else if looks_like_json(text) {
        let expected = "one prompt or name a line; the name of a JSON file ends in .json";
        return Err(wrong(&format!("{shown}, line 1"), "what looks like JSON".into(), expected));
    } else {
        (text.lines().map(|line| line.trim_end().to_owned()).collect(), "line")
    };
    check(&entries, wanted.entries, &shown, unit)?;
    Ok(entries)
}

/// Refuses entries that cannot be meant; `unit` is what they are counted in.
pub(super) fn check(
    entries: &[String],
    wanted: Entries,
    shown: &str,
    unit: &str,
) -> Result<(), Failure> {
    let at = |n: usize| format!("{shown}, {unit} {n}");
    if entries.is_empty() {
        return Err(wrong(shown, "nothing".into(), "at least one entry"));
    }
    for (n, entry) in (1..).zip(entries) {
        if entry.trim().is_empty() {
            return Err(wrong(&at(n), "an empty entry".into(), "a text"));
        }
        if matches!(wanted, Entries::Templates) && !has_place(entry) {
            return Err(wrong(&at(n), quote(entry), "a template with {} or {c} for the class"));
        }
    }
    match wanted {
        Entries::Names(Some(count)) if entries.len() != count => Err(wrong(
            // The first name too many, or the last one there is.
            &at(entries.len().min(count + 1)),
            format!("{} names", entries.len()),
            &format!("{count}, one for each class of the dataset"),
        )),
        _ => Ok(()),
    }
}

/// Whether a template says where the class goes.
fn has_place(template: &str) -> bool {
    ["{}", "{c}"].iter().any(|place| template.contains(place))
}

/// Whether a text begins as a list or an object with texts in it: no prompt and no name of a class does.
fn looks_like_json(text: &str) -> bool {
    let inside = text.trim_start().strip_prefix(['[', '{']);
    inside.is_some_and(|inside| inside.trim_start().starts_with('"'))
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
            let count = match wanted.entries {
                Entries::Names(count) => count,
                Entries::Templates => None,
            };
            let fits = |list: &&Value| {
                count.is_none_or(|count| list.as_array().is_none_or(|l| l.len() == count))
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
        let entries = Entries::Names(count);
        let wanted = Wanted { name, dataset: "cifar-10", language: "zh", entries };
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
    #[test]
    fn what_only_looks_like_json() {
        for json in ["[\"a\"]", "\n{ \"en\": []}", "[\n  \"a"] {
            assert!(looks_like_json(json), "{json}");
        }
        for text in ["{}", "{c}\n", "[unknown] {}", "{} \"quoted\"", "", "\"{}\""] {
            assert!(!looks_like_json(text), "{text}");
        }
    }
}
