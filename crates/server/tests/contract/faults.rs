//! An engine that fails on purpose, and what the server makes of it.

use crate::client::{Running, asked_for, post_bytes, request};
use altclip_report::{Code, Report};
use altclip_server::{About, Engine, Error, Setup, StubEngine, Tokens};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What goes wrong over an item whose text begins so.
pub(crate) const POISON: [&str; 3] = ["panic", "nan", "error"];

/// A stub that fails over poison, counts what it computes, and can be held up.
pub(crate) struct Faulty {
    stub: StubEngine,
    /// Ids by which poison is known.
    poison: [u32; 3],
    pub(crate) computed: AtomicUsize,
    pub(crate) batches: AtomicU64,
    gate: Mutex<bool>,
    opened: Condvar,
    /// The device is gone: nothing is computed any more.
    pub(crate) lost: AtomicBool,
}

impl Faulty {
    pub(crate) fn new(batch: Duration) -> Arc<Self> {
        let stub = StubEngine::new(4, batch);
        let poison = POISON.map(|text| stub.tokenize(text).unwrap().ids[0]);
        Arc::new(Self {
            stub,
            poison,
            computed: AtomicUsize::new(0),
            batches: AtomicU64::new(0),
            gate: Mutex::new(true),
            opened: Condvar::new(),
            lost: AtomicBool::new(false),
        })
    }

    /// Batches wait before this is open.
    pub(crate) fn open(&self, open: bool) {
        *self.gate.lock().unwrap() = open;
        self.opened.notify_all();
    }
}

impl Engine for Faulty {
    fn about(&self) -> &About {
        self.stub.about()
    }

    fn tokenize(&self, text: &str) -> Result<Tokens, Report> {
        assert_ne!(text, "tokenizer panics");
        self.stub.tokenize(text)
    }

    fn preprocess(&self, file: &[u8]) -> Result<Vec<f32>, Report> {
        self.stub.preprocess(file)
    }

    fn encode_ids(&self, ids: &[&[u32]]) -> Result<Vec<f32>, Report> {
        self.batches.fetch_add(1, Ordering::SeqCst);
        let mut open = self.gate.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
        drop(open);
        if self.lost.load(Ordering::SeqCst) {
            return Err(Report::new(Code::E8202, "engine", "the device is lost"));
        }
        self.computed.fetch_add(ids.len(), Ordering::SeqCst);
        let is = |poison: u32| ids.iter().position(|ids| ids[0] == poison);
        let [panics, nan, fails] = self.poison;
        assert!(is(panics).is_none(), "poison");
        if is(fails).is_some() {
            return Err(Report::new(Code::E9001, "engine", "poison"));
        }
        let mut rows = self.stub.encode_ids(ids)?;
        if let Some(place) = is(nan) {
            rows[place * 4 + 2] = f32::NAN;
        }
        Ok(rows)
    }

    fn encode_pixels(&self, pixels: &[f32], count: usize) -> Result<Vec<f32>, Report> {
        self.stub.encode_pixels(pixels, count)
    }

    fn normalize(&self, rows: Vec<f32>) -> Result<Vec<f32>, Report> {
        self.stub.normalize(rows)
    }

    fn scale(&self) -> f32 {
        self.stub.scale()
    }

    fn model(&self) -> Result<Arc<altclip::Model>, Report> {
        self.stub.model()
    }
}

fn rows(answer: &Value) -> Vec<(u64, Value)> {
    let items = answer["data"].as_array().unwrap().iter();
    items.map(|item| (item["index"].as_u64().unwrap(), item["embedding"].clone())).collect()
}

#[test]
fn poison_is_its_own_fault_alone() {
    let server = Running::start(Setup::new(Faulty::new(Duration::ZERO)));
    let alone = |text: &str| {
        rows(&server.post("/v1/embeddings", &json!({ "input": text })).json())[0].1.clone()
    };
    let clean: Vec<(String, Value)> =
        (0..30).map(|n| format!("text {n}")).map(|text| (text.clone(), alone(&text))).collect();
    for (poison, code) in [("nan", "E9003"), ("error", "E9001"), ("panic", "E8201")] {
        for place in [0, 13, 30] {
            if poison == "panic" && place == 30 {
                // Five within a minute are for another test.
                continue;
            }
            let mut texts: Vec<&str> = clean.iter().map(|(text, _)| text.as_str()).collect();
            texts.insert(place, poison);
            let body = json!({ "input": texts, "on_error": "skip" });
            let answer = server.post("/v1/embeddings", &body);
            assert_eq!(answer.status, 200, "{}", answer.text());
            let answer = answer.json();
            assert_eq!(answer["errors"].as_array().unwrap().len(), 1, "{answer}");
            assert_eq!(
                (&answer["errors"][0]["index"], &answer["errors"][0]["code"]),
                (&json!(place), &json!(code))
            );
            let found = rows(&answer);
            assert_eq!(found.len(), 30);
            for ((_, row), (_, expected)) in found.iter().zip(&clean) {
                assert_eq!(row, expected);
            }
            assert!(!answer.to_string().contains("null"));
        }
    }
    // Alone it is a fault of the server, with the id of the request and no more.
    let answer = server.send("/embed", &[("x-request-id", "mine-7")], &json!({ "inputs": "nan" }));
    assert_eq!((answer.status, answer.header("x-request-id")), (500, Some("mine-7")));
    let answer = server.post("/embed", &json!({ "inputs": "nan", "normalize": false }));
    assert_eq!(answer.status, 500);
    assert_eq!(server.post("/embed", &json!({ "inputs": "tokenizer panics" })).status, 500);
    assert_eq!(server.post("/embed", &json!({ "inputs": "a" })).status, 200);
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn five_panics_within_a_minute_end_the_server() {
    let server = Running::start(Setup::new(Faulty::new(Duration::ZERO)));
    for n in 0..5 {
        assert_eq!(server.get("/readyz").status, 200, "{n}");
        let answer = server.post("/embed", &json!({ "inputs": "panic" }));
        assert_eq!(answer.status, 500, "{n}: {}", answer.text());
    }
    assert!(matches!(server.end(), Err(Error::Lost)));
}

#[test]
fn health_tells_the_truth() {
    let engine = Faulty::new(Duration::ZERO);
    let server = Running::start(Setup::new(Arc::clone(&engine) as Arc<dyn Engine>));
    let ready = || server.get("/readyz").status;
    assert_eq!(ready(), 200);
    // One forward tells for ten seconds.
    let before = engine.batches.load(Ordering::SeqCst);
    (0..50).for_each(|_| assert_eq!(ready(), 200));
    assert_eq!(engine.batches.load(Ordering::SeqCst), before);
    // The device is lost: the first failure makes it look, and each look sees it.
    engine.lost.store(true, Ordering::SeqCst);
    assert_eq!(server.post("/embed", &json!({ "inputs": "a" })).status, 503);
    assert_eq!(ready(), 503);
    assert_eq!(server.get("/livez").status, 200);
    engine.lost.store(false, Ordering::SeqCst);
    assert_eq!(ready(), 200);
    // A batch that does not end.
    engine.open(false);
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| server.post("/embed", &json!({ "inputs": "a" })).status);
        let begun = Instant::now();
        while ready() == 200 {
            assert!(begun.elapsed() < Duration::from_secs(3));
            std::thread::sleep(Duration::from_millis(50));
        }
        engine.open(true);
        assert_eq!(stuck.join().unwrap(), 200);
    });
    assert_eq!(ready(), 200);
}

#[test]
fn what_nobody_waits_for_is_not_computed() {
    use std::io::Write as _;
    let engine = Faulty::new(Duration::ZERO);
    let server = Running::start(Setup::new(Arc::clone(&engine) as Arc<dyn Engine>));
    assert_eq!(server.get("/readyz").status, 200);
    engine.open(false);
    let first = std::thread::spawn({
        let address = server.address;
        move || {
            request(
                address,
                "POST",
                "/embed",
                &[("content-type", "application/json")],
                br#"{"inputs":"a"}"#,
            )
            .status
        }
    });
    let wait_for = |what: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(5));
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    // The canary before counted one batch.
    wait_for(&|| engine.batches.load(Ordering::SeqCst) == 2);
    let count = asked_for("ALTCLIP_CANCELS", 200);
    let bytes = post_bytes("/embed", &json!({ "inputs": ["b", "c"] }));
    let clients: Vec<_> = (0..count)
        .map(|_| {
            let mut stream = crate::client::connect(server.address);
            stream.write_all(&bytes).unwrap();
            stream
        })
        .collect();
    let waiting = || server.metric("altclip_queue_size{modality=\"text\"}");
    wait_for(&|| waiting() == count as f64);
    let gone = Instant::now();
    drop(clients);
    wait_for(&|| waiting() == 0.0);
    println!("{count} requests given up, all out of the queue after {:?}", gone.elapsed());
    let computed = engine.computed.load(Ordering::SeqCst);
    engine.open(true);
    assert_eq!(first.join().unwrap(), 200);
    assert_eq!(server.post("/embed", &json!({ "inputs": "d" })).status, 200);
    assert_eq!(engine.computed.load(Ordering::SeqCst), computed + 2);
    assert_eq!(server.metric("altclip_requests_abandoned_total"), count as f64);
}

#[test]
fn a_request_whose_time_is_over_is_answered_and_not_computed() {
    let engine = Faulty::new(Duration::ZERO);
    let mut setup = Setup::new(Arc::clone(&engine) as Arc<dyn Engine>);
    setup.limits.request_time = Duration::from_millis(200);
    let server = Running::start(setup);
    assert_eq!(server.get("/readyz").status, 200);
    engine.open(false);
    std::thread::scope(|scope| {
        let ask = || server.post("/embed", &json!({ "inputs": "a" }));
        let all: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        for one in all {
            let answer = one.join().unwrap();
            assert_eq!((answer.status, answer.json()["code"].clone()), (504, json!("E8104")));
        }
    });
    let before = engine.computed.load(Ordering::SeqCst);
    engine.open(true);
    assert_eq!(server.post("/embed", &json!({ "inputs": "a" })).status, 200);
    // At most the batch that was in the engine, and this one.
    assert!(engine.computed.load(Ordering::SeqCst) <= before + 3 + 1);
}
