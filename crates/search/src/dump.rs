//! Dumps of embeddings as clip-retrieval writes and reads them: `img_emb/img_emb_0.npy` and
//! `metadata/metadata_0.parquet` with a column `image_path`, row by row.

use crate::picture::{MAX_PATH_BYTES, Picture, to_bytes, to_numbers};
use crate::store::Change;
use crate::{Error, Index};
use altclip::npy;
use altclip_durable::{Vfs, replace};
use bytes::Bytes;
use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::RowAccessor as _;
use parquet::schema::types::Type;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of one commit.
const COMMIT_ROWS: usize = 4096;
/// How far the length of a vector may be from 1.
const LENGTH_ERROR: f32 = 0.01;

/// Writes the pictures of an index as a dump to a folder that does not exist yet; gives their number.
///
/// # Errors
/// The folder cannot be written or the store not be read.
pub fn export(index: &Index, vfs: &dyn Vfs, out: &Path) -> Result<usize, Error> {
    let (mut paths, mut numbers) = (Vec::new(), Vec::new());
    index.store().rows(&mut |_, picture, vector| {
        paths.push(picture.path);
        numbers.extend(to_numbers(vector));
    })?;
    let make = |dir: &Path| vfs.create_dir(dir).map_err(Error::io("make", dir));
    make(out)?;
    make(&out.join("img_emb"))?;
    make(&out.join("metadata"))?;
    let shape = [paths.len(), index.settings().width];
    replace(vfs, &out.join("img_emb/img_emb_0.npy"), |mut file| {
        npy::write_f32(&mut file, &shape, &numbers)
    })?;
    let shown = paths.iter().map(String::as_str).collect();
    let table = table(&[("image_path", shown)]).map_err(std::io::Error::other);
    replace(vfs, &out.join("metadata/metadata_0.parquet"), |file| file.write_all(&table?))?;
    let settings = index.settings();
    let manifest = serde_json::json!({
        "format": "altclip embedding dump 1",
        "model": settings.model,
        "fingerprint": settings.fingerprint,
        "width": settings.width,
        "dtype": "float32",
        "normalized": true,
    });
    replace(vfs, &out.join("manifest.json"), |file| writeln!(file, "{manifest:#}"))?;
    Ok(paths.len())
}

/// A table with columns of texts, all of one length.
///
/// # Errors
/// Those of the writer.
pub fn table(columns: &[(&str, Vec<&str>)]) -> Result<Vec<u8>, parquet::errors::ParquetError> {
    let field = |(name, _): &(&str, _)| {
        Type::primitive_type_builder(name, PhysicalType::BYTE_ARRAY)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::String))
            .build()
            .map(Arc::new)
    };
    let fields = columns.iter().map(field).collect::<Result<_, _>>()?;
    let schema = Type::group_type_builder("schema").with_fields(fields).build()?;
    let mut bytes = Vec::new();
    let properties = Arc::new(WriterProperties::new());
    let mut file = SerializedFileWriter::new(&mut bytes, Arc::new(schema), properties)?;
    let mut group = file.next_row_group()?;
    for (_, texts) in columns {
        let values: Vec<ByteArray> = texts.iter().map(|&text| ByteArray::from(text)).collect();
        if let Some(mut column) = group.next_column()? {
            column.typed::<ByteArrayType>().write_batch(&values, None, None)?;
            column.close()?;
        }
    }
    group.close()?;
    file.close()?;
    Ok(bytes)
}

/// Puts the pictures of a dump into an index. Vectors are normalised where they are not; `tell` hears of
/// every path once it is committed.
///
/// # Errors
/// [`Error::Dump`] where arrays and tables do not fit each other or the index; before anything is written
/// of the part that is wrong.
pub fn import<E: From<Error>>(
    index: &mut Index,
    dump: &Path,
    tell: &mut dyn FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    let width = index.settings().width;
    check_manifest(index, dump)?;
    for (array, table) in parts(dump)? {
        let bad = |what, got: String, expected: String| Error::Dump {
            path: array.clone(),
            what,
            got,
            expected,
        };
        let read = npy::read(&array).and_then(npy::Array::into_matrix).map_err(Error::from);
        let (numbers, found) = read?;
        if found != width {
            let got = format!("{found} numbers");
            return Err(bad("vectors of another width", got, format!("{width} numbers")).into());
        }
        let paths = paths(&table, numbers.len() / width.max(1))?;
        let mut changes = Vec::new();
        for (row, (vector, path)) in numbers.chunks_exact(width.max(1)).zip(&paths).enumerate() {
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            if !length.is_finite() || length == 0.0 {
                let got = format!("row {row} has the length {length}");
                return Err(bad("a vector is not finite or is zero", got, "finite".into()).into());
            }
            let scale = if (length - 1.0).abs() < LENGTH_ERROR { 1.0 } else { 1.0 / length };
            let vector: Vec<f32> = vector.iter().map(|x| x * scale).collect();
            // A dump has no tags; those of a picture that is here already are a person's.
            let known = match index.store().at(path)? {
                Some((id, _)) => index.store().picture(id)?,
                None => None,
            };
            let tags = known.map(|picture| picture.tags).unwrap_or_default();
            let picture = Picture { path: path.clone(), tags, ..Picture::default() };
            changes.push(Change::Put(picture, to_bytes(&vector)));
        }
        for (changes, paths) in changes.chunks(COMMIT_ROWS).zip(paths.chunks(COMMIT_ROWS)) {
            index.commit(changes)?;
            paths.iter().try_for_each(|path| tell(path))?;
        }
    }
    Ok(())
}

/// The longest manifest that is read.
const MANIFEST_BYTES: u64 = 1 << 20;

/// Refuses a dump that says it is of another model; most say nothing.
fn check_manifest(index: &Index, dump: &Path) -> Result<(), Error> {
    let path = dump.join("manifest.json");
    let mut text = Vec::new();
    match std::fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file
            .and_then(|file| file.take(MANIFEST_BYTES).read_to_end(&mut text))
            .map_err(Error::io("read", &path))?,
    };
    // Others name their files so too, and mean something else.
    let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let expected = &index.settings().fingerprint;
    match manifest.get("fingerprint").and_then(serde_json::Value::as_str) {
        Some(found) if found != expected => {
            Err(Error::OtherModel { path, found: found.to_owned(), expected: expected.clone() })
        }
        _ => Ok(()),
    }
}

/// Arrays and their tables, by their numbers.
fn parts(dump: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let folder = dump.join("img_emb");
    let entries = std::fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
    let mut parts = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io("read", &folder))?.file_name();
        let name = name.to_string_lossy();
        if let Some(number) = name.strip_prefix("img_emb_").and_then(|n| n.strip_suffix(".npy")) {
            let table = dump.join(format!("metadata/metadata_{number}.parquet"));
            parts.push((folder.join(&*name), table));
        }
    }
    parts.sort();
    if parts.is_empty() {
        return Err(Error::Dump {
            path: folder,
            what: "there is no array",
            got: "nothing".into(),
            expected: "img_emb_0.npy".into(),
        });
    }
    Ok(parts)
}

/// As many paths as there are vectors.
fn paths(table: &Path, vectors: usize) -> Result<Vec<String>, Error> {
    let bytes = whole(table)?;
    // The reader of tables is not ours: a panic of it on foreign bytes is a fault of the table.
    catch_unwind(AssertUnwindSafe(|| paths_of(table, bytes, vectors)))
        .unwrap_or_else(|_| Err(unfit(table, "the table cannot be read", "a damaged one".into())))
}

fn unfit(table: &Path, what: &'static str, got: String) -> Error {
    let expected = "a column image_path of texts".into();
    Error::Dump { path: table.to_owned(), what, got, expected }
}

/// A file in memory, so that a table that names parts outside of it asks for nothing.
fn whole(path: &Path) -> Result<Bytes, Error> {
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let len = file.metadata().map_err(Error::io("read", path))?.len();
    let memory = || Error::Memory { path: path.to_owned(), bytes: len as usize };
    let (len, mut bytes) = (usize::try_from(len).map_err(|_| memory())?, Vec::new());
    bytes.try_reserve_exact(len).map_err(|_| memory())?;
    file.take(len as u64).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes.into())
}

fn paths_of(table: &Path, bytes: Bytes, vectors: usize) -> Result<Vec<String>, Error> {
    let bad = |what, got: String| unfit(table, what, got);
    let failed =
        |error: parquet::errors::ParquetError| bad("the table cannot be read", error.to_string());
    let other_number = |paths: i64| Error::Dump {
        path: table.to_owned(),
        what: "not as many paths as vectors",
        got: format!("{vectors} vectors, {paths} paths"),
        expected: "one path a vector".into(),
    };
    let reader = SerializedFileReader::new(bytes).map_err(failed)?;
    let metadata = reader.metadata().file_metadata();
    let fields = metadata.schema().get_fields();
    let field = fields.iter().find(|field| field.name() == "image_path");
    let field = field.ok_or_else(|| bad("the table has no paths", "other columns".into()))?;
    // A few bytes can say one path a thousand million times, so paths are counted before they are read.
    if u64::try_from(metadata.num_rows()) != Ok(vectors as u64) {
        return Err(other_number(metadata.num_rows()));
    }
    let projection = Type::group_type_builder("schema").with_fields(vec![field.clone()]).build();
    let rows = reader.get_row_iter(Some(projection.map_err(failed)?)).map_err(failed)?;
    let mut paths = Vec::new();
    for row in rows {
        let row = row.map_err(failed)?;
        let path = row.get_string(0).map_err(failed)?;
        if path.len() > MAX_PATH_BYTES || path.is_empty() {
            return Err(bad("a path is empty or too long", format!("{} bytes", path.len())));
        }
        paths.push(path.clone());
        if paths.len() > vectors {
            break;
        }
    }
    match paths.len() {
        found if found == vectors => Ok(paths),
        found => Err(other_number(found as i64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &[u8], vectors: usize) -> Result<Vec<String>, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata_0.parquet");
        std::fs::write(&path, table).unwrap();
        paths(&path, vectors)
    }

    #[test]
    fn a_table_has_a_path_for_each_vector_and_no_more_are_read() {
        let three = table(&[("image_path", vec!["/a", "/b", "/猫"])]).unwrap();
        assert_eq!(read(&three, 3).unwrap(), ["/a", "/b", "/猫"]);
        for vectors in [0, 2, 4, usize::MAX] {
            match read(&three, vectors) {
                Err(Error::Dump { got, .. }) => assert!(got.ends_with("vectors, 3 paths"), "{got}"),
                other => panic!("{other:?}"),
            }
        }
        // Small, and two million paths: none of them is read.
        let many = table(&[("image_path", vec!["/a"; 2_000_000])]).unwrap();
        assert!(many.len() < 100_000, "{}", many.len());
        assert!(matches!(read(&many, 3), Err(Error::Dump { .. })));
        assert!(matches!(
            read(&table(&[("url", vec!["/a"])]).unwrap(), 1),
            Err(Error::Dump { .. })
        ));
    }

    #[test]
    fn a_table_with_a_lying_header_is_refused_or_read_as_it_is() {
        let sound = table(&[("image_path", vec!["/a", "/b", "/a", "/a"])]).unwrap();
        let mut refused = 0;
        // The length of the footer is the four bytes before the last four.
        for (at, value) in (0..sound.len()).flat_map(|at| [0, 1, 0x7f, 0x80, 0xff].map(|v| (at, v)))
        {
            let mut damaged = sound.clone();
            damaged[at] = value;
            match read(&damaged, 4) {
                Ok(paths) => assert_eq!(paths.len(), 4, "byte {at}, {value}"),
                Err(Error::Dump { .. }) => refused += 1,
                Err(error) => panic!("byte {at}, {value}: {error:?}"),
            }
        }
        assert!(refused > sound.len(), "{refused}");
        for cut in 0..sound.len() {
            assert!(matches!(read(&sound[..cut], 4), Err(Error::Dump { .. })), "cut at {cut}");
        }
    }

    #[test]
    fn an_array_with_a_lying_header_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("img_emb_0.npy");
        for shape in [[1 << 40, 4], [usize::MAX, 4], [2, usize::MAX], [1 << 40, 0], [2, 4]] {
            let mut file = Vec::new();
            npy::write_f32(&mut file, &shape, &[0.5; 4]).unwrap();
            std::fs::write(&path, file).unwrap();
            let read = npy::read(&path).and_then(npy::Array::into_matrix);
            assert!(read.is_err(), "{shape:?}");
        }
    }
}
