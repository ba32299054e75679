//! Writes a model folder of AltCLIP's true shape (864 million numbers, 3.5 GB) with random weights, for
//! measurements where no checkpoint is at hand. Norms have planted outlier channels, as trained towers
//! have them.
//!
//! `cargo run --release -p altclip --example random_model -- TOKENIZER_DIR OUT_DIR [altclip|altclip-m18]`

use altclip::checkpoint::{Dtype, TensorData, TensorToWrite, write_safetensors};
use altclip::models::config::{Model, Text};
use altclip::models::random::RandomWeights;
use altclip::models::weights::{Plan, Source, Weights};
use altclip::models::{ImageEncoder, TextEncoder};
use altclip::tensor::Activation;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(tokenizer), Some(out)) = (args.next(), args.next()) else {
        return Err("usage: random_model TOKENIZER_DIR OUT_DIR [altclip|altclip-m18]".into());
    };
    let (tokenizer, out) = (Path::new(&tokenizer), Path::new(&out));
    let model = Model::preset(&args.next().unwrap_or_else(|| "altclip".into()))?;
    std::fs::create_dir_all(out)?;
    for file in std::fs::read_dir(tokenizer)? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.contains("token") || name.contains("sentencepiece") {
            std::fs::copy(&path, out.join(name))?;
        }
    }
    std::fs::write(out.join("config.json"), config(&model).to_string())?;
    let preprocessor = json!({
        "do_resize": true, "size": { "shortest_edge": 224 }, "resample": 3,
        "do_center_crop": true, "crop_size": { "height": 224, "width": 224 },
        "do_rescale": true, "rescale_factor": 1.0 / 255.0, "do_convert_rgb": true,
        "do_normalize": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    });
    std::fs::write(out.join("preprocessor_config.json"), preprocessor.to_string())?;

    let plan = Plan::default();
    let weights = Weights::new(&plan, &plan);
    TextEncoder::new(&weights, &model)?;
    ImageEncoder::new(&weights, &model)?;
    weights.scalar("logit_scale")?;
    let tensors = plan.into_expected().into_iter().map(|tensor| {
        let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
        let data = TensorData::Stream(Box::new(move |writer| {
            let rows = RandomWeights::new(0).rows(&name, &shape).map_err(std::io::Error::other)?;
            let [count, cols] = rows.shape();
            let mut row = vec![0.0; cols];
            for at in 0..count {
                let read = rows.read_rows(at..at + 1, &mut row);
                read.map_err(|report| std::io::Error::other(report.to_string()))?;
                let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
                writer.write_all(&bytes)?;
            }
            Ok(())
        }));
        TensorToWrite { name: tensor.name, dtype: Dtype::F32, shape: tensor.shape, data }
    });
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(&out.join("model.safetensors"), tensors, &metadata)?;
    Ok(())
}

fn config(model: &Model) -> Value {
    let Text::AltClip(text) = &model.text else { return Value::Null };
    let act = |activation| if activation == Activation::Gelu { "gelu" } else { "quick_gelu" };
    let vision = model.vision.map(|vision| {
        json!({
            "model_type": "altclip_vision_model", "hidden_size": vision.blocks.hidden_size,
            "num_hidden_layers": vision.blocks.num_hidden_layers,
            "num_attention_heads": vision.blocks.num_attention_heads,
            "intermediate_size": vision.blocks.intermediate_size,
            "image_size": vision.image_size, "patch_size": vision.patch_size,
            "layer_norm_eps": 1e-5, "hidden_act": act(vision.blocks.hidden_act),
        })
    });
    json!({
        "architectures": ["AltCLIPModel"], "model_type": "altclip",
        "projection_dim": model.projection_dim, "logit_scale_init_value": 2.6592,
        "text_config": {
            "model_type": "altclip_text_model", "hidden_size": text.bert.blocks.hidden_size,
            "num_hidden_layers": text.bert.blocks.num_hidden_layers,
            "num_attention_heads": text.bert.blocks.num_attention_heads,
            "intermediate_size": text.bert.blocks.intermediate_size,
            "vocab_size": text.bert.vocab_size,
            "max_position_embeddings": text.bert.max_position_embeddings,
            "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5,
            "hidden_act": act(text.bert.blocks.hidden_act), "project_dim": text.project_dim,
        },
        "vision_config": vision,
    })
}
