//! The components of a Unigram tokenizer.json, each by name; an unknown one is refused by name.

use serde_json::Value;

use crate::Error;
use crate::charsmap::Charsmap;
use crate::normalizer::{Normalizer, Step};
use crate::pipeline::WordRule;

fn refused(place: &'static str, name: impl Into<String>) -> Error {
    Error::Component { place, name: name.into() }
}

fn kind(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or("no type")
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The components of a `Sequence`, or the one component itself.
fn sequence<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    match value.get(key).and_then(Value::as_array) {
        Some(list) if kind(value) == "Sequence" => list,
        _ if value.is_null() => &[],
        _ => std::slice::from_ref(value),
    }
}

/// The normaliser: nothing, or a chain of `Precompiled`, `Replace` and `Strip`.
pub(crate) fn normalizer(value: &Value) -> Result<Normalizer, Error> {
    let mut steps = Vec::new();
    for step in sequence(value, "normalizers") {
        let place = "normalizer";
        steps.push(match kind(step) {
            "Precompiled" => {
                let text = step.get("precompiled_charsmap").and_then(Value::as_str);
                Step::Charsmap(Charsmap::parse(&base64(text.unwrap_or_default())?)?)
            }
            "Replace" => {
                let with = step.get("content").and_then(Value::as_str).unwrap_or_default();
                let with = with.to_owned();
                let pattern = step.get("pattern").unwrap_or(&Value::Null);
                match (pattern.get("String"), pattern.get("Regex")) {
                    (Some(Value::String(literal)), None) if !literal.is_empty() => {
                        Step::Replace { literal: literal.clone(), with }
                    }
                    (None, Some(Value::String(regex))) if regex == " {2,}" => {
                        Step::ReplaceSpaces { with }
                    }
                    _ => return Err(refused(place, format!("Replace of {pattern}"))),
                }
            }
            "Strip" => {
                Step::Strip { left: flag(step, "strip_left"), right: flag(step, "strip_right") }
            }
            other => return Err(refused(place, other)),
        });
    }
    Ok(Normalizer { steps })
}

/// The rule for words: `Metaspace`, alone or after `WhitespaceSplit`.
pub(crate) fn pre_tokenizer(value: &Value) -> Result<WordRule, Error> {
    let place = "pre_tokenizer";
    let (split_whitespace, metaspace) = match sequence(value, "pretokenizers") {
        [only] => (false, only),
        [first, second] if kind(first) == "WhitespaceSplit" => (true, second),
        [] => return Err(refused(place, "none")),
        [first, ..] => return Err(refused(place, format!("a sequence from {}", kind(first)))),
    };
    if kind(metaspace) != "Metaspace" {
        return Err(refused(place, kind(metaspace)));
    }
    let mark = metaspace.get("replacement").and_then(Value::as_str).unwrap_or("▁");
    let mut chars = mark.chars();
    let (Some(mark), None) = (chars.next(), chars.next()) else {
        return Err(refused(place, format!("Metaspace with the replacement {mark}")));
    };
    let prepend = match metaspace.get("prepend_scheme").and_then(Value::as_str) {
        Some("never") => false,
        Some("always") | None => metaspace.get("add_prefix_space") != Some(&Value::Bool(false)),
        Some(other) => return Err(refused(place, format!("Metaspace with the scheme {other}"))),
    };
    let split_mark = metaspace.get("split").and_then(Value::as_bool).unwrap_or(true);
    Ok(WordRule { split_whitespace, mark, prepend, split_mark })
}

/// Ids before and after a single text.
pub(crate) fn post_processor(value: &Value) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let place = "post_processor";
    match kind(value) {
        _ if value.is_null() => Ok((Vec::new(), Vec::new())),
        "TemplateProcessing" => template(value).ok_or_else(|| {
            refused(place, "a TemplateProcessing that is not special tokens around A")
        }),
        name @ ("RobertaProcessing" | "BertProcessing") => {
            let id = |key: &str| Some(vec![as_id(value.get(key)?.get(1)?)?]);
            id("cls").zip(id("sep")).ok_or_else(|| refused(place, name))
        }
        other => Err(refused(place, other)),
    }
}

fn as_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn template(value: &Value) -> Option<(Vec<u32>, Vec<u32>)> {
    let (mut before, mut after, mut seen) = (Vec::new(), Vec::new(), false);
    for part in value.get("single")?.as_array()? {
        if let Some(special) = part.get("SpecialToken") {
            let name = special.get("id")?.as_str()?;
            let ids = value.get("special_tokens")?.get(name)?.get("ids")?.as_array()?;
            let to = if seen { &mut after } else { &mut before };
            for id in ids {
                to.push(as_id(id)?);
            }
        } else if part.get("Sequence")?.get("id")? == "A" && !seen {
            seen = true;
        } else {
            return None;
        }
    }
    seen.then_some((before, after))
}

/// Standard base64 with padding.
fn base64(text: &str) -> Result<Vec<u8>, Error> {
    let damaged = |offset, what| Err(Error::Charsmap { offset, what });
    let bytes = text.as_bytes();
    let body = bytes.strip_suffix(b"==").or(bytes.strip_suffix(b"=")).unwrap_or(bytes);
    if !bytes.len().is_multiple_of(4) {
        return damaged(bytes.len(), "its base64 is cut off");
    }
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    let (mut bits, mut n_bits) = (0u32, 0);
    for (at, byte) in body.iter().enumerate() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return damaged(at / 4 * 3, "its base64 has a character of another alphabet"),
        };
        bits = (bits << 6) | u32::from(six);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            out.push((bits >> n_bits) as u8);
            bits &= (1 << n_bits) - 1;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_its_padding() {
        for (text, bytes) in
            [("", ""), ("YQ==", "a"), ("YWI=", "ab"), ("YWJj", "abc"), ("YWJjZA==", "abcd")]
        {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes());
        }
        assert!(base64("YQ").is_err());
        assert!(base64("Y-==").is_err());
    }

    #[test]
    fn unknown_components_are_named() {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let cases = [
            (normalizer(&json(r#"{"type":"NFKC"}"#)).err(), "NFKC"),
            (
                normalizer(&json(
                    r#"{"type":"Replace","pattern":{"Regex":"(a+)+$"},"content":""}"#,
                ))
                .err(),
                "(a+)+$",
            ),
            (pre_tokenizer(&json(r#"{"type":"Split"}"#)).err(), "Split"),
            (
                pre_tokenizer(&json(
                    r#"{"type":"Metaspace","replacement":"_","prepend_scheme":"first"}"#,
                ))
                .err(),
                "first",
            ),
            (pre_tokenizer(&Value::Null).err(), "none"),
            (post_processor(&json(r#"{"type":"ByteLevel"}"#)).err(), "ByteLevel"),
        ];
        for (error, name) in cases {
            let error = error.unwrap();
            assert!(
                matches!(&error, Error::Component { name: found, .. } if found.contains(name)),
                "{error}"
            );
        }
    }
}
