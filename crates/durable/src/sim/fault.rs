//! Which operation fails, and how.

use std::io;

/// What was asked of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A file was made, emptied or opened for writing.
    Create,
    /// Bytes were written.
    Write,
    /// A file was cut.
    SetLen,
    /// A file was synced.
    Sync,
    /// A folder was synced.
    SyncDir,
    /// A name was changed.
    Rename,
    /// A name was removed.
    Remove,
    /// A folder was made.
    CreateDir,
    /// A file was opened to be read.
    Open,
    /// Bytes were read.
    Read,
    /// A folder was listed or a name looked at.
    Look,
}

impl Operation {
    /// Whether it leaves the disk as it is.
    pub fn only_reads(self) -> bool {
        matches!(self, Self::Open | Self::Read | Self::Look)
    }

    fn changes_a_folder(self) -> bool {
        matches!(self, Self::Create | Self::Rename | Self::Remove | Self::CreateDir)
    }
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The disk is full.
    NoSpace,
    /// The disk does not answer.
    Io,
    /// Half of the bytes are taken, and the call says so.
    ShortWrite,
    /// A sync fails, and what it should have covered never reaches the disk.
    FailedSync,
    /// A rename fails.
    FailedRename,
    /// No name can be made, changed or removed.
    ReadOnlyDir,
    /// A bit of what is written is turned over, and the call says nothing.
    SilentDamage,
    /// A sync of a file does nothing and says nothing: a program that forgot it.
    IgnoredSync,
    /// A sync of a folder does nothing and says nothing.
    IgnoredDirSync,
    /// The machine is off: nothing works any more.
    PowerOff,
}

/// A fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// The number of the operation.
    pub at: usize,
    /// How it fails.
    pub kind: FaultKind,
    /// Whether all operations after it that can fail so do too.
    pub forever: bool,
}

impl FaultKind {
    /// Whether an operation can fail so.
    pub fn concerns(self, operation: Operation) -> bool {
        use Operation::{Create, CreateDir, Rename, Sync, SyncDir, Write};
        match self {
            Self::NoSpace => matches!(operation, Create | CreateDir | Write | Sync | Rename),
            Self::Io | Self::PowerOff => true,
            Self::ShortWrite | Self::SilentDamage => operation == Write,
            Self::IgnoredSync => operation == Sync,
            Self::IgnoredDirSync => operation == SyncDir,
            Self::FailedSync => matches!(operation, Sync | SyncDir),
            Self::FailedRename => operation == Rename,
            Self::ReadOnlyDir => operation.changes_a_folder(),
        }
    }

    /// The error that the caller sees, if any.
    pub(super) fn error(self) -> Option<io::Error> {
        use io::ErrorKind::{Other, ReadOnlyFilesystem, StorageFull};
        Some(match self {
            Self::NoSpace => io::Error::new(StorageFull, "simulated: no space left"),
            Self::Io => io::Error::new(Other, "simulated: input/output error"),
            Self::FailedSync => io::Error::new(Other, "simulated: sync failed"),
            Self::FailedRename => io::Error::new(Other, "simulated: rename failed"),
            Self::ReadOnlyDir => io::Error::new(ReadOnlyFilesystem, "simulated: read-only"),
            Self::PowerOff => io::Error::new(Other, "simulated: power is off"),
            Self::ShortWrite | Self::SilentDamage | Self::IgnoredSync | Self::IgnoredDirSync => {
                return None;
            }
        })
    }
}

impl Fault {
    pub(super) fn hits(&self, number: usize, operation: Operation) -> bool {
        let forever = self.forever || self.kind == FaultKind::PowerOff;
        let here = number == self.at || (forever && number > self.at);
        here && self.kind.concerns(operation)
    }
}
