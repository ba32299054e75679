//! What a result must not depend on: the batch, padding, threads, the instruction set, and how the
//! weights lie in their files. All bit for bit.

use crate::golden::{Golden, folder};
use altclip::models::TextTower;
use altclip::tensor::{Backend, Counting, CpuBackend, Isa, Kernels};
use altclip::{Embeddings, Model};
use safetensors::SafeTensors;
use std::path::Path;

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// 100 texts and the golden pictures, embedded one by one.
fn reference(model: &Model, golden: &Golden) -> (Vec<String>, Vec<u32>, Vec<u32>) {
    let words = golden.inputs("texts");
    let texts: Vec<String> = (0..100)
        .map(|n| format!("{} {n} {}", words[n % words.len()], words[n / 3 % words.len()]))
        .collect();
    let alone: Vec<f32> = texts
        .iter()
        .flat_map(|text| model.text_features(&[text]).unwrap().as_slice().to_vec())
        .collect();
    let pictures = golden.pictures(model);
    let seen: Vec<f32> = pictures
        .iter()
        .flat_map(|picture| {
            model.image_features(std::slice::from_ref(picture)).unwrap().as_slice().to_vec()
        })
        .collect();
    (texts, bits(&alone), bits(&seen))
}

fn all_bits(model: &Model, golden: &Golden, texts: &[String]) -> (Vec<u32>, Vec<u32>) {
    let text = |e: Embeddings| bits(e.as_slice());
    (
        text(model.text_features(texts).unwrap()),
        text(model.image_features(&golden.pictures(model)).unwrap()),
    )
}

#[test]
fn batches_and_threads_change_no_bit() {
    for name in ["alt_l", "alt_h", "clip"] {
        let golden = Golden::new(name);
        let (texts, text_bits, image_bits) = reference(&golden.load_with(1), &golden);
        for threads in [1, 2, 8] {
            let found = all_bits(&golden.load_with(threads), &golden, &texts);
            assert_eq!(
                found,
                (text_bits.clone(), image_bits.clone()),
                "{name} on {threads} threads"
            );
        }
    }
}

#[test]
fn repetitions_change_no_bit() {
    let golden = Golden::new("alt_l");
    let model = golden.load();
    let words = golden.inputs("texts");
    let alone: Vec<_> = words.iter().map(|text| model.text_features(&[text]).unwrap()).collect();
    let order: Vec<usize> = (0..5 * words.len()).map(|n| n * n % words.len()).collect();
    let texts: Vec<&String> = order.iter().map(|&n| &words[n]).collect();
    let together = model.text_features(&texts).unwrap();
    assert_eq!(together.len(), order.len());
    for (row, &n) in together.rows().zip(&order) {
        assert_eq!(bits(row), bits(alone[n].as_slice()), "{}", words[n]);
    }
}

#[test]
fn padding_changes_no_bit() {
    let golden = Golden::new("alt_l");
    let model = golden.load();
    let encoder = model.text_encoder().unwrap();
    let TextTower::AltClip(tower) = encoder.tower() else { panic!("alt_l is an AltCLIP") };
    let ids = model.tokenize("一只猫").unwrap().input_ids;
    let b = model.backend();
    let padded = tower.conditioning(b, &[&ids], altclip::Conditioning::M9).unwrap();
    let padded = b.read(&padded).unwrap();
    let together = tower.conditioning(b, &[&[0, 2], &ids], altclip::Conditioning::M9).unwrap();
    assert_eq!(bits(&b.read(&together).unwrap()[padded.len()..]), bits(&padded));
    // The rows of real tokens do not know of the padding behind them.
    let generation = tower.hidden_state(b, &[&ids], tower.num_hidden_layers()).unwrap();
    assert_eq!(generation.rows(), ids.len());
}

#[test]
fn instruction_sets_change_no_bit() {
    let golden = Golden::new("alt_h");
    let model = golden.load();
    let ids: Vec<_> =
        golden.inputs("texts").iter().map(|text| model.tokenize(text).unwrap().input_ids).collect();
    let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    let expected = model.features_of_ids(&ids).unwrap();
    for isa in Isa::ALL {
        let Some(kernels) = Kernels::for_isa(isa) else {
            println!("skipped: this machine has no {isa}");
            continue;
        };
        let backend = CpuBackend::with_kernels(2, kernels);
        let encoder = model.opened().text_encoder(&backend).unwrap();
        let features = encoder.features(&backend, &ids).unwrap();
        assert_eq!(bits(&backend.read(&features).unwrap()), bits(expected.as_slice()), "{isa}");
    }
}

#[test]
fn only_the_class_token_passes_through_the_last_block() {
    let golden = Golden::new("alt_l");
    let model = golden.load();
    let counting = Counting::new(model.backend());
    let encoder = model.opened().text_encoder(&counting).unwrap();
    let texts: [&[u32]; 2] = [&[0, 5, 6, 2], &[0, 7, 2]];
    let (tokens, layers) = (7, 3);
    encoder.features(&counting, &texts).unwrap();
    let counts = counting.counts();
    assert_eq!(counts["attention"].calls, layers);
    assert_eq!(counts["attention"].rows, (layers - 1) * tokens + 2);
    assert_eq!(counts["rows"].calls, 1);
}

/// A way in which weights may lie in a folder, and what puts them there.
type Layout<'l> = (&'l str, &'l dyn Fn(&Path));

/// The six ways in which the same weights may lie in files.
#[test]
fn the_layout_of_the_files_changes_no_bit() {
    let golden = Golden::new("alt_l");
    let (texts, text_bits, image_bits) = reference(&golden.load(), &golden);
    let bytes = std::fs::read(folder("alt_l").join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<Entry<'_>> =
        file.iter().map(|(name, view)| Entry::new(name, &view)).collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));

    let layouts: [Layout<'_>; 5] = [
        ("shuffled key order", &|dir| {
            write(&dir.join("model.safetensors"), tensors.iter().rev(), 0)
        }),
        ("odd alignment", &|dir| write(&dir.join("model.safetensors"), tensors.iter(), 5)),
        ("four shards", &|dir| write_shards(dir, &tensors)),
        ("the names of transformers 5", &|dir| {
            let renamed: Vec<_> = tensors
                .iter()
                .map(|entry| entry.renamed("encoder.layer.", "encoder.layers."))
                .collect();
            write(&dir.join("model.safetensors"), renamed.iter(), 0);
        }),
        ("pickle", &|dir| {
            std::fs::copy(folder("alt_l").join("pytorch_model.bin"), dir.join("pytorch_model.bin"))
                .unwrap();
        }),
    ];
    for (layout, make) in layouts {
        let golden = Golden::new("alt_l");
        std::fs::remove_file(golden.dir.path().join("model.safetensors")).unwrap();
        make(golden.dir.path());
        let found = all_bits(&golden.load(), &golden, &texts);
        assert_eq!(found, (text_bits.clone(), image_bits.clone()), "{layout}");
    }
}

#[derive(Clone)]
pub(crate) struct Entry<'b> {
    pub(crate) name: String,
    dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: std::borrow::Cow<'b, [u8]>,
}

impl<'b> Entry<'b> {
    pub(crate) fn new(name: &str, view: &safetensors::tensor::TensorView<'b>) -> Self {
        let dtype = format!("{:?}", view.dtype());
        Self {
            name: name.to_owned(),
            dtype,
            shape: view.shape().to_vec(),
            bytes: view.data().into(),
        }
    }

    fn renamed(&self, from: &str, to: &str) -> Self {
        Self { name: self.name.replace(from, to), ..self.clone() }
    }
}

/// Writes a safetensors file in the given order of data, with spaces behind the header.
pub(crate) fn write<'e, 'b: 'e>(
    path: &Path,
    entries: impl Iterator<Item = &'e Entry<'b>>,
    padding: usize,
) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for entry in entries {
        let start = data.len();
        data.extend_from_slice(&entry.bytes);
        let offsets = [start, data.len()];
        header.insert(entry.name.clone(), serde_json::json!({ "dtype": entry.dtype, "shape": entry.shape, "data_offsets": offsets }));
    }
    let mut header = serde_json::to_vec(&header).unwrap();
    header.extend(std::iter::repeat_n(b' ', padding));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    std::fs::write(path, file).unwrap();
}

fn write_shards(dir: &Path, entries: &[Entry<'_>]) {
    let mut map = serde_json::Map::new();
    for (nth, shard) in entries.chunks(entries.len().div_ceil(4)).enumerate() {
        let file = format!("model-{:05}-of-00004.safetensors", nth + 1);
        write(&dir.join(&file), shard.iter(), nth);
        map.extend(shard.iter().map(|entry| (entry.name.clone(), file.clone().into())));
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}
