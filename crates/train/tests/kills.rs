//! A run that is killed again and again ends with the bytes of one that is not.
//!
//! This test program runs itself as the child; 8 kills by default, 200 with `ALTCLIP_TORTURE=full`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use altclip_durable::{Lock, RealFs};
use altclip_train::metrics::{Log, StepRecord};
use altclip_train::state::{Checkpoints, Keep, Resume, RunState, TensorSlice};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const STEPS: u64 = 60;
const CHILD: &str = "ALTCLIP_TEST_KILL_CHILD";

/// A run in small: weights that depend on all steps before, a log, a checkpoint every 3 steps.
fn run(out: &Path, steps: u64, say: bool) {
    let vfs = Arc::new(RealFs);
    std::fs::create_dir_all(out).unwrap();
    let _lock = Lock::acquire(&out.join("lock"), "the child").unwrap();
    let mut checkpoints = Checkpoints::open(vfs.clone(), out, Keep { last: 2 }).unwrap();
    let path = out.join("metrics.jsonl");
    let (mut state, mut weights, mut log) = match checkpoints.load(Resume::Exact).unwrap() {
        Some(mut loaded) => {
            let (log, warning) = Log::resume(vfs, &path, &loaded.state.log).unwrap();
            assert_eq!(warning, None);
            let weights = loaded.tensors.remove("weight").unwrap().values;
            (loaded.state, weights, log)
        }
        None => {
            let log = Log::create(vfs, &path).unwrap();
            (RunState::new(1, BTreeMap::new()), vec![0.5f32; 20_000], log)
        }
    };
    while state.step < steps {
        state.step += 1;
        for (i, weight) in weights.iter_mut().enumerate() {
            *weight = (*weight * 3.7 * (1.0 - *weight) + i as f32 * 1e-7).clamp(0.0, 1.0);
        }
        let loss = f64::from(weights[state.step as usize]);
        let record = StepRecord { step: state.step, loss, lr: 1e-3, ..StepRecord::default() };
        log.line(&record.line()).unwrap();
        if say {
            println!("\nstep");
        }
        if state.step % 3 == 0 {
            state.log = log.mark().unwrap();
            let weights =
                TensorSlice { name: "weight".into(), shape: vec![20_000], values: &weights };
            checkpoints.save(&state, [weights]).unwrap();
        }
    }
}

#[test]
fn child() {
    if let Some(out) = std::env::var_os(CHILD) {
        run(Path::new(&out), STEPS, true);
    }
}

fn start(out: &PathBuf) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, out)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_run_ends_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    run(&whole, STEPS, false);
    let full = std::env::var_os("ALTCLIP_TORTURE").is_some_and(|value| value == "full");
    let (mut kills, mut seed, mut unfinished) = (0, 1u64, 0);
    let mut reached = BTreeSet::new();
    while kills < if full { 200 } else { 8 } {
        let mut child = start(&killed);
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // After some steps, and then at any moment of a step or of a save.
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut steps = lines.map_while(Result::ok).filter(|line| line == "step");
        steps.by_ref().take((seed >> 60) as usize).for_each(drop);
        std::thread::sleep(Duration::from_micros((seed >> 33) % 8_000));
        child.kill().unwrap();
        kills += 1;
        if child.wait().unwrap().success() {
            // It was done before the kill: begin anew.
            compare(&whole, &killed);
            std::fs::remove_dir_all(&killed).unwrap();
        } else {
            unfinished += 1;
            reached.extend(std::fs::read_to_string(killed.join("LATEST")).ok());
        }
    }
    println!("{unfinished} of {kills} kills were in time, after {} checkpoints", reached.len());
    assert!(unfinished > 0 && reached.len() > 2);
    let output = start(&killed).wait_with_output().unwrap();
    assert!(output.status.success());
    compare(&whole, &killed);
}

fn compare(whole: &Path, killed: &Path) {
    let files = ["metrics.jsonl", "LATEST"].map(str::to_owned).into_iter().chain(
        ["state.json", "state.safetensors", "CHECKSUMS"]
            .map(|file| format!("checkpoints/step-00000060/{file}")),
    );
    for file in files {
        let [a, b] = [whole, killed].map(|dir| std::fs::read(dir.join(&file)).unwrap());
        assert!(a == b, "{file}");
    }
    let names = |dir: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(whole), names(killed));
    assert_eq!(names(&whole.join("checkpoints")), names(&killed.join("checkpoints")));
}
