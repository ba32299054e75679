//! The program `altclip`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(altclip_cli::program(std::env::args_os().collect()))
}
