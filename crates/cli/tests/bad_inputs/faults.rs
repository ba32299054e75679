//! Refuse rather than guess: a folder whose parts disagree never loads.
//!
//! The same faults as in the table, but inside the process: twelve by name, a hundred by chance.

use crate::support::folder::{Folder, golden_bytes};
use crate::support::random::Random;
use crate::support::weights::Weights;
use altclip::{LoadOptions, Model, inspect};
use altclip_report::{Code, Diagnose};
use std::collections::BTreeMap;

const TRANSFORMATION: &str = "text_model.transformation.weight";

/// Loads the folder and uses both towers, so that every weight is packed.
fn load(folder: &Folder) -> Result<(), Code> {
    let code = |error: altclip::Error| error.report().code;
    let mut options = LoadOptions::default();
    options.threads = 1;
    let model = Model::load(folder.dir(), &options).map_err(code)?;
    model.encode_text(&["一只猫"]).map_err(code)?;
    let picture = model.open_image(&folder.path("checks.png")).map_err(code)?;
    model.encode_image(&[picture]).map_err(code)?;
    Ok(())
}

#[test]
fn twelve_named_load_faults_are_refused() {
    type Fault = fn(&Folder);
    let faults: [(&str, Code, Fault); 12] = [
        ("missing", Code::E2101, |f| f.edit_weights(|w| w.remove(TRANSFORMATION))),
        ("extra", Code::E2102, |f| {
            f.edit_weights(|w| w.add("lora.weight", "F32", &[2], vec![0; 8]))
        }),
        ("misspelt", Code::E2101, |f| {
            f.edit_weights(|w| {
                w.get(TRANSFORMATION).name = "text_model.transfromation.weight".into()
            });
        }),
        ("wrong shape", Code::E2103, |f| {
            f.edit_weights(|w| {
                let tensor = w.get("text_model.pre_LN.bias");
                tensor.shape = vec![31];
                tensor.bytes.truncate(124);
            });
        }),
        ("transposed", Code::E2103, |f| {
            f.edit_weights(|w| w.get("visual_projection.weight").shape.reverse())
        }),
        ("wrong dtype", Code::E2017, |f| {
            f.edit_weights(|w| w.get(TRANSFORMATION).dtype = "U32".into())
        }),
        ("NaN", Code::E2104, |f| {
            f.edit_weights(|w| {
                w.get(TRANSFORMATION).bytes[40..44].copy_from_slice(&f32::NAN.to_le_bytes())
            });
        }),
        ("truncated", Code::E2106, |f| {
            let bytes = f.read("model.safetensors");
            f.write("model.safetensors", &bytes[..bytes.len() - 1]);
        }),
        ("config: heads", Code::E2301, |f| {
            f.edit_json("config.json", |c| c["text_config"]["num_attention_heads"] = 3.into());
        }),
        ("config: layers", Code::E2301, |f| {
            f.edit_json("config.json", |c| c["vision_config"]["num_hidden_layers"] = 12.into());
        }),
        ("config and weights: sizes", Code::E2301, |f| {
            f.edit_json("config.json", |c| c["text_config"]["project_dim"] = 32.into());
        }),
        ("tokenizer larger than the word table", Code::E3006, |f| {
            f.copy("tokenizer_clip/tokenizer.json", "tokenizer.json");
            f.copy("tokenizer_clip/tokenizer_config.json", "tokenizer_config.json");
        }),
    ];
    for (name, expected, fault) in faults {
        let folder = Folder::new("alt_l");
        fault(&folder);
        assert_eq!(load(&folder), Err(expected), "{name}");
    }
}

#[test]
fn a_sound_folder_loads_and_known_extras_are_tolerated() {
    let folder = Folder::new("alt_l");
    assert_eq!(load(&folder), Ok(()));
    folder.edit_weights(|w| {
        let positions = |count: i64| (0..count).flat_map(i64::to_le_bytes).collect();
        w.add("text_model.roberta.embeddings.position_ids", "I64", &[1, 130], positions(130));
        w.add("vision_model.embeddings.position_ids", "I64", &[1, 17], positions(17));
    });
    assert_eq!(load(&folder), Ok(()));
}

/// Deletions, renames and swapped shapes of random tensors: none may load.
#[test]
fn a_hundred_random_damages_of_the_header_are_refused() {
    let original = golden_bytes("alt_l/model.safetensors");
    let folder = Folder::new("alt_l");
    let mut random = Random::new(2101);
    let mut codes = BTreeMap::<&str, u32>::new();
    for round in 0..100 {
        let mut weights = Weights::parse(&original);
        let nth = random.below(weights.tensors.len());
        let what = match round % 4 {
            0 => format!("without {}", weights.tensors.remove(nth).name),
            1 => {
                let tensor = &mut weights.tensors[nth];
                let at = random.below(tensor.name.len());
                let mut name = tensor.name.clone().into_bytes();
                name[at] = if name[at] == b'x' { b'y' } else { b'x' };
                tensor.name = String::from_utf8(name).unwrap();
                format!("renamed to {}", tensor.name)
            }
            2 => {
                // Two tensors of different shape change places; all bytes stay where they are.
                let other = loop {
                    let other = random.below(weights.tensors.len());
                    if weights.tensors[other].shape != weights.tensors[nth].shape {
                        break other;
                    }
                };
                let name = weights.tensors[other].name.clone();
                weights.tensors[other].name =
                    std::mem::replace(&mut weights.tensors[nth].name, name);
                format!(
                    "{} swapped with {}",
                    weights.tensors[nth].name, weights.tensors[other].name
                )
            }
            _ => {
                // The same numbers in another shape.
                let tensor = &mut weights.tensors[nth];
                let square = tensor.shape.len() > 1 && tensor.shape[0] == tensor.shape[1];
                match tensor.shape.len() {
                    0 => tensor.shape = vec![1, 1],
                    1 => tensor.shape.push(1),
                    _ if square => tensor.shape = vec![tensor.shape.iter().product()],
                    _ => tensor.shape.reverse(),
                }
                format!("{} as {:?}", tensor.name, tensor.shape)
            }
        };
        folder.write("model.safetensors", weights.to_bytes());
        let inspection = inspect(folder.dir(), false);
        let code = match &inspection {
            Ok(inspection) => inspection.problems.first().map(|problem| problem.code),
            Err(error) => Some(error.report().code),
        };
        let code = code.unwrap_or_else(|| panic!("accepted: {what}"));
        assert!(code.as_str().starts_with("E2"), "{what}: {code}");
        *codes.entry(code.as_str()).or_default() += 1;
        drop(inspection);
        // What `info` only reports must keep the model from loading.
        assert!(Model::load(folder.dir(), &LoadOptions::default()).is_err(), "loaded: {what}");
    }
    println!("{codes:?}");
}
