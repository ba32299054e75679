//! `altclip serve`: what it says when it is ready, how it ends, what it needs at most, and that it outlives its files.
//! `ALTCLIP_SIGNALS=100 ALTCLIP_LOAD_SECONDS=60 ALTCLIP_CONNECTIONS=4000` for more of it.

use crate::support::child::{ALTCLIP, altclip};
use crate::support::folder::{Folder, golden_bytes};
use crate::support::picture::png_raw;
use serde_json::{Value, json};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn asked_for(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |number| number.parse().unwrap())
}

/// A server in a process of its own.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn new(args: &[&str]) -> Self {
        let mut command = Command::new(ALTCLIP);
        command.args(["serve", "--port", "0", "--threads", "2", "--quiet"]).args(args);
        command.env_remove("ALTCLIP_API_KEY").env_remove("ALTCLIP_MODEL");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let address = ready["listening"].as_str().unwrap().strip_prefix("http://").unwrap();
        let address = address.to_owned();
        Self { child, address }
    }

    fn post(&self, path: &str, body: &Value) -> (u16, String) {
        self.ask("POST", path, &body.to_string()).unwrap()
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "").unwrap()
    }

    /// Status and body of an answer; an error where the connection breaks off.
    fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(40)))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
    }

    /// Bytes of the process in memory: a line of `/proc`.
    #[cfg(target_os = "linux")]
    fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let kib = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
        kib.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// The status with which it ends, and how long that takes.
    fn ends(mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        let status = self.child.wait().unwrap();
        (status.code(), begun.elapsed())
    }
}

#[test]
fn a_signal_ends_it_with_0_and_a_second_one_at_once() {
    for signal in ["TERM", "INT"] {
        let served = Served::new(&["--stub-ms", "1"]);
        assert_eq!(served.post("/embed", &json!({ "inputs": "a" })).0, 200);
        served.signal(signal);
        let (status, time) = served.ends();
        assert_eq!(status, Some(0));
        assert!(time < Duration::from_secs(10), "{time:?}");
    }
    let served = Served::new(&["--stub-ms", "5000"]);
    std::thread::scope(|scope| {
        // Holds it up: it answers what it accepted.
        scope.spawn(|| {
            let mut stream = TcpStream::connect(&served.address).unwrap();
            let body = r#"{"inputs":"a"}"#;
            let head = format!("POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        std::thread::sleep(Duration::from_millis(300));
        served.signal("TERM");
        std::thread::sleep(Duration::from_millis(300));
        served.signal("TERM");
    });
    let (status, time) = served.ends();
    assert_eq!(status, Some(143));
    assert!(time < Duration::from_secs(2), "{time:?}");
}

/// Clients that go elsewhere once they are told never meet a connection that breaks off or is refused.
#[test]
fn signals_under_load_lose_nothing() {
    let signals = asked_for("ALTCLIP_SIGNALS", 3);
    let (answered, mut slowest) = (AtomicU64::new(0), Duration::ZERO);
    for round in 0..signals {
        let served = Served::new(&["--stub-ms", "5"]);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    loop {
                        match served.post("/embed", &json!({ "inputs": ["a", "b"] })) {
                            (200, _) => answered.fetch_add(1, Ordering::Relaxed),
                            (503, body) if body.contains("E8103") => break,
                            other => panic!("{other:?}"),
                        };
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(100 + 7 * (round % 10)));
            served.signal("TERM");
            let begun = Instant::now();
            while served.get("/readyz").0 == 200 {
                assert!(begun.elapsed() < Duration::from_secs(1));
            }
        });
        let (status, time) = served.ends();
        assert_eq!(status, Some(0), "{round}");
        slowest = slowest.max(time);
    }
    println!(
        "{signals} signals, {} answers, ended {slowest:?} later at most",
        answered.into_inner()
    );
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}

/// 64 million pixels in 8 MB.
fn large_picture() -> String {
    use std::fmt::Write as _;
    let (side, row) = (8000u32, 1001);
    let png = png_raw(side, side, 1, 0, &vec![0; row * side as usize]);
    let mut base64 = String::new();
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in png.chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for n in 0..=three.len() {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize];
            base64.write_char(char::from(digit)).unwrap();
        }
    }
    base64
}

#[cfg(target_os = "linux")]
#[test]
fn memory_stays_below_what_was_said() {
    let time = Duration::from_secs(asked_for("ALTCLIP_LOAD_SECONDS", 3));
    let served = Served::new(&["--model", "nano"]);
    let limits: Value = serde_json::from_str(&served.get("/v1/limits").1).unwrap();
    let bound = limits["memory_bound_bytes"].as_u64().unwrap();
    let before = served.memory("VmRSS:");
    let held: Vec<TcpStream> = (0..asked_for("ALTCLIP_CONNECTIONS", 200))
        .map(|_| TcpStream::connect(&served.address).unwrap())
        .collect();
    let picture = json!({ "modality": "image", "input": [large_picture()] }).to_string();
    let texts = json!({ "inputs": vec!["y ".repeat(32_000); 400] }).to_string();
    let numbers = format!("{{\"inputs\": [{}1]}}", "1,".repeat(12 << 20));
    let [answered, refused, broken] = [(); 3].map(|()| AtomicU64::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..24 {
            let (path, body) = [
                ("/v1/embeddings", &picture),
                ("/embed", &texts),
                ("/v1/embeddings", &picture),
                ("/embed", &numbers),
            ][n % 4];
            let (served, counts) = (&served, [&answered, &refused, &broken]);
            scope.spawn(move || {
                while begun.elapsed() < time {
                    // Who is refused while it still sends may see no more than that.
                    let count = match served.ask("POST", path, body) {
                        Ok((200, _)) => 0,
                        Ok((400 | 503 | 504, _)) => 1,
                        Ok(other) => panic!("{other:?}"),
                        Err(_) => 2,
                    };
                    counts[count].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let most = served.memory("VmHWM:");
    let [answered, refused, broken] = [answered, refused, broken].map(AtomicU64::into_inner);
    println!(
        "{answered} answered, {refused} refused, {broken} broken off; {} MiB before, {} at most, {} said",
        before >> 20,
        most >> 20,
        bound >> 20
    );
    assert!(answered > 0 && refused + broken > 0);
    assert!(most <= bound, "{most} of {bound}");
    // It was a load.
    assert!(most > before + (128 << 20), "{most}, {before} before");
    drop(held);
    served.signal("TERM");
    assert_eq!(served.ends().0, Some(0));
}

#[test]
fn the_miniature_tells_its_languages() {
    let served = Served::new(&["--model", "nano"]);
    let info: Value = serde_json::from_str(&served.get("/info").1).unwrap();
    let languages = info["languages"].as_array().unwrap();
    assert_eq!(languages.len(), 9);
    assert!(["en", "zh", "ru", "ar"].iter().all(|language| languages.contains(&json!(language))));
    served.signal("TERM");
    assert_eq!(served.ends().0, Some(0));
}

#[test]
fn files_that_change_under_it_harm_nothing() {
    let folder = Folder::new("alt_l");
    let dir = folder.dir().to_string_lossy().into_owned();
    let packed = folder.dir().join("packed.altclip");
    let out = packed.to_string_lossy().into_owned();
    altclip(["convert", "--model", &dir, "--precision", "int8", "--out", &out]).ok();
    for (model, file) in [(&out, &packed), (&dir, &folder.dir().join("model.safetensors"))] {
        let served = Served::new(&["--model", model]);
        let body = json!({ "inputs": ["一只猫", "a dog"] });
        let before = served.post("/embed", &body);
        assert_eq!(before.0, 200, "{}", before.1);
        std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(0).unwrap();
        let other = served.post("/embed", &json!({ "inputs": "words that were not read before" }));
        assert_eq!(other.0, 200, "{}", other.1);
        assert_eq!(served.post("/embed", &body), before);
        served.signal("TERM");
        assert_eq!(served.ends().0, Some(0));
    }
}

#[test]
fn what_keeps_it_from_starting_has_its_status() {
    let code = |args: &[&str]| {
        let args = ["serve", "--stub-ms", "1", "--error-format", "json"].iter().chain(args);
        let outcome = altclip(args).go();
        let line: Value = serde_json::from_str(outcome.stderr.lines().last().unwrap()).unwrap();
        (outcome.status, line["code"].as_str().unwrap().to_owned())
    };
    let served = Served::new(&["--stub-ms", "1"]);
    let port = served.address.rsplit(':').next().unwrap();
    assert_eq!(code(&["--port", port]), (Some(2), "E8401".into()));
    assert_eq!(
        code(&["--port", "0", "--host", "192.0.2.1", "--api-key", "k"]),
        (Some(2), "E8402".into())
    );
    assert_eq!(code(&["--port", "0", "--host", "0.0.0.0"]), (Some(2), "E8403".into()));
    let large = ["--port", "0", "--in-flight-mib", "65536", "--decode-mib", "65536"];
    assert_eq!(code(&large), (Some(6), "E8404".into()));
    assert_eq!(code(&["--port", "0", "--api-key-file", "/nothing"]), (Some(2), "E8003".into()));
    assert_eq!(code(&["--port", "0", "--index", "/nothing"]), (Some(5), "E7011".into()));
    served.signal("TERM");
    assert_eq!(served.ends().0, Some(0));
    // A Wukong compares token by token.
    let folder = tempfile::tempdir().unwrap();
    for (from, name) in [
        ("families/wukong/wukong_tiny.pth", "wukong_tiny.pth"),
        ("tokenizer_bert/vocab.txt", "vocab.txt"),
    ] {
        std::fs::write(folder.path().join(name), golden_bytes(from)).unwrap();
    }
    let dir = folder.path().to_string_lossy();
    let wukong = altclip(["serve", "--port", "0", "--model", &dir]).go();
    assert_eq!(wukong.status, Some(4), "{}", wukong.stderr);
    assert!(wukong.stderr.contains("error[E8405]"), "{}", wukong.stderr);
    let none = altclip(["serve", "--port", "0"]).without_env("ALTCLIP_MODEL").go();
    assert_eq!(none.status, Some(2));
}
