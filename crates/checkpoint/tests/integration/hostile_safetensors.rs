//! Hostile safetensors files, one for each way in which a header can lie.

use crate::forge::{assert_refused, load, safetensors};
use altclip_report::Code;

const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

fn entry(fields: &str) -> String {
    format!(r#"{{"a":{{{fields}}}}}"#)
}

fn named(name: &str) -> String {
    format!(r#"{{"{name}":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}"#)
}

fn two(first: &str, second: &str) -> String {
    format!(
        r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{first}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#
    )
}

#[test]
fn every_header_that_lies_is_refused_with_its_code() {
    let long = "x".repeat(513);
    let deep = format!(r#"{{"a":{}"#, "[".repeat(100_000));
    let many: Vec<_> = (0..=65_536)
        .map(|i| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    let many = format!("{{{}}}", many.join(","));
    let metadata = format!(r#"{{"__metadata__":{{"k":"{}"}}}}"#, "v".repeat(2 << 20));
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        (
            "CK2 header over the end",
            (100u64).to_le_bytes().iter().chain(b"{}").copied().collect(),
            Code::E2010,
        ),
        ("CK3 header of 10^18", [&10u64.pow(18).to_le_bytes()[..], b"{}"].concat(), Code::E2011),
        (
            "CK3 header of 16 MiB + 1",
            [&((16u64 << 20) + 1).to_le_bytes()[..], b"{}"].concat(),
            Code::E2011,
        ),
        ("CK3 header of 2^64 - 1", [&u64::MAX.to_le_bytes()[..], b"{}"].concat(), Code::E2011),
        ("too many tensors", safetensors(&many, b""), Code::E2011),
        ("too much metadata", safetensors(&metadata, b""), Code::E2011),
        ("CK4 not UTF-8", [&4u64.to_le_bytes()[..], b"{\"\xff}"].concat(), Code::E2012),
        ("CK4 not JSON", safetensors("{nonsense}", b""), Code::E2012),
        ("CK4 not an object", safetensors("[1]", b""), Code::E2012),
        ("CK4 space first", safetensors(" {}", b""), Code::E2012),
        ("CK4 empty header", safetensors("", b"x"), Code::E2012),
        ("CK4 text after", safetensors("{}{}", b""), Code::E2012),
        (
            "CK4 comma at the end",
            safetensors(&format!("{},}}", &ONE[..ONE.len() - 1]), &[0; 8]),
            Code::E2012,
        ),
        ("CK4 deep", safetensors(&deep, b""), Code::E2012),
        ("CK4 without end", safetensors(&ONE[..ONE.len() - 1], &[0; 8]), Code::E2012),
        (
            "CK4 number is negative",
            safetensors(&entry(r#""dtype":"F32","shape":[-2],"data_offsets":[0,8]"#), &[0; 8]),
            Code::E2012,
        ),
        (
            "CK4 number is a fraction",
            safetensors(&entry(r#""dtype":"F32","shape":[2.0],"data_offsets":[0,8]"#), &[0; 8]),
            Code::E2012,
        ),
        (
            "CK4 number over 64 bits",
            safetensors(
                &entry(r#""dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8]"#),
                &[0; 8],
            ),
            Code::E2012,
        ),
        (
            "CK4 nine dimensions",
            safetensors(
                &entry(r#""dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]"#),
                &[0; 8],
            ),
            Code::E2012,
        ),
        (
            "CK4 three offsets",
            safetensors(&entry(r#""dtype":"F32","shape":[2],"data_offsets":[0,8,8]"#), &[0; 8]),
            Code::E2012,
        ),
        (
            "CK4 no dtype",
            safetensors(&entry(r#""shape":[2],"data_offsets":[0,8]"#), &[0; 8]),
            Code::E2012,
        ),
        (
            "CK4 unknown field",
            safetensors(&entry(r#""dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1"#), &[0; 8]),
            Code::E2012,
        ),
        (
            "CK4 field twice",
            safetensors(
                &entry(r#""dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]"#),
                &[0; 8],
            ),
            Code::E2012,
        ),
        ("CK4 metadata is a number", safetensors(r#"{"__metadata__":{"a":1}}"#, b""), Code::E2012),
        ("CK4 lone surrogate", safetensors(&named(r"\ud800"), &[0; 8]), Code::E2012),
        (
            "CK5 name twice",
            safetensors(&format!("{},{}", &ONE[..ONE.len() - 1], &ONE[1..]), &[0; 8]),
            Code::E2013,
        ),
        (
            "CK5 name twice, once escaped",
            safetensors(&format!("{},{}", &ONE[..ONE.len() - 1], &named(r"\u0061")[1..]), &[0; 8]),
            Code::E2013,
        ),
        (
            "CK5 metadata twice",
            safetensors(r#"{"__metadata__":{},"__metadata__":{}}"#, b""),
            Code::E2013,
        ),
        ("CK6 overlap", safetensors(&two("[0,4]", "[3,7]"), &[0; 7]), Code::E2014),
        ("CK6 same bytes", safetensors(&two("[0,4]", "[0,4]"), &[0; 4]), Code::E2014),
        ("CK6 gap", safetensors(&two("[0,4]", "[5,9]"), &[0; 9]), Code::E2014),
        ("CK6 gap at the start", safetensors(&two("[1,5]", "[5,9]"), &[0; 9]), Code::E2014),
        ("CK6 bytes after", safetensors(ONE, &[0; 9]), Code::E2014),
        ("CK6 bytes after nothing", safetensors("{}", &[0; 9]), Code::E2014),
        (
            "CK6 ends before it begins",
            safetensors(&entry(r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#), &[0; 8]),
            Code::E2014,
        ),
        (
            "CK7 too few bytes",
            safetensors(&entry(r#""dtype":"F32","shape":[3],"data_offsets":[0,8]"#), &[0; 8]),
            Code::E2015,
        ),
        (
            "CK7 too many bytes",
            safetensors(&entry(r#""dtype":"F16","shape":[3],"data_offsets":[0,8]"#), &[0; 8]),
            Code::E2015,
        ),
        (
            "CK7 product overflows",
            safetensors(
                &entry(r#""dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]"#),
                b"",
            ),
            Code::E2015,
        ),
        (
            "CK7 bytes overflow",
            safetensors(
                &entry(r#""dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0]"#),
                b"",
            ),
            Code::E2015,
        ),
        (
            "CK7 zero hides an overflow",
            safetensors(
                &entry(r#""dtype":"F32","shape":[0,18446744073709551615,9],"data_offsets":[0,0]"#),
                b"",
            ),
            Code::E2015,
        ),
        (
            "CK7 half a byte",
            safetensors(&entry(r#""dtype":"F4","shape":[1],"data_offsets":[0,1]"#), b"x"),
            Code::E2015,
        ),
        ("CK8 NUL", safetensors(&named(r"a\u0000b"), &[0; 8]), Code::E2016),
        ("CK8 newline", safetensors(&named(r"a\nb"), &[0; 8]), Code::E2016),
        ("CK8 escape sequence", safetensors(&named(r"\u001b[31m"), &[0; 8]), Code::E2016),
        ("CK8 path", safetensors(&named("../../etc/passwd"), &[0; 8]), Code::E2016),
        ("CK8 absolute", safetensors(&named("/etc/passwd"), &[0; 8]), Code::E2016),
        ("CK8 empty", safetensors(&named(""), &[0; 8]), Code::E2016),
        ("CK8 long", safetensors(&named(&long), &[0; 8]), Code::E2016),
        (
            "unknown dtype",
            safetensors(&entry(r#""dtype":"Q8_0","shape":[2],"data_offsets":[0,8]"#), &[0; 8]),
            Code::E2017,
        ),
        (
            "dtype in lower case",
            safetensors(&entry(r#""dtype":"f32","shape":[2],"data_offsets":[0,8]"#), &[0; 8]),
            Code::E2017,
        ),
        ("CK12 NaN", safetensors(ONE, &f32::NAN.to_le_bytes().repeat(2)), Code::E2104),
        (
            "CK12 infinite",
            safetensors(ONE, &[0.0f32.to_le_bytes(), f32::INFINITY.to_le_bytes()].concat()),
            Code::E2104,
        ),
        ("CK14 cut off", safetensors(ONE, &[0; 7]), Code::E2106),
        (
            "CK14 Git LFS",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n".to_vec(),
            Code::E2106,
        ),
        ("CK14 HTML", b"<!doctype html><title>404</title>".to_vec(), Code::E2106),
        ("CK14 XML", b"  <Error>AccessDenied</Error>".to_vec(), Code::E2106),
        ("CK14 JSON", br#"{"error":"Repository not found"}"#.to_vec(), Code::E2106),
        ("CK14 text", b"Entry not found".to_vec(), Code::E2106),
        ("CK14 empty", Vec::new(), Code::E2106),
        ("CK14 a few bytes", vec![1, 2, 3], Code::E2106),
    ];
    for (label, bytes, code) in &cases {
        assert_refused(label, bytes, *code);
    }
    println!("{} hostile safetensors files refused", cases.len());
}

#[test]
fn messages_name_the_place_and_both_numbers() {
    let line = assert_refused("", &[&100u64.to_le_bytes()[..], b"{}"].concat(), Code::E2010);
    assert!(line.contains("100 bytes") && line.contains("10 bytes"), "{line}");
    let twice = safetensors(&format!("{},{}", &ONE[..ONE.len() - 1], &ONE[1..]), &[0; 8]);
    let line = assert_refused("", &twice, Code::E2013);
    assert!(line.contains("«a»") && line.contains("bytes 9 and 62"), "{line}");
    assert_eq!((twice[9], twice[62]), (b'"', b'"'));
    let gap = safetensors(&two("[0,4]", "[5,9]"), &[0; 9]);
    let line = assert_refused("", &gap, Code::E2014);
    assert!(line.contains("«b»") && line.contains("got data offset 5, expected 4"), "{line}");
    let line = assert_refused("", &safetensors(&named(r"a\u0000b"), &[0; 8]), Code::E2016);
    assert!(line.contains(r"a\u{0}b"), "{line}");
    let nan = safetensors(ONE, &[0.0f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat());
    let line = assert_refused("", &nan, Code::E2104);
    assert!(line.contains("1 NaN or infinite values, the first at index 1"), "{line}");
}

#[test]
fn all_faults_of_one_header_are_listed() {
    use altclip_report::Diagnose;
    let header = r#"{"a\n":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"X","shape":[2],"data_offsets":[8,16]},"c":{"dtype":"F32","shape":[3],"data_offsets":[16,24]}}"#;
    let error = load(&safetensors(header, &[0; 24])).unwrap_err();
    let codes: Vec<_> = error.reports().iter().map(|r| r.code).collect();
    assert_eq!(codes, [Code::E2016, Code::E2017, Code::E2015]);
}

#[test]
fn odd_but_valid_headers_are_read() {
    let unaligned = r#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"F32","shape":[1],"data_offsets":[3,7]}}   "#;
    let data = [&[9, 9, 9][..], &2.5f32.to_le_bytes()].concat();
    assert_eq!(load(&safetensors(unaligned, &data)).unwrap(), [("b".to_owned(), vec![2.5])]);
    let empty = r#"{"__metadata__":{"format":"pt","":""},"e":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
    let read = load(&safetensors(empty, &1.0f32.to_le_bytes())).unwrap();
    assert_eq!(read, [("e".to_owned(), vec![]), ("s".to_owned(), vec![1.0])]);
    // A type that cannot be used is listed; only reading it is an error.
    let narrow =
        safetensors(&entry(r#""dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]"#), &[0; 2]);
    assert_eq!(load(&narrow).unwrap(), []);
    assert_eq!(load(&safetensors("{}", b"")).unwrap(), []);
}
