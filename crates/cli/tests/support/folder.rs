//! A golden folder put together as a user would have it.

use super::weights::Weights;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file of `tests/golden`.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

pub(crate) fn golden_bytes(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).unwrap()
}

pub(crate) fn golden_json(name: &str) -> Value {
    serde_json::from_slice(&golden_bytes(name)).unwrap()
}

/// A model folder that may be damaged at will: a copy.
pub(crate) struct Folder {
    dir: TempDir,
}

impl Folder {
    /// `alt_l`, `alt_h` or `clip` with its tokenizer and without golden values.
    pub(crate) fn new(name: &str) -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        let tokenizer = if name == "clip" { "tokenizer_clip" } else { "tokenizer" };
        for from in [name, tokenizer] {
            for entry in std::fs::read_dir(golden(from)).unwrap() {
                let file = entry.unwrap().file_name().into_string().unwrap();
                let values = ["expected.json", "expected.safetensors", "features_f64.safetensors"];
                let variant = file.contains("_legacy") || file.contains("_modelhub");
                let second = ["pytorch_model.bin", "sentencepiece.bpe.model", "inputs.json"];
                let left_out = values.contains(&file.as_str())
                    || second.contains(&file.as_str())
                    || variant
                    || file.contains("_eos2")
                    || file.contains("_old");
                if !left_out {
                    folder.copy(&format!("{from}/{file}"), &file);
                }
            }
        }
        folder
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir().join(file)
    }

    /// Puts a golden file into the folder under a name.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        // Written anew, not copied: a golden file may be read-only.
        self.write(to, golden_bytes(from));
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).unwrap()
    }

    pub(crate) fn write(&self, file: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(file);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn remove(&self, file: &str) {
        std::fs::remove_file(self.path(file)).unwrap();
    }

    pub(crate) fn edit_json(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let mut value: Value = serde_json::from_slice(&self.read(file)).unwrap();
        edit(&mut value);
        self.write(file, serde_json::to_vec(&value).unwrap());
    }

    pub(crate) fn edit_weights(&self, edit: impl FnOnce(&mut Weights)) {
        let mut weights = Weights::parse(&self.read("model.safetensors"));
        edit(&mut weights);
        self.write("model.safetensors", weights.to_bytes());
    }

    /// The pickle instead of the safetensors.
    pub(crate) fn only_bin(&self, bytes: impl AsRef<[u8]>) {
        self.remove("model.safetensors");
        self.write("pytorch_model.bin", bytes);
    }
}
