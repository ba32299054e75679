//! Every route with its scope: there is no other way to add one, so none can lack it.

mod about;
mod classify;
mod immich;
mod index;
mod knn;
mod openai;
mod page;
mod pictures;
mod search;
mod tei;

use crate::app::App;
use crate::call::Call;
use crate::fault::Fault;
use crate::keys::Scope;
use crate::{dispatch, embed::Embedded};
use altclip_report::{Code, Report, quote};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

const JSON: &str = "application/json";
/// Which inputs were cut.
const TRUNCATED: HeaderName = HeaderName::from_static("x-truncated");
/// Most places that the header names.
const MOST_TOLD: usize = 64;

/// What a route reads as its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Json,
    Form,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, Fault>> + Send>>;
type Handler = Box<dyn Fn(Arc<App>, Call) -> Answer + Send + Sync>;

/// A route: what it is called, for whom, and what answers it.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) scope: Scope,
    pub(crate) takes: Takes,
    /// The media type of its answers.
    pub(crate) gives: &'static str,
    /// It is refused while the server stops.
    pub(crate) is_work: bool,
    pub(crate) handler: Handler,
}

/// A route that answers with JSON.
fn route<F, A>(
    method: &'static str,
    path: &'static str,
    scope: Scope,
    takes: Takes,
    handler: F,
) -> Route
where
    F: Fn(Arc<App>, Call) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Response, Fault>> + Send + 'static,
{
    let handler: Handler = Box::new(move |app, call| Box::pin(handler(app, call)));
    let is_work = !matches!(scope, Scope::Open | Scope::Any);
    Route { method, path, scope, takes, gives: JSON, is_work, handler }
}

impl Route {
    fn gives(self, gives: &'static str) -> Self {
        Self { gives, ..self }
    }
}

/// All routes.
pub(crate) fn all() -> Vec<Route> {
    use Scope::{Admin, Any, Embed, Open, Search, Write};
    use Takes::{Form, Json, Nothing};
    const HTML: &str = "text/html";
    const TEXT: &str = "text/plain";
    const PICTURE: &str = "image/png";
    vec![
        route("GET", "/", Open, Nothing, page::index).gives(HTML),
        route("GET", "/assets/{*path}", Open, Nothing, page::asset).gives("*/*"),
        route("GET", "/livez", Open, Nothing, about::live).gives(TEXT),
        route("GET", "/health/live", Open, Nothing, about::live).gives(TEXT),
        route("GET", "/readyz", Open, Nothing, about::ready).gives(TEXT),
        route("GET", "/health/ready", Open, Nothing, about::ready).gives(TEXT),
        route("GET", "/metrics", Any, Nothing, about::metrics).gives(TEXT),
        route("GET", "/openapi.json", Any, Nothing, about::openapi),
        route("GET", "/docs", Any, Nothing, about::docs).gives(HTML),
        route("GET", "/v1/limits", Any, Nothing, about::limits),
        route("POST", "/admin/reload", Admin, Nothing, about::reload),
        route("GET", "/v1/models", Any, Nothing, openai::models),
        route("GET", "/v1/models/{*id}", Any, Nothing, openai::model),
        route("POST", "/v1/embeddings", Embed, Json, openai::embeddings),
        route("GET", "/info", Any, Nothing, tei::info),
        route("GET", "/health", Any, Nothing, tei::health).gives(TEXT),
        route("POST", "/", Embed, Json, tei::embed),
        route("POST", "/embed", Embed, Json, tei::embed),
        route("POST", "/similarity", Embed, Json, tei::similarity),
        route("POST", "/classify", Embed, Json, classify::classify),
        route("POST", "/search", Search, Json, search::search),
        route("GET", "/index", Search, Nothing, index::status),
        route("POST", "/index/update", Write, Nothing, index::update),
        route("GET", "/index/pictures", Search, Nothing, index::newest),
        route("GET", "/index/duplicates", Search, Nothing, index::duplicates),
        route("GET", "/thumbnail/{id}", Search, Nothing, pictures::thumbnail).gives(PICTURE),
        route("GET", "/picture/{id}", Search, Nothing, pictures::picture).gives("image/*"),
        route("POST", "/knn-service", Search, Json, knn::nearest),
        route("GET", "/indices-list", Search, Nothing, knn::indices),
        route("POST", "/metadata", Search, Json, knn::metadata),
        route("POST", "/predict", Embed, Form, immich::predict),
        route("GET", "/ping", Any, Nothing, immich::ping).gives(TEXT),
    ]
}

/// All routes behind the checks that they share.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let mut paths: BTreeMap<&'static str, Vec<Arc<Route>>> = BTreeMap::new();
    for route in all() {
        paths.entry(route.path).or_default().push(Arc::new(route));
    }
    let mut router = Router::new();
    for (path, routes) in paths {
        let (app, routes) = (Arc::clone(app), Arc::new(routes));
        router = router.route(
            path,
            axum::routing::any(move |request: Request| {
                dispatch::dispatch(Arc::clone(&app), Arc::clone(&routes), request)
            }),
        );
    }
    let (app, none) = (Arc::clone(app), Arc::new(Vec::new()));
    router.fallback(move |request: Request| {
        dispatch::dispatch(Arc::clone(&app), Arc::clone(&none), request)
    })
}

/// The route of a method, or why there is none. What answers GET answers HEAD.
pub(crate) fn choose<'r>(
    routes: &'r [Arc<Route>],
    method: &str,
    path: &str,
) -> Result<&'r Route, Fault> {
    let wanted = if method == "HEAD" { "GET" } else { method };
    if let Some(route) = routes.iter().find(|route| route.method == wanted) {
        return Ok(route);
    }
    let allowed: Vec<&str> = routes.iter().map(|route| route.method).collect();
    let (status, what) = match allowed.is_empty() {
        true => (StatusCode::NOT_FOUND, "there is no such route"),
        false => (StatusCode::METHOD_NOT_ALLOWED, "this route has no such method"),
    };
    let expected = match allowed.is_empty() {
        true => "a route of /docs".to_owned(),
        false => allowed.join(", "),
    };
    let report = Report::new(Code::E8005, "request", what)
        .got(format!("{method} {}", quote(path)))
        .expected(expected)
        .help("see /docs");
    let fault = Fault::new(status, report);
    Err(if allowed.is_empty() { fault } else { fault.header(header::ALLOW, &allowed.join(", ")) })
}

/// What a request was about, for the metrics.
#[derive(Clone, Copy)]
pub(crate) struct Modality(pub(crate) &'static str);

fn respond(media: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// A value without numbers that could be other than finite.
fn json(value: &Value) -> Response {
    respond(JSON, value.to_string())
}

/// A value whose numbers were looked at, each with the digits of its own type.
fn written(value: &impl Serialize) -> Result<Response, Fault> {
    Ok(respond(JSON, serde_json::to_vec(value).map_err(|_| Fault::lost())?))
}

fn with_modality(mut response: Response, modality: &'static str) -> Response {
    response.extensions_mut().insert(Modality(modality));
    response
}

/// Places of the inputs that were cut.
fn places_cut(rows: &[Embedded]) -> impl Iterator<Item = usize> {
    rows.iter().enumerate().filter(|(_, embedded)| embedded.is_truncated()).map(|(place, _)| place)
}

/// Says which inputs were cut, where the form of the answer has no place for it.
fn with_cut(mut response: Response, places: impl IntoIterator<Item = usize>) -> Response {
    let places: Vec<String> =
        places.into_iter().take(MOST_TOLD).map(|place| place.to_string()).collect();
    let value = HeaderValue::from_str(&places.join(",")).ok().filter(|value| !value.is_empty());
    response.headers_mut().extend(value.map(|value| (TRUNCATED, value)));
    response
}

/// Rows as a JSON array of arrays.
fn write_rows<'r>(rows: impl Iterator<Item = &'r Embedded>) -> Vec<u8> {
    let mut body = vec![b'['];
    for (place, embedded) in rows.enumerate() {
        if place > 0 {
            body.push(b',');
        }
        embedded.row.write_json(&mut body);
    }
    body.push(b']');
    body
}
