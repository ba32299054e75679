//! A small HTTP server that plays the Hub on one port and its store of large files on another.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::{Digest, Sha1};
use sha2::Sha256;

/// The commits that the server knows.
pub(super) const COMMIT: &str = "1111111111111111111111111111111111111111";
pub(super) const COMMIT_2: &str = "2222222222222222222222222222222222222222";

/// Which of the two ports a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Port {
    Hub,
    Store,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) port: Port,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
    /// How many requests of this method and path came before.
    pub(super) nth: usize,
}

impl Request {
    pub(super) fn range_start(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }

    /// Whether the bytes of a large file are asked for.
    pub(super) fn is_large_get(&self) -> bool {
        self.port == Port::Store && self.method == "GET"
    }

    pub(super) fn is_info(&self) -> bool {
        self.path.starts_with("/api/")
    }
}

/// A way to answer otherwise than a good server does.
pub(super) enum Act {
    /// This status, these header lines, this body.
    Answer(u16, Vec<String>, Vec<u8>),
    /// The good answer, cut off after some bytes of its body.
    Cut(usize),
    /// The good answer, silent after some bytes of its body.
    Stall(usize),
    /// The good answer in pieces of this many bytes, with pauses.
    Trickle(usize, Duration),
    /// The whole file with status 200, whatever range was asked for.
    IgnoreRange,
    /// Header lines instead of those of the good answer to a HEAD.
    Head(Vec<String>),
}

type Script = dyn Fn(&Request) -> Option<Act> + Send + Sync;

#[derive(Clone)]
pub(super) struct FakeFile {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) large: bool,
}

pub(super) fn small(name: &str, bytes: impl Into<Vec<u8>>) -> FakeFile {
    FakeFile { name: name.to_owned(), bytes: bytes.into(), large: false }
}

pub(super) fn large(name: &str, bytes: impl Into<Vec<u8>>) -> FakeFile {
    FakeFile { name: name.to_owned(), bytes: bytes.into(), large: true }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl FakeFile {
    pub(super) fn checksum(&self) -> String {
        if self.large {
            return hex(&Sha256::digest(&self.bytes));
        }
        let head = format!("blob {}\0", self.bytes.len());
        hex(&Sha1::new().chain_update(head).chain_update(&self.bytes).finalize())
    }
}

struct State {
    files: Mutex<Vec<FakeFile>>,
    /// What `main` stands for.
    main: Mutex<String>,
    /// Whether the listing has sizes and checksums.
    detailed: bool,
    /// Added to the listing.
    extra: String,
    script: Box<Script>,
    log: Mutex<Vec<Request>>,
    store: SocketAddr,
}

pub(super) struct FakeHub {
    hub: SocketAddr,
    state: Arc<State>,
}

impl FakeHub {
    /// A Hub with one repository, `org/name`.
    pub(super) fn new(files: Vec<FakeFile>) -> Self {
        Self::with_script(files, |_| None)
    }

    /// The same, with a script for its misbehaviour.
    pub(super) fn with_script(
        files: Vec<FakeFile>,
        script: impl Fn(&Request) -> Option<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::start(files, true, r#","gated":false,"cardData":{"license":"mit"}"#, script)
    }

    pub(super) fn start(
        files: Vec<FakeFile>,
        detailed: bool,
        extra: &str,
        script: impl Fn(&Request) -> Option<Act> + Send + Sync + 'static,
    ) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (hub, store) = (listen(), listen());
        let state = Arc::new(State {
            files: Mutex::new(files),
            main: Mutex::new(COMMIT.to_owned()),
            detailed,
            extra: extra.to_owned(),
            script: Box::new(script),
            log: Mutex::default(),
            store: store.local_addr().unwrap(),
        });
        let address = hub.local_addr().unwrap();
        for (port, listener) in [(Port::Hub, hub), (Port::Store, store)] {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || state.serve(port, stream.unwrap()));
                }
            });
        }
        Self { hub: address, state }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.hub)
    }

    /// A new commit on `main`.
    pub(super) fn push(&self, commit: &str, files: Vec<FakeFile>) {
        *self.state.files.lock().unwrap() = files;
        *self.state.main.lock().unwrap() = commit.to_owned();
    }

    /// The requests since the last call.
    pub(super) fn take_log(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.log.lock().unwrap())
    }
}

impl State {
    fn serve(&self, port: Port, stream: TcpStream) {
        let Some(request) = self.read_request(port, &stream) else { return };
        let act = (self.script)(&request);
        // A client that hangs up is none of the server's business.
        let _ = match act {
            Some(Act::Answer(status, headers, body)) => {
                send(&stream, status, &headers, &body, request.method == "HEAD")
            }
            act => self.answer(&request, &stream, act),
        };
    }

    fn read_request(&self, port: Port, stream: &TcpStream) -> Option<Request> {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let first = lines.next()?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let headers = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let mut log = self.log.lock().unwrap();
        let nth = log.iter().filter(|r| r.method == method && r.path == path).count();
        let request = Request { port, method, path, headers, nth };
        log.push(request.clone());
        Some(request)
    }

    fn answer(
        &self,
        request: &Request,
        stream: &TcpStream,
        act: Option<Act>,
    ) -> std::io::Result<()> {
        let head = request.method == "HEAD";
        let files = self.files.lock().unwrap().clone();
        let path = request.path.as_str();
        let main = self.main.lock().unwrap().clone();
        if let Some(revision) = path.strip_prefix("/api/models/org/name/revision/") {
            let revision = revision.strip_suffix("?blobs=true").unwrap_or(revision);
            return match revision {
                "main" | "v1.0" | "refs%2Fpr%2F8" => self.info(stream, &files, &main),
                _ if revision == main => self.info(stream, &files, &main),
                _ => error(stream, 404, "RevisionNotFound", head),
            };
        }
        if let Some(name) = path.strip_prefix(&format!("/org/name/resolve/{main}/")) {
            let Some(file) = files.iter().find(|file| file.name == name) else {
                return error(stream, 404, "EntryNotFound", head);
            };
            let checksum = file.checksum();
            let mut headers = vec![format!("X-Repo-Commit: {main}")];
            if !file.large {
                headers.push(format!("ETag: \"{checksum}\""));
                return self.file(request, stream, file, headers, act);
            }
            if let Some(Act::Head(other)) = act {
                headers.extend(other);
            } else {
                headers.push(format!("X-Linked-Etag: \"{checksum}\""));
                headers.push(format!("X-Linked-Size: {}", file.bytes.len()));
            }
            headers.push(format!("Location: http://{}/{checksum}?signature=s3cr3t", self.store));
            return send(stream, 302, &headers, b"", head);
        }
        let stored = path.trim_start_matches('/').split('?').next().unwrap_or_default();
        match files.iter().find(|file| request.port == Port::Store && file.checksum() == stored) {
            // The store's own tag has nothing to do with the checksum.
            Some(file) => {
                self.file(request, stream, file, vec!["ETag: \"s3-multi-part\"".to_owned()], act)
            }
            None => error(stream, 404, "RepoNotFound", head),
        }
    }

    fn info(&self, stream: &TcpStream, files: &[FakeFile], commit: &str) -> std::io::Result<()> {
        let sibling = |file: &FakeFile| {
            let name = serde_json::to_string(&file.name).unwrap();
            let (size, checksum) = (file.bytes.len(), file.checksum());
            if !self.detailed {
                format!(r#"{{"rfilename":{name}}}"#)
            } else if file.large {
                format!(
                    r#"{{"rfilename":{name},"size":{size},"blobId":"{}","lfs":{{"sha256":"{checksum}","size":{size},"pointerSize":135}}}}"#,
                    "9".repeat(40)
                )
            } else {
                format!(r#"{{"rfilename":{name},"size":{size},"blobId":"{checksum}"}}"#)
            }
        };
        let siblings: Vec<String> = files.iter().map(sibling).collect();
        let json = format!(
            r#"{{"id":"org/name","sha":"{commit}","siblings":[{}]{}}}"#,
            siblings.join(","),
            self.extra
        );
        send(stream, 200, &["Content-Type: application/json".to_owned()], json.as_bytes(), false)
    }

    fn file(
        &self,
        request: &Request,
        mut stream: &TcpStream,
        file: &FakeFile,
        mut headers: Vec<String>,
        act: Option<Act>,
    ) -> std::io::Result<()> {
        let total = file.bytes.len();
        let start = match (&act, request.range_start()) {
            (Some(Act::IgnoreRange), _) | (_, None) => 0,
            (_, Some(start)) if start >= total => {
                headers.push(format!("Content-Range: bytes */{total}"));
                return send(stream, 416, &headers, b"", false);
            }
            (_, Some(start)) => {
                headers.push(format!("Content-Range: bytes {start}-{}/{total}", total - 1));
                start
            }
        };
        let status = if start > 0 { 206 } else { 200 };
        let body = &file.bytes[start..];
        let head = request.method == "HEAD";
        if head || !matches!(act, Some(Act::Cut(_) | Act::Stall(_) | Act::Trickle(..))) {
            return send(stream, status, &headers, body, head);
        }
        headers.push(format!("Content-Length: {}", body.len()));
        stream.write_all(head_text(status, &headers).as_bytes())?;
        match act {
            Some(Act::Cut(n)) => stream.write_all(&body[..n]),
            Some(Act::Stall(n)) => {
                stream.write_all(&body[..n])?;
                // Holds the connection open until the client gives up.
                stream.read(&mut [0]).map(drop)
            }
            Some(Act::Trickle(n, pause)) => body.chunks(n).try_for_each(|piece| {
                std::thread::sleep(pause);
                stream.write_all(piece)
            }),
            _ => Ok(()),
        }
    }
}

fn head_text(status: u16, headers: &[String]) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n{lines}\r\n")
}

fn send(
    mut stream: &TcpStream,
    status: u16,
    headers: &[String],
    body: &[u8],
    head: bool,
) -> std::io::Result<()> {
    let mut headers = headers.to_vec();
    if !headers.iter().any(|line| line.starts_with("Transfer-Encoding")) {
        headers.push(format!("Content-Length: {}", body.len()));
    }
    stream.write_all(head_text(status, &headers).as_bytes())?;
    if head { Ok(()) } else { stream.write_all(body) }
}

fn error(stream: &TcpStream, status: u16, code: &str, head: bool) -> std::io::Result<()> {
    send(stream, status, &[format!("X-Error-Code: {code}")], b"{}", head)
}

/// A refusal as the Hub words it.
pub(super) fn refuse(status: u16, code: &str) -> Act {
    let headers = if code.is_empty() { vec![] } else { vec![format!("X-Error-Code: {code}")] };
    Act::Answer(status, headers, b"{\"error\":\"no\"}".to_vec())
}
