//! The folder of an index: a lock, generations, and which of them counts.
//!
//! ```text
//! PATH/CURRENT        the name of the generation that counts, put there by one rename
//! PATH/LOCK           whoever writes
//! PATH/RESERVE        room for forgetting pictures on a full disk
//! PATH/g1/store.db    the store
//! PATH/g1/HEAD        what was acknowledged
//! PATH/g1/flat        the search structure, made from the store
//! PATH/g1/background  vectors of the background texts
//! ```
//!
//! An index with another model is made in the next generation, beside the one that counts, and takes its
//! place in one instant.

use crate::flat::{FLAT, Flat};
use crate::generation::{self, CURRENT, LOCK, RESERVE, STORE, folder};
use crate::head::Head;
use crate::sqlite::SqliteStore;
use crate::store::{Change, State, Store};
use crate::{Background, Error, Settings};
use altclip_durable::{Lock, Vfs, replace};
use altclip_report::{Code, Diagnose as _, Report, quote};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pictures that are forgotten in one commit.
const FORGET_ROWS: usize = 128;
/// Room that is kept for forgetting pictures on a full disk; the least of them is more than the pages of one
/// commit.
const RESERVE_BYTES: [usize; 3] = [4 << 20, (4 << 20) - (128 << 10), 2 << 20];

/// An index of pictures.
pub struct Index {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    generation: u64,
    store: Box<dyn Store>,
    head: Head,
    settings: Settings,
    /// Held while writing.
    lock: Option<Lock>,
    notices: Vec<Report>,
}

impl Index {
    /// Makes a new index in a folder that holds none.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Full`], [`Error::Io`]; [`Error::Lost`] where there was an index of
    /// which something is left.
    pub fn create(vfs: Arc<dyn Vfs>, dir: &Path, settings: Settings) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
        generation::check_free(&*vfs, dir)?;
        let lock = lock(dir)?;
        // What a maker left that was killed before the index counted, but nothing that holds a picture.
        for generation in generation::all(&*vfs, dir)? {
            let store = SqliteStore::open(&folder(dir, generation).join(STORE), false);
            if let Ok(images @ 1..) = store.and_then(|store| store.images()) {
                let found = format!("g{generation} with {images} pictures, and no file {CURRENT}");
                let expected = "the file that names it".into();
                return Err(Error::Lost { path: dir.to_owned(), found, expected });
            }
        }
        Self::begin(vfs, dir, 1, settings, lock)?.publish()
    }

    /// Opens an index to search it.
    ///
    /// # Errors
    /// [`Error::NoIndex`], [`Error::Lost`], [`Error::Damaged`], [`Error::Io`].
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path) -> Result<Self, Error> {
        let mut generation = generation::current(&*vfs, dir)?;
        loop {
            let opened = Self::open_generation(Arc::clone(&vfs), dir, generation, None);
            // A rebuilt index may have taken its place meanwhile.
            match generation::current(&*vfs, dir)? {
                now if opened.is_err() && now != generation => generation = now,
                _ => return opened,
            }
        }
    }

    /// Opens an index to change it.
    ///
    /// # Errors
    /// As [`Index::open`], and [`Error::Locked`].
    pub fn open_to_write(vfs: Arc<dyn Vfs>, dir: &Path) -> Result<Self, Error> {
        generation::current(&*vfs, dir)?;
        let lock = lock(dir)?;
        // Whoever had the lock may have published.
        let generation = generation::current(&*vfs, dir)?;
        let opened = Self::open_generation(Arc::clone(&vfs), dir, generation, Some(lock));
        let mut index = match opened {
            // SQLite needs some room before anything can be forgotten.
            Err(Error::Full { .. }) if vfs.remove_file(&dir.join(RESERVE)).is_ok() => {
                let lock = self::lock(dir)?;
                let index = Self::open_generation(vfs, dir, generation, Some(lock))?;
                index.reserve();
                index
            }
            opened => opened?,
        };
        index.acknowledge()?;
        Ok(index)
    }

    /// Begins an index anew beside the one that counts, or goes on with one that was begun with the same
    /// settings. It counts once it is published. The present one may be damaged in any way.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Full`], [`Error::Io`].
    pub fn rebuild(vfs: Arc<dyn Vfs>, dir: &Path, settings: Settings) -> Result<Self, Error> {
        if vfs.metadata(&dir.join(CURRENT)).is_err() {
            generation::check_free(&*vfs, dir)?;
        }
        let lock = lock(dir)?;
        let next = generation::next(&*vfs, dir)?;
        match SqliteStore::open(&folder(dir, next).join(STORE), false) {
            Ok(store) if Settings::read(&store, dir).is_ok_and(|begun| begun == settings) => {
                drop(store);
                let mut index = Self::open_generation(vfs, dir, next, Some(lock))?;
                index.acknowledge()?;
                Ok(index)
            }
            _ => Self::begin(vfs, dir, next, settings, lock),
        }
    }

    pub(crate) fn begin(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        generation: u64,
        settings: Settings,
        lock: Lock,
    ) -> Result<Self, Error> {
        let path = folder(dir, generation);
        if vfs.metadata(&path).is_ok() {
            generation::remove(&*vfs, dir, generation)?;
        }
        vfs.create_dir(&path).map_err(Error::io("make", &path))?;
        vfs.sync_dir(dir).map_err(Error::io("sync", dir))?;
        let store: Box<dyn Store> = Box::new(SqliteStore::create(&path.join(STORE))?);
        let head = Head::default();
        head.write(&*vfs, &path)?;
        let dir = dir.to_owned();
        let changes = settings.changes();
        let mut index =
            Self { vfs, dir, generation, store, head, settings, lock: Some(lock), notices: vec![] };
        index.commit(&changes)?;
        Ok(index)
    }

    fn open_generation(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        generation: u64,
        lock: Option<Lock>,
    ) -> Result<Self, Error> {
        let path = folder(dir, generation);
        let lost =
            |found: String, expected: String| Error::Lost { path: dir.to_owned(), found, expected };
        let head = Head::read(&*vfs, &path)?;
        let head =
            head.ok_or_else(|| lost("no file HEAD".into(), "what was acknowledged".into()))?;
        let store = match SqliteStore::open(&path.join(STORE), lock.is_some()) {
            Err(Error::NoIndex { found, .. }) if !path.join(STORE).exists() => {
                return Err(lost(found, format!("{} pictures", head.images)));
            }
            store => store?,
        };
        let State { sequence, images, counted } = store.state()?;
        if sequence < head.sequence {
            return Err(lost(format!("commit {sequence}"), format!("commit {}", head.sequence)));
        }
        let expected = if sequence == head.sequence { head.images } else { counted.unwrap_or(0) };
        if images < expected || counted.is_none_or(|counted| images < counted) {
            return Err(lost(format!("{images} pictures"), format!("{expected} pictures")));
        }
        if Some(images) != counted {
            let what = format!("it holds {images} pictures and counts {counted:?}");
            return Err(Error::damaged(&path.join(STORE), what));
        }
        let settings = Settings::read(&store, dir)?;
        let dir = dir.to_owned();
        let store = Box::new(store);
        Ok(Self { vfs, dir, generation, store, head, settings, lock, notices: vec![] })
    }

    /// Takes over what was committed and not acknowledged before a writer ended.
    fn acknowledge(&mut self) -> Result<(), Error> {
        let sequence = self.store.sequence()?;
        if sequence > self.head.sequence {
            let place = quote(&self.dir.to_string_lossy());
            self.notices.push(
                Report::new(
                    Code::I7002,
                    "index",
                    "a commit that was not acknowledged is taken over",
                )
                .place(place)
                .got(format!("commit {sequence}"))
                .expected(format!("commit {}", self.head.sequence))
                .help("nothing is to be done: a writer ended before it could say so"),
            );
            self.write_head_somehow(sequence)?;
        }
        Ok(())
    }

    fn write_head(&mut self, sequence: u64) -> Result<(), Error> {
        let head = Head { sequence, images: self.store.images()? };
        head.write(&*self.vfs, &self.generation_folder())?;
        self.head = head;
        Ok(())
    }

    /// Makes all changes or none. When it returns, they are on the disk and count as acknowledged.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Io`]; [`Error::Locked`] where it was opened to be searched.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        if self.lock.is_none() {
            return Err(Error::Locked { path: self.dir.clone(), holder: "opened to read".into() });
        }
        let forgets = forgets(changes);
        let sequence = match self.store.commit(changes) {
            Err(Error::Full { path }) if forgets => {
                let given = self.vfs.remove_file(&self.dir.join(RESERVE));
                given.map_err(|_| Error::Full { path })?;
                self.store.commit(changes)?
            }
            done => done?,
        };
        match forgets {
            true => self.write_head_somehow(sequence)?,
            false => self.write_head(sequence)?,
        }
        // Only now, or the word about the commit would find no room.
        self.reserve();
        Ok(())
    }

    /// Gives up the reserve for it where the disk is full.
    fn write_head_somehow(&mut self, sequence: u64) -> Result<(), Error> {
        match self.write_head(sequence) {
            Err(Error::Full { path }) => {
                let given = self.vfs.remove_file(&self.dir.join(RESERVE));
                given.map_err(|_| Error::Full { path })?;
                self.write_head(sequence)
            }
            written => written,
        }
    }

    /// Keeps room for the day on which the disk is full. An index works without it.
    fn reserve(&self) {
        let path = self.dir.join(RESERVE);
        if self.vfs.metadata(&path).is_ok() {
            return;
        }
        let keep =
            |bytes| replace(&*self.vfs, &path, |out| out.write_all(&vec![0xff; bytes])).is_ok();
        let _ = RESERVE_BYTES.into_iter().find(|&bytes| keep(bytes));
    }

    /// Forgets pictures, and folders that are looked through; also on a full disk.
    ///
    /// # Errors
    /// As [`Index::commit`]. What was forgotten before it stays forgotten.
    pub fn forget(&mut self, paths: &[String], settings: Settings) -> Result<(), Error> {
        for paths in paths.chunks(FORGET_ROWS) {
            self.commit(&paths.iter().cloned().map(Change::Remove).collect::<Vec<_>>())?;
        }
        self.set(settings)
    }

    /// Makes a rebuilt index the one that counts and removes the one before.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Io`]. Then the one before counts still.
    pub fn publish(self) -> Result<Self, Error> {
        generation::publish(&*self.vfs, &self.dir, self.generation)?;
        for generation in generation::all(&*self.vfs, &self.dir)? {
            // What cannot be removed now is in nobody's way.
            if generation != self.generation {
                let _ = generation::remove(&*self.vfs, &self.dir, generation);
            }
        }
        Ok(self)
    }

    /// The folder of the index.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn generation_folder(&self) -> PathBuf {
        folder(&self.dir, self.generation)
    }

    /// The rows.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// What was acknowledged.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The model and how pictures are prepared.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes settings that vectors do not depend on, such as where the model lies.
    ///
    /// # Errors
    /// As [`Index::commit`].
    pub fn set(&mut self, settings: Settings) -> Result<(), Error> {
        if settings != self.settings {
            self.commit(&settings.changes())?;
            self.settings = settings;
        }
        Ok(())
    }

    /// What was noticed, and is not asked for twice.
    pub fn take_notices(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.notices)
    }

    /// The search structure: read, or made again where it is missing, of another commit or damaged. It is
    /// kept where that is possible, and serves in any case.
    ///
    /// # Errors
    /// Those of the store.
    pub fn flat(&mut self) -> Result<Flat, Error> {
        let path = self.generation_folder().join(FLAT);
        let (sequence, width) = (self.store.sequence()?, self.settings.width);
        let reason = match Flat::read(&*self.vfs, &path, sequence, width) {
            Ok(Some(flat)) => return Ok(flat),
            Ok(None) => None,
            Err(error) => Some(error.report()),
        };
        let flat = Flat::of_store(&*self.store, width, &path)?;
        // Whoever writes keeps it; a reader does where nobody writes.
        let lock = if self.lock.is_some() { None } else { Some(lock(&self.dir)) };
        let kept = match lock {
            Some(Err(error)) => Err(error),
            _ => flat.write(&*self.vfs, &path),
        };
        let reason = reason.or_else(|| Some(kept.err()?.report()));
        self.notices.extend(reason.map(|reason| {
            let what = format!("{}; the search structure is made again", reason.message);
            Report::new(Code::W7012, "index", what)
                .place(quote(&path.to_string_lossy()))
                .help("nothing is lost; where this comes again, see altclip index verify")
        }));
        Ok(flat)
    }

    /// Reads everything and says what is damaged; the search structure is compared with the store. A derived
    /// file that is missing or stale is no damage: it is made again when it is needed.
    ///
    /// # Errors
    /// The store cannot be read at all.
    pub fn verify(&self) -> Result<Vec<Report>, Error> {
        let mut found = self.store.verify()?;
        if !found.is_empty() {
            return Ok(found);
        }
        let (sequence, width) = (self.store.sequence()?, self.settings.width);
        if let Err(error) = Background::read(&*self.vfs, &Background::path(self), width) {
            found.push(error.report());
        }
        let path = self.generation_folder().join(FLAT);
        match Flat::read(&*self.vfs, &path, sequence, width) {
            Err(error) => found.push(error.report()),
            Ok(None) => {}
            Ok(Some(flat)) => {
                let stored = Flat::of_store(&*self.store, width, &path)?;
                let is_other = stored.ids != flat.ids || stored.rows != flat.rows;
                // A writer may have gone on meanwhile.
                if stored.sequence == sequence && is_other {
                    let what = "it holds other vectors than the store";
                    found.push(Error::damaged(&path, what).report());
                }
            }
        }
        Ok(found)
    }
}

/// Whether changes add no picture: they take some away, or say which folders are left.
fn forgets(changes: &[Change]) -> bool {
    !changes.is_empty()
        && changes.iter().all(|change| matches!(change, Change::Remove(_) | Change::Set(..)))
}

pub(crate) fn lock(dir: &Path) -> Result<Lock, Error> {
    let holder = format!("process {}", std::process::id());
    Ok(Lock::acquire(&dir.join(LOCK), &holder)?)
}
