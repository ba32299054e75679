//! Errors of all crates as Python's exceptions, with the same fields.

use altclip_report::{Code, Diagnose, Report};
use pyo3::prelude::*;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a function did not do what it should.
pub(crate) enum Fault {
    /// Faults with a code.
    Reports(Vec<Report>),
    /// An exception of Python's own: an interrupt, or what a callback raised.
    Python(PyErr),
}

impl<E: Diagnose> From<E> for Fault {
    fn from(error: E) -> Self {
        Fault::Reports(error.reports())
    }
}

impl Fault {
    pub(crate) fn one(report: Report) -> Self {
        Fault::Reports(vec![report])
    }

    /// The exception that says it.
    pub(crate) fn into_exception(self, py: Python<'_>) -> PyErr {
        match self {
            Fault::Python(error) => error,
            Fault::Reports(reports) => exception(py, &reports),
        }
    }
}

/// The exception of some reports; the first decides its class.
pub(crate) fn exception(py: Python<'_>, reports: &[Report]) -> PyErr {
    let fields = |report: &Report| {
        let Report { code, area, place, got, expected, help, .. } = report;
        let line = report.to_string();
        let status = code.exit_status();
        let (place, got, expected) = (place.clone(), got.clone(), expected.clone());
        (code.as_str(), *area, line, place, got, expected, help.clone(), status)
    };
    let fields: Vec<_> = reports.iter().map(fields).collect();
    let made = || py.import("altclip._errors")?.getattr("exception_of")?.call1((fields,));
    match made() {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Does work without the interpreter, so that other threads of Python run. A panic is an error like others.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Fault> + Send,
) -> PyResult<T> {
    let result = py.detach(|| fenced(work));
    result.map_err(|fault| fault.into_exception(py))
}

/// Does work; a panic is an error like others.
fn fenced<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(Fault::one(
            Report::new(Code::E9001, "altclip", message(&*panic))
                .place(format!("version {}", env!("CARGO_PKG_VERSION")))
                .help("please report this line and the call; the process may go on"),
        ))
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into())
}

/// A closed object, or one of another process.
pub(crate) fn unusable(what: &'static str, got: &'static str, help: &'static str) -> Fault {
    Fault::one(
        Report::new(Code::E9101, "python", format!("this {what} cannot be used"))
            .place(what)
            .got(got)
            .expected("an open one of this process")
            .help(help),
    )
}
