//! The answer of the Hub about a repository: its files, its commit and its licence.

use serde::Deserialize;

use crate::Error;
use crate::names::is_commit;

/// Whether files are given only to people who accepted the licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gated {
    /// Open to everyone.
    No,
    /// Accepting the licence is enough.
    Auto,
    /// The owners let each person in.
    Manual,
}

/// What the page of a model says about its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The licence's short name, such as `creativeml-openrail-m`; several are joined by commas.
    pub license: Option<String>,
    /// The name of a licence that is not in the Hub's list.
    pub license_name: Option<String>,
    /// Where that licence is.
    pub license_link: Option<String>,
    /// Whether the licence must be accepted first.
    pub gated: Gated,
    /// The commit of the revision.
    pub commit: String,
}

/// One file as the Hub lists it. Size and checksums are there where the Hub was asked for them.
#[derive(Debug, Deserialize)]
pub(crate) struct Sibling {
    #[serde(rename = "rfilename")]
    pub(crate) name: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Sibling {
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.lfs.as_ref().and_then(|lfs| lfs.size).or(self.size)
    }

    /// The name of its blob in the cache.
    pub(crate) fn checksum(&self) -> Option<&str> {
        match &self.lfs {
            Some(lfs) => lfs.sha256.as_deref(),
            None => self.blob_id.as_deref(),
        }
    }
}

/// A checked answer.
#[derive(Debug)]
pub(crate) struct RepoInfo {
    pub(crate) card: Card,
    pub(crate) siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default)]
    gated: serde_json::Value,
    #[serde(rename = "cardData", default)]
    card_data: serde_json::Value,
}

/// Reads the JSON text of `/api/models/ORG/NAME/revision/REVISION`.
pub(crate) fn parse(url: &str, json: &[u8]) -> Result<RepoInfo, Error> {
    let bad = |reason: String| Error::BadAnswer { url: url.to_owned(), reason };
    // serde_json names line and column only, so that nothing of the answer gets into the message.
    let answer: Answer = serde_json::from_slice(json).map_err(|e| {
        bad(format!("line {} column {} is not the expected JSON", e.line(), e.column()))
    })?;
    if !is_commit(&answer.sha) {
        return Err(bad("its commit is not 40 hexadecimal digits".to_owned()));
    }
    let card = &answer.card_data;
    let text = |key: &str| match card.get(key)? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(serde_json::Value::as_str).collect();
            (!items.is_empty()).then(|| items.join(", "))
        }
        _ => None,
    };
    let gated = match &answer.gated {
        serde_json::Value::String(kind) if kind == "manual" => Gated::Manual,
        serde_json::Value::String(_) | serde_json::Value::Bool(true) => Gated::Auto,
        _ => Gated::No,
    };
    let card = Card {
        license: text("license"),
        license_name: text("license_name"),
        license_link: text("license_link"),
        gated,
        commit: answer.sha,
    };
    Ok(RepoInfo { card, siblings: answer.siblings })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn licence_and_gate() {
        let read = |extra: &str| {
            parse("u", format!(r#"{{"sha":"{SHA}","siblings":[]{extra}}}"#).as_bytes())
                .unwrap()
                .card
        };
        assert_eq!(read("").license, None);
        assert_eq!(read(r#","cardData":null,"gated":false"#).gated, Gated::No);
        let card = read(r#","gated":"auto","cardData":{"license":"creativeml-openrail-m"}"#);
        assert_eq!(
            (card.license.as_deref(), card.gated),
            (Some("creativeml-openrail-m"), Gated::Auto)
        );
        assert_eq!(
            read(r#","cardData":{"license":["mit","x"]}"#).license.as_deref(),
            Some("mit, x")
        );
        assert_eq!(read(r#","gated":"manual""#).gated, Gated::Manual);
    }

    #[test]
    fn answers_of_something_else_are_refused() {
        for json in ["", "<html>", "[]", "{}", r#"{"sha":"../../x"}"#, r#"{"sha":7}"#] {
            assert!(matches!(parse("u", json.as_bytes()), Err(Error::BadAnswer { .. })), "{json}");
        }
    }
}
