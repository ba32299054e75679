//! TX1 and TX3 to TX10: texts.

use crate::row::{Case, Row, bad_input, check, warned};
use crate::support::folder::golden_json;
use altclip_report::Code;
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

const MIB: usize = 1 << 20;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = refused();
    rows.extend(harmless());
    rows.push(warned(
        "TX5",
        "78 and more tokens",
        Code::W3107,
        &["tokens", "at most 77"],
        |case| case.embed(&["--text", &"a dog ".repeat(100)]),
    ));
    rows
}

fn refused() -> Vec<Row> {
    let lines = |case: &Case, bytes: &[u8]| {
        let path = case.file("texts.txt", bytes);
        case.embed(&[OsStr::new("--texts"), path.as_os_str()])
    };
    vec![
        bad_input("TX1", "not UTF-8 on the command line", Code::E3101, &["byte 2"], |case| {
            case.embed(&[OsStr::new("--text"), OsStr::from_bytes(b"ab\xff\xfe")])
        }),
        bad_input("TX1", "Latin-1 in a file", Code::E3101, &["line 1", "byte 3"], move |case| {
            lines(case, b"caf\xe9\n")
        }),
        bad_input("TX1", "a surrogate in CESU-8", Code::E3101, &["byte 0"], move |case| {
            lines(case, b"\xed\xa0\x80\n")
        }),
        check("TX1", "the other lines go on", |case| {
            let path = case.file("texts.txt", b"a\nb\xff\nc\n");
            let args = [OsStr::new("--texts"), path.as_os_str()];
            let outcome = case.embed(&args).go();
            let rows = outcome.rows();
            assert_eq!((outcome.status, rows.len()), (Some(3), 3));
            assert!(rows[0]["embedding"].is_array() && rows[2]["embedding"].is_array());
            assert_eq!(rows[1]["error"]["code"], "E3101");
            assert!(outcome.stderr.contains("1 of 3 inputs"), "{}", outcome.stderr);
        }),
        bad_input(
            "TX5",
            "more tokens than the model has positions",
            Code::E3104,
            &["128"],
            |case| case.embed(&["--max-length", "200", "--text", &"a dog ".repeat(200)]),
        ),
        bad_input(
            "TX6",
            "one byte over 1 MiB",
            Code::E3105,
            &["1048577", "1048576"],
            move |case| lines(case, &[&vec![b'a'; MIB + 1][..], b"\n"].concat()),
        ),
        bad_input(
            "TX6",
            "40 MiB without an end of line",
            Code::E3105,
            &["41943040"],
            move |case| lines(case, &vec![b'x'; 40 * MIB]),
        ),
    ]
}

/// Texts that work, however they look.
fn harmless() -> Vec<Row> {
    /// A file with this text alone gives one vector.
    fn embeds(case: &Case, text: &str) -> Value {
        let path = case.file("texts.txt", text);
        let outcome = case.embed(&[OsStr::new("--texts"), path.as_os_str()]).ok();
        let mut rows = outcome.rows();
        assert_eq!(rows.len(), 1);
        assert!(rows[0]["embedding"].as_array().unwrap().iter().all(Value::is_number));
        assert_eq!(outcome.fault_of_stderr(), None);
        rows.remove(0)
    }
    fn ids(case: &Case, texts: &[&str]) -> Vec<Value> {
        let args: Vec<&str> = ["--json", "--"].iter().chain(texts).copied().collect();
        let rows = case.command("tokenize", &args).ok().rows();
        rows.into_iter().map(|row| row["input_ids"].clone()).collect()
    }
    vec![
        check("TX3", "the empty text", |case| {
            let rows = case.embed(&["--text", ""]).ok().rows();
            assert_eq!((rows.len(), &rows[0]["input"]), (1, &Value::from("")));
            assert_eq!(ids(case, &[""]), [serde_json::json!([0, 2])]);
        }),
        check("TX4", "spaces, zero width, byte order mark, bidirectional controls", |case| {
            for text in [
                "   ",
                "\u{200b}\u{200d}",
                "a\u{feff}b",
                "\u{202e}abc\u{202c}",
                "\u{2066}x\u{2069}",
                "\t",
            ] {
                embeds(case, text);
            }
        }),
        check("TX5", "the row says that it was truncated", |case| {
            let row = embeds(case, &"a dog ".repeat(100));
            assert_eq!(row["truncated"], true);
            assert!(row["tokens_total"].as_u64().unwrap() > 100);
            let short = embeds(case, "a dog");
            assert_eq!((&short["truncated"], &short["tokens_total"]), (&Value::Null, &Value::Null));
        }),
        check("TX6", "exactly 1 MiB", |case| drop(embeds(case, &"a".repeat(MIB)))),
        check("TX7", "a word of 1 MiB without a space", |case| {
            let row = embeds(case, &"猫".repeat(MIB / 3));
            assert_eq!(row["truncated"], true);
        }),
        check("TX8", "U+FDFA, which becomes 18 letters, 100,000 times", |case| {
            embeds(case, &"\u{fdfa}".repeat(100_000));
        }),
        check("TX8", "200,000 combining marks", |case| {
            embeds(case, &format!("a{}", "\u{301}".repeat(200_000)));
        }),
        check("TX8", "50,000 emoji joined", |case| {
            embeds(case, &"👩\u{200d}👩\u{200d}👧".repeat(50_000));
        }),
        check("TX9", "special tokens as text, as the reference reads them", |case| {
            let expected = golden_json("tokenizer/expected.json");
            compare(case, &expected, |text| {
                ["<s>", "</s>", "<mask>", "<pad>", "<unk>"].iter().any(|name| text.contains(name))
            });
        }),
        check("TX10", "full width, composed and decomposed, traditional and simplified", |case| {
            let expected = golden_json("tokenizer/expected.json");
            compare(case, &expected, |text| {
                text.chars()
                    .any(|c| matches!(c as u32, 0x300..=0x36f | 0x3000..=0x9fff | 0xac00..=0xffef))
            });
        }),
    ]
}

/// Compares the ids of the golden texts that are `chosen`.
fn compare(case: &Case, expected: &Value, chosen: fn(&str) -> bool) {
    let mut texts: Vec<(&str, &Value)> = Vec::new();
    for item in expected.as_array().unwrap() {
        let text = item["text"].as_str().unwrap();
        // A command line holds no NUL, and no text of any length.
        if chosen(text) && !text.contains('\0') && text.len() < 10_000 {
            texts.push((text, &item["ids"]));
        }
    }
    assert!(texts.len() >= 3, "{} texts", texts.len());
    for part in texts.chunks(100) {
        let args: Vec<&str> = ["--json", "--max-length", "8192", "--"]
            .into_iter()
            .chain(part.iter().map(|(text, _)| *text))
            .collect();
        let rows = case.command("tokenize", &args).ok().rows();
        for (row, (text, ids)) in rows.iter().zip(part) {
            assert_eq!(&&row["input_ids"], ids, "{text:?}");
        }
    }
}
