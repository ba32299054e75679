//! Why a server does not start, or ends.

use altclip_report::{Code, Diagnose, Report, quote};
use std::net::SocketAddr;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody else listens there.
    #[error("the port is in use")]
    PortInUse {
        /// Where it was to listen.
        address: String,
    },
    /// The address cannot be listened on.
    #[error("the address cannot be listened on: {what}")]
    Bind {
        /// The address as it was given.
        address: String,
        /// What the system said.
        what: String,
    },
    /// Other machines could ask, and nobody would be asked for a key.
    #[error("an address that other machines reach needs a key")]
    OpenToAll {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// What it may need is more than there is.
    #[error("the server may need more memory than there is")]
    Memory {
        /// Bytes that it may need.
        bound: u64,
        /// Bytes that there are.
        limit: u64,
    },
    /// A body of the allowed length could never be read.
    #[error("the longest body does not fit in what bodies and answers may have")]
    Bodies {
        /// Bytes that the longest body takes in memory.
        needed: usize,
        /// Bytes that bodies and answers may have.
        limit: usize,
    },
    /// The model compares tokens, and has no single vector for an input.
    #[error("this model has no single vector for a text or picture")]
    NoRows,
    /// A key cannot be used.
    #[error("the keys cannot be used: {what}")]
    Keys {
        /// Where they are.
        place: String,
        /// What is wrong, without the key.
        what: String,
    },
    /// A key could be guessed by other machines.
    #[error("a key is too short for an address that other machines reach")]
    ShortKey {
        /// Where it is.
        place: String,
        /// Bytes that a key has at least.
        least: usize,
    },
    /// A thread, a runtime or another resource of the system was refused.
    #[error("the system refuses {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The engine failed too often.
    #[error("the worker failed five times within a minute")]
    Lost,
    /// What another part of the program says.
    #[error("{0}")]
    Refused(Report),
    /// The model.
    #[error(transparent)]
    Model(#[from] altclip::Error),
    /// The index.
    #[error(transparent)]
    Index(#[from] altclip_search::Error),
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        let report = |code| Report::new(code, "server", self.to_string());
        match self {
            Self::PortInUse { address } => {
                report(Code::E8401).place(address).help("name another --port; 0 takes a free one")
            }
            Self::Bind { address, .. } => report(Code::E8402)
                .place(quote(address))
                .expected("an address of this machine, such as 127.0.0.1")
                .help("check --host and --port"),
            Self::OpenToAll { address } => report(Code::E8403)
                .place(address.to_string())
                .got("no key")
                .expected("--api-key-file or ALTCLIP_API_KEY")
                .help("set a key, or say --insecure-no-auth behind a proxy that asks for one"),
            Self::Memory { bound, limit } => report(Code::E8404)
                .got(format!("{} MiB at most", bound >> 20))
                .expected(format!("no more than {} MiB", limit >> 20))
                .help("lower --in-flight-mib or --decode-mib, use int8, or give it more memory"),
            Self::Bodies { needed, limit } => report(Code::E1001)
                .place("--max-body-mib, --in-flight-mib")
                .got(format!("{} MiB for one body", needed >> 20))
                .expected(format!("at most {} MiB", limit >> 20))
                .help("a body takes three times its length: lower the one or raise the other"),
            Self::NoRows => report(Code::E8405)
                .place("--model")
                .help("serve an AltCLIP, CLIP, CN-CLIP, Taiyi, R2D2 or PRD2 model"),
            Self::Keys { place, .. } => report(Code::E8003)
                .place(quote(place))
                .expected("one key a line, with its scopes behind it: KEY embed,search")
                .help("see docs/serve.md"),
            Self::ShortKey { place, least } => report(Code::E8003)
                .place(quote(place))
                .expected(format!("at least {least} bytes"))
                .help("make one with openssl rand -hex 32"),
            Self::System { .. } => {
                report(Code::E9005).help("check the limits of the process: ulimit -a")
            }
            Self::Lost => {
                report(Code::E8201).help("please report what was asked; the log names the requests")
            }
            Self::Refused(report) => report.clone(),
            Self::Model(error) => error.report(),
            Self::Index(error) => error.report(),
        }
    }

    fn reports(&self) -> Vec<Report> {
        match self {
            Self::Model(error) => error.reports(),
            Self::Index(error) => error.reports(),
            _ => vec![self.report()],
        }
    }
}
