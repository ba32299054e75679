//! Parquet tables: columns of text as lines of JSON, and pictures by row.
//!
//! Text is rewritten once, so that a row is read by number; pictures stay in the table, and reading one decodes the
//! page that it is in. Lists of text and Hugging Face's `{bytes, path}` are understood.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{ConvertedType, LogicalType};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use serde_json::{Map, Value};

use crate::Error;
use crate::files::Files;

/// Rows that are rewritten together.
const ROWS: usize = 256;

/// A table that is open.
pub(crate) struct Table {
    reader: SerializedFileReader<TableFile>,
    /// First row of each row group, and the number of rows.
    groups: Vec<u64>,
}

/// One file, read by offset: a handle is shared by threads, so its own position is not used.
pub(crate) struct TableFile(Arc<Files>, usize);

impl Length for TableFile {
    fn len(&self) -> u64 {
        self.0.bytes(self.1)
    }
}

impl ChunkReader for TableFile {
    type T = io::BufReader<Reading>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(io::BufReader::new(Reading { files: Arc::clone(&self.0), file: self.1, offset: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let inside = start.checked_add(length as u64).is_some_and(|end| end <= self.len());
        if !inside {
            return Err(ParquetError::EOF("a range outside of the file".to_owned()));
        }
        let mut bytes = vec![0; length];
        self.0.read(self.1, start, &mut bytes)?;
        Ok(bytes.into())
    }
}

/// Reads a file of a table from an offset on.
pub(crate) struct Reading {
    files: Arc<Files>,
    file: usize,
    offset: u64,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.files.bytes(self.file).saturating_sub(self.offset);
        let read = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.files.read(self.file, self.offset, &mut buffer[..read])?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// What went wrong, in words.
type Outcome<T> = Result<T, String>;

impl Table {
    /// Reads the footer.
    pub(crate) fn open(files: &Arc<Files>, file: usize) -> Result<Self, Error> {
        let path = files.path(file);
        let reader =
            fenced(|| SerializedFileReader::new(TableFile(Arc::clone(files), file)).map_err(words))
                .map_err(|what| Error::table(path, what, "a Parquet file"))?;
        let mut groups = vec![0u64];
        for group in reader.metadata().row_groups() {
            let rows = u64::try_from(group.num_rows()).ok();
            let next = rows.zip(groups.last()).and_then(|(rows, last)| last.checked_add(rows));
            let next = next.ok_or_else(|| Error::table(path, "a row group has no size", "rows"));
            groups.push(next?);
        }
        Ok(Self { reader, groups })
    }

    fn schema(&self) -> &SchemaDescriptor {
        self.reader.metadata().file_metadata().schema_descr()
    }

    /// The names of the columns, for messages.
    pub(crate) fn names(&self) -> String {
        let fields = self.schema().root_schema().get_fields();
        fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(", ")
    }

    /// The leaf that holds a column's text: the column itself, the items of a list, or `path` of a picture.
    pub(crate) fn text(&self, name: &str) -> Option<usize> {
        let columns = self.schema().columns();
        let of = |leaf: &usize| columns[*leaf].path().parts();
        let leaves = (0..columns.len()).filter(|leaf| of(leaf).first().is_some_and(|n| n == name));
        let leaves: Vec<usize> = leaves.collect();
        match leaves[..] {
            [leaf] if of(&leaf).len() == 1 || columns[leaf].max_rep_level() == 1 => Some(leaf),
            _ => leaves.into_iter().find(|leaf| of(leaf).last().is_some_and(|n| n == "path")),
        }
    }

    /// The leaf that holds a column's pictures: `bytes` of `{bytes, path}`, or a column of bytes that is no text.
    pub(crate) fn pictures(&self, name: &str) -> Option<usize> {
        let columns = self.schema().columns();
        (0..columns.len()).find(|&leaf| {
            let parts = columns[leaf].path().parts();
            let text = columns[leaf].logical_type_ref() == Some(&LogicalType::String)
                || columns[leaf].converted_type() == ConvertedType::UTF8;
            match parts {
                [column] => column == name && !text && is_bytes(&columns[leaf]),
                [column, part] => column == name && part == "bytes" && is_bytes(&columns[leaf]),
                _ => false,
            }
        })
    }

    /// Hands each row to `line`: an object of the columns in JSON and a line end. A row with a text that is not
    /// UTF-8 becomes a line that is not either.
    pub(crate) fn lines(
        &self,
        columns: &[(&str, usize)],
        line: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Outcome<io::Result<()>> {
        fenced(|| {
            for group in 0..self.reader.num_row_groups() {
                let rows = self.groups[group + 1] - self.groups[group];
                if let Err(error) = self.group_lines(group, rows, columns, line)? {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        })
    }

    fn group_lines(
        &self,
        group: usize,
        rows: u64,
        columns: &[(&str, usize)],
        line: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Outcome<io::Result<()>> {
        let group = self.reader.get_row_group(group).map_err(words)?;
        let mut readers = Vec::new();
        for &(name, leaf) in columns {
            let descriptor = self.schema().column(leaf);
            let levels = (descriptor.max_def_level(), descriptor.max_rep_level());
            readers.push((name, levels, group.get_column_reader(leaf).map_err(words)?));
        }
        let mut left = rows;
        while left > 0 {
            let some = left.min(ROWS as u64) as usize;
            let mut objects = vec![Some(Map::new()); some];
            for (name, levels, reader) in &mut readers {
                let cells = cells(reader, *levels, some)?;
                if cells.len() != some {
                    return Err(format!("column «{name}» has too few rows"));
                }
                for (object, cell) in objects.iter_mut().zip(cells) {
                    match (object.as_mut(), cell) {
                        (Some(map), Some(value)) => drop(map.insert((*name).to_owned(), value)),
                        _ => *object = None,
                    }
                }
            }
            for object in objects {
                let mut text = match object {
                    Some(map) => Value::Object(map).to_string().into_bytes(),
                    None => vec![0xff],
                };
                text.push(b'\n');
                if let Err(error) = line(&text) {
                    return Ok(Err(error));
                }
            }
            left -= some as u64;
        }
        Ok(Ok(()))
    }

    /// The bytes of a picture; `None` where the cell is null.
    pub(crate) fn picture(&self, leaf: usize, row: u64) -> Outcome<Option<Vec<u8>>> {
        fenced(|| {
            let group = self.groups.partition_point(|&first| first <= row) - 1;
            let skipped = usize::try_from(row - self.groups[group]).map_err(|e| e.to_string())?;
            let group = self.reader.get_row_group(group).map_err(words)?;
            let ColumnReader::ByteArrayColumnReader(mut reader) =
                group.get_column_reader(leaf).map_err(words)?
            else {
                return Err("a column of pictures holds no bytes".to_owned());
            };
            if reader.skip_records(skipped).map_err(words)? != skipped {
                return Err("the column has too few rows".to_owned());
            }
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let read =
                reader.read_records(1, Some(&mut levels), None, &mut values).map_err(words)?;
            match read.0 {
                1 => Ok(values.pop().map(|value: ByteArray| value.data().to_vec())),
                _ => Err("the column has too few rows".to_owned()),
            }
        })
    }
}

fn is_bytes(column: &parquet::schema::types::ColumnDescriptor) -> bool {
    column.physical_type() == ByteArrayType::get_physical_type()
}

/// Up to `rows` rows of a column: text, numbers, null or a list; `None` for text that is not UTF-8.
fn cells(
    reader: &mut ColumnReader,
    levels: (i16, i16),
    rows: usize,
) -> Outcome<Vec<Option<Value>>> {
    match reader {
        ColumnReader::ByteArrayColumnReader(reader) => rows_of(reader, levels, rows, |bytes| {
            std::str::from_utf8(bytes.data()).ok().map(Value::from)
        }),
        ColumnReader::Int32ColumnReader(reader) => {
            rows_of(reader, levels, rows, |n| Some(Value::from(n)))
        }
        ColumnReader::Int64ColumnReader(reader) => {
            rows_of(reader, levels, rows, |n| Some(Value::from(n)))
        }
        _ => Err("a column has a type that is neither text nor whole numbers".to_owned()),
    }
}

/// Puts the values of a column into rows: the definition level says whether there is a value, the repetition level
/// whether it goes on with the list of the row before.
fn rows_of<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    (max_definition, max_repetition): (i16, i16),
    rows: usize,
    value: impl Fn(T::T) -> Option<Value>,
) -> Outcome<Vec<Option<Value>>> {
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (_, _, levels) = reader
        .read_records(rows, Some(&mut definitions), Some(&mut repetitions), &mut values)
        .map_err(words)?;
    let mut values = values.into_iter();
    let mut found: Vec<Option<Value>> = Vec::new();
    for level in 0..levels {
        let present = max_definition == 0 || definitions.get(level) == Some(&max_definition);
        let item = if present { values.next().and_then(&value) } else { Some(Value::Null) };
        if max_repetition == 0 {
            found.push(item);
            continue;
        }
        if repetitions.get(level) == Some(&0) {
            found.push(Some(Value::Array(Vec::new())));
        }
        match (found.last_mut(), item) {
            (Some(Some(Value::Array(list))), Some(item)) if present => list.push(item),
            (Some(row), None) => *row = None,
            _ => {}
        }
    }
    Ok(found)
}

fn words(error: ParquetError) -> String {
    match error {
        ParquetError::NYI(what) => format!("the Parquet table needs what is not supported: {what}"),
        // What the library says of a codec that was not compiled in.
        ParquetError::General(what) if what.starts_with("Disabled feature") => {
            format!("the codec of the Parquet table is not built in, write it with Snappy: {what}")
        }
        error => format!("the Parquet table is damaged: {error}"),
    }
}

/// The reader of tables is not ours: a panic of it on foreign bytes is a fault of the table.
fn fenced<T>(read: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err("the Parquet table is damaged".to_owned()))
}
