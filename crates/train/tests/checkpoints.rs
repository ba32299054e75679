//! Checkpoints on a disk that fails at every operation, loses power, or damages files later.
//!
//! A part of the cases by default; all of them with `ALTCLIP_TORTURE=full`.
#![allow(clippy::unwrap_used)]

use altclip_durable::{Damage, Fault, FaultKind, SimFs, Vfs};
use altclip_report::{Code, Diagnose};
use altclip_train::state::{
    Best, Checkpoints, Error, Keep, Loaded, MAX_FAILED_SAVES, Resume, RunState, TensorSlice,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const FAULTS: &[FaultKind] = &[
    FaultKind::NoSpace,
    FaultKind::Io,
    FaultKind::ShortWrite,
    FaultKind::FailedSync,
    FaultKind::FailedRename,
    FaultKind::ReadOnlyDir,
    FaultKind::SilentDamage,
    FaultKind::PowerOff,
];

fn full() -> bool {
    std::env::var_os("ALTCLIP_TORTURE").is_some_and(|value| value == "full")
}

fn damages() -> Vec<Damage> {
    use Damage::{ContentsOnly, DropAll, KeepAll, LastHalf, NamesOnly, Random, Zeroed};
    let named = [DropAll, KeepAll, NamesOnly, Zeroed, ContentsOnly, LastHalf];
    named.into_iter().chain((0..if full() { 40 } else { 6 }).map(Random)).collect()
}

fn out() -> &'static Path {
    Path::new("run")
}

fn state(step: u64) -> RunState {
    let fixed = [("lr".to_owned(), "0.001".to_owned())].into();
    let mut state = RunState::new(7, fixed);
    (state.step, state.epoch, state.cursor) = (step, step / 1000, step * 64);
    state.best = Some(Best { step: step.min(100), value: 0.1 + 0.2 });
    state.counters.insert("guard".into(), serde_json::json!({ "skipped": 3, "mean": 1e-7 }));
    state
}

fn values(step: u64) -> BTreeMap<String, Vec<f32>> {
    let make = |n: usize, k: u64| (0..n as u64).map(|i| (step * k + i) as f32 * 0.3).collect();
    [("weight.a".to_owned(), make(300, 1)), ("exp_avg.a".to_owned(), make(300, 2))].into()
}

fn slices(values: &BTreeMap<String, Vec<f32>>) -> Vec<TensorSlice<'_>> {
    values
        .iter()
        .map(|(name, values)| TensorSlice {
            name: name.clone(),
            shape: vec![2, values.len() / 2],
            values,
        })
        .collect()
}

fn open(disk: &SimFs, last: usize) -> Result<Checkpoints, Error> {
    Checkpoints::open(Arc::new(disk.clone()), out(), Keep { last })
}

fn save(checkpoints: &mut Checkpoints, step: u64) -> Result<(), Error> {
    checkpoints.save(&state(step), slices(&values(step))).map(drop)
}

/// The step of a checkpoint that is exactly what was saved at it.
fn step_of(loaded: Option<Loaded>) -> Option<u64> {
    let loaded = loaded?;
    let step = loaded.state.step;
    assert_eq!(loaded.state, state(step));
    let found: BTreeMap<_, _> =
        loaded.tensors.into_iter().map(|(name, tensor)| (name, tensor.values)).collect();
    assert_eq!(found, values(step));
    Some(step)
}

/// A disk with checkpoints of steps 100 and 200, safely there.
fn prepared(last: usize) -> SimFs {
    let disk = SimFs::new().with_write_bytes(700);
    let mut checkpoints = open(&disk, last).unwrap();
    save(&mut checkpoints, 100).unwrap();
    save(&mut checkpoints, 200).unwrap();
    disk
}

/// How a run saves its third checkpoint; it tells whether the save was reported as done.
type Scenario = fn(&SimFs, usize) -> bool;

fn resume_and_save(disk: &SimFs, last: usize) -> bool {
    let Ok(mut checkpoints) = open(disk, last) else { return false };
    checkpoints.load(Resume::Newest).is_ok() && save(&mut checkpoints, 300).is_ok()
}

/// A trainer that does not look at what `save` says.
fn swallow_errors(disk: &SimFs, last: usize) -> bool {
    let Ok(mut checkpoints) = open(disk, last) else { return false };
    let _ = save(&mut checkpoints, 300);
    true
}

/// Runs a scenario with each fault at each operation and each power cut after it: the newest that
/// loads must be the old one or the new one, and the new one if it was said to be saved.
fn torture(scenario: Scenario, last: usize, lies: &[Fault]) -> (usize, Vec<String>) {
    let start = prepared(last);
    let fresh = || {
        let disk = start.crash(Damage::KeepAll);
        lies.iter().for_each(|lie| disk.inject(*lie));
        disk
    };
    let clean = fresh();
    assert!(scenario(&clean, last));
    let (mut cases, mut wrong) = (0, Vec::new());
    let mut judge = |disk: &SimFs, saved: bool, what: &str| {
        for damage in damages() {
            cases += 1;
            let mut fault = |found: String| wrong.push(format!("{what}, {damage:?}: {found}"));
            let after = disk.crash(damage);
            if temporaries(&after) > 1 {
                fault("more than one temporary".into());
            }
            let found = open(&after, last).and_then(|mut found| found.load(Resume::Newest));
            match found.map(step_of) {
                Ok(Some(300)) => {}
                Ok(Some(200)) if !saved => {}
                other => fault(format!("{other:?}")),
            }
            if temporaries(&after) > 0 {
                fault("a temporary stays".into());
            }
        }
    };
    judge(&clean, true, "done");
    for (number, (operation, _)) in clean.operations().iter().enumerate() {
        for kind in FAULTS.iter().filter(|kind| kind.concerns(*operation)) {
            for forever in [false, true] {
                if forever && *kind == FaultKind::PowerOff {
                    continue;
                }
                let disk = fresh();
                disk.inject(Fault { at: number, kind: *kind, forever });
                let saved = scenario(&disk, last);
                judge(&disk, saved, &format!("{kind:?} at {number} {operation:?} {forever}"));
            }
        }
    }
    (cases, wrong)
}

fn temporaries(disk: &SimFs) -> usize {
    let count = |dir: &Path| {
        let names = disk.list(dir).unwrap_or_default();
        names.iter().filter(|name| name.ends_with(".part")).count()
    };
    count(out()) + count(&out().join("checkpoints"))
}

#[test]
fn the_old_or_the_new_checkpoint_loads_whatever_fails() {
    let mut all = 0;
    for last in [1, 2] {
        let (cases, wrong) = torture(resume_and_save, last, &[]);
        assert!(
            wrong.is_empty(),
            "{} of {cases}: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(10)]
        );
        all += cases;
    }
    println!("{all} cases");
    assert!(all > 5_000, "{all}");
}

/// The test can fail: each of these is a mistake that others made.
#[test]
fn what_is_forgotten_is_found() {
    let always = |kind| [Fault { at: 0, kind, forever: true }];
    for kind in [FaultKind::IgnoredSync, FaultKind::IgnoredDirSync] {
        assert!(!torture(resume_and_save, 2, &always(kind)).1.is_empty(), "{kind:?}");
    }
    assert!(!torture(swallow_errors, 2, &[]).1.is_empty());
}

/// A power cut while the folder is being put in order after a power cut.
#[test]
fn recovery_survives_a_second_power_cut() {
    let start = prepared(1);
    let begun = start.operations().len();
    resume_and_save(&start, 1);
    let operations = start.operations().len() - begun;
    for first in (0..operations).step_by(if full() { 1 } else { 5 }) {
        let disk = prepared(1).crash(Damage::KeepAll);
        disk.inject(Fault { at: first, kind: FaultKind::PowerOff, forever: true });
        resume_and_save(&disk, 1);
        for damage in [Damage::DropAll, Damage::KeepAll, Damage::Random(first as u64)] {
            for second in 0..30 {
                let disk = disk.crash(damage);
                disk.inject(Fault { at: second, kind: FaultKind::PowerOff, forever: true });
                let _ = open(&disk, 1).and_then(|mut found| found.load(Resume::Newest));
                let disk = disk.crash(Damage::Random(second as u64));
                let step = step_of(open(&disk, 1).unwrap().load(Resume::Newest).unwrap());
                assert!(matches!(step, Some(200 | 300)), "{first} {damage:?} {second}: {step:?}");
            }
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over_loudly() {
    let files = ["state.safetensors", "state.json", "CHECKSUMS"];
    let path = |step: u64, file: &str| out().join(format!("checkpoints/step-{step:08}/{file}"));
    for seed in 0..100usize {
        let disk = prepared(2);
        let file = path(200, files[seed % files.len()]);
        disk.tamper(&file, |bytes| {
            let at = (seed * 7919) % bytes.len();
            match seed % 4 {
                0 => bytes.truncate(at),
                1 => bytes[at..].fill(0),
                2 => bytes.push(b'\n'),
                _ => bytes[at] ^= 1 << (seed / 12 % 8),
            }
        })
        .unwrap();
        let mut checkpoints = open(&disk, 2).unwrap();
        let error = checkpoints.load(Resume::Exact).unwrap_err().report();
        assert_eq!((error.code, error.code.exit_status()), (Code::E6010, 4), "{error}");
        let loaded = checkpoints.load(Resume::Newest).unwrap().unwrap();
        let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
        assert_eq!(warning.code, Code::W6002);
        assert!(warning.to_string().contains("100 steps are lost"), "{warning}");
        assert_eq!(step_of(Some(loaded)), Some(100));
        // The run comes to the damaged step again and replaces it.
        save(&mut checkpoints, 200).unwrap();
        assert_eq!(step_of(open(&disk, 2).unwrap().load(Resume::Exact).unwrap()), Some(200));
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let disk = prepared(2);
    for file in ["state.safetensors", "state.json", "CHECKSUMS"] {
        let path = out().join("checkpoints/step-00000200").join(file);
        let bytes = disk.metadata(&path).unwrap().bytes as usize;
        for at in 0..bytes {
            let bit = 1 << (at % 8);
            disk.tamper(&path, |bytes| bytes[at] ^= bit).unwrap();
            let found = open(&disk, 2).unwrap().load(Resume::Exact);
            assert!(matches!(found, Err(Error::Damaged { step: 200, .. })), "{file} {at}");
            disk.tamper(&path, |bytes| bytes[at] ^= bit).unwrap();
        }
    }
    assert_eq!(step_of(open(&disk, 2).unwrap().load(Resume::Exact).unwrap()), Some(200));
}

#[test]
fn a_checkpoint_that_is_gone_is_missed() {
    let disk = prepared(2);
    altclip_durable::remove_all(&disk, &out().join("checkpoints/step-00000200")).unwrap();
    let mut checkpoints = open(&disk, 2).unwrap();
    assert_eq!(checkpoints.newest().unwrap(), Some(200));
    assert!(matches!(checkpoints.load(Resume::Exact), Err(Error::Gone { step: 200, .. })));
    let loaded = checkpoints.load(Resume::Newest).unwrap().unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(step_of(Some(loaded)), Some(100));
    let empty = SimFs::new();
    assert!(open(&empty, 2).unwrap().load(Resume::Exact).unwrap().is_none());
}

#[test]
fn the_newest_and_the_best_stay() {
    let disk = SimFs::new();
    let mut checkpoints = open(&disk, 2).unwrap();
    for step in (100..=600).step_by(100) {
        save(&mut checkpoints, step).unwrap();
    }
    let names = disk.list(&out().join("checkpoints")).unwrap();
    assert_eq!(names, ["step-00000100", "step-00000500", "step-00000600"]);
    let pointer = |name: &str| altclip_durable::read(&disk, &out().join(name), 100).unwrap();
    assert_eq!(pointer("LATEST"), b"checkpoints/step-00000600\n");
    assert_eq!(pointer("BEST"), b"checkpoints/step-00000100\n");
    // Saving the same step again does nothing.
    let before = disk.operations().len();
    save(&mut checkpoints, 600).unwrap();
    assert_eq!(disk.operations().len(), before);
}

#[test]
fn a_full_disk_is_said_before_the_first_step() {
    let disk = SimFs::new();
    let checkpoints = open(&disk, 2).unwrap();
    disk.set_free_space(1 << 20);
    let values = values(1);
    let error = checkpoints.require_space(&slices(&values)).unwrap_err().report();
    assert_eq!((error.code, error.code.exit_status()), (Code::E6001, 6));
    // Two that are kept and a third that is being written; one of each once two are there.
    disk.set_free_space(3 << 20);
    assert!(matches!(
        checkpoints.require_space(&slices(&values)),
        Err(Error::Space { copies: 3, .. })
    ));
    disk.set_free_space(4 << 20);
    checkpoints.require_space(&slices(&values)).unwrap();
    let disk = prepared(2);
    disk.set_free_space(2 << 20);
    open(&disk, 2).unwrap().require_space(&slices(&values)).unwrap();
}

#[test]
fn three_failed_saves_in_a_row_are_enough() {
    let disk = prepared(2);
    let mut checkpoints = open(&disk, 2).unwrap();
    checkpoints.load(Resume::Newest).unwrap();
    for round in 0..2 {
        for failure in 1..=MAX_FAILED_SAVES {
            disk.set_free_space(1000);
            let error = save(&mut checkpoints, 300 + round).unwrap_err();
            let report = error.report();
            assert_eq!((report.code, report.code.exit_status()), (Code::E6001, 6));
            assert!(
                report.to_string().contains(&format!("failure {failure} in a row")),
                "{report}"
            );
            assert_eq!(checkpoints.must_stop(), failure == MAX_FAILED_SAVES);
            assert_eq!(temporaries(&disk), 0);
        }
        // Room again: the next save works and the count begins anew.
        disk.set_free_space(1 << 20);
        save(&mut checkpoints, 300 + round).unwrap();
        assert!(!checkpoints.must_stop());
    }
    assert_eq!(step_of(open(&disk, 2).unwrap().load(Resume::Exact).unwrap()), Some(301));
}

#[test]
fn another_configuration_is_refused_field_by_field() {
    let now = [("lr".to_owned(), "0.01".to_owned()), ("data".to_owned(), "x".to_owned())].into();
    let reports = state(5).require(&now).unwrap_err().reports();
    let lines: Vec<_> = reports.iter().map(|report| report.sentence()).collect();
    assert_eq!(reports[0].code.exit_status(), 2);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("got «x», expected nothing («data»)"), "{}", lines[0]);
    assert!(lines[1].contains("got «0.01», expected «0.001»"), "{}", lines[1]);
    state(5).require(&state(9).fixed).unwrap();
}

#[test]
fn a_number_that_is_not_finite_is_not_saved_as_null() {
    let disk = prepared(2);
    let mut checkpoints = open(&disk, 2).unwrap();
    let mut state = state(300);
    state.best = Some(Best { step: 300, value: f64::NAN });
    let error = checkpoints.save(&state, slices(&values(300))).unwrap_err();
    assert!(matches!(error, Error::Save { source, .. } if matches!(*source, Error::NotFinite)));
}

#[test]
fn the_real_disk_does_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a/run");
    let real = Arc::new(altclip_durable::RealFs);
    let mut checkpoints = Checkpoints::open(real.clone(), &out, Keep { last: 1 }).unwrap();
    for step in [100, 200, 300] {
        save(&mut checkpoints, step).unwrap();
    }
    let mut again = Checkpoints::open(real, &out, Keep { last: 1 }).unwrap();
    assert_eq!(step_of(again.load(Resume::Exact).unwrap()), Some(300));
    let file = out.join("checkpoints/step-00000300/state.safetensors");
    let checkpoint = altclip_checkpoint::Checkpoint::open_file(&file).unwrap();
    assert_eq!(checkpoint.read_f32("weight.a").unwrap(), values(300)["weight.a"]);
}
