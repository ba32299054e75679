//! The same input gives the same bits: on any number of threads, alone or in a batch, at any place in
//! it, in another process, in every precision. Twelve settings each; `ALTCLIP_SAME_BITS` is the number
//! of inputs (`just long` takes 1,000), a fifth of them pictures.

use crate::golden::Golden;
use altclip::image::Rgb;
use altclip::tensor::Precision;
use altclip::{LoadOptions, Model, samples};
use std::path::Path;
use std::process::Command;

const THREADS: [usize; 3] = [1, 2, 8];
/// What a child process is to do: folder, precision, threads, number of inputs.
const CHILD: &str = "ALTCLIP_SAME_BITS_CHILD";

struct Inputs {
    texts: Vec<String>,
    pictures: Vec<Rgb>,
}

impl Inputs {
    fn new(count: usize) -> Self {
        let pictures = count / 5;
        let sentences = samples::SENTENCES.iter().chain(&samples::OTHER_SENTENCES);
        let texts = sentences.cycle().take(count - pictures).enumerate();
        Self {
            texts: texts.map(|(n, text)| format!("{text} {n}")).collect(),
            pictures: samples::pictures(0..pictures as u32),
        }
    }

    fn reversed(&self) -> Self {
        let (mut texts, mut pictures) = (self.texts.clone(), self.pictures.clone());
        texts.reverse();
        pictures.reverse();
        Self { texts, pictures }
    }
}

fn load(dir: &Path, precision: Precision, threads: usize) -> Model {
    let mut options = LoadOptions::default();
    (options.precision, options.threads) = (precision, threads);
    Model::load(dir, &options).unwrap()
}

type Bits = Vec<Vec<u32>>;

fn bits<'r>(rows: impl Iterator<Item = &'r [f32]>) -> Bits {
    rows.map(|row| row.iter().map(|number| number.to_bits()).collect()).collect()
}

fn together(model: &Model, inputs: &Inputs) -> Bits {
    let texts = model.encode_text(&inputs.texts).unwrap();
    let pictures = model.encode_image(&inputs.pictures).unwrap();
    bits(texts.rows().chain(pictures.rows()))
}

fn alone(model: &Model, inputs: &Inputs) -> Bits {
    let texts = inputs.texts.iter().map(|text| model.encode_text(&[text]).unwrap());
    let one = std::slice::from_ref;
    let pictures = inputs.pictures.iter().map(|picture| model.encode_image(one(picture)).unwrap());
    texts.chain(pictures).flat_map(|row| bits(row.rows())).collect()
}

/// Turns the order of [`Inputs::reversed`] back.
fn turned(mut bits: Bits, texts: usize) -> Bits {
    let (texts, pictures) = bits.split_at_mut(texts);
    texts.reverse();
    pictures.reverse();
    bits
}

fn in_another_process(dir: &Path, precision: Precision, threads: usize, count: usize) -> Bits {
    let out = dir.join("bits.json");
    let work = serde_json::json!([dir, precision.name(), threads, count]).to_string();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["same_bits::child", "--exact", "--ignored"])
        .env(CHILD, work)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap()
}

#[test]
#[ignore = "run by the_same_input_gives_the_same_bits"]
fn child() {
    let Ok(work) = std::env::var(CHILD) else { return };
    let (dir, precision, threads, count): (std::path::PathBuf, String, usize, usize) =
        serde_json::from_str(&work).unwrap();
    let precision = Precision::ALL.into_iter().find(|p| p.name() == precision).unwrap();
    let bits = together(&load(&dir, precision, threads), &Inputs::new(count));
    std::fs::write(dir.join("bits.json"), serde_json::to_vec(&bits).unwrap()).unwrap();
}

#[test]
fn the_same_input_gives_the_same_bits() {
    let count = std::env::var("ALTCLIP_SAME_BITS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let golden = Golden::new("alt_l");
    let dir = golden.dir.path();
    let inputs = Inputs::new(count);
    for precision in Precision::ALL {
        let expected = alone(&load(dir, precision, 1), &inputs);
        for threads in THREADS {
            let model = load(dir, precision, threads);
            let reversed = together(&model, &inputs.reversed());
            let settings = [
                ("alone", alone(&model, &inputs)),
                ("together", together(&model, &inputs)),
                ("in reverse", turned(reversed, inputs.texts.len())),
                ("in another process", in_another_process(dir, precision, threads, count)),
            ];
            for (setting, found) in settings {
                assert_eq!(found.len(), count);
                let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
                assert_eq!(differs, None, "{precision}, {threads} threads, {setting}");
            }
        }
    }
}
