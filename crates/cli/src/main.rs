//! The command `altclip`: arguments in, rows and reports out.
//!
//! Results go to stdout, everything else (progress, warnings, errors) to stderr. The exit status is
//! that of the contract in `docs/errors.md`.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod failure;
mod files;
mod inputs;
mod model;
mod output;
mod thumbnail;

use args::{Cli, Command};
use clap::{CommandFactory, FromArgMatches};
use failure::{Failure, Reporter};
use std::process::ExitCode;

fn main() -> ExitCode {
    let reporter = Reporter::from_args(std::env::args_os());
    failure::report_panics(reporter);
    let run = || {
        let args = args::config_file::expanded(std::env::args_os().collect())?;
        let matches = Cli::command().try_get_matches_from(args).map_err(failure::usage)?;
        let cli = Cli::from_arg_matches(&matches).map_err(failure::usage)?;
        let given = matches.subcommand().map(|(_, matches)| matches);
        run(&cli, given.unwrap_or(&matches), reporter)
    };
    match std::panic::catch_unwind(run) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => reporter.fail(&failure),
        // The hook has reported it.
        Err(_) => ExitCode::from(altclip_report::Code::E9001.exit_status()),
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
