//! How a server stops: what it accepted is answered, what comes then is told.

use crate::client::{Answer, Running, asked_for, connect, raw};
use altclip_server::{Log, Setup, StubEngine};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

fn stub(batch: Duration) -> Setup {
    Setup::new(Arc::new(StubEngine::new(4, batch)))
}

fn is_told(answer: &Answer) {
    assert_eq!((answer.status, answer.header("connection")), (503, Some("close")));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.json()["code"], "E8103");
}

/// Clients that go elsewhere once they are told never meet a connection that breaks off or is refused.
#[test]
fn what_was_accepted_is_answered() {
    for round in 0..asked_for("ALTCLIP_SIGNALS", 3) {
        let mut setup = stub(Duration::from_millis(30));
        setup.limits.drain_grace = Duration::from_millis(500);
        let server = Running::start_as_it_is(setup);
        let (good, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    loop {
                        let answer = server.post("/embed", &json!({ "inputs": ["a"] }));
                        match answer.status {
                            200 => good.fetch_add(1, Ordering::Relaxed),
                            _ => {
                                is_told(&answer);
                                break told.fetch_add(1, Ordering::Relaxed);
                            }
                        };
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(200 + 17 * (round as u64 % 10)));
            server.wish_stop();
        });
        assert!(good.load(Ordering::Relaxed) > 0);
        assert_eq!(told.load(Ordering::Relaxed), 16);
        server.end().unwrap();
    }
}

#[test]
fn readiness_goes_first_and_work_in_the_queue_is_done() {
    let server = Running::start(stub(Duration::from_millis(1200)));
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| server.post("/embed", &json!({ "inputs": "a" })).status))
            .collect();
        std::thread::sleep(Duration::from_millis(150));
        server.wish_stop();
        // Far beyond the grace: as long as something is being done, whoever comes is told.
        let told = Instant::now();
        while told.elapsed() < Duration::from_millis(700) {
            std::thread::sleep(Duration::from_millis(60));
            assert_eq!(server.get("/readyz").status, 503);
            assert_eq!(server.get("/livez").status, 200);
            is_told(&server.post("/embed", &json!({ "inputs": "b" })));
        }
        for one in working {
            assert_eq!(one.join().unwrap(), 200);
        }
    });
    server.end().unwrap();
}

#[test]
fn without_work_it_says_so_for_a_grace_and_ends() {
    let mut setup = stub(Duration::ZERO);
    setup.limits.drain_grace = Duration::from_millis(600);
    let server = Running::start_as_it_is(setup);
    server.wish_stop();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(server.get("/readyz").status, 503);
    is_told(&server.post("/embed", &json!({ "inputs": "b" })));
    let address = server.address;
    server.end().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_client_that_holds_its_connection_does_not_hold_up_the_end() {
    let mut setup = stub(Duration::ZERO);
    setup.limits.drain_time = Duration::from_secs(20);
    setup.limits.head_time = Duration::from_secs(20);
    let server = Running::start(setup);
    let mut held: Vec<_> = (0..5).map(|_| connect(server.address)).collect();
    // One said half of what it wants, one was answered and keeps its connection.
    std::io::Write::write_all(&mut held[0], b"POST /embed HTTP/1.1\r\nhost: lo").unwrap();
    std::io::Write::write_all(&mut held[1], b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    server.end().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(raw(&mut held[1], b"", b"").status, 200);
    drop(held);
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    const REQUESTS: usize = 1200;
    let (release, stalled) = mpsc::channel::<()>();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let stalls = |lines: &Arc<Mutex<Vec<serde_json::Value>>>, stalled: mpsc::Receiver<()>| {
        let lines = Arc::clone(lines);
        Log::new(move |line| {
            // Until somebody lets go of it.
            let _ = stalled.recv();
            lines.lock().unwrap().push(line.clone());
        })
    };
    let mut setup = stub(Duration::ZERO);
    setup.log = stalls(&lines, stalled);
    let server = Running::start(setup);
    (0..REQUESTS).for_each(|_| assert_eq!(server.get("/livez").status, 200));
    // The writer has a line, as many as fit wait, and the rest is counted.
    let dropped = server.metric("altclip_log_lines_dropped_total");
    assert!((1.0..REQUESTS as f64).contains(&dropped), "{dropped}");
    drop(release);
    let said = |what: &str| lines.lock().unwrap().iter().any(|line| line["event"] == what);
    let since = Instant::now();
    while !said("log_dropped") {
        assert!(since.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    server.end().unwrap();
    // What was read in time is whole, to the last line.
    assert!(said("start") && said("stop"));
    // A log that stays stalled does not hold up the end either.
    let (_held, stalled) = mpsc::channel::<()>();
    let mut setup = stub(Duration::ZERO);
    setup.log = stalls(&Arc::default(), stalled);
    let server = Running::start(setup);
    assert_eq!(server.post("/embed", &json!({ "inputs": "a" })).status, 200);
    let since = Instant::now();
    server.end().unwrap();
    assert!(since.elapsed() < Duration::from_secs(5));
}
