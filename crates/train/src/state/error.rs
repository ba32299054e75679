//! What can be wrong with the files of a run.

use altclip_report::{Code, Diagnose, Report, quote};
use std::io;
use std::path::{Path, PathBuf};

const AREA: &str = "training";

/// Files of a run that cannot be written, read or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder.
    #[error(transparent)]
    Disk(#[from] altclip_durable::Error),
    /// A tensor that cannot be written, or one too large for the memory.
    #[error(transparent)]
    Tensors(#[from] altclip_checkpoint::Error),
    /// The counters cannot be written as JSON and read back.
    #[error("the state of the run has a number that is not finite")]
    NotFinite,
    /// A checkpoint could not be saved; training can go on.
    #[error("the checkpoint of step {step} was not saved: {source}")]
    Save {
        /// The step.
        step: u64,
        /// How many saves failed one after the other, this one among them.
        in_a_row: u32,
        /// Bytes that the checkpoint needs.
        needed: u64,
        /// Bytes that are free, where the system tells.
        free: Option<u64>,
        /// The step of the last checkpoint that was saved.
        last_good: Option<u64>,
        /// Why.
        source: Box<Error>,
    },
    /// The disk has no room for the checkpoints of a run.
    #[error("the disk has no room for {copies} checkpoints")]
    Space {
        /// The folder of the run.
        dir: PathBuf,
        /// How many must fit.
        copies: u64,
        /// Bytes that they need.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A checkpoint that is not what was saved.
    #[error("the checkpoint of step {step} is damaged: {what}")]
    Damaged {
        /// The step.
        step: u64,
        /// Its folder.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// `LATEST` names a checkpoint that is gone, and only it was allowed.
    #[error("the newest checkpoint is gone")]
    Gone {
        /// Its step.
        step: u64,
        /// The folder of the checkpoints.
        dir: PathBuf,
    },
    /// The checkpoint was made with another configuration or other data.
    #[error("the checkpoint of step {step} belongs to another run")]
    OtherRun {
        /// The step.
        step: u64,
        /// Every field that differs.
        differences: Vec<Difference>,
    },
    /// The log does not begin with the lines that were there when the checkpoint was saved.
    #[error("the log is not the one of the checkpoint")]
    Log {
        /// The log.
        path: PathBuf,
        /// Bytes that the checkpoint knows.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// A signal ended the run; its state was saved.
    #[error("stopped by a signal after step {step}; the state is saved")]
    Interrupted {
        /// The step.
        step: u64,
        /// The folder of the run.
        dir: PathBuf,
        /// The number of the signal.
        signal: i32,
    },
}

/// A field in which two runs differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub field: String,
    /// What the checkpoint says.
    pub saved: Option<String>,
    /// What this run says.
    pub now: Option<String>,
}

impl Error {
    /// Whether the machine and not the checkpoint is at fault, so that an older checkpoint would
    /// fare no better.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Tensors(altclip_checkpoint::Error::Memory { .. }))
    }
}

/// What turns an error of the file system into one of ours.
pub(crate) fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| altclip_durable::Error::Io { action, path, source }.into()
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        let new = |code| Report::new(code, AREA, self.to_string());
        match self {
            Self::Disk(error) => error.report(),
            Self::Tensors(error) => error.report(),
            Self::NotFinite => new(Code::E9003).help("report this as a bug"),
            Self::Save { in_a_row, needed, free, last_good, source, .. } => {
                let cause = source.report();
                let free = free.map_or_else(|| "unknown".into(), |free| free.to_string());
                let last = match last_good {
                    Some(step) => format!("step {step}"),
                    None => "none".into(),
                };
                // The cause's own number and unit belong to the place.
                let place = cause.place.unwrap_or_default();
                new(Code::E6001)
                    .place(place)
                    .got(format!(
                        "{}; {free} bytes free, failure {in_a_row} in a row, last good: {last}",
                        cause.got.unwrap_or_else(|| cause.message.clone())
                    ))
                    .expected(format!("{needed} bytes"))
                    .help(cause.help)
            }
            Self::Space { dir, needed, free, .. } => new(Code::E6001)
                .place(dir.display().to_string())
                .got(format!("{free} bytes free"))
                .expected(format!("{needed} bytes"))
                .help("make room on the disk or name another folder"),
            Self::Damaged { dir, .. } => new(Code::E6010)
                .place(dir.display().to_string())
                .help("without --resume exact an older checkpoint is used where there is one"),
            Self::Gone { step, dir } => new(Code::E6010)
                .place(dir.display().to_string())
                .expected(format!("step {step}"))
                .help("without --resume exact the newest one that is there is used"),
            Self::OtherRun { differences, .. } => {
                let side = |pick: fn(&Difference) -> &Option<String>| {
                    let shown = differences.iter().take(4).map(|d| {
                        let value = pick(d).as_deref().unwrap_or("nothing");
                        format!("{} = {}", d.field, quote(value))
                    });
                    shown.collect::<Vec<_>>().join(", ")
                };
                let place = match differences.len() {
                    1 => "one field".to_owned(),
                    n => format!("{n} fields"),
                };
                new(Code::E6003)
                    .place(place)
                    .got(side(|d| &d.now))
                    .expected(side(|d| &d.saved))
                    .help("go on with the saved configuration, or start in another folder")
            }
            Self::Log { path, expected, found } => new(Code::E6011)
                .place(path.display().to_string())
                .got(format!("{found} bytes that are others"))
                .expected(format!("the {expected} bytes of the checkpoint"))
                .help("move the file away; a new log then begins at this step"),
            Self::Interrupted { dir, signal, .. } => new(Code::E6009)
                .place(dir.display().to_string())
                .got(format!("signal {signal}"))
                .help("the same command with --resume goes on where it stopped"),
        }
    }

    /// A report for each field that differs.
    fn reports(&self) -> Vec<Report> {
        let Self::OtherRun { differences, .. } = self else { return vec![self.report()] };
        let text = |value: &Option<String>| value.as_deref().map_or("nothing".into(), quote);
        let one = |d: &Difference| {
            Report::new(Code::E6003, AREA, self.to_string())
                .place(quote(&d.field))
                .got(text(&d.now))
                .expected(text(&d.saved))
                .help("go on with the saved configuration, or start in another folder")
        };
        differences.iter().map(one).collect()
    }
}
