//! Ids equal to those of the `tokenizers` crate on random and hostile texts.
#![allow(missing_docs, unreachable_pub)]

#[path = "support/oracle.rs"]
mod oracle;
#[path = "support/mod.rs"]
mod support;

use support::texts::{Random, hostile};

#[test]
fn random_texts() {
    let pairs = oracle::pairs();
    let differences = std::thread::scope(|scope| {
        let half = |seed| oracle::compare(&pairs, 10_000, seed);
        let other = scope.spawn(move || half(2));
        let mut all = half(1);
        all.extend(other.join().expect("no panic"));
        all
    });
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences[..differences.len().min(10)].join("\n")
    );
}

#[test]
fn hostile_texts() {
    let mut random = Random::new(5);
    // Past the size from which a word is cut as a stream.
    let sizes = [64, 1000, 40_000];
    for pair in oracle::pairs() {
        for (name, text) in sizes.into_iter().flat_map(hostile) {
            if let Some(difference) = pair.difference(&text, &mut random) {
                panic!("{name}: {}", &difference[..difference.len().min(2000)]);
            }
        }
    }
}
