//! `/index`: what it holds, how it follows its folders, what is in it twice.

use super::json;
use super::search::{catalog, read};
use crate::app::App;
use crate::call::Call;
use crate::catalog::{Finished, Progress};
use crate::dialect::{public_place, sentence};
use crate::fault::Fault;
use altclip_report::{Report, quote};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// Pictures that are told of where no number is asked for.
const NEWEST: usize = 24;
/// Least cosine of pictures that are nearly the same.
const THRESHOLD: f32 = 0.97;

pub(super) async fn status(app: Arc<App>, call: Call) -> Result<Response, Fault> {
    call.only(&[])?;
    let catalog = catalog(&app)?;
    let path = catalog.dir().to_string_lossy().into_owned();
    let status = read(&app, &call, move || catalog.status()).await??;
    Ok(json(&json!({
        "images": status.images,
        "model": status.settings.model,
        "fingerprint": status.settings.fingerprint,
        "folders": status.settings.roots,
        "path": path,
        "updating": status.updating.map(|progress| shown(&progress)),
        "last_error": status.last_error.as_ref().map(problem),
        "last_update": status.last.as_ref().map(finished),
    })))
}

fn shown(progress: &Progress) -> Value {
    let Progress { done, total, added, removed, failed, begun, .. } = progress;
    json!({
        "done": done, "total": total, "added": added, "removed": removed, "failed": failed,
        "seconds": begun.elapsed().as_secs_f64(),
    })
}

/// What an update did, with the first files that could not be indexed: by name, as anybody may see it.
fn finished(last: &Finished) -> Value {
    let Finished { added, removed, failed, time, refused, error } = last;
    let refused = refused.iter().map(|(file, report)| {
        json!({ "file": file, "code": report.code.as_str(), "title": report.code.meaning() })
    });
    json!({
        "added": added, "removed": removed, "failed": failed, "seconds": time.as_secs_f64(),
        "complete": error.is_none(), "errors": refused.collect::<Vec<_>>(),
    })
}

fn problem(report: &Report) -> Value {
    json!({
        "code": report.code.as_str(),
        "title": report.code.meaning(),
        "detail": sentence(report),
        "where": public_place(report),
        "help": report.help,
    })
}

pub(super) async fn update(app: Arc<App>, call: Call) -> Result<Response, Fault> {
    call.only(&[])?;
    let log = app.log.clone();
    catalog(&app)?.begin_update(move |last| {
        let level = if last.error.is_some() { "error" } else { "info" };
        let mut fields = finished(last);
        fields["code"] = last.error.as_ref().map(|report| report.code.as_str()).into();
        log.line(level, "index_update", fields);
    })?;
    let mut response = json(&json!({ "accepted": true, "status": "/index" }));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

pub(super) async fn newest(app: Arc<App>, call: Call) -> Result<Response, Fault> {
    call.only(&["limit"])?;
    let catalog = catalog(&app)?;
    let most = app.limits.results;
    let count = match call.parameter("limit") {
        None | Some("") => NEWEST.min(most),
        Some(text) => match text.parse::<usize>() {
            Ok(count) if (1..=most).contains(&count) => count,
            _ => return Err(Fault::field("limit", quote(text), &format!("1 to {most}"))),
        },
    };
    let newest = read(&app, &call, move || catalog.newest(count)).await??;
    Ok(json(&json!({ "pictures": named(&newest) })))
}

/// Pictures by number and path.
fn named(pictures: &[(i64, String)]) -> Vec<Value> {
    pictures.iter().map(|(id, path)| json!({ "id": id, "path": path })).collect()
}

pub(super) async fn duplicates(app: Arc<App>, call: Call) -> Result<Response, Fault> {
    call.only(&["threshold"])?;
    let catalog = catalog(&app)?;
    let threshold = match call.parameter("threshold") {
        None | Some("") => THRESHOLD,
        Some(text) => match text.parse::<f32>() {
            Ok(threshold) if (-1.0..=1.0).contains(&threshold) => threshold,
            _ => return Err(Fault::field("threshold", quote(text), "a cosine from -1 to 1")),
        },
    };
    let groups = read(&app, &call, move || catalog.duplicates(threshold)).await??;
    let groups: Vec<Vec<Value>> = groups.iter().map(|group| named(group)).collect();
    Ok(json(&json!({ "groups": groups })))
}
