//! `altclip eval retrieval` from outside: the figures, the names, and every input that is refused.

use crate::support::child::{Outcome, altclip};
use std::path::PathBuf;
use tempfile::TempDir;

/// Files of arrays, as numpy writes them.
struct Arrays(TempDir);

impl Arrays {
    /// Three images; five texts of the first two, of which the last is nearest to the third image.
    fn new() -> Self {
        let arrays = Self(tempfile::tempdir().unwrap());
        arrays.floats("images", "(3, 2)", &[1.0, 0.0, 0.0, 3.0, 1.0, 1.0]);
        arrays.floats("texts", "(5, 2)", &[9.0, 1.0, 5.0, 0.5, 0.1, 1.0, 0.2, 2.0, 2.0, 1.9]);
        arrays.whole("index", &[0, 0, 1, 1, 1]);
        arrays.file("languages", b"en\nzh\nen\nzh\nzh\n");
        arrays
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn array(&self, name: &str, descr: &str, shape: &str, data: &[u8]) {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = (header.len() as u16).to_le_bytes();
        self.file(name, &[b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), data].concat());
    }

    fn floats(&self, name: &str, shape: &str, numbers: &[f32]) {
        let data: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.array(name, "<f4", shape, &data);
    }

    fn whole(&self, name: &str, numbers: &[i64]) {
        let data: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.array(name, "<i8", &format!("({},)", numbers.len()), &data);
    }

    fn run(&self, more: &[&str]) -> Outcome {
        let path = |name| self.path(name).to_string_lossy().into_owned();
        let named = [
            ("--image-embeddings", "images"),
            ("--text-embeddings", "texts"),
            ("--text-image-index", "index"),
        ];
        let named = named.into_iter().flat_map(|(flag, name)| [flag.to_owned(), path(name)]);
        let head = ["eval".to_owned(), "retrieval".into()];
        altclip(head.into_iter().chain(named).chain(more.iter().map(|&arg| arg.into()))).go()
    }

    fn refused(&self, more: &[&str], code: &str, status: i32, parts: &[&str]) {
        let outcome = self.run(more);
        assert_eq!(outcome.status, Some(status), "{}", outcome.stderr);
        assert!(outcome.stdout.is_empty());
        assert_eq!(outcome.fault_of_stderr(), None);
        assert!(outcome.stderr.starts_with(&format!("error[{code}]")), "{}", outcome.stderr);
        for part in parts {
            assert!(outcome.stderr.contains(part), "no {part}: {}", outcome.stderr);
        }
    }
}

#[test]
fn recall_has_clip_benchmarks_names_and_values() {
    let arrays = Arrays::new();
    let outcome = arrays.run(&["--json"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
    let start = concat!(
        r#"{"image_retrieval_recall@1":0.8,"image_retrieval_recall@5":1.0,"#,
        r#""image_retrieval_recall@10":1.0,"text_retrieval_recall@1":1.0,"#,
        r#""text_retrieval_recall@5":1.0,"text_retrieval_recall@10":1.0,"#,
        r#""mean_recall":0.9666666666666667,"#
    );
    assert!(outcome.text().starts_with(start), "{}", outcome.text());
    let report = &outcome.rows()[0];
    assert_eq!(report["images_without_caption"], 1);
    assert_eq!(report["worst"][0]["query"], 4);
    assert_eq!(report["worst"][0]["found"][0]["row"], 2);
    let interval = &report["intervals"]["image_retrieval_recall@1"];
    assert!(interval[0].as_f64().unwrap() < 0.8 && interval[1].as_f64().unwrap() > 0.8);
    // The same seed and any number of threads: the same bytes.
    assert_eq!(arrays.run(&["--json", "--threads", "1"]).stdout, outcome.stdout);
    assert_ne!(arrays.run(&["--json", "--seed", "7", "--bootstrap", "99"]).stdout, outcome.stdout);
    let plain = arrays.run(&["--json", "--bootstrap", "0", "--worst", "0"]);
    assert!(!plain.text().contains("intervals") && !plain.text().contains("worst"));
}

#[test]
fn half_floats_and_small_whole_numbers_are_read() {
    let arrays = Arrays::new();
    let expected = arrays.run(&["--json"]).stdout;
    let texts = [9.0, 1.0, 5.0, 0.5, 0.1, 1.0, 0.2, 2.0, 2.0, 1.9f64];
    let data: Vec<u8> = texts.iter().flat_map(|number| number.to_le_bytes()).collect();
    arrays.array("texts", "<f8", "(5, 2)", &data);
    // 1, 0, 0, 3, 1, 1
    let halves = [0x3c00u16, 0, 0, 0x4200, 0x3c00, 0x3c00];
    let data: Vec<u8> = halves.iter().flat_map(|number| number.to_le_bytes()).collect();
    arrays.array("images", "<f2", "(3, 2)", &data);
    arrays.array("index", "|u1", "(5,)", &[0, 0, 1, 1, 1]);
    assert_eq!(arrays.run(&["--json"]).stdout, expected);
}

#[test]
fn languages_have_figures_of_their_own() {
    let arrays = Arrays::new();
    let file = arrays.path("languages").to_string_lossy().into_owned();
    let report = arrays.run(&["--json", "--languages", &file]).rows().remove(0);
    assert_eq!(report["languages"]["en"]["image_retrieval_recall@1"], 1.0);
    assert_eq!(report["languages"]["zh"]["texts"], 3);
    assert_eq!(report["image_retrieval_recall@1"], 0.8);
    let table = arrays.run(&["--languages", &file, "--bootstrap", "0"]);
    let expected = "                    R@1    R@5    R@10
image retrieval     80.0   100.0  100.0
text retrieval      100.0  100.0  100.0
mean recall         96.7
en image retrieval  100.0  100.0  100.0
en text retrieval   100.0  100.0  100.0
en mean recall      100.0
zh image retrieval  66.7   100.0  100.0
zh text retrieval   100.0  100.0  100.0
zh mean recall      94.4
3 images, 5 texts; median rank 1 and 1
images without text, which are candidates only: 1
";
    assert_eq!(table.text(), expected);
    arrays.file("languages", b"en\nzh\n");
    arrays.refused(&["--languages", &file], "E5021", 3, &["got 2", "expected 5"]);
    arrays.file("languages", b"en\nzh\n\x1b[31m\nen\nzh\n");
    arrays.refused(&["--languages", &file], "E5021", 3, &["line 3"]);
}

#[test]
fn arrays_that_do_not_belong_together_are_refused() {
    let with = |make: fn(&Arrays), code: &str, status: i32, parts: &[&str]| {
        let arrays = Arrays::new();
        make(&arrays);
        for more in [&["--json"][..], &[]] {
            arrays.refused(more, code, status, parts);
        }
    };
    with(|a| a.whole("index", &[0, 0, 1, 3, 1]), "E5021", 3, &["item 3", "got 3", "0 to 2"]);
    with(|a| a.whole("index", &[0, -1, 1, 1, 1]), "E5021", 3, &["item 1", "got -1"]);
    with(|a| a.whole("index", &[0, 0, 1, 1]), "E5021", 3, &["got 4", "expected 5"]);
    with(|a| a.floats("texts", "(2, 5)", &[1.0; 10]), "E5021", 3, &["got 5", "expected 2"]);
    with(|a| a.floats("texts", "(0, 2)", &[]), "E5021", 3, &["text embeddings"]);
    with(|a| a.floats("images", "(0, 0)", &[]), "E5021", 3, &["image embeddings"]);
    let nan = |a: &Arrays| a.floats("images", "(3, 2)", &[1.0, 0.0, 0.0, f32::NAN, 1.0, 1.0]);
    with(nan, "E5022", 3, &["row 1, column 1", "NaN"]);
    let zero = |a: &Arrays| a.floats("images", "(3, 2)", &[1.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    with(zero, "E5022", 3, &["row 1"]);
    with(|a| a.floats("images", "(6,)", &[1.0; 6]), "E5020", 3, &["floats [6]"]);
    with(|a| a.floats("index", "(5,)", &[0.0; 5]), "E5020", 3, &["floats [5]"]);
    with(|a| a.array("images", "|O", "(3, 2)", b"cos\nsystem\n"), "E5020", 3, &["|O"]);
    with(|a| a.file("images", b"PK\x03\x04 an .npz"), "E5020", 3, &["another start"]);
    with(|a| a.file("images", b""), "E5020", 3, &[]);
    with(|a| std::fs::remove_file(a.path("index")).unwrap(), "E4201", 7, &["index"]);
    let folder = |a: &Arrays| {
        std::fs::remove_file(a.path("index")).unwrap();
        std::fs::create_dir(a.path("index")).unwrap();
    };
    with(folder, "E4201", 7, &["not a regular file"]);
}
