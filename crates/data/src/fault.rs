//! What is wrong with one sample: a reason that is counted, a place, and what was found.

use std::fmt;

use altclip_report::{Code, Diagnose, Report};
use serde::{Deserialize, Serialize};

use crate::Place;

/// Why a sample was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// A shard that is cut off or contradicts itself; the sample stands for what is lost.
    DamagedShard,
    /// A path that leaves its folder, or something that is not a regular file.
    ForbiddenPath,
    /// No picture, or its file is not there.
    MissingImage,
    /// More than one picture for one key.
    SeveralImages,
    /// No caption, or only empty ones; an empty half of a pair.
    NoText,
    /// A key or id that occurred before.
    DuplicateKey,
    /// A line that is not valid TSV, JSON or CSV, or lacks a column.
    BrokenLine,
    /// A line with the character NUL.
    Nul,
    /// A text that is not UTF-8.
    NotUtf8,
    /// A line or text over the limit.
    TooLong,
    /// No label, or one without a class name.
    BadLabel,
    /// A language that was not asked for.
    OtherLanguage,
    /// A picture that cannot be decoded; the dataset itself never says so.
    BadPicture,
    /// A file that cannot be read, after three tries. Fatal.
    Unreadable,
    /// A number that is not below the number of samples. Fatal.
    NoSuchSample,
    /// The thread that prepared it panicked, and did so again; the dataset itself never says so. Fatal.
    WorkerPanicked,
    /// The thread that prepares it does not end; the dataset itself never says so. Fatal.
    WorkerHangs,
}

impl Reason {
    /// The stable code.
    pub fn code(self) -> Code {
        match self {
            Self::DamagedShard => Code::E5001,
            Self::ForbiddenPath => Code::E5002,
            Self::MissingImage | Self::SeveralImages | Self::NoText | Self::DuplicateKey => {
                Code::E5003
            }
            Self::BrokenLine | Self::Nul | Self::NotUtf8 | Self::TooLong => Code::E5004,
            Self::Unreadable => Code::E5005,
            Self::BadLabel => Code::E5010,
            Self::OtherLanguage => Code::E5011,
            Self::BadPicture => Code::E4004,
            Self::NoSuchSample => Code::E9001,
            Self::WorkerPanicked | Self::WorkerHangs => Code::E6006,
        }
    }

    pub(crate) fn help(self) -> &'static str {
        match self {
            Self::DamagedShard => "write or download the shard again",
            Self::ForbiddenPath => {
                "paths lie inside of the folder of the pictures, without `..`; links are not followed: \
                 put the files in their place (cp -rL)"
            }
            Self::MissingImage => "check --images, and that the file is there",
            Self::SeveralImages => "write one picture a key",
            Self::NoText => "give the sample a text or remove it",
            Self::DuplicateKey => "give each sample its own key",
            Self::BrokenLine => "correct the line; columns are chosen with --columns",
            Self::Nul | Self::NotUtf8 => "write the file in UTF-8 without NUL",
            Self::TooLong => "check for a missing line end; shorten the text",
            Self::BadLabel => "labels are numbers from 0, one line of classnames.txt each",
            Self::OtherLanguage => "remove the sample, or ask for its language too",
            Self::BadPicture => "remove the picture",
            Self::Unreadable => "check the disk or the network, then resume",
            Self::NoSuchSample => "report this as a bug",
            Self::WorkerPanicked => "report this as a bug, with the sample; --resume goes on",
            Self::WorkerHangs => "check the disk or the network, then --resume",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DamagedShard => "damaged shard",
            Self::ForbiddenPath => "forbidden path",
            Self::MissingImage => "missing image",
            Self::SeveralImages => "several images",
            Self::NoText => "no text",
            Self::DuplicateKey => "duplicate key",
            Self::BrokenLine => "broken line",
            Self::Nul => "NUL",
            Self::NotUtf8 => "not UTF-8",
            Self::TooLong => "too long",
            Self::BadLabel => "bad label",
            Self::OtherLanguage => "other language",
            Self::BadPicture => "bad picture",
            Self::Unreadable => "unreadable",
            Self::NoSuchSample => "no such sample",
            Self::WorkerPanicked => "a data worker panicked twice",
            Self::WorkerHangs => "a data worker hangs",
        })
    }
}

/// What is wrong with one sample, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Fault {
    /// Why; the unit in which faults are counted.
    pub reason: Reason,
    /// Where.
    pub place: Place,
    /// What was found, in words.
    pub detail: String,
}

impl Fault {
    /// A fault with its three parts.
    pub fn new(reason: Reason, place: Place, detail: impl Into<String>) -> Self {
        Self { reason, place, detail: detail.into() }
    }

    /// Whether going on with other samples makes no sense.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self.reason,
            Reason::Unreadable
                | Reason::NoSuchSample
                | Reason::WorkerPanicked
                | Reason::WorkerHangs
        )
    }
}

impl Diagnose for Fault {
    fn report(&self) -> Report {
        Report::new(self.reason.code(), "dataset", self.to_string())
            .place(self.place.to_string())
            .help(self.reason.help())
    }
}
