//! Why a request is not answered as it asked, before it takes the form of a dialect.

use crate::allowance::Short;
use altclip_report::{Code, Diagnose, Report, quote};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use std::time::Duration;

/// Longest name of a field that is repeated as it is.
const MAX_NAME_BYTES: usize = 64;

/// A refusal or failure: status and report, and what else its answer says.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) report: Report,
    /// The field of the request that it is about.
    pub(crate) param: Option<String>,
    /// Items of the request, with what is wrong with each.
    pub(crate) items: Vec<(usize, Report)>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Fault {
    pub(crate) fn new(status: StatusCode, report: Report) -> Self {
        Self { status, report, param: None, items: Vec::new(), headers: Vec::new() }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// A field of the request is missing or not valid.
    pub(crate) fn field(param: &str, got: impl Into<String>, expected: &str) -> Self {
        let report = Report::new(Code::E8004, "request", format!("the field {param} is not valid"))
            .got(got)
            .expected(expected)
            .help("see /docs");
        let param = Some(param.to_owned());
        Self { param, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, report) }
    }

    /// A field of the request that the route does not have: silence would be taken for obedience.
    pub(crate) fn unknown(name: &str, known: &[&str]) -> Self {
        let expected = match known {
            [] => "none".to_owned(),
            known => known.join(", "),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
        let shown = match name.len() <= MAX_NAME_BYTES && name.bytes().all(is_plain) {
            true => name.to_owned(),
            false => quote(name),
        };
        Self::field(&shown, "a field that is not known", &expected)
    }

    /// The server has no room now.
    pub(crate) fn busy(what: &str, waiting: usize, wait: Duration) -> Self {
        let seconds = wait.as_secs_f64().ceil().clamp(1.0, 600.0) as u64;
        let report = Report::new(Code::E8101, "server", format!("the server is full: {what}"))
            .got(format!("{waiting} waiting, about {} ms", wait.as_millis()))
            .help(format!("ask again in {seconds} s, or another replica"));
        Self::new(StatusCode::SERVICE_UNAVAILABLE, report)
            .header(header::RETRY_AFTER, &seconds.to_string())
    }

    /// There is no room for the bytes of a request: not now, or never, which asking again does not change.
    pub(crate) fn short(Short { needed, free, limit }: Short) -> Self {
        if needed > limit {
            let what = "the request needs more memory than bodies and answers may have";
            let report = Report::new(Code::E8002, "request", what)
                .got(format!("{needed} bytes for its body and its answer"))
                .expected(format!("at most {limit} (--in-flight-mib)"))
                .help("send less at once, or give the server more --in-flight-mib");
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, report);
        }
        let report =
            Report::new(Code::E8101, "server", "the server is full: others' bytes are in flight")
                .got(format!("{needed} bytes needed for body and answer, {free} free"))
                .expected(format!("at most {limit} of all requests together"))
                .help("ask again in 1 s, or another replica");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, report).header(header::RETRY_AFTER, "1")
    }

    /// It takes no new work.
    pub(crate) fn not_ready(report: Report) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, report).header(header::RETRY_AFTER, "2")
    }

    /// The time of the request is over.
    pub(crate) fn late() -> Self {
        let report = Report::new(Code::E8104, "server", "the time of the request is over")
            .help("ask for less at once, or again when the server has less to do");
        Self::new(StatusCode::GATEWAY_TIMEOUT, report)
    }

    /// A bug: work was lost.
    pub(crate) fn lost() -> Self {
        Self::from(crate::worker::failed_over_it())
    }

    /// What is wrong with items of a request; one alone is the fault itself.
    pub(crate) fn of_items(count: usize, mut items: Vec<(usize, Report)>) -> Self {
        if count == 1 && items.len() == 1 {
            return Self::from(items.remove(0).1);
        }
        let listed: Vec<String> =
            items.iter().take(20).map(|(index, _)| index.to_string()).collect();
        let more = items.len().saturating_sub(listed.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!("{} of {count} items were refused", items.len());
        let report = Report::new(Code::E8102, "request", message)
            .place(format!("items {}{more}", listed.join(", ")))
            .help("send the others again, or say \"on_error\": \"skip\"");
        // An item that failed here is no fault of the request.
        let statuses: Vec<StatusCode> = items.iter().map(|(_, report)| status_of(report)).collect();
        let status = statuses.iter().find(|status| status.is_server_error());
        let status = status.copied().unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
        Self { items, ..Self::new(status, report) }
    }

    /// The body is not JSON.
    pub(crate) fn json(error: &serde_json::Error) -> Self {
        let report = Report::new(Code::E8001, "request", "the body is not valid JSON")
            .place(format!("line {} column {}", error.line(), error.column()))
            .got(quote(&error.to_string()))
            .help("check the body; numbers are finite and a key occurs once");
        Self::new(StatusCode::BAD_REQUEST, report)
    }
}

/// A report becomes a fault with the status of its code.
impl From<Report> for Fault {
    fn from(report: Report) -> Self {
        let status = status_of(&report);
        let fault = Self::new(status, report);
        match status {
            StatusCode::SERVICE_UNAVAILABLE => fault.header(header::RETRY_AFTER, "2"),
            _ => fault,
        }
    }
}

impl From<altclip::Error> for Fault {
    fn from(error: altclip::Error) -> Self {
        error.report().into()
    }
}

impl From<altclip_search::Error> for Fault {
    fn from(error: altclip_search::Error) -> Self {
        error.report().into()
    }
}

/// The status of the contract for a code.
pub(crate) fn status_of(report: &Report) -> StatusCode {
    use Code::*;
    match report.code {
        E3101 | E8001 => StatusCode::BAD_REQUEST,
        E7005 | E4201 => StatusCode::NOT_FOUND,
        E7004 | E7008 | E8203 => StatusCode::CONFLICT,
        E3105 | E4202 => StatusCode::PAYLOAD_TOO_LARGE,
        E4002 | E4005 => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        E3104 | E4001 | E4003 | E4004 | E4006 | E4007 | E4008 | E4101 | E7006 | E8004 | E8102
        | E8301 => StatusCode::UNPROCESSABLE_ENTITY,
        E7001 | E7003 | E7009 | E7011 | E8101 | E8103 | E8202 | E9002 => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        E8104 => StatusCode::GATEWAY_TIMEOUT,
        E7007 => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
