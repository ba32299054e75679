//! Every bad input of the contract through the built command: its code, its exit status, its message.
//!
//! `docs/errors.md` is the contract. A row makes one bad input and says what must come of it; files
//! are made by code, so that nothing that could harm lies in the repository. `faults.rs` and
//! `mutation.rs` do the same inside the process, where hundreds and thousands of variants are cheap.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]
// The suites share `support`, and each needs another part of it.
#![allow(dead_code)]

mod checkpoint;
mod command_line;
mod config;
mod coverage;
mod faults;
mod image;
mod index;
mod mutation;
mod packed;
mod pickle;
mod row;
mod text;
mod tokenizer;

#[path = "../support/mod.rs"]
mod support;

use row::Row;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Every row of the table.
fn rows() -> Vec<Row> {
    // The slowest first.
    let slow =
        [index::rows(), command_line::rows(), image::rows(), text::rows(), tokenizer::rows()];
    let fast = [pickle::rows(), config::rows(), checkpoint::rows(), packed::rows()];
    slow.into_iter().chain(fast).flatten().collect()
}

#[test]
fn every_row_is_refused_or_accepted_as_the_contract_says() {
    let rows = rows();
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(fault) = row.check() {
                faults.lock().unwrap().push(format!("{} {}: {fault}", row.id, row.name));
            }
        }
    };
    std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(work))));
    let faults = faults.into_inner().unwrap();
    println!("{} rows", rows.len());
    assert!(faults.is_empty(), "{} of {} rows:\n{}", faults.len(), rows.len(), faults.join("\n"));
}

#[test]
fn a_row_with_a_wrong_expectation_fails() {
    use altclip_report::Code;
    let as_if = |code, parts, damage: fn(&support::folder::Folder)| {
        row::model("-", "control", code, parts, damage).check()
    };
    assert!(as_if(Code::E2010, &[], |f| f.remove("model.safetensors")).is_err(), "another code");
    assert!(as_if(Code::E2001, &["no such words"], |f| f.remove("model.safetensors")).is_err());
    assert!(as_if(Code::E2001, &[], |_| ()).is_err(), "a sound folder is not refused");
    assert!(as_if(Code::E2001, &["config.json"], |f| f.remove("model.safetensors")).is_ok());
}
