//! Compares ids with those of the `tokenizers` crate on many random texts.
//!
//! `cargo run --release -p altclip-tokenizer --example differential -- 1000000 [SEED]`
#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

#[path = "../tests/support/oracle.rs"]
mod oracle;
#[path = "../tests/support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let rounds = numbers.next().unwrap_or(20_000) as usize;
    let seed = numbers.next().unwrap_or(1_000_003);
    let pairs = oracle::pairs();
    let differences = oracle::compare(&pairs, rounds, seed);
    for difference in differences.iter().take(20) {
        println!("{difference}");
    }
    println!("{rounds} texts, {} differ", differences.len());
    if differences.is_empty() { 0.into() } else { 1.into() }
}
