//! `altclip serve`: what it says when it is ready, how it ends, and that it outlives its files.

use crate::support::child::{ALTCLIP, altclip};
use crate::support::folder::Folder;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
        let body = body.to_string();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
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
    let none = altclip(["serve", "--port", "0"]).without_env("ALTCLIP_MODEL").go();
    assert_eq!(none.status, Some(2));
}
