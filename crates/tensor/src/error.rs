//! What can go wrong between a model and a backend.

use altclip_report::{Code, Diagnose, Report};

/// An error of a backend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The backend does not have this operation (or its backward form).
    #[error("backend `{backend}` has no `{op}`")]
    Unsupported {
        /// Name of the operation.
        op: &'static str,
        /// Name of the backend.
        backend: &'static str,
    },
    /// An operand has the wrong shape.
    #[error("`{op}`: {what} is {found}, expected {expected}")]
    Shape {
        /// Name of the operation.
        op: &'static str,
        /// Which number is wrong.
        what: &'static str,
        /// The number that the other operands ask for.
        expected: usize,
        /// The number that was found.
        found: usize,
    },
    /// A row or an id lies outside its table.
    #[error("`{op}`: row {row} of a table of {rows} rows")]
    RowOutOfRange {
        /// Name of the operation.
        op: &'static str,
        /// The row asked for.
        row: usize,
        /// How many rows there are.
        rows: usize,
    },
    /// A handle was made by another backend, or a weight has another kind.
    #[error("`{op}`: {what} was not made by this backend for this use")]
    ForeignHandle {
        /// Name of the operation.
        op: &'static str,
        /// Which operand.
        what: &'static str,
    },
    /// The source of a weight failed.
    #[error("{0}")]
    Source(#[source] Report),
    /// A weight is kept in a form that cannot be trained, nor trained through.
    #[error("`{op}`: {precision} has no gradients")]
    NotTrainable {
        /// Name of the operation.
        op: &'static str,
        /// The precision of the weight.
        precision: crate::Precision,
    },
    /// A trainable weight was asked for its gradient and received none.
    #[error("weight {0:?} received no gradient")]
    NoGradient(crate::WeightId),
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        match self {
            Error::Source(report) => report.clone(),
            Error::Unsupported { .. } => Report::new(Code::E9004, "tensor", self.to_string())
                .help("use the cpu backend for this model"),
            Error::NotTrainable { .. } => {
                Report::new(Code::E9004, "tensor", self.to_string()).help("train in f32 or bf16")
            }
            _ => Report::new(Code::E9001, "tensor", self.to_string())
                .help("this is a bug; please report it with the command that led here"),
        }
    }
}
