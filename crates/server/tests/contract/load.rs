//! Ten times more than the engine can do: what is accepted is answered, what is not is told so.

use crate::client::{Running, connect, post_bytes};
use altclip_report::Diagnose as _;
use altclip_server::{Server, Setup, StubEngine};
use serde_json::json;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Texts of a request, all of 77 tokens.
const TEXTS: usize = 8;

#[test]
fn overload_is_refused_whole_and_in_order() {
    let batch = Duration::from_millis(20);
    let mut setup = Setup::new(Arc::new(StubEngine::new(4, batch)));
    setup.limits.queue_tokens = 40 * TEXTS * 77;
    setup.limits.admission = Duration::from_millis(200);
    let bound = setup.limits.queue_tokens as f64;
    let server = Running::start(setup);
    let body = json!({ "inputs": vec!["x".repeat(400); TEXTS] });
    let over = AtomicBool::new(false);
    /// Clients end also where an assertion does.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (good, refused) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    let (mut good, mut refused) = (0, 0);
                    while !over.load(Ordering::Relaxed) {
                        let answer = server.post("/embed", &body);
                        match answer.status {
                            200 => {
                                assert_eq!(answer.json().as_array().unwrap().len(), TEXTS);
                                good += 1;
                            }
                            503 => {
                                let seconds: u64 =
                                    answer.header("retry-after").unwrap().parse().unwrap();
                                assert!((1..=600).contains(&seconds));
                                assert_eq!(answer.json()["code"], "E8101");
                                refused += 1;
                            }
                            other => panic!("{other}: {}", answer.text()),
                        }
                    }
                    (good, refused)
                })
            })
            .collect();
        let (begun, end) = (Instant::now(), End(&over));
        while begun.elapsed() < Duration::from_secs(3) {
            let held = server.metric("altclip_queue_cost{modality=\"text\"}");
            assert!(held <= bound, "{held} of {bound}");
            // Health is not refused.
            assert_eq!(server.get("/readyz").status, 200);
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(end);
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    });
    assert!(good > 0 && refused > 0, "{good} answered, {refused} refused");
    // Everything is given back.
    for line in ["altclip_queue_cost{modality=\"text\"}", "altclip_requests_in_flight"] {
        let left = server.metric(line);
        // The request for the metrics is one of them.
        assert!(left <= 1.0, "{line} {left}");
    }
    let sum =
        server.metric("altclip_requests_total{route=\"/embed\",modality=\"text\",code=\"200\"}");
    assert_eq!(sum, f64::from(good));
    assert_eq!(server.post("/embed", &json!({ "inputs": "a" })).status, 200);
}

#[test]
fn bodies_beyond_the_allowance_are_refused() {
    let mut setup = Setup::new(Arc::new(StubEngine::new(4, Duration::ZERO)));
    (setup.limits.body_bytes, setup.limits.in_flight_bytes) = (100_000, 300_000);
    let server = Running::start(setup);
    let texts = |bytes: usize| json!({ "inputs": vec!["y".repeat(1000); bytes / 1000] });
    assert_eq!(server.post("/embed", &texts(70_000)).status, 200);
    // Somebody else has half of it.
    let mut other = connect(server.address);
    let mut head = post_bytes("/embed", &texts(60_000));
    head.truncate(50_000);
    other.write_all(&head).unwrap();
    let since = Instant::now();
    while server.metric("altclip_in_flight_bytes") < 140_000.0 {
        assert!(since.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
    let answer = server.post("/embed", &texts(70_000));
    assert_eq!((answer.status, answer.json()["code"].clone()), (503, json!("E8101")));
    assert!(answer.header("retry-after").is_some());
    let text = answer.text();
    assert!(text.contains("needed") && text.contains("300000"), "{text}");
    drop(other);
    // It was given back.
    let since = Instant::now();
    while server.metric("altclip_in_flight_bytes") > 1000.0 {
        assert!(since.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.post("/embed", &texts(70_000)).status, 200);
}

/// Who is told to ask again must be able to succeed.
#[test]
fn what_can_never_fit_is_not_told_to_ask_again() {
    let setup = |body: usize| {
        let mut setup = Setup::new(Arc::new(StubEngine::new(768, Duration::ZERO)));
        (setup.limits.body_bytes, setup.limits.in_flight_bytes) = (body, 300_000);
        setup
    };
    let server = Running::start(setup(100_000));
    assert_eq!(server.post("/embed", &json!({ "inputs": vec!["a"; 15] })).status, 200);
    for path in ["/embed", "/v1/embeddings"] {
        let answer =
            server.post(path, &json!({ "inputs": vec!["a"; 100], "input": vec!["a"; 100] }));
        let text = answer.text();
        assert_eq!((answer.status, answer.header("retry-after")), (413, None), "{text}");
        assert!(text.contains("E8002") && text.contains("at most 300000"), "{text}");
    }
    // Nor does a server start whose longest bodies never fit.
    let error = Server::start(setup(100_001)).err().unwrap();
    assert_eq!(error.report().code.as_str(), "E1001");
}

#[test]
fn the_largest_requests_are_admitted() {
    let server = Running::stub(Duration::ZERO);
    let texts = server.post("/embed", &json!({ "inputs": vec!["z".repeat(400); 2048] }));
    assert_eq!(texts.status, 200, "{}", texts.text());
    assert_eq!(texts.json().as_array().unwrap().len(), 2048);
    let picture = crate::client::picture("key");
    let body = json!({ "modality": "image", "input": vec![picture; 64] });
    let pictures = server.post("/v1/embeddings", &body);
    assert_eq!(pictures.status, 200, "{}", pictures.text());
    assert_eq!(pictures.json()["data"].as_array().unwrap().len(), 64);
}
