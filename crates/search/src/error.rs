//! What can be wrong with an index, a query or a dump.

use crate::generation::{CURRENT, STORE};
use altclip_report::{Code, Diagnose, Report, quote};
use std::path::{Path, PathBuf};

const AREA: &str = "index";
/// What works whatever is left of an index.
const ANEW: &str = "altclip index add DIR --rebuild --model M";

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store holds less than was acknowledged.
    #[error("acknowledged pictures are missing from the index")]
    Lost {
        /// The index.
        path: PathBuf,
        /// What the store holds.
        found: String,
        /// What was acknowledged.
        expected: String,
    },
    /// A file of the index does not hold what was written.
    #[error("the index is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the row or byte.
        what: String,
    },
    /// The index was made with another model or other preprocessing.
    #[error("the index was made with another model or other preprocessing")]
    OtherModel {
        /// The index.
        path: PathBuf,
        /// The fingerprint and name of the model that was given.
        found: String,
        /// Those of the index.
        expected: String,
    },
    /// There is no index at the path, or it is one that this version cannot read.
    #[error("there is no index that this version reads")]
    NoIndex {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The path is not that of a folder.
    #[error("this is not the folder of an index")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The disk has no room.
    #[error("the disk has no room for the index")]
    Full {
        /// The file or folder.
        path: PathBuf,
    },
    /// Another process writes to the index.
    #[error("another process works in the index")]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the holder said of itself.
        holder: String,
    },
    /// The index cannot be written or read.
    #[error("cannot {action} the index: {what}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        what: String,
    },
    /// A query or filter cannot be understood.
    #[error("{what}")]
    Query {
        /// What is wrong with it.
        what: &'static str,
        /// The query or filter.
        text: String,
        /// Byte at which it goes wrong.
        byte: usize,
        /// What to do.
        help: &'static str,
    },
    /// No picture of the index lies at the path.
    #[error("the index holds no picture there")]
    Unknown {
        /// The path.
        path: String,
    },
    /// A folder that was indexed is not there, and nothing is forgotten because of that.
    #[error("a folder of the index cannot be read; its pictures are kept")]
    FolderGone {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        what: String,
    },
    /// A folder in which there were pictures has nothing in it any more, as a mount point without its disk.
    #[error("a folder of the index is empty all of a sudden; its pictures are kept")]
    FolderEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// What is read needs more memory than there is.
    #[error("there is not enough memory to read it")]
    Memory {
        /// The file.
        path: PathBuf,
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// A dump of embeddings does not hold what it must.
    #[error("{what}")]
    Dump {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// What was found.
        got: String,
        /// What it must hold.
        expected: String,
    },
    /// The model.
    #[error(transparent)]
    Model(#[from] altclip::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| {
            use std::io::ErrorKind::{QuotaExceeded, StorageFull};
            match source.kind() {
                StorageFull | QuotaExceeded => Self::Full { path: path.to_owned() },
                _ => Self::Io { action, path: path.to_owned(), what: source.to_string() },
            }
        }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    /// Whether only writing is refused, so that what is there can still be searched.
    pub fn is_about_writing(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Io { .. })
    }
}

/// Whether a file is one of an index, whose folder is there then.
fn is_part(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == CURRENT || name == STORE)
}

impl From<altclip_durable::Error> for Error {
    fn from(error: altclip_durable::Error) -> Self {
        use altclip_durable::Error as Durable;
        let is_full = error.is_full();
        match error {
            Durable::Io { path, .. } if is_full => Self::Full { path },
            Durable::Io { action, path, source } => {
                Self::Io { action, path, what: source.to_string() }
            }
            Durable::Damaged { path, found, .. } => Self::Damaged { path, what: found },
            Durable::Locked { path, holder } => Self::Locked { path, holder },
            Durable::TooLong { path, limit } => {
                Self::Damaged { path, what: format!("it is longer than {limit} bytes") }
            }
            other => Self::Io { action: "write", path: PathBuf::new(), what: other.to_string() },
        }
    }
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        let report = |code| Report::new(code, AREA, self.to_string());
        let at = |code, path: &Path| report(code).place(quote(&path.to_string_lossy()));
        match self {
            Self::Lost { path, found, expected } => at(Code::E7001, path)
                .got(found.as_str())
                .expected(format!("at least {expected}"))
                .help(format!(
                    "restore a backup; or altclip index repair --accept-loss keeps what is left; where nothing is: {ANEW}"
                )),
            Self::Damaged { path, .. } => at(Code::E7003, path)
                .help("altclip index repair keeps what is whole; index add --rebuild begins anew"),
            Self::OtherModel { path, found, expected } => at(Code::E7004, path)
                .got(found.as_str())
                .expected(expected.as_str())
                .help("name the model of the index, or go over to this one: index add --rebuild"),
            Self::NoIndex { path, found } if is_part(path) => at(Code::E7011, path)
                .got(found.as_str())
                .expected("what altclip index add wrote")
                .help(format!("restore a backup, or begin anew: {ANEW}")),
            Self::NoIndex { path, found } => at(Code::E7011, path)
                .got(found.as_str())
                .expected("a folder made by altclip index add")
                .help("check --index; a new index needs a folder of its own"),
            Self::NotAFolder { path } => at(Code::E7011, path)
                .got("a file")
                .expected("a folder made by altclip index add")
                .help("name the folder of the index with --index"),
            Self::Full { path } => {
                at(Code::E7007, path).help("make room on the disk; what is indexed can be searched")
            }
            Self::Locked { path, holder } => {
                at(Code::E7008, path).got(quote(holder)).help("wait for it to end")
            }
            Self::Io { action, path, .. } => at(Code::E7009, path).help(match *action {
                "read" => "check the file or folder, its permissions and its disk",
                _ => "check the folder, its permissions and its disk; reading goes on",
            }),
            Self::Query { text, byte, help, .. } => {
                let rest = text.get(*byte..).filter(|rest| !rest.trim().is_empty() && *byte > 0);
                let report = report(Code::E7006).place(format!("byte {byte} of {}", quote(text)));
                let report = match rest {
                    Some(rest) => report.got(quote(rest)),
                    None => report,
                };
                report.help(*help)
            }
            Self::Unknown { path } => report(Code::E7005)
                .place(quote(path))
                .help("altclip index status lists the folders of the index"),
            Self::FolderGone { path, what } => at(Code::W7013, path)
                .got(what.as_str())
                .help("mount it, or forget it with: altclip index remove"),
            Self::FolderEmpty { path } => at(Code::W7013, path).got("an empty folder").help(
                "mount it; where its pictures were deleted: altclip index update --forget-empty",
            ),
            Self::Memory { path, bytes } => at(Code::E9002, path)
                .got(format!("{bytes} bytes"))
                .expected("room for them")
                .help("use a machine with more memory, or fewer pictures in one index or dump"),
            Self::Dump { path, got, expected, .. } => at(Code::E7014, path)
                .got(got.as_str())
                .expected(expected.as_str())
                .help("a dump has img_emb/*.npy and metadata/*.parquet with as many rows"),
            Self::Model(error) => error.report(),
        }
    }

    fn reports(&self) -> Vec<Report> {
        match self {
            Self::Model(error) => error.reports(),
            _ => vec![self.report()],
        }
    }
}
