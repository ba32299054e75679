//! Which of an index's generations counts: the file `CURRENT`, and the folders `g1`, `g2`… beside it.

use crate::Error;
use crate::background::BACKGROUND;
use crate::flat::FLAT;
use crate::head::HEAD;
use crate::seal::{sealed, unsealed};
use altclip_durable::{Vfs, remove_all, replace};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) const CURRENT: &str = "CURRENT";
pub(crate) const LOCK: &str = "LOCK";
pub(crate) const RESERVE: &str = "RESERVE";
pub(crate) const STORE: &str = "store.db";
const FORMAT: &str = "altclip index 1";

/// The folder of a generation.
pub(crate) fn folder(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("g{generation}"))
}

/// The number of a generation's folder.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix('g')?;
    digits.parse().ok().filter(|number| format!("g{number}") == name)
}

/// The generation that counts.
///
/// # Errors
/// [`Error::NoIndex`], [`Error::NotAFolder`], [`Error::Damaged`], [`Error::Io`].
pub(crate) fn current(vfs: &dyn Vfs, dir: &Path) -> Result<u64, Error> {
    let path = dir.join(CURRENT);
    let bytes = match altclip_durable::read(vfs, &path, 4096) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => {
            let found = match vfs.metadata(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => "nothing",
                _ => "another kind of file or folder",
            };
            return Err(Error::NoIndex { path: dir.to_owned(), found: found.into() });
        }
        Err(altclip_durable::Error::Io { source, .. })
            if source.kind() == io::ErrorKind::NotADirectory =>
        {
            return Err(Error::NotAFolder { path: dir.to_owned() });
        }
        Err(error) => return Err(error.into()),
    };
    let body = unsealed(&bytes);
    let body = body.ok_or_else(|| Error::damaged(&path, "it does not have its checksum"))?;
    let (format, name) = body.split_once('\n').unwrap_or_default();
    match (format, number(name)) {
        (FORMAT, Some(generation)) => Ok(generation),
        _ => Err(Error::NoIndex { path, found: "another version of the format".into() }),
    }
}

/// Makes a generation the one that counts.
pub(crate) fn publish(vfs: &dyn Vfs, dir: &Path, generation: u64) -> Result<(), Error> {
    let text = sealed(&format!("{FORMAT}\ng{generation}"));
    replace(vfs, &dir.join(CURRENT), |out| out.write_all(text.as_bytes()))?;
    Ok(())
}

/// The generations that have a folder, ascending.
pub(crate) fn all(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<u64>, Error> {
    let names = vfs.list(dir).map_err(Error::io("read", dir))?;
    let mut found: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
    found.sort_unstable();
    Ok(found)
}

/// The next generation: behind the one that counts, or behind all where none is known to.
pub(crate) fn next(vfs: &dyn Vfs, dir: &Path) -> Result<u64, Error> {
    match current(vfs, dir) {
        Ok(generation) => Ok(generation + 1),
        Err(Error::NoIndex { .. } | Error::Damaged { .. }) => {
            Ok(all(vfs, dir)?.last().map_or(1, |last| last + 1))
        }
        Err(error) => Err(error),
    }
}

/// Removes a generation's folder. One with files that no index has is another's, and stays.
///
/// # Errors
/// [`Error::NoIndex`] for another's; what the file system says.
pub(crate) fn remove(vfs: &dyn Vfs, dir: &Path, generation: u64) -> Result<(), Error> {
    let path = folder(dir, generation);
    for name in vfs.list(&path).map_err(Error::io("read", &path))? {
        let of_store = name
            .strip_prefix(STORE)
            .is_some_and(|end| ["", "-wal", "-shm", "-journal"].contains(&end));
        let is_part = name.starts_with('.') && name.ends_with(".part");
        if !of_store && !is_part && ![HEAD, FLAT, BACKGROUND].contains(&name.as_str()) {
            return Err(foreign(dir, &format!("g{generation}/{name}")));
        }
    }
    Ok(remove_all(vfs, &path)?)
}

/// Checks that a folder in which a new index is made holds nothing of anybody else.
///
/// # Errors
/// [`Error::NoIndex`] with a file that it holds.
pub(crate) fn check_free(vfs: &dyn Vfs, dir: &Path) -> Result<(), Error> {
    for name in vfs.list(dir).map_err(Error::io("read", dir))? {
        let is_part = name.starts_with('.') && name.ends_with(".part");
        if !is_part && ![CURRENT, LOCK, RESERVE].contains(&name.as_str()) && number(&name).is_none()
        {
            return Err(foreign(dir, &name));
        }
    }
    Ok(())
}

fn foreign(dir: &Path, name: &str) -> Error {
    let found = format!("a folder with files of something else: {}", altclip_report::quote(name));
    Error::NoIndex { path: dir.to_owned(), found }
}
