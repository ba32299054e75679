//! One connection: HTTP/1.1 on a socket that is closed when nothing moves on it.
//!
//! The head of a request has its time from its first byte on, an idle connection has another, and a client
//! that reads its answer too slowly a third. (Bodies are watched where they are read.) One timer a
//! connection serves all three: it looks each second, or when the nearest of them is over. A server that
//! closes waits for answers, and hardly for connections on which nothing was asked.

use crate::limits::Limits;
use crate::metrics::Metrics;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower::ServiceExt as _;

/// Longest head of a request in bytes, and what is written ahead of the socket.
const HEAD_BYTES: usize = 64 << 10;
/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a server that closes waits for the head of a request that is on its way.
const FAREWELL: Duration = Duration::from_millis(300);

/// Answers the requests of a connection until it ends, or until the server closes.
pub(crate) async fn serve(
    stream: TcpStream,
    router: Router,
    limits: &Limits,
    metrics: &Metrics,
    mut closing: watch::Receiver<bool>,
) {
    // Answers are whole: there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let pace = Arc::new(Pace::new());
    let io = TokioIo::new(Paced { stream, pace: Arc::clone(&pace) });
    let pace_of_requests = Arc::clone(&pace);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&pace_of_requests));
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_time + limits.head_time)
        .max_buf_size(HEAD_BYTES)
        .max_header_size(HEAD_BYTES)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let mut farewell = None;
    if *closing.borrow() {
        connection.as_mut().graceful_shutdown();
        farewell = Some(Instant::now() + FAREWELL);
    }
    loop {
        let mut next = pace.deadline(limits).min(Instant::now() + LOOK);
        if let Some(farewell) = farewell.filter(|_| !pace.is_owed()) {
            if farewell <= Instant::now() {
                return;
            }
            next = next.min(farewell);
        }
        let look = tokio::time::sleep_until(next.into());
        tokio::select! {
            // A client that breaks off is its own affair.
            _ = connection.as_mut() => return,
            () = look => {
                if pace.deadline(limits) <= Instant::now() {
                    metrics.closed_slow.add(1);
                    return;
                }
            }
            changed = closing.changed(), if farewell.is_none() => {
                if changed.is_err() || *closing.borrow() {
                    connection.as_mut().graceful_shutdown();
                    farewell = Some(Instant::now() + FAREWELL);
                }
            }
        }
    }
}

/// What a connection is doing, and since when.
pub(crate) struct Pace(Mutex<State>);

struct State {
    phase: Phase,
    since: Instant,
    /// The socket takes no more.
    is_stalled: bool,
    /// Since when this is written, and how many bytes of it were.
    window: Option<Instant>,
    written: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A head is on its way.
    Head,
    /// A request is being answered.
    Request,
    /// Nothing is asked.
    Idle,
}

impl Pace {
    fn new() -> Self {
        Self(Mutex::new(State {
            phase: Phase::Head,
            since: Instant::now(),
            is_stalled: false,
            window: None,
            written: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        (state.phase, state.since) = (phase, Instant::now());
    }

    /// The head of a request is complete.
    pub(crate) fn request(&self) {
        self.enter(Phase::Request);
    }

    /// Its answer was handed to the socket.
    pub(crate) fn answered(&self) {
        self.enter(Phase::Idle);
    }

    /// Whether a request is not answered, or its answer not yet sent.
    fn is_owed(&self) -> bool {
        let state = self.lock();
        state.phase == Phase::Request || state.window.is_some()
    }

    fn read(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Idle {
            (state.phase, state.since) = (Phase::Head, Instant::now());
        }
    }

    fn wrote(&self, bytes: usize) {
        let mut state = self.lock();
        state.is_stalled = false;
        state.written += bytes as u64;
        state.window.get_or_insert_with(Instant::now);
    }

    fn stalled(&self) {
        let mut state = self.lock();
        state.is_stalled = true;
        state.window.get_or_insert_with(Instant::now);
    }

    fn flushed(&self) {
        let mut state = self.lock();
        (state.is_stalled, state.window, state.written) = (false, None, 0);
    }

    /// When the connection is to be closed, if nothing happens before.
    fn deadline(&self, limits: &Limits) -> Instant {
        let mut state = self.lock();
        if let (true, Some(window)) = (state.is_stalled, state.window) {
            // A reader that took enough in one window begins the next.
            if state.written as f64 >= limits.least_rate as f64 * limits.body_time.as_secs_f64() {
                (state.window, state.written) = (Some(Instant::now()), 0);
                return Instant::now() + limits.body_time;
            }
            return window + limits.body_time;
        }
        let time = match state.phase {
            Phase::Head => limits.head_time,
            Phase::Idle => limits.idle_time,
            // Requests have a time of their own; this only looks again.
            Phase::Request => return Instant::now() + limits.request_time,
        };
        state.since + time
    }
}

/// A socket that notes what moves on it.
struct Paced {
    stream: TcpStream,
    pace: Arc<Pace>,
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.pace.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl Paced {
    fn note(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Ready(Ok(bytes)) => self.pace.wrote(*bytes),
            Poll::Pending => self.pace.stalled(),
            Poll::Ready(Err(_)) => {}
        }
        result
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(result, Poll::Ready(Ok(()))) {
            // Hyper flushes when everything was written.
            self.pace.flushed();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
