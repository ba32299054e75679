//! Files that the tests are made of.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// An entry as ustar writes it.
pub(crate) fn tar_entry(name: &str, flag: u8, content: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[148..156].fill(b' ');
    header[156] = flag;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = [&header[..], content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(crate) fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [&entries.concat()[..], &[0; 1024]].concat()
}

fn writer(path: &Path, schema: &str) -> SerializedFileWriter<File> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(parquet::basic::Compression::SNAPPY)
        .set_data_page_size_limit(4096)
        .set_write_batch_size(16)
        .build();
    SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap()
}

/// A table of two columns of text.
pub(crate) fn text_table(path: &Path, names: [&str; 2], rows: &[[String; 2]], group: usize) {
    let [a, b] = names;
    let mut writer = writer(
        path,
        &format!("message m {{ optional binary {a} (STRING); required binary {b} (STRING); }}"),
    );
    for rows in rows.chunks(group) {
        let mut group = writer.next_row_group().unwrap();
        for column in 0..2 {
            let values: Vec<ByteArray> =
                rows.iter().map(|row| ByteArray::from(row[column].as_str())).collect();
            let levels = vec![1; rows.len()];
            let levels = (column == 0).then_some(&levels[..]);
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, levels, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// Bytes, path and captions of a picture.
pub(crate) type PictureRow = (Option<Vec<u8>>, String, Vec<String>);

/// A table of pictures `{bytes, path}` with lists of captions.
pub(crate) fn picture_table(path: &Path, rows: &[PictureRow], group: usize) {
    let mut writer = writer(
        path,
        "message m {
            optional group image { optional binary bytes; optional binary path (STRING); }
            optional group text (LIST) { repeated group list { optional binary element (STRING); } }
        }",
    );
    for rows in rows.chunks(group) {
        let mut group = writer.next_row_group().unwrap();
        let mut write =
            |values: Vec<ByteArray>, definitions: &[i16], repetitions: Option<&[i16]>| {
                let mut column = group.next_column().unwrap().unwrap();
                let typed = column.typed::<ByteArrayType>();
                typed.write_batch(&values, Some(definitions), repetitions).unwrap();
                column.close().unwrap();
            };
        let bytes = rows.iter().filter_map(|row| row.0.clone()).map(ByteArray::from).collect();
        let levels: Vec<i16> = rows.iter().map(|row| 1 + i16::from(row.0.is_some())).collect();
        write(bytes, &levels, None);
        let paths = rows.iter().map(|row| ByteArray::from(row.1.as_str())).collect();
        write(paths, &vec![2; rows.len()], None);
        let (mut texts, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
        for (_, _, captions) in rows {
            if captions.is_empty() {
                definitions.push(1);
                repetitions.push(0);
            }
            for (place, caption) in captions.iter().enumerate() {
                texts.push(ByteArray::from(caption.as_str()));
                definitions.push(3);
                repetitions.push(i16::from(place > 0));
            }
        }
        write(texts, &definitions, Some(&repetitions));
        group.close().unwrap();
    }
    writer.close().unwrap();
}
