//! A checkpoint is written from where the weights lie, and read into one copy of them.
//!
//! Alone in its program: it looks at the memory of the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use altclip_durable::RealFs;
use altclip_train::state::{Checkpoints, Keep, Resume, RunState, TensorSlice};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most memory that this process ever had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn a_save_needs_no_second_copy_of_the_weights() {
    const COUNT: usize = 16 << 20;
    const BYTES: usize = 4 * COUNT;
    let dir = tempfile::tempdir().unwrap();
    let keep = Keep { last: 1 };
    let mut checkpoints = Checkpoints::open(Arc::new(RealFs), dir.path(), keep).unwrap();
    let weights: Vec<f32> = (0..COUNT).map(|i| i as f32).collect();
    let mut state = RunState::new(0, BTreeMap::new());
    state.step = 1;

    let before = peak();
    assert!(before >= BYTES, "the weights are in memory");
    let slice = TensorSlice { name: "weight".into(), shape: vec![COUNT], values: &weights };
    checkpoints.save(&state, [slice]).unwrap();
    let saving = peak() - before;
    assert!(saving < BYTES / 8, "saving took {saving} bytes more");

    let before = peak();
    let loaded = checkpoints.load(Resume::Exact).unwrap().unwrap();
    assert!(loaded.tensors["weight"].values == weights);
    let loading = peak() - before;
    assert!(loading < BYTES + BYTES / 8, "loading took {loading} bytes more");
}
