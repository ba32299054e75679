//! From errors to lines on stderr and an exit status.

use crate::host;
use altclip_report::{Code, Diagnose, MAX_REPORTS, Report};
use std::ffi::OsString;
use std::io::Write as _;

/// Why a command ends before its time.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Faults to be reported; the first decides the exit status.
    Reports(Vec<Report>),
    /// Everything was said already; only the status is left.
    Status(u8),
    /// Help or version was asked for.
    Shown(String),
    /// Whoever reads our output has stopped reading, which is fine.
    BrokenPipe,
}

impl<E: Diagnose> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Reports(error.reports())
    }
}

impl Failure {
    pub(crate) fn one(report: Report) -> Self {
        Failure::Reports(vec![report])
    }

    /// A failed write to stdout.
    pub(crate) fn stdout(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::BrokenPipe;
        }
        let (code, help) = cannot_write(error, "check where the output is redirected to");
        Failure::one(
            Report::new(code, "output", format!("stdout cannot be written: {error}"))
                .place("stdout")
                .help(help),
        )
    }
}

/// The code of a failed write, and what to do; `otherwise` where the disk is not full.
pub(crate) fn cannot_write(
    error: &std::io::Error,
    otherwise: &'static str,
) -> (Code, &'static str) {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => (Code::E9005, "make room on the disk"),
        _ => (Code::E1004, otherwise),
    }
}

/// A clap error as a report, or the text that was asked for.
pub(crate) fn usage(error: clap::Error) -> Failure {
    if !error.use_stderr() {
        return Failure::Shown(error.render().to_string());
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::one(
            Report::new(Code::E1001, "usage", "no command was given")
                .place("command line")
                .help("see --help; for example: altclip classify --model DIR --label 猫 cat.jpg"),
        );
    }
    let text = error.render().to_string();
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let message: Vec<&str> = lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("tip:"))
        .collect();
    let message = message.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let tip = lines().find_map(|line| line.strip_prefix("tip: "));
    let help = match tip {
        Some(tip) => format!("{tip}; see --help"),
        None => "see --help".into(),
    };
    Failure::one(Report::new(Code::E1001, "usage", message).place("command line").help(help))
}

/// Writes reports to stderr in the form that was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Reporter {
    json: bool,
    quiet: bool,
}

impl Reporter {
    /// Looks for `--error-format json` by itself, so that even a usage error obeys it.
    pub(crate) fn from_args(args: impl Iterator<Item = OsString>) -> Self {
        let args: Vec<OsString> = args.collect();
        let json = args.iter().any(|arg| arg == "--error-format=json")
            || args.windows(2).any(|pair| pair[0] == "--error-format" && pair[1] == "json");
        Self { json, quiet: false }
    }

    /// That of a command which another program called.
    pub(crate) fn of_host() -> Self {
        Self { json: false, quiet: false }
    }

    pub(crate) fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// Whether nothing but errors is to be said.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Whether progress may be shown.
    pub(crate) fn shows_progress(self) -> bool {
        use std::io::IsTerminal as _;
        !self.quiet && !self.json && !host::is_called() && std::io::stderr().is_terminal()
    }

    /// Warnings and notices, unless `--quiet`.
    pub(crate) fn warn(self, reports: &[Report]) {
        if !self.quiet && !host::warn(reports) {
            self.print(reports);
        }
    }

    /// A line for a person who watches, unless `--quiet`.
    pub(crate) fn say(self, text: &str) {
        if !self.quiet && !self.json && !host::say(text) {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// Reports a failure and gives back the exit status.
    pub(crate) fn fail(self, failure: &Failure) -> u8 {
        match failure {
            Failure::BrokenPipe => 0,
            Failure::Status(status) => *status,
            Failure::Shown(text) => match std::io::stdout().write_all(text.as_bytes()) {
                Ok(()) => 0,
                Err(error) => self.fail(&Failure::stdout(&error)),
            },
            Failure::Reports(reports) => {
                self.print(reports);
                let first = reports.first().map_or(Code::E9001, |report| report.code);
                first.exit_status()
            }
        }
    }

    fn print(self, reports: &[Report]) {
        let mut stderr = std::io::stderr().lock();
        for report in reports.iter().take(MAX_REPORTS) {
            // When stderr is closed there is nobody to tell.
            let _ = if self.json {
                writeln!(stderr, "{}", as_json(report))
            } else {
                writeln!(stderr, "{report}")
            };
        }
        if reports.len() > MAX_REPORTS && !self.json {
            let _ = writeln!(stderr, "and {} more", reports.len() - MAX_REPORTS);
        }
    }
}

/// The fields of a report as JSON.
pub(crate) fn as_json(report: &Report) -> serde_json::Value {
    serde_json::json!({
        "code": report.code.as_str(),
        "severity": report.code.severity(),
        "area": report.area,
        "message": report.sentence(),
        "where": report.place,
        "got": report.got,
        "expected": report.expected,
        "help": report.help,
    })
}

/// A panic is a bug: says where it happened in the form of every other error.
pub(crate) fn report_panics(reporter: Reporter) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(|| "unknown place".into(), ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("panic");
        reporter.print(&[Report::new(Code::E9001, "altclip", message)
            .place(format!("version {}, {place}", env!("CARGO_PKG_VERSION")))
            .help("please report this line and the command; RUST_BACKTRACE=1 tells more")]);
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            let _ = writeln!(std::io::stderr(), "{}", std::backtrace::Backtrace::force_capture());
        }
    }));
}
