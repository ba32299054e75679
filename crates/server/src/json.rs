//! JSON as it comes from clients: read strictly, its fields taken one by one.

use crate::fault::Fault;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::Cell;
use std::fmt;

/// Most values in a body: a value takes more memory than the two bytes that it may be written in.
const MOST_VALUES: usize = 1 << 18;

/// The value of a body. A key that occurs twice, a number beyond range, more than 127 levels and more values
/// than any route takes are refused.
///
/// # Errors
/// E8001 with line and column.
pub(crate) fn parse(body: &[u8]) -> Result<Value, Fault> {
    let read = || {
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let left = Cell::new(MOST_VALUES);
        let value = Strict(&left).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    };
    read().map_err(|error: serde_json::Error| Fault::json(&error))
}

/// Knows how many values may still come.
#[derive(Clone, Copy)]
struct Strict<'c>(&'c Cell<usize>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.0.get().checked_sub(1);
        let left =
            left.ok_or_else(|| D::Error::custom(format!("more than {MOST_VALUES} values")))?;
        self.0.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        number.map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom("a key occurs twice"));
            }
            map.insert(key, entries.next_value_seed(self)?);
        }
        Ok(Value::Object(map))
    }
}

/// The fields of an object. What is `null` counts as not there; what is not asked for is left alone, unless a
/// route of our own says [`Fields::none_left`].
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// Put before the names of fields in messages: `parameters.`
    path: String,
}

impl Fields {
    pub(crate) fn of_body(body: &[u8]) -> Result<Self, Fault> {
        Self::of(parse(body)?, "body")
    }

    pub(crate) fn of(value: Value, name: &str) -> Result<Self, Fault> {
        let path = if name == "body" { String::new() } else { format!("{name}.") };
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            other => Err(wrong(name, &other, "an object")),
        }
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn needed(&mut self, name: &str, expected: &str) -> Result<Value, Fault> {
        self.take(name).ok_or_else(|| Fault::field(&self.full(name), "nothing", expected))
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, Fault> {
        self.take(name).map(|value| text(value, &self.full(name))).transpose()
    }

    pub(crate) fn flag(&mut self, name: &str, otherwise: bool) -> Result<bool, Fault> {
        match self.take(name) {
            None => Ok(otherwise),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(wrong(&self.full(name), &other, "true or false")),
        }
    }

    /// A whole number from 1 to `most`.
    pub(crate) fn count(&mut self, name: &str, most: usize) -> Result<Option<usize>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        match number.filter(|number| (1..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                Err(wrong(&self.full(name), &value, &format!("a whole number from 1 to {most}")))
            }
        }
    }

    /// A string or a list of strings.
    pub(crate) fn strings(&mut self, name: &str) -> Result<Option<Vec<String>>, Fault> {
        let full = self.full(name);
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => {
                items.into_iter().map(|item| text(item, &full)).collect::<Result<_, _>>().map(Some)
            }
            Some(value) => Ok(Some(vec![text(value, &full)?])),
        }
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Fields>, Fault> {
        let full = self.full(name);
        self.take(name).map(|value| Fields::of(value, &full)).transpose()
    }

    /// Refuses what was not taken. Called with the names that there are, once all of them were asked for.
    pub(crate) fn none_left(&self, known: &[&str]) -> Result<(), Fault> {
        match self.map.iter().find(|(_, value)| !value.is_null()) {
            Some((name, _)) => Err(Fault::unknown(&self.full(name), known)),
            None => Ok(()),
        }
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }
}

pub(crate) fn text(value: Value, name: &str) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(name, &other, "a string")),
    }
}

/// A field has another type or value than it must.
pub(crate) fn wrong(name: &str, got: &Value, expected: &str) -> Fault {
    let got = match got {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => altclip_report::quote(text),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
    };
    Fault::field(name, got, expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    #[test]
    fn what_is_not_strict_json_is_refused_with_its_place() {
        let deep = "[".repeat(100_000);
        let many = format!("[{}1]", "1,".repeat(MOST_VALUES));
        for (body, place) in [
            ("{\"a\": 1,\n \"a\": 2}", "line 2"),
            ("{\"a\": {\"b\": 1, \"b\": 1}}", "line 1"),
            ("[1e400]", "line 1"),
            ("{\"a\": NaN}", "line 1"),
            ("{} x", "line 1 column 4"),
            ("", "line 1 column 0"),
            (deep.as_str(), "line 1 column 128"),
            (many.as_str(), "line 1"),
        ] {
            let fault = parse(body.as_bytes()).unwrap_err();
            assert_eq!(fault.status, StatusCode::BAD_REQUEST);
            assert!(fault.report.place.as_deref().unwrap().contains(place), "{fault:?}");
        }
        assert!(parse(b"{\"a\": \"\xff\"}").is_err());
        assert_eq!(parse(b" {\"a\": [1, -2, 0.5, null, true]} ").unwrap()["a"][2], 0.5);
    }

    #[test]
    fn fields_say_what_is_wrong_with_them() {
        let body = br#"{"n": 0, "s": 1, "l": ["a", 2], "o": {"f": "x"}, "none": null}"#;
        let mut fields = Fields::of_body(body).unwrap();
        let param = |fault: Fault| fault.param.unwrap();
        assert_eq!(param(fields.count("n", 5).unwrap_err()), "n");
        assert_eq!(param(fields.string("s").unwrap_err()), "s");
        assert_eq!(param(fields.strings("l").unwrap_err()), "l");
        let mut inner = fields.object("o").unwrap().unwrap();
        assert_eq!(param(inner.flag("f", true).unwrap_err()), "o.f");
        assert!(fields.string("none").unwrap().is_none());
        assert_eq!(param(fields.needed("none", "a string").unwrap_err()), "none");
        assert!(Fields::of_body(b"[]").is_err());
        let mut fields = Fields::of_body(br#"{"a": 1, "b": 2, "none": null}"#).unwrap();
        fields.take("a").unwrap();
        let fault = fields.none_left(&["a"]).unwrap_err();
        assert_eq!(
            (fault.param.as_deref(), fault.report.expected.as_deref()),
            (Some("b"), Some("a"))
        );
        fields.take("b").unwrap();
        assert!(fields.none_left(&["a", "b"]).is_ok());
    }
}
