//! Model folders: which file is used, shards and their index, the writer's files.

use crate::forge::{PLAIN, safetensors, state_dict, torch_zip};
use altclip_checkpoint::{Checkpoint, Format};
use altclip_report::{Code, Diagnose};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn one(name: &str) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
    safetensors(&header, &1.0f32.to_le_bytes())
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn index(map: &str) -> Vec<u8> {
    format!(r#"{{"metadata":{{"total_size":8}},"weight_map":{{{map}}}}}"#).into_bytes()
}

#[test]
fn a_folder_without_weights_says_what_it_needs() {
    let dir = folder(&[("config.json", b"{}")]);
    for (path, part) in
        [(dir.path().to_path_buf(), "model.safetensors"), (dir.path().join("nowhere"), "nowhere")]
    {
        let report = Checkpoint::open(&path).unwrap_err().report();
        assert_eq!(report.code, Code::E2001);
        assert!(report.sentence().contains(part), "{report}");
    }
    // A folder is not a weight file.
    assert_eq!(Checkpoint::open_file(dir.path()).unwrap_err().report().code, Code::E2106);
    assert_eq!(
        Checkpoint::open_file(Path::new("/dev/null")).unwrap_err().report().code,
        Code::E2106
    );
}

#[test]
fn of_two_weight_files_the_safer_is_used_and_both_are_named() {
    let pickle = torch_zip(&state_dict(&[("p", PLAIN)])).bytes;
    let dir = folder(&[("pytorch_model.bin", &pickle), ("model.safetensors", &one("s"))]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["s"]);
    let [warning] = checkpoint.warnings() else { panic!("{:?}", checkpoint.warnings()) };
    assert_eq!(warning.code, Code::W2120);
    assert!(warning.message.contains("model.safetensors"));
    assert!(warning.message.contains("pytorch_model.bin"));
}

#[test]
fn the_kind_of_a_file_is_that_of_its_contents() {
    let pickle = torch_zip(&state_dict(&[("p", PLAIN)])).bytes;
    for (name, bytes, format) in [
        ("model.safetensors", &pickle, Format::PickleZip),
        ("pytorch_model.bin", &one("s"), Format::Safetensors),
    ] {
        let dir = folder(&[(name, bytes)]);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(checkpoint.files()[0].format, format);
        assert_eq!(checkpoint.files()[0].bytes, bytes.len() as u64);
    }
}

#[test]
fn shards_are_one_namespace() {
    let pickle = torch_zip(&state_dict(&[("p", PLAIN)])).bytes;
    let map = index(r#""s":"a.safetensors","p":"b.bin""#);
    let dir = folder(&[
        ("model.safetensors.index.json", &map),
        ("a.safetensors", &one("s")),
        ("b.bin", &pickle),
    ]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["p", "s"]);
    assert_eq!(checkpoint.read_f32("s").unwrap(), [1.0]);
    assert_eq!(checkpoint.read_f32("p").unwrap()[5], 6.0);
    assert_eq!(checkpoint.files().len(), 2);
    assert_eq!(checkpoint.get("p").unwrap().file, 1);
}

#[test]
fn an_index_that_does_not_hold_is_refused() {
    let deep = format!(r#"{{"metadata":{}"#, "[".repeat(100_000));
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("not in its shard", index(r#""x":"a""#), Code::E2018),
        ("not in the index", index(r#""s":"a","t":"b","u":"b""#), Code::E2018),
        ("in another shard", index(r#""s":"b","t":"a""#), Code::E2018),
        ("missing from the map", index(r#""s":"a""#), Code::E2018),
        ("twice", index(r#""s":"a","s":"b""#), Code::E2018),
        ("no such shard", index(r#""s":"a","t":"c""#), Code::E2001),
        ("path up", index(r#""s":"../a""#), Code::E2016),
        ("path down", index(r#""s":"x/a""#), Code::E2016),
        ("absolute", index(r#""s":"/etc/passwd""#), Code::E2016),
        ("backslash", index(r#""s":"..\\a""#), Code::E2016),
        ("drive", index(r#""s":"C:a""#), Code::E2016),
        ("NUL", index(r#""s":"a\u0000""#), Code::E2016),
        ("the folder itself", index(r#""s":".""#), Code::E2016),
        ("empty", index(r#""s":"""#), Code::E2016),
        ("not JSON", b"weights".to_vec(), Code::E2012),
        ("no map", b"{}".to_vec(), Code::E2012),
        ("map of numbers", index(r#""s":1"#), Code::E2012),
        ("two maps", br#"{"weight_map":{},"weight_map":{}}"#.to_vec(), Code::E2012),
        ("deep", deep.into_bytes(), Code::E2012),
    ];
    for (label, index, code) in cases {
        let shard = match label {
            "missing from the map" => safetensors(
                r#"{"s":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"z":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
                b"xy",
            ),
            _ => one("s"),
        };
        let dir =
            folder(&[("pytorch_model.bin.index.json", &index), ("a", &shard), ("b", &one("t"))]);
        let report = Checkpoint::open(dir.path()).unwrap_err().report();
        assert_eq!(report.code, code, "{label}: {report}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_into_a_cache_is_followed() {
    let blobs = folder(&[("blob", &one("s"))]);
    let dir = TempDir::new().unwrap();
    let link = dir.path().join("model.safetensors");
    std::os::unix::fs::symlink(blobs.path().join("blob"), link).unwrap();
    assert_eq!(Checkpoint::open(dir.path()).unwrap().names().count(), 1);
}
