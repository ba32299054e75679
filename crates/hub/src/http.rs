//! Requests to the Hub: redirects by hand so that the token stays with the endpoint, statuses to
//! errors, and retries.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

use crate::names::percent_encode;
use crate::{Error, HubConfig, RepoId};

/// Most tries of one request, and most broken connections in a row of one download.
pub(crate) const MAX_TRIES: u32 = 3;
const MAX_REDIRECTS: usize = 10;
/// A listing with checksums takes about 300 bytes a file.
const MAX_JSON_BYTES: u64 = 16 << 20;
/// Longest wait that the Hub can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// What a request is about, for the errors.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) repo: &'a RepoId,
    pub(crate) revision: &'a str,
    pub(crate) file: Option<&'a str>,
}

/// What the Hub says of a file before it is downloaded.
#[derive(Debug, Default)]
pub(crate) struct FileHead {
    pub(crate) commit: Option<String>,
    pub(crate) checksum: Option<String>,
    pub(crate) bytes: Option<u64>,
}

/// A blocking client of one Hub.
pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    origin: Origin,
    authorization: Option<String>,
    sleep: Box<dyn Fn(Duration) + Send + Sync>,
}

/// Never shows the token.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &shown(&self.endpoint)).finish_non_exhaustive()
    }
}

/// Scheme, host and port: where the token may go.
#[derive(Debug, PartialEq, Eq)]
struct Origin(String, String, u16);

impl Origin {
    fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        Some(Self(scheme, host, uri.port_u16().unwrap_or(default_port)))
    }
}

impl Client {
    pub(crate) fn new(config: &HubConfig) -> Result<Self, Error> {
        let endpoint = config.endpoint.trim_end_matches('/').to_owned();
        let setting = |name, value, expected| Error::Setting { name, value, expected };
        let origin = endpoint.parse().ok().filter(|uri: &Uri| uri.query().is_none());
        let origin = origin.as_ref().and_then(Origin::of).ok_or_else(|| {
            setting("HF_ENDPOINT", Some(shown(&endpoint)), "an address with http:// or https://")
        })?;
        // Visible ASCII only, so that a token can neither break a header nor hide in one.
        let token = config.token.as_deref();
        if token.is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::Token);
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("altclip/", env!("CARGO_PKG_VERSION")))
            // Sizes and checksums are those of the plain bytes.
            .accept_encoding("identity")
            .proxy(proxy(config)?)
            .tls_config(TlsConfig::builder().root_certs(authorities(config)?).build())
            .timeout_connect(Some(config.timeout))
            .timeout_per_read(Some(config.timeout))
            .timeout_per_write(Some(config.timeout))
            .build()
            .new_agent();
        Ok(Self {
            agent,
            endpoint,
            origin,
            authorization: token.map(|token| format!("Bearer {token}")),
            sleep: Box::new(std::thread::sleep),
        })
    }

    #[cfg(test)]
    pub(crate) fn set_sleep(&mut self, sleep: impl Fn(Duration) + Send + Sync + 'static) {
        self.sleep = Box::new(sleep);
    }

    /// The address that tells about a revision.
    pub(crate) fn info_url(&self, repo: &RepoId, revision: &str) -> String {
        let revision = percent_encode(revision, false);
        format!("{}/api/models/{repo}/revision/{revision}?blobs=true", self.endpoint)
    }

    /// The address of a file at a commit.
    pub(crate) fn file_url(&self, repo: &RepoId, commit: &str, file: &str) -> String {
        format!("{}/{repo}/resolve/{commit}/{}", self.endpoint, percent_encode(file, true))
    }

    /// The body of a small answer.
    pub(crate) fn json(&self, url: &str, subject: Subject<'_>) -> Result<Vec<u8>, Error> {
        self.with_retries(|| {
            let mut response = self.get(url, None, subject)?;
            let mut json = Vec::new();
            let mut reader = response.body_mut().as_reader().take(MAX_JSON_BYTES + 1);
            reader.read_to_end(&mut json).map_err(|e| broken(url, e))?;
            if json.len() as u64 > MAX_JSON_BYTES {
                return Err(Error::BadAnswer {
                    url: shown(url),
                    reason: format!("it is longer than {MAX_JSON_BYTES} bytes"),
                });
            }
            Ok(json)
        })
    }

    /// Checksum and size of a file. Redirects within the Hub are followed; one to a store of large
    /// files is not, for the Hub's own answer holds what is asked.
    pub(crate) fn head(&self, url: &str, subject: Subject<'_>) -> Result<FileHead, Error> {
        self.with_retries(|| {
            let mut head = FileHead::default();
            let mut at = parse_uri(url)?;
            for _ in 0..=MAX_REDIRECTS {
                let response = self.send(&at, true, None)?;
                let headers = response.headers();
                let set = |slot: &mut Option<String>, name: &str| {
                    *slot = slot.take().or_else(|| text(headers, name));
                };
                set(&mut head.commit, "x-repo-commit");
                set(&mut head.checksum, "x-linked-etag");
                head.bytes = head.bytes.or_else(|| number(headers, "x-linked-size"));
                if response.status().is_redirection() {
                    let next = redirect(&at, headers)?;
                    if Origin::of(&next).as_ref() != Some(&self.origin) {
                        return Ok(head);
                    }
                    at = next;
                    continue;
                }
                self.check_status(&at, &response, subject)?;
                set(&mut head.checksum, "etag");
                head.bytes = head.bytes.or_else(|| number(headers, "content-length"));
                return Ok(head);
            }
            Err(network(&at, "too many redirects"))
        })
    }

    /// One try of a GET, redirects followed, from byte `from` on where given. The status is 200,
    /// 206 or 416.
    pub(crate) fn get(
        &self,
        url: &str,
        from: Option<u64>,
        subject: Subject<'_>,
    ) -> Result<Response<Body>, Error> {
        let mut at = parse_uri(url)?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&at, false, from)?;
            if response.status().is_redirection() {
                at = redirect(&at, response.headers())?;
                continue;
            }
            if !(from.is_some() && response.status().as_u16() == 416) {
                self.check_status(&at, &response, subject)?;
            }
            return Ok(response);
        }
        Err(network(&at, "too many redirects"))
    }

    /// Calls `once` until it succeeds, fails for good, or was tried [`MAX_TRIES`] times.
    fn with_retries<T>(&self, mut once: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut tries = 1;
        loop {
            match once() {
                Err(error) if error.is_transient() && tries < MAX_TRIES => {
                    self.pause(tries, &error);
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    /// Waits before another try: 1 s, 2 s, … or as long as the Hub asks.
    pub(crate) fn pause(&self, tries: u32, error: &Error) {
        let asked = match error {
            Error::Status { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let back_off = Duration::from_secs(1 << (tries - 1).min(5));
        (self.sleep)(back_off.max(asked.min(MAX_RETRY_AFTER)));
    }

    fn send(&self, uri: &Uri, head: bool, from: Option<u64>) -> Result<Response<Body>, Error> {
        let mut request = if head { self.agent.head(uri) } else { self.agent.get(uri) };
        if let Some(value) = &self.authorization
            && Origin::of(uri).as_ref() == Some(&self.origin)
        {
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(from) = from {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request.call().map_err(|e| unreached(uri, e))
    }

    fn check_status(
        &self,
        uri: &Uri,
        response: &Response<Body>,
        subject: Subject<'_>,
    ) -> Result<(), Error> {
        let status = response.status().as_u16();
        // A store of large files has no say about repositories, only the Hub has.
        let from_hub = Origin::of(uri).as_ref() == Some(&self.origin);
        let code = text(response.headers(), "x-error-code").filter(|_| from_hub);
        let repo = subject.repo.to_string();
        let with_token = self.authorization.is_some();
        let file = subject.file.map(str::to_owned);
        Err(match (status, code.as_deref()) {
            (200 | 206, _) => return Ok(()),
            (401 | 403, Some("GatedRepo")) => {
                Error::Gated { page: format!("{}/{repo}", shown(&self.endpoint)), repo, with_token }
            }
            (401 | 403 | 404, Some("RepoNotFound")) => Error::RepoNotFound { repo, with_token },
            (404, Some("RevisionNotFound")) => {
                Error::RevisionNotFound { repo, revision: subject.revision.to_owned() }
            }
            (401, _) if from_hub => Error::Unauthorized { repo, with_token },
            (403, _) if from_hub => Error::Forbidden { repo },
            (404, _) => match file {
                Some(file) => Error::FileNotFound { repo, file },
                None => Error::RepoNotFound { repo, with_token },
            },
            _ => Error::Status {
                url: shown(&uri.to_string()),
                status,
                retry_after: number(response.headers(), "retry-after").map(Duration::from_secs),
            },
        })
    }
}

/// The certificate authorities to trust: those of a PEM file, or Mozilla's, which are built in.
fn authorities(config: &HubConfig) -> Result<RootCerts, Error> {
    let Some(path) = config.ca_file.as_ref().filter(|_| !config.offline) else {
        return Ok(RootCerts::WebPki);
    };
    let bad = || Error::Setting {
        name: "SSL_CERT_FILE",
        value: Some(path.display().to_string()),
        expected: "a readable PEM file of certificates",
    };
    let pem = std::fs::read(path).map_err(|_| bad())?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { Err(bad()) } else { Ok(RootCerts::new_with_certs(&certificates)) }
}

fn proxy(config: &HubConfig) -> Result<Option<Proxy>, Error> {
    let Some(address) = &config.proxy else { return Ok(None) };
    let bad = |_| Error::Setting {
        name: "https_proxy",
        value: None,
        expected: "http://host:port, with user:password@ before the host where needed",
    };
    let parsed = Proxy::new(address).map_err(bad)?;
    let mut builder = Proxy::builder(parsed.protocol()).host(parsed.host()).port(parsed.port());
    if let Some(user) = parsed.username() {
        builder = builder.username(user);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    for host in config.no_proxy.iter().flat_map(|list| list.split(',')).map(str::trim) {
        if !host.is_empty() {
            builder = builder.no_proxy(host);
        }
    }
    builder.build().map(Some).map_err(bad)
}

/// An address for people: without user, password, query and fragment, which can hold secrets.
pub(crate) fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else { return plain.to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match path {
        Some(path) => format!("{scheme}://{host}/{path}"),
        None => format!("{scheme}://{host}"),
    }
}

fn parse_uri(url: &str) -> Result<Uri, Error> {
    url.parse().map_err(|_| Error::BadAnswer {
        url: shown(url),
        reason: "the address cannot be read".to_owned(),
    })
}

/// Where a redirect leads; never from https to http.
fn redirect(from: &Uri, headers: &HeaderMap) -> Result<Uri, Error> {
    let location = text(headers, "location").unwrap_or_default();
    let location = location.split('#').next().unwrap_or_default();
    let scheme = from.scheme_str().unwrap_or("https");
    let authority = from.authority().map_or("", |authority| authority.as_str());
    let target = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    let parsed: Option<Uri> = target.parse().ok();
    match parsed.as_ref().and_then(Origin::of) {
        Some(Origin(to, ..)) if scheme == "https" && to != "https" => {
            Err(network(from, "the hub redirects from https to http"))
        }
        Some(_) => parsed.ok_or_else(|| network(from, "the redirect cannot be read")),
        None => Err(network(from, "the redirect cannot be read")),
    }
}

/// A header's value; an ETag without its quotes and weakness mark.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    let value = value.strip_prefix("W/").unwrap_or(value).trim_matches('"');
    (!value.is_empty()).then(|| value.to_owned())
}

pub(crate) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

fn network(uri: &Uri, reason: &str) -> Error {
    Error::Network {
        url: shown(&uri.to_string()),
        reason: reason.to_owned(),
        transient: false,
        source: None,
    }
}

/// A connection that broke off while the body came.
pub(crate) fn broken(url: &str, source: io::Error) -> Error {
    Error::Network {
        url: shown(url),
        reason: match source.kind() {
            io::ErrorKind::TimedOut => "the hub fell silent".to_owned(),
            _ => "the connection broke off".to_owned(),
        },
        transient: true,
        source: Some(source),
    }
}

/// A request without an answer.
fn unreached(uri: &Uri, error: ureq::Error) -> Error {
    let url = shown(&uri.to_string());
    let (reason, transient) = match &error {
        ureq::Error::Timeout(_) => ("the hub does not answer in time", true),
        ureq::Error::HostNotFound => ("the host name is not known", false),
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed => ("the hub cannot be reached", true),
        ureq::Error::Protocol(_) => ("the answer is not HTTP or broke off", true),
        ureq::Error::ConnectProxyFailed(_) => ("the proxy refuses the connection", false),
        _ => ("the request failed", false),
    };
    // Other kinds are left out: they may quote an address with its signature.
    let source = match error {
        // The TLS layer reports what it does not accept as invalid data.
        ureq::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            return Error::Tls { url, source };
        }
        ureq::Error::Tls(reason) => return Error::Tls { url, source: io::Error::other(reason) },
        error @ ureq::Error::Rustls(_) => {
            return Error::Tls { url, source: io::Error::other(error) };
        }
        ureq::Error::Io(source) => Some(source),
        _ => None,
    };
    Error::Network { url, reason: reason.to_owned(), transient, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_addresses_hold_no_secret() {
        assert_eq!(shown("https://u:p@h:1/a/b?sig=x#y"), "https://h:1/a/b");
        assert_eq!(shown("https://h?sig=x"), "https://h");
        assert_eq!(shown("nonsense?x"), "nonsense");
    }

    #[test]
    fn redirects_are_resolved_and_never_lose_tls() {
        let to = |from: &str, location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("location", location.parse().unwrap());
            redirect(&from.parse().unwrap(), &headers).map(|uri| uri.to_string()).ok()
        };
        assert_eq!(to("https://h/a", "/b?c#d").as_deref(), Some("https://h/b?c"));
        assert_eq!(to("https://h:1/a", "//g/b").as_deref(), Some("https://g/b"));
        assert_eq!(to("http://h/a", "https://g/b").as_deref(), Some("https://g/b"));
        for bad in ["http://h/a", "ftp://h/a", "", "b", "file:///etc/passwd"] {
            assert_eq!(to("https://h/a", bad), None, "{bad}");
        }
    }

    #[test]
    fn endpoints_tokens_and_proxies_are_checked() {
        let mut config = HubConfig::new("/c");
        for bad in ["", "huggingface.co", "ftp://h", "https://", "https://h?x"] {
            config.endpoint = bad.to_owned();
            assert!(matches!(Client::new(&config), Err(Error::Setting { .. })), "{bad:?}");
        }
        config.endpoint = "https://h/mirror/".to_owned();
        let client = Client::new(&config).expect("a good endpoint");
        let repo = "a/b".parse().unwrap();
        assert_eq!(client.file_url(&repo, "c0", "d e"), "https://h/mirror/a/b/resolve/c0/d%20e");
        config.token = Some("hf_x\r\nHost: evil".to_owned());
        assert!(matches!(Client::new(&config), Err(Error::Token)));
        config.token = None;
        config.proxy = Some("http://u:p@proxy:3128".to_owned());
        config.no_proxy = Some("localhost, .example".to_owned());
        Client::new(&config).expect("a good proxy");
        config.proxy = Some("gopher://x".to_owned());
        assert!(matches!(Client::new(&config), Err(Error::Setting { .. })));
        config.proxy = None;
        let dir = tempfile::tempdir().unwrap();
        for text in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\n!\n")] {
            let path = dir.path().join("ca.pem");
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            config.ca_file = Some(path);
            assert!(matches!(Client::new(&config), Err(Error::Setting { .. })), "{text:?}");
        }
    }
}
