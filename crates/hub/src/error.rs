//! What can go wrong between the Hub and the cache, each with its code and its next step.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use altclip_report::{Code, Diagnose, Report, quote};

/// An error of the Hub client or of the cache. No variant holds the token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not `ORG/NAME` as the Hub allows it.
    #[error("{} is not a hub id: {reason}", quote(text))]
    RepoName {
        /// The text as given.
        text: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The text cannot be the name of a branch, a tag or a commit.
    #[error("{} cannot be a revision", quote(text))]
    Revision {
        /// The text as given.
        text: String,
    },
    /// A setting has a value that cannot be used.
    #[error("the setting {name} cannot be used")]
    Setting {
        /// The environment variable that stands for the setting.
        name: &'static str,
        /// Its value; absent where it may hold a secret.
        value: Option<String>,
        /// What it should be.
        expected: &'static str,
    },
    /// No setting and no home folder says where the cache is.
    #[error("the cache folder is not known: there is no home folder")]
    NoHome,
    /// The token has characters that no header can carry.
    #[error("the access token has characters that no token has")]
    Token,
    /// The token file exists and cannot be read.
    #[error("the token file cannot be read: {source}")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The Hub has no such repository, or hides it.
    #[error("the hub has no repository {}, or it is private", quote(repo))]
    RepoNotFound {
        /// `ORG/NAME`.
        repo: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{} has no revision {}", quote(repo), quote(revision))]
    RevisionNotFound {
        /// `ORG/NAME`.
        repo: String,
        /// The revision.
        revision: String,
    },
    /// The repository has no such file.
    #[error("{} has no file {}", quote(repo), quote(file))]
    FileNotFound {
        /// `ORG/NAME`.
        repo: String,
        /// The file.
        file: String,
    },
    /// The repository lacks what every model folder has.
    #[error("{} is not a model that can be used: it has no {missing}", quote(repo))]
    NotAModel {
        /// `ORG/NAME`.
        repo: String,
        /// What is missing.
        missing: &'static str,
    },
    /// The Hub does not accept the token, or wants one.
    #[error("the hub asks for an access token for {}", quote(repo))]
    Unauthorized {
        /// `ORG/NAME`.
        repo: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The licence must be accepted on the page of the model first.
    #[error("{} is gated: its licence must be accepted first", quote(repo))]
    Gated {
        /// `ORG/NAME`.
        repo: String,
        /// The page where the licence is accepted.
        page: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The token is known but has no right to the repository.
    #[error("the hub refuses access to {}", quote(repo))]
    Forbidden {
        /// `ORG/NAME`.
        repo: String,
    },
    /// The Hub cannot be reached, or the connection broke off.
    #[error("{reason}{}", cause(source.as_ref()))]
    Network {
        /// The address without query and user.
        url: String,
        /// What happened.
        reason: String,
        /// Whether another try can help.
        transient: bool,
        /// The cause, where there is one.
        source: Option<io::Error>,
    },
    /// The Hub's certificate is not trusted, or there is no common way to encrypt.
    #[error("no secure connection is possible: {source}")]
    Tls {
        /// The address without query and user.
        url: String,
        /// What the TLS library says.
        source: io::Error,
    },
    /// The Hub answered with an unexpected HTTP status.
    #[error("the hub answered with status {status}")]
    Status {
        /// The address without query and user.
        url: String,
        /// The HTTP status.
        status: u16,
        /// How long the Hub asks to wait.
        retry_after: Option<Duration>,
    },
    /// The answer is not what a Hub says.
    #[error("the answer is not a hub's: {reason}")]
    BadAnswer {
        /// The address without query and user.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The Hub announces a file name that would leave the snapshot folder or is not portable.
    #[error("the hub announces the file name {}", quote(name))]
    FileName {
        /// `ORG/NAME`.
        repo: String,
        /// The name.
        name: String,
    },
    /// A file has another size than announced.
    #[error("{} has another size than the hub announced", quote(file))]
    Size {
        /// The file.
        file: String,
        /// The announced bytes.
        expected: u64,
        /// The bytes that came or were about to come.
        found: u64,
    },
    /// A file has another checksum than announced.
    #[error("{} has another checksum than the hub announced", quote(file))]
    Checksum {
        /// The file.
        file: String,
        /// `sha256` or `git-sha1`.
        kind: &'static str,
        /// The announced checksum, hexadecimal.
        expected: String,
        /// The checksum of what came.
        found: String,
        /// Whether what came looks like a web page.
        web_page: bool,
    },
    /// The Hub announces no checksum, so that the file could not be checked.
    #[error("the hub announces no checksum for {}", quote(file))]
    NoChecksum {
        /// The file.
        file: String,
    },
    /// Without network, and the cache does not hold it.
    #[error("{} at {} is not in the cache", quote(repo), quote(revision))]
    NotCached {
        /// `ORG/NAME`.
        repo: String,
        /// The revision.
        revision: String,
        /// The cache folder.
        cache_dir: PathBuf,
        /// The one file that is missing, where the rest is there.
        file: Option<String>,
    },
    /// A file or folder of the cache cannot be read or written.
    #[error("cannot {action} in the cache: {source}")]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// Whether the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Network { transient, .. } => *transient,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::RepoName { .. } => Code::E2008,
            Self::Revision { .. } | Self::Setting { .. } => Code::E1001,
            Self::RepoNotFound { .. }
            | Self::RevisionNotFound { .. }
            | Self::FileNotFound { .. }
            | Self::NotAModel { .. } => Code::E2002,
            Self::Token
            | Self::TokenFile { .. }
            | Self::Unauthorized { .. }
            | Self::Gated { .. }
            | Self::Forbidden { .. } => Code::E2003,
            Self::Network { .. } | Self::Tls { .. } | Self::Status { .. } => Code::E2004,
            Self::Size { .. } | Self::Checksum { .. } | Self::NoChecksum { .. } => Code::E2005,
            Self::NotCached { .. } => Code::E2006,
            Self::NoHome | Self::Cache { .. } => Code::E2007,
            Self::BadAnswer { .. } | Self::FileName { .. } => Code::E2009,
        }
    }

    fn help(&self) -> String {
        const TOKEN: &str = "make a token on the settings page of the hub and set HF_TOKEN";
        match self {
            Self::RepoName { .. } => "write ORG/NAME, as in BAAI/AltCLIP, or the path of a folder",
            Self::Revision { .. } => "give a branch, a tag or a full commit id",
            Self::Setting { .. } => "correct the environment variable or unset it",
            Self::NoHome => "set HF_HOME or HF_HUB_CACHE to a folder",
            Self::Token => "copy the token again; it looks like hf_ and letters",
            Self::TokenFile { .. } => "make the file readable, or set HF_TOKEN",
            Self::RepoNotFound { with_token: true, .. } => {
                "check the spelling, and that the token may read the repository"
            }
            Self::RepoNotFound { with_token: false, .. } => {
                "check the spelling; if the repository is private, set HF_TOKEN"
            }
            Self::RevisionNotFound { .. } => "look up branches and tags on the page of the model",
            Self::FileNotFound { .. } => "the repository changed meanwhile; run the command again",
            Self::NotAModel { .. } => crate::MODEL_FILES_NEEDED,
            Self::Unauthorized { with_token: false, .. } => TOKEN,
            Self::Unauthorized { with_token: true, .. } => {
                "the token was not accepted; make a new one and set HF_TOKEN"
            }
            Self::Gated { page, with_token, .. } => {
                let then = if *with_token {
                    "with the account of the token, then run the command again"
                } else {
                    "then set HF_TOKEN to a token of that account"
                };
                return format!("accept the licence at {page}, {then}");
            }
            Self::Forbidden { .. } => "use a token of an account that may read the repository",
            Self::Network { .. } => {
                "check the connection, HF_ENDPOINT and the proxy, then run the command again: it \
                 goes on where it stopped"
            }
            Self::Tls { .. } => {
                "check the clock and HF_ENDPOINT; behind a proxy that opens TLS, set SSL_CERT_FILE \
                 to its certificate"
            }
            Self::Status { .. } => {
                "run the command again later: a download goes on where it stopped"
            }
            Self::BadAnswer { .. } => "check HF_ENDPOINT, and whether a proxy or login page answers",
            Self::FileName { .. } => "do not use this repository; nothing was written for the file",
            Self::Size { .. } | Self::Checksum { web_page: false, .. } => {
                "the partial file was removed; run the command again"
            }
            Self::Checksum { web_page: true, .. } => {
                "a web page came instead of the file; check for a proxy or login page, then run \
                 the command again"
            }
            Self::NoChecksum { .. } => "use a complete mirror as HF_ENDPOINT",
            Self::NotCached { .. } => {
                "run altclip download for it, with network and without HF_HUB_OFFLINE; check HF_HUB_CACHE"
            }
            Self::Cache { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free space on the disk or set HF_HUB_CACHE to another one; the download goes \
                     on where it stopped"
                }
                _ => "set HF_HUB_CACHE to a folder that you may write",
            },
        }
        .to_owned()
    }
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        let report = Report::new(self.code(), "hub", self.to_string()).help(self.help());
        match self {
            Self::RepoName { .. } => report.expected("ORG/NAME"),
            Self::Setting { name, value, expected } => {
                let report = report.place(*name).expected(*expected);
                match value {
                    Some(value) => report.got(quote(value)),
                    None => report,
                }
            }
            Self::TokenFile { path, .. } | Self::Cache { path, .. } => {
                report.place(path.display().to_string())
            }
            Self::Network { url, .. }
            | Self::Tls { url, .. }
            | Self::Status { url, .. }
            | Self::BadAnswer { url, .. } => report.place(quote(url)),
            Self::FileName { repo, .. } => {
                report.place(quote(repo)).expected("a name inside the repository")
            }
            Self::Size { expected, found, .. } => {
                report.got(format!("{found} bytes")).expected(format!("{expected} bytes"))
            }
            Self::Checksum { kind, expected, found, .. } => {
                report.got(format!("{kind} {found}")).expected(quote(expected))
            }
            Self::NotCached { cache_dir, file, .. } => {
                let report = report.place(cache_dir.display().to_string());
                match file {
                    Some(file) => report.expected(quote(file)),
                    None => report,
                }
            }
            _ => report,
        }
    }
}

/// What the operating system says, to follow a message.
fn cause(source: Option<&io::Error>) -> String {
    source.map_or_else(String::new, |source| format!(": {source}"))
}
