//! `altclip serve`: a model behind an address.

use super::index::{Wanted, open};
use crate::args::{IndexPath, RunArgs, Serve};
use crate::failure::{Failure, Reporter};
use crate::model;
use crate::output::Out;
use altclip::languages;
use altclip_report::{Code, Report};
use altclip_search::Index;
use altclip_server::{Engine, KeySource, Limits, Log, ModelEngine, Server, Setup, StubEngine};
use altclip_train::stop::Stop;
use serde_json::json;
use std::cell::OnceCell;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Width of the stub's rows where no index says another.
const STUB_WIDTH: usize = 768;

pub(crate) fn run(args: &Serve, reporter: Reporter) -> Result<(), Failure> {
    let stop = Stop::on_signals().map_err(|error| {
        let report = Report::new(Code::E9005, "server", format!("no signals: {error}"));
        Failure::one(report.help("check the limits of the process: ulimit -a"))
    })?;
    let index = match &args.index {
        Some(dir) => Some(open(&IndexPath { index: dir.clone(), json: false })?),
        None => None,
    };
    let engine: Arc<dyn Engine> = match args.stub_ms {
        Some(ms) => {
            let width = index.as_ref().map_or(STUB_WIDTH, |index| index.settings().width);
            Arc::new(StubEngine::new(width, Duration::from_millis(ms)))
        }
        None => Arc::new(engine(&args.run, index.as_ref(), reporter)?),
    };
    // It is opened again by the server, which keeps it.
    drop(index);
    let mut setup = Setup::new(engine);
    setup.index = args.index.clone();
    setup.host = args.host.clone();
    setup.port = args.port;
    setup.keys = KeySource { key: args.api_key.clone(), file: args.api_key_file.clone() };
    setup.insecure_no_auth = args.insecure_no_auth;
    setup.limits = limits(args);
    setup.threads = args.run.threads.map_or(setup.threads, usize::from);
    setup.log = log(reporter);
    let server = Server::start(setup)?;
    let mib = server.memory_bound() >> 20;
    reporter.say(&format!("no more than {mib} MiB of memory will be needed"));
    let mut out = Out::new();
    out.json(&json!({ "listening": format!("http://{}", server.address()) }))?;
    out.flush()?;
    drop(out);
    Ok(server.run_until(|| stop.is_wished())?)
}

/// The model that was named, else that of the index; its weights in memory of this process.
fn engine(
    run: &RunArgs,
    index: Option<&Index>,
    reporter: Reporter,
) -> Result<ModelEngine, Failure> {
    let mut run = run.clone();
    run.own_memory = true;
    let loaded = OnceCell::new();
    let named = match (&run.model.model, index) {
        (Some(model), _) => model.clone(),
        (None, Some(index)) => index.settings().model.clone().into(),
        (None, None) => Path::new("").into(),
    };
    if let Some(index) = index {
        let wanted = Wanted::new(&run, Some(index.settings()), reporter, &loaded)?;
        wanted.check(index)?;
        wanted.model()?;
    }
    let model = match loaded.into_inner() {
        Some(model) => model,
        None => model::load(&run, reporter)?,
    };
    let name = match named.exists() {
        true => named.file_name().unwrap_or(named.as_os_str()),
        false => named.as_os_str(),
    };
    let name = name.to_string_lossy();
    let languages = languages(model.opened().config(), &name);
    let languages = languages.map(|list| list.iter().map(|name| (*name).to_owned()).collect());
    Ok(ModelEngine::new(Arc::new(model), &name, languages)?)
}

fn limits(args: &Serve) -> Limits {
    const MIB: usize = 1 << 20;
    let mut limits = Limits::default();
    limits.connections = args.max_connections as usize;
    limits.body_bytes = args.max_body_mib as usize * MIB;
    limits.in_flight_bytes = args.in_flight_mib as usize * MIB;
    limits.decode_bytes = args.decode_mib as usize * MIB;
    limits.admission = Duration::from_millis(args.admission_ms);
    limits.request_time = Duration::from_secs(args.request_seconds);
    limits.drain_time = Duration::from_secs(args.drain_seconds);
    limits.queue_tokens =
        limits.queue_tokens.max(2 * limits.texts * usize::from(args.run.max_length));
    limits
}

/// JSON Lines on stderr, unless `--quiet`.
fn log(reporter: Reporter) -> Log {
    if reporter.is_quiet() {
        return Log::default();
    }
    Log::new(|line| {
        let mut text = line.to_string();
        text.push('\n');
        // Where stderr is closed there is nobody to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
    })
}
