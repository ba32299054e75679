//! The server as a whole: started, its own accept loop, and the way it stops.

use crate::allowance::Allowance;
use crate::app::App;
use crate::call::COPIES;
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::keys::{KeySource, Keys};
use crate::limits::Limits;
use crate::log::Log;
use crate::queue::Queue;
use crate::threads::Threads;
use crate::worker::Worker;
use crate::{Error, connection, memory, routes};
use axum::Router;
use serde_json::json;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Connections that the system keeps until they are accepted.
const BACKLOG: u32 = 1024;
/// How long the accept loop rests when the system has no more sockets.
const REST: Duration = Duration::from_millis(50);
/// Longest wait for the first forward.
const FIRST: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// How long the end waits for a log that nobody reads.
const FLUSH: Duration = Duration::from_millis(200);
/// Threads of the sockets at most.
const SOCKET_THREADS: usize = 4;
/// Threads that look into the index and at pictures.
const READERS: usize = 2;
/// Most pieces of work that wait for the threads that prepare, and that read.
const PREPARE_LINE: usize = 16 << 10;
const READ_LINE: usize = 256;

/// What a server is started with.
#[derive(Clone)]
#[non_exhaustive]
pub struct Setup {
    /// What computes.
    pub engine: Arc<dyn Engine>,
    /// The folder of an index whose model that is.
    pub index: Option<PathBuf>,
    /// The address to listen on.
    pub host: String,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// Who may ask.
    pub keys: KeySource,
    /// Listen where other machines reach it although no key is asked for.
    pub insecure_no_auth: bool,
    /// What may be asked.
    pub limits: Limits,
    /// Threads that tokenize and decode.
    pub threads: usize,
    /// Where log lines go.
    pub log: Log,
}

impl Setup {
    /// An engine on a free port of this machine, with the defaults of everything else.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self {
            engine,
            index: None,
            host: "127.0.0.1".into(),
            port: 0,
            keys: KeySource::default(),
            insecure_no_auth: false,
            limits: Limits::default(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            log: Log::default(),
        }
    }
}

/// A server that answers.
pub struct Server {
    app: Arc<App>,
    address: SocketAddr,
    runtime: Runtime,
    worker: JoinHandle<()>,
    accepting: watch::Sender<bool>,
    closing: watch::Sender<bool>,
    accept: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Listens, and answers from then on.
    ///
    /// # Errors
    /// The variants of [`Error`], each with its exit status.
    pub fn start(setup: Setup) -> Result<Self, Error> {
        let needed = setup.limits.body_bytes.saturating_mul(COPIES);
        if needed > setup.limits.in_flight_bytes {
            return Err(Error::Bodies { needed, limit: setup.limits.in_flight_bytes });
        }
        let address = resolve(&setup.host, setup.port)?;
        let is_local = address.ip().is_loopback();
        let keys = Keys::new(setup.keys.clone(), !is_local)?;
        if !is_local && !keys.are_asked_for() && !setup.insecure_no_auth {
            return Err(Error::OpenToAll { address });
        }
        let system = |what| move |source| Error::System { what, source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(setup.threads.clamp(1, SOCKET_THREADS))
            .thread_name("altclip-socket")
            .enable_all()
            .build()
            .map_err(system("a runtime"))?;
        let listener = runtime.block_on(async { listen(address) })?;
        if let Some(place) = keys.short()? {
            let message = "a key is shorter than 32 bytes: no other machine should reach it";
            setup.log.line("warn", "short_key", json!({ "where": place, "message": message }));
        }
        let address = listener.local_addr().map_err(system("an address"))?;
        let limits = &setup.limits;
        let engine = Arc::clone(&setup.engine);
        let catalog = match &setup.index {
            Some(dir) => Some(Arc::new(
                Catalog::open(dir, &engine, setup.threads)
                    .map_err(|fault| Error::Refused(fault.report))?,
            )),
            None => None,
        };
        let memory = memory::Bound::now(limits, engine.about());
        memory.check()?;
        let threads =
            |name, count, line| Threads::new(name, count, line).map_err(system("a thread"));
        let hosts = match is_local {
            true => ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into(),
            false => Vec::new(),
        };
        let app = Arc::new(App {
            queue: Arc::new(Queue::new(limits)),
            preparers: threads("prepare", setup.threads, PREPARE_LINE)?,
            readers: threads("read", READERS, READ_LINE)?,
            health: Arc::default(),
            metrics: Arc::default(),
            keys,
            in_flight: Allowance::new(limits.in_flight_bytes),
            decoding: Allowance::new(limits.decode_bytes),
            catalog,
            log: setup.log.clone(),
            numbers: Default::default(),
            requests: Arc::default(),
            work: Arc::default(),
            connections: Arc::default(),
            memory_bound: memory.total(),
            threads: setup.threads,
            hosts,
            limits: limits.clone(),
            engine,
        });
        let worker = Worker {
            engine: Arc::clone(&app.engine),
            queue: Arc::clone(&app.queue),
            health: Arc::clone(&app.health),
            metrics: Arc::clone(&app.metrics),
        };
        let worker = worker.spawn().map_err(system("a thread"))?;
        // Whoever is told that it listens finds it ready. One that does not answer yet says so itself.
        let first = crate::embed::canary(&app, Instant::now() + FIRST);
        let _ = runtime.block_on(async { tokio::time::timeout(FIRST, first).await });
        app.log.line(
            "info",
            "start",
            json!({
                "listening": format!("http://{address}"),
                "model": app.engine.about().name,
                "precision": app.engine.about().precision,
                "keys": app.keys.are_asked_for(),
                "index": app.catalog.is_some(),
                "memory_bound_bytes": memory.total(),
                "memory": memory.as_json(),
                "limits": limits.as_json(),
            }),
        );
        let (accepting, until) = watch::channel(true);
        let (closing, closed) = watch::channel(false);
        let router = routes::router(&app);
        let accept = runtime.spawn(accept(listener, Arc::clone(&app), router, until, closed));
        Ok(Self { app, address, runtime, worker, accepting, closing, accept })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The most memory that it may need, in bytes.
    pub fn memory_bound(&self) -> u64 {
        self.app.memory_bound
    }

    /// Answers until it is wished that it stops; then takes no new work, answers what it took, and ends.
    ///
    /// # Errors
    /// [`Error::Lost`] where the engine failed too often to go on.
    pub fn run_until(self, wished: impl Fn() -> bool) -> Result<(), Error> {
        while !wished() && !self.app.health.is_lost() {
            std::thread::sleep(LOOK);
        }
        self.stop()
    }

    /// Takes no new work, answers what it took, and ends.
    ///
    /// # Errors
    /// As [`Server::run_until`].
    pub fn stop(self) -> Result<(), Error> {
        let Self { app, runtime, worker, accepting, closing, accept, .. } = self;
        let begun = Instant::now();
        let until = begun + app.limits.drain_time;
        app.health.drain();
        app.log.line("info", "drain", json!({}));
        let grace = until.min(begun + app.limits.drain_grace);
        runtime.block_on(async {
            // Whoever comes meanwhile is told so; a port that is closed would tell them nothing.
            let has_work = || app.work.load(Ordering::Acquire) > 0;
            while Instant::now() < grace || (has_work() && Instant::now() < until) {
                tokio::time::sleep(LOOK / 4).await;
            }
            let _ = accepting.send(false);
            let _ = tokio::time::timeout_at(until.into(), accept).await;
            // Each connection ends with the request that it is at.
            let _ = closing.send(true);
            while app.connections.load(Ordering::Acquire) > 0 && Instant::now() < until {
                tokio::time::sleep(LOOK / 4).await;
            }
        });
        app.queue.close();
        while !worker.is_finished() && Instant::now() < until {
            std::thread::sleep(LOOK / 4);
        }
        runtime.shutdown_background();
        let left = app.connections.load(Ordering::Acquire);
        let seconds = begun.elapsed().as_secs_f64();
        app.log.line("info", "stop", json!({ "seconds": seconds, "connections_left": left }));
        app.log.flush(FLUSH);
        if app.health.is_lost() { Err(Error::Lost) } else { Ok(()) }
    }
}

/// The address that a host and a port mean.
fn resolve(host: &str, port: u16) -> Result<SocketAddr, Error> {
    let bad = |what: String| Error::Bind { address: format!("{host}:{port}"), what };
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found = (host, port).to_socket_addrs().map_err(|error| bad(error.to_string()))?;
    // An IPv4 address where there is one: that is what people type next.
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| bad("it names no address".into()))
}

fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let open = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Else a server that is started again waits for the connections of the one before.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse { address: address.to_string() },
        _ => Error::Bind { address: address.to_string(), what: error.to_string() },
    })
}

/// Accepts connections, as many at once as may be.
async fn accept(
    listener: TcpListener,
    app: Arc<App>,
    router: Router,
    mut until: watch::Receiver<bool>,
    closed: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = until.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => admit(stream, &app, &router, &closed),
            // Out of sockets or memory: what is open ends some time.
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
    // Who has connected already is answered.
    while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
        admit(stream, &app, &router, &closed);
    }
}

fn admit(stream: TcpStream, app: &Arc<App>, router: &Router, closed: &watch::Receiver<bool>) {
    let connections = Arc::clone(&app.connections);
    if connections.fetch_add(1, Ordering::AcqRel) >= app.limits.connections {
        connections.fetch_sub(1, Ordering::AcqRel);
        app.metrics.refused_connections.add(1);
        return;
    }
    let connection = Connection(connections);
    let (app, router, closed) = (Arc::clone(app), router.clone(), closed.clone());
    tokio::spawn(async move {
        connection::serve(stream, router, &app.limits, &app.metrics, closed).await;
        drop(connection);
    });
}

/// Counted while it lives.
struct Connection(Arc<AtomicUsize>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
