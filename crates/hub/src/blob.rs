//! One blob: downloaded next to its place, gone on with after a break, checked, then named.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};
use sha2::Sha256;
use ureq::Body;
use ureq::http::Response;

use crate::cache::{Lock, RepoCache, failed, file_bytes, unique};
use crate::http::{Client, MAX_TRIES, Subject, broken, number, shown};
use crate::names::is_lower_hex;
use crate::{Error, Progress};

const BUFFER_BYTES: usize = 256 << 10;
/// A connection that brought this much is no failed try, so that a long download over a poor line
/// comes to its end.
const GOOD_CONNECTION_BYTES: u64 = 1 << 20;

/// What the Hub names a file's bytes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// Large files: SHA-256 of the bytes.
    Sha256(String),
    /// Small files: the id of a git blob, SHA-1 of `blob SIZE\0` and the bytes.
    GitSha1(String),
}

impl Checksum {
    /// Knows the kind by its length; anything else is not a checksum.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        match text.len() {
            64 if is_lower_hex(&text) => Some(Self::Sha256(text)),
            40 if is_lower_hex(&text) => Some(Self::GitSha1(text)),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::GitSha1(text) => text,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::GitSha1(_) => "git-sha1",
        }
    }

    /// The same kind of checksum of a file of a known size.
    fn of(&self, file: &mut File, bytes: u64) -> io::Result<String> {
        match self {
            Self::Sha256(_) => digest(Sha256::new(), file),
            Self::GitSha1(_) => digest(Sha1::new().chain_update(format!("blob {bytes}\0")), file),
        }
    }
}

fn digest<D: Digest>(mut state: D, file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => state.update(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(state.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A file to download.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) url: String,
    pub(crate) checksum: Checksum,
    pub(crate) bytes: Option<u64>,
    pub(crate) subject: Subject<'a>,
    /// Off only in the test that shows what the check is for.
    pub(crate) verify: bool,
}

impl Wanted<'_> {
    /// Brings the blob into the cache, if it is not there, and returns its size and whether it was
    /// there.
    pub(crate) fn fetch(
        &self,
        client: &Client,
        cache: &RepoCache,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(u64, bool), Error> {
        let file = self.name;
        let blob = cache.blob(self.checksum.as_str());
        let lock =
            cache.lock(self.checksum.as_str(), &mut || progress(Progress::Waiting { file }))?;
        // Another process may have written it while this one waited. A blob of another size was
        // damaged after it was checked; it is written again.
        if let Some(found) = file_bytes(&blob)
            && self.bytes.is_none_or(|bytes| bytes == found)
        {
            return Ok((found, true));
        }
        let ending = match lock {
            Lock::Held { .. } => "incomplete".to_owned(),
            Lock::Unsupported => format!("{}.incomplete", unique()),
        };
        let path = blob.with_file_name(format!("{}.{ending}", self.checksum.as_str()));
        let mut part = Part::open(path)?;
        let resumed = part.bytes > 0;
        progress(Progress::Started { file, bytes: self.bytes, resumed_at: part.bytes });
        let result = self.fill(client, &mut part, progress);
        let result = match result {
            // What an earlier run left may be at fault: once more from the start.
            Err(Error::Checksum { .. }) if resumed => {
                part.restart()?;
                self.fill(client, &mut part, progress)
            }
            result => result,
        };
        if let Err(error) = result {
            if matches!(error, Error::Size { .. } | Error::Checksum { .. }) {
                part.remove();
            }
            return Err(error);
        }
        let bytes = part.bytes;
        part.finish(&blob)?;
        Ok((bytes, false))
    }

    /// Downloads what is missing, over as many connections as it takes, and checks the whole.
    fn fill(
        &self,
        client: &Client,
        part: &mut Part,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Error> {
        let mut failures = 0;
        while self.bytes != Some(part.bytes) {
            let start = part.bytes;
            match self.connection(client, part, progress) {
                Ok(()) => break,
                Err(error) if error.is_transient() => {
                    if part.bytes >= start.saturating_add(GOOD_CONNECTION_BYTES) {
                        failures = 0;
                    }
                    failures += 1;
                    if failures == MAX_TRIES {
                        return Err(error);
                    }
                    client.pause(failures, &error);
                }
                Err(error) => return Err(error),
            }
        }
        progress(Progress::Verifying { file: self.name });
        self.check(part)
    }

    /// One connection: from the end of the part to the end of the file, or until it breaks.
    fn connection(
        &self,
        client: &Client,
        part: &mut Part,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Error> {
        if self.bytes.is_some_and(|bytes| part.bytes > bytes) {
            part.restart()?;
        }
        let from = Some(part.bytes).filter(|&bytes| bytes > 0);
        let mut response = client.get(&self.url, from, self.subject)?;
        match response.status().as_u16() {
            206 if range_start(&response) == from && from.is_some() => {}
            200 => {
                part.restart()?;
                let announced = number(response.headers(), "content-length");
                if let (Some(expected), Some(found)) = (self.bytes, announced)
                    && expected != found
                {
                    return Err(self.wrong_size(expected, found));
                }
            }
            // The range does not fit the file: the next connection starts at its beginning.
            _ => {
                part.restart()?;
                return Err(self.broke_off("the hub answered with another range"));
            }
        }
        let mut reader = response.body_mut().as_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(broken(&self.url, e)),
            };
            let chunk = buffer.get(..n).unwrap_or_default();
            if chunk.is_empty() {
                break;
            }
            part.append(chunk)?;
            if let Some(expected) = self.bytes.filter(|&bytes| part.bytes > bytes) {
                return Err(self.wrong_size(expected, part.bytes));
            }
            progress(Progress::Advanced {
                file: self.name,
                bytes_done: part.bytes,
                bytes_total: self.bytes,
            });
        }
        match self.bytes {
            Some(bytes) if part.bytes < bytes => Err(self.broke_off("the connection broke off")),
            _ => Ok(()),
        }
    }

    fn check(&self, part: &mut Part) -> Result<(), Error> {
        if !self.verify {
            return Ok(());
        }
        let found = self
            .checksum
            .of(&mut part.file, part.bytes)
            .map_err(|e| failed(&part.path, "read a file", e))?;
        if found == self.checksum.as_str() {
            return Ok(());
        }
        Err(Error::Checksum {
            file: self.name.to_owned(),
            kind: self.checksum.kind(),
            expected: self.checksum.as_str().to_owned(),
            found,
            web_page: part.looks_like_a_web_page(),
        })
    }

    fn wrong_size(&self, expected: u64, found: u64) -> Error {
        Error::Size { file: self.name.to_owned(), expected, found }
    }

    fn broke_off(&self, reason: &str) -> Error {
        Error::Network {
            url: shown(&self.url),
            reason: reason.to_owned(),
            transient: true,
            source: None,
        }
    }
}

/// The first byte of a `Content-Range: bytes FIRST-LAST/TOTAL`.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// A file that is not complete yet.
struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Part {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = file.map_err(|e| failed(&path, "write a file", e))?;
        let metadata = file.metadata().map_err(|e| failed(&path, "read a file", e))?;
        Ok(Self { path, file, bytes: metadata.len() })
    }

    fn append(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.file.write_all(chunk).map_err(|e| failed(&self.path, "write a file", e))?;
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Error> {
        if self.bytes > 0 {
            self.file.set_len(0).map_err(|e| failed(&self.path, "write a file", e))?;
            self.bytes = 0;
        }
        Ok(())
    }

    /// Makes the bytes durable, then gives them their name.
    fn finish(self, blob: &Path) -> Result<(), Error> {
        self.file.sync_all().map_err(|e| failed(&self.path, "write a file", e))?;
        fs::rename(&self.path, blob).map_err(|e| failed(blob, "name a file", e))?;
        #[cfg(unix)]
        if let Some(dir) = blob.parent() {
            // Not every file system can sync a folder; the name is then durable a little later.
            let _ = File::open(dir).and_then(|dir| dir.sync_all());
        }
        Ok(())
    }

    fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }

    fn looks_like_a_web_page(&mut self) -> bool {
        let mut start = [0; 64];
        let read = self.file.rewind().and_then(|()| self.file.read(&mut start)).unwrap_or(0);
        let start = start.get(..read).unwrap_or_default().trim_ascii_start().to_ascii_lowercase();
        start.starts_with(b"<!doctype") || start.starts_with(b"<html")
    }
}
