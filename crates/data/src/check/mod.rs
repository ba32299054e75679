//! What samples cannot teach, found before a run.
//!
//! A check is fed some samples, best the first thousands of the shuffled order, and gives [`Findings`]: each with
//! its severity, a number, a sentence and the next step. It reads nothing and decides nothing.

mod captions;
mod floor;
mod numerals;
mod parallel;
mod script;
mod texts;

use std::fmt;

use serde::Serialize;

pub use captions::CaptionCheck;
pub use floor::loss_floor;
pub use parallel::ParallelCheck;
pub use script::Script;

use altclip_report::{Code, Report};

use crate::Error;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Notice,
    /// Training works, but worse than it could.
    Warning,
    /// Nothing useful can be learned.
    Error,
}

/// What a check is made against.
#[derive(Clone, Copy)]
pub struct CheckSettings<'a> {
    /// Samples that are compared with each other in a step.
    pub batch_size: usize,
    /// Samples of the whole dataset, of which the check may see some.
    pub samples: u64,
    /// Length of a text, in tokens or whatever [`CheckSettings::unit`] says.
    pub length: &'a (dyn Fn(&str) -> usize + Sync),
    /// What `length` counts, for messages: `tokens`.
    pub unit: &'a str,
    /// Longest text that is not cut.
    pub max_length: usize,
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable name, `loss_floor`.
    pub name: &'static str,
    /// The number that the finding is about: a count, a share or a loss.
    pub number: f64,
    /// One sentence, lower case, without a full stop.
    pub text: String,
    /// The next step; empty where there is none.
    pub help: &'static str,
}

impl Finding {
    /// The finding as a report: an error, or a warning; a notice is none.
    pub fn report(&self) -> Option<Report> {
        let code = match self.severity {
            Severity::Notice => return None,
            Severity::Warning => Code::W5013,
            Severity::Error => Code::E5012,
        };
        Some(Report::new(code, "dataset", self.text.as_str()).help(self.help))
    }
}

/// What a check found, the gravest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Findings {
    /// Samples looked at, the bad ones included.
    pub samples: u64,
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Findings {
    fn new(samples: u64, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Self { samples, findings }
    }

    /// The finding of this name.
    pub fn get(&self, name: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.name == name)
    }

    /// Whether training makes sense.
    ///
    /// # Errors
    /// [`Error::Unfit`] with the first finding that is an error.
    pub fn verdict(&self) -> Result<(), Error> {
        match self.findings.iter().find(|finding| finding.severity == Severity::Error) {
            None => Ok(()),
            Some(Finding { text, help, .. }) => Err(Error::Unfit { what: text.clone(), help }),
        }
    }
}

/// A line each: `warning: what (name); help`.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Notice => "notice",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {} ({})", self.text, self.name)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "; {}", self.help) }
    }
}

/// `part` of `whole`, 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Like `12.5 %`.
fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * share(part, whole))
}

/// The severity of something of which a little is bad and much is fatal.
fn graded(share: f64, warning: f64, error: f64) -> Option<Severity> {
    if share >= error {
        Some(Severity::Error)
    } else if share > 0.0 && share >= warning {
        Some(Severity::Warning)
    } else {
        None
    }
}
