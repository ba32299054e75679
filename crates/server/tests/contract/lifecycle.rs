//! How a server stops: what it accepted is answered, what comes then is told.

use crate::client::{Running, connect, raw};
use altclip_server::{Setup, StubEngine};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn what_was_accepted_is_answered() {
    for round in 0..5 {
        let server = Running::stub(Duration::from_millis(30));
        let (good, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let body = json!({ "inputs": ["a"] }).to_string();
                    let head = format!("POST /embed HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
                    // Until nobody listens.
                    while let Ok(mut stream) = std::net::TcpStream::connect(server.address) {
                        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                        let answer = raw(&mut stream, head.as_bytes(), body.as_bytes());
                        match answer.status {
                            200 => good.fetch_add(1, Ordering::Relaxed),
                            503 => {
                                assert_eq!(answer.json()["code"], "E8103");
                                assert!(answer.header("retry-after").is_some());
                                told.fetch_add(1, Ordering::Relaxed)
                            }
                            // It connected as the listener closed, and nothing of it was read.
                            0 => break,
                            other => panic!("{other}"),
                        };
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(200 + 17 * round));
            server.wish_stop();
        });
        assert!(good.load(Ordering::Relaxed) > 0 && told.load(Ordering::Relaxed) > 0);
        server.end().unwrap();
    }
}

#[test]
fn readiness_goes_first_and_work_in_the_queue_is_done() {
    let server = Running::stub(Duration::from_millis(600));
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| server.post("/embed", &json!({ "inputs": "a" })).status))
            .collect();
        std::thread::sleep(Duration::from_millis(150));
        server.wish_stop();
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(server.get("/readyz").status, 503);
        assert_eq!(server.get("/livez").status, 200);
        let late = server.post("/embed", &json!({ "inputs": "b" }));
        assert_eq!((late.status, late.header("connection")), (503, Some("close")));
        for one in working {
            assert_eq!(one.join().unwrap(), 200);
        }
    });
    server.end().unwrap();
}

#[test]
fn a_client_that_holds_its_connection_does_not_hold_up_the_end() {
    let mut setup = Setup::new(Arc::new(StubEngine::new(4, Duration::ZERO)));
    setup.limits.drain_time = Duration::from_secs(20);
    let server = Running::start(setup);
    let held: Vec<_> = (0..5).map(|_| connect(server.address)).collect();
    std::thread::sleep(Duration::from_millis(100));
    let begun = std::time::Instant::now();
    server.end().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(held);
}
