//! A program that commands are part of: it gets their rows and reports, and may stop them.

use crate::failure::{Failure, Reporter};
use crate::parse_and_run;
use altclip_report::Report;
use std::cell::RefCell;
use std::ffi::OsString;

/// What a program that calls commands is told while they run, on its own thread.
pub trait Host {
    /// A line for a person who watches.
    fn say(&mut self, line: &str);

    /// A warning or a notice.
    fn warn(&mut self, report: &Report);

    /// Whether the command shall end before its time. Training saves its state first.
    fn wants_stop(&mut self) -> bool;
}

/// Why a called command did not end as it should.
#[derive(Debug)]
#[non_exhaustive]
pub enum Called {
    /// Its faults.
    Reports(Vec<Report>),
    /// The host wanted it to stop.
    Stopped,
}

struct Call {
    host: Box<dyn Host>,
    rows: Vec<u8>,
}

thread_local! {
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// Runs a command line, the program's name first, and gives back what it would write to stdout. Panics go
/// through to the caller.
///
/// # Errors
/// The command's faults, or that the host stopped it.
pub fn call(args: Vec<OsString>, host: Box<dyn Host>) -> Result<Vec<u8>, Called> {
    // Also when a command panics the thread is free for the next one.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            CALL.with(|call| call.take());
        }
    }
    CALL.with(|call| call.replace(Some(Call { host, rows: Vec::new() })));
    let _end = End;
    let result = parse_and_run(args, Reporter::of_host());
    let rows = CALL.with(|call| call.take()).map_or_else(Vec::new, |call| call.rows);
    match result {
        Ok(()) => Ok(rows),
        Err(Failure::Shown(text)) => Ok(text.into_bytes()),
        Err(Failure::Reports(reports)) => Err(Called::Reports(reports)),
        Err(Failure::Status(_) | Failure::BrokenPipe) => Err(Called::Stopped),
    }
}

/// Whether the command of this thread was called by a host.
pub(crate) fn is_called() -> bool {
    CALL.with_borrow(|call| call.is_some())
}

/// Whether the host, if there is one, wants the command to stop.
pub(crate) fn wants_stop() -> bool {
    CALL.with_borrow_mut(|call| call.as_mut().is_some_and(|call| call.host.wants_stop()))
}

/// Ends the command where the host wants it to stop.
pub(crate) fn check() -> Result<(), Failure> {
    if wants_stop() { Err(Failure::Status(130)) } else { Ok(()) }
}

/// Hands a line to the host; `false` where there is none.
pub(crate) fn say(line: &str) -> bool {
    with_host(|host| host.say(line))
}

/// Hands reports to the host; `false` where there is none.
pub(crate) fn warn(reports: &[Report]) -> bool {
    with_host(|host| reports.iter().for_each(|report| host.warn(report)))
}

fn with_host(tell: impl FnOnce(&mut dyn Host)) -> bool {
    CALL.with_borrow_mut(|call| call.as_mut().map(|call| tell(&mut *call.host)).is_some())
}

/// Hands rows to the host; `false` where there is none.
pub(crate) fn take(bytes: &[u8]) -> bool {
    CALL.with_borrow_mut(|call| call.as_mut().map(|call| call.rows.extend(bytes)).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Told(Rc<RefCell<Vec<String>>>);

    impl Host for Told {
        fn say(&mut self, line: &str) {
            self.0.borrow_mut().push(line.to_owned());
        }

        fn warn(&mut self, report: &Report) {
            self.0.borrow_mut().push(report.code.to_string());
        }

        fn wants_stop(&mut self) -> bool {
            true
        }
    }

    fn called(line: &str) -> (Result<Vec<u8>, Called>, Vec<String>) {
        let told = Told::default();
        let args = line.split(' ').map(OsString::from).collect();
        let result = call(args, Box::new(told.clone()));
        (result, told.0.take())
    }

    #[test]
    fn a_host_gets_rows_and_faults() {
        let (rows, _) = called("altclip tokenize --model nano --json -- star");
        let rows = String::from_utf8(rows.unwrap()).unwrap();
        assert!(rows.starts_with('{') && rows.ends_with("}\n"), "{rows}");
        let (fault, _) = called("altclip tokenize --nonsense");
        let Err(Called::Reports(reports)) = fault else { panic!("{fault:?}") };
        assert_eq!(reports[0].code.as_str(), "E1001");
        let (shown, _) = called("altclip --version");
        assert!(shown.unwrap().starts_with(b"altclip "));
        assert!(!is_called());
    }

    #[test]
    fn without_a_host_nothing_stops() {
        assert!(!is_called() && check().is_ok() && !say("") && !warn(&[]) && !take(b""));
    }
}
