//! Who may do what: keys with scopes, kept and compared as hashes in constant time.

use crate::Error;
use crate::fault::Fault;
use altclip_report::{Code, Report};
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

/// Longest file of keys in bytes, and most keys.
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_KEYS: usize = 1024;
/// Shortest key that an address is safe with which other machines reach.
const LEAST_BYTES: usize = 32;
/// Query parameters in which clients are known to send keys.
const IN_QUERY: [&str; 4] = ["api_key", "api-key", "access_token", "key"];

/// What a route is for, and a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// No key is asked for.
    Open,
    /// Any key.
    Any,
    /// Vectors and labels of what a client brings.
    Embed,
    /// What is in the index.
    Search,
    /// Changes of the index.
    Write,
    /// The server itself.
    Admin,
}

impl Scope {
    const NAMED: [(&'static str, Scope); 4] = [
        ("embed", Scope::Embed),
        ("search", Scope::Search),
        ("write", Scope::Write),
        ("admin", Scope::Admin),
    ];

    fn bit(self) -> u8 {
        match self {
            Scope::Open | Scope::Any => 0,
            Scope::Embed => 1,
            Scope::Search => 2,
            Scope::Write => 4,
            Scope::Admin => 8,
        }
    }
}

const ALL_SCOPES: u8 = 15;

/// Where keys come from.
#[derive(Clone, Debug, Default)]
pub struct KeySource {
    /// A key that is good for everything.
    pub key: Option<String>,
    /// A file with a key a line, each with its scopes behind it (`KEY embed,search`; none: all).
    pub file: Option<PathBuf>,
}

impl KeySource {
    /// Whether no key is asked for.
    pub fn is_empty(&self) -> bool {
        self.key.is_none() && self.file.is_none()
    }
}

struct Key {
    hash: [u8; 32],
    scopes: u8,
}

/// The keys that count now.
pub(crate) struct Keys {
    source: KeySource,
    /// Other machines reach the server: keys that could be guessed are refused.
    is_reached: bool,
    keys: RwLock<Vec<Key>>,
    /// Where the first key stands that is too short.
    short: Option<String>,
}

impl Keys {
    pub(crate) fn new(source: KeySource, is_reached: bool) -> Result<Self, Error> {
        let (keys, short) = read(&source)?;
        Ok(Self { source, is_reached, keys: RwLock::new(keys), short })
    }

    /// Where a key stands that is too short, if that only matters to this machine.
    ///
    /// # Errors
    /// [`Error::ShortKey`] where others reach the server.
    pub(crate) fn short(&self) -> Result<Option<&str>, Error> {
        refuse_short(self.is_reached, self.short.as_deref())
    }

    /// Reads the file again. Where that fails, the keys stay as they are.
    pub(crate) fn reload(&self) -> Result<usize, Error> {
        let (keys, short) = read(&self.source)?;
        refuse_short(self.is_reached, short.as_deref())?;
        let count = keys.len();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(count)
    }

    pub(crate) fn are_asked_for(&self) -> bool {
        !self.source.is_empty()
    }

    /// Whether a request may do something. Every key is compared, whichever fits.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        query: &str,
        scope: Scope,
    ) -> Result<(), Fault> {
        if scope == Scope::Open || !self.are_asked_for() {
            return Ok(());
        }
        let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
        if names.into_iter().any(|name| IN_QUERY.contains(&name)) {
            let report =
                Report::new(Code::E8003, "server", "a key does not belong into an address").help(
                    "send it as the header Authorization: Bearer KEY; this one is in logs now",
                );
            return Err(Fault::new(StatusCode::BAD_REQUEST, report));
        }
        let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let given = given.and_then(|value| match value.split_at_checked(7) {
            Some((bearer, key)) if bearer.eq_ignore_ascii_case(b"bearer ") => Some(key),
            _ => None,
        });
        let hash = hash(given.unwrap_or_default().trim_ascii());
        let (mut known, mut scopes) = (Choice::from(0), 0u8);
        for key in &*self.keys.read().unwrap_or_else(PoisonError::into_inner) {
            let same = key.hash.ct_eq(&hash);
            known |= same;
            scopes.conditional_assign(&key.scopes, same);
        }
        if given.is_none() || !bool::from(known) {
            let report = Report::new(Code::E8003, "server", "there is no key, or an unknown one")
                .help("send the header Authorization: Bearer KEY");
            return Err(Fault::new(StatusCode::UNAUTHORIZED, report));
        }
        if scopes & scope.bit() != scope.bit() {
            let name = Scope::NAMED.iter().find(|(_, named)| *named == scope);
            let name = name.map_or("", |(name, _)| name);
            let report = Report::new(Code::E8003, "server", "the key is not good for this route")
                .expected(format!("the scope {name}"))
                .help("ask for a key with this scope");
            return Err(Fault::new(StatusCode::FORBIDDEN, report));
        }
        Ok(())
    }
}

fn hash(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn refuse_short(is_reached: bool, short: Option<&str>) -> Result<Option<&str>, Error> {
    match short {
        Some(place) if is_reached => {
            Err(Error::ShortKey { place: place.to_owned(), least: LEAST_BYTES })
        }
        short => Ok(short),
    }
}

/// The keys, and where the first one stands that is too short.
fn read(source: &KeySource) -> Result<(Vec<Key>, Option<String>), Error> {
    let (mut keys, mut short) = (Vec::new(), None);
    if let Some(key) = &source.key {
        let place = "ALTCLIP_API_KEY";
        let fault = |what: &str| Error::Keys { place: place.into(), what: what.into() };
        check(key).map_err(fault)?;
        short = (key.len() < LEAST_BYTES).then(|| place.to_owned());
        keys.push(Key { hash: hash(key.as_bytes()), scopes: ALL_SCOPES });
    }
    let Some(path) = &source.file else { return Ok((keys, short)) };
    let place = path.to_string_lossy().into_owned();
    let fault = |what: String| Error::Keys { place: place.clone(), what };
    let metadata = std::fs::metadata(path).map_err(|error| fault(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(fault("it is not a small regular file".into()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    for (number, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let Some(key) = words.next().filter(|key| !key.starts_with('#')) else { continue };
        let at = |what: &str| fault(format!("line {}: {what}", number + 1));
        check(key).map_err(at)?;
        if short.is_none() && key.len() < LEAST_BYTES {
            short = Some(format!("{place} line {}", number + 1));
        }
        let mut scopes = 0;
        for name in words.flat_map(|word| word.split(',')).filter(|name| !name.is_empty()) {
            let named = Scope::NAMED.iter().find(|(known, _)| *known == name);
            scopes |= named.ok_or_else(|| at("an unknown scope"))?.1.bit();
        }
        let scopes = if scopes == 0 { ALL_SCOPES } else { scopes };
        keys.push(Key { hash: hash(key.as_bytes()), scopes });
    }
    match keys.len() {
        0 => Err(fault("it holds no key".into())),
        MAX_KEYS.. => Err(fault(format!("it holds more than {MAX_KEYS} keys"))),
        _ => Ok((keys, short)),
    }
}

/// A key can be sent in a header as it stands.
fn check(key: &str) -> Result<(), &'static str> {
    match key {
        "" => Err("a key is empty"),
        _ if key.bytes().any(|byte| !byte.is_ascii_graphic()) => {
            Err("a key has characters that no header can carry")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(keys: &Keys, header: Option<&str>, scope: Scope) -> Option<u16> {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        keys.check(&headers, "", scope).err().map(|fault| fault.status.as_u16())
    }

    #[test]
    fn keys_and_their_scopes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        std::fs::write(&file, "# comment\nreader search\nboth embed,search\n\nall\n").unwrap();
        let source = KeySource { key: Some("root".into()), file: Some(file.clone()) };
        let keys = Keys::new(source, false).unwrap();
        use Scope::{Admin, Any, Embed, Open, Search};
        for (header, scope, expected) in [
            (None, Open, None),
            (None, Any, Some(401)),
            (Some("reader"), Any, Some(401)),
            (Some("Bearer reader"), Any, None),
            (Some("bearer  reader "), Search, None),
            (Some("Bearer reader"), Embed, Some(403)),
            (Some("Bearer both"), Embed, None),
            (Some("Bearer all"), Admin, None),
            (Some("Bearer root"), Admin, None),
            (Some("Bearer "), Any, Some(401)),
            (Some("Bearer roo"), Any, Some(401)),
            (Some("Basic root"), Any, Some(401)),
        ] {
            assert_eq!(status(&keys, header, scope), expected, "{header:?} {scope:?}");
        }
        std::fs::write(&file, "new\n").unwrap();
        assert_eq!(keys.reload().unwrap(), 2);
        assert_eq!(status(&keys, Some("Bearer reader"), Any), Some(401));
        // A bad file changes nothing.
        for bad in ["", "new everything\n", "n\u{e9}w\n"] {
            std::fs::write(&file, bad).unwrap();
            assert!(keys.reload().is_ok() == bad.is_empty(), "{bad}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(keys.reload().is_err());
        assert_eq!(status(&keys, Some("Bearer root"), Any), None);
    }

    #[test]
    fn short_keys_are_for_this_machine_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        let long = "k".repeat(LEAST_BYTES);
        let keys = |text: &str, is_reached| {
            std::fs::write(&file, text).unwrap();
            Keys::new(KeySource { key: None, file: Some(file.clone()) }, is_reached).unwrap()
        };
        assert_eq!(keys(&long, true).short().unwrap(), None);
        let one_less = format!("{long}\n{}\n", long.get(1..).unwrap());
        let place = keys(&one_less, false).short().unwrap().unwrap().to_owned();
        assert!(place.ends_with("keys line 2"), "{place}");
        assert!(matches!(keys(&one_less, true).short(), Err(Error::ShortKey { .. })));
        let keys = keys(&long, true);
        std::fs::write(&file, "short\n").unwrap();
        assert!(matches!(keys.reload(), Err(Error::ShortKey { .. })));
        let own = KeySource { key: Some("root".into()), file: None };
        assert!(Keys::new(own, true).unwrap().short().is_err());
    }

    #[test]
    fn no_message_holds_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        std::fs::write(&file, "secret-key nothing\n").unwrap();
        let error = Keys::new(KeySource { key: None, file: Some(file) }, false).err().unwrap();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
