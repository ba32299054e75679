//! What can be wrong with embeddings, an index or labels.

use altclip_report::{Code, Diagnose, Report, quote};

/// Inputs from which no metric can be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to evaluate.
    #[error("{what} are empty")]
    Empty {
        /// What has no row.
        what: String,
    },
    /// The numbers are no whole number of rows.
    #[error("{what} are no whole rows")]
    Ragged {
        /// What is cut.
        what: String,
        /// Numbers there are.
        numbers: usize,
        /// Numbers of a row.
        width: usize,
    },
    /// Two sets of embeddings are not of one space.
    #[error("{what} have another width than {other}")]
    Width {
        /// The set that is looked at.
        what: String,
        /// Numbers of its rows.
        found: usize,
        /// The set that it is compared with.
        other: String,
        /// Numbers of that one's rows.
        expected: usize,
    },
    /// There must be one item for each row, and there is not.
    #[error("{what} do not belong to {of}: there must be one for each")]
    Count {
        /// The items.
        what: String,
        /// How many there are.
        found: usize,
        /// What they are counted by.
        of: String,
        /// How many there must be.
        expected: usize,
    },
    /// An item names something that does not exist.
    #[error("{what} name a row that does not exist")]
    OutOfRange {
        /// The items.
        what: String,
        /// Number of the first bad one.
        item: usize,
        /// What it says.
        found: i128,
        /// One more than the largest that exists.
        limit: usize,
    },
    /// An embedding holds NaN or infinity.
    #[error("{what} hold a number that is not finite")]
    NonFinite {
        /// Which embeddings.
        what: String,
        /// The row.
        row: usize,
        /// The column.
        column: usize,
        /// The number.
        found: f32,
    },
    /// An embedding is zero and has no direction, so no cosine.
    #[error("{what} hold a row of zeros, which has no direction")]
    Zero {
        /// Which embeddings.
        what: String,
        /// The row.
        row: usize,
    },
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        let report = |code| Report::new(code, "eval", self.to_string());
        match self {
            Error::Empty { what } => report(Code::E5021)
                .place(quote(what))
                .got("0 rows")
                .expected("at least one row")
                .help("check the command that wrote them"),
            Error::Ragged { what, numbers, width } => report(Code::E5021)
                .place(quote(what))
                .got(format!("{numbers} numbers"))
                .expected(format!("a multiple of {width}"))
                .help("check the command that wrote them"),
            Error::Width { what, found, expected, .. } => report(Code::E5021)
                .place(quote(what))
                .got(found.to_string())
                .expected(expected.to_string())
                .help("compare embeddings of one model only"),
            Error::Count { what, found, of, expected } => report(Code::E5021)
                .place(quote(what))
                .got(found.to_string())
                .expected(format!("{expected}, the number of {of}"))
                .help("take all of them from one run"),
            Error::OutOfRange { what, item, found, limit } => report(Code::E5021)
                .place(format!("{}, item {item}", quote(what)))
                .got(found.to_string())
                .expected(format!("0 to {}", limit.saturating_sub(1)))
                .help("items count from 0; take all of them from one run"),
            Error::NonFinite { what, row, column, found } => report(Code::E5022)
                .place(format!("{}, row {row}, column {column}", quote(what)))
                .got(found.to_string())
                .expected("finite numbers")
                .help("embed this input again; altclip doctor --full checks the weights"),
            Error::Zero { what, row } => report(Code::E5022)
                .place(format!("{}, row {row}", quote(what)))
                .got("zeros only")
                .expected("a direction")
                .help("embed this input again, or drop its row"),
        }
    }
}
