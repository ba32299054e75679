//! The reader of streams gives what the mapped reader gives, and refuses what it refuses.

use altclip_checkpoint::{
    Checkpoint, Dtype, Error, SafetensorsFile, TensorData, TensorToWrite, read_safetensors_f32,
};
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn streamed(bytes: &[u8]) -> Result<Tensors, Error> {
    let mut found = BTreeMap::new();
    let length = bytes.len() as u64;
    read_safetensors_f32("stream".as_ref(), length, &mut &bytes[..], |name, shape, values| {
        found.insert(name, (shape, values));
    })?;
    Ok(found)
}

fn file(dtype: Dtype) -> Vec<u8> {
    let values: Vec<f32> = (0..40_000).map(|i| i as f32 * 0.5).collect();
    let tensor = |name: &str, shape: &[usize], n: usize| TensorToWrite {
        name: name.into(),
        dtype: Dtype::F32,
        shape: shape.into(),
        data: TensorData::F32(&values[..n]),
    };
    let tensors = [
        tensor("b", &[200, 200], 40_000),
        tensor("a", &[], 1),
        tensor("c", &[0, 3], 0),
        TensorToWrite { name: "d".into(), dtype, shape: vec![1], data: TensorData::Bytes(&[0; 4]) },
    ];
    let file = SafetensorsFile::new(tensors, &BTreeMap::new()).unwrap();
    let (mut bytes, length) = (Vec::new(), file.bytes());
    file.write(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, length);
    bytes
}

#[test]
fn a_stream_is_read_as_a_mapped_file() {
    let bytes = file(Dtype::F32);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    std::fs::write(&path, &bytes).unwrap();
    let mapped = Checkpoint::open_file(&path).unwrap();
    let streamed_tensors = streamed(&bytes).unwrap();
    assert_eq!(streamed_tensors.len(), 4);
    for (name, (shape, values)) in streamed_tensors {
        assert_eq!(mapped.shape(&name), Some(&shape[..]), "{name}");
        assert_eq!(mapped.read_f32(&name).unwrap(), values, "{name}");
    }
}

#[test]
fn a_stream_that_is_cut_or_of_another_type_is_refused() {
    let bytes = file(Dtype::F32);
    for length in (0..600).chain([bytes.len() - 1]) {
        assert!(streamed(&bytes[..length]).is_err(), "{length} bytes");
    }
    assert!(matches!(streamed(&file(Dtype::I32)), Err(Error::DtypeUnsupported { .. })));
}
