//! What the check says of datasets that cannot be learned from, and what it does not say of good ones.
#![allow(clippy::unwrap_used)]

use altclip_data::check::{CaptionCheck, CheckSettings, Findings, ParallelCheck, Severity};
use altclip_data::{Captioned, Fault, Picture, Place, Reason, TextPair};
use altclip_report::{Code, Diagnose};

fn settings(batch_size: usize) -> CheckSettings<'static> {
    let length = &|text: &str| text.split_whitespace().count();
    CheckSettings { batch_size, samples: 0, length, unit: "words", max_length: 8 }
}

fn fault(reason: Reason) -> Fault {
    let place = Place { file: "a.tsv".into(), line: Some(3), byte: None, key: None };
    Fault::new(reason, place, "x")
}

/// Captions of pictures that are all different.
fn captions(batch_size: usize, count: usize, caption: impl Fn(usize) -> String) -> Findings {
    let mut check = CaptionCheck::new(settings(batch_size));
    for n in 0..count {
        let picture = Picture::Bytes(n.to_le_bytes().to_vec());
        check.add(&Captioned { picture, captions: vec![caption(n)], language: None });
    }
    check.findings()
}

fn words(n: usize) -> String {
    let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
    format!("a thing called {}{}{}", letter(n), letter(n / 26), letter(n / 676))
}

#[test]
fn good_captions_give_notices_only() {
    let findings = captions(64, 1000, words);
    assert!(findings.findings.iter().all(|f| f.severity == Severity::Notice), "{findings}");
    assert_eq!(findings.get("distinct_captions").unwrap().number, 1000.0);
    assert_eq!(findings.get("loss_floor").unwrap().number, 0.0);
    findings.verdict().unwrap();
}

#[test]
fn ten_captions_have_a_floor_and_numbers_are_an_error() {
    let names = ["cat", "dog", "car", "bird", "deer", "frog", "horse", "ship", "truck", "plane"];
    let findings = captions(64, 1000, |n| format!("a photo of a {}", names[n % 10]));
    let floor = findings.get("loss_floor").unwrap();
    assert!(floor.severity == Severity::Warning && (floor.number - 6.4f64.ln()).abs() < 0.1);
    assert!(floor.help.contains("different captions"));
    assert_eq!(floor.report().unwrap().code, Code::W5013);
    findings.verdict().unwrap();
    let findings = captions(64, 1000, |n| format!("a photo of a {}", n % 10));
    assert_eq!(findings.findings[0].name, "numeric_captions");
    assert_eq!(findings.verdict().unwrap_err().report().code, Code::E5012);
    assert_eq!(captions(64, 100, |n| n.to_string()).findings[0].number, 100.0);
}

#[test]
fn a_batch_larger_than_the_data_holds_copies() {
    let findings = captions(400, 100, words);
    let floor = findings.get("loss_floor").unwrap();
    assert!((floor.number - 4f64.ln()).abs() < 1e-9, "{floor}");
    assert!(floor.severity == Severity::Warning && floor.text.contains("samples that stand"));
    // A part of a dataset says nothing of that.
    let whole = CheckSettings { samples: 10_000, ..settings(400) };
    let mut check = CaptionCheck::new(whole);
    (0..100).for_each(|n| check.add_parts(n, [words(n as usize).as_str()], None));
    let findings = check.findings();
    assert_eq!(findings.get("loss_floor").unwrap().number, 0.0);
    assert!(findings.get("batch_over_samples").is_none());
}

#[test]
fn templates_batches_and_lengths() {
    let findings = captions(8, 100, |n| if n < 2 { "a photo of a {}".into() } else { words(n) });
    assert_eq!(findings.get("lost_placeholder").unwrap().severity, Severity::Error);
    assert_eq!(findings.get("small_batch").unwrap().severity, Severity::Warning);
    assert_eq!(captions(1, 100, words).get("small_batch").unwrap().severity, Severity::Error);
    assert!(captions(128, 100, words).get("batch_over_samples").is_some());
    let long = |n: usize| {
        format!("{} {}", words(n), "more ".repeat(5 * usize::from(n.is_multiple_of(10))))
    };
    assert_eq!(captions(64, 100, long).get("too_long").unwrap().number, 10.0);
}

#[test]
fn duplicates_languages_and_faults() {
    let mut check = CaptionCheck::new(settings(64));
    for n in 0..100u128 {
        let language = ["en", "zh"][(n % 2) as usize];
        let text = if language == "en" { words(n as usize) } else { format!("第{n}只猫") };
        check.add_parts(n / 2 * 2, [text.as_str()], (n != 5).then_some(language));
        check.add_parts(n, ["same"], Some("en"));
    }
    check.add_parts(7, ["same"], Some("en"));
    check.fault(&fault(Reason::NoText));
    let findings = check.findings();
    assert_eq!(findings.samples, 202);
    assert_eq!(findings.get("duplicate_pairs").unwrap().number, 1.0);
    let languages = findings.get("languages").unwrap();
    assert!(languages.severity == Severity::Warning && languages.text.contains("«zh» 49"));
    assert!(findings.get("scripts").unwrap().text.contains("Han 24.9 %"), "{findings}");
    assert_eq!(findings.get("empty_texts").unwrap().number, 1.0);
    assert!(findings.get("bad_samples").unwrap().text.contains("a.tsv, line 3"));
}

#[test]
fn parallel_texts() {
    let mut check = ParallelCheck::new(settings(64));
    for n in 0..100 {
        let source = words(n);
        let target = if n < 30 { source.clone() } else { format!("это {}", words(n)) };
        check.add(&TextPair { source, target });
    }
    check.add(&TextPair { source: words(0), target: words(0) });
    let findings = check.findings();
    assert_eq!(findings.get("copies").unwrap().severity, Severity::Warning);
    assert_eq!(findings.get("duplicate_pairs").unwrap().number, 1.0);
    assert!(findings.get("misaligned").is_none());
    (0..7).for_each(|_| check.fault(&fault(Reason::BrokenLine)));
    let findings = check.findings();
    assert_eq!(findings.get("misaligned").unwrap().severity, Severity::Error);
    assert!(findings.to_string().starts_with("error: 6.5 % of the lines"), "{findings}");
    let json = serde_json::to_value(&findings).unwrap();
    assert_eq!(json["findings"][0]["severity"], "error");
}
