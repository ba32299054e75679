//! What can be kept of a damaged index: every picture whose row is provably as it was written.
//!
//! A row has a checksum of all that it holds, so each row that can still be read is either whole or not.
//! The whole ones become the next generation; the damaged generation serves nobody any more once that one
//! counts. What is lost is named, as far as its name can be read.

use crate::generation::{self, STORE, folder};
use crate::head::Head;
use crate::index::lock;
use crate::sqlite::{COLUMNS, SqliteStore, WHOLE};
use crate::store::{Change, Store};
use crate::{Error, Index, Picture, Settings};
use altclip_durable::Vfs;
use rusqlite::OptionalExtension as _;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Rows of one commit.
const COMMIT_ROWS: usize = 1024;
/// Longest gap between rows that is looked through number by number.
const LONGEST_GAP: i64 = 1 << 24;

/// A picture that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Number of its row.
    pub id: i64,
    /// Its path, if that can be read; it may be part of what is damaged.
    pub path: Option<String>,
}

/// What a repair found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Pictures that are kept.
    pub kept: u64,
    /// Rows that are there and damaged.
    pub lost: Vec<Lost>,
    /// Pictures that were acknowledged, or counted by the store, and of which nothing is left.
    pub gone: u64,
    /// Commits that were acknowledged and are not in the store.
    pub commits: u64,
    /// Whether anything was wrong at all.
    pub was_damaged: bool,
    /// Whether the index was made good.
    pub is_repaired: bool,
}

impl Repair {
    /// Whether pictures are lost.
    pub fn loses(&self) -> bool {
        !self.lost.is_empty() || self.gone > 0 || self.commits > 0
    }
}

/// Looks for all that can be kept. Where that is less than was acknowledged, the index is only changed if
/// `accepts_loss`.
///
/// # Errors
/// [`Error::Damaged`] or [`Error::NoIndex`] where no row, or not which model it is of, can be read;
/// [`Error::Lost`] where there is no store;
/// [`Error::Locked`], [`Error::Full`], [`Error::Io`].
pub fn repair(vfs: Arc<dyn Vfs>, dir: &Path, accepts_loss: bool) -> Result<Repair, Error> {
    let sound = Index::open(Arc::clone(&vfs), dir).and_then(|index| {
        let is_sound = index.verify()?.is_empty();
        Ok(is_sound.then_some(index.head().images))
    });
    match sound {
        Ok(Some(kept)) => return Ok(Repair { kept, ..Repair::default() }),
        Err(
            error @ (Error::Io { .. }
            | Error::Full { .. }
            | Error::Locked { .. }
            | Error::NotAFolder { .. }),
        ) => return Err(error),
        _ => {}
    }
    vfs.metadata(dir).map_err(Error::io("read", dir))?;
    let lock = lock(dir)?;
    let generation = fullest(&*vfs, dir)?;
    let path = folder(dir, generation);
    let head = Head::read(&*vfs, &path).ok().flatten().unwrap_or_default();
    let file = path.join(STORE);
    if std::fs::metadata(&file).map_or(true, |file| file.len() == 0) {
        let (found, expected) = ("no store".into(), format!("{} pictures", head.images));
        return Err(Error::Lost { path: file, found, expected });
    }
    let store = SqliteStore::open(&file, false)?;
    let settings = Settings::read(&store, dir)?;
    let (ids, mut lost) = (store.ids()?, Vec::new());
    let mut kept = Vec::new();
    for id in ids {
        match store.whole(id)? {
            Ok(_) => kept.push(id),
            Err(path) => lost.push(Lost { id, path }),
        }
    }
    let state = store.state().ok();
    let sequence = state.map_or(0, |state| state.sequence);
    let expected = match state.and_then(|state| state.counted) {
        Some(counted) if sequence >= head.sequence => counted,
        _ => head.images,
    };
    let mut repair = Repair {
        kept: kept.len() as u64,
        gone: expected.saturating_sub((kept.len() + lost.len()) as u64),
        lost,
        commits: head.sequence.saturating_sub(sequence),
        was_damaged: true,
        is_repaired: false,
    };
    if repair.loses() && !accepts_loss {
        return Ok(repair);
    }
    let next = generation::all(&*vfs, dir)?.last().map_or(1, |last| last + 1);
    let mut index = Index::begin(vfs, dir, next, settings, lock)?;
    for ids in kept.chunks(COMMIT_ROWS) {
        let mut changes = Vec::new();
        for &id in ids {
            if let Ok((picture, vector)) = store.whole(id)? {
                changes.push(Change::Put(picture, vector));
            }
        }
        index.commit(&changes)?;
    }
    drop(store);
    index.publish()?;
    repair.is_repaired = true;
    Ok(repair)
}

/// The folders that an index looks through, as far as they can be read of a damaged one.
pub fn roots(vfs: &dyn Vfs, dir: &Path) -> Vec<String> {
    let read = || {
        let path = folder(dir, fullest(vfs, dir)?).join(STORE);
        Ok::<_, Error>(Settings::read(&SqliteStore::open(&path, false)?, dir)?.roots)
    };
    read().unwrap_or_default()
}

/// The generation that counts; where no file says which, the one with the most pictures.
fn fullest(vfs: &dyn Vfs, dir: &Path) -> Result<u64, Error> {
    let unknown = match generation::current(vfs, dir) {
        Ok(generation) => return Ok(generation),
        Err(error) => error,
    };
    let images =
        |generation: u64| SqliteStore::open(&folder(dir, generation).join(STORE), false)?.images();
    let all = generation::all(vfs, dir)?.into_iter();
    let readable = all.filter_map(|generation| Some((images(generation).ok()?, generation)));
    readable.max().map(|(_, generation)| generation).ok_or(unknown)
}

/// The contents of a row, or its path where it is damaged and that can be read.
type Whole = Result<(Picture, Vec<u8>), Option<String>>;

impl SqliteStore {
    /// The numbers of all rows that can be reached: from the first one up to damage, from the last one down
    /// to damage, and what can be found between.
    fn ids(&self) -> Result<BTreeSet<i64>, Error> {
        let mut found = BTreeSet::new();
        let up = self.reach("SELECT id FROM pictures ORDER BY id", &mut found)?;
        let Some(first) = up else { return Ok(found) };
        let down = self.reach("SELECT id FROM pictures ORDER BY id DESC", &mut found)?;
        let Some(last) = down.filter(|last| last.saturating_sub(first) < LONGEST_GAP) else {
            return Ok(found);
        };
        for id in first..=last {
            let query = "SELECT id FROM pictures WHERE id = ?";
            let row = self.connection.query_row(query, [id], |row| row.get::<_, i64>(0)).optional();
            if let Ok(Some(id)) = row {
                found.insert(id);
            }
        }
        Ok(found)
    }

    /// Collects numbers until damage; gives the last one before it, or nothing if there was none.
    fn reach(&self, query: &str, found: &mut BTreeSet<i64>) -> Result<Option<i64>, Error> {
        let failed = self.failed("read");
        let mut last = 0;
        let mut walk = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare(query)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                found.insert(last);
            }
            Ok(())
        };
        match walk().map_err(failed) {
            Ok(()) => Ok(None),
            Err(Error::Damaged { .. }) => Ok(Some(last)),
            Err(error) => Err(error),
        }
    }

    /// A row, if every byte of it is as it was written.
    fn whole(&self, id: i64) -> Result<Whole, Error> {
        let failed = self.failed("read");
        let read = || -> Result<Whole, Error> {
            let query = format!("SELECT {COLUMNS}, v.vector {WHOLE} WHERE p.id = ?");
            let mut statement = self.connection.prepare_cached(&query).map_err(&failed)?;
            let mut rows = statement.query([id]).map_err(&failed)?;
            let Some(row) = rows.next().map_err(&failed)? else { return Ok(Err(None)) };
            let (_, picture, checksum) = self.read(row)?;
            let vector = row.get_ref(10).map_err(&failed)?.as_blob_or_null().ok().flatten();
            let vector = vector.unwrap_or_default().to_vec();
            Ok(match picture.checksum(&vector) == checksum {
                true => Ok((picture, vector)),
                false => Err(Some(picture.path)),
            })
        };
        match read() {
            Err(Error::Damaged { .. }) => {
                let query = "SELECT path FROM pictures WHERE id = ?";
                Ok(Err(self.connection.query_row(query, [id], |row| row.get(0)).ok()))
            }
            found => found,
        }
    }
}
