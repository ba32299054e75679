//! Real signals to a real process: this test program runs itself as the child.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use altclip_train::stop::Stop;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "ALTCLIP_TEST_SIGNAL_CHILD";

/// Says `ready`, then the number of the first signal, then works on.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let stop = Stop::on_signals().unwrap();
    println!("\nready");
    let end = Instant::now() + Duration::from_secs(30);
    let mut said = false;
    while Instant::now() < end {
        if let (true, false, Some(signal)) = (stop.is_wished(), said, stop.signal()) {
            println!("\nsignal {signal}");
            said = true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start() -> (Child, impl FnMut(&str)) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let wait_for = move |text: &str| {
        let found = lines.by_ref().any(|line| line.unwrap() == text);
        assert!(found, "the child never said {text}");
    };
    (child, wait_for)
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_first_signal_is_a_wish_and_the_second_an_end() {
    for (first, number, second, status) in
        [("-TERM", 15, "-TERM", 143), ("-INT", 2, "-INT", 130), ("-HUP", 1, "-TERM", 143)]
    {
        let (mut child, mut wait_for) = start();
        wait_for("ready");
        send(&child, first);
        wait_for(&format!("signal {number}"));
        send(&child, second);
        let ended = child.wait().unwrap();
        assert_eq!((ended.code(), ended.signal()), (Some(status), None), "{first} {second}");
    }
}
