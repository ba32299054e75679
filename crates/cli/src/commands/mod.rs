//! One file for each command: arguments to rows.

mod accuracy;
pub(crate) mod bench;
pub(crate) mod classify;
mod contact_sheet;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod download;
mod dump;
pub(crate) mod embed;
mod embed_shards;
mod end_to_end;
pub(crate) mod eval;
pub(crate) mod index;
pub(crate) mod info;
pub(crate) mod preprocess;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod similarity;
pub(crate) mod tokenize;
pub(crate) mod train;

use crate::args::{Cli, MaxBad};
use crate::failure::{Failure, Reporter};
use crate::inputs::Input;
use altclip::{Model, Pictures};
use altclip_report::{Code, Diagnose, Report};
use clap::CommandFactory;

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

/// Embeds pictures in order: `put` gets each input with its row or its fault, and whether the next one
/// is there already. A model that cannot be used is the fault of every picture.
pub(crate) fn each_picture(
    model: &Model,
    inputs: &[Input],
    normalize: bool,
    mut put: impl FnMut(&Input, Result<Vec<f32>, Report>, bool) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut options = model.picture_options();
    options.normalize = normalize;
    let paths: Vec<_> = inputs.iter().filter_map(Input::path).cloned().collect();
    let mut rows = model.pictures(paths.into_iter(), &options);
    for input in inputs {
        let result = match (input, &mut rows) {
            (Input::Image { path: Err(report), .. }, _) => Err(report.clone()),
            (_, Ok(rows)) => next_row(rows),
            (_, Err(error)) => Err(error.report()),
        };
        put(input, result, rows.as_ref().is_ok_and(Pictures::is_ready))?;
    }
    Ok(())
}

/// The next row of a pipeline, which has one for each input.
fn next_row<T>(rows: &mut impl Iterator<Item = altclip::Result<T>>) -> Result<T, Report> {
    match rows.next() {
        Some(row) => row.map_err(|error| error.report()),
        None => Err(Report::new(Code::E9001, "input", "an input has no row")
            .help("please report this line and the command")),
    }
}

/// Fewer inputs than this are done before a progress bar is read.
const WORTH_A_BAR: usize = 16;

/// A bar on stderr with inputs a second and the time that is left, where somebody looks at it.
fn progress(inputs: usize, reporter: Reporter) -> indicatif::ProgressBar {
    if !reporter.shows_progress() || inputs < WORTH_A_BAR {
        return indicatif::ProgressBar::hidden();
    }
    let template = "{bar:30} {pos}/{len} {per_sec} eta {eta}";
    let style = indicatif::ProgressStyle::with_template(template)
        .unwrap_or(indicatif::ProgressStyle::default_bar());
    indicatif::ProgressBar::new(inputs as u64).with_style(style)
}
