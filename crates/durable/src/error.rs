//! What can fail between memory and disk.

use altclip_report::{Code, Diagnose, Report, quote};
use std::io;
use std::path::{Path, PathBuf};

const AREA: &str = "disk";

/// A file that could not be brought to the disk, or not be read from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused an operation.
    #[error("cannot {action} the file or folder")]
    Io {
        /// What was asked: `create`, `write`, `sync`…
        action: &'static str,
        /// Of what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what was written to it, or not what was written down about it.
    #[error("the file does not hold what was written")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its hash and length as written down.
        expected: String,
        /// Those of what is there.
        found: String,
    },
    /// A name is taken that a new folder should get.
    #[error("the folder is there already")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A file is longer than anything that is written there.
    #[error("the file is over the limit")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// Another process works in the folder.
    #[error("another run uses the folder")]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the holder said of itself.
        holder: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the disk has no room left.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Whether nothing lies at the path.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        let report = |code, path: &Path| {
            Report::new(code, AREA, self.to_string()).place(path.display().to_string())
        };
        match self {
            Self::Io { path, source, .. } if self.is_full() => {
                report(Code::E9005, path).got(source.to_string()).help("make room on the disk")
            }
            Self::Io { path, source, .. } => report(Code::E1004, path)
                .got(source.to_string())
                .help("check the folder, its permissions and its disk"),
            Self::Damaged { path, expected, found } => report(Code::E1004, path)
                .got(found.as_str())
                .expected(expected.as_str())
                .help("check the disk: what was read is not what was written"),
            Self::Exists { path } => report(Code::E1003, path).help("name another folder"),
            Self::TooLong { path, limit } => report(Code::E1004, path)
                .expected(format!("at most {limit} bytes"))
                .help("the file was not written by this program"),
            Self::Locked { path, holder } => report(Code::E6008, path)
                .got(quote(holder))
                .help("wait for it or name another folder"),
        }
    }
}
