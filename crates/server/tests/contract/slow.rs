//! Clients that send or read too slowly are closed; the others do not notice.

use crate::client::{Running, asked_for, connect, post_bytes, rest};
use altclip_server::{Setup, StubEngine};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn impatient(connections: usize) -> Running {
    let mut setup = Setup::new(Arc::new(StubEngine::new(768, Duration::ZERO)));
    setup.limits.head_time = Duration::from_millis(400);
    setup.limits.body_time = Duration::from_millis(400);
    setup.limits.idle_time = Duration::from_millis(800);
    setup.limits.connections = connections;
    Running::start(setup)
}

/// How long until the server closes.
fn closes(stream: &mut std::net::TcpStream) -> Duration {
    let begun = Instant::now();
    let _ = rest(stream);
    begun.elapsed()
}

#[test]
fn slow_heads_are_closed_and_the_others_served() {
    let count = asked_for("ALTCLIP_SLOWLORIS", 40);
    let server = impatient(2 * count);
    let mut slow: Vec<_> = (0..count)
        .map(|n| {
            let mut stream = connect(server.address);
            // Some say nothing, some a part of a head.
            stream.write_all(&b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-a"[..n % 41]).unwrap();
            stream
        })
        .collect();
    let (mut slowest, begun) = (Duration::ZERO, Instant::now());
    for _ in 0..10 {
        let asked = Instant::now();
        assert_eq!(server.post("/embed", &json!({ "inputs": "a" })).status, 200);
        slowest = slowest.max(asked.elapsed());
    }
    slow.iter_mut().for_each(|stream| {
        closes(stream);
    });
    let closed = begun.elapsed();
    println!("{count} slow heads, the last closed after {closed:?}; others {slowest:?} at most");
    assert!(closed < Duration::from_secs(3));
    assert_eq!(server.metric("altclip_connections_slow_total"), count as f64);
    assert_eq!(server.metric("altclip_connections_refused_total"), 0.0);
}

#[test]
fn a_body_byte_by_byte_has_its_time() {
    let server = impatient(60);
    let mut stream = connect(server.address);
    let head = b"POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n";
    stream.write_all(head).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(700) {
        if stream.write_all(b" ").is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let answer = rest(&mut stream);
    assert!(answer.status == 408 || answer.status == 0, "{}", answer.status);
    assert!(server.get("/livez").status == 200);
}

#[test]
fn who_does_not_read_is_closed() {
    let server = impatient(60);
    let mut stream = connect(server.address);
    stream.write_all(&post_bytes("/embed", &json!({ "inputs": vec!["a"; 2000] }))).unwrap();
    // An answer of 15 MB stops in the buffers of the sockets.
    let begun = Instant::now();
    while server.metric("altclip_connections_slow_total") == 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(server.metric("altclip_in_flight_bytes") < 1000.0);
}

#[test]
fn idle_connections_and_those_beyond_the_limit() {
    let server = impatient(60);
    let mut stream = connect(server.address);
    let get = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for _ in 0..3 {
        stream.write_all(get).unwrap();
        let mut block = [0; 4096];
        assert!(stream.read(&mut block).unwrap() > 0);
    }
    let time = closes(&mut stream);
    assert!(time < Duration::from_secs(3), "{time:?}");
    let held: Vec<_> = (0..60).map(|_| connect(server.address)).collect();
    std::thread::sleep(Duration::from_millis(100));
    // The next one is closed at once.
    let mut beyond = connect(server.address);
    let _ = beyond.write_all(get);
    assert_eq!(rest(&mut beyond).status, 0);
    drop(held);
    std::thread::sleep(Duration::from_millis(100));
    assert!(server.metric("altclip_connections_refused_total") >= 1.0);
}
