//! Rows on stdout: JSON Lines for programs, columns and bars for people.

use crate::failure::{Failure, as_json};
use crate::host;
use altclip_report::Report;
use serde_json::Value;
use std::io::{BufWriter, StdoutLock, Write};

/// Buffered stdout whose errors end the command; inside of another program that one's buffer.
pub(crate) struct Out(BufWriter<Sink>);

enum Sink {
    Stdout(StdoutLock<'static>),
    Host,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Sink::Stdout(stdout) => stdout.write(bytes),
            Sink::Host if host::take(bytes) => Ok(bytes.len()),
            Sink::Host => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Sink::Stdout(stdout) => stdout.flush(),
            Sink::Host => Ok(()),
        }
    }
}

impl Out {
    pub(crate) fn new() -> Self {
        let called = host::is_called();
        let sink = || Sink::Stdout(std::io::stdout().lock());
        Self(BufWriter::new(if called { Sink::Host } else { sink() }))
    }

    pub(crate) fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        writeln!(self.0, "{text}").map_err(|error| Failure::stdout(&error))
    }

    pub(crate) fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.0, value)
            .map_err(|error| Failure::stdout(&error.into()))?;
        self.line("")
    }

    /// Hands over what is buffered, so that a reader sees complete rows.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(|error| Failure::stdout(&error))
    }
}

/// A bad input as a row: `{"kind", "input", "error": {"code", "message", …}}`.
pub(crate) fn bad_row(kind: &str, input: &str, report: &Report) -> Value {
    serde_json::json!({ "kind": kind, "input": input, "error": as_json(report) })
}

/// A bar of `width` characters for a share from 0 to 1.
pub(crate) fn bar(share: f32, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (width * 8) as f32).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// Columns that a terminal gives to a text: wide characters take two.
pub(crate) fn columns(text: &str) -> usize {
    let wide = |c: char| matches!(c as u32, 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd);
    text.chars().map(|c| 1 + usize::from(wide(c))).sum()
}

/// Text filled with spaces to `width` terminal columns.
pub(crate) fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_columns() {
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(1.0 / 32.0, 4), "▏");
        assert_eq!(bar(2.0, 2), "██");
        assert_eq!(columns("一只猫 a"), 8);
        assert_eq!(pad("猫", 4), "猫  ");
    }
}
