//! What the server says of itself: health, metrics, limits, its description.

use super::{json, respond};
use crate::app::App;
use crate::call::Call;
use crate::fault::Fault;
use crate::metrics::Gauge;
use crate::queue::Kind;
use crate::{memory, openapi};
use altclip_report::{Code, Report};
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The sockets answer, and the engine has its thread.
pub(super) async fn live(app: Arc<App>, _: Call) -> Result<Response, Fault> {
    match app.health.is_alive() {
        true => Ok(respond("text/plain", "ok")),
        false => {
            let report = Report::new(Code::E8201, "server", "the worker has ended")
                .help("start the server again");
            Err(Fault::not_ready(report))
        }
    }
}

pub(super) async fn ready(app: Arc<App>, _: Call) -> Result<Response, Fault> {
    app.ready().await?;
    Ok(respond("text/plain", "ready"))
}

pub(super) async fn metrics(app: Arc<App>, _: Call) -> Result<Response, Fault> {
    let lane = |kind: Kind| format!("modality=\"{}\"", kind.name());
    let depths = Kind::ALL.map(|kind| (kind, app.queue.depth(kind)));
    let one = |value: f64| vec![(String::new(), value)];
    let mut gauges = vec![
        Gauge {
            name: "altclip_queue_size",
            help: "Requests that wait for the engine.",
            values: depths.iter().map(|(kind, d)| (lane(*kind), d.requests as f64)).collect(),
        },
        Gauge {
            name: "altclip_queue_cost",
            help: "Tokens and pictures that wait or are on their way to wait.",
            values: depths
                .iter()
                .map(|(kind, d)| (lane(*kind), (d.waiting + d.reserved) as f64))
                .collect(),
        },
        Gauge {
            name: "altclip_connections",
            help: "Open connections.",
            values: one(app.connections.load(Ordering::Relaxed) as f64),
        },
        Gauge {
            name: "altclip_requests_in_flight",
            help: "Requests whose answers are not sent.",
            values: one(app.requests.load(Ordering::Relaxed) as f64),
        },
        Gauge {
            name: "altclip_in_flight_bytes",
            help: "Bytes of bodies and answers in memory.",
            values: one(app.in_flight.held() as f64),
        },
        Gauge {
            name: "altclip_memory_bound_bytes",
            help: "The most memory that the server may need.",
            values: one(app.memory_bound as f64),
        },
    ];
    if let Some(bytes) = memory::resident() {
        gauges.push(Gauge {
            name: "altclip_resident_memory_bytes",
            help: "Memory of the process.",
            values: one(bytes as f64),
        });
    }
    if let Some(catalog) = &app.catalog {
        gauges.push(Gauge {
            name: "altclip_index_vectors",
            help: "Pictures of the index.",
            values: one(catalog.vectors_count() as f64),
        });
    }
    app.metrics.log_dropped.raise_to(app.log.dropped());
    Ok(respond("text/plain; version=0.0.4", app.metrics.text(&gauges)))
}

pub(super) async fn limits(app: Arc<App>, _: Call) -> Result<Response, Fault> {
    let mut limits = app.limits.as_json();
    limits["memory_bound_bytes"] = app.memory_bound.into();
    limits["max_length"] = app.engine.about().max_length.into();
    Ok(json(&limits))
}

/// Reads the keys and the index again. What is bad leaves everything as it was.
pub(super) async fn reload(app: Arc<App>, call: Call) -> Result<Response, Fault> {
    let refused = |what: String| {
        let report = Report::new(Code::E8203, "server", "the reload was refused")
            .got(what)
            .help("what was there serves on; see the log");
        Fault::from(report)
    };
    let of_app = Arc::clone(&app);
    let work = move || -> Result<usize, Fault> {
        let bad = |fault: Fault| refused(crate::dialect::sentence(&fault.report));
        if let Some(catalog) = &of_app.catalog {
            catalog.reload().map_err(bad)?;
        }
        of_app.keys.reload().map_err(|error| refused(error.to_string()))
    };
    let keys = super::search::read(&app, &call, work).await??;
    Ok(json(&json!({ "keys": keys, "index": app.catalog.is_some() })))
}

pub(super) async fn openapi(_: Arc<App>, _: Call) -> Result<Response, Fault> {
    Ok(json(&openapi::document()))
}

pub(super) async fn docs(_: Arc<App>, _: Call) -> Result<Response, Fault> {
    Ok(respond("text/html; charset=utf-8", openapi::page()))
}
