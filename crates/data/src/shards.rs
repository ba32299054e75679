//! Webdataset shards: tar archives in which the files of a sample share the key before the first dot.
//!
//! The headers are read once; afterwards a sample is a few byte ranges of a shard. Whatever an entry is called, nothing
//! is written anywhere.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;

use altclip_report::quote;
use xxhash_rust::xxh3::xxh3_64;

use crate::dataset::Hasher;
use crate::files::Files;
use crate::tar::{Entries, Entry, Kind, ReadAt, Stop};
use crate::{Error, Fault, Fingerprint, MAX_TEXT_BYTES, Place, Reason, paths};

/// What a file of a sample is, by its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Picture,
    Text,
    Json,
    Class,
}

impl Role {
    fn of(ending: &[u8]) -> Option<Self> {
        Some(match ending.to_ascii_lowercase().as_slice() {
            b"jpg" | b"jpeg" | b"png" | b"webp" => Self::Picture,
            b"txt" => Self::Text,
            b"json" => Self::Json,
            b"cls" => Self::Class,
            _ => return None,
        })
    }
}

/// A byte range of a shard.
#[derive(Clone, Copy)]
pub(crate) struct Member {
    offset: u64,
    len: u32,
    role: Role,
}

/// One sample: where its first entry's header is, and its first member in the list of all.
struct Start {
    header: u64,
    member: u64,
    shard: u32,
}

/// The samples of some shards.
pub(crate) struct Shards {
    files: Files,
    starts: Vec<Start>,
    members: Vec<Member>,
    /// Samples that are bad as the headers alone show.
    faults: BTreeMap<u64, (Reason, String)>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) notices: Vec<String>,
}

/// One shard as an archive.
struct Shard<'f>(&'f Files, usize);

impl ReadAt for Shard<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read(self.1, offset, buffer)
    }
}

impl Shards {
    /// Reads the headers of all shards. A damaged one ends where the damage is, with a sample that says so.
    pub(crate) fn open(paths: Vec<PathBuf>) -> Result<Self, Error> {
        let files = Files::new(paths)?;
        let mut indexing = Indexing::default();
        for shard in 0..files.len() {
            indexing.shard(&files, shard)?;
        }
        let Indexing { starts, members, faults, hasher, left_out, .. } = indexing;
        let notice =
            format!("{left_out} files of the shards are of no known kind and are left out");
        let notices = if left_out > 0 { vec![notice] } else { Vec::new() };
        Ok(Self { files, starts, members, faults, fingerprint: hasher.finish(), notices })
    }

    pub(crate) fn len(&self) -> u64 {
        self.starts.len() as u64
    }

    pub(crate) fn check_unchanged(&self) -> Result<(), Error> {
        self.files.check_unchanged()
    }

    fn start(&self, number: u64) -> Option<&Start> {
        self.starts.get(usize::try_from(number).ok()?)
    }

    /// Shard and key; the key is read again from the shard.
    pub(crate) fn place(&self, number: u64) -> Place {
        let Some(start) = self.start(number) else {
            return Place::line(&"dataset".into(), number);
        };
        let shard = start.shard as usize;
        let mut place = Place::file(self.files.name(shard));
        let archive = Shard(&self.files, shard);
        match Entries::new(&archive, self.files.bytes(shard), start.header).next() {
            Some(Ok(entry)) => {
                let key = split(&entry.name).map_or(&entry.name[..], |(key, _)| key);
                place.key = Some(String::from_utf8_lossy(key).into_owned());
            }
            _ => place.byte = Some(start.header),
        }
        place
    }

    pub(crate) fn fault(&self, number: u64, reason: Reason, detail: impl Into<String>) -> Fault {
        Fault::new(reason, self.place(number), detail)
    }

    /// The files of a sample.
    pub(crate) fn sample(&self, number: u64) -> Result<&[Member], Fault> {
        let Some(start) = self.start(number) else {
            return Err(self.fault(number, Reason::NoSuchSample, "no such sample"));
        };
        if let Some((reason, detail)) = self.faults.get(&number) {
            return Err(self.fault(number, *reason, detail.as_str()));
        }
        let end = self.start(number + 1).map_or(self.members.len(), |next| next.member as usize);
        Ok(self.members.get(start.member as usize..end).unwrap_or_default())
    }

    /// The bytes of a sample's file of this role; `None` if it has none.
    pub(crate) fn read(&self, number: u64, role: Role) -> Result<Option<Vec<u8>>, Fault> {
        let members = self.sample(number)?;
        let Some(member) = members.iter().find(|member| member.role == role) else {
            return Ok(None);
        };
        let limit = match role {
            Role::Picture => crate::MAX_PICTURE_BYTES,
            _ => MAX_TEXT_BYTES as u64,
        };
        if u64::from(member.len) > limit {
            let detail = format!("{} bytes, {limit} are allowed", member.len);
            return Err(self.fault(number, Reason::TooLong, detail));
        }
        let shard = self.start(number).map_or(0, |start| start.shard as usize);
        let place = || self.place(number);
        self.files.bytes_at(shard, member.offset, member.len as usize, place).map(Some)
    }

    /// A sample's file of this role as text.
    pub(crate) fn text(&self, number: u64, role: Role) -> Result<Option<String>, Fault> {
        let Some(bytes) = self.read(number, role)? else { return Ok(None) };
        let text = String::from_utf8(bytes)
            .map_err(|_| self.fault(number, Reason::NotUtf8, "the text is not UTF-8"))?;
        if text.contains('\0') {
            return Err(self.fault(number, Reason::Nul, "a text has no such character"));
        }
        Ok(Some(text))
    }

    /// The picture of a sample.
    pub(crate) fn picture(&self, number: u64) -> Result<Vec<u8>, Fault> {
        let missing = |detail| self.fault(number, Reason::MissingImage, detail);
        match self.read(number, Role::Picture)? {
            None => Err(missing("no .jpg, .jpeg, .png or .webp")),
            Some(bytes) if bytes.is_empty() => Err(missing("the picture has no bytes")),
            Some(bytes) => Ok(bytes),
        }
    }
}

/// Key and ending: the basename is cut at its first dot. A hidden file has no key.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let base = name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let dot = name[base..].iter().position(|&byte| byte == b'.').filter(|&dot| dot > 0)?;
    Some((&name[..base + dot], &name[base + dot + 1..]))
}

#[derive(Default)]
struct Indexing {
    starts: Vec<Start>,
    members: Vec<Member>,
    faults: BTreeMap<u64, (Reason, String)>,
    hasher: Hasher,
    /// Files without a key or of no known kind.
    left_out: u64,
    /// Key of the sample at the end, and the hashes of those before it in this shard.
    key: Option<Vec<u8>>,
    seen: HashSet<u64>,
}

impl Indexing {
    fn shard(&mut self, files: &Files, shard: usize) -> Result<(), Error> {
        self.key = None;
        self.seen.clear();
        self.hasher.number(files.bytes(shard));
        let archive = Shard(files, shard);
        // Fewer shards than MAX_FILES, so the number fits.
        let number = shard as u32;
        for entry in Entries::new(&archive, files.bytes(shard), 0) {
            match entry {
                Ok(entry) => self.entry(number, &entry),
                Err(Stop::Io(source)) => return Err(Error::io(files.path(shard), source)),
                Err(Stop::Damage(damage)) => {
                    self.begin(number, damage.offset);
                    self.blame(
                        Reason::DamagedShard,
                        format!("{} at byte {}", damage.what, damage.offset),
                    );
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, shard: u32, entry: &Entry) {
        self.hasher.piece(&entry.name);
        self.hasher.number(entry.size);
        if entry.kind == Kind::Folder {
            return;
        }
        let refused = refusal(entry);
        let Some((key, ending)) = split(&entry.name) else {
            match refused {
                None => self.left_out += 1,
                Some(what) => {
                    self.begin(shard, entry.header);
                    self.blame(Reason::ForbiddenPath, what);
                }
            }
            return;
        };
        if self.key.as_deref() != Some(key) {
            self.begin(shard, entry.header);
            self.key = Some(key.to_vec());
            if !self.seen.insert(xxh3_64(key)) {
                self.blame(
                    Reason::DuplicateKey,
                    "the key occurred before in this shard".to_owned(),
                );
            }
        }
        if let Some(what) = refused {
            self.blame(Reason::ForbiddenPath, what);
            return;
        }
        let Some(role) = Role::of(ending) else {
            self.left_out += 1;
            return;
        };
        let Ok(len) = u32::try_from(entry.size) else {
            self.blame(Reason::TooLong, format!("an entry of {} bytes", entry.size));
            return;
        };
        let first = self.starts.last().map_or(0, |start| start.member as usize);
        if self.members[first..].iter().any(|member| member.role == role) {
            let (reason, what) = match role {
                Role::Picture => (Reason::SeveralImages, "more than one picture"),
                _ => (Reason::DuplicateKey, "two files of one kind"),
            };
            self.blame(reason, what.to_owned());
            return;
        }
        self.members.push(Member { offset: entry.offset, len, role });
    }

    fn begin(&mut self, shard: u32, header: u64) {
        self.key = None;
        self.starts.push(Start { header, member: self.members.len() as u64, shard });
    }

    /// The first fault of a sample is the one that counts.
    fn blame(&mut self, reason: Reason, detail: String) {
        let last = (self.starts.len() as u64).saturating_sub(1);
        self.faults.entry(last).or_insert((reason, detail));
    }
}

/// Why an entry cannot belong to a sample.
fn refusal(entry: &Entry) -> Option<String> {
    let name = String::from_utf8_lossy(&entry.name);
    let what = match entry.kind {
        Kind::Link => "is a link",
        Kind::Special => "is a device or a pipe",
        Kind::Sparse => "is a sparse file",
        Kind::Unknown => "is an entry of an unknown kind",
        Kind::File | Kind::Folder => paths::forbidden(&name)?,
    };
    Some(format!("entry {} {what}", quote(&name)))
}
