//! The way of every request: its route, its checks, its handler, its answer; and what is noted of it.

use crate::allowance::Held;
use crate::app::App;
use crate::call::Call;
use crate::connection::Pace;
use crate::dialect::Dialect;
use crate::host;
use crate::routes::{Modality, Route, choose};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde_json::json;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Bytes of an answer that are handed to the socket at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Longest id of a request that is taken over from a client.
const MAX_ID_BYTES: usize = 64;

pub(crate) async fn dispatch(
    app: Arc<App>,
    routes: Arc<Vec<Arc<Route>>>,
    request: Request,
) -> Response {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let held = Arc::new(Mutex::new(app.in_flight.none()));
    let pace = parts.extensions.get::<Arc<Pace>>().cloned();
    let id = request_id(&app, &parts.headers);
    let chosen = choose(&routes, parts.method.as_str(), &path);
    let route = chosen.as_ref().map_or("", |route| route.path);
    let chosen = host::check(&parts).and(chosen);
    let mut trace = Trace::new(&app, route, id, begun, Arc::clone(&held), pace);
    let answer = match chosen {
        Err(fault) => Err(fault),
        Ok(route) => match Call::read(&app, route, parts, body, &held, begun).await {
            Err(fault) => Err(fault),
            Ok(call) => {
                let deadline = call.deadline;
                let answer = (route.handler)(Arc::clone(&app), call);
                crate::embed::in_time(deadline, answer).await.and_then(|answer| answer)
            }
        },
    };
    let mut response = match answer {
        Ok(response) => response,
        Err(fault) => {
            trace.code = Some(fault.report.code.as_str());
            Dialect::of(method.as_str(), &path).render(&fault)
        }
    };
    trace.status = response.status().as_u16();
    trace.modality = response.extensions().get::<Modality>().map_or("none", |modality| modality.0);
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&trace.id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let no_store = HeaderValue::from_static("no-store");
    headers.entry(header::CACHE_CONTROL).or_insert(no_store);
    if app.health.is_draining() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    traced(response, trace).await
}

/// The id that a client gave, if it is harmless, else a new one.
fn request_id(app: &App, headers: &HeaderMap) -> String {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_plain = |id: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(plain)
    };
    match given.filter(is_plain) {
        Some(id) => id.to_owned(),
        None => {
            let number = app.numbers.fetch_add(1, Ordering::Relaxed);
            format!("{:08x}-{number}", std::process::id())
        }
    }
}

/// A request until its answer is sent, or its client has gone: then it is noted.
struct Trace {
    app: Arc<App>,
    route: &'static str,
    id: String,
    begun: Instant,
    status: u16,
    code: Option<&'static str>,
    modality: &'static str,
    sent: bool,
    requests: Arc<AtomicUsize>,
    pace: Option<Arc<Pace>>,
    /// Bytes of the body and of the answer.
    _held: Arc<Mutex<Held>>,
}

impl Trace {
    fn new(
        app: &Arc<App>,
        route: &'static str,
        id: String,
        begun: Instant,
        held: Arc<Mutex<Held>>,
        pace: Option<Arc<Pace>>,
    ) -> Self {
        let requests = Arc::clone(&app.requests);
        requests.fetch_add(1, Ordering::AcqRel);
        if let Some(pace) = &pace {
            pace.request();
        }
        Self {
            app: Arc::clone(app),
            route,
            id,
            begun,
            status: 0,
            code: None,
            modality: "none",
            sent: false,
            requests,
            pace,
            _held: held,
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let metrics = &self.app.metrics;
        if self.status == 0 {
            metrics.cancelled.add(1);
        } else {
            metrics.request(self.route, self.modality, self.status);
            metrics.request_seconds.observe(seconds);
        }
        if let Some(pace) = &self.pace {
            pace.answered();
        }
        let level = if self.status >= 500 && self.status != 503 { "error" } else { "info" };
        self.app.log.line(
            level,
            "request",
            json!({
                "id": self.id,
                "route": self.route,
                "status": self.status,
                "code": self.code,
                "ms": (seconds * 1e6).round() / 1e3,
                "complete": self.sent,
            }),
        );
        self.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The answer in pieces, so that what it holds is given back when it is sent and not before.
async fn traced(response: Response, mut trace: Trace) -> Response {
    let (parts, body) = response.into_parts();
    // Every answer of this server is whole in memory.
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    trace.sent = bytes.is_empty();
    Response::from_parts(parts, Body::new(Sent { bytes, trace }))
}

struct Sent {
    bytes: Bytes,
    trace: Trace,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.bytes.is_empty() {
            self.trace.sent = true;
            return Poll::Ready(None);
        }
        let length = self.bytes.len().min(CHUNK_BYTES);
        let chunk = self.bytes.split_to(length);
        self.trace.sent = self.bytes.is_empty();
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
