//! The commands of the program, called from Python: evaluation, training, indexes, downloads.

use crate::error::{Fault, detached};
use altclip_cli::{Called, Host};
use altclip_report::Report;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};

/// Runs a command line inside of this process and gives back what it would print. `say` gets lines for a
/// person, `warn` gets warnings.
#[pyfunction]
pub(crate) fn call(
    py: Python<'_>,
    args: Vec<OsString>,
    say: Option<Py<PyAny>>,
    warn: Py<PyAny>,
) -> PyResult<Py<PyBytes>> {
    let raised = Arc::new(Mutex::new(None));
    let host = Interpreter { say, warn, raised: Arc::clone(&raised) };
    let rows = detached(py, move || {
        let result = altclip_cli::call(args, Box::new(host));
        // An interrupt counts, whatever the command made of it.
        if let Some(error) = raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Fault::Python(error));
        }
        match result {
            Ok(rows) => Ok(rows),
            Err(Called::Reports(reports)) => Err(Fault::Reports(reports)),
            Err(_) => Err(Fault::Reports(Vec::new())),
        }
    })?;
    Ok(PyBytes::new(py, &rows).unbind())
}

/// The whole program, for the script `altclip`: the exit status.
#[pyfunction]
pub(crate) fn program(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| altclip_cli::program(args))
}

/// The pictures that come with the miniature, PNG, by their English names.
#[pyfunction]
pub(crate) fn samples(py: Python<'_>) -> PyResult<Py<PyDict>> {
    let samples = PyDict::new(py);
    for (name, bytes) in altclip_nano::PICTURES {
        samples.set_item(name.trim_end_matches(".png"), PyBytes::new(py, bytes))?;
    }
    Ok(samples.unbind())
}

/// Panics, so that a test sees what becomes of it.
#[pyfunction]
pub(crate) fn panic_on_purpose(py: Python<'_>) -> PyResult<()> {
    detached(py, || -> Result<(), Fault> { panic!("injected") })
}

/// The interpreter as the host of a command.
struct Interpreter {
    say: Option<Py<PyAny>>,
    warn: Py<PyAny>,
    /// The first exception.
    raised: Arc<Mutex<Option<PyErr>>>,
}

impl Interpreter {
    fn ask(&self, ask: impl FnOnce(Python<'_>) -> PyResult<()>) {
        if let Some(Err(error)) = Python::try_attach(ask) {
            let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
            raised.get_or_insert(error);
        }
    }
}

impl Host for Interpreter {
    fn say(&mut self, line: &str) {
        if let Some(say) = &self.say {
            self.ask(|py| say.call1(py, (line,)).map(drop));
        }
    }

    fn warn(&mut self, report: &Report) {
        self.ask(|py| self.warn.call1(py, (report.to_string(),)).map(drop));
    }

    fn wants_stop(&mut self) -> bool {
        self.ask(|py| py.check_signals());
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}
