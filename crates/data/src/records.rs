//! Records of named fields from TSV, JSONL, CSV and Parquet files, read by number.
//!
//! A plain file is indexed where it lies. What is compressed, and the text of a table, is expanded once into an
//! unnamed file in the scratch folder.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use crate::dataset::Hasher;
use crate::files::{Files, read_exact_at};
use crate::lines::{Cut, Index, Indexer};
use crate::list::has_ending;
use crate::parquet_file::Table;
use crate::{Error, Fault, Fingerprint, MAX_TEXT_BYTES, Place, Reason, csv};

/// Bytes that are read and indexed together.
const PIECE: usize = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A record: values by column.
pub(crate) type Record = Map<String, Value>;

/// What is read, and how.
pub(crate) struct Wanted<'a> {
    /// The columns; the first ones must be there.
    pub(crate) columns: &'a [&'a str],
    /// How many of them must be there.
    pub(crate) required: usize,
    /// The column that may hold pictures in a table.
    pub(crate) pictures: Option<&'a str>,
    /// What a file ending in `.tsv` is.
    pub(crate) tsv: Tsv,
    /// Folder for expanded files.
    pub(crate) scratch: &'a Path,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tsv {
    /// The required columns without a header, used as they stand: no quotes.
    Bare,
    /// CSV with tabs.
    Table,
}

/// The records of some files, one after the other.
pub(crate) struct Records {
    files: Arc<Files>,
    scratch: Option<File>,
    parts: Vec<Part>,
    /// First record of each part, and the number of records.
    first: Vec<u64>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) notices: Vec<String>,
}

/// The records of one file.
struct Part {
    form: Form,
    /// Whether the records are in the scratch file.
    expanded: bool,
    index: Index,
    /// Records of the index before the first one that is handed out: 1 where there is a header.
    headers: usize,
    table: Option<(Table, Option<usize>)>,
}

enum Form {
    Bare(Vec<String>),
    Json,
    Csv { separator: u8, columns: Vec<String> },
}

impl Records {
    /// Opens and indexes the files.
    pub(crate) fn open(paths: Vec<PathBuf>, wanted: &Wanted<'_>) -> Result<Self, Error> {
        let files = Arc::new(Files::new(paths)?);
        let mut opening = Opening {
            files: &files,
            wanted,
            scratch: None,
            hasher: Hasher::default(),
            notices: Vec::new(),
        };
        let parts =
            (0..files.len()).map(|file| opening.part(file)).collect::<Result<Vec<_>, _>>()?;
        let (hasher, notices) = (opening.hasher, opening.notices);
        let scratch = opening.scratch.map(|(writer, _)| writer.into_inner());
        let scratch = scratch.transpose().map_err(|e| Error::io(wanted.scratch, e.into_error()))?;
        let mut first = vec![0];
        for part in &parts {
            first.push(first.last().copied().unwrap_or(0) + part.index.starts.len() as u64);
        }
        let fingerprint = hasher.finish();
        Ok(Self { files, scratch, parts, first, fingerprint, notices })
    }

    pub(crate) fn len(&self) -> u64 {
        self.first.last().copied().unwrap_or(0)
    }

    pub(crate) fn check_unchanged(&self) -> Result<(), Error> {
        self.files.check_unchanged()
    }

    /// The file of a record, and its number there.
    fn find(&self, number: u64) -> Option<(usize, &Part, usize)> {
        let file = self.first.partition_point(|&first| first <= number).checked_sub(1)?;
        let part = self.parts.get(file)?;
        Some((file, part, usize::try_from(number - self.first[file]).ok()?))
    }

    pub(crate) fn place(&self, number: u64) -> Place {
        match self.find(number) {
            None => Place::line(&"dataset".into(), number),
            Some((file, part, record)) => {
                Place::line(self.files.name(file), part.index.line(part.headers + record))
            }
        }
    }

    fn fault(&self, number: u64, reason: Reason, detail: impl Into<String>) -> Fault {
        Fault::new(reason, self.place(number), detail)
    }

    /// The fields of a record.
    pub(crate) fn record(&self, number: u64) -> Result<Record, Fault> {
        let missing = || self.fault(number, Reason::NoSuchSample, "no such sample");
        let (file, part, record) = self.find(number).ok_or_else(missing)?;
        let (start, len) = part.index.range(record).ok_or_else(missing)?;
        let Some(len) = usize::try_from(len).ok().filter(|&len| len <= MAX_TEXT_BYTES) else {
            let detail = format!("{len} bytes, {MAX_TEXT_BYTES} are allowed");
            return Err(self.fault(number, Reason::TooLong, detail));
        };
        let mut bytes = vec![0; len];
        let read = match &self.scratch {
            Some(scratch) if part.expanded => read_exact_at(scratch, &mut bytes, start),
            _ => self.files.read(file, start, &mut bytes),
        };
        read.map_err(|error| self.fault(number, Reason::Unreadable, error.to_string()))?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let detail = format!("byte {} of the line", error.valid_up_to() + 1);
            self.fault(number, Reason::NotUtf8, detail)
        })?;
        if text.contains('\0') {
            return Err(self.fault(number, Reason::Nul, "a text has no such character"));
        }
        part.form.fields(text).map_err(|what| self.fault(number, Reason::BrokenLine, what))
    }

    /// Whether the records of the number's file may have pictures in them.
    pub(crate) fn picture(&self, number: u64) -> Result<Option<Vec<u8>>, Fault> {
        let Some((_, part, record)) = self.find(number) else { return Ok(None) };
        let Some((table, Some(leaf))) = &part.table else { return Ok(None) };
        table
            .picture(*leaf, record as u64)
            .map_err(|what| self.fault(number, Reason::DamagedShard, what))
    }

    /// A field that must be text.
    pub(crate) fn text<'r>(
        &self,
        number: u64,
        record: &'r Record,
        column: &str,
    ) -> Result<&'r str, Fault> {
        match record.get(column) {
            Some(Value::String(text)) => Ok(text),
            None | Some(Value::Null) => {
                Err(self.fault(number, Reason::BrokenLine, format!("no field «{column}»")))
            }
            Some(_) => {
                Err(self.fault(number, Reason::BrokenLine, format!("field «{column}» is no text")))
            }
        }
    }
}

impl Form {
    /// The fields of a record with its line end; what is wrong in words.
    fn fields(&self, record: &str) -> Result<Record, String> {
        let line = record.split_once('\n').map_or(record, |(line, _)| crlf(line));
        match self {
            Self::Bare(columns) => {
                let fields: Vec<&str> = line.split('\t').collect();
                if fields.len() != columns.len() {
                    let (found, expected) = (fields.len() - 1, columns.len() - 1);
                    return Err(format!("{found} tabs, expected {expected}"));
                }
                let value = |field: &str| Value::from(field);
                Ok(columns.iter().cloned().zip(fields.into_iter().map(value)).collect())
            }
            Self::Json => match serde_json::from_str(line) {
                Ok(Value::Object(record)) => Ok(record),
                Ok(_) => Err("not a JSON object".to_owned()),
                Err(error) => Err(format!("not valid JSON at column {}", error.column())),
            },
            Self::Csv { separator, columns } => {
                // Quotes may hold line ends; only the last ones are not the record's.
                let record = record.trim_end_matches(['\n', '\r']);
                let fields = csv::fields(record, char::from(*separator))?;
                if fields.len() != columns.len() {
                    return Err(format!(
                        "{} fields, the header has {}",
                        fields.len(),
                        columns.len()
                    ));
                }
                Ok(columns.iter().cloned().zip(fields.into_iter().map(Value::from)).collect())
            }
        }
    }
}

fn crlf(line: &str) -> &str {
    line.strip_suffix('\r').unwrap_or(line)
}

/// What is needed while files are opened.
struct Opening<'a> {
    files: &'a Arc<Files>,
    wanted: &'a Wanted<'a>,
    /// The scratch file, and the bytes written to it.
    scratch: Option<(BufWriter<File>, u64)>,
    hasher: Hasher,
    notices: Vec<String>,
}

impl Opening<'_> {
    fn part(&mut self, file: usize) -> Result<Part, Error> {
        let path = self.files.path(file).to_owned();
        let bare = self.wanted.tsv == Tsv::Bare;
        if has_ending(&path, &[".parquet"]) {
            return self.table(file);
        }
        let compressed = has_ending(&path, &[".gz"]);
        let plain = if compressed { path.with_extension("") } else { path.clone() };
        let (cut, mut form) = if has_ending(&plain, &[".tsv", ".txt"]) && bare {
            let columns = &self.wanted.columns[..self.wanted.required];
            (Cut::Line, Form::Bare(columns.iter().map(|&name| name.to_owned()).collect()))
        } else if has_ending(&plain, &[".jsonl", ".ndjson"]) {
            (Cut::NotBlank, Form::Json)
        } else if has_ending(&plain, &[".csv", ".tsv"]) && !bare {
            let separator = if has_ending(&plain, &[".csv"]) { b',' } else { b'\t' };
            (Cut::Csv(separator), Form::Csv { separator, columns: Vec::new() })
        } else {
            let known =
                if bare { ".tsv, .jsonl, .parquet" } else { ".jsonl, .csv, .tsv, .parquet, .tar" };
            return Err(Error::List {
                path,
                what: format!("the kind of the file is not known by its ending ({known})"),
                help: "rename or convert the file; .gz may follow .tsv, .jsonl and .csv",
            });
        };
        let mut index = self.index(&path, cut, compressed)?;
        if let Some(line) = index.open_quote {
            return Err(Error::Table {
                path,
                line: Some(line),
                what: "a quote is never closed".to_owned(),
                expected: "quotes in pairs; a quote inside of quotes is doubled".to_owned(),
            });
        }
        self.byte_order_mark(file, compressed, &mut index)?;
        if index.line_ends.iter().all(|&count| count > 0) && !matches!(form, Form::Csv { .. }) {
            self.notices.push(format!("{} mixes line ends of two kinds", path.display()));
        }
        let mut headers = 0;
        if let Form::Csv { separator, columns } = &mut form {
            *columns = self.header(file, compressed, *separator, &mut index)?;
            headers = 1;
        }
        Ok(Part { form, expanded: compressed, index, headers, table: None })
    }

    /// Reads the file once: index and fingerprint; expands it where it is compressed.
    fn index(&mut self, path: &Path, cut: Cut, compressed: bool) -> Result<Index, Error> {
        let file = File::open(path).map_err(|source| Error::io(path, source))?;
        let base = if compressed { self.scratch()?.1 } else { 0 };
        let mut indexer = Indexer::new(cut, base);
        let mut reader: Box<dyn Read> = if compressed {
            Box::new(MultiGzDecoder::new(BufReader::new(file)))
        } else {
            Box::new(file)
        };
        let mut piece = vec![0; PIECE];
        let mut bytes = 0;
        loop {
            let read = match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if compressed && is_damage(&error) => {
                    return Err(Error::table(
                        path,
                        format!("the gzip stream is damaged: {error}"),
                        "a whole gzip file",
                    ));
                }
                Err(error) => return Err(Error::io(path, error)),
            };
            let piece = &piece[..read];
            indexer.feed(piece);
            self.hasher.part(piece);
            bytes += read as u64;
            if compressed {
                self.write(piece)?;
            }
        }
        self.hasher.number(bytes);
        Ok(indexer.finish())
    }

    /// The scratch file and its length so far.
    fn scratch(&mut self) -> Result<&mut (BufWriter<File>, u64), Error> {
        if self.scratch.is_none() {
            let folder = self.wanted.scratch;
            let file = tempfile::tempfile_in(folder).map_err(|source| Error::io(folder, source))?;
            self.scratch = Some((BufWriter::with_capacity(PIECE, file), 0));
        }
        // It was made just now if it was not there.
        self.scratch
            .as_mut()
            .ok_or_else(|| Error::io(self.wanted.scratch, io::ErrorKind::Other.into()))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let folder = self.wanted.scratch;
        let (writer, len) = self.scratch()?;
        writer.write_all(bytes).map_err(|source| Error::io(folder, source))?;
        *len += bytes.len() as u64;
        Ok(())
    }

    /// Bytes of a file, or of what it was expanded to.
    fn read(&mut self, file: usize, expanded: bool, at: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; len];
        let read = if expanded {
            let (writer, _) = self.scratch()?;
            writer.flush().and_then(|()| read_exact_at(writer.get_ref(), &mut bytes, at))
        } else {
            self.files.read(file, at, &mut bytes)
        };
        read.map_err(|source| Error::io(self.files.path(file), source))?;
        Ok(bytes)
    }

    /// Leaves out a byte-order mark at the beginning.
    fn byte_order_mark(
        &mut self,
        file: usize,
        expanded: bool,
        index: &mut Index,
    ) -> Result<(), Error> {
        let Some((start, len)) = index.range(0) else { return Ok(()) };
        if len < BYTE_ORDER_MARK.len() as u64 {
            return Ok(());
        }
        if self.read(file, expanded, start, BYTE_ORDER_MARK.len())? == BYTE_ORDER_MARK {
            index.starts[0] += BYTE_ORDER_MARK.len() as u64;
            let path = self.files.name(file);
            self.notices.push(format!("{path} begins with a byte-order mark, which is left out"));
        }
        Ok(())
    }

    /// Takes the header out of the index and gives its columns.
    fn header(
        &mut self,
        file: usize,
        expanded: bool,
        separator: u8,
        index: &mut Index,
    ) -> Result<Vec<String>, Error> {
        let path = self.files.path(file).to_owned();
        let wanted = || self.wanted.columns[..self.wanted.required].join(", ");
        let Some((start, len)) = index.range(0) else {
            return Err(Error::table(&path, "the file has no header", wanted()));
        };
        let len = usize::try_from(len).ok().filter(|&len| len <= MAX_TEXT_BYTES);
        let len = len.ok_or_else(|| Error::table(&path, "the header is too long", wanted()))?;
        let bytes = self.read(file, expanded, start, len)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::table(&path, "the header is not UTF-8", "UTF-8"))?;
        let columns = csv::fields(text.trim_end_matches(['\n', '\r']), char::from(separator))
            .map_err(|what| Error::table(&path, what, "a header"))?;
        for &name in &self.wanted.columns[..self.wanted.required] {
            if !columns.iter().any(|column| column == name) {
                let found = format!("one of {}", columns.join(", "));
                return Err(Error::table(&path, format!("no column «{name}»"), found));
            }
        }
        index.starts.remove(0);
        Ok(columns)
    }

    /// Expands the text of a table.
    fn table(&mut self, file: usize) -> Result<Part, Error> {
        let path = self.files.path(file).to_owned();
        let table = Table::open(self.files, file)?;
        let pictures = self.wanted.pictures.and_then(|name| table.pictures(name));
        let mut columns = Vec::new();
        for (place, &name) in self.wanted.columns.iter().enumerate() {
            let holds_pictures = pictures.is_some() && self.wanted.pictures == Some(name);
            match table.text(name) {
                // A column that is itself the pictures is no text.
                Some(leaf) if Some(leaf) != pictures => columns.push((name, leaf)),
                _ if holds_pictures || place >= self.wanted.required => {}
                _ => {
                    let found = format!("one of {}", table.names());
                    return Err(Error::table(&path, format!("no column «{name}» of text"), found));
                }
            }
        }
        let base = self.scratch()?.1;
        let mut indexer = Indexer::new(Cut::Line, base);
        let mut failed = None;
        let mut bytes = 0;
        let outcome = table.lines(&columns, &mut |line| {
            indexer.feed(line);
            self.hasher.part(line);
            bytes += line.len() as u64;
            self.write(line).map_err(|error| {
                failed = Some(error);
                io::ErrorKind::Other.into()
            })
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let written = outcome.map_err(|what| Error::table(&path, what, "a readable table"))?;
        written.map_err(|source| Error::io(&path, source))?;
        self.hasher.number(bytes);
        if pictures.is_some() {
            self.hasher.number(self.files.bytes(file));
        }
        let (index, table) = (indexer.finish(), Some((table, pictures)));
        Ok(Part { form: Form::Json, expanded: true, index, headers: 0, table })
    }
}

/// Whether a decoder says so, rather than the file system.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
    )
}
