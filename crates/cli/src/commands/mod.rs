//! One file for each command: arguments to rows.

pub(crate) mod bench;
pub(crate) mod classify;
pub(crate) mod doctor;
pub(crate) mod download;
mod dump;
pub(crate) mod embed;
mod end_to_end;
pub(crate) mod info;
pub(crate) mod preprocess;
pub(crate) mod similarity;
pub(crate) mod tokenize;

use crate::args::{Cli, MaxBad};
use crate::failure::Failure;
use crate::inputs::Input;
use altclip::Model;
use altclip::image::Rgb;
use altclip_report::{Diagnose, Report};
use clap::CommandFactory;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `altclip completions SHELL`.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "altclip", &mut script);
    let mut out = crate::output::Out::new();
    out.line(String::from_utf8_lossy(&script).trim_end())?;
    out.flush()
}

/// Counts inputs and bad inputs, and decides at the end.
#[derive(Default)]
pub(crate) struct Tally {
    all: u64,
    bad: u64,
    first: Option<Report>,
}

impl Tally {
    pub(crate) fn good(&mut self) {
        self.all += 1;
    }

    pub(crate) fn bad(&mut self, report: &Report) {
        self.all += 1;
        self.bad += 1;
        self.first.get_or_insert_with(|| report.clone());
    }

    /// Over the budget, the first bad input decides the exit status. The rows have said it all, so
    /// one line sums up.
    pub(crate) fn verdict(self, max_bad: MaxBad) -> Result<(), Failure> {
        match self.first {
            Some(mut first) if !max_bad.allows(self.bad, self.all) => {
                if self.all > 1 {
                    first.message = format!(
                        "{} of {} inputs were refused, the first: {}",
                        self.bad, self.all, first.message
                    );
                    first.help = format!("{}; --max-bad allows some", first.help);
                }
                Err(Failure::one(first))
            }
            _ => Ok(()),
        }
    }
}

/// Decodes pictures on as many threads as the model has; the order stays.
pub(crate) fn decode(model: &Model, inputs: &[Input]) -> Vec<Result<Rgb, Report>> {
    let results: Mutex<Vec<Option<Result<Rgb, Report>>>> =
        Mutex::new(inputs.iter().map(|_| None).collect());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((nth, input)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, inputs.get(n)?)))
        {
            let Input::Image { path, .. } = input else { continue };
            let result = match path {
                Ok(path) => model.open_image(path).map_err(|error| error.report()),
                Err(report) => Err(report.clone()),
            };
            results.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[nth] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..model.backend().threads().min(inputs.len()) {
            scope.spawn(work);
        }
        work();
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.into_iter().flatten().collect()
}
