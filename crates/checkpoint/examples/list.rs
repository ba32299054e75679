//! Lists the tensors of one weight file: `cargo run --example list -- FILE`.
//!
//! The tests also run it under `strace`, on hostile files, to see that a file is only read.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use altclip_checkpoint::Checkpoint;
use altclip_report::Diagnose;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: list FILE");
        return ExitCode::from(2);
    };
    match Checkpoint::open_file(&path) {
        Ok(checkpoint) => {
            for info in checkpoint.names().filter_map(|name| checkpoint.get(name)) {
                println!("{} {} {:?}", info.name, info.dtype, info.shape);
            }
            for warning in checkpoint.warnings() {
                eprintln!("{warning}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            for report in error.reports() {
                eprintln!("{report}");
            }
            ExitCode::from(error.report().code.exit_status())
        }
    }
}
