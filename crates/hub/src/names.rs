//! The names that come from outside and end up in paths and addresses, each checked once.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;

/// Longest repository id, as on the Hub.
const MAX_REPO_BYTES: usize = 96;
const MAX_REVISION_BYTES: usize = 250;
const MAX_FILE_BYTES: usize = 512;
/// Longest name that common file systems take.
const MAX_COMPONENT_BYTES: usize = 255;

/// The id of a model on the Hub, `ORG/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepoId(String);

impl RepoId {
    /// The id as written, `ORG/NAME`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder of the repository inside the cache, `models--ORG--NAME`.
    pub fn folder_name(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepoId {
    type Err = Error;

    /// Reads `ORG/NAME`.
    ///
    /// # Errors
    /// [`Error::RepoName`] if the text breaks a rule of the Hub: letters, digits, `-`, `_` and `.`
    /// only, no `--` and no `..`, no `-` or `.` at an end.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason| Err(Error::RepoName { text: text.to_owned(), reason });
        if text.len() > MAX_REPO_BYTES {
            return refuse("it is longer than 96 bytes");
        }
        let Some((org, name)) = text.split_once('/') else {
            return refuse("it has no slash");
        };
        for part in [org, name] {
            if part.is_empty() {
                return refuse("a part is empty");
            }
            if !part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
                return refuse("only letters, digits, '-', '_', '.' and one slash are allowed");
            }
            if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
                return refuse("a part starts or ends with '-' or '.'");
            }
            if part.contains("--") || part.contains("..") {
                return refuse("'--' and '..' are not allowed");
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// Checks that a revision is safe as an address and as a path below `refs`.
pub(crate) fn check_revision(text: &str) -> Result<(), Error> {
    let good_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && !part.contains("..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+@".contains(&b))
    };
    if text.len() <= MAX_REVISION_BYTES && text.split('/').all(good_part) {
        Ok(())
    } else {
        Err(Error::Revision { text: text.to_owned() })
    }
}

/// Whether the text is a full commit id.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_lower_hex(text)
}

pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The relative path of a file that the Hub announces; a name that leaves its folder on any
/// platform is refused on all of them.
pub(crate) fn file_path(repo: &RepoId, name: &str) -> Result<PathBuf, Error> {
    let good_part = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.len() <= MAX_COMPONENT_BYTES
            && !part.chars().any(|c| c.is_control() || matches!(c, '\\' | ':'))
    };
    if name.len() <= MAX_FILE_BYTES && name.split('/').all(good_part) {
        Ok(name.split('/').collect())
    } else {
        Err(Error::FileName { repo: repo.to_string(), name: name.to_owned() })
    }
}

/// Percent-encodes everything but unreserved characters and, if `keep_slash`, the slash.
pub(crate) fn percent_encode(text: &str, keep_slash: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (keep_slash && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_ids() {
        for good in ["BAAI/AltCLIP", "BAAI/AltCLIP-m9", "a/b", "o.rg/n_a.m-e"] {
            let repo: RepoId = good.parse().expect(good);
            assert_eq!(repo.to_string(), good);
        }
        let long = format!("a/{}", "b".repeat(95));
        for bad in [
            "", "/", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b..c", "a/b--c", "a/-b", "a/b.",
            "a/b c", "a/b\n", "ä/b", "a\\b", "a/b%2e", &long,
        ] {
            assert!(bad.parse::<RepoId>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!(
            "BAAI/AltCLIP".parse::<RepoId>().unwrap().folder_name(),
            "models--BAAI--AltCLIP"
        );
    }

    #[test]
    fn revisions() {
        for good in ["main", "refs/pr/8", "v1.0", "0123456789012345678901234567890123456789"] {
            check_revision(good).expect(good);
        }
        for bad in
            ["", "..", "a/../b", "/a", "a/", "a//b", "a b", "a?b", "a#b", "a\\b", ".git", "a\0"]
        {
            assert!(check_revision(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn file_names_stay_in_their_folder() {
        let repo = "a/b".parse().unwrap();
        for good in ["config.json", "unet/model.bin", "1_Pooling/config.json", "名前.txt", "..x"]
        {
            file_path(&repo, good).expect(good);
        }
        let long = "x".repeat(256);
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "../x",
            "../../x",
            "a/../../x",
            "a/..",
            ".",
            "./a",
            "a//b",
            "a/",
            "..\\x",
            "a\\..\\x",
            "C:x",
            "C:\\x",
            "a:stream",
            "a\0b",
            "a\nb",
            "\\\\host\\x",
            &long,
        ] {
            assert!(file_path(&repo, bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn addresses_are_encoded() {
        assert_eq!(percent_encode("refs/pr/8", false), "refs%2Fpr%2F8");
        assert_eq!(percent_encode("a b/ü?#%", true), "a%20b/%C3%BC%3F%23%25");
    }
}
