//! What all requests share.

use crate::allowance::Allowance;
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::fault::Fault;
use crate::health::{Health, Verdict};
use crate::keys::Keys;
use crate::limits::Limits;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::threads::Threads;
use altclip_report::{Code, Report, quote};
use axum::http::{HeaderMap, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a forward may take that only tells whether the engine answers.
const CANARY: Duration = Duration::from_millis(1500);

pub(crate) struct App {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) queue: Arc<Queue>,
    /// Tokenize and decode.
    pub(crate) preparers: Threads,
    /// Look into the index and at pictures.
    pub(crate) readers: Threads,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) keys: Keys,
    pub(crate) limits: Limits,
    /// Bytes of bodies and answers.
    pub(crate) in_flight: Allowance,
    /// Bytes of pictures that are being decoded.
    pub(crate) decoding: Allowance,
    pub(crate) catalog: Option<Arc<Catalog>>,
    pub(crate) log: Log,
    pub(crate) numbers: AtomicU64,
    pub(crate) requests: Arc<AtomicUsize>,
    /// Requests for work that were taken and are not answered.
    pub(crate) work: Arc<AtomicUsize>,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) memory_bound: u64,
    /// Threads that tokenize and decode.
    pub(crate) threads: usize,
    /// Names under which this machine may be asked; empty: any.
    pub(crate) hosts: Vec<String>,
}

impl App {
    /// Counts a request for work, unless the server takes none any more.
    pub(crate) fn take_work(&self) -> Result<Work, Fault> {
        // Counted before the look: a server that stops either sees it or is seen by it.
        self.work.fetch_add(1, Ordering::AcqRel);
        let work = Work(Arc::clone(&self.work));
        if self.health.is_draining() {
            let report = Report::new(Code::E8103, "server", "the server is stopping")
                .help("ask another replica");
            return Err(Fault::not_ready(report));
        }
        Ok(work)
    }

    /// A page of another site must not reach a server on this machine under a name of its own (DNS
    /// rebinding). A server that asks for a key needs no such guard.
    pub(crate) fn check_host(&self, host: &str, headers: &HeaderMap) -> Result<(), Fault> {
        if self.hosts.is_empty() || self.keys.are_asked_for() {
            return Ok(());
        }
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        if host.is_empty() || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return check_origin(headers, host);
        }
        let report = Report::new(Code::E8006, "server", "the request is for another host")
            .got(quote(host))
            .expected(self.hosts.join(", "))
            .help("set a key to serve under other names");
        Err(Fault::new(StatusCode::FORBIDDEN, report))
    }

    /// Whether the engine answers: it did a moment ago, or it does now.
    pub(crate) async fn ready(&self) -> Result<(), Fault> {
        match self.health.verdict(&self.queue) {
            Verdict::Ready => return Ok(()),
            Verdict::NotReady(report) => return Err(Fault::not_ready(report)),
            Verdict::Unknown => {}
        }
        let time = self.queue.slowest_batch().map_or(CANARY, |time| CANARY.max(time * 4));
        let answered = crate::embed::canary(self, Instant::now() + time);
        match tokio::time::timeout(time, answered).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(Fault::not_ready(fault.report)),
            Err(_) => {
                let report = Report::new(Code::E8202, "server", "the engine does not answer")
                    .help("ask another replica, or again in a moment");
                Err(Fault::not_ready(report))
            }
        }
    }
}

/// Work that was taken, until it is done.
pub(crate) struct Work(Arc<AtomicUsize>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a browser sends for a page of another site is refused; programs send neither header.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Fault> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("null"));
    let origin = text("origin").filter(|origin| {
        let own = origin.split_once("://").map_or(*origin, |(_, own)| own);
        !own.eq_ignore_ascii_case(host)
    });
    // A link to the page is followed from anywhere.
    let navigates = text("sec-fetch-mode") == Some("navigate");
    let site = text("sec-fetch-site").filter(|site| *site == "cross-site" && !navigates);
    let Some(found) = origin.or(site) else { return Ok(()) };
    let report = Report::new(Code::E8006, "server", "the request is of a page of another site")
        .got(quote(found))
        .expected("a page of this server, or a program")
        .help("set a key to serve pages of other sites");
    Err(Fault::new(StatusCode::FORBIDDEN, report))
}
