//! The one form in which every crate of this project reports an error.
//!
//! A library's error enum implements [`Diagnose`]: it says its stable code, where the fault is, what
//! was found, what was expected and what to do next. The edges (command line, server, Python) print
//! a [`Report`] in their own dialect; the exit status follows from the code alone.
//!
//! ```
//! use altclip_report::{Code, Report};
//! let report = Report::new(Code::E2103, "checkpoint", "tensor «a.weight» has shape [2, 3]")
//!     .place("model.safetensors")
//!     .got("[2, 3]")
//!     .expected("[3, 3]")
//!     .help("check that weights and config.json come from the same model");
//! assert!(report.to_string().starts_with("error[E2103] checkpoint: tensor «a.weight»"));
//! assert_eq!(report.code.exit_status(), 4);
//! ```

#![forbid(unsafe_code)]

mod code;

pub use code::{CODES, Code};

use std::fmt;

/// Longest printed report, in bytes.
pub const MAX_REPORT_BYTES: usize = 400;
/// Longest piece of foreign text (names, file contents, user input) inside a report, in bytes.
pub const MAX_QUOTE_BYTES: usize = 80;
/// Most reports listed for one file; the rest are counted.
pub const MAX_REPORTS: usize = 20;

/// What an error says to the person or the program that must act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Stable code, documented in `docs/errors.md`.
    pub code: Code,
    /// The part of the program that speaks: `checkpoint`, `tokenizer`, `image`…
    pub area: &'static str,
    /// One sentence, lower case, without a full stop.
    pub message: String,
    /// Where: file, byte, line, tensor, record key or item index.
    pub place: Option<String>,
    /// What was found.
    pub got: Option<String>,
    /// The limit or what was expected.
    pub expected: Option<String>,
    /// The next step.
    pub help: String,
}

impl Report {
    /// A report with a code, an area and a message; the rest is added by the builder methods.
    pub fn new(code: Code, area: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, area, message, place: None, got: None, expected: None, help: String::new() }
    }

    /// Sets where the fault is.
    #[must_use]
    pub fn place(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Sets what was found.
    #[must_use]
    pub fn got(mut self, got: impl Into<String>) -> Self {
        self.got = Some(got.into());
        self
    }

    /// Sets the limit or what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Sets the next step.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// The message with what was found, what was expected and where, on one line, without code and
    /// help.
    pub fn sentence(&self) -> String {
        let mut text = self.message.clone();
        match (&self.got, &self.expected) {
            (Some(got), Some(expected)) => text += &format!(": got {got}, expected {expected}"),
            (Some(got), None) => text += &format!(": got {got}"),
            (None, Some(expected)) => text += &format!(": expected {expected}"),
            (None, None) => {}
        }
        if let Some(place) = &self.place {
            text += &format!(" ({place})");
        }
        escape(&text)
    }
}

/// `error[CODE] area: sentence. help: …` on one line of at most [`MAX_REPORT_BYTES`] bytes; a
/// warning or notice says so instead of `error`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = format!("{}[{}] {}: ", self.code.severity(), self.code, self.area);
        let help = if self.help.is_empty() {
            String::new()
        } else {
            format!(" help: {}", escape(&self.help))
        };
        let room = MAX_REPORT_BYTES.saturating_sub(head.len() + 1);
        let help = clip(&help, room / 2);
        let sentence = self.sentence();
        let sentence = clip(&sentence, room - help.len());
        write!(f, "{head}{sentence}.{help}")
    }
}

impl std::error::Error for Report {}

/// An error that can say what happened, where, and what to do next.
pub trait Diagnose: std::error::Error {
    /// The report of this error. Where one file has several faults, the first of them.
    fn report(&self) -> Report;

    /// All reports of this error: several where all faults of one file were collected.
    fn reports(&self) -> Vec<Report> {
        vec![self.report()]
    }
}

/// Foreign text made safe for a message: control characters escaped, at most
/// [`MAX_QUOTE_BYTES`] bytes, in «guillemets».
pub fn quote(text: &str) -> String {
    format!("«{}»", clip(&escape(clip(text, 4 * MAX_QUOTE_BYTES)), MAX_QUOTE_BYTES - 3))
        .replace('\u{0}', "\\0")
}

/// Foreign text made safe for a line of a terminal, whole and without marks around it: control characters, ends
/// of lines and what changes the direction of writing are escaped.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Bidirectional controls and separators can rewrite a terminal line as well as C0/C1 can.
        let hidden = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || hidden {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The longest prefix of at most `bytes` bytes that ends at a character, with `…` where it was cut.
fn clip(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let mut end = bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_short_line() {
        let long = "x\n\u{1b}[31m".repeat(200);
        let report = Report::new(Code::E2102, "checkpoint", &long).place(&long).help(&long);
        let line = report.to_string();
        assert!(line.len() <= MAX_REPORT_BYTES, "{} bytes", line.len());
        assert!(!line.chars().any(char::is_control));
        assert!(line.contains("help:"));
    }

    #[test]
    fn quoted_text_is_short_and_harmless() {
        for text in ["a\0b\n", "名前".repeat(100).as_str(), "\u{202e}evil", ""] {
            let quoted = quote(text);
            assert!(quoted.len() <= MAX_QUOTE_BYTES + 3, "{}", quoted.len());
            assert!(!quoted.chars().any(char::is_control));
        }
    }

    #[test]
    fn an_escaped_line_is_whole_and_harmless() {
        assert_eq!(escape("/p/大 猫.png"), "/p/大 猫.png");
        assert_eq!(escape("a\u{1b}[31m\n\u{202e}b\u{9b}"), "a\\u{1b}[31m\\n\\u{202e}b\\u{9b}");
        let long = "x".repeat(5000);
        assert_eq!(escape(&long), long);
    }

    #[test]
    fn every_code_has_a_status_and_a_meaning() {
        for pair in CODES.windows(2) {
            assert!(pair[0].as_str()[1..] <= pair[1].as_str()[1..], "{} is out of order", pair[1]);
        }
        for code in CODES {
            assert!(!code.meaning().is_empty());
            assert!([0, 2, 3, 4, 5, 6, 7, 8, 70, 75].contains(&code.exit_status()), "{code}");
        }
    }
}
