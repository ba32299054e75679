//! 2,000 mutated files: each loads or is refused by a code of its own area; nothing panics.

use crate::support::folder::{Folder, golden_bytes};
use crate::support::picture::goldens;
use crate::support::random::Random;
use altclip::image::DecodeOptions;
use altclip::{LoadOptions, Model, inspect};
use altclip_report::{Code, Diagnose, Report};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Verdict = Result<(), Vec<Report>>;

/// What became of the files of one kind.
#[derive(Default)]
struct Tally {
    accepted: u32,
    codes: BTreeMap<Code, u32>,
    faults: Vec<String>,
}

impl Tally {
    /// Tries one file: no panic, and only codes that begin with one of `areas`.
    fn try_one(&mut self, name: &str, areas: &[&str], run: impl FnOnce() -> Verdict) {
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => self.accepted += 1,
            Ok(Err(reports)) => {
                for report in reports {
                    let (code, line) = (report.code, report.to_string());
                    if !areas.iter().any(|area| code.as_str().starts_with(area)) {
                        self.faults.push(format!("{name}: foreign code {line}"));
                    }
                    let harmless = !line.chars().any(char::is_control) && line.len() <= 400;
                    if !harmless || report.help.is_empty() {
                        self.faults.push(format!("{name}: bad message {line:?}"));
                    }
                    *self.codes.entry(code).or_default() += 1;
                }
            }
            Err(_) => self.faults.push(format!("{name}: panic")),
        }
    }

    fn assert(self, kind: &str, files: u32) {
        println!("{kind}: {files} files, {} accepted, {:?}", self.accepted, self.codes);
        assert!(self.faults.is_empty(), "{kind}:\n{}", self.faults.join("\n"));
        // A harness that damages nothing, or reads nothing, proves nothing.
        assert!(self.accepted < files, "{kind}: every file was accepted");
        assert!(!self.codes.is_empty(), "{kind}: nothing was refused");
    }
}

/// One to three damages: flips, set bytes, cuts, deletions, copies, and numbers in place.
fn mutate(random: &mut Random, seed: &[u8], reach: usize) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + random.below(3) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        // Most files are decided by their beginning.
        let reach = if random.below(4) == 0 { bytes.len() } else { reach.min(bytes.len()) };
        let at = random.below(reach);
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 0xff, 0x7f, 0x80, b'9', b'"', b'[', b'-'][random.below(8)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + 1 + random.below(9)).min(bytes.len()))),
            4 => {
                let from = random.below(bytes.len());
                let part = bytes[from..(from + 12).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            5 => {
                let number: u32 = [0, 1, 0x7fff_ffff, 0xffff_ffff, 0x8000_0000][random.below(5)];
                let number =
                    if random.below(2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
                bytes.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = new);
            }
            _ => {
                // Digits in a header or in JSON.
                if let Some(digit) = bytes[at..].iter().position(u8::is_ascii_digit) {
                    bytes[at + digit] = b'0' + random.below(10) as u8;
                }
            }
        }
    }
    bytes
}

fn reports<T>(result: Result<T, altclip::Error>) -> Result<T, Vec<Report>> {
    result.map_err(|error| error.reports())
}

fn options() -> LoadOptions {
    let mut options = LoadOptions::default();
    options.threads = 1;
    options
}

/// Looks at the folder, and now and then uses it.
fn look(folder: &Folder, whole: bool) -> Verdict {
    if !whole {
        let inspection = reports(inspect(folder.dir(), false))?;
        return if inspection.problems.is_empty() { Ok(()) } else { Err(inspection.problems) };
    }
    let model = reports(Model::load(folder.dir(), &options()))?;
    let text = model.encode_text(&["一只猫", "a dog"]);
    let picture = reports(model.open_image(&folder.path("checks.png")))?;
    let image = model.encode_image(&[picture]);
    reports(text)?;
    reports(image)?;
    Ok(())
}

/// Mutants of one file of a folder.
fn folder_file(file: &str, seed: &[u8], areas: &[&str], count: u32, whole_each: u32, reach: usize) {
    let folder = Folder::new("alt_l");
    if file != "model.safetensors" && file.ends_with(".bin") {
        folder.remove("model.safetensors");
    }
    if file.ends_with(".model") {
        folder.remove("tokenizer.json");
    }
    let (mut random, mut tally) = (Random::new(u64::from(count) + reach as u64), Tally::default());
    for round in 0..count {
        // A new file each time, as a download would be: the old one may still be mapped.
        let path = folder.path(file);
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, mutate(&mut random, seed, reach)).unwrap();
        tally.try_one(&format!("{file} {round}"), areas, || look(&folder, round % whole_each == 0));
    }
    tally.assert(file, count);
}

/// Codes of weights, of a configuration that they contradict, and of results that overflow.
const WEIGHTS: [&str; 5] = ["E20", "E21", "E22", "E23", "E9003"];

#[test]
fn mutated_safetensors() {
    folder_file(
        "model.safetensors",
        &golden_bytes("alt_l/model.safetensors"),
        &WEIGHTS,
        300,
        4,
        14_000,
    );
}

#[test]
fn mutated_pickles() {
    let seed = golden_bytes("alt_l/pytorch_model.bin");
    folder_file("pytorch_model.bin", &seed, &WEIGHTS, 150, 4, 14_000);
    // The directory at the end of the archive.
    let folder = Folder::new("alt_l");
    folder.remove("model.safetensors");
    let (mut random, mut tally) = (Random::new(9), Tally::default());
    let start = seed.len() - 12_000;
    for round in 0..100 {
        let tail = mutate(&mut random, &seed[start..], 12_000);
        let path = folder.path("pytorch_model.bin");
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, [&seed[..start], &tail].concat()).unwrap();
        tally.try_one(&format!("directory {round}"), &WEIGHTS, || look(&folder, false));
    }
    tally.assert("pytorch_model.bin, directory", 100);
}

#[test]
fn mutated_settings() {
    let config = golden_bytes("alt_l/config.json");
    // Other positions or another pad id may leave no room for the text: E3104.
    folder_file("config.json", &config, &["E21", "E23", "E3006", "E3104", "E9003"], 250, 3, 1200);
    let legacy = golden_bytes("alt_l/config_legacy.json");
    folder_file("config.json", &legacy, &["E21", "E23", "E3006", "E3104", "E9003"], 100, 3, 2700);
    let settings = golden_bytes("alt_l/preprocessor_config.json");
    folder_file(
        "preprocessor_config.json",
        &settings,
        &["E2303", "E2301", "E4", "E9003"],
        200,
        2,
        500,
    );
}

#[test]
fn mutated_tokenizers() {
    let json = golden_bytes("tokenizer/tokenizer.json");
    folder_file("tokenizer.json", &json, &["E30"], 150, 1, 400_000);
    let model = golden_bytes("tokenizer/sentencepiece.bpe.model");
    folder_file("sentencepiece.bpe.model", &model, &["E30"], 150, 1, 300_000);
}

#[test]
fn mutated_pictures() {
    let folder = Folder::new("alt_l");
    let model = Model::load(folder.dir(), &options()).unwrap();
    let (mut random, pictures) = (Random::new(77), goldens());
    let (mut tally, mut files) = (Tally::default(), 0);
    for (name, seed) in &pictures {
        // 52 kinds at 7 each and 30 at 8 make 604.
        for round in 0..7 + u32::from(files % 19 < 7) {
            let bytes = mutate(&mut random, seed, 200);
            tally.try_one(&format!("{name} {round}"), &["E40"], || {
                let error = |error: altclip::image::Error| error.reports();
                let picture =
                    altclip::image::decode(&bytes, &DecodeOptions::default()).map_err(error)?;
                // Large pictures cost time and show nothing new.
                if picture.data().len() < 1 << 20 && round == 0 {
                    reports(model.encode_image(&[picture]))?;
                }
                Ok(())
            });
            files += 1;
        }
    }
    tally.assert("pictures", files);
    assert!(files >= 600, "{files}");
}

#[test]
fn a_decoder_that_panics_is_caught() {
    let mut tally = Tally::default();
    tally.try_one("control", &["E40"], || panic!("a decoder that panics"));
    assert_eq!(tally.faults, ["control: panic"]);
    let mut tally = Tally::default();
    let report = Report::new(Code::E9001, "x", "no code of a picture").help("none");
    tally.try_one("control", &["E40"], || Err(vec![report]));
    assert_eq!(tally.faults.len(), 1);
}
