//! The form in which the clients of each protocol expect an error.

use crate::fault::Fault;
use altclip_report::Report;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

/// Longest sentence of an answer in bytes.
const MAX_DETAIL_BYTES: usize = 400;

/// A protocol with a form of its own for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `/v1/*`: OpenAI's error object.
    OpenAi,
    /// The routes of text-embeddings-inference.
    Tei,
    /// immich's routes: FastAPI's `detail`.
    Immich,
    /// clip-retrieval's routes: flask-restful's `message`.
    ClipRetrieval,
    /// Problem details (RFC 9457).
    Own,
}

impl Dialect {
    pub(crate) fn of(method: &str, path: &str) -> Self {
        match path {
            "/" if method == "POST" => Dialect::Tei,
            _ if path == "/v1" || path.starts_with("/v1/") => Dialect::OpenAi,
            "/embed" | "/similarity" | "/info" | "/health" => Dialect::Tei,
            "/predict" | "/ping" => Dialect::Immich,
            "/knn-service" | "/indices-list" | "/metadata" => Dialect::ClipRetrieval,
            _ => Dialect::Own,
        }
    }

    /// A fault as an answer.
    pub(crate) fn render(self, fault: &Fault) -> Response {
        let Fault { status, report, param, items, headers } = fault;
        let code = report.code.as_str();
        let detail = sentence(report);
        let items: Vec<Value> = items
            .iter()
            .map(|(index, report)| {
                json!({ "index": index, "code": report.code.as_str(), "message": sentence(report) })
            })
            .collect();
        let mut body = match self {
            Dialect::OpenAi => json!({ "error": {
                "message": with_help(&detail, report),
                "type": openai_type(*status),
                "param": param,
                "code": code,
            }}),
            Dialect::Tei => json!({
                "error": with_help(&detail, report),
                "error_type": tei_type(*status),
                "code": code,
            }),
            Dialect::Immich => json!({ "detail": with_help(&detail, report), "code": code }),
            Dialect::ClipRetrieval => {
                json!({ "message": with_help(&detail, report), "code": code })
            }
            Dialect::Own => json!({
                "type": format!("urn:altclip:{code}"),
                "title": report.code.meaning(),
                "status": status.as_u16(),
                "detail": detail,
                "code": code,
                "where": public_place(report),
                "got": report.got,
                "expected": report.expected,
                "help": report.help,
            }),
        };
        if !items.is_empty() {
            let place = if self == Dialect::OpenAi { &mut body["error"] } else { &mut body };
            place["errors"] = items.into();
        }
        let media = match self {
            Dialect::Own => "application/problem+json",
            _ => "application/json",
        };
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = *status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        if *status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        for (name, value) in headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response
    }
}

fn with_help(detail: &str, report: &Report) -> String {
    match report.help.as_str() {
        "" => detail.to_owned(),
        help => format!("{detail}. help: {help}"),
    }
}

/// What happened, on one line, without a path of this machine.
pub(crate) fn sentence(report: &Report) -> String {
    let public = Report { place: public_place(report), ..report.clone() };
    let mut text = public.sentence();
    let mut end = text.len().min(MAX_DETAIL_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// Where it is, unless that is a place of this machine.
pub(crate) fn public_place(report: &Report) -> Option<String> {
    let place = report.place.clone()?;
    let is_path = place.starts_with('/') || place.contains("«/") || place.contains(":\\");
    (!is_path).then_some(place)
}

fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        400..=499 => "invalid_request_error",
        503 => "service_unavailable_error",
        _ => "server_error",
    }
}

fn tei_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        503 => "Overloaded",
        500..=599 => "Backend",
        _ => "Validation",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use altclip_report::Code;

    #[test]
    fn no_path_of_the_machine_is_told() {
        let report = |place: &str| Report::new(Code::E7003, "index", "damaged").place(place);
        for place in ["/home/me/index", "«/home/me»", "--model «/home/me»", "C:\\index"] {
            assert!(!sentence(&report(place)).contains("home"), "{place}");
            assert_eq!(public_place(&report(place)), None, "{place}");
        }
        assert_eq!(public_place(&report("item 3")).as_deref(), Some("item 3"));
    }

    #[test]
    fn a_sentence_is_short() {
        let long = "猫".repeat(1000);
        assert!(sentence(&Report::new(Code::E9001, "x", long)).len() <= MAX_DETAIL_BYTES);
    }
}
