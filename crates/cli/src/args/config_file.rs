//! A run's flags in a TOML file: they are put in front of what was typed, so that one parser knows them
//! all.

use crate::failure::Failure;
use altclip_report::{Code, Report, quote};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The command line with the keys of `--config FILE` as flags, where `altclip train` has one; for `clip` only a
/// file named `.toml` is one, others describe the model.
/// Flags that were typed stay, and hide the keys of their name.
///
/// # Errors
/// The file cannot be read, is not TOML, or has a value that no flag can have.
pub(crate) fn expanded(args: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let Some(train) = args.iter().position(|arg| arg == "train") else { return Ok(args) };
    let is_clip = args.get(train + 1).is_some_and(|kind| kind == "clip");
    let Some(path) = typed(&args, "config").filter(|path| !is_clip || is_toml(path)) else {
        return Ok(args);
    };
    let path = Path::new(&path);
    let fault = |got: String, help: &str| {
        Failure::one(
            Report::new(Code::E1001, "usage", "the configuration file cannot be used")
                .place(format!("--config {}", quote(&path.to_string_lossy())))
                .got(got)
                .expected("a TOML file whose keys are names of flags")
                .help(help),
        )
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| fault(error.to_string(), "name a file that exists"))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        fault(error.message().to_owned(), "see the config.toml of a finished run")
    })?;
    let mut flags = Vec::new();
    for (key, value) in &table {
        if typed(&args, key).is_some() || args.iter().any(|arg| arg == flag(key).as_os_str()) {
            continue;
        }
        let values = match value {
            toml::Value::Array(values) => values.iter().collect(),
            other => vec![other],
        };
        for value in values {
            match value {
                toml::Value::Boolean(true) => flags.push(flag(key)),
                toml::Value::Boolean(false) => {}
                toml::Value::String(text) => flags.push(with_value(key, text)),
                toml::Value::Integer(number) => flags.push(with_value(key, &number.to_string())),
                toml::Value::Float(number) => flags.push(with_value(key, &number.to_string())),
                other => {
                    let got = format!("{} = a {}", quote(key), other.type_str());
                    return Err(fault(
                        got,
                        "a key takes a number, a text, true, or a list of these",
                    ));
                }
            }
        }
    }
    let mut args = args;
    // Behind `train KIND`, in front of everything that was typed.
    let place = (train + 2).min(args.len());
    args.splice(place..place, flags);
    Ok(args)
}

fn is_toml(path: &OsStr) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
}

fn flag(key: &str) -> OsString {
    format!("--{key}").into()
}

fn with_value(key: &str, value: &str) -> OsString {
    format!("--{key}={value}").into()
}

/// The value of a flag as it was typed, `--key VALUE` or `--key=VALUE`.
fn typed(args: &[OsString], key: &str) -> Option<OsString> {
    let flag = flag(key);
    let prefix = format!("--{key}=");
    args.iter().enumerate().find_map(|(n, arg)| {
        if *arg == flag {
            return args.get(n + 1).cloned();
        }
        arg.to_str()?.strip_prefix(&prefix).map(OsString::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn keys_become_flags_and_what_is_typed_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.toml");
        let toml = "batch-size = 8\nlr = 1e-3\nresume = true\njson = false\npairs = ['a', 'b']\n";
        std::fs::write(&path, toml).unwrap();
        let line = format!("altclip train distill --config {} --lr 5", path.display());
        let found = expanded(words(&line)).unwrap();
        let expected = format!(
            "altclip train distill --batch-size=8 --pairs=a --pairs=b --resume --config {} --lr 5",
            path.display()
        );
        assert_eq!(found, words(&expected));
        let plain = words("altclip embed --config x.toml");
        assert_eq!(expanded(plain.clone()).unwrap(), plain);
        let json = words("altclip train clip --config c.json");
        assert_eq!(expanded(json.clone()).unwrap(), json);
        std::fs::write(&path, "a = {b = 1}").unwrap();
        assert!(expanded(words(&line)).is_err());
    }
}
