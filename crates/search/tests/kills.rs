//! A writer that is killed again and again loses nothing that it acknowledged, brings nothing back that it
//! removed, and has nothing twice.
//!
//! This test program runs itself as the child; 50 kills by default, `ALTCLIP_KILLS` for another number. The
//! child says what it begins and what is acknowledged; the parent is the oracle.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use altclip_durable::RealFs;
use altclip_search::{Change, Error, Index, Picture, Settings, to_bytes, to_numbers};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const CHILD: &str = "ALTCLIP_TEST_KILL_CHILD";
/// The control: says what is acknowledged before it is.
const EARLY: &str = "ALTCLIP_TEST_EARLY";
const WIDTH: usize = 8;

fn settings() -> Settings {
    Settings {
        model: "m".into(),
        fingerprint: "f".into(),
        identity: "i".into(),
        width: WIDTH,
        precision: "f32".into(),
        decode: String::new(),
        roots: vec![],
        forgotten: vec![],
    }
}

fn vector(version: u64) -> Vec<f32> {
    (0..WIDTH as u64).map(|i| ((version * 31 + i * 7) % 1000) as f32 / 8.0).collect()
}

/// `(path, version)`, or a removal.
type Operation = (u64, Option<u64>);

/// What batch number `n` does: puts, overwrites and removals, made of the number alone.
fn batch(n: u64) -> Vec<Operation> {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |end: u64| {
        z ^= z << 13;
        z ^= z >> 7;
        z ^= z << 17;
        z % end
    };
    (0..1 + next(20)).map(|_| (next(200), (next(4) > 0).then_some(n))).collect()
}

fn change(&(path, version): &Operation) -> Change {
    let path = format!("/p/{path}.jpg");
    match version {
        None => Change::Remove(path),
        Some(version) => {
            let picture = Picture { path, hash: version.into(), ..Picture::default() };
            Change::Put(picture, to_bytes(&vector(version)))
        }
    }
}

fn run(dir: &Path, early: bool) {
    let vfs = Arc::new(RealFs);
    let mut index = match Index::open_to_write(vfs.clone(), dir) {
        Err(Error::NoIndex { .. }) => Index::create(vfs, dir, settings()).unwrap(),
        index => index.unwrap(),
    };
    let done = index.store().setting("batch").unwrap();
    let first = done.map_or(0, |done| done.parse::<u64>().unwrap() + 1);
    let mut out = std::io::stdout();
    for n in first.. {
        writeln!(out, "\nbegin {n}").unwrap();
        if early {
            writeln!(out, "\nack {n}").unwrap();
        }
        let mut changes: Vec<Change> = batch(n).iter().map(change).collect();
        changes.push(Change::Set("batch".into(), n.to_string()));
        index.commit(&changes).unwrap();
        if !early {
            writeln!(out, "\nack {n}").unwrap();
        }
        if n % 50 == 7 {
            index.flat().unwrap();
        }
    }
}

#[test]
fn child() {
    if let Some(dir) = std::env::var_os(CHILD) {
        run(Path::new(&dir), std::env::var_os(EARLY).is_some());
    }
}

/// The last batch that was begun and the last that was acknowledged before the kill.
fn killed(dir: &Path, early: bool, lines: usize, micros: u64) -> (Option<u64>, Option<u64>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(CHILD, dir);
    if early {
        command.env(EARLY, "1");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let (mut begun, mut acknowledged) = (None, None);
    let mut line = String::new();
    let mut take = |line: &str| {
        let number = |word: &str| line.trim().strip_prefix(word)?.parse::<u64>().ok();
        begun = number("begin ").or(begun);
        acknowledged = number("ack ").or(acknowledged);
    };
    for _ in 0..lines {
        line.clear();
        reader.read_line(&mut line).unwrap();
        take(&line);
    }
    std::thread::sleep(Duration::from_micros(micros));
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had written before it died; a last line without an end was not said.
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap() == 0 {
            break;
        }
        if line.ends_with('\n') {
            take(&line);
        }
    }
    (begun, acknowledged)
}

/// The state after batches `0..=last`.
fn expected(last: Option<u64>) -> BTreeMap<String, Vec<f32>> {
    let mut state = BTreeMap::new();
    for operation in (0..last.map_or(0, |last| last + 1)).flat_map(batch) {
        match change(&operation) {
            Change::Put(picture, vector) => state.insert(picture.path, to_numbers(&vector)),
            Change::Remove(path) => state.remove(&path),
            _ => None,
        };
    }
    state
}

/// Opens the index and gives the number of the last batch in it; everything else must follow from it.
fn found(dir: &Path) -> Option<u64> {
    let mut index = Index::open_to_write(Arc::new(RealFs), dir).unwrap();
    let last = index.store().setting("batch").unwrap().map(|n| n.parse::<u64>().unwrap());
    let (mut state, mut rows) = (BTreeMap::new(), 0);
    let visit = &mut |_, picture: Picture, vector: &[u8]| {
        rows += 1;
        state.insert(picture.path, to_numbers(vector));
    };
    index.store().rows(visit).unwrap();
    assert_eq!(rows, state.len(), "a path is there twice");
    assert_eq!(state, expected(last));
    assert_eq!(index.head().images, rows as u64);
    let flat = index.flat().unwrap();
    assert_eq!(flat.len(), rows);
    last
}

#[test]
fn nothing_acknowledged_is_lost() {
    let kills = std::env::var("ALTCLIP_KILLS").map_or(50, |kills| kills.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    let (mut seed, mut operations, mut in_flight) = (1u64, 0, 0);
    let mut last = None;
    for _ in 0..kills {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (begun, acknowledged) =
            killed(&dir, false, (seed >> 58) as usize, (seed >> 33) % 20_000);
        if !dir.join("CURRENT").exists() {
            // Killed before there was an index: nothing can have been said.
            assert_eq!(acknowledged, None);
            continue;
        }
        let before = last;
        last = found(&dir);
        assert!(last >= acknowledged.or(before), "{last:?} is before {acknowledged:?}");
        assert!(last <= begun.or(before), "{last:?} was never begun ({begun:?})");
        in_flight += u64::from(last != acknowledged.or(before));
        let new = before.map_or(0, |n| n + 1)..last.map_or(0, |n| n + 1);
        operations += new.map(|n| batch(n).len()).sum::<usize>();
    }
    println!("{kills} kills, {operations} operations, {in_flight} commits without a word");
    assert!(operations > kills, "the child did not get to work");
}

#[test]
fn a_word_before_the_commit_is_caught() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    let mut seed = 7u64;
    for _ in 0..60 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (_, acknowledged) = killed(&dir, true, 4 + (seed >> 60) as usize, (seed >> 33) % 5000);
        if dir.join("CURRENT").exists() && found(&dir) < acknowledged {
            return;
        }
    }
    panic!("60 kills did not show that it lies");
}
