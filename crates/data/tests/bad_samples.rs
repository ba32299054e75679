//! Goal D9: each kind of bad sample at 1 %, 5 % and 100 % of a shard, with the reason counted and the shard named.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use altclip_data::{
    Batches, BatchesOptions, CaptionedPictures, CaptionsOptions, Dataset, EpochEnd, Error,
    LabelledPictures, LabelsOptions, MAX_TEXT_BYTES, MaxBad, Order, ParallelOptions, ParallelTexts,
    Reason, Tally,
};
use altclip_report::{Code, Diagnose};
use common::{archive, tar_entry};

/// Samples of a shard; there are two, and the second has the bad ones.
const SAMPLES: usize = 300;

/// A dataset as lines or entries, and what a bad one is.
enum Form {
    /// JSONL with pictures.
    Captions(fn(usize) -> Vec<u8>),
    /// TSV.
    Parallel(fn(usize) -> Vec<u8>),
    /// Shards with captions.
    CaptionShards(fn(usize) -> Vec<u8>),
    /// Shards with labels.
    LabelShards(fn(usize) -> Vec<u8>),
}

fn good_line(n: usize) -> Vec<u8> {
    format!("{{\"id\":{n},\"image\":\"a.jpg\",\"text\":\"text {n}\",\"language\":\"en\"}}\n").into()
}

fn good_pair(n: usize) -> Vec<u8> {
    format!("source {n}\ttarget {n}\n").into()
}

fn good_entry(n: usize) -> Vec<u8> {
    let file = |ending: &str, content: &[u8]| tar_entry(&format!("{n:05}.{ending}"), b'0', content);
    [file("jpg", b"picture"), file("txt", b"text"), file("cls", b"1")].concat()
}

/// The kinds: name, reason, code, and how a bad one is written.
fn kinds() -> Vec<(&'static str, Reason, Code, Form)> {
    use Form::{CaptionShards, Captions, LabelShards, Parallel};
    vec![
        (
            "missing image",
            Reason::MissingImage,
            Code::E5003,
            Captions(|_| b"{\"image\":\"none.jpg\",\"text\":\"x\"}\n".into()),
        ),
        (
            "broken JSON",
            Reason::BrokenLine,
            Code::E5004,
            Captions(|_| b"{\"image\":\"a.jpg\",\"te\n".into()),
        ),
        ("no tab", Reason::BrokenLine, Code::E5004, Parallel(|_| b"no tab\n".into())),
        ("NUL", Reason::Nul, Code::E5004, Parallel(|_| b"a\0\tb\n".into())),
        ("not UTF-8", Reason::NotUtf8, Code::E5004, Parallel(|_| b"a\xff\tb\n".into())),
        (
            "huge line",
            Reason::TooLong,
            Code::E5004,
            Parallel(|_| [vec![b'x'; MAX_TEXT_BYTES], b"\n".to_vec()].concat()),
        ),
        ("empty half", Reason::NoText, Code::E5003, Parallel(|_| b"a\t \n".into())),
        (
            "no caption",
            Reason::NoText,
            Code::E5003,
            Captions(|_| b"{\"image\":\"a.jpg\",\"text\":[\"\"]}\n".into()),
        ),
        ("duplicate id", Reason::DuplicateKey, Code::E5003, Captions(|_| good_line(0))),
        (
            "other language",
            Reason::OtherLanguage,
            Code::E5011,
            Captions(|_| b"{\"image\":\"a.jpg\",\"text\":\"x\",\"language\":\"tlh\"}\n".into()),
        ),
        (
            "path outside",
            Reason::ForbiddenPath,
            Code::E5002,
            Captions(|_| b"{\"image\":\"../a.jpg\",\"text\":\"x\"}\n".into()),
        ),
        (
            "label out of range",
            Reason::BadLabel,
            Code::E5010,
            LabelShards(|n| {
                [
                    tar_entry(&format!("{n}.jpg"), b'0', b"p"),
                    tar_entry(&format!("{n}.cls"), b'0', b"2"),
                ]
                .concat()
            }),
        ),
        (
            "two pictures",
            Reason::SeveralImages,
            Code::E5003,
            CaptionShards(|n| {
                [tar_entry(&format!("{n}.png"), b'0', b"p"), good_entry(n)].concat().replace_key(n)
            }),
        ),
        (
            "traversal in a tar",
            Reason::ForbiddenPath,
            Code::E5002,
            CaptionShards(|n| tar_entry(&format!("../{n}.jpg"), b'0', b"p")),
        ),
        (
            "link in a tar",
            Reason::ForbiddenPath,
            Code::E5002,
            CaptionShards(|n| tar_entry(&format!("{n}.jpg"), b'2', b"")),
        ),
    ]
}

/// The bad picture has the key of the good entry that follows it.
trait ReplaceKey {
    fn replace_key(self, n: usize) -> Vec<u8>;
}

impl ReplaceKey for Vec<u8> {
    fn replace_key(self, n: usize) -> Vec<u8> {
        let png = tar_entry(&format!("{n:05}.png"), b'0', b"p");
        [&png[..], &self[png.len()..]].concat()
    }
}

/// Writes two shards; every `one_in`th sample of the second is bad.
fn write(
    dir: &Path,
    ending: &str,
    good: fn(usize) -> Vec<u8>,
    bad: fn(usize) -> Vec<u8>,
    one_in: usize,
) -> Vec<PathBuf> {
    let entries = |first: usize, is_bad: &dyn Fn(usize) -> bool| -> Vec<Vec<u8>> {
        (first..first + SAMPLES).map(|n| if is_bad(n) { bad(n) } else { good(n) }).collect()
    };
    let shards = [entries(0, &|_| false), entries(SAMPLES, &|n| n % one_in == 0)];
    let names = ["good", "worst"].map(|name| dir.join(format!("{name}.{ending}")));
    for (name, entries) in names.iter().zip(shards) {
        fs::write(name, if ending == "tar" { archive(&entries) } else { entries.concat() })
            .unwrap();
    }
    names.to_vec()
}

/// One epoch; how it ended and what was counted.
fn epoch<D: Dataset>(data: &D) -> (Result<usize, Error>, Tally) {
    let tally = Tally::new(MaxBad::default(), data.len());
    let options = BatchesOptions { batch_size: 5, epoch_end: EpochEnd::Drop };
    let order = Order::new(data.len(), 3, true);
    let arrivals = order.walk(0, 0).take(data.len() as usize).map(|at| (at, data.get(at.2)));
    let mut batches = Batches::new(arrivals, data.len(), options, tally).unwrap();
    let mut count = 0;
    for batch in batches.by_ref() {
        match batch {
            Ok(batch) => count += batch.samples.len(),
            Err(error) => return (Err(error), batches.tally().clone()),
        }
    }
    (Ok(count), batches.tally().clone())
}

fn run(form: &Form, one_in: usize) -> (Result<usize, Error>, Tally) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::write(root.join("a.jpg"), "picture").unwrap();
    fs::write(root.join("classnames.txt"), "cat\ndog\n").unwrap();
    let mut options = CaptionsOptions::new(root, root);
    options.languages = vec!["en".to_owned()];
    match form {
        Form::Captions(bad) => {
            let files = write(root, "jsonl", good_line, *bad, one_in);
            epoch(&CaptionedPictures::open(&files, &options).unwrap())
        }
        Form::Parallel(bad) => {
            let files = write(root, "tsv", good_pair, *bad, one_in);
            epoch(&ParallelTexts::open(&files, &ParallelOptions::new(root)).unwrap())
        }
        Form::CaptionShards(bad) => {
            let files = write(root, "tar", good_entry, *bad, one_in);
            epoch(&CaptionedPictures::open(&files, &options).unwrap())
        }
        Form::LabelShards(bad) => {
            write(root, "tar", good_entry, *bad, one_in);
            epoch(&LabelledPictures::open(root, &LabelsOptions::default()).unwrap())
        }
    }
}

#[test]
fn each_kind_is_skipped_counted_and_bounded() {
    let kinds = kinds();
    assert!(kinds.len() >= 12);
    for (name, reason, code, form) in kinds {
        assert_eq!(reason.code(), code, "{name}");
        // 1 % of the shard is 3 of 600 samples: below the bound of 1 %.
        let (outcome, tally) = run(&form, 100);
        assert_eq!(outcome.unwrap() / 5, (2 * SAMPLES - 3) / 5, "{name}");
        assert_eq!(tally.reasons().iter().collect::<Vec<_>>(), [(&reason, &3)], "{name}");
        assert_eq!(tally.files().len(), 1, "{name}");
        // 5 % is 15, and 100 % is 300: above.
        for one_in in [20, 1] {
            if (name, one_in) == ("huge line", 1) {
                // 300 MB of them would show nothing more.
                continue;
            }
            let error = run(&form, one_in).0.expect_err(name);
            let Error::TooManyBad { worst, worst_bad: 7, reasons, .. } = &error else {
                panic!("{name}: {error:?}")
            };
            assert!(worst.contains("worst."), "{name}: {worst}");
            assert_eq!(reasons, &format!("7 {reason}"));
            let report = error.report();
            assert_eq!((report.code, report.code.exit_status()), (Code::E5007, 3));
        }
    }
}

/// DS1: the samples before the cut and the shards after it are read.
#[test]
fn a_cut_shard_costs_what_is_behind_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let whole = archive(&(0..20).map(good_entry).collect::<Vec<_>>());
    let per_sample = good_entry(0).len();
    let cuts: [(&str, Vec<u8>, u64); 5] = [
        ("inside of a header", whole[..5 * per_sample + 100].to_vec(), 6),
        ("inside of a picture", whole[..5 * per_sample + 515].to_vec(), 6),
        ("between samples", whole[..5 * per_sample].to_vec(), 6),
        ("empty", Vec::new(), 1),
        ("no tar", b"<html>not found</html>".repeat(50), 1),
    ];
    for (name, bytes, len) in cuts {
        let files = ["0.tar", "1.tar"].map(|name| dir.path().join(name)).to_vec();
        fs::write(&files[0], &bytes).unwrap();
        fs::write(&files[1], &whole).unwrap();
        let options = CaptionsOptions::new(dir.path(), dir.path());
        let data = CaptionedPictures::open(&files, &options).unwrap();
        assert_eq!(data.len(), len + 20, "{name}");
        for number in 0..data.len() {
            match data.get(number) {
                Ok(sample) => assert_eq!(sample.captions, ["text"], "{name}"),
                Err(fault) => {
                    assert_eq!((number, fault.reason), (len - 1, Reason::DamagedShard), "{name}");
                    let report = fault.report();
                    assert_eq!(report.code, Code::E5001);
                    assert!(report.to_string().contains("0.tar"), "{report}");
                }
            }
        }
    }
}
