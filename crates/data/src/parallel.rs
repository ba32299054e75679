//! Parallel texts: what the teacher reads and what the student reads.

use std::path::PathBuf;

use serde::Serialize;

use crate::records::{Records, Tsv, Wanted};
use crate::{Dataset, Error, Fault, Fingerprint, Place, Reason, list};

/// Two texts that mean the same, exactly as the file has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct TextPair {
    /// The teacher's text, in a language it knows.
    pub source: String,
    /// The student's text.
    pub target: String,
}

/// How parallel texts are read.
#[derive(Clone, Debug)]
pub struct ParallelOptions {
    /// The columns of source and target in JSONL and Parquet; a TSV has these two and no header.
    pub columns: [String; 2],
    /// Folder for what compressed files and tables are expanded to; nothing stays there.
    pub scratch: PathBuf,
}

impl ParallelOptions {
    /// Columns `source` and `target`.
    pub fn new(scratch: impl Into<PathBuf>) -> Self {
        Self { columns: ["source".to_owned(), "target".to_owned()], scratch: scratch.into() }
    }
}

/// Pairs of texts from `.tsv`, `.jsonl` (each perhaps `.gz`) and `.parquet` files.
pub struct ParallelTexts {
    records: Records,
    columns: [String; 2],
}

impl ParallelTexts {
    /// Opens files, folders of them, or ranges such as `part-{00..12}.tsv.gz`.
    ///
    /// # Errors
    /// Any [`Error`] but those of a run: a file that cannot be read, a table without the columns, a list that is none.
    pub fn open(paths: &[PathBuf], options: &ParallelOptions) -> Result<Self, Error> {
        let kinds = [".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".parquet"];
        let columns = options.columns.each_ref().map(String::as_str);
        let wanted = Wanted {
            columns: &columns,
            required: 2,
            pictures: None,
            tsv: Tsv::Bare,
            scratch: &options.scratch,
        };
        let records = Records::open(list::expand(paths, &kinds)?, &wanted)?;
        Ok(Self { records, columns: options.columns.clone() })
    }
}

impl Dataset for ParallelTexts {
    type Sample = TextPair;

    fn len(&self) -> u64 {
        self.records.len()
    }

    fn get(&self, number: u64) -> Result<TextPair, Fault> {
        let record = self.records.record(number)?;
        let [source, target] = &self.columns;
        let source = self.records.text(number, &record, source)?.to_owned();
        let target = self.records.text(number, &record, target)?.to_owned();
        for (side, text) in [("source", &source), ("target", &target)] {
            if text.trim().is_empty() {
                let detail = format!("the {side} is empty");
                return Err(Fault::new(Reason::NoText, self.place(number), detail));
            }
        }
        Ok(TextPair { source, target })
    }

    fn place(&self, number: u64) -> Place {
        self.records.place(number)
    }

    fn fingerprint(&self) -> Fingerprint {
        self.records.fingerprint
    }

    fn check_unchanged(&self) -> Result<(), Error> {
        self.records.check_unchanged()
    }

    fn notices(&self) -> &[String] {
        &self.records.notices
    }
}
