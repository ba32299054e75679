//! Against the independent readers: the official safetensors crate and pytorch-reader.

use crate::forge::{Asm, PLAIN, View, file_of, safetensors, state_dict, zip};
use altclip_checkpoint::{Checkpoint, Dtype, TensorData, TensorToWrite, write_safetensors};
use altclip_report::{Code, Diagnose};
use proptest::collection::vec;
use proptest::prelude::*;
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// What the official reader accepts has the same names, types, shapes and bytes here.
fn assert_equals_official(path: &Path, checkpoint: &Checkpoint) {
    let bytes = std::fs::read(path).unwrap();
    let official = SafeTensors::deserialize(&bytes).unwrap();
    let mut names = official.names();
    names.sort_unstable();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), names);
    for (name, view) in official.iter() {
        let info = checkpoint.get(name).unwrap();
        assert_eq!(info.shape, view.shape());
        assert_eq!(info.dtype.as_str(), view.dtype().to_string());
        if info.dtype == Dtype::F32 {
            let own: Vec<u8> =
                checkpoint.read_f32(name).unwrap().iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!(own, view.data());
        }
    }
}

#[test]
fn files_of_the_reference_read_as_the_official_reader_reads_them() {
    for name in ["alt_l/model.safetensors", "clip/model.safetensors", "alt_l/expected.safetensors"]
    {
        let path = golden(name);
        let checkpoint = Checkpoint::open_file(&path).unwrap();
        assert!(checkpoint.names().count() > 10);
        assert_equals_official(&path, &checkpoint);
    }
    let sharded = Checkpoint::open(&golden("alt_h")).unwrap();
    assert_eq!(sharded.files().len(), 2);
    let read = |name: &str| sharded.read_f32(name).unwrap().len();
    assert!(
        sharded
            .names()
            .filter(|n| sharded.get(n).unwrap().dtype == Dtype::F32)
            .map(read)
            .sum::<usize>()
            > 100_000
    );
}

#[test]
fn the_pickle_of_the_reference_equals_its_safetensors_twin() {
    let pickle = Checkpoint::open_file(&golden("alt_l/pytorch_model.bin")).unwrap();
    let twin = Checkpoint::open_file(&golden("alt_l/model.safetensors")).unwrap();
    let mut compared = 0;
    for name in twin.names() {
        assert_eq!(pickle.shape(name), twin.shape(name), "{name}");
        let bits = |c: &Checkpoint| {
            c.read_f32(name).unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(&pickle), bits(&twin), "{name}");
        compared += 1;
    }
    assert!(compared > 50);
}

/// Compares every tensor that both readers list; `exact` when both must list the same.
fn assert_equals_pytorch_reader(path: &Path, key: Option<&str>) {
    let own = Checkpoint::open_file(path).unwrap();
    let other = match key {
        Some(key) => pytorch_reader::PytorchReader::with_top_level_key(path, key).unwrap(),
        None => pytorch_reader::PytorchReader::new(path).unwrap(),
    };
    let mut names = other.keys();
    names.sort_unstable();
    assert_eq!(own.names().collect::<Vec<_>>(), names);
    for name in own.names() {
        let (info, tensor) = (own.get(name).unwrap(), other.get(name).unwrap());
        assert_eq!(info.shape, tensor.shape(), "{name}");
        assert_eq!(info.dtype.as_str(), format!("{:?}", tensor.dtype()).to_uppercase(), "{name}");
        let bytes = tensor.read().unwrap();
        let expected: Vec<f32> = match info.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => {
                bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::BF16 => {
                bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::F64 => {
                bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()
            }
            _ => continue,
        };
        assert_eq!(own.read_f32(name).unwrap(), expected, "{name}");
    }
}

#[test]
fn pickles_read_as_pytorch_reader_reads_them() {
    assert_equals_pytorch_reader(&golden("alt_l/pytorch_model.bin"), None);
    let asm = Asm::new().raw(b"}(").text("iteration").int(7).text("module").raw(b"}(").text("w");
    let asm = asm.tensor(&View { size: &[3, 2], stride: &[1, 3], ..PLAIN }).raw(b"uu");
    let file = file_of(&crate::forge::torch_zip(&asm.stop()).bytes);
    assert_equals_pytorch_reader(file.path(), Some("module"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any view of any storage type that fits its storage.
    #[test]
    fn random_views_read_as_pytorch_reader_reads_them(
        class in 0usize..6,
        size in vec(1i64..5, 0..4),
        order in any::<bool>(),
        offset in 0i64..4,
        values in vec(-1.0f32..1.0, 64 + 8),
    ) {
        let classes = ["FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage", "LongStorage", "ByteStorage"];
        let data: Vec<u8> = values.iter().flat_map(|&v| match class {
            0 => v.to_le_bytes().to_vec(),
            1 | 4 => f64::from(v).to_le_bytes().to_vec(),
            2 => half::f16::from_f32(v).to_le_bytes().to_vec(),
            3 => half::bf16::from_f32(v).to_le_bytes().to_vec(),
            _ => vec![v.to_bits() as u8],
        }).collect();
        let mut stride = vec![0; size.len()];
        let mut step = 1;
        let axes: Vec<usize> = if order { (0..size.len()).collect() } else { (0..size.len()).rev().collect() };
        for axis in axes {
            stride[axis] = step;
            step *= size[axis];
        }
        let view = View { class: classes[class], key: "0", len: 72, offset, size: &size, stride: &stride };
        let pickle = state_dict(&[("w", view)]);
        let file = file_of(&zip(&[("x/data.pkl", &pickle), ("x/data/0", &data)], true).bytes);
        assert_equals_pytorch_reader(file.path(), None);
    }

    /// What is written is read back, here and by the official reader.
    #[test]
    fn what_is_written_is_read_back(
        tensors in proptest::collection::btree_map("[a-z_.0-9名\"\\\\]{1,12}", (vec(0usize..5, 0..4), 0usize..3), 0..8),
        metadata in proptest::collection::btree_map("[a-z\n\"]{0,5}", ".{0,8}", 0..3),
    ) {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("model.safetensors");
        let owned: Vec<(String, Dtype, Vec<usize>, Vec<f32>)> = tensors.into_iter()
            .filter(|(name, _)| !name.split(['/', '\\']).any(|p| p == "..") && !name.starts_with('\\'))
            .map(|(name, (shape, kind))| {
                let values = (0..shape.iter().product()).map(|i: usize| i as f32 - 1.5).collect();
                (name, [Dtype::F32, Dtype::U8, Dtype::BF16][kind], shape, values)
            }).collect();
        let bytes: Vec<Vec<u8>> = owned.iter()
            .map(|(_, dtype, shape, _)| vec![7; dtype.bytes_of(shape).unwrap()]).collect();
        let to_write = owned.iter().zip(&bytes).enumerate().map(|(i, ((name, dtype, shape, values), bytes))| {
            let data = match dtype {
                Dtype::F32 => TensorData::F32(values),
                _ if i % 2 == 0 => TensorData::Bytes(bytes),
                _ => TensorData::Stream(Box::new(move |out| out.write_all(bytes))),
            };
            TensorToWrite { name: name.clone(), dtype: *dtype, shape: shape.clone(), data }
        });
        let length = write_safetensors(&path, to_write, &metadata).unwrap();
        prop_assert_eq!(length, std::fs::metadata(&path).unwrap().len());
        let checkpoint = Checkpoint::open_file(&path).unwrap();
        assert_equals_official(&path, &checkpoint);
        prop_assert_eq!(&checkpoint.files()[0].metadata, &metadata);
        for (name, dtype, _, values) in &owned {
            if *dtype == Dtype::F32 {
                prop_assert_eq!(&checkpoint.read_f32(name).unwrap(), values);
            }
        }
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn the_writer_is_deterministic_and_replaces_a_file_whole() {
    let dir = tempfile::TempDir::new().unwrap();
    let (first, second) = (dir.path().join("a"), dir.path().join("b"));
    let tensor = |name: &str, values| TensorToWrite {
        name: name.into(),
        dtype: Dtype::F32,
        shape: vec![2],
        data: TensorData::F32(values),
    };
    let (x, y) = ([1.0, 2.0], [3.0, 4.0]);
    let none = BTreeMap::new();
    write_safetensors(&first, [tensor("x", &x), tensor("y", &y)], &none).unwrap();
    write_safetensors(&second, [tensor("y", &y), tensor("x", &x)], &none).unwrap();
    let bytes = std::fs::read(&first).unwrap();
    assert_eq!(bytes, std::fs::read(&second).unwrap());

    // Wide types first, then by name, as the official writer orders them.
    let bytes_of = |name: &str, dtype| TensorToWrite {
        name: name.into(),
        dtype,
        shape: vec![1],
        data: TensorData::Bytes(&[7; 8][..if dtype == Dtype::I64 { 8 } else { 1 }]),
    };
    let mixed =
        [bytes_of("a", Dtype::U8), tensor("n", &x), tensor("m", &y), bytes_of("z", Dtype::I64)];
    write_safetensors(&second, mixed, &none).unwrap();
    let written = std::fs::read(&second).unwrap();
    let written = SafeTensors::deserialize(&written).unwrap();
    let mut order: Vec<_> = written.iter().map(|(n, view)| (view.data().as_ptr(), n)).collect();
    order.sort_unstable();
    assert_eq!(order.iter().map(|(_, name)| *name).collect::<Vec<_>>(), ["z", "m", "n", "a"]);

    // A failure leaves the old file and nothing else.
    let failing = TensorToWrite {
        name: "z".into(),
        dtype: Dtype::F32,
        shape: vec![2],
        data: TensorData::Stream(Box::new(|out| out.write_all(&[0; 7]))),
    };
    let error = write_safetensors(&first, [failing], &none).unwrap_err();
    assert_eq!(error.report().code, Code::E1004);
    for bad in [tensor("../x", &x), tensor("x", &x[..1])] {
        assert!(write_safetensors(&first, [bad], &none).is_err());
    }
    assert!(write_safetensors(&first, [tensor("x", &x), tensor("x", &y)], &none).is_err());
    assert_eq!(bytes, std::fs::read(&first).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    let nowhere = dir.path().join("nowhere/a");
    assert_eq!(
        write_safetensors(&nowhere, [tensor("x", &x)], &none).unwrap_err().report().code,
        Code::E1004
    );
}

#[test]
fn our_refusals_beyond_the_official_reader_are_these() {
    let entry = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    for (header, code) in [
        (format!(r#"{{"a":{entry},"a":{entry}}}"#), Code::E2013),
        (format!(r#"{{"../a":{entry}}}"#), Code::E2016),
        (format!(r#"{{"a\u0000":{entry}}}"#), Code::E2016),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#.into(), Code::E2012),
    ] {
        let bytes = safetensors(&header, &[0; 4]);
        assert!(SafeTensors::deserialize(&bytes).is_ok(), "{header}");
        crate::forge::assert_refused(&header, &bytes, code);
    }
}
