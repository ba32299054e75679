//! The page for people, whose files are part of the program.

use super::{choose, respond};
use crate::app::App;
use crate::call::Call;
use crate::fault::Fault;
use altclip_durable::Digest;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use std::sync::{Arc, LazyLock};

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// The page loads from nowhere else, and nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn index(_: Arc<App>, call: Call) -> Result<Response, Fault> {
    file("index.html", &call)
}

pub(super) async fn asset(_: Arc<App>, call: Call) -> Result<Response, Fault> {
    let name = call.path.strip_prefix("/assets/").unwrap_or_default();
    file(name, &call)
}

/// A file of the page by its name: compared with those that there are, never opened.
fn file(name: &str, call: &Call) -> Result<Response, Fault> {
    let Some((_, bytes)) = FILES.iter().find(|(known, _)| *known == name) else {
        return Err(match choose(&[], "GET", &call.path) {
            Err(fault) => fault,
            Ok(_) => Fault::lost(),
        });
    };
    let tag = etag();
    let known = call.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = respond(media(name), *bytes);
    if known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
    }
    response.headers_mut().extend(HeaderValue::from_str(tag).ok().map(|tag| (header::ETAG, tag)));
    let policy = HeaderValue::from_static(POLICY);
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ] {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// One tag of all files together, since one is no use with another one's past.
fn etag() -> &'static str {
    static TAG: LazyLock<String> = LazyLock::new(|| {
        let all: Vec<u8> = FILES.iter().flat_map(|(_, bytes)| *bytes).copied().collect();
        format!("\"{}\"", Digest::of(&all))
    });
    &TAG
}

fn media(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "mjs" | "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "webmanifest" => "application/json",
        _ => "text/plain; charset=utf-8",
    }
}
