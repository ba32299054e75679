//! A look at the interpreter now and then during long work: Ctrl-C, and progress.

use crate::error::Fault;
use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// How long work goes on before the interpreter is asked.
const EVERY: Duration = Duration::from_millis(50);

/// Is asked between the items of long work, without the interpreter held.
pub(crate) struct Watch {
    last: Instant,
    /// Is called with the number of items that are done.
    tick: Option<Py<PyAny>>,
}

impl Watch {
    pub(crate) fn new(tick: Option<Py<PyAny>>) -> Self {
        Self { last: Instant::now(), tick }
    }

    /// Ends the work after Ctrl-C, or where the callback raises.
    pub(crate) fn look(&mut self, done: usize) -> Result<(), Fault> {
        if self.last.elapsed() < EVERY {
            return Ok(());
        }
        self.last = Instant::now();
        self.ask(done)
    }

    /// As [`Watch::look`], at once.
    pub(crate) fn ask(&self, done: usize) -> Result<(), Fault> {
        let ask = |py: Python<'_>| {
            py.check_signals()?;
            match &self.tick {
                Some(tick) => tick.call1(py, (done,)).map(drop),
                None => Ok(()),
            }
        };
        // The interpreter may be at its end.
        Python::try_attach(ask).unwrap_or(Ok(())).map_err(Fault::Python)
    }
}
