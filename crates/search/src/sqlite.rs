//! The store in one SQLite file: write-ahead log, synced at every commit, a checksum a row.

use crate::picture::{MAX_WIDTH, Picture};
use crate::store::{Change, Entry, State, Store};
use crate::{Error, Filter};
use altclip_report::{Diagnose as _, MAX_REPORTS, Report, quote};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, params};
use std::path::{Path, PathBuf};

/// Setting with the number of pictures after the last commit.
const IMAGES: &str = "images";
/// Raised when the tables change.
const VERSION: i32 = 1;
/// `altC`, so that another program's database is not taken for an index.
const APPLICATION: i32 = 0x616c_7443;

const TABLES: &str = "
CREATE TABLE settings (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE, hash BLOB NOT NULL,
    bytes INTEGER NOT NULL, modified INTEGER NOT NULL, width INTEGER NOT NULL,
    height INTEGER NOT NULL, taken INTEGER, tags TEXT NOT NULL, checksum INTEGER NOT NULL);
CREATE INDEX pictures_by_hash ON pictures (hash);
CREATE TABLE vectors (id INTEGER PRIMARY KEY, vector BLOB NOT NULL);
INSERT INTO settings VALUES ('sequence', '0');
";
pub(crate) const COLUMNS: &str =
    "p.id, p.path, p.hash, p.bytes, p.modified, p.width, p.height, p.taken, p.tags, p.checksum";

/// The store of an index in one file.
pub struct SqliteStore {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
}

impl SqliteStore {
    /// Makes a new store.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let failed = |error| failed(path, "make", &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        let mut store = Self { connection, path: path.to_owned() };
        store.begin().map_err(failed)?;
        let transaction = store.connection.transaction().map_err(failed)?;
        transaction
            .pragma_update(None, "application_id", APPLICATION)
            .and_then(|()| transaction.pragma_update(None, "user_version", VERSION))
            .and_then(|()| transaction.execute_batch(TABLES))
            .and_then(|()| transaction.commit())
            .map_err(failed)?;
        // The tables are in the file itself, so that a log that is lost takes rows and nothing else.
        let moved = store.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        moved.map_err(failed)?;
        Ok(store)
    }

    /// Opens a store; to read only where `writes` is false.
    ///
    /// # Errors
    /// [`Error::NoIndex`] for another program's file or a newer version, [`Error::Damaged`],
    /// [`Error::Io`].
    pub fn open(path: &Path, writes: bool) -> Result<Self, Error> {
        if let Err(error) = std::fs::metadata(path) {
            return Err(Error::NoIndex { path: path.to_owned(), found: error.to_string() });
        }
        let flags = match writes {
            true => OpenFlags::SQLITE_OPEN_READ_WRITE,
            false => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
        match Self::open_with(path, path.as_os_str(), flags, writes) {
            Err(Error::Io { .. } | Error::Full { .. }) if !writes => Self::open_sealed(path, flags),
            opened => opened,
        }
    }

    /// Opens a store in a folder that cannot be written, where SQLite has no room for its files beside.
    /// Nobody else can write there either, so nothing has to be locked.
    fn open_sealed(path: &Path, flags: OpenFlags) -> Result<Self, Error> {
        let log = format!("{}-wal", path.to_string_lossy());
        let failed = |error| failed(path, "open", &error);
        if cfg!(unix) && std::fs::metadata(log).is_ok_and(|log| log.len() > 0) {
            // It was not closed. Its log is read with an index of it in memory.
            let connection = Connection::open_with_flags_and_vfs(path, flags, c"unix-none");
            let connection = connection.map_err(failed)?;
            let exclusive = ("locking_mode", "EXCLUSIVE");
            connection
                .pragma_update_and_check(None, exclusive.0, exclusive.1, |_| Ok(()))
                .map_err(failed)?;
            return Self::checked(connection, path);
        }
        let text = path.to_string_lossy();
        let escaped = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let uri = format!("file:{escaped}?immutable=1");
        Self::open_with(path, uri.as_ref(), flags | OpenFlags::SQLITE_OPEN_URI, false)
    }

    fn open_with(
        path: &Path,
        name: &std::ffi::OsStr,
        flags: OpenFlags,
        writes: bool,
    ) -> Result<Self, Error> {
        let failed = |error| failed(path, "open", &error);
        let connection = Connection::open_with_flags(name, flags).map_err(failed)?;
        let store = Self::checked(connection, path)?;
        if writes {
            store.begin().map_err(failed)?;
        }
        Ok(store)
    }

    /// The store behind a connection, if it is one.
    fn checked(connection: Connection, path: &Path) -> Result<Self, Error> {
        let failed = |error| failed(path, "open", &error);
        let store = Self { connection, path: path.to_owned() };
        let number = |name| store.connection.pragma_query_value(None, name, |row| row.get(0));
        let application: i32 = number("application_id").map_err(failed)?;
        let version: i32 = number("user_version").map_err(failed)?;
        if application != APPLICATION || version != VERSION {
            let found = match application {
                APPLICATION => format!("version {version} of the store, not {VERSION}"),
                _ => "another kind of file".into(),
            };
            return Err(Error::NoIndex { path: path.to_owned(), found });
        }
        Ok(store)
    }

    fn begin(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let set =
            |name, value| self.connection.pragma_update_and_check(None, name, value, |_| Ok(()));
        set("journal_mode", "WAL")?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        self.connection.pragma_update(None, "fullfsync", true)
    }

    /// Lets the file have at most so many pages of 4 KiB: a disk that is full at a known place.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn limit_pages(&self, pages: u32) -> Result<(), Error> {
        let set =
            self.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
        set.map_err(|error| failed(&self.path, "limit", &error))
    }

    pub(crate) fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> Error {
        move |error| failed(&self.path, action, &error)
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(&self.path, what)
    }

    /// The picture and the checksum of a row.
    pub(crate) fn read(&self, row: &Row<'_>) -> Result<(i64, Picture, i64), Error> {
        let read = || row_of(row);
        read().map_err(|error| match error {
            rusqlite::Error::SqliteFailure(..) => self.failed("read")(error),
            // A value of another type than was written.
            other => self.damaged(format!("a row cannot be read: {other}")),
        })
    }

    /// Hands out rows of a query; `vectors` says whether the last column is one.
    fn each(
        &self,
        query: &str,
        parameters: &[&dyn rusqlite::ToSql],
        vectors: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), Error> {
        let failed = self.failed("read");
        let mut statement = self.connection.prepare_cached(query).map_err(&failed)?;
        let mut rows = statement.query(parameters).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let (id, picture, checksum) = self.read(row)?;
            if !vectors {
                visit(id, picture, &[])?;
                continue;
            }
            let vector = row.get_ref(10).map_err(&failed)?;
            let vector = vector.as_blob_or_null().ok().flatten().unwrap_or_default();
            if picture.checksum(vector) != checksum || vector.len() > 2 * MAX_WIDTH {
                return Err(self.damaged(format!(
                    "row {id}, {}, does not have its checksum",
                    quote(&picture.path)
                )));
            }
            visit(id, picture, vector)?;
        }
        Ok(())
    }
}

/// Is handed a row whole.
type Visit<'v> = dyn FnMut(i64, Picture, &[u8]) -> Result<(), Error> + 'v;

pub(crate) const WHOLE: &str = "FROM pictures p LEFT JOIN vectors v ON v.id = p.id";

impl Store for SqliteStore {
    fn sequence(&self) -> Result<u64, Error> {
        let text = self.setting("sequence")?;
        let number = text.and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.damaged("it has no number of its last commit"))
    }

    fn images(&self) -> Result<u64, Error> {
        let count = "SELECT count(*) FROM pictures";
        let count = self.connection.query_row(count, [], |row| row.get::<_, i64>(0));
        count.map(i64::cast_unsigned).map_err(self.failed("read"))
    }

    fn state(&self) -> Result<State, Error> {
        let snapshot = self.connection.unchecked_transaction().map_err(self.failed("read"))?;
        let counted = self.setting(IMAGES)?.and_then(|text| text.parse().ok());
        let state = State { sequence: self.sequence()?, images: self.images()?, counted };
        snapshot.commit().map_err(self.failed("read"))?;
        Ok(state)
    }

    fn setting(&self, key: &str) -> Result<Option<String>, Error> {
        let query = "SELECT value FROM settings WHERE key = ?";
        let value = self.connection.query_row(query, [key], |row| row.get(0)).optional();
        value.map_err(self.failed("read"))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<u64, Error> {
        let sequence = self.sequence()? + 1;
        let path = self.path.clone();
        let mut work = || -> rusqlite::Result<()> {
            let behavior = rusqlite::TransactionBehavior::Immediate;
            let transaction = self.connection.transaction_with_behavior(behavior)?;
            for change in changes {
                apply(&transaction, change)?;
            }
            transaction
                .prepare_cached("UPDATE settings SET value = ? WHERE key = 'sequence'")?
                .execute([sequence.to_string()])?;
            let count = "INSERT OR REPLACE INTO settings SELECT ?, count(*) FROM pictures";
            transaction.prepare_cached(count)?.execute([IMAGES])?;
            transaction.commit()
        };
        work().map_err(|error| failed(&path, "write", &error))?;
        Ok(sequence)
    }

    fn entries(&self, visit: &mut dyn FnMut(Entry)) -> Result<(), Error> {
        let query = format!("SELECT {COLUMNS} FROM pictures p");
        self.each(&query, &[], false, &mut |id, mut picture, _| {
            picture.tags = Vec::new();
            visit(Entry { id, picture });
            Ok(())
        })
    }

    fn picture(&self, id: i64) -> Result<Option<Picture>, Error> {
        let query = format!("SELECT {COLUMNS}, v.vector {WHOLE} WHERE p.id = ?");
        let mut found = None;
        self.each(&query, &[&id], true, &mut |_, picture, _| {
            found = Some(picture);
            Ok(())
        })?;
        Ok(found)
    }

    fn at(&self, path: &str) -> Result<Option<(i64, Vec<u8>)>, Error> {
        let query = format!("SELECT {COLUMNS}, v.vector {WHOLE} WHERE p.path = ?");
        let mut found = None;
        self.each(&query, &[&path], true, &mut |id, _, vector| {
            found = Some((id, vector.to_vec()));
            Ok(())
        })?;
        Ok(found)
    }

    fn with_hash(&self, hash: u128) -> Result<Option<(Picture, Vec<u8>)>, Error> {
        let query = format!("SELECT {COLUMNS}, v.vector {WHOLE} WHERE p.hash = ? LIMIT 1");
        let mut found = None;
        self.each(&query, &[&hash.to_le_bytes().as_slice()], true, &mut |_, picture, vector| {
            found = Some((picture, vector.to_vec()));
            Ok(())
        })?;
        Ok(found)
    }

    fn vectors(&self, visit: &mut dyn FnMut(i64, &[u8])) -> Result<u64, Error> {
        // One snapshot for the number and the rows.
        let snapshot = self.connection.unchecked_transaction().map_err(self.failed("read"))?;
        let sequence = self.sequence()?;
        self.rows(&mut |id, _, vector| visit(id, vector))?;
        snapshot.commit().map_err(self.failed("read"))?;
        Ok(sequence)
    }

    fn rows(&self, visit: &mut dyn FnMut(i64, Picture, &[u8])) -> Result<(), Error> {
        let query = format!("SELECT {COLUMNS}, v.vector {WHOLE} ORDER BY p.id");
        self.each(&query, &[], true, &mut |id, picture, vector| {
            visit(id, picture, vector);
            Ok(())
        })
    }

    fn select(&self, filter: &Filter) -> Result<Vec<i64>, Error> {
        let mut ids = Vec::new();
        let query = format!("SELECT {COLUMNS} FROM pictures p ORDER BY p.id");
        self.each(&query, &[], false, &mut |id, picture, _| {
            if filter.lets(&picture) {
                ids.push(id);
            }
            Ok(())
        })?;
        Ok(ids)
    }

    fn verify(&self) -> Result<Vec<Report>, Error> {
        let failed = self.failed("read");
        let mut found = Vec::new();
        let say = |what: String| self.damaged(what).report();
        let mut check = self.connection.prepare("PRAGMA integrity_check(20)").map_err(&failed)?;
        let mut lines = check.query([]).map_err(&failed)?;
        while let Some(row) = lines.next().map_err(&failed)? {
            let line: String = row.get(0).map_err(&failed)?;
            if line != "ok" {
                found.push(say(quote(&line)));
            }
        }
        let query = format!("SELECT {COLUMNS}, v.vector {WHOLE} ORDER BY p.id");
        let mut statement = self.connection.prepare(&query).map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            if found.len() >= MAX_REPORTS {
                break;
            }
            match self.read(row) {
                Err(error) => found.push(error.report()),
                Ok((id, picture, checksum)) => {
                    let vector = row.get_ref(10).map_err(&failed)?;
                    let vector = vector.as_blob_or_null().ok().flatten().unwrap_or_default();
                    if picture.checksum(vector) != checksum {
                        let path = quote(&picture.path);
                        found.push(say(format!("row {id}, {path}, does not have its checksum")));
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Number, picture and checksum of a row of [`COLUMNS`].
fn row_of(row: &Row<'_>) -> rusqlite::Result<(i64, Picture, i64)> {
    let hash: Vec<u8> = row.get(2)?;
    let tags: String = row.get(8)?;
    let picture = Picture {
        path: row.get(1)?,
        hash: <[u8; 16]>::try_from(hash.as_slice()).map_or(0, u128::from_le_bytes),
        bytes: row.get::<_, i64>(3)?.cast_unsigned(),
        modified: row.get(4)?,
        width: row.get(5)?,
        height: row.get(6)?,
        taken: row.get(7)?,
        tags: tags.lines().map(str::to_owned).collect(),
    };
    Ok((row.get(0)?, picture, row.get(9)?))
}

fn apply(connection: &Connection, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Put(picture, vector) => {
            let put = "INSERT INTO pictures (path, hash, bytes, modified, width, height, taken, tags, checksum)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (path) DO UPDATE SET hash = excluded.hash, bytes = excluded.bytes,
                modified = excluded.modified, width = excluded.width, height = excluded.height,
                taken = excluded.taken, tags = excluded.tags, checksum = excluded.checksum
                RETURNING id";
            let id: i64 = connection.prepare_cached(put)?.query_row(
                params![
                    picture.path,
                    picture.hash.to_le_bytes().as_slice(),
                    picture.bytes.cast_signed(),
                    picture.modified,
                    picture.width,
                    picture.height,
                    picture.taken,
                    picture.tags.join("\n"),
                    picture.checksum(vector),
                ],
                |row| row.get(0),
            )?;
            let vectors = "INSERT OR REPLACE INTO vectors (id, vector) VALUES (?, ?)";
            connection.prepare_cached(vectors)?.execute(params![id, vector])?;
        }
        Change::Touch { path, modified } => {
            let query = format!("SELECT {COLUMNS}, v.vector {WHOLE} WHERE p.path = ?");
            let mut statement = connection.prepare_cached(&query)?;
            let row = statement.query_row([path], |row| {
                let (_, picture, checksum) = row_of(row)?;
                Ok((picture, checksum, row.get::<_, Vec<u8>>(10)?))
            });
            // A row that is damaged already stays so.
            if let Some((mut picture, checksum, vector)) = row.optional()?
                && picture.checksum(&vector) == checksum
            {
                picture.modified = *modified;
                let update = "UPDATE pictures SET modified = ?, checksum = ? WHERE path = ?";
                let values = params![modified, picture.checksum(&vector), path];
                connection.prepare_cached(update)?.execute(values)?;
            }
        }
        Change::Remove(path) => {
            let vectors = "DELETE FROM vectors WHERE id = (SELECT id FROM pictures WHERE path = ?)";
            connection.prepare_cached(vectors)?.execute([path])?;
            connection.prepare_cached("DELETE FROM pictures WHERE path = ?")?.execute([path])?;
        }
        Change::Set(key, value) => {
            let set = "INSERT OR REPLACE INTO settings VALUES (?, ?)";
            connection.prepare_cached(set)?.execute([key, value])?;
        }
    }
    Ok(())
}

/// What SQLite says, by who can act on it.
fn failed(path: &Path, action: &'static str, error: &rusqlite::Error) -> Error {
    let path = path.to_owned();
    let what = error.to_string();
    let extended = error.sqlite_error().map(|error| error.extended_code);
    match error.sqlite_error_code() {
        // The index of the log could not grow.
        _ if extended == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) => Error::Full { path },
        Some(ErrorCode::DiskFull) => Error::Full { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Damaged { path, what },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::Locked { path, holder: "another program that uses the file".into() }
        }
        // SQL that does not fit the tables: they are not those that were made.
        Some(ErrorCode::Unknown) | None => Error::Damaged { path, what },
        _ => Error::Io { action, path, what },
    }
}
