//! Values of good PyTorch files: views, wrappers, rows, types; and what the checks report.

use crate::forge::{
    Asm, PLAIN, View, file_of, load, safetensors, six_floats, state_dict, torch_zip,
};
use altclip_checkpoint::{Checkpoint, Error, Expected, NonFinite, check};
use altclip_report::{Code, Diagnose};

fn open(bytes: &[u8]) -> Checkpoint {
    Checkpoint::open_file(file_of(bytes).path()).unwrap()
}

#[test]
fn views_are_read_in_row_major_order() {
    let views = [
        ("transposed", View { size: &[3, 2], stride: &[1, 3], ..PLAIN }),
        ("column", View { offset: 1, size: &[2], stride: &[3], ..PLAIN }),
        ("scalar", View { offset: 5, size: &[], stride: &[], ..PLAIN }),
        ("tail", View { offset: 4, size: &[2, 1], stride: &[1, 77], ..PLAIN }),
        ("empty", View { size: &[0, 3], stride: &[3, 1], ..PLAIN }),
    ];
    let bytes = torch_zip(&state_dict(&views)).bytes;
    let expected: [(&str, &[f32]); 5] = [
        ("column", &[2.0, 5.0]),
        ("empty", &[]),
        ("scalar", &[6.0]),
        ("tail", &[5.0, 6.0]),
        ("transposed", &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]),
    ];
    for ((name, values), (expected_name, expected)) in load(&bytes).unwrap().iter().zip(expected) {
        assert_eq!((name.as_str(), values.as_slice()), (expected_name, expected));
    }
    let checkpoint = open(&bytes);
    let mut rows = [0.0; 4];
    checkpoint.read_rows_f32("transposed", 1..3, &mut rows).unwrap();
    assert_eq!(rows, [2.0, 5.0, 3.0, 6.0]);
}

#[test]
fn rows_are_read_and_wrong_rows_refused() {
    let checkpoint = open(&torch_zip(&state_dict(&[("w", PLAIN)])).bytes);
    let mut row = [0.0; 3];
    checkpoint.read_rows_f32("w", 1..2, &mut row).unwrap();
    assert_eq!(row, [4.0, 5.0, 6.0]);
    checkpoint.read_rows_f32("w", 2..2, &mut []).unwrap();
    for (rows, len) in [(0..3, 9), (1..2, 2), (3..3, 0), (usize::MAX - 1..usize::MAX, 3)] {
        let mut out = vec![0.0; len];
        let error = checkpoint.read_rows_f32("w", rows.clone(), &mut out).unwrap_err();
        assert!(matches!(error, Error::Rows { .. }), "{rows:?}");
    }
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = checkpoint.read_rows_f32("w", 2..1, &mut []).unwrap_err();
    assert!(matches!(backwards, Error::Rows { .. }));
}

#[test]
fn a_state_dict_is_found_inside_a_trainers_checkpoint() {
    for wrapper in ["module", "model", "state_dict"] {
        let asm = Asm::new().raw(b"}(").text("iteration").int(7);
        let asm = asm.text("torch_rng_state").tensor(&View { size: &[6], stride: &[1], ..PLAIN });
        let asm = asm.text(wrapper).raw(b"}(").text("w").tensor(&PLAIN);
        let checkpoint = open(&torch_zip(&asm.raw(b"uu").stop()).bytes);
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["w"]);
        assert_eq!(checkpoint.warnings()[0].code, Code::W2121);
        assert!(checkpoint.warnings()[0].message.contains("torch_rng_state"));
    }
    // A random state of numpy and the metadata of a state dict are described, never built.
    let asm = Asm::new().raw(b"}(").text("np").global("numpy.core.multiarray", "_reconstruct");
    let asm = asm.raw(b"(").global("numpy", "ndarray").raw(b"K\0\x85").text("b").raw(b"tR)b");
    let asm = asm.text("module").global("collections", "OrderedDict").raw(b")R(").text("w");
    let asm = asm.tensor(&PLAIN).raw(b"u}").text("_metadata").raw(b"}sb");
    let read = load(&torch_zip(&asm.raw(b"u").stop()).bytes).unwrap();
    assert_eq!(read, [("w".to_owned(), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
}

#[test]
fn opcodes_of_later_protocols_are_read() {
    let asm = Asm(b"\x80\x04\x95".to_vec()).raw(&4u64.to_le_bytes()).raw(b"}\x94(");
    let asm =
        asm.raw(b"\x8c\x01w\x94\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93\x94");
    let asm = asm.raw(b"(").storage("FloatStorage", "0", 6).int(0).ints(&[6]).ints(&[1]);
    let asm = asm.raw(b"\x89\x8c\x0bcollections\x8c\x0bOrderedDict\x93)RtRu");
    assert_eq!(load(&torch_zip(&asm.stop()).bytes).unwrap()[0].0, "w");
}

#[test]
fn values_that_are_not_finite_are_counted() {
    let mut values = vec![0.5f32; 3_000_000];
    for at in [1_048_576, 2_000_000, 2_999_999] {
        values[at] = f32::NAN;
    }
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let header = r#"{"a":{"dtype":"F32","shape":[3000,1000],"data_offsets":[0,12000000]}}"#;
    let checkpoint = open(&safetensors(header, &data));
    let expected = NonFinite { first: 1_048_576, count: 3 };
    assert_eq!(checkpoint.scan_non_finite("a").unwrap(), Some(expected));
    let found = |error| match error {
        Error::NotFinite { first, count, .. } => (first, count),
        other => panic!("{other}"),
    };
    assert_eq!(found(checkpoint.read_f32("a").unwrap_err()), (1_048_576, 3));
    let mut rows = vec![0.0; 1_000_000];
    let error = checkpoint.read_rows_f32("a", 2000..3000, &mut rows).unwrap_err();
    assert_eq!(found(error), (2_000_000, 2));
    checkpoint.read_rows_f32("a", 0..1000, &mut rows).unwrap();
}

#[test]
fn reading_holds_a_tensor_once() {
    let data = vec![0u8; 32 << 20];
    let header = r#"{"a":{"dtype":"F32","shape":[8388608],"data_offsets":[0,33554432]}}"#;
    let checkpoint = open(&safetensors(header, &data));
    let (values, peak) = crate::alloc::peak_of(|| checkpoint.read_f32("a").unwrap());
    assert_eq!(values.len(), 8 << 20);
    assert!(peak < (33 << 20), "{peak}");
    let (_, peak) = crate::alloc::peak_of(|| checkpoint.scan_non_finite("a").unwrap());
    assert!(peak < (5 << 20), "{peak}");
}

#[test]
fn a_file_cut_under_the_reader_is_noticed() {
    let file = file_of(&torch_zip(&state_dict(&[("w", PLAIN)])).bytes);
    let checkpoint = Checkpoint::open_file(file.path()).unwrap();
    file.as_file().set_len(100).unwrap();
    for error in [
        checkpoint.read_f32("w").unwrap_err(),
        checkpoint.read_rows_f32("w", 0..1, &mut [0.0; 3]).unwrap_err(),
        checkpoint.scan_non_finite("w").unwrap_err(),
    ] {
        assert_eq!(error.report().code, Code::E2107);
    }
}

fn expected(tensors: &[(&str, &[usize])]) -> Vec<Expected> {
    let expected = |(name, shape): &(&str, &[usize])| Expected {
        name: (*name).to_owned(),
        shape: shape.to_vec(),
    };
    tensors.iter().map(expected).collect()
}

#[test]
fn all_differences_from_the_model_are_listed() {
    let views = [
        ("text.pre_LM.weight", PLAIN),
        ("text.projection", PLAIN),
        ("position_ids", PLAIN),
        ("optimizer.state", PLAIN),
    ];
    let checkpoint = open(&torch_zip(&state_dict(&views)).bytes);
    let wanted = expected(&[
        ("text.pre_LN.weight", &[2, 3]),
        ("text.projection", &[3, 2]),
        ("logit_scale", &[]),
    ]);
    let ignorable = |name: &str| name.ends_with("position_ids");
    let error = check(&checkpoint, &wanted, &ignorable, false).unwrap_err();
    let reports: Vec<_> = error.reports().iter().map(ToString::to_string).collect();
    let parts = [
        ["E2101", "«text.pre_LN.weight»", "«text.pre_LM.weight» as the nearest name"],
        ["E2103", "got [2, 3]", "expected [3, 2]"],
        ["E2101", "«logit_scale»", "missing"],
        ["E2102", "«optimizer.state»", "--allow-extra-keys"],
        ["E2102", "«text.pre_LM.weight»", "not expected"],
    ];
    assert_eq!(reports.len(), parts.len(), "{reports:#?}");
    for (line, parts) in reports.iter().zip(parts) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    let wanted = expected(&[("text.projection", &[2, 3])]);
    let warnings = check(&checkpoint, &wanted, &ignorable, true).unwrap();
    assert_eq!(warnings[0].code, Code::W2121);
    assert!(warnings[0].message.contains("2 tensors"));
}

#[test]
fn a_needed_tensor_of_integers_is_refused() {
    let view = View { class: "IntStorage", ..PLAIN };
    let checkpoint = open(&torch_zip(&state_dict(&[("w", view)])).bytes);
    let error = check(&checkpoint, &expected(&[("w", &[2, 3])]), &|_| false, false).unwrap_err();
    assert_eq!(error.report().code, Code::E2017);
    assert_eq!(checkpoint.read_f32("w").unwrap_err().report().code, Code::E2017);
    assert_eq!(checkpoint.read_f32("v").unwrap_err().report().code, Code::E2101);
    assert_eq!(checkpoint.scan_non_finite("w").unwrap(), None);
}

#[test]
fn names_are_mapped_and_collisions_named() {
    let views = [("module.a", PLAIN), ("b", PLAIN)];
    let bytes = torch_zip(&state_dict(&views)).bytes;
    let mut checkpoint = open(&bytes);
    let strip = |name: &str| name.strip_prefix("module.").map(str::to_owned);
    checkpoint.rename(&strip).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(checkpoint.get("a").unwrap().name, "a");
    assert_eq!(checkpoint.read_f32("a").unwrap().len(), six_floats().len() / 4);
    let error = checkpoint.rename(&|_| Some("x".into())).unwrap_err();
    assert!(
        matches!(&error, Error::RenameCollision { first, second, .. } if first == "a" && second == "b")
    );
    assert!(checkpoint.rename(&|_| Some("../x".into())).is_err());
    assert_eq!(checkpoint.names().count(), 2);
}
