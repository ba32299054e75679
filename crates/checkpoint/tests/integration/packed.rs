//! Packed model files: what is written is read back, and no changed byte passes.

use altclip_checkpoint::{
    Checkpoint, Dtype, Error, Identity, MatrixFormat, MatrixToWrite, PackedModel, TensorData,
    TensorToWrite, write_packed,
};
use altclip_report::{Code, Diagnose};
use proptest::prelude::*;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// Digits of the seal in a file.
const SEAL: std::ops::Range<usize> = 52..68;

struct Given {
    panels: Vec<u8>,
    table: Vec<u8>,
}

/// An int8 matrix of two tensors, a bf16 one, one left in f32, a vector, a table in F16, two files.
fn write(path: &Path, panels: usize, table_rows: usize) -> Given {
    let panels: Vec<u8> = (0..panels).map(|n| (n * 7 % 251) as u8).collect();
    let table: Vec<u8> = (0..table_rows * 4 * 2).map(|n| (n % 59) as u8).collect();
    let matrix = |names: &[&str], shape: &[usize], format| MatrixToWrite {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        shape: shape.to_vec(),
        format,
        bytes: &panels,
        scales: &[],
        sums: &[],
        smoothing: None,
        correction: None,
    };
    let tensor = |name: &str, dtype, shape: &[usize], data| TensorToWrite {
        name: name.into(),
        dtype,
        shape: shape.to_vec(),
        data,
    };
    let model = PackedModel {
        precision: "int8".into(),
        fingerprint: "abc".into(),
        matrices: vec![
            MatrixToWrite {
                scales: &[1.0, 2.0, 3.0, 4.0],
                sums: &[-1, 2, -3, 4],
                smoothing: Some(&[0.5, 2.0, 1.0]),
                correction: Some(&[0.0, -1.0, 0.25, 7.0]),
                ..matrix(&["a.key.weight", "a.value.weight"], &[2, 3], MatrixFormat::Int8)
            },
            matrix(&["conv.weight"], &[2, 3, 2, 2], MatrixFormat::Bf16),
            MatrixToWrite { bytes: &[], ..matrix(&["plain.weight"], &[1, 2], MatrixFormat::F32) },
        ],
        tensors: vec![
            tensor("table", Dtype::F16, &[table_rows, 4], TensorData::Bytes(&table)),
            tensor("a.bias", Dtype::F32, &[3], TensorData::F32(&[1.0, 2.0, 3.0])),
            tensor("plain.weight", Dtype::F32, &[1, 2], TensorData::F32(&[7.0, 8.0])),
            tensor("logit_scale", Dtype::F32, &[], TensorData::F32(&[0.5])),
        ],
        files: vec![
            ("config.json".into(), b"{}".as_slice()),
            ("tokenizer.json".into(), b"[1, 2]".as_slice()),
        ],
    };
    let (mut last, mut all) = (0, 0);
    let length = write_packed(path, model, &mut |done, total| (last, all) = (done, total)).unwrap();
    assert_eq!((length, last), (all, all));
    assert_eq!(std::fs::metadata(path).unwrap().len(), length);
    Given { panels, table }
}

fn in_folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.altclip");
    (dir, path)
}

/// Opens a file and reads all that is in it.
fn read_all(path: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let mut checkpoint = Checkpoint::open_packed(path)?;
    checkpoint.set_threads(3);
    let info = checkpoint.packed_info().unwrap().clone();
    let mut found = Vec::new();
    for joined in info.matrices.keys() {
        if let Some(matrix) = checkpoint.packed_matrix(joined)? {
            found.push(matrix.bytes.as_ref().to_vec());
            found.push(
                format!(
                    "{:?} {:?} {:?} {:?}",
                    matrix.scales, matrix.sums, matrix.smoothing, matrix.correction
                )
                .into(),
            );
        }
    }
    for name in checkpoint.names().map(str::to_owned).collect::<Vec<_>>() {
        checkpoint.scan_non_finite(&name)?;
        found.push(name.into_bytes());
    }
    for name in checkpoint.packed_files().map(str::to_owned).collect::<Vec<_>>() {
        found.push(checkpoint.packed_file(&name)?.unwrap());
    }
    Ok(found)
}

#[test]
fn what_is_written_is_read_back() {
    let (_dir, path) = in_folder();
    // Several blocks, the last one short, so that threads share the work.
    let given = write(&path, (5 << 20) + 1024, 300_001);
    let mut checkpoint = Checkpoint::open_packed(&path).unwrap();
    checkpoint.set_threads(4);
    let info = checkpoint.packed_info().unwrap();
    assert_eq!((info.precision.as_str(), info.fingerprint.as_str()), ("int8", "abc"));
    assert_eq!(info.share(MatrixFormat::Bf16).0, 1);
    let names: Vec<&str> = checkpoint.names().collect();
    let expected = [
        "a.bias",
        "a.key.weight",
        "a.value.weight",
        "conv.weight",
        "logit_scale",
        "plain.weight",
        "table",
    ];
    assert_eq!(names, expected);
    assert_eq!(checkpoint.shape("a.value.weight"), Some(&[2, 3][..]));
    assert_eq!(checkpoint.shape("conv.weight"), Some(&[2, 3, 2, 2][..]));

    let matrix = checkpoint.packed_matrix("a.key.weight+a.value.weight").unwrap().unwrap();
    assert_eq!((matrix.n, matrix.k, matrix.format), (4, 3, MatrixFormat::Int8));
    assert!(matrix.bytes.as_ref() == given.panels);
    assert_eq!(matrix.bytes.as_ref().as_ptr().addr() % 64, 0, "panels are not aligned");
    assert_eq!(matrix.scales, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(matrix.sums, [-1, 2, -3, 4]);
    assert_eq!(matrix.smoothing.as_deref(), Some(&[0.5, 2.0, 1.0][..]));
    assert_eq!(matrix.correction.as_deref(), Some(&[0.0, -1.0, 0.25, 7.0][..]));
    let conv = checkpoint.packed_matrix("conv.weight").unwrap().unwrap();
    assert_eq!((conv.n, conv.k, conv.scales.len()), (2, 12, 0));
    assert!(checkpoint.packed_matrix("plain.weight").unwrap().is_none());
    assert!(checkpoint.packed_matrix("a.key.weight").unwrap().is_none());
    assert_eq!(checkpoint.read_f32("plain.weight").unwrap(), [7.0, 8.0]);
    assert_eq!(checkpoint.read_f32("logit_scale").unwrap(), [0.5]);
    assert!(checkpoint.read_f32("a.key.weight").is_err(), "packed values are no numbers");
    let mut row = [0.0; 4];
    checkpoint.read_rows_f32("table", 300_000..300_001, &mut row).unwrap();
    let mut copied = Vec::new();
    checkpoint.copy_bytes("table", &mut copied).unwrap().unwrap();
    assert!(copied == given.table);
    assert_eq!(checkpoint.packed_file("config.json").unwrap().unwrap(), b"{}");
    assert_eq!(checkpoint.packed_file("absent").unwrap(), None);
    // A matrix outlives the checkpoint that it came from.
    drop(checkpoint);
    assert!(conv.bytes.as_ref() == given.panels);
}

#[test]
fn any_reader_of_safetensors_opens_it() {
    let (_dir, path) = in_folder();
    let given = write(&path, 4096, 3);
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert!(file.tensor("conv.weight.packed").unwrap().data() == given.panels);
    assert!(file.tensor("table").unwrap().data() == given.table);
    assert_eq!(file.tensor("files/config.json").unwrap().data(), b"{}");
    // Ours too, as a file of plain tensors.
    let plain = Checkpoint::open_file(&path).unwrap();
    assert_eq!(plain.shape("conv.weight.packed"), Some(&[4096][..]));
    assert!(plain.packed_info().is_none());
}

#[test]
fn every_changed_byte_is_found() {
    let (dir, path) = in_folder();
    write(&path, 64, 2);
    let whole = std::fs::read(&path).unwrap();
    let sound = read_all(&path).unwrap();
    let damaged = dir.path().join("damaged.altclip");
    for at in 0..whole.len() {
        // One bit, the bit of a letter's case, and a space to a tab.
        for flip in [0x01, 0x20, 0x29] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            std::fs::write(&damaged, &bytes).unwrap();
            let error = match read_all(&damaged) {
                Ok(found) => panic!("byte {at} ^ {flip}: nothing found, same: {}", found == sound),
                Err(error) => error.report(),
            };
            assert_eq!(error.code.exit_status(), 4, "byte {at}: {error}");
            if at >= SEAL.start {
                assert_eq!(error.code, Code::E2105, "byte {at}: {error}");
            }
        }
    }
    assert_eq!(read_all(&path).unwrap(), sound);
}

#[test]
fn every_cut_is_found() {
    let (dir, path) = in_folder();
    write(&path, 64, 2);
    let whole = std::fs::read(&path).unwrap();
    let cut = dir.path().join("cut.altclip");
    for length in 0..whole.len() {
        std::fs::write(&cut, &whole[..length]).unwrap();
        let report = Checkpoint::open_packed(&cut).unwrap_err().report();
        assert_eq!(report.code.exit_status(), 4, "{length} bytes: {report}");
    }
    std::fs::write(&cut, [&whole[..], b"x"].concat()).unwrap();
    assert_eq!(Checkpoint::open_packed(&cut).unwrap_err().report().code, Code::E2014);
}

/// Replaces text of a header by text of the same length and seals it again.
fn resealed(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).expect(from);
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[SEAL].fill(b'0');
    let seal = format!("{:016x}", xxh3_64(&bytes[..header]));
    bytes[SEAL].copy_from_slice(seal.as_bytes());
    bytes
}

#[test]
fn sealed_headers_that_lie_are_refused() {
    let (dir, path) = in_folder();
    write(&path, 64, 2);
    let whole = std::fs::read(&path).unwrap();
    let changed = dir.path().join("changed.altclip");
    let open = |from: &str, to: &str| {
        std::fs::write(&changed, resealed(&whole, from, to)).unwrap();
        Checkpoint::open_packed(&changed)
    };
    open("\"fingerprint\":\"abc\"", "\"fingerprint\":\"abd\"")
        .expect("the control is sealed rightly");
    for (from, to, code) in [
        ("\"version\":\"1\"", "\"version\":\"2\"", Code::E2108),
        ("\"precision\":", "\"precisiom\":", Code::E2108),
        ("\\\"format\\\":\\\"bf16\\\"", "\\\"format\\\":\\\"bf17\\\"", Code::E2108),
        ("\\\"shape\\\":[2, 3]", "\\\"shape\\\":[9, 3]", Code::E2108),
        ("\\\"shape\\\":[2, 3]", "\\\"shape\\\":[2, 9]", Code::E2108),
        ("\\\"a.bias\\\":", "\\\"a.bios\\\":", Code::E2108),
        ("a.key.weight+a.value.weight\\\":{", "a.key.weight+a.keys.weights\\\":{", Code::E2108),
    ] {
        let report = match open(from, to) {
            Ok(_) => panic!("{from} to {to} was accepted"),
            Err(error) => error.report(),
        };
        assert_eq!(report.code, code, "{from}: {report}");
    }
    let unsealed = write_other(dir.path());
    assert_eq!(Checkpoint::open_packed(&unsealed).unwrap_err().report().code, Code::E2108);
}

/// A plain safetensors file.
fn write_other(dir: &Path) -> PathBuf {
    let path = dir.join("plain.altclip");
    std::fs::write(&path, [&2u64.to_le_bytes()[..], b"{}"].concat()).unwrap();
    path
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a sealed header says, opening and reading end without a panic.
    #[test]
    fn foreign_headers_end_without_a_panic(at in 0usize..2000, with in any::<u8>(), len in 1usize..8) {
        let (_dir, path) = in_folder();
        write(&path, 64, 2);
        let mut bytes = std::fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let at = SEAL.end + at % (header - SEAL.end);
        let end = header.min(at + len);
        bytes[at..end].fill(with);
        bytes[SEAL].fill(b'0');
        let seal = format!("{:016x}", xxh3_64(&bytes[..header]));
        bytes[SEAL].copy_from_slice(seal.as_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let _ = read_all(&path);
    }
}

#[test]
fn a_failed_write_leaves_nothing() {
    let (dir, path) = in_folder();
    let short = TensorToWrite {
        name: "x".into(),
        dtype: Dtype::F32,
        shape: vec![2],
        data: TensorData::Stream(Box::new(|out| out.write_all(&[0; 4]))),
    };
    let model = PackedModel {
        precision: "int8".into(),
        fingerprint: String::new(),
        matrices: Vec::new(),
        tensors: vec![short],
        files: Vec::new(),
    };
    assert!(matches!(write_packed(&path, model, &mut |_, _| ()), Err(Error::Write { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_identity_tells_changed_files() {
    let dir = tempfile::tempdir().unwrap();
    let weights = dir.path().join("model.safetensors");
    let identity = || {
        let mut identity = Identity::new("1");
        identity.add_weights(dir.path()).unwrap();
        identity.add_file(dir.path(), "config.json").unwrap();
        identity.finish()
    };
    assert!(Identity::new("1").add_weights(dir.path()).is_err());
    std::fs::write(&weights, vec![0; 3 << 20]).unwrap();
    let first = identity();
    assert_eq!((first.len(), identity()), (32, first.clone()));
    // The time of change alone, then the end of the file with the old time, then another file.
    let time = std::fs::metadata(&weights).unwrap().modified().unwrap();
    let set =
        |time| std::fs::File::options().write(true).open(&weights).unwrap().set_modified(time);
    set(time + std::time::Duration::from_secs(1)).unwrap();
    assert_ne!(identity(), first);
    let mut bytes = vec![0; 3 << 20];
    bytes[(3 << 20) - 1] = 1;
    std::fs::write(&weights, bytes).unwrap();
    set(time).unwrap();
    let second = identity();
    assert_ne!(second, first);
    std::fs::write(dir.path().join("config.json"), "{}").unwrap();
    assert_ne!(identity(), second);
}
