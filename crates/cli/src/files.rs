//! Output files, complete or not at all.

use crate::failure::{self, Failure};
use altclip_report::{Code, Report, quote};
use std::io::Write;
use std::path::Path;

/// Writes a file under a temporary name beside `path` and renames it when it is complete.
pub(crate) fn write_file(
    path: &Path,
    overwrite: bool,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Failure> {
    if !overwrite && path.symlink_metadata().is_ok() {
        return Err(taken(path, "name another file"));
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let result = std::fs::File::create(&temporary).and_then(|file| {
        let mut file = std::io::BufWriter::new(file);
        write(&mut file)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    result.map_err(|error| {
        // It may never have been made.
        let _ = std::fs::remove_file(&temporary);
        cannot_write(path, &error)
    })
}

/// The failure of a command that has no flag to write over what is there.
pub(crate) fn exists(path: &Path) -> Failure {
    taken(path, "choose another name")
}

/// That of one which has `--overwrite`.
pub(crate) fn exists_unless_overwritten(path: &Path) -> Failure {
    taken(path, "choose another name, or add --overwrite")
}

fn taken(path: &Path, help: &str) -> Failure {
    Failure::one(
        Report::new(Code::E1003, "output", "the output exists already")
            .place(quote(&path.to_string_lossy()))
            .got("an existing file or folder")
            .expected("a new name")
            .help(help),
    )
}

pub(crate) fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    let help = "check that the folder exists and may be written";
    let (code, help) = failure::cannot_write(error, help);
    Failure::one(
        Report::new(code, "output", format!("the output cannot be written: {error}"))
            .place(quote(&path.to_string_lossy()))
            .help(help),
    )
}
