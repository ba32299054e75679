//! What changed in the folders of an index, and how the index follows.
//!
//! A file whose size and time are those of its row is not opened. Another one is read and hashed; contents
//! that the index knows (moved, copied or touched files) are not computed again. Nothing is told before it
//! is committed and acknowledged, so what was told survives whatever ends the process, and an interrupted
//! run goes on where it was.

use crate::picture::{MAX_PATH_BYTES, Picture, to_bytes};
use crate::store::Change;
use crate::{Error, Index, metadata};
use altclip::Model;
use altclip::image::DecodeOptions;
use altclip_report::{Code, Diagnose as _, Report, quote};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};
use xxhash_rust::xxh3::xxh3_128;

/// Rows are committed together until this time has passed, or so many wait.
const COMMIT_AFTER: Duration = Duration::from_millis(500);
const COMMIT_ROWS: usize = 1024;
/// Folders within folders; more is a loop or a mistake.
const MAX_DEPTH: usize = 64;
/// Endings of the files that are looked at.
const ENDINGS: [&str; 16] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "pbm", "pgm", "ppm",
    "pnm", "avif", "heic",
];

/// What became of a picture.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Told {
    /// It is in the index, on the disk.
    Indexed,
    /// Its contents were known, at another path or time.
    Reused,
    /// It is no longer in the index.
    Removed,
    /// It cannot be indexed; why.
    Refused(Report),
}

/// What there is to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Files to be read.
    pub look: Vec<Candidate>,
    /// Rows whose files are gone.
    pub gone: Vec<String>,
    /// Files that are as they were.
    pub unchanged: u64,
    /// Files that are no pictures by their names.
    pub left_out: u64,
    /// What cannot be read; rows below it are kept.
    pub faults: Vec<(String, Report)>,
    /// Paths of the files that are as they were.
    same: Vec<String>,
}

/// What a folder means that is empty and in which the index knows pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emptied {
    /// A disk was mounted there, so its pictures are kept.
    #[default]
    Kept,
    /// Its pictures were deleted.
    Forgotten,
}

/// A file that is new or has another size or time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    path: String,
    bytes: u64,
    modified: i64,
    /// Size and hash of its row.
    known: Option<(u64, u128)>,
    /// What its row was tagged with.
    tags: Vec<String>,
}

impl Plan {
    /// [`Plan::with`] that keeps the pictures of folders that are empty.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(index: &Index, roots: &[PathBuf]) -> Result<Self, Error> {
        Self::with(index, roots, Emptied::Kept)
    }

    /// Gives files the tags that they had in another index, by their paths.
    pub fn take_tags(&mut self, other: &BTreeMap<String, Vec<String>>) {
        for file in &mut self.look {
            file.tags.extend(other.get(&file.path).into_iter().flatten().cloned());
        }
    }

    /// Compares files and folders with the rows of an index. Rows below `roots` whose files are gone are to
    /// be removed, unless a folder above them cannot be read, or is there with nothing in it and `emptied`
    /// says to keep them. What is below a root and was forgotten is passed over; a root itself never is.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn with(index: &Index, roots: &[PathBuf], emptied: Emptied) -> Result<Self, Error> {
        let mut known = BTreeMap::new();
        index.store().entries(&mut |entry| {
            let picture = entry.picture;
            known.insert(picture.path, (picture.bytes, picture.modified, picture.hash));
        })?;
        let mut walk = Walk {
            plan: Self::default(),
            known: &known,
            emptied,
            forgotten: index.settings().forgotten.iter().map(PathBuf::from).collect(),
            seen: HashSet::new(),
            unread: vec![],
        };
        for root in roots {
            walk.root(root);
        }
        let Walk { mut plan, seen, unread, .. } = walk;
        let below = |path: &str, folder: &Path| Path::new(path).starts_with(folder);
        plan.gone = known
            .keys()
            .filter(|path| roots.iter().any(|root| below(path, root)))
            .filter(|path| !seen.contains(path.as_str()))
            .filter(|path| !unread.iter().any(|folder| below(path, folder)))
            .cloned()
            .collect();
        Ok(plan)
    }
}

struct Walk<'k> {
    plan: Plan,
    known: &'k BTreeMap<String, (u64, i64, u128)>,
    emptied: Emptied,
    forgotten: HashSet<PathBuf>,
    seen: HashSet<String>,
    unread: Vec<PathBuf>,
}

impl Walk<'_> {
    fn root(&mut self, root: &Path) {
        match std::fs::metadata(root) {
            // A picture that was named alone, and whose folder is there with others in it, was deleted.
            Err(error) if error.kind() == ErrorKind::NotFound && self.was_alone(root) => {}
            Err(error) => {
                // A disk that is not mounted is no reason to forget what is on it.
                let what = error.to_string();
                self.fault(root, Error::FolderGone { path: root.to_owned(), what }.report());
                self.unread.push(root.to_owned());
            }
            Ok(metadata) if metadata.is_dir() => self.folder(root, 0),
            Ok(metadata) => self.file(root, &metadata),
        }
    }

    fn was_alone(&self, root: &Path) -> bool {
        let is_picture = root.to_str().is_some_and(|path| self.known.contains_key(path));
        let beside = root.parent().and_then(|folder| std::fs::read_dir(folder).ok());
        let has_others = beside.is_some_and(|mut entries| entries.next().is_some());
        is_picture && (has_others || self.emptied == Emptied::Forgotten)
    }

    fn knows_of(&self, folder: &Path) -> bool {
        // With a separator at its end, so that `/p/ab` is not below `/p/a`.
        let Some(start) = folder.join("").to_str().map(str::to_owned) else { return false };
        let mut from = self.known.range(start.clone()..);
        from.next().is_some_and(|(path, _)| path.starts_with(&start))
    }

    fn fault(&mut self, path: &Path, report: Report) {
        self.plan.faults.push((path.to_string_lossy().into_owned(), report));
    }

    fn folder(&mut self, dir: &Path, depth: usize) {
        let unread = |what: String| {
            Report::new(Code::E4201, "input", what)
                .place(quote(&dir.to_string_lossy()))
                .got("a folder that cannot be listed")
                .expected("a readable folder")
                .help("check its permissions; its pictures are kept in the index")
        };
        let entries = std::fs::read_dir(dir).and_then(|all| all.collect::<Result<Vec<_>, _>>());
        let mut entries = match entries {
            Ok(entries) if depth <= MAX_DEPTH => entries,
            Ok(_) => {
                self.fault(dir, unread(format!("folders are nested deeper than {MAX_DEPTH}")));
                return self.unread.push(dir.to_owned());
            }
            Err(error) => {
                self.fault(dir, unread(format!("the folder cannot be read: {error}")));
                return self.unread.push(dir.to_owned());
            }
        };
        // Where a disk was mounted an empty folder is left.
        if entries.is_empty() && self.emptied == Emptied::Kept && self.knows_of(dir) {
            self.fault(dir, Error::FolderEmpty { path: dir.to_owned() }.report());
            return self.unread.push(dir.to_owned());
        }
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if self.forgotten.contains(&path) {
                continue;
            }
            // A link to a file is followed, a link to a folder is not: it may lead back here.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.folder(&path, depth + 1);
                continue;
            }
            let ending =
                path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
            if !ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
                self.plan.left_out += 1;
                continue;
            }
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => self.file(&path, &metadata),
                Ok(_) => self.plan.left_out += 1,
                Err(error) => {
                    let report =
                        Report::new(Code::E4201, "input", format!("cannot be read: {error}"));
                    let report = report.place(quote(&path.to_string_lossy()));
                    self.fault(&path, report.help("check the file and its permissions"));
                }
            }
        }
    }

    fn file(&mut self, path: &Path, metadata: &std::fs::Metadata) {
        let Some(text) = path.to_str().filter(|text| text.len() <= MAX_PATH_BYTES) else {
            let report = Report::new(Code::E4201, "input", "the path is not UTF-8 or too long")
                .place(quote(&path.to_string_lossy()))
                .expected(format!("UTF-8 of at most {MAX_PATH_BYTES} bytes"))
                .help("rename the file");
            return self.fault(path, report);
        };
        if !self.seen.insert(text.to_owned()) {
            return;
        }
        let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = since.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        let bytes = metadata.len();
        match self.known.get(text) {
            Some(&(size, time, _)) if (size, time) == (bytes, modified) => {
                self.plan.unchanged += 1;
                self.plan.same.push(text.to_owned());
            }
            row => {
                let known = row.map(|&(size, _, hash)| (size, hash));
                let (path, tags) = (text.to_owned(), Vec::new());
                self.plan.look.push(Candidate { path, bytes, modified, known, tags });
            }
        }
    }
}

/// A file that was read, in the order in which pictures go to the encoder.
enum Read {
    /// Its picture goes to the encoder.
    Encode(Picture),
    /// The index knows its contents.
    Known(Picture),
    /// Nothing but its time changed.
    Touched(Candidate),
    /// It cannot be read.
    Refused(String, Report),
}

/// Reads files; hands the contents of those to the encoder that the index does not know, and says of all
/// what they are.
struct Reader {
    files: std::vec::IntoIter<Candidate>,
    decode: DecodeOptions,
    /// What all pictures are tagged with.
    tags: Vec<String>,
    /// Tags of pictures whose files are gone, by contents: perhaps they were moved.
    moved: BTreeMap<u128, Vec<String>>,
    hashes: HashSet<u128>,
    read: Arc<Mutex<VecDeque<Read>>>,
}

impl Iterator for Reader {
    type Item = altclip::Picture;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let file = self.files.next()?;
            let (read, bytes) = self.look(file);
            self.read.lock().unwrap_or_else(PoisonError::into_inner).push_back(read);
            if let Some(bytes) = bytes {
                return Some(altclip::Picture::from(bytes));
            }
        }
    }
}

impl Reader {
    fn look(&mut self, file: Candidate) -> (Read, Option<Vec<u8>>) {
        let bytes = match altclip::image::read_file(Path::new(&file.path), &self.decode) {
            Ok(bytes) => bytes,
            Err(error) => return (Read::Refused(file.path, error.report()), None),
        };
        let hash = xxh3_128(&bytes);
        let mut tags = file.tags.clone();
        let added = joined(&mut tags, &self.tags);
        if file.known == Some((bytes.len() as u64, hash)) && added == 0 {
            return (Read::Touched(file), None);
        }
        if file.known.is_none() {
            joined(&mut tags, self.moved.get(&hash).map_or(&[], Vec::as_slice));
        }
        let (width, height) = metadata::dimensions(&bytes).unwrap_or_default();
        let picture = Picture {
            path: file.path,
            hash,
            bytes: bytes.len() as u64,
            modified: file.modified,
            width,
            height,
            taken: metadata::taken(&bytes),
            tags,
        };
        if self.hashes.insert(hash) {
            (Read::Encode(picture), Some(bytes))
        } else {
            (Read::Known(picture), None)
        }
    }
}

/// Adds the tags that are not among them; gives their number.
fn joined(tags: &mut Vec<String>, more: &[String]) -> usize {
    let before = tags.len();
    for tag in more {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    tags.len() - before
}

/// The picture at a path, with its vector.
fn row(index: &Index, path: &str) -> Result<Option<(Picture, Vec<u8>)>, Error> {
    let Some((id, vector)) = index.store().at(path)? else { return Ok(None) };
    Ok(index.store().picture(id)?.map(|picture| (picture, vector)))
}

/// Brings an index up to a plan. The model is asked for where something has to be computed. `tell` hears
/// of every picture once it is committed.
///
/// # Errors
/// The store cannot be written, the model cannot be loaded, or what `tell` says. What was told is in the
/// index.
pub fn apply<'m, E: From<Error>>(
    index: &mut Index,
    plan: Plan,
    tags: &[String],
    decode: &DecodeOptions,
    model: impl FnOnce() -> Result<&'m Model, E>,
    tell: &mut dyn FnMut(&str, Told) -> Result<(), E>,
) -> Result<(), E> {
    for (path, report) in plan.faults {
        tell(&path, Told::Refused(report))?;
    }
    let mut batch = Batch::default();
    if !tags.is_empty() {
        for path in &plan.same {
            let Some((mut picture, vector)) = row(index, path)? else { continue };
            if joined(&mut picture.tags, tags) > 0 {
                batch.changes.push(Change::Put(picture, vector));
                batch.told.push((path.clone(), Told::Reused));
                batch.flush_if_due(index, tell)?;
            }
        }
    }
    if !plan.look.is_empty() {
        let mut hashes = HashSet::new();
        index.store().entries(&mut |entry| {
            hashes.insert(entry.picture.hash);
        })?;
        let mut files = plan.look;
        for file in files.iter_mut().filter(|file| file.known.is_some()) {
            let tags = row(index, &file.path)?.map(|(picture, _)| picture.tags);
            joined(&mut file.tags, &tags.unwrap_or_default());
        }
        let mut moved = BTreeMap::new();
        for path in &plan.gone {
            if let Some((picture, _)) = row(index, path)?.filter(|(p, _)| !p.tags.is_empty()) {
                moved.insert(picture.hash, picture.tags);
            }
        }
        let read = Arc::new(Mutex::new(VecDeque::new()));
        let reader = Reader {
            files: files.into_iter(),
            moved,
            decode: decode.clone(),
            tags: tags.to_vec(),
            hashes,
            read: Arc::clone(&read),
        };
        encode(index, reader, &read, model, &mut batch, tell)?;
    }
    // Last, so that a file that was moved is found by its old row.
    for path in plan.gone {
        batch.changes.push(Change::Remove(path.clone()));
        batch.told.push((path, Told::Removed));
        batch.flush_if_due(index, tell)?;
    }
    batch.flush(index, tell)
}

fn encode<'m, E: From<Error>>(
    index: &mut Index,
    mut reader: Reader,
    read: &Mutex<VecDeque<Read>>,
    model: impl FnOnce() -> Result<&'m Model, E>,
    batch: &mut Batch,
    tell: &mut dyn FnMut(&str, Told) -> Result<(), E>,
) -> Result<(), E> {
    let pop = || read.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    // Up to the first file that needs the model; where there is none, it is not loaded.
    let Some(first) = reader.next() else {
        while let Some(read) = pop() {
            batch.take(index, read, None)?;
            batch.flush_if_due(index, tell)?;
        }
        return Ok(());
    };
    let model = model()?;
    let sources = std::iter::once(first).chain(reader);
    let mut options = model.picture_options();
    options.normalize = true;
    let mut rows = model.pictures(sources, &options).map_err(Error::from)?;
    loop {
        let row = rows.next();
        let is_last = row.is_none();
        let mut row = row.map(|row| row.map_err(|error| error.report()));
        while let Some(read) = pop() {
            let encodes = matches!(read, Read::Encode(_));
            let result = if encodes { row.take() } else { None };
            batch.take(index, read, result)?;
            if encodes && !is_last {
                break;
            }
        }
        batch.flush_if_due(index, tell)?;
        if is_last {
            return Ok(());
        }
    }
}

/// Changes that wait for their commit, and what is told after it.
struct Batch {
    changes: Vec<Change>,
    told: Vec<(String, Told)>,
    since: Instant,
    /// What is wrong with contents that several files have.
    refused: BTreeMap<u128, Report>,
}

impl Default for Batch {
    fn default() -> Self {
        let since = Instant::now();
        Self { changes: vec![], told: vec![], since, refused: BTreeMap::new() }
    }
}

impl Batch {
    fn take(
        &mut self,
        index: &Index,
        read: Read,
        row: Option<Result<Vec<f32>, Report>>,
    ) -> Result<(), Error> {
        let (path, told) = match read {
            Read::Refused(path, report) => (path, Told::Refused(report)),
            Read::Touched(file) => {
                let modified = file.modified;
                self.changes.push(Change::Touch { path: file.path.clone(), modified });
                (file.path, Told::Reused)
            }
            Read::Encode(picture) => match row {
                Some(Ok(vector)) => {
                    let path = picture.path.clone();
                    self.changes.push(Change::Put(picture, to_bytes(&vector)));
                    (path, Told::Indexed)
                }
                Some(Err(report)) => {
                    self.refused.insert(picture.hash, report.clone());
                    (picture.path, Told::Refused(report))
                }
                None => {
                    let report = Report::new(Code::E9001, "index", "a picture has no row")
                        .help("please report this line and the command");
                    (picture.path, Told::Refused(report))
                }
            },
            Read::Known(picture) => {
                let path = picture.path.clone();
                match (self.vector(index, picture.hash)?, self.refused.get(&picture.hash)) {
                    (Some(vector), _) => {
                        self.changes.push(Change::Put(picture, vector));
                        (path, Told::Reused)
                    }
                    (None, Some(report)) => (path, Told::Refused(report.clone())),
                    (None, None) => {
                        let report = Report::new(Code::E9001, "index", "known contents are gone")
                            .help("run the command again");
                        (path, Told::Refused(report))
                    }
                }
            }
        };
        self.told.push((path, told));
        Ok(())
    }

    /// The vector of contents that were seen before.
    fn vector(&self, index: &Index, hash: u128) -> Result<Option<Vec<u8>>, Error> {
        let waiting = self.changes.iter().rev().find_map(|change| match change {
            Change::Put(picture, vector) if picture.hash == hash => Some(vector.clone()),
            _ => None,
        });
        match waiting {
            Some(vector) => Ok(Some(vector)),
            None => Ok(index.store().with_hash(hash)?.map(|(_, vector)| vector)),
        }
    }

    fn flush_if_due<E: From<Error>>(
        &mut self,
        index: &mut Index,
        tell: &mut dyn FnMut(&str, Told) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.told.len() < COMMIT_ROWS && self.since.elapsed() < COMMIT_AFTER {
            return Ok(());
        }
        self.flush(index, tell)
    }

    fn flush<E: From<Error>>(
        &mut self,
        index: &mut Index,
        tell: &mut dyn FnMut(&str, Told) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.changes.is_empty() {
            index.commit(&self.changes)?;
            self.changes.clear();
        }
        self.since = Instant::now();
        self.told.drain(..).try_for_each(|(path, told)| tell(&path, told))
    }
}
