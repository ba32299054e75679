//! A run that is killed or interrupted again and again ends with the bytes of one that is not.
//!
//! A few kills by default; `ALTCLIP_KILLS=200 ALTCLIP_SIGNALS=100` for more.

use crate::data::{Data, assert_same};
use crate::support::random::Random;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::time::{Duration, Instant};

/// Runs that differ in what must go on: precision, chunks, schedule, caches of frozen towers, dropout, random
/// pictures, measurements. Threads alternate in all of them.
const RUNS: [(&str, &[&str]); 6] = [
    ("distill", &["--add-identity-pairs", "--dropout", "0.1"]),
    ("clip", &["--chunk-size", "4", "--lr-schedule", "cosine", "--warmup-steps", "5"]),
    (
        "contrastive",
        &["--lr-schedule", "linear", "--optimizer", "stable-adamw", "--chunk-size", "4"],
    ),
    ("distill", &["--precision", "bf16", "--checkpoint-activations", "--warmup-steps", "9"]),
    ("clip", &["--precision", "bf16", "--augment", "strong", "--keep", "1"]),
    ("finetune", &["--part", "text", "--augment", "crop", "--precision", "bf16"]),
];

const COMMON: [&str; 4] = ["--max-steps", "60", "--save-every", "7"];

fn asked_for(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |number| number.parse().unwrap())
}

/// What a child is disturbed by, and how it may then have ended.
type Disturb<'a> = &'a mut dyn FnMut(&mut Child, usize) -> bool;

/// Runs number `n`, once undisturbed, and then with disturbances at random moments until `count` of them
/// met a living child; whenever one ends well, it has the same bytes.
fn torture(n: usize, count: usize, seed: u64, disturb: Disturb<'_>) -> usize {
    let (kind, flags) = RUNS[n];
    let data = Data::new();
    let captions = data.at("captions.jsonl");
    let mut flags = [flags, &COMMON].concat();
    if n == 2 {
        flags.extend(["--eval", &captions, "--eval-every", "10"]);
    }
    let began = Instant::now();
    let whole = data.trained(kind, "whole", &flags);
    let whole_time = began.elapsed();
    let mut random = Random::new(seed + n as u64);
    let (mut met, mut finished, mut tries) = (0, 0, 0);
    let again = |tries: usize| {
        let threads = ["1", "2"][tries % 2];
        let more = ["--resume", "--threads", threads];
        data.train(kind, "killed", &[&flags[..], &more].concat())
    };
    while met < count {
        tries += 1;
        assert!(tries < 50 + 20 * count, "no disturbance comes in time");
        let mut child = again(tries).spawn();
        let moment = whole_time.as_micros() as usize * 7 / 10;
        std::thread::sleep(Duration::from_micros(random.below(moment) as u64));
        if disturb(&mut child, tries) {
            met += 1;
        } else {
            let killed = data.out("killed");
            assert_same(&whole, &killed, &format!("{kind} {flags:?}"));
            std::fs::remove_dir_all(&killed.0).unwrap();
            finished += 1;
        }
    }
    again(0).ok();
    let killed = data.out("killed");
    assert_same(&whole, &killed, &format!("{kind} {flags:?}"));
    finished + 1
}

#[test]
fn killed_runs_end_with_the_same_bytes() {
    let kills = asked_for("ALTCLIP_KILLS", 20);
    let mut finished = 0;
    for n in 0..RUNS.len() {
        let share = kills / RUNS.len() + usize::from(n < kills % RUNS.len());
        finished += torture(n, share, 1, &mut |child, _| {
            child.kill().unwrap();
            !child.wait().unwrap().success()
        });
    }
    println!("{kills} kills, {finished} runs");
}

fn send(child: &Child, signal: &str) {
    // A child that has ended meanwhile is no fault.
    let _ = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
}

#[test]
fn interrupted_runs_save_and_end_with_the_same_bytes() {
    let signals = asked_for("ALTCLIP_SIGNALS", 5);
    let mut orderly = 0;
    for n in 0..RUNS.len() {
        let share = signals / RUNS.len() + usize::from(n < signals % RUNS.len());
        torture(n, share, 7, &mut |child, tries| {
            send(child, ["-TERM", "-INT", "-HUP"][tries % 3]);
            let status = child.wait().unwrap();
            // Before a run has begun there is nothing to save, and the signal does what it always does.
            let early = status.signal().is_some();
            assert!(early || matches!(status.code(), Some(0 | 75)), "{status:?}");
            orderly += usize::from(status.code() == Some(75));
            early || status.code() == Some(75)
        });
    }
    println!("{orderly} of {signals} ended with 75");
    assert!(2 * orderly >= signals, "{orderly} of {signals}");
}

#[test]
fn the_second_signal_ends_at_once() {
    let data = Data::new();
    // A step of minutes.
    let flags = ["--batch-size", "200000", "--max-steps", "3", "--chunk-size", "64"];
    let mut child = data.train("distill", "out", &flags).spawn();
    let out = data.out("out");
    let begun = Instant::now();
    while !out.has("LATEST") && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(50));
    send(&child, "-TERM");
    std::thread::sleep(Duration::from_millis(100));
    assert!(child.try_wait().unwrap().is_none(), "the first signal waits for the step");
    send(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    // Nobody holds the folder any more.
    let outcome = data.train("distill", "out", &["--resume", "--max-steps", "3"]).go();
    assert_eq!(outcome.status, Some(2), "another batch size: {}", outcome.stderr);
    assert!(outcome.stderr.contains("[E6003]"), "{}", outcome.stderr);
}
