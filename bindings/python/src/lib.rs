//! `altclip._native`: the half of the Python package that computes. The other half, in
//! `python/altclip`, has the names that people know and knows numpy, Pillow and torch.
//!
//! What crosses the border is plain: texts, paths, bytes, numbers. Arrays are bytes that were copied while
//! the interpreter was held, so no other thread can change them; results are `bytearray`s, which numpy takes
//! without a copy.
#![forbid(unsafe_code)]

mod call;
mod error;
mod input;
mod model;
mod processor;
mod search;
mod watch;

use pyo3::prelude::*;

/// What the Python package is made of.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::call::{call, panic_on_purpose, program, samples};
    #[pymodule_export]
    use crate::model::Model;
    #[pymodule_export]
    use crate::processor::Processor;
    #[pymodule_export]
    use crate::search::Search;

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
