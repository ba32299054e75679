//! A golden folder put together as a user would have it, and its expected values.

use altclip::image::Rgb;
use altclip::{LoadOptions, Model};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Largest error of a stage, relative to the largest magnitude of that stage.
pub(crate) const TOLERANCE: f32 = 1e-5;

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// A model folder: a golden checkpoint with the tokenizer that belongs to it.
pub(crate) struct Golden {
    pub(crate) dir: TempDir,
    name: &'static str,
    expected: Vec<u8>,
}

impl Golden {
    /// `alt_l`, `alt_h` or `clip`.
    pub(crate) fn new(name: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = if name == "clip" { "tokenizer_clip" } else { "tokenizer" };
        let golden = Self {
            dir,
            name,
            expected: std::fs::read(folder(name).join("expected.safetensors")).unwrap(),
        };
        golden.copy_all(name, |file| {
            !file.ends_with("expected.safetensors") && !file.ends_with(".bin")
        });
        golden.copy_all(tokenizer, |file| file != "expected.json");
        golden
    }

    fn copy_all(&self, from: &str, keep: impl Fn(&str) -> bool) {
        for entry in std::fs::read_dir(folder(from)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            if keep(&file) {
                self.copy(&format!("{from}/{file}"), &file);
            }
        }
    }

    /// Puts a golden file into the folder under a name.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        std::fs::copy(folder(from), self.dir.path().join(to)).unwrap();
    }

    pub(crate) fn load(&self) -> Model {
        self.load_with(2)
    }

    pub(crate) fn load_with(&self, threads: usize) -> Model {
        let mut options = LoadOptions::default();
        options.threads = threads;
        self.load_from(self.dir.path(), options)
    }

    /// The model of a folder or packed file, with pictures as the golden values had them.
    pub(crate) fn load_from(&self, path: &Path, mut options: LoadOptions) -> Model {
        // The golden pictures went to the image processor with their alpha, which it puts on white.
        options.decode.alpha = altclip::image::Alpha::CompositeWhite;
        Model::load(path, &options).unwrap_or_else(|error| panic!("{}: {error:?}", self.name))
    }

    /// The texts, picture files and prompts of the golden values, in the order of their rows.
    pub(crate) fn inputs(&self, kind: &str) -> Vec<String> {
        let inputs = std::fs::read(folder(self.name).join("inputs.json")).unwrap();
        let inputs: serde_json::Value = serde_json::from_slice(&inputs).unwrap();
        let list = inputs[kind].as_array().unwrap_or_else(|| panic!("inputs.json has no {kind}"));
        list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn pictures(&self, model: &Model) -> Vec<Rgb> {
        let open = |file: &String| model.open_image(&folder(self.name).join(file)).unwrap();
        self.inputs("pictures").iter().map(open).collect()
    }

    pub(crate) fn f32s(&self, name: &str) -> Vec<f32> {
        self.with(name, |bytes| {
            bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        })
    }

    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        self.with(name, |bytes| {
            bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as u32).collect()
        })
    }

    pub(crate) fn shape(&self, name: &str) -> Vec<usize> {
        SafeTensors::deserialize(&self.expected).unwrap().tensor(name).unwrap().shape().to_vec()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.expected).unwrap().tensor(name).is_ok()
    }

    fn with<T>(&self, name: &str, read: impl Fn(&[u8]) -> T) -> T {
        let tensors = SafeTensors::deserialize(&self.expected).unwrap();
        read(tensors.tensor(name).unwrap_or_else(|_| panic!("no golden tensor {name}")).data())
    }

    /// The token ids of each text without padding.
    pub(crate) fn unpadded(&self, name: &str) -> Vec<Vec<u32>> {
        let length = self.shape(&format!("{name}.input_ids"))[1];
        let ids = self.ids(&format!("{name}.input_ids"));
        let mask = self.ids(&format!("{name}.attention_mask"));
        ids.chunks(length).zip(mask.chunks(length)).map(|(ids, mask)| kept(ids, mask, 1)).collect()
    }

    /// The rows of a padded stage that belong to tokens, without the padding.
    pub(crate) fn unpadded_rows(&self, stage: &str) -> Vec<f32> {
        let (shape, rows) = (self.shape(stage), self.f32s(stage));
        kept(&rows, &self.ids("text.attention_mask"), shape[2])
    }
}

fn kept<T: Copy>(rows: &[T], mask: &[u32], width: usize) -> Vec<T> {
    rows.chunks(width)
        .zip(mask)
        .filter(|(_, keep)| **keep == 1)
        .flat_map(|(row, _)| row)
        .copied()
        .collect()
}

/// The largest error relative to the largest magnitude, and where it is; `Err` beyond `tolerance`.
pub(crate) fn compare(
    stage: &str,
    found: &[f32],
    expected: &[f32],
    tolerance: f32,
) -> Result<f32, String> {
    if found.len() != expected.len() {
        return Err(format!("{stage}: {} numbers, expected {}", found.len(), expected.len()));
    }
    let magnitude = expected.iter().fold(0.0f32, |largest, number| largest.max(number.abs()));
    let errors = found
        .iter()
        .zip(expected)
        .map(|(a, b)| if a.is_finite() { (a - b).abs() } else { f32::INFINITY });
    let (place, worst) = errors.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0));
    let relative = worst / magnitude;
    if relative <= tolerance {
        return Ok(relative);
    }
    Err(format!(
        "{stage}: error {relative:.2e} of {magnitude} at {place}: {} for {}",
        found[place], expected[place]
    ))
}

/// Asserts a stage and prints its error.
pub(crate) fn assert_stage(stage: &str, found: &[f32], expected: &[f32]) {
    match compare(stage, found, expected, TOLERANCE) {
        Ok(error) => println!("{stage:<28} {error:.1e}"),
        Err(message) => panic!("{message}"),
    }
}
