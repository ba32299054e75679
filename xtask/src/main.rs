//! Tasks of this repository that are longer than a line.
//!
//! `cargo xtask demo [--json]` makes a small random checkpoint and a few pictures under `build/demo`
//! and classifies them with the built `altclip`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr)]

mod demo;

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["demo"] => demo::run(false),
        ["demo", "--json"] => demo::run(true),
        _ => Err("usage: cargo xtask demo [--json]".into()),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            std::process::ExitCode::FAILURE
        }
    }
}
