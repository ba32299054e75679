//! Weight files as their authors publish them, beside the Hub: other names, queries, keys and values in one
//! matrix, projections transposed, and no `config.json`.
//!
//! Here such a checkpoint gets the Hub's names and the settings that its authors' code has built in, so that
//! nothing behind this knows of it. Sizes are left to the tensors.
//!
//! # Source
//! openai/CLIP `clip/model.py` (commit d05afc4); OFA-Sys/Chinese-CLIP `cn_clip/clip/model.py`;
//! yuxie11/R2D2 `models/` (commit 6c9f74a); mindspore-ai/models `research/mm/wukong` (commit 0b9c579).

use crate::config::Family;
use crate::{Error, Result};
use altclip_checkpoint::Checkpoint;
use serde_json::{Value, json};

/// The settings that such a file lacks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `config.json`
    pub config: Vec<u8>,
    /// `preprocessor_config.json`
    pub preprocessor: Vec<u8>,
}

/// Gives the tensors of an author's own file the Hub's names; `None` for any other checkpoint, which is
/// left as it is.
///
/// # Errors
/// [`Error::Family`] for a kind of tower that is not supported; [`Error::Checkpoint`] where tensors do
/// not have the shapes that their names promise.
pub fn adapt(checkpoint: &mut Checkpoint) -> Result<Option<Settings>> {
    // What was trained on several devices has a prefix of the wrapper.
    if checkpoint.names().next().is_some() && checkpoint.names().all(|n| n.starts_with("module.")) {
        checkpoint.rename(&|name| name.strip_prefix("module.").map(str::to_owned))?;
    }
    let Some(family) = family(checkpoint)? else { return Ok(None) };
    split_attention(checkpoint)?;
    for name in ["visual.proj", "text_projection", "transformer.text_projection"] {
        if checkpoint.shape(name).is_some() {
            checkpoint.transpose(name)?;
        }
    }
    let learner = checkpoint.names().find_map(|name| name.strip_suffix("feat_conv.weight"));
    let learner = learner.map(str::to_owned);
    checkpoint.rename(&|name| match learner.as_deref().and_then(|at| name.strip_prefix(at)) {
        Some(rest) if is_learner(rest) => Some(format!("token_learner.{rest}")),
        _ => hub_name(name),
    })?;
    Ok(Some(settings(family, checkpoint)))
}

fn family(checkpoint: &Checkpoint) -> Result<Option<Family>> {
    let has = |name: &str| checkpoint.shape(name).is_some();
    Ok(Some(if has("visual_encoder.embeddings.class_embedding") {
        match has("itm_head.weight") {
            true => Family::R2d2,
            false => Family::Prd2,
        }
    } else if has("visual.layer1.0.conv1.weight") {
        return Err(Error::Family("CLIP with a ResNet".into()));
    } else if !has("visual.conv1.weight") {
        return Ok(None);
    } else if has("bert.embeddings.word_embeddings.weight") {
        Family::ChineseClip
    } else if has("transformer.token_embedding.weight") {
        Family::Wukong
    } else if has("token_embedding.weight") {
        Family::Clip
    } else {
        return Ok(None);
    }))
}

fn is_learner(rest: &str) -> bool {
    ["norm.", "attention_maps.", "feat_conv."].iter().any(|part| rest.starts_with(part))
}

/// One matrix of queries, keys and values becomes three.
fn split_attention(checkpoint: &mut Checkpoint) -> Result<()> {
    let fused = |name: &&str| name.contains(".attn.in_proj_");
    let names: Vec<String> = checkpoint.names().filter(fused).map(str::to_owned).collect();
    for name in names {
        let (block, kind) = name.rsplit_once("in_proj_").unwrap_or((&name, ""));
        let parts = ["q", "k", "v"].map(|part| format!("{block}{part}_proj.{kind}"));
        checkpoint.split(&name, &parts)?;
    }
    Ok(())
}

/// The beginnings of names: the author's, and the Hub's.
const PREFIXES: [(&str, &str); 21] = [
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
    ("visual.proj", "visual_projection.weight"),
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
    ("transformer.resblocks.", "text_model.encoder.layers."),
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    ("transformer.token_embedding.", "text_model.embeddings.token_embedding."),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("transformer.positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.", "text_model.final_layer_norm."),
    ("transformer.ln_final.", "text_model.final_layer_norm."),
    ("transformer.text_projection", "text_projection.weight"),
    ("bert.", "text_model."),
    ("visual_encoder.", "vision_model."),
    ("text_encoder.", "text_model."),
    ("vision_proj.", "visual_projection."),
    ("text_proj.", "text_projection."),
    ("classifier.", "text_projection."),
];

/// The same inside a block of CLIP's.
const IN_BLOCKS: [(&str, &str); 5] = [
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".attn.", ".self_attn."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
];

fn hub_name(name: &str) -> Option<String> {
    if name == "text_projection" {
        return Some("text_projection.weight".into());
    }
    let (from, to) = PREFIXES.iter().find(|(from, _)| name.starts_with(from))?;
    let mut new = format!("{to}{}", name.get(from.len()..).unwrap_or_default());
    if from.ends_with("resblocks.") {
        for (from, to) in IN_BLOCKS {
            new = new.replacen(from, to, 1);
        }
    }
    Some(new)
}

/// What the authors' code has built in: a head for each 64 channels (80 in CN-CLIP's ViT-H), QuickGELU, and
/// the largest id as the end of a text.
fn settings(family: Family, checkpoint: &Checkpoint) -> Settings {
    let shape = |name: &str, dim: usize| {
        checkpoint.shape(name).and_then(|shape| shape.get(dim)).copied().unwrap_or(0)
    };
    let heads = |width: usize| if width == 1280 { 16 } else { (width / 64).max(1) };
    let vision_heads = heads(shape("vision_model.embeddings.class_embedding", 0));
    let text = match family {
        Family::Clip | Family::Wukong => json!({
            "num_attention_heads": heads(shape("text_model.final_layer_norm.weight", 0)),
            "hidden_act": "quick_gelu",
            // CLIP's own rule, the largest id, is written so; BERT's vocabulary ends a text with [SEP].
            "eos_token_id": if family == Family::Wukong { 102 } else { 2 },
        }),
        _ => json!({
            "num_attention_heads": heads(shape("text_model.embeddings.LayerNorm.weight", 0)),
            "hidden_act": "gelu",
        }),
    };
    let vision = json!({ "num_attention_heads": vision_heads, "hidden_act": "quick_gelu" });
    let config = json!({
        "model_type": family.name(),
        "text_config": text,
        "vision_config": vision,
    });
    let rows = shape("vision_model.embeddings.position_embedding.weight", 0);
    let patch = shape("vision_model.embeddings.patch_embedding.weight", 2);
    let size = rows.saturating_sub(1).isqrt().saturating_mul(patch);
    let preprocessor = match family {
        Family::Clip => json!({
            "image_processor_type": "CLIPImageProcessor",
            "size": size,
            "crop_size": size,
        }),
        Family::Wukong => json!({
            "image_processor_type": "WukongImageProcessor",
            "size": size,
            "crop_size": size,
        }),
        _ => json!({
            "image_processor_type": "ChineseCLIPImageProcessor",
            "size": { "height": size, "width": size },
            "do_center_crop": false,
        }),
    };
    let bytes = |value: Value| value.to_string().into_bytes();
    Settings { config: bytes(config), preprocessor: bytes(preprocessor) }
}

/// Whether this `config.json` is that of a BERT classifier, Taiyi's text tower.
pub fn is_classifier(config: &[u8]) -> bool {
    let config: Option<Value> = serde_json::from_slice(config).ok();
    let architectures = config.as_ref().and_then(|config| config.get("architectures")?.as_array());
    architectures.into_iter().flatten().any(|name| name == "BertForSequenceClassification")
}

/// Taiyi-CLIP from its two halves: a BERT classifier, and a CLIP whose image tower is used. Without the
/// latter it is a text encoder alone. Gives the `config.json` of the whole.
///
/// # Errors
/// [`Error::ConfigSyntax`]; [`Error::Checkpoint`] where names collide.
pub fn join(
    text: &mut Checkpoint,
    text_config: &[u8],
    image: Option<(Checkpoint, &[u8])>,
) -> Result<Vec<u8>> {
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(Error::ConfigSyntax);
    text.rename(&hub_name)?;
    let mut config = json!({
        "model_type": Family::TaiyiClip.name(),
        "text_config": parse(text_config)?,
    });
    if let Some((mut image, image_config)) = image {
        image.retain(&|name| {
            ["vision_model.", "visual_projection."].iter().any(|part| name.starts_with(part))
                || name == "logit_scale"
        });
        text.merge(image)?;
        let vision = parse(image_config)?.get("vision_config").cloned();
        config["vision_config"] = vision.unwrap_or_else(|| json!({}));
    }
    Ok(config.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_authors_become_those_of_the_hub() {
        for (theirs, ours) in [
            ("visual.proj", "visual_projection.weight"),
            ("text_projection", "text_projection.weight"),
            (
                "visual.transformer.resblocks.3.attn.q_proj.bias",
                "vision_model.encoder.layers.3.self_attn.q_proj.bias",
            ),
            (
                "transformer.resblocks.11.mlp.c_proj.weight",
                "text_model.encoder.layers.11.mlp.fc2.weight",
            ),
            (
                "bert.encoder.layer.0.output.dense.bias",
                "text_model.encoder.layer.0.output.dense.bias",
            ),
            ("text_proj.bias", "text_projection.bias"),
            ("transformer.ln_final.bias", "text_model.final_layer_norm.bias"),
        ] {
            assert_eq!(hub_name(theirs).as_deref(), Some(ours));
        }
        for unchanged in ["logit_scale", "temp", "itm_head_i.weight", "text_projection.weight"] {
            assert_eq!(hub_name(unchanged), None);
        }
    }
}
