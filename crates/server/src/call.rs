//! A request on its way to its handler: the checks that every route shares, and the body within its limits.

use crate::allowance::Held;
use crate::app::{App, Work};
use crate::fault::Fault;
use crate::host;
use crate::json::Fields;
use crate::routes::{Route, Takes};
use altclip_report::{Code, Report, quote};
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header, request::Parts};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A body is in memory as it came, as parsed text and as decoded bytes.
pub(crate) const COPIES: usize = 3;
/// Bytes of an answer for each of its numbers.
const BYTES_PER_NUMBER: usize = 20;

/// What a handler gets.
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) deadline: Instant,
    held: Arc<Mutex<Held>>,
    _work: Option<Work>,
}

impl Call {
    /// Checks a request as its route wants it, and reads its body.
    pub(crate) async fn read(
        app: &App,
        route: &Route,
        parts: Parts,
        body: Body,
        held: &Arc<Mutex<Held>>,
        begun: Instant,
    ) -> Result<Self, Fault> {
        let query = parts.uri.query().unwrap_or_default().to_owned();
        app.keys.check(&parts.headers, &query, route.scope)?;
        app.check_host(host::of(&parts), &parts.headers)?;
        let work = if route.is_work { Some(app.take_work()?) } else { None };
        accepts(&parts.headers, route.gives)?;
        takes(&parts.headers, route.takes)?;
        let deadline = begun + app.limits.request_time;
        let body = match route.takes {
            Takes::Nothing => Bytes::new(),
            Takes::Json | Takes::Form => read_body(app, &parts.headers, body, held, begun).await?,
        };
        let (path, headers) = (parts.uri.path().to_owned(), parts.headers);
        Ok(Self { path, query, headers, body, deadline, held: Arc::clone(held), _work: work })
    }

    /// The fields of a JSON body. The body itself is given back to the memory.
    pub(crate) fn fields(&mut self) -> Result<Fields, Fault> {
        Fields::of_body(&std::mem::take(&mut self.body))
    }

    /// Refuses parameters of the query string under other names than these.
    pub(crate) fn only(&self, names: &[&str]) -> Result<(), Fault> {
        let given = self.query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
        match given.into_iter().find(|name| !name.is_empty() && !names.contains(name)) {
            Some(name) => Err(Fault::unknown(name, names)),
            None => Ok(()),
        }
    }

    /// A parameter of the query string.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The number at the end of the path.
    pub(crate) fn number(&self) -> Result<i64, Fault> {
        let last = self.path.rsplit('/').next().unwrap_or_default();
        last.parse().map_err(|_| {
            let report = Report::new(Code::E7005, "index", "the index holds no picture there")
                .place(quote(last))
                .help("ids are those of /search");
            Fault::from(report)
        })
    }

    /// Room for an answer of so many rows.
    pub(crate) fn make_room(&self, rows: usize, width: usize) -> Result<(), Fault> {
        self.grow(rows.saturating_mul(width).saturating_mul(BYTES_PER_NUMBER))
    }

    pub(crate) fn grow(&self, bytes: usize) -> Result<(), Fault> {
        grow(&self.held, bytes)
    }
}

fn grow(held: &Mutex<Held>, bytes: usize) -> Result<(), Fault> {
    held.lock().unwrap_or_else(PoisonError::into_inner).grow(bytes).map_err(Fault::short)
}

fn not_served(status: StatusCode, what: &str, got: &str, expected: &str) -> Fault {
    let report = Report::new(Code::E8005, "request", what.to_owned())
        .got(quote(got))
        .expected(expected)
        .help("see /docs");
    Fault::new(status, report)
}

/// Whether the client takes what the route gives.
fn accepts(headers: &HeaderMap, gives: &str) -> Result<(), Fault> {
    let Some(accept) = headers.get(header::ACCEPT) else { return Ok(()) };
    let accept = accept.to_str().unwrap_or_default();
    let family = gives.split('/').next().unwrap_or_default();
    let fits = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        let is_family = media.strip_suffix("/*") == Some(family);
        !refused
            && (media == "*/*" || media == "*" || is_family || media.eq_ignore_ascii_case(gives))
    };
    match accept.trim().is_empty() || accept.split(',').any(fits) {
        true => Ok(()),
        false => {
            let what = "no media type is acceptable";
            Err(not_served(StatusCode::NOT_ACCEPTABLE, what, accept, gives))
        }
    }
}

/// Whether the body is of a kind that the route takes.
fn takes(headers: &HeaderMap, takes: Takes) -> Result<(), Fault> {
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let got = encoding.to_str().unwrap_or_default();
        return Err(not_served(status, "a coded body is not read", got, "no Content-Encoding"));
    }
    let Some(media) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = media.to_str().unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (fits, expected) = match takes {
        Takes::Nothing => (true, ""),
        Takes::Json => {
            (media == "application/json" || media.ends_with("+json"), "application/json")
        }
        Takes::Form => (media == "multipart/form-data", "multipart/form-data"),
    };
    match fits {
        true => Ok(()),
        false => Err(not_served(status, "this media type is not read", text, expected)),
    }
}

/// Reads a body that is neither too long, nor too slow, nor more than there is room for.
async fn read_body(
    app: &App,
    headers: &HeaderMap,
    mut body: Body,
    held: &Mutex<Held>,
    begun: Instant,
) -> Result<Bytes, Fault> {
    let limits = &app.limits;
    let fault = |status, what: &str, got: String, expected: String| {
        let report = Report::new(Code::E8002, "request", what.to_owned())
            .got(got)
            .expected(expected)
            .help("send less at once, or faster");
        Fault::new(status, report).header(header::CONNECTION, "close")
    };
    let too_long = |bytes: u64| {
        let expected = format!("at most {}", limits.body_bytes);
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        fault(status, "the body is too long", format!("{bytes} bytes"), expected)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced: Option<u64> = announced.and_then(|text| text.parse().ok());
    if let Some(bytes) = announced.filter(|&bytes| bytes > limits.body_bytes as u64) {
        return Err(too_long(bytes));
    }
    let mut read = Vec::new();
    loop {
        let earned = Duration::from_secs(read.len() as u64 / limits.least_rate.max(1));
        let until = begun + (limits.body_time + earned).min(limits.request_time);
        let frame = match tokio::time::timeout_at(until.into(), body.frame()).await {
            Err(_) => {
                let got = format!("{} bytes", read.len());
                let expected = match announced {
                    Some(bytes) => format!("{bytes} bytes in time"),
                    None => "its end".into(),
                };
                let status = StatusCode::REQUEST_TIMEOUT;
                return Err(fault(status, "the body is too slow", got, expected));
            }
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                let expected = announced.map_or("its end".into(), |bytes| format!("{bytes} bytes"));
                let got = format!("{} bytes, then: {}", read.len(), quote(&error.to_string()));
                let status = StatusCode::BAD_REQUEST;
                return Err(fault(status, "the body ends before its end", got, expected));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(chunk) = frame.into_data() else { continue };
        if read.len() + chunk.len() > limits.body_bytes {
            return Err(too_long((read.len() + chunk.len()) as u64));
        }
        grow(held, COPIES * chunk.len())
            .map_err(|fault| fault.header(header::CONNECTION, "close"))?;
        read.extend_from_slice(&chunk);
    }
    Ok(read.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_accepts() {
        let status = |accept: &'static str, gives| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            accepts(&headers, gives).err().map(|fault| fault.status.as_u16())
        };
        let json = "application/json";
        for fine in ["*/*", "application/json", "text/html, application/*;q=0.8", "", "*"] {
            assert_eq!(status(fine, json), None, "{fine}");
        }
        for bad in ["text/html", "application/xml;q=0.9", "application/json;q=0"] {
            assert_eq!(status(bad, json), Some(406), "{bad}");
        }
        assert_eq!(status("image/*", "image/png"), None);
    }
}
