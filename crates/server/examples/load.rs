//! Measures a server: requests arrive when they arrive, whether or not the ones before are answered.
//!
//! ```text
//! altclip serve --stub-ms 20 --port 8000 --quiet &
//! cargo run --release -p altclip-server --example load -- 127.0.0.1:8000 --batch-ms 20 --pid $!
//! ```
//!
//! First one client at a time (what the server adds), then as many as fill it (its capacity), then Poisson
//! arrivals at multiples of that capacity, then how long it takes to be as quick as before. A latency
//! counts from when a request was due, so a client that is held up hides nothing. One JSON line a step.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Requests that are on their way at once; more is a fault of the server that is measured.
const MOST_AT_ONCE: usize = 16_000;
const CLIENTS_THAT_FILL: usize = 64;
/// Stands for a number in a text.
const NUMBER: &str = "########";

struct Options {
    address: SocketAddr,
    texts: usize,
    bytes: usize,
    seconds: f64,
    shapes: Vec<f64>,
    batch_ms: f64,
    pid: Option<u32>,
    key: Option<String>,
}

impl Options {
    fn read() -> Self {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let after = |name: &str| {
            args.iter().position(|arg| arg == name).and_then(|place| args.get(place + 1)).cloned()
        };
        let number = |name: &str, otherwise: f64| {
            after(name).map_or(otherwise, |text| text.parse().unwrap())
        };
        let shapes = after("--shape").unwrap_or_else(|| "0.5,1,2,10".into());
        Self {
            address: args.first().expect("ADDRESS:PORT").parse().unwrap(),
            texts: number("--texts", 8.0) as usize,
            bytes: number("--bytes", 400.0) as usize,
            seconds: number("--seconds", 10.0),
            shapes: shapes.split(',').map(|text| text.parse().unwrap()).collect(),
            batch_ms: number("--batch-ms", 0.0),
            pid: after("--pid").map(|text| text.parse().unwrap()),
            key: after("--key"),
        }
    }
}

/// Connections that are open and free, and the request that is sent on them.
struct Clients {
    address: SocketAddr,
    request: Vec<u8>,
    /// Where the numbers of its texts are.
    places: Vec<usize>,
    next: AtomicUsize,
    free: Mutex<Vec<TcpStream>>,
}

#[derive(Clone, Copy)]
struct Seen {
    status: u16,
    retry_after: bool,
    seconds: f64,
    /// It came before the arrivals ended.
    in_time: bool,
}

impl Clients {
    fn new(options: &Options) -> Self {
        // Words of few letters, so that a model's tokens are about as many; and a number, because what
        // occurs twice is computed once.
        let text = format!("{NUMBER}{}", " a b c d".repeat(options.bytes / 8));
        let body = json!({ "inputs": vec![text; options.texts] }).to_string();
        let key = options
            .key
            .as_ref()
            .map_or(String::new(), |key| format!("authorization: Bearer {key}\r\n"));
        let head = format!(
            "POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{key}content-length: {}\r\n\r\n",
            body.len()
        );
        let request = head + &body;
        let places = request.match_indices(NUMBER).map(|(place, _)| place).collect();
        let (request, next) = (request.into_bytes(), AtomicUsize::new(0));
        Self { address: options.address, request, places, next, free: Mutex::default() }
    }

    /// The request, with texts that were not sent before.
    fn fresh(&self) -> Vec<u8> {
        let mut request = self.request.clone();
        for &place in &self.places {
            let number = self.next.fetch_add(1, Ordering::Relaxed) % 100_000_000;
            request[place..place + NUMBER.len()].copy_from_slice(format!("{number:08}").as_bytes());
        }
        request
    }

    /// One request, due at a time. A connection that the server closed meanwhile is no fault.
    async fn ask(&self, due: Instant) -> Option<Seen> {
        loop {
            let kept = self.free.lock().unwrap().pop();
            let is_new = kept.is_none();
            let mut stream = match kept {
                Some(stream) => stream,
                None => {
                    let stream = TcpStream::connect(self.address).await.ok()?;
                    stream.set_nodelay(true).ok()?;
                    stream
                }
            };
            match self.exchange(&mut stream).await {
                Some((status, retry_after, keep)) => {
                    if keep {
                        self.free.lock().unwrap().push(stream);
                    }
                    let seconds = due.elapsed().as_secs_f64();
                    return Some(Seen { status, retry_after, seconds, in_time: true });
                }
                None if is_new => return None,
                None => {}
            }
        }
    }

    async fn exchange(&self, stream: &mut TcpStream) -> Option<(u16, bool, bool)> {
        stream.write_all(&self.fresh()).await.ok()?;
        let mut bytes = Vec::with_capacity(1 << 16);
        let end = loop {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
        };
        let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let length: usize = field("content-length:")?.trim().parse().ok()?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let (retry, close) = (field("retry-after:").is_some(), field("connection:"));
        let keep = close.is_none_or(|text| text.trim() != "close");
        while bytes.len() < end + 4 + length {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        Some((status, retry, keep))
    }
}

/// The value below which a share of all lies.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn milliseconds(seen: &[Seen], status: u16) -> Vec<f64> {
    let mut all: Vec<f64> =
        seen.iter().filter(|seen| seen.status == status).map(|seen| 1e3 * seen.seconds).collect();
    all.sort_by(f64::total_cmp);
    all
}

fn percentiles(sorted: &[f64]) -> Value {
    let round = |x: f64| (x * 100.0).round() / 100.0;
    let at = |share| {
        if sorted.is_empty() { Value::Null } else { json!(round(percentile(sorted, share))) }
    };
    json!({ "p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "max": at(1.0) })
}

/// One client, one request after the other.
async fn alone(clients: &Clients, count: usize) -> Vec<f64> {
    let mut seen = Vec::new();
    for _ in 0..count {
        seen.extend(clients.ask(Instant::now()).await);
    }
    milliseconds(&seen, 200)
}

/// Answers a second with as many clients as fill it.
async fn capacity(clients: &Arc<Clients>, seconds: f64) -> f64 {
    let over = Arc::new(AtomicBool::new(false));
    let good = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..CLIENTS_THAT_FILL)
        .map(|_| {
            let (clients, over, good) = (Arc::clone(clients), Arc::clone(&over), Arc::clone(&good));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    match clients.ask(Instant::now()).await {
                        Some(seen) if seen.status == 200 => {
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                        // Told to come again: a moment later is soon enough to keep it full.
                        _ => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (begun, before) = (Instant::now(), good.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let rate = (good.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    rate
}

/// Numbers from 0 to 1, the same each time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
}

/// Poisson arrivals at a rate; what was seen of each, and how many had no answer.
async fn offered(clients: &Arc<Clients>, rate: f64, seconds: f64) -> (Vec<Seen>, usize) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (unanswered, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (begun, mut due, mut chance) = (Instant::now(), 0.0, Chance(7));
    let mut tasks = Vec::new();
    while due < seconds {
        due += -chance.next().ln() / rate;
        let at = begun + Duration::from_secs_f64(due);
        tokio::time::sleep_until(at.into()).await;
        if open.load(Ordering::Relaxed) >= MOST_AT_ONCE {
            unanswered.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (clients, seen) = (Arc::clone(clients), Arc::clone(&seen));
        let (unanswered, open) = (Arc::clone(&unanswered), Arc::clone(&open));
        tasks.push(tokio::spawn(async move {
            match clients.ask(at).await {
                Some(one) => {
                    let in_time = begun.elapsed().as_secs_f64() <= seconds;
                    seen.lock().unwrap().push(Seen { in_time, ..one });
                }
                None => {
                    unanswered.fetch_add(1, Ordering::Relaxed);
                }
            }
            open.fetch_sub(1, Ordering::Relaxed);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let seen = seen.lock().unwrap().clone();
    (seen, unanswered.load(Ordering::Relaxed))
}

/// Memory of the server's process in MiB.
fn resident(pid: Option<u32>) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid?)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::read();
    let clients = Arc::new(Clients::new(&options));
    alone(&clients, 20).await;
    let quiet = alone(&clients, 300).await;
    let added: Vec<f64> = quiet.iter().map(|ms| ms - options.batch_ms).collect();
    println!(
        "{}",
        json!({ "step": "alone", "ms": percentiles(&quiet), "added_ms": percentiles(&added) })
    );
    let most = capacity(&clients, options.seconds.min(5.0)).await;
    let texts = most * options.texts as f64;
    println!(
        "{}",
        json!({ "step": "capacity", "requests_per_second": most, "texts_per_second": texts })
    );
    for &shape in &options.shapes {
        let (seen, unanswered) = offered(&clients, shape * most, options.seconds).await;
        let (good, refused) = (milliseconds(&seen, 200), milliseconds(&seen, 503));
        let told = seen.iter().filter(|seen| seen.status == 503 && seen.retry_after).count();
        let timely = seen.iter().filter(|seen| seen.status == 200 && seen.in_time).count();
        let goodput = timely as f64 / options.seconds;
        let wanted = (shape * most).min(most);
        println!(
            "{}",
            json!({
                "step": "offered",
                "times_capacity": shape,
                "offered_per_second": seen.len() as f64 / options.seconds,
                "goodput_per_second": goodput,
                "goodput_of_possible": goodput / wanted,
                "accepted_ms": percentiles(&good),
                "refused": refused.len(),
                "refused_ms": percentiles(&refused),
                "refused_without_retry_after": refused.len() - told,
                "other_statuses": seen.len() - good.len() - refused.len(),
                "unanswered": unanswered,
                "server_peak_mib": resident(options.pid),
            })
        );
        // How long until it is as quick as before.
        let begun = Instant::now();
        let limit = percentile(&quiet, 0.99) * 1.1;
        let mut in_a_row = 0;
        while in_a_row < 10 && begun.elapsed() < Duration::from_secs(20) {
            let one = alone(&clients, 1).await;
            in_a_row = if one.first().is_some_and(|ms| *ms <= limit) { in_a_row + 1 } else { 0 };
        }
        let ten = 10.0 * percentile(&quiet, 0.5) / 1e3;
        let recovery = (begun.elapsed().as_secs_f64() - ten).max(0.0);
        println!("{}", json!({ "step": "recovery", "after": shape, "seconds": recovery }));
    }
}
