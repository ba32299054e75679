//! The command `altclip`: arguments in, rows and reports out.
//!
//! [`program`] is the whole program. Results go to stdout, everything else (progress, warnings, errors)
//! to stderr; the exit status is that of the contract in `docs/errors.md`. [`call`] runs the same commands
//! inside of another program, the [`Host`], which gets the rows and the reports instead.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod failure;
mod files;
mod host;
mod inputs;
mod model;
mod output;
mod thumbnail;

pub use host::{Called, Host, call};
pub use model::{cache, model_folder};

use args::{Cli, Command};
use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use failure::{Failure, Reporter};
use std::ffi::OsString;

/// Runs a command line, the program's name first, and gives back the exit status of the process.
pub fn program(args: Vec<OsString>) -> u8 {
    let reporter = Reporter::from_args(args.iter().cloned());
    failure::report_panics(reporter);
    match std::panic::catch_unwind(|| parse_and_run(args, reporter)) {
        Ok(Ok(())) => 0,
        Ok(Err(failure)) => reporter.fail(&failure),
        // The hook has reported it.
        Err(_) => altclip_report::Code::E9001.exit_status(),
    }
}

fn parse_and_run(args: Vec<OsString>, reporter: Reporter) -> Result<(), Failure> {
    let args = args::config_file::expanded(args)?;
    let matches = understood(&args).map_err(failure::usage)?;
    let cli = Cli::from_arg_matches(&matches).map_err(failure::usage)?;
    let given = matches.subcommand().map(|(_, matches)| matches);
    run(&cli, given.unwrap_or(&matches), reporter)
}

/// Understands a command line. No flag is a hyphen before anything but a letter or a hyphen, so a query may be:
/// `-2*car`, `- dog`.
fn understood(args: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let is_no_flag = |error: &clap::Error| match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => arg
            .strip_prefix('-')
            .is_some_and(|rest| !rest.starts_with(|c: char| c == '-' || c.is_ascii_alphabetic())),
        _ => false,
    };
    match Cli::command().try_get_matches_from(args) {
        Err(error) if is_no_flag(&error) => Cli::command()
            .mut_subcommand("search", |search| {
                search.mut_arg("query", |query| query.allow_hyphen_values(true))
            })
            .try_get_matches_from(args),
        understood => understood,
    }
}

fn run(cli: &Cli, given: &clap::ArgMatches, reporter: Reporter) -> Result<(), Failure> {
    let reporter = reporter.quiet(cli.quiet);
    match &cli.command {
        Command::Embed(args) => commands::embed::run(args, given, reporter),
        Command::Classify(args) => commands::classify::run(args, reporter),
        Command::Similarity(args) => commands::similarity::run(args, reporter),
        Command::Tokenize(args) => commands::tokenize::run(args, reporter),
        Command::Preprocess(args) => commands::preprocess::run(args),
        Command::Info(args) => commands::info::run(args),
        Command::Download(args) => commands::download::run(args, reporter),
        Command::Demo(args) => commands::demo::run(args, reporter),
        Command::Train(args) => commands::train::run(args, reporter),
        Command::Bench(args) => commands::bench::run(args),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Eval(args) => commands::eval::run(args, reporter),
        Command::Convert(args) => commands::convert::run(args, reporter),
        Command::Index(args) => commands::index::run(args, reporter),
        Command::Search(args) => commands::search::run(args, reporter),
        Command::Serve(args) => commands::serve::run(args, reporter),
        Command::Completions { shell } => commands::completions(*shell),
    }
}
