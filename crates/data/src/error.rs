//! What stops a dataset as a whole, each with its code and its next step.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use altclip_report::{Code, Diagnose, Report, quote};

use crate::{Fault, Reason};

/// An error of a dataset; what concerns one sample is a [`Fault`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that is needed cannot be read, after three tries.
    #[error("a file of the dataset cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of a public set is not there.
    #[error("there is no file {}", quote(&path.to_string_lossy()))]
    Absent {
        /// The file.
        path: PathBuf,
        /// Who gives it out.
        from: &'static str,
    },
    /// A file is not the same as when it was opened.
    #[error("a file of the dataset changed; the order is no longer reproducible")]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is different, and how.
        what: String,
    },
    /// A file as a whole cannot be used: no header, a quote that never ends, a table that is damaged.
    #[error("{what}")]
    Table {
        /// The file.
        path: PathBuf,
        /// Line, from 1, where known.
        line: Option<u64>,
        /// What is wrong.
        what: String,
        /// What was expected.
        expected: String,
    },
    /// The files cannot be a dataset: none, too many, one twice, an unknown ending.
    #[error("{what}")]
    List {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// The next step.
        help: &'static str,
    },
    /// `pipe:`, `http:` and the like.
    #[error("{} is not the name of a file; it was not run or fetched", quote(address))]
    Address {
        /// The text as given.
        address: String,
    },
    /// A class name that no text encoder can make sense of, or a list of them that is not one.
    #[error("{what}")]
    ClassNames {
        /// The file or folder that the names are from.
        path: PathBuf,
        /// Line, from 1, where there is one.
        line: Option<u64>,
        /// What is wrong.
        what: String,
    },
    /// More bad samples than `--max-bad` allows.
    #[error(
        "too many bad samples: {bad} of the last {window}; worst is {} with {worst_bad} ({reasons})",
        quote(worst)
    )]
    TooManyBad {
        /// Bad samples among the last `window`.
        bad: u64,
        /// What is allowed.
        allowed: u64,
        /// How many samples are looked at together.
        window: u64,
        /// The file or shard with most of them.
        worst: String,
        /// How many it has.
        worst_bad: u64,
        /// The reasons and their counts, as text.
        reasons: String,
        /// The last fault.
        last: Fault,
    },
    /// A check found that training makes no sense.
    #[error("{what}")]
    Unfit {
        /// What was found.
        what: String,
        /// The next step.
        help: &'static str,
    },
    /// A fault after which nothing can be read.
    #[error("{0}")]
    Fatal(Fault),
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Unreadable { .. } | Self::Absent { .. } => Code::E5005,
            Self::Changed { .. } => Code::E5006,
            Self::Table { .. } => Code::E5004,
            Self::List { .. } => Code::E5008,
            Self::Address { .. } => Code::E5009,
            Self::ClassNames { .. } => Code::E5010,
            Self::TooManyBad { .. } => Code::E5007,
            Self::Unfit { .. } => Code::E5012,
            Self::Fatal(fault) => fault.reason.code(),
        }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), source }
    }

    pub(crate) fn table(path: &Path, what: impl Into<String>, expected: impl Into<String>) -> Self {
        let (what, expected) = (what.into(), expected.into());
        Self::Table { path: path.to_owned(), line: None, what, expected }
    }

    /// `12 missing image, 3 no text`, the most frequent first.
    pub(crate) fn table_of(reasons: &BTreeMap<Reason, u64>) -> String {
        let mut list: Vec<(Reason, u64)> = reasons.iter().map(|(&r, &n)| (r, n)).collect();
        list.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        list.iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        let place = |path: &Path, line: &Option<u64>| match line {
            Some(line) => format!("{}, line {line}", path.display()),
            None => path.display().to_string(),
        };
        if let Self::Fatal(fault) = self {
            return fault.report();
        }
        let report = Report::new(self.code(), "dataset", self.to_string());
        match self {
            Self::Fatal(_) => report,
            Self::Unfit { help, .. } => report.help(*help),
            Self::Unreadable { path, .. } => report
                .place(place(path, &None))
                .help("check the path, its permissions and the disk, then run the command again"),
            Self::Absent { path, from } => {
                report.place(place(path, &None)).got("nothing").expected("a file").help(*from)
            }
            Self::Changed { path, what } => report
                .got(what.as_str())
                .place(place(path, &None))
                .help("put the file back; --allow-changed goes on in another order"),
            Self::Table { path, line, expected, .. } => report
                .expected(expected.as_str())
                .place(place(path, line))
                .help("correct the file; columns are chosen with --columns"),
            Self::List { path, help, .. } => report.place(place(path, &None)).help(*help),
            Self::Address { .. } => report
                .expected("a file, a folder or a range such as {0..9}.tar")
                .help("download the shards first and give their folder"),
            Self::ClassNames { path, line, .. } => report
                .place(place(path, line))
                .expected("one name in words a class")
                .help("write the words that a picture of the class shows, in order of the labels"),
            Self::TooManyBad { allowed, last, .. } => report
                .expected(format!("at most {allowed}"))
                .place(format!("last: {}", last.place))
                .help(format!("{}, or allow more with --max-bad", last.reason.help())),
        }
    }
}
