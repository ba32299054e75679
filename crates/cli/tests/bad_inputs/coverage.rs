//! Which rows of the contract and which codes the table covers.

use crate::rows;
use altclip_report::{CODES, Code};
use std::collections::BTreeSet;

/// Rows of the contract without a row here, and why.
const ABSENT: &[(&str, &str)] = &[
    ("CK15", "needs a server that runs: tests/contract/serve.rs"),
    ("TX2", "lone surrogates exist in Python's strings only"),
    ("IM17", "the command line takes no raw tensors"),
    ("CL3", "a signal at any time belongs to the torture tests"),
    ("IX1", "kills belong to crates/search/tests/kills.rs and tests/contract/index.rs"),
];

/// Codes that no row produces, and where they are tested instead.
const ELSEWHERE: &[(Code, &str)] = &[
    (Code::E2002, "needs a hub: crates/hub"),
    (Code::E2003, "needs a hub: crates/hub"),
    (Code::E2005, "needs a hub: crates/hub"),
    (Code::E2009, "needs a hub: crates/hub"),
    (Code::E2107, "a file that changes in use: crates/checkpoint"),
    (Code::W2121, "training keys: crates/checkpoint"),
    (Code::W2122, "tests/contract/info.rs"),
    (Code::E4101, "raw pixels: crates/image"),
    (Code::E5020, "arrays: tests/contract/retrieval.rs"),
    (Code::E5021, "arrays: tests/contract/retrieval.rs"),
    (Code::E5022, "arrays: tests/contract/retrieval.rs"),
    (Code::E6001, "needs a disk that fails: crates/train"),
    (Code::W6002, "needs a run: tests/train/refusals.rs"),
    (Code::E6003, "needs a run: tests/train/refusals.rs"),
    (Code::E6004, "needs a run: crates/train"),
    (Code::W6005, "needs a run: crates/train"),
    (Code::E6006, "needs a run: crates/train"),
    (Code::E6008, "needs two processes: tests/train/refusals.rs"),
    (Code::E6009, "needs a signal: tests/train/kills.rs"),
    (Code::E6010, "needs a run: tests/train/refusals.rs"),
    (Code::E6011, "needs a run: crates/train"),
    (Code::W6012, "needs a run: crates/train"),
    (Code::I6016, "needs a run: tests/train/settings.rs"),
    (Code::E6013, "needs a run: tests/train/refusals.rs"),
    (Code::W6014, "needs a run: crates/train/tests/non_finite.rs"),
    (Code::E5001, "datasets: crates/data, tests/train/refusals.rs"),
    (Code::E5002, "datasets: crates/data, tests/train/refusals.rs"),
    (Code::E5003, "datasets: crates/data, tests/train/refusals.rs"),
    (Code::E5004, "datasets: crates/data, tests/train/refusals.rs"),
    (Code::E5005, "datasets: crates/data, tests/train/refusals.rs"),
    (Code::E5006, "datasets: crates/data"),
    (Code::E5007, "datasets: crates/data, tests/train/refusals.rs"),
    (Code::E5008, "datasets: crates/data, tests/train/refusals.rs"),
    (Code::E5009, "datasets: crates/data, tests/train/refusals.rs"),
    (Code::E5010, "datasets: crates/data, tests/train/refusals.rs"),
    (Code::E5011, "datasets: crates/data"),
    (Code::E5012, "datasets: crates/data, tests/train/refusals.rs"),
    (Code::W5013, "datasets: crates/data"),
    (Code::E7007, "checked in row IX8, and crates/search/tests/disks.rs"),
    (Code::E7008, "checked in row IX9"),
    (Code::E7009, "checked in row IX10"),
    (Code::E8001, "a server: crates/server/tests/contract"),
    (Code::E8002, "a server: crates/server/tests/contract"),
    (Code::E8003, "a server: crates/server/tests/contract"),
    (Code::E8004, "a server: crates/server/tests/contract"),
    (Code::E8005, "a server: crates/server/tests/contract"),
    (Code::E8006, "a server: crates/server/tests/contract"),
    (Code::E8101, "a server: crates/server/tests/contract"),
    (Code::E8102, "a server: crates/server/tests/contract"),
    (Code::E8103, "a server: crates/server/tests/contract"),
    (Code::E8104, "a server: crates/server/tests/contract"),
    (Code::E8201, "a server: crates/server/tests/contract"),
    (Code::E8202, "a server: crates/server/tests/contract"),
    (Code::E8203, "a server: crates/server/tests/contract"),
    (Code::E8301, "a server: crates/server/tests/contract"),
    (Code::E8401, "tests/contract/serve.rs"),
    (Code::E8402, "tests/contract/serve.rs"),
    (Code::E8403, "tests/contract/serve.rs"),
    (Code::E8404, "tests/contract/serve.rs"),
    (Code::E8405, "needs a Wukong: tests/contract/serve.rs"),
    (Code::E9001, "a bug"),
    (Code::E9003, "weights that overflow: crates/altclip"),
    (Code::E9004, "comes with a second backend"),
    (Code::E1101, "arguments of Python: bindings/python"),
    (Code::E9101, "objects of Python: bindings/python"),
];

#[test]
fn every_row_of_the_contract_is_covered() {
    let list =
        |letters: &str, last: u32| (1..=last).map(|n| format!("{letters}{n}")).collect::<Vec<_>>();
    let promised: BTreeSet<String> = [
        list("CK", 20),
        list("TK", 6),
        list("TX", 10),
        list("IM", 18),
        list("CL", 4),
        list("IX", 11),
    ]
    .concat()
    .into_iter()
    .collect();
    let covered: BTreeSet<String> = rows().iter().map(|row| row.id.to_owned()).collect();
    let absent: BTreeSet<String> = ABSENT.iter().map(|(id, _)| (*id).to_owned()).collect();
    assert!(covered.is_subset(&promised), "{:?}", covered.difference(&promised));
    assert!(covered.is_disjoint(&absent), "{:?}", covered.intersection(&absent));
    let both = covered.union(&absent).cloned().collect();
    assert_eq!(promised, both, "neither covered nor excused");
    for id in &promised {
        let count = rows().iter().filter(|row| row.id == id.as_str()).count();
        println!("{id:<5} {count}");
    }
}

#[test]
fn every_code_is_produced_by_a_row_or_tested_elsewhere() {
    let produced: BTreeSet<Code> = rows().iter().filter_map(|row| row.code).collect();
    let elsewhere: BTreeSet<Code> = ELSEWHERE.iter().map(|(code, _)| *code).collect();
    let never: Vec<&Code> = CODES.iter().filter(|code| !produced.contains(code)).collect();
    println!("codes that no row produces: {never:?}");
    for code in CODES {
        let (here, there) = (produced.contains(code), elsewhere.contains(code));
        assert!(here || there, "{code} is produced by no row and not excused");
        assert!(!(here && there), "{code} is produced by a row and need not be excused");
    }
}

#[test]
fn the_document_has_every_code_with_its_exit_status() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
    let document = std::fs::read_to_string(path).unwrap();
    for code in CODES {
        let line = format!("| {code} | {} | {} |", code.exit_status(), code.meaning());
        assert!(document.contains(&line), "docs/errors.md lacks: {line}");
    }
    let listed = document
        .lines()
        .filter(|line| ["| E", "| W", "| I"].iter().any(|head| line.starts_with(head)))
        .count();
    assert_eq!(listed, CODES.len(), "docs/errors.md lists codes that do not exist");
}
