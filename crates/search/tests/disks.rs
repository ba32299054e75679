//! Disks that are full, that cannot be written, that fail at any operation or lose power: nothing that was
//! acknowledged is lost, and searching goes on.
//!
//! The store is SQLite's and lies on the real disk, synced; the files beside it lie on a simulated one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod support;

use altclip_durable::{Damage, Fault, FaultKind, Metadata, SimFs, Vfs, VfsFile};
use altclip_report::{Code, Diagnose as _};
use altclip_search::{Change, Error, Index, Settings};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{answers, contents, expected, filled, open, path, put, puts, settings, write};

/// A simulated disk whose folders exist on the real one too, for the store.
#[derive(Clone)]
struct Half {
    sim: SimFs,
    dir: PathBuf,
}

impl Half {
    fn new(dir: &Path) -> Self {
        Self { sim: SimFs::new(), dir: dir.to_owned() }
    }

    fn crash(&self, damage: Damage) -> Self {
        Self { sim: self.sim.crash(damage), dir: self.dir.clone() }
    }

    fn inner<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.dir).unwrap()
    }

    fn writable<'p>(&self, path: &'p Path) -> io::Result<&'p Path> {
        // The reserve is many operations that say nothing new.
        if path.ends_with(".RESERVE.part") {
            Err(io::ErrorKind::Other.into())
        } else {
            Ok(self.inner(path))
        }
    }
}

impl Vfs for Half {
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.sim.create(self.writable(path)?)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.sim.append(self.inner(path))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.sim.open(self.inner(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sim.rename(self.inner(from), self.inner(to))?;
        if from.is_dir() { std::fs::rename(from, to) } else { Ok(()) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sim.sync_dir(self.inner(dir))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.sim.remove_file(self.inner(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.sim.remove_dir(self.inner(path))?;
        std::fs::remove_dir_all(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.sim.create_dir(self.inner(path))?;
        std::fs::create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.sim.list(self.inner(dir))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.sim.metadata(self.inner(path))
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        self.sim.free_space(self.inner(dir))
    }
}

/// What a writer does until something fails: three commits of ten pictures, and the search structure after
/// each. Gives the number of pictures that were acknowledged, if the index was.
fn work(disk: &Half) -> Option<usize> {
    let mut index = Index::create(Arc::new(disk.clone()), &disk.dir, settings("f")).ok()?;
    let mut acknowledged = 0;
    for part in 0..3 {
        if index.commit(&puts(10 * part..10 * part + 10)).is_err() {
            break;
        }
        acknowledged += 10;
        index.flat().unwrap();
    }
    Some(acknowledged)
}

#[test]
fn whatever_fails_or_is_cut_off_what_was_acknowledged_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let count = {
        let disk = Half::new(&dir.path().join("count"));
        assert_eq!(work(&disk), Some(30));
        disk.sim.operations().len()
    };
    let (mut states, mut early) = (0, 0);
    for (kind, forever) in
        [(FaultKind::Io, false), (FaultKind::NoSpace, true), (FaultKind::FailedSync, false)]
    {
        for at in 0..count {
            let disk = Half::new(&dir.path().join(format!("{kind:?}-{at}")));
            disk.sim.inject(Fault { at, kind, forever });
            let acknowledged = work(&disk);
            early += u32::from(acknowledged != Some(30));
            disk.sim.heal();
            for damage in
                [Damage::DropAll, Damage::KeepAll, Damage::NamesOnly, Damage::Random(at as u64)]
            {
                let disk = disk.crash(damage);
                let opened = Index::open_to_write(Arc::new(disk.clone()), &disk.dir);
                let what = format!("{kind:?} at {at}, {damage:?}, {acknowledged:?}");
                match (opened, acknowledged) {
                    // Nobody was told that there is an index, and a new one can be made.
                    (Err(Error::NoIndex { .. }), None) => {}
                    (Err(error), _) => panic!("{what}: {error:?}"),
                    (Ok(mut index), acknowledged) => {
                        let rows = contents(&index);
                        assert!(rows.len() >= acknowledged.unwrap_or(0), "{what}");
                        assert_eq!(rows, expected(0..rows.len()), "{what}");
                        assert_eq!(index.flat().unwrap().len(), rows.len(), "{what}");
                        assert!(index.verify().unwrap().is_empty(), "{what}");
                    }
                }
                states += 1;
            }
            let _ = std::fs::remove_dir_all(&disk.dir);
        }
    }
    println!("{count} operations, {states} states after a cut, {early} writers stopped early");
    assert!(states > 300 && early > 20, "{states}, {early}");
}

#[test]
fn a_word_that_was_not_synced_is_caught() {
    // The control: the same on a disk whose syncs do nothing.
    let dir = tempfile::tempdir().unwrap();
    let disk = Half::new(&dir.path().join("index"));
    for kind in [FaultKind::IgnoredSync, FaultKind::IgnoredDirSync] {
        disk.sim.inject(Fault { at: 0, kind, forever: true });
    }
    let acknowledged = work(&disk);
    assert_eq!(acknowledged, Some(30));
    let disk = disk.crash(Damage::DropAll);
    assert!(Index::open(Arc::new(disk.clone()), &disk.dir).is_err(), "the cut took nothing");
}

#[test]
fn a_rebuild_that_fails_anywhere_leaves_the_old_index_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let rebuild = |disk: &Half| -> Result<(), Error> {
        let mut new = Index::rebuild(Arc::new(disk.clone()), &disk.dir, settings("other"))?;
        new.commit(&puts(0..4))?;
        new.publish().map(drop)
    };
    let first = |name: &str| {
        let disk = Half::new(&dir.path().join(name));
        let mut index = Index::create(Arc::new(disk.clone()), &disk.dir, settings("f")).unwrap();
        index.commit(&puts(0..10)).unwrap();
        disk
    };
    let disk = first("count");
    let before = disk.sim.operations().len();
    rebuild(&disk).unwrap();
    let after = disk.sim.operations().len();
    for at in before..after {
        let disk = first(&at.to_string());
        disk.sim.inject(Fault { at, kind: FaultKind::Io, forever: true });
        let done = rebuild(&disk).is_ok();
        disk.sim.heal();
        for damage in [Damage::DropAll, Damage::KeepAll] {
            let disk = disk.crash(damage);
            let index = Index::open(Arc::new(disk.clone()), &disk.dir).unwrap();
            let found = (index.settings().fingerprint.as_str(), contents(&index).len());
            let is_new = found == ("other", 4);
            assert!(is_new || (found == ("f", 10) && !done), "{at} {damage:?}: {found:?}");
        }
    }
}

/// The real disk, full when it is told to be.
struct Filling {
    is_full: Arc<AtomicBool>,
}

impl Filling {
    fn room(&self) -> io::Result<()> {
        match self.is_full.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Vfs for Filling {
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.room()?;
        altclip_durable::RealFs.create(path)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.room()?;
        altclip_durable::RealFs.append(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        altclip_durable::RealFs.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        altclip_durable::RealFs.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        altclip_durable::RealFs.sync_dir(dir)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        altclip_durable::RealFs.remove_file(path)?;
        if path.ends_with("RESERVE") {
            self.is_full.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        altclip_durable::RealFs.remove_dir(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        altclip_durable::RealFs.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        altclip_durable::RealFs.list(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        altclip_durable::RealFs.metadata(path)
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        altclip_durable::RealFs.free_space(dir)
    }
}

#[test]
fn on_a_full_disk_searching_goes_on_and_writing_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    let is_full = Arc::new(AtomicBool::new(false));
    let disk = Arc::new(Filling { is_full: Arc::clone(&is_full) });
    let mut index = Index::create(disk, &dir, settings("f")).unwrap();
    index.commit(&puts(0..30)).unwrap();
    let clean = answers(&mut index).unwrap();
    std::fs::remove_file(support::file(&dir, "flat")).unwrap();
    is_full.store(true, Ordering::Relaxed);
    let error = index.commit(&[put(30)]).unwrap_err();
    assert_eq!((error.report().code, error.report().code.exit_status()), (Code::E7007, 6));
    // The word about it could not be written, so it was not acknowledged; the search structure cannot be
    // kept, and serves.
    assert_eq!(index.head().images, 30);
    assert_eq!(index.flat().unwrap().len(), 31);
    assert!(index.take_notices().iter().any(|report| report.code == Code::W7012));
    assert_eq!(answers(&mut open(&dir).unwrap()).unwrap().len(), clean.len());
    // Room again, and it works without being opened anew.
    is_full.store(false, Ordering::Relaxed);
    index.commit(&[put(31)]).unwrap();
    drop(index);
    assert_eq!(contents(&open(&dir).unwrap()), expected(0..32));
}

#[test]
fn an_index_that_filled_its_disk_itself_can_still_forget() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    let is_full = Arc::new(AtomicBool::new(false));
    let disk = || Arc::new(Filling { is_full: Arc::clone(&is_full) });
    let mut index = Index::create(disk(), &dir, settings("f")).unwrap();
    index.commit(&puts(0..30)).unwrap();
    is_full.store(true, Ordering::Relaxed);
    // The store has it, the word about it has no room.
    assert_eq!(index.commit(&[put(30)]).unwrap_err().report().code, Code::E7007);
    drop(index);
    let mut index = Index::open_to_write(disk(), &dir).unwrap();
    assert_eq!(index.head().images, 31);
    assert!(!dir.join("RESERVE").exists());
    index.forget(&[path(3)], settings("f")).unwrap();
    assert_eq!(contents(&index), expected((0..31).filter(|&n| n != 3)));
}

#[test]
fn room_is_kept_for_forgetting() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    let mut index = filled(&dir, 30);
    let reserve = dir.join("RESERVE");
    assert!(std::fs::metadata(&reserve).unwrap().len() >= 4 << 20);
    let forgotten = settings("f").roots;
    let without = Settings { roots: vec![], ..settings("f") };
    index.forget(&[path(3), path(4)], without).unwrap();
    assert_eq!(contents(&index), expected((0..30).filter(|n| ![3, 4].contains(n))));
    assert_ne!(index.settings().roots, forgotten);
    // Where the reserve was spent it is filled up again by the next commit that finds room.
    std::fs::remove_file(&reserve).unwrap();
    index.commit(&[Change::Remove(path(5))]).unwrap();
    assert!(reserve.exists());
}

/// Folders that cannot be written. A superuser writes everywhere, so only the simulation and the test of the
/// command say something there.
#[cfg(unix)]
mod read_only {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn set(dir: &Path, mode: u32) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                set(&path, mode);
            } else {
                let mode = std::fs::Permissions::from_mode(mode & 0o666);
                std::fs::set_permissions(&path, mode).unwrap();
            }
        }
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn searching_works_and_writing_says_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let (live, dir) = (dir.path().join("live"), dir.path().join("index"));
        let mut index = filled(&live, 30);
        let clean = answers(&mut index).unwrap();
        for closed in [false, true] {
            if closed {
                // Closing moves the log into the store.
                drop(write(&live));
            }
            support::copy(&live, &dir);
            set(&dir, 0o555);
            if std::fs::write(dir.join("probe"), "").is_ok() {
                println!("skipped: this user writes everywhere");
                return set(&dir, 0o755);
            }
            let mut reader = open(&dir).unwrap();
            assert_eq!(answers(&mut reader).unwrap(), clean, "closed: {closed}");
            assert_eq!(reader.verify().unwrap(), []);
            assert_eq!(support::code(write(&dir)), Some(Code::E7009));
            set(&dir, 0o755);
        }
    }
}
