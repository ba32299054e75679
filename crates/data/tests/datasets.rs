//! Each form of each kind of dataset, read back; and the real CIFAR-10 shards where they are.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use altclip_data::{
    Captioned, CaptionedPictures, CaptionsOptions, Dataset, Error, Labelled, LabelledPictures,
    LabelsOptions, ParallelOptions, ParallelTexts, Picture, Reason, TextPair,
};
use altclip_report::{Code, Diagnose};
use common::{archive, tar_entry};
use tempfile::TempDir;

fn gz(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn write(dir: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn parallel(paths: &[PathBuf], dir: &TempDir) -> Result<ParallelTexts, Error> {
    ParallelTexts::open(paths, &ParallelOptions::new(dir.path()))
}

fn captions(paths: &[PathBuf], dir: &TempDir) -> Result<CaptionedPictures, Error> {
    CaptionedPictures::open(paths, &CaptionsOptions::new(dir.path(), dir.path()))
}

fn pair(source: &str, target: &str) -> TextPair {
    TextPair { source: source.to_owned(), target: target.to_owned() }
}

#[test]
fn a_tsv_is_used_as_it_stands() {
    let dir = TempDir::new().unwrap();
    let text = "\u{feff} a \"b\tc \r\nd\t  e\r\nno tab\n\tx\nl\tm";
    let plain = write(&dir, "a.tsv", text);
    let packed =
        write(&dir, "b.tsv.gz", [gz(&text.as_bytes()[..20]), gz(&text.as_bytes()[20..])].concat());
    let data = parallel(&[plain.clone(), packed], &dir).unwrap();
    assert_eq!(data.len(), 10);
    for first in [0, 5] {
        assert_eq!(data.get(first).unwrap(), pair(" a \"b", "c "));
        assert_eq!(data.get(first + 1).unwrap(), pair("d", "  e"));
        let broken = data.get(first + 2).unwrap_err();
        assert_eq!((broken.reason, broken.place.line), (Reason::BrokenLine, Some(3)));
        assert_eq!(data.get(first + 3).unwrap_err().reason, Reason::NoText);
        assert_eq!(data.get(first + 4).unwrap(), pair("l", "m"));
    }
    assert!(data.get(10).unwrap_err().is_fatal());
    // A mark and mixed line ends, each in both files.
    assert_eq!(data.notices().len(), 4, "{:?}", data.notices());
    // Where a file lies is not part of what it holds.
    let copy = write(&dir, "elsewhere/c.tsv", text);
    let fingerprint = |paths: &[PathBuf]| parallel(paths, &dir).unwrap().fingerprint();
    assert_eq!(fingerprint(std::slice::from_ref(&plain)), fingerprint(&[copy]));
    assert_ne!(fingerprint(&[plain]), data.fingerprint());
}

#[test]
fn jsonl_has_columns_that_are_chosen() {
    let dir = TempDir::new().unwrap();
    let text = "{\"en\":\"a\",\"zh\":\"\\u4e00\\n\"}\n\n{\"zh\":\"二\",\"x\":[1],\"en\":\"b\"}\n{\"en\":1,\"zh\":\"\"}\n[]\n{\n{\"en\":\"a\"}\n";
    let path = write(&dir, "a.jsonl", text);
    let mut options = ParallelOptions::new(dir.path());
    options.columns = ["en".to_owned(), "zh".to_owned()];
    let data = ParallelTexts::open(&[path], &options).unwrap();
    assert_eq!(data.len(), 6);
    assert_eq!(data.get(0).unwrap(), pair("a", "一\n"));
    assert_eq!(data.get(1).unwrap(), pair("b", "二"));
    for (number, line) in [(2, 4), (3, 5), (4, 6), (5, 7)] {
        let fault = data.get(number).unwrap_err();
        assert_eq!((fault.reason, fault.place.line), (Reason::BrokenLine, Some(line)), "{fault}");
        assert_eq!(fault.report().code, Code::E5004);
    }
}

#[test]
fn tables_are_read() {
    let dir = TempDir::new().unwrap();
    let rows: Vec<[String; 2]> =
        (0..1000).map(|n| [format!("source {n}"), format!("目标 {n}")]).collect();
    let path = dir.path().join("a.parquet");
    common::text_table(&path, ["source", "target"], &rows, 300);
    let data = parallel(std::slice::from_ref(&path), &dir).unwrap();
    assert_eq!(data.len(), 1000);
    for number in [0, 299, 300, 999] {
        let [source, target] = &rows[number as usize];
        assert_eq!(data.get(number).unwrap(), pair(source, target));
    }
    let mut options = ParallelOptions::new(dir.path());
    options.columns[1] = "zh".to_owned();
    let report = ParallelTexts::open(&[path], &options).err().unwrap().report();
    assert_eq!(report.code, Code::E5004);
    assert!(report.to_string().contains("source, target"), "{report}");
}

/// As Hugging Face writes them: `image: {bytes, path}`, and captions as a list.
#[test]
fn tables_with_pictures_are_read() {
    let dir = TempDir::new().unwrap();
    let rows: Vec<common::PictureRow> = (0..250usize)
        .map(|n| {
            let bytes = (n % 10 != 9).then(|| vec![n as u8; 1 + 100 * n]);
            let captions = (0..n % 4).map(|c| format!("caption {c} of {n}")).collect();
            (bytes, format!("{n}.jpg"), captions)
        })
        .collect();
    write(&dir, "9.jpg", "x");
    let path = dir.path().join("a.parquet");
    common::picture_table(&path, &rows, 100);
    let data = captions(&[path], &dir).unwrap();
    assert_eq!(data.len(), 250);
    for number in [0, 1, 99, 100, 101, 9, 19, 248] {
        let (bytes, _, expected) = &rows[number];
        match (data.get(number as u64), bytes) {
            (Ok(sample), Some(bytes)) => {
                assert_eq!(sample.picture, Picture::Bytes(bytes.clone()));
                assert_eq!(&sample.captions, expected);
            }
            (Ok(sample), None) => {
                assert_eq!((number, sample.picture), (9, Picture::File(dir.path().join("9.jpg"))));
            }
            (Err(fault), _) if expected.is_empty() => assert_eq!(fault.reason, Reason::NoText),
            (Err(fault), _) => {
                assert_eq!(fault.reason, Reason::MissingImage);
                assert!([19, 99].contains(&number));
            }
        }
    }
}

#[test]
fn lists_name_pictures() {
    let dir = TempDir::new().unwrap();
    write(&dir, "p/a.jpg", "A");
    let a = Picture::File(dir.path().join("p/a.jpg"));
    let jsonl = write(
        &dir,
        "l.jsonl",
        "{\"image\":\"p/a.jpg\",\"text\":[\"one\",\" \",\"two\"],\"language\":\"en\"}\n{\"image\":\"p/a.jpg\",\"text\":\"三\"}\n",
    );
    let csv = write(
        &dir,
        "l.csv",
        "id,text,image\r\n1,\"a, \"\"b\"\"\nc\",p/a.jpg\r\n2,,p/a.jpg\r\n1,x,p/a.jpg\r\n",
    );
    let tsv = write(&dir, "l.tsv", "image\ttext\np/a.jpg\ta, b\n");
    let data = captions(&[jsonl], &dir).unwrap();
    let sample = |texts: &[&str], language: Option<&str>| Captioned {
        picture: a.clone(),
        captions: texts.iter().map(|&text| text.to_owned()).collect(),
        language: language.map(str::to_owned),
    };
    assert_eq!(data.get(0).unwrap(), sample(&["one", "two"], Some("en")));
    assert_eq!(data.get(1).unwrap(), sample(&["三"], None));
    let data = captions(&[csv], &dir).unwrap();
    assert_eq!(data.get(0).unwrap(), sample(&["a, \"b\"\nc"], None));
    let fault = data.get(1).unwrap_err();
    assert_eq!((fault.reason, fault.place.line), (Reason::NoText, Some(4)));
    assert_eq!(data.get(2).unwrap_err().reason, Reason::DuplicateKey);
    assert_eq!(captions(&[tsv], &dir).unwrap().get(0).unwrap(), sample(&["a, b"], None));
}

#[test]
fn shards_hold_pictures_with_captions() {
    let dir = TempDir::new().unwrap();
    let first = archive(&[
        tar_entry("a/", b'5', b""),
        tar_entry("a/1.x.jpg", b'0', b"no picture: the ending is x.jpg"),
        tar_entry("a/2.jpg", b'0', b"two"),
        tar_entry("a/2.txt", b'0', "a cat\n一只猫\n".as_bytes()),
        tar_entry("a/3.json", b'0', b"{\"caption\":[\"x\",\"y\"],\"language\":\"en\"}"),
        tar_entry("a/3.PNG", b'0', b"three"),
        tar_entry(".hidden", b'0', b"x"),
    ]);
    let second = archive(&[tar_entry("4.webp", b'0', b"four"), tar_entry("4.txt", b'0', b"d")]);
    write(&dir, "s/0.tar", first);
    write(&dir, "s/1.tar", second);
    write(&dir, "s/nshards.txt", "2\n");
    let data = captions(&[dir.path().join("s")], &dir).unwrap();
    assert_eq!(data.len(), 4);
    let fault = data.get(0).unwrap_err();
    assert_eq!((fault.reason, fault.place.key.as_deref()), (Reason::NoText, Some("a/1")));
    let expected: [(&[u8], &[&str]); 3] =
        [(b"two", &["a cat", "一只猫"]), (b"three", &["x", "y"]), (b"four", &["d"])];
    for (number, (bytes, texts)) in (1..).zip(expected) {
        let sample = data.get(number).unwrap();
        assert_eq!(
            (sample.picture, sample.captions),
            (Picture::Bytes(bytes.to_vec()), texts.iter().map(|&t| t.to_owned()).collect())
        );
    }
    assert_eq!(data.place(3).to_string(), format!("{}, «4»", dir.path().join("s/1.tar").display()));
    assert_eq!(data.notices().len(), 1);
}

#[test]
fn a_folder_for_each_class() {
    let dir = TempDir::new().unwrap();
    for name in ["dog/2.jpg", "cat/1.PNG", "cat/notes.md", "dog/0.jpg"] {
        write(&dir, name, name);
    }
    let open = || LabelledPictures::open(dir.path(), &LabelsOptions::default());
    let data = open().unwrap();
    let found: Vec<(PathBuf, usize, String)> = (0..data.len())
        .map(|n| {
            let Labelled { picture: Picture::File(path), class, class_name } = data.get(n).unwrap()
            else {
                panic!()
            };
            (path.strip_prefix(dir.path()).unwrap().to_owned(), class, class_name.to_string())
        })
        .collect();
    let row = |path: &str, class, name: &str| (PathBuf::from(path), class, name.to_owned());
    assert_eq!(
        found,
        [row("cat/1.PNG", 0, "cat"), row("dog/0.jpg", 1, "dog"), row("dog/2.jpg", 1, "dog")]
    );
    assert_eq!(data.notices().len(), 1);
    data.check_unchanged().unwrap();
    write(&dir, "dog/3.jpg", "new");
    assert!(matches!(data.check_unchanged(), Err(Error::Changed { .. })));
    write(&dir, "3/x.jpg", "x");
    let error = open().err().unwrap();
    assert_eq!(error.code(), Code::E5010);
    assert!(error.to_string().contains("«3» is a number"), "{error}");
}

#[test]
fn shards_with_class_names() {
    let dir = TempDir::new().unwrap();
    let sample = |key: &str, label: &str| {
        [
            tar_entry(&format!("{key}.jpg"), b'0', b"p"),
            tar_entry(&format!("{key}.cls"), b'0', label.as_bytes()),
        ]
        .concat()
    };
    let tar = archive(&[
        sample("a", "1\n"),
        sample("b", "2"),
        sample("c", "-1"),
        tar_entry("d.jpg", b'0', b"p"),
    ]);
    write(&dir, "test/0.tar", tar);
    write(&dir, "test/nshards.txt", "1");
    let open = || LabelledPictures::open(dir.path(), &LabelsOptions::default());
    assert_eq!(open().err().unwrap().code(), Code::E5010);
    write(&dir, "classnames.txt", "cat\ndog\n");
    write(&dir, "zeroshot_classification_templates.txt", "a photo of a {c}.\n");
    let data = open().unwrap();
    let first = data.get(0).unwrap();
    assert_eq!((first.class, &*first.class_name), (1, "dog"));
    for number in 1..4 {
        let fault = data.get(number).unwrap_err();
        assert_eq!((fault.reason, fault.report().code), (Reason::BadLabel, Code::E5010), "{fault}");
    }
    assert_eq!(data.templates().unwrap(), ["a photo of a {c}."]);
    for (names, line) in [("cat\n7\n", 2), ("cat\n\n", 2), ("cat\ncat\n", 2)] {
        write(&dir, "classnames.txt", names);
        let Err(Error::ClassNames { line: found, .. }) = open() else { panic!("{names:?}") };
        assert_eq!(found, Some(line));
    }
    write(&dir, "dataset_type.txt", "retrieval\n");
    assert_eq!(open().err().unwrap().code(), Code::E5008);
}

#[test]
fn what_is_no_dataset_says_so() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| vec![dir.path().join(name)];
    let cases: [(&str, &[u8], Code); 6] = [
        ("a.xyz", b"", Code::E5008),
        ("a.csv", b"image,caption\na,b\n", Code::E5004),
        ("b.csv", b"image,text\na,\"b\n", Code::E5004),
        ("c.csv", b"", Code::E5004),
        ("a.parquet", b"PAR1 not a table PAR1", Code::E5004),
        ("a.jsonl.gz", &gz(b"{}\n{}\n")[..15], Code::E5004),
    ];
    for (name, bytes, code) in cases {
        write(&dir, name, bytes);
        assert_eq!(captions(&path(name), &dir).err().unwrap().code(), code, "{name}");
    }
    assert_eq!(captions(&path("missing.csv"), &dir).err().unwrap().code(), Code::E5005);
    let address = [PathBuf::from("pipe:cat x.tar")];
    assert_eq!(captions(&address, &dir).err().unwrap().code(), Code::E5009);
}

#[test]
fn a_file_that_changes_is_noticed() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, "a.tsv", "a\tb\n");
    let data = parallel(std::slice::from_ref(&path), &dir).unwrap();
    data.check_unchanged().unwrap();
    fs::write(&path, "a\tb\nc\td\n").unwrap();
    assert_eq!(data.check_unchanged().unwrap_err().code(), Code::E5006);
    fs::remove_file(&path).unwrap();
    assert_eq!(data.check_unchanged().unwrap_err().code(), Code::E5005);
}

/// Tables whose bytes were changed: an error or other texts, never a panic that leaves the crate.
#[test]
fn mutated_tables_are_harmless() {
    let dir = TempDir::new().unwrap();
    let rows: Vec<[String; 2]> = (0..50).map(|n| [format!("s{n}"), format!("t{n}")]).collect();
    let path = dir.path().join("a.parquet");
    common::text_table(&path, ["source", "target"], &rows, 20);
    let good = fs::read(&path).unwrap();
    for step in 0..200u64 {
        let random = altclip_data::philox2x64([step, 1], 3);
        let mut bytes = good.clone();
        let at = (random[0] % good.len() as u64) as usize;
        bytes[at] ^= (random[1] % 255 + 1) as u8;
        let path = write(&dir, "b.parquet", bytes);
        if let Ok(data) = parallel(&[path], &dir) {
            (0..data.len()).for_each(|n| drop(data.get(n)));
        }
    }
}

/// The real shards, where the folder is named by `ALTCLIP_TEST_DATA`.
#[test]
fn cifar10_loads() {
    let Ok(root) = std::env::var("ALTCLIP_TEST_DATA") else { return };
    let root = Path::new(&root).join("cifar10");
    for split in ["train", "test"] {
        let options = LabelsOptions { split: split.to_owned(), ..LabelsOptions::default() };
        let data = LabelledPictures::open(&root, &options).unwrap();
        assert_eq!((data.len(), data.class_names().len()), (10_000, 10));
        let mut classes = [0u32; 10];
        for n in 0..data.len() {
            let sample = data.get(n).unwrap();
            let Picture::Bytes(bytes) = &sample.picture else { panic!() };
            assert_eq!(bytes[..2], [0xff, 0xd8]);
            classes[sample.class] += 1;
        }
        assert!(classes.iter().all(|&count| count > 900), "{classes:?}");
        assert_eq!(data.class_names()[3].as_ref(), "cat");
    }
}
