//! Whole tiny models, trained through a tape: the gradient of every parameter against PyTorch's
//! (`tests/golden/*/gradients.safetensors`), and what must not show in them.
#![allow(clippy::unwrap_used)]

use altclip_checkpoint::Checkpoint;
use altclip_models::weights::{Files, Prepared, Source, Weights};
use altclip_models::{ImageEncoder, Opened, TextEncoder};
use altclip_tensor::autograd::Tape;
use altclip_tensor::{Backend, CpuBackend, Precision, RowSource, Weight, WeightGrad};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const MODELS: [&str; 3] = ["alt_l", "clip", "families/chinese_clip"];
/// Largest error of a parameter's gradient, of its largest magnitude.
const TOLERANCE: f32 = 1e-4;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// The tensors of a golden file.
struct Golden(Vec<u8>);

impl Golden {
    fn new(name: &str, file: &str) -> Self {
        Self(std::fs::read(folder(name).join(file)).unwrap())
    }

    fn shape_and_bytes(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = tensors.tensor(name).unwrap_or_else(|_| panic!("no golden tensor {name}"));
        (tensor.shape().to_vec(), tensor.data().to_vec())
    }

    fn f32s(&self, name: &str) -> Vec<f32> {
        let (_, bytes) = self.shape_and_bytes(name);
        bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let (_, bytes) = self.shape_and_bytes(name);
        bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as u32).collect()
    }

    fn names(&self) -> Vec<String> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        tensors.names().into_iter().map(ToString::to_string).collect()
    }
}

/// A checkpoint that writes down which weight came of which tensors.
struct Noting {
    files: Files,
    weights: Mutex<Vec<(Vec<String>, Weight)>>,
}

impl Source for Noting {
    fn rows(&self, name: &str, shape: &[usize]) -> altclip_models::Result<Arc<dyn RowSource>> {
        self.files.rows(name, shape)
    }

    fn has(&self, name: &str) -> bool {
        self.files.has(name)
    }

    fn prepared(&self, prepared: Prepared<'_>) {
        let Prepared { names, weight, .. } = prepared;
        self.weights.lock().unwrap().push((names.to_vec(), weight.clone()));
    }
}

/// The loss of the golden inputs, and its gradients by parameter.
fn gradients(
    name: &str,
    backend: &CpuBackend,
    checkpoints: bool,
) -> (f32, BTreeMap<String, Vec<f32>>) {
    let checkpoint = Checkpoint::open_file(&folder(name).join("model.safetensors")).unwrap();
    let config = std::fs::read(folder(name).join("config.json")).unwrap();
    let opened = Opened::open(checkpoint, &config, false).unwrap();
    let checkpoint = Checkpoint::open_file(&folder(name).join("model.safetensors")).unwrap();
    let files = Files { checkpoint: Arc::new(checkpoint), formats: Arc::default() };
    let source = Noting { files, weights: Mutex::default() };
    let weights = Weights::new(backend, &source);
    let text = TextEncoder::new(&weights, opened.config()).unwrap();
    let image = ImageEncoder::new(&weights, opened.config()).unwrap();
    let weights = source.weights.into_inner().unwrap();

    let mut tape = Tape::new(backend, weights.iter().map(|(_, weight)| weight.id()).collect());
    if checkpoints {
        tape = tape.with_checkpoints();
    }
    let inputs = Golden::new(name, "expected.safetensors");
    let golden = Golden::new(name, "gradients.safetensors");
    let length = inputs.shape_and_bytes("text.input_ids").0[1];
    let (ids, mask) = (inputs.ids("text.input_ids"), inputs.ids("text.attention_mask"));
    let texts: Vec<Vec<u32>> = (ids.chunks(length).zip(mask.chunks(length)))
        .map(|(ids, mask)| {
            ids.iter().zip(mask).filter(|(_, m)| **m == 1).map(|(&id, _)| id).collect()
        })
        .collect();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let pixels = inputs.f32s("vision.pixel_values");
    let pictures = inputs.shape_and_bytes("vision.pixel_values").0[0];
    let pixels = backend.tensor(pictures, pixels.len() / pictures, &pixels).unwrap();

    let features = [
        (text.features(&tape, &texts).unwrap(), golden.f32s("loss.text")),
        (image.features(&tape, &pixels).unwrap(), golden.f32s("loss.vision")),
    ];
    let mut loss = 0.0;
    let outputs = features.map(|(features, factors)| {
        let values = backend.read(&features).unwrap();
        loss += values.iter().zip(&factors).map(|(x, factor)| x * factor).sum::<f32>();
        let grad = backend.tensor(features.rows(), features.cols(), &factors).unwrap();
        (features, grad)
    });
    let grads = tape.gradients(&outputs).unwrap().into_weights().unwrap();
    let mut by_name = BTreeMap::new();
    for (names, weight) in weights {
        let dense = match &grads[&weight.id()] {
            WeightGrad::Dense(grad) => backend.read(grad).unwrap(),
            WeightGrad::Rows { rows, values } => {
                let mut dense = vec![0.0; weight.rows() * weight.cols()];
                let values = backend.read(values).unwrap();
                for (&row, values) in rows.iter().zip(values.chunks(weight.cols())) {
                    dense[row as usize * weight.cols()..][..values.len()].copy_from_slice(values);
                }
                dense
            }
        };
        // Stacked tensors lie one after the other.
        let each = dense.len() / names.len();
        by_name.extend(names.into_iter().zip(dense.chunks(each).map(<[f32]>::to_vec)));
    }
    (loss, by_name)
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

/// What errors of a gradient are measured by. A softmax does not feel the bias of the keys: that
/// gradient is zero, and its rounding that of the queries'.
fn measure(golden: &Golden, name: &str) -> f32 {
    let name = name.replace("key.bias", "query.bias").replace("k_proj.bias", "q_proj.bias");
    largest(&golden.f32s(&name))
}

#[test]
fn gradients_equal_those_of_pytorch() {
    let backend = CpuBackend::new(2);
    for model in MODELS {
        let golden = Golden::new(model, "gradients.safetensors");
        let (loss, found) = gradients(model, &backend, false);
        let expected_loss = golden.f32s("loss")[0];
        assert!((loss - expected_loss).abs() < 1e-4 * expected_loss.abs().max(1.0), "{model} loss");
        let mut worst = 0.0f32;
        for name in golden.names().into_iter().filter(|name| !name.starts_with("loss")) {
            let expected = golden.f32s(&name);
            let found = found.get(&name).unwrap_or_else(|| panic!("{model}: no gradient {name}"));
            assert_eq!(found.len(), expected.len(), "{model} {name}");
            let off: Vec<f32> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
            let error = largest(&off) / measure(&golden, &name);
            assert!(error <= TOLERANCE, "{model} {name}: {error:.1e}");
            worst = worst.max(error);
        }
        println!("{model}: largest error {worst:.1e}");
        assert_eq!(found.len() + 3, golden.names().len(), "{model}: gradients without a golden");
    }
}

#[test]
fn gradients_in_bf16_point_the_same_way() {
    let backend = CpuBackend::new(2).with_precision(Precision::Bf16);
    for model in MODELS {
        let golden = Golden::new(model, "gradients.safetensors");
        let (_, found) = gradients(model, &backend, false);
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let (mut all, mut sizes) = (0.0, [0.0; 2]);
        for (name, found) in &found {
            let expected = golden.f32s(name);
            all += dot(found, &expected);
            sizes = [sizes[0] + dot(found, found), sizes[1] + dot(&expected, &expected)];
            if !name.contains("key.bias") && !name.contains("k_proj.bias") {
                let cosine =
                    dot(found, &expected) / (dot(found, found) * dot(&expected, &expected)).sqrt();
                assert!(cosine > 0.99, "{model} {name}: {cosine}");
            }
        }
        let cosine = all / (sizes[0] * sizes[1]).sqrt();
        println!("{model}: cosine of all gradients {cosine:.6}");
        assert!(cosine > 0.999, "{model}: {cosine}");
    }
}

#[test]
fn neither_checkpoints_nor_threads_show() {
    for precision in [Precision::F32, Precision::Bf16] {
        for model in MODELS {
            let run = |threads: usize, checkpoints: bool| {
                let backend = CpuBackend::new(threads).with_precision(precision);
                let (loss, found) = gradients(model, &backend, checkpoints);
                let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
                let found = found.into_iter().map(|(name, values)| (name, bits(values)));
                (loss.to_bits(), found.collect::<BTreeMap<String, Vec<u32>>>())
            };
            let expected = run(1, false);
            for (threads, checkpoints) in [(2, false), (3, false), (1, true), (2, true)] {
                assert!(run(threads, checkpoints) == expected, "{model} {precision} {threads}");
            }
        }
    }
}
