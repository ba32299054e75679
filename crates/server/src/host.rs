//! The host that a request is for: named once, and by the request line before the header (RFC 9112, 3.2).

use crate::fault::Fault;
use altclip_report::{Code, Report, quote};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{StatusCode, Version, header};

/// Refuses a request that names no host, several, or none that can be one: whoever forwarded it may have
/// read another than is read here.
pub(crate) fn check(parts: &Parts) -> Result<(), Fault> {
    let mut given = parts.headers.get_all(header::HOST).iter();
    let expected = "one header Host: NAME, or NAME:PORT";
    match (given.next(), given.next()) {
        // Before HTTP/1.1 there was no such header.
        (None, _) if parts.version < Version::HTTP_11 => Ok(()),
        (None, _) => Err(bad("it names no host", "no header Host", expected)),
        (Some(_), Some(_)) => Err(bad("it names more than one host", "several headers", expected)),
        (Some(host), None) => {
            let text = host.to_str().unwrap_or("?");
            let is_host = |text: &str| text.parse::<Authority>().is_ok() && !text.contains('@');
            match text.is_empty() || is_host(text) {
                true => Ok(()),
                false => Err(bad("its host is not valid", &quote(text), expected)),
            }
        }
    }
}

/// The host of a request that was checked; empty where it names none.
pub(crate) fn of(parts: &Parts) -> &str {
    match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => {
            let host = parts.headers.get(header::HOST);
            host.and_then(|host| host.to_str().ok()).unwrap_or_default()
        }
    }
}

fn bad(what: &str, got: &str, expected: &str) -> Fault {
    let report = Report::new(Code::E8006, "request", what.to_owned())
        .got(got)
        .expected(expected)
        .help("send the header Host once, as HTTP/1.1 wants it");
    Fault::new(StatusCode::BAD_REQUEST, report).header(header::CONNECTION, "close")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn parts(uri: &str, version: Version, hosts: &[&str]) -> Parts {
        let mut request = Request::builder().uri(uri).version(version);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn one_host_and_no_other() {
        let status = |version, hosts: &[&str]| {
            check(&parts("/", version, hosts)).err().map(|fault| fault.status.as_u16())
        };
        for fine in ["localhost", "localhost:8000", "[::1]:80", "127.0.0.1", "example.org", ""] {
            assert_eq!(status(Version::HTTP_11, &[fine]), None, "{fine}");
        }
        for bad in ["a b", "me@localhost", "local/host", "localhost, localhost", "[::1"] {
            assert_eq!(status(Version::HTTP_11, &[bad]), Some(400), "{bad}");
        }
        assert_eq!(status(Version::HTTP_11, &[]), Some(400));
        assert_eq!(status(Version::HTTP_10, &[]), None);
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(status(version, &["localhost", "localhost"]), Some(400));
        }
    }

    #[test]
    fn the_request_line_counts_before_the_header() {
        let host = |uri, hosts: &[&str]| of(&parts(uri, Version::HTTP_11, hosts)).to_owned();
        assert_eq!(host("/info", &["localhost"]), "localhost");
        assert_eq!(host("http://localhost:80/info", &["evil.example"]), "localhost:80");
        assert_eq!(host("http://evil.example/info", &["localhost"]), "evil.example");
        assert_eq!(host("/info", &[]), "");
    }
}
