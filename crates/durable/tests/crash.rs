//! Power cuts and faults at every operation of the two writers, on the simulated disk.
#![allow(clippy::unwrap_used)]

use altclip_durable::{
    Damage, Error, Fault, FaultKind, Folder, Operation, SimFs, Vfs, read, replace, sweep,
};
use std::path::Path;

const DAMAGES: &[Damage] = &[
    Damage::DropAll,
    Damage::KeepAll,
    Damage::NamesOnly,
    Damage::Zeroed,
    Damage::ContentsOnly,
    Damage::LastHalf,
];
const FAULTS: &[FaultKind] = &[
    FaultKind::NoSpace,
    FaultKind::Io,
    FaultKind::ShortWrite,
    FaultKind::FailedSync,
    FaultKind::FailedRename,
    FaultKind::ReadOnlyDir,
    FaultKind::SilentDamage,
];

fn damages() -> impl Iterator<Item = Damage> {
    DAMAGES.iter().copied().chain((0..30).map(Damage::Random))
}

fn old() -> Vec<u8> {
    vec![b'o'; 700]
}

fn new() -> Vec<u8> {
    vec![b'n'; 1800]
}

type Scenario = fn(&SimFs) -> Result<(), Error>;

fn replace_file(disk: &SimFs) -> Result<(), Error> {
    replace(disk, Path::new("file"), |out| out.write_all(&new())).map(drop)
}

fn publish_folder(disk: &SimFs) -> Result<(), Error> {
    let folder = Folder::begin(disk, Path::new("file"))?;
    folder.file("a", |out| out.write_all(&new()))?;
    folder.file("b", |out| out.write_all(&new()))?;
    folder.publish()
}

/// A writer that gives the name away before the contents are on the disk.
fn rename_too_early(disk: &SimFs) -> Result<(), Error> {
    let fault = |source| Error::Io { action: "write", path: "file".into(), source };
    let beside = Path::new(".file.part");
    let mut file = disk.create(beside).map_err(fault)?;
    file.write_all(&new()).map_err(fault)?;
    disk.rename(beside, Path::new("file")).map_err(fault)?;
    file.sync().map_err(fault)?;
    disk.sync_dir(Path::new("")).map_err(fault)
}

fn disk(with_old: bool) -> SimFs {
    let disk = SimFs::new().with_write_bytes(600);
    if with_old {
        replace(&disk, Path::new("file"), |out| out.write_all(&old())).unwrap();
    }
    disk
}

/// What is there: nothing, the old, the new, or something that must never be.
fn found(disk: &SimFs) -> &'static str {
    let Ok(what) = disk.metadata(Path::new("file")) else { return "nothing" };
    let contents = |path: &str| read(disk, Path::new(path), 1 << 20).unwrap_or_default();
    if what.is_dir {
        let whole = contents("file/a") == new() && contents("file/b") == new();
        return if whole { "new" } else { "broken" };
    }
    match contents("file") {
        bytes if bytes == old() => "old",
        bytes if bytes == new() => "new",
        _ => "broken",
    }
}

/// Runs a scenario with every fault and power cut; gives the number of cases and what went wrong.
fn torture(scenario: Scenario, before: &'static str, faults: &[Fault]) -> (usize, Vec<String>) {
    let with_old = before == "old";
    let clean = disk(with_old);
    let first = clean.operations().len();
    faults.iter().for_each(|fault| clean.inject(*fault));
    scenario(&clean).unwrap();
    let operations = clean.operations();
    let (mut cases, mut wrong) = (0, Vec::new());
    let mut judge = |disk: &SimFs, done: bool, what: &str| {
        for damage in damages() {
            cases += 1;
            let after = disk.crash(damage);
            let left = after.list(Path::new("")).unwrap();
            if left.iter().filter(|name| name.ends_with(".part")).count() > 1 {
                wrong.push(format!("{what}, {damage:?}: {left:?}"));
            }
            sweep(&after, Path::new("")).unwrap();
            let found = found(&after);
            if found != "new" && (done || found != before) {
                wrong.push(format!("{what}, {damage:?}: {found}"));
            }
        }
    };
    judge(&clean, true, "done");
    for (number, (operation, _)) in operations.iter().enumerate().skip(first) {
        let kinds = FAULTS.iter().chain(&[FaultKind::PowerOff]);
        for kind in kinds.filter(|kind| kind.concerns(*operation)) {
            for forever in [false, true] {
                let disk = disk(with_old);
                faults.iter().for_each(|fault| disk.inject(*fault));
                disk.inject(Fault { at: number, kind: *kind, forever });
                let done = scenario(&disk).is_ok();
                judge(&disk, done, &format!("{kind:?} at {number} {operation:?} {forever}"));
            }
        }
    }
    (cases, wrong)
}

#[test]
fn a_file_is_the_old_one_or_the_new_one() {
    for before in ["nothing", "old"] {
        let (cases, wrong) = torture(replace_file, before, &[]);
        assert!(cases > 1500, "{cases}");
        assert_eq!(wrong, [""; 0]);
    }
}

#[test]
fn a_folder_is_whole_or_not_there() {
    let (cases, wrong) = torture(publish_folder, "nothing", &[]);
    assert!(cases > 3000, "{cases}");
    assert_eq!(wrong, [""; 0]);
}

/// The test can fail: each of these forgets one step.
#[test]
fn forgotten_steps_are_found() {
    let always = |kind| [Fault { at: 0, kind, forever: true }];
    for kind in [FaultKind::IgnoredSync, FaultKind::IgnoredDirSync] {
        assert!(!torture(replace_file, "old", &always(kind)).1.is_empty(), "{kind:?}");
        assert!(!torture(publish_folder, "nothing", &always(kind)).1.is_empty(), "{kind:?}");
    }
    assert!(!torture(rename_too_early, "old", &[]).1.is_empty());
}

#[test]
fn silent_damage_is_found_by_reading_back() {
    let disk = disk(true);
    let at = disk.operations().len() + 1;
    disk.inject(Fault { at, kind: FaultKind::SilentDamage, forever: false });
    assert!(matches!(replace_file(&disk), Err(Error::Damaged { .. })));
    assert_eq!(disk.operations()[at].0, Operation::Write);
    assert_eq!(found(&disk), "old");
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let disk = disk(true);
    disk.set_free_space(1000);
    let error = replace_file(&disk).unwrap_err();
    assert!(error.is_full(), "{error:?}");
    assert_eq!(found(&disk), "old");
    assert_eq!(disk.list(Path::new("")).unwrap(), ["file"]);
}

#[test]
fn the_real_disk_does_the_same() {
    use altclip_durable::{RealFs, remove_all};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for bytes in [old(), new()] {
        let sealed = replace(&RealFs, &path, |out| out.write_all(&bytes)).unwrap();
        assert_eq!(sealed.bytes, bytes.len() as u64);
        assert_eq!(read(&RealFs, &path, 4096).unwrap(), bytes);
    }
    assert!(matches!(read(&RealFs, &path, 10), Err(Error::TooLong { .. })));
    let target = dir.path().join("folder");
    let folder = Folder::begin(&RealFs, &target).unwrap();
    folder.file("a", |out| out.write_all(b"a")).unwrap();
    folder.publish().unwrap();
    assert!(matches!(Folder::begin(&RealFs, &target), Err(Error::Exists { .. })));
    assert_eq!(RealFs.list(dir.path()).unwrap(), ["file", "folder"]);
    std::fs::write(dir.path().join(".x.part"), b"left").unwrap();
    assert_eq!(sweep(&RealFs, dir.path()).unwrap(), [".x.part"]);
    remove_all(&RealFs, &target).unwrap();
    assert_eq!(RealFs.list(dir.path()).unwrap(), ["file"]);
    assert!(RealFs.free_space(dir.path()).unwrap() > 0);
    // What is given up leaves nothing.
    drop(Folder::begin(&RealFs, &target).unwrap());
    assert_eq!(RealFs.list(dir.path()).unwrap(), ["file"]);
}
