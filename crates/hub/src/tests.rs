//! The Hub and the cache against a server that plays a Hub and its store of large files.

mod cache;
mod download;
mod refusals;
mod resume;
mod server;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Error, Hub, HubConfig, Progress, RepoId, Snapshot};
use server::FakeHub;

const TOKEN: &str = "hf_SecretTokenOfTheTests";

/// A server, an empty cache, and a client of both that never sleeps.
struct Setting {
    server: FakeHub,
    dir: TempDir,
    hub: Hub,
    /// What the client wanted to sleep.
    naps: Arc<Mutex<Vec<Duration>>>,
}

impl Setting {
    fn new(server: FakeHub) -> Self {
        Self::with(server, |_| {})
    }

    fn with(server: FakeHub, change: impl FnOnce(&mut HubConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = HubConfig::new(dir.path().join("hub"));
        config.endpoint = server.endpoint();
        config.token = Some(TOKEN.to_owned());
        // Long enough that no test meets it unless it wants to.
        config.timeout = Duration::from_secs(60);
        change(&mut config);
        let mut hub = Hub::new(config).unwrap();
        let naps = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&naps);
        hub.client.set_sleep(move |nap| log.lock().unwrap().push(nap));
        Self { server, dir, hub, naps }
    }

    /// Downloads everything of `main`.
    fn download(&self) -> Result<Snapshot, Error> {
        self.download_at("main")
    }

    fn download_at(&self, revision: &str) -> Result<Snapshot, Error> {
        self.hub.download(&repo(), revision, &|_| true, &mut |_| {})
    }

    /// The error of a download, checked to keep the token to itself.
    fn refusal(&self) -> Error {
        let error = self.download().expect_err("a refusal");
        assert_keeps_the_token(&error);
        error
    }

    /// A path below `models--org--name`.
    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("hub/models--org--name").join(below)
    }

    fn incomplete(&self) -> Vec<PathBuf> {
        let blobs = std::fs::read_dir(self.path("blobs")).unwrap();
        let paths = blobs.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|e| e == "incomplete")).collect()
    }

    fn naps_secs(&self) -> Vec<u64> {
        self.naps.lock().unwrap().iter().map(Duration::as_secs).collect()
    }
}

fn repo() -> RepoId {
    "org/name".parse().unwrap()
}

fn assert_keeps_the_token(error: &Error) {
    use altclip_report::Diagnose;
    let report = error.report();
    assert!(!report.help.is_empty(), "{error:?} has no help");
    let mut said = format!("{error} {error:?} {report} {report:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        said += &format!("{cause} {cause:?}");
        source = cause.source();
    }
    assert!(!said.contains("SecretToken"), "the token is in {said}");
}

fn code(error: &Error) -> &'static str {
    error.code().as_str()
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

/// Bytes that do not repeat within any buffer size.
fn noise(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    (0..bytes).map(next).collect()
}

/// The events of a download, as short texts.
fn events(setting: &Setting) -> Vec<String> {
    let mut events = Vec::new();
    let mut note = |event: Progress<'_>| match event {
        Progress::Advanced { .. } => {}
        event => events.push(format!("{event:?}")),
    };
    setting.hub.download(&repo(), "main", &|_| true, &mut note).unwrap();
    events
}
