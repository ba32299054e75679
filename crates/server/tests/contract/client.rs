//! A server on a free port, and a client of few words.

use altclip_server::{Engine, Error, Server, Setup, StubEngine};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// A client waits no longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that runs until this is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Running {
    /// With hardly a grace at its end, which most tests have no use for.
    pub(crate) fn start(mut setup: Setup) -> Self {
        setup.limits.drain_grace = Duration::from_millis(20);
        Self::start_as_it_is(setup)
    }

    pub(crate) fn start_as_it_is(setup: Setup) -> Self {
        let server = Server::start(setup).unwrap();
        let (address, stop) = (server.address(), Arc::new(AtomicBool::new(false)));
        let wished = Arc::clone(&stop);
        let run = move || server.run_until(|| wished.load(Ordering::Acquire));
        Self { address, stop, thread: Some(std::thread::spawn(run)) }
    }

    /// A stub with this time for each batch.
    pub(crate) fn stub(batch: Duration) -> Self {
        Self::start(Setup::new(Arc::new(StubEngine::new(4, batch))))
    }

    pub(crate) fn wish_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// What the server said when it ended.
    pub(crate) fn end(mut self) -> Result<(), Error> {
        self.wish_stop();
        self.thread.take().unwrap().join().unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(path, &[], body)
    }

    pub(crate) fn send(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        let headers: Vec<_> = json.iter().chain(headers).copied().collect();
        request(self.address, "POST", path, &headers, body.to_string().as_bytes())
    }

    /// The value of a line of `/metrics`.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let text = self.get("/metrics").text();
        let found = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no {line} in\n{text}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.wish_stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The miniature, loaded once for all tests.
pub(crate) fn nano() -> Arc<dyn Engine> {
    static NANO: OnceLock<Arc<dyn Engine>> = OnceLock::new();
    Arc::clone(NANO.get_or_init(|| {
        let cache = std::env::temp_dir().join("altclip-server-tests");
        let folder = altclip_nano::folder(&cache).unwrap();
        let mut options = altclip::LoadOptions::default();
        options.own_memory = true;
        let model = altclip::Model::load(&folder, &options).unwrap();
        Arc::new(altclip_server::ModelEngine::new(Arc::new(model), "nano", None).unwrap())
    }))
}

/// A picture of the miniature as base64.
pub(crate) fn picture(name: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(picture_bytes(name))
}

pub(crate) fn picture_bytes(name: &str) -> &'static [u8] {
    let found = altclip_nano::PICTURES.iter().find(|(file, _)| *file == format!("{name}.png"));
    found.unwrap().1
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A number that whoever runs the tests may ask for.
pub(crate) fn asked_for(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |number| number.parse().unwrap())
}

/// The bytes of a request.
pub(crate) fn post_bytes(path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// One request on a connection of its own.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = connect(address);
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if method == "POST" || !body.is_empty() {
        head += &format!("content-length: {}\r\n", body.len());
    }
    raw(&mut stream, format!("{head}\r\n").as_bytes(), body)
}

/// What comes back for these bytes, until the server closes.
pub(crate) fn raw(stream: &mut TcpStream, head: &[u8], body: &[u8]) -> Answer {
    // A server that refuses the head may not read the body.
    let _ = stream.write_all(head).and_then(|()| stream.write_all(body));
    rest(stream)
}

pub(crate) fn rest(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let mut block = [0; 1 << 14];
    loop {
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&block[..n]),
            // It closed with bytes of ours unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&bytes)),
        }
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else { return Answer { status: 0, head: String::new(), body: bytes } };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}
