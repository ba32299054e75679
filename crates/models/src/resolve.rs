//! Reads `config.json` against the tensors: sizes, and what no shape can tell.

use crate::config::{
    AltClipText, Bert, BertText, ClipText, Family, Joint, Model, Positions, ProjectionBias, Scale,
    Similarity, Text, TokenLearner, Transformer, Vision,
};
use crate::{Error, Result};
use altclip_checkpoint::Checkpoint;
use altclip_report::{Code, Report, quote};
use altclip_tensor::Activation;
use serde::Deserialize;
use serde_json::Value;

/// One side of `config.json` as it is written; `None` where a field is not.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Side {
    hidden_size: Option<u64>,
    num_hidden_layers: Option<u64>,
    num_attention_heads: Option<u64>,
    intermediate_size: Option<u64>,
    layer_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    vocab_size: Option<u64>,
    max_position_embeddings: Option<u64>,
    type_vocab_size: Option<u64>,
    pad_token_id: Option<u64>,
    eos_token_id: Option<u64>,
    project_dim: Option<u64>,
    image_size: Option<u64>,
    patch_size: Option<u64>,
    num_channels: Option<u64>,
}

/// What reading a configuration against a checkpoint gave.
pub(crate) struct Resolved {
    pub(crate) model: Model,
    pub(crate) problems: Vec<Error>,
    pub(crate) warnings: Vec<Report>,
}

/// Largest size that a configuration may state.
const MAX_SIZE: u64 = 1 << 31;

/// Reads `config.json` against the tensors.
///
/// # Errors
/// [`Error::ConfigSyntax`], [`Error::Family`]. Fields that do not fit are collected in the result.
pub(crate) fn resolve(json: &[u8], checkpoint: &Checkpoint) -> Result<Resolved> {
    let file: Value = serde_json::from_slice(json).map_err(Error::ConfigSyntax)?;
    let mut resolver = Resolver { checkpoint, problems: Vec::new(), warnings: Vec::new() };
    let has = |name: &str| checkpoint.shape(name).is_some();
    let has_any = |prefix: &str| checkpoint.names().any(|name| name.starts_with(prefix));
    let family = family(&file, checkpoint)?;
    let text = match family {
        Family::AltClip | Family::AltClipText => {
            let alone = file.get("text_config").is_none() && file.get("vision_config").is_none();
            let side = match alone {
                true => side(&file)?,
                false => resolver.side(&file, "text", ALT_CLIP_TEXT)?,
            };
            Text::AltClip(resolver.alt_clip_text(&side))
        }
        Family::Clip | Family::Wukong => {
            let side = resolver.side(&file, "text", CLIP_TEXT)?;
            Text::Clip(resolver.clip_text(&side))
        }
        Family::ChineseClip | Family::TaiyiClip | Family::Prd2 | Family::R2d2 => {
            let side = resolver.side(&file, "text", BERT_TEXT)?;
            let bert = resolver.bert(&side, &BERT_TEXT, Positions::Absolute);
            // Taiyi's published classifiers stand behind the pooler; its combined form has neither.
            let pooler = family == Family::TaiyiClip && has("text_projection.bias");
            Text::Bert(BertText { bert, pooler })
        }
    };
    let vision = match has_any("vision_model.") || file.get("vision_config").is_some() {
        true => {
            let side = resolver.side(&file, "vision", VISION)?;
            let post_layernorm = !matches!(family, Family::Prd2 | Family::R2d2);
            Some(Vision { post_layernorm, ..resolver.vision(&side) })
        }
        false => None,
    };
    // A classifier is a text encoder with its projection; AltCLIP's tower alone has none.
    let projects =
        vision.is_some() || (family == Family::TaiyiClip && has("text_projection.weight"));
    let projection_dim = match projects {
        false => 0,
        true => resolver.size(
            "projection_dim",
            file.get("projection_dim").and_then(Value::as_u64),
            &[("text_projection.weight", 0), ("visual_projection.weight", 0)],
            None,
        ),
    };
    let scale = match family {
        Family::Prd2 | Family::R2d2 => Scale::Inverse,
        Family::Wukong if !has("logit_scale") => Scale::None,
        _ => Scale::Exponential,
    };
    let similarity = match (family, file.get("similarity").and_then(Value::as_str)) {
        (Family::Wukong, Some("cosine")) => Similarity::Cosine,
        (Family::Wukong, _) => Similarity::TokenWise,
        (Family::R2d2, _) => Similarity::Reranked(resolver.joint(text.blocks())),
        _ => Similarity::Cosine,
    };
    let token_learner = (family == Family::Wukong).then(|| resolver.token_learner()).flatten();
    let family =
        if vision.is_none() && family == Family::AltClip { Family::AltClipText } else { family };
    let projection_bias =
        ProjectionBias { text: has("text_projection.bias"), vision: has("visual_projection.bias") };
    let model = Model {
        family,
        text,
        vision,
        projection_dim,
        projection_bias,
        scale,
        similarity,
        token_learner,
    };
    Ok(Resolved { model, problems: resolver.problems, warnings: resolver.warnings })
}

/// The family that `model_type` names, where the tensors do not tell better.
fn family(file: &Value, checkpoint: &Checkpoint) -> Result<Family> {
    let has = |prefix: &str| checkpoint.names().any(|name| name.starts_with(prefix));
    let model_type = file.get("model_type").and_then(Value::as_str).unwrap_or("");
    let named = Family::ALL.into_iter().find(|family| family.name() == model_type);
    let is_bert = has("text_model.embeddings.word_embeddings.");
    Ok(match named {
        // The oldest AltCLIP calls itself `clip`.
        _ if has("text_model.roberta.") => Family::AltClip,
        Some(Family::AltClip) => Family::AltClip,
        Some(family) if is_bert && family != Family::Clip => family,
        // Combined Taiyi folders call themselves `clip`.
        _ if is_bert => Family::TaiyiClip,
        Some(Family::Wukong) => Family::Wukong,
        _ if has("text_model.embeddings.token_embedding.") => Family::Clip,
        Some(family) => family,
        None => return Err(Error::Family(model_type.to_owned())),
    })
}

fn side(value: &Value) -> Result<Side> {
    Side::deserialize(value).map_err(Error::ConfigSyntax)
}

/// Where a tower's sizes can be read off.
struct Witnesses {
    width: &'static [(&'static str, usize)],
    layers: &'static str,
    fc1: &'static str,
}

const ALT_CLIP_TEXT: Witnesses = Witnesses {
    width: &[
        ("text_model.roberta.embeddings.LayerNorm.weight", 0),
        ("text_model.roberta.embeddings.word_embeddings.weight", 1),
        ("text_model.roberta.embeddings.position_embeddings.weight", 1),
    ],
    layers: "text_model.roberta.encoder.layer.",
    fc1: "text_model.roberta.encoder.layer.0.intermediate.dense.weight",
};

const BERT_TEXT: Witnesses = Witnesses {
    width: &[
        ("text_model.embeddings.LayerNorm.weight", 0),
        ("text_model.embeddings.word_embeddings.weight", 1),
        ("text_model.embeddings.position_embeddings.weight", 1),
    ],
    layers: "text_model.encoder.layer.",
    fc1: "text_model.encoder.layer.0.intermediate.dense.weight",
};

const CLIP_TEXT: Witnesses = Witnesses {
    width: &[
        ("text_model.final_layer_norm.weight", 0),
        ("text_model.embeddings.token_embedding.weight", 1),
        ("text_model.embeddings.position_embedding.weight", 1),
    ],
    layers: "text_model.encoder.layers.",
    fc1: "text_model.encoder.layers.0.mlp.fc1.weight",
};

const VISION: Witnesses = Witnesses {
    width: &[
        ("vision_model.embeddings.class_embedding", 0),
        ("vision_model.post_layernorm.weight", 0),
        ("vision_model.embeddings.position_embedding.weight", 1),
    ],
    layers: "vision_model.encoder.layers.",
    fc1: "vision_model.encoder.layers.0.mlp.fc1.weight",
};

/// What a tower has where nothing states it.
struct Defaults {
    heads: u64,
    act: &'static str,
    eps: f64,
}

const CLIP: Defaults = Defaults { heads: 12, act: "quick_gelu", eps: 1e-5 };

struct Resolver<'c> {
    checkpoint: &'c Checkpoint,
    problems: Vec<Error>,
    warnings: Vec<Report>,
}

impl Resolver<'_> {
    /// `{name}_config`, with the fields of `{name}_config_dict` over it if that one is not stale.
    fn side(&mut self, file: &Value, name: &str, witnesses: Witnesses) -> Result<Side> {
        let config = file.get(format!("{name}_config"));
        if let Some(wrong) = config.filter(|value| !value.is_object() && !value.is_null()) {
            self.problem(&format!("{name}_config"), quote(&wrong.to_string()), "an object".into());
        }
        let config = config.filter(|value| value.is_object());
        let dict = file.get(format!("{name}_config_dict")).filter(|value| value.is_object());
        let mut merged = config.cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        if let Some(dict) = dict {
            let stated = side(dict)?;
            let width = self.found(witnesses.width).first().map(|found| found.0);
            let layers = Some(self.layers(witnesses.layers)).filter(|&layers| layers > 0);
            let fc1 = self.found(&[(witnesses.fc1, 0)]).first().map(|found| found.0);
            let differs = |said: Option<u64>, found: Option<usize>| {
                said.zip(found).is_some_and(|(said, found)| said != found as u64)
            };
            let stale = differs(stated.hidden_size, width)
                || differs(stated.num_hidden_layers, layers)
                || differs(stated.intermediate_size, fc1);
            for (field, value) in dict.as_object().into_iter().flatten() {
                let ours = merged.get(field);
                let matters =
                    MEANINGFUL.contains(&field.as_str()) && ours.is_some_and(|ours| ours != value);
                if matters && self.warnings.len() < altclip_report::MAX_REPORTS {
                    self.warnings.push(conflict(name, field, ours, value, stale));
                }
            }
            if let (false, Some(merged), Some(dict)) =
                (stale, merged.as_object_mut(), dict.as_object())
            {
                merged.extend(dict.iter().map(|(field, value)| (field.clone(), value.clone())));
            }
        }
        side(&merged)
    }

    fn bert(&mut self, side: &Side, witnesses: &Witnesses, positions: Positions) -> Bert {
        let embeddings = witnesses.layers.trim_end_matches("encoder.layer.");
        let name = |table: &str| format!("{embeddings}embeddings.{table}.weight");
        let defaults = match positions {
            Positions::AfterPad => Defaults { heads: 16, act: "gelu", eps: 1e-5 },
            Positions::Absolute => Defaults { heads: 12, act: "gelu", eps: 1e-12 },
        };
        let blocks = self.transformer("text_config", side, witnesses, &defaults);
        let pad = u32::from(positions == Positions::AfterPad);
        Bert {
            blocks,
            vocab_size: self.size(
                "text_config.vocab_size",
                side.vocab_size,
                &[(&name("word_embeddings"), 0)],
                None,
            ),
            max_position_embeddings: self.size(
                "text_config.max_position_embeddings",
                side.max_position_embeddings,
                &[(&name("position_embeddings"), 0)],
                None,
            ),
            type_vocab_size: self.size(
                "text_config.type_vocab_size",
                side.type_vocab_size,
                &[(&name("token_type_embeddings"), 0)],
                Some(if positions == Positions::AfterPad { 1 } else { 2 }),
            ),
            pad_token_id: self.id("text_config.pad_token_id", side.pad_token_id, pad),
            positions,
        }
    }

    fn alt_clip_text(&mut self, side: &Side) -> AltClipText {
        let bert = self.bert(side, &ALT_CLIP_TEXT, Positions::AfterPad);
        let project_dim = self.size(
            "text_config.project_dim",
            side.project_dim,
            &[("text_model.transformation.weight", 0), ("text_projection.weight", 1)],
            Some(bert.blocks.hidden_size),
        );
        AltClipText { bert, project_dim }
    }

    fn clip_text(&mut self, side: &Side) -> ClipText {
        const EMBEDDINGS: &str = "text_model.embeddings";
        let blocks =
            self.transformer("text_config", side, &CLIP_TEXT, &Defaults { heads: 8, ..CLIP });
        let name = |table: &str| format!("{EMBEDDINGS}.{table}.weight");
        ClipText {
            blocks,
            vocab_size: self.size(
                "text_config.vocab_size",
                side.vocab_size,
                &[(&name("token_embedding"), 0)],
                None,
            ),
            max_position_embeddings: self.size(
                "text_config.max_position_embeddings",
                side.max_position_embeddings,
                &[(&name("position_embedding"), 0)],
                None,
            ),
            eos_token_id: self.id("text_config.eos_token_id", side.eos_token_id, 49407),
        }
    }

    fn vision(&mut self, side: &Side) -> Vision {
        const POSITIONS: &str = "vision_model.embeddings.position_embedding.weight";
        const PATCH: &str = "vision_model.embeddings.patch_embedding.weight";
        let blocks = self.transformer("vision_config", side, &VISION, &CLIP);
        if blocks.hidden_size == 1280 && blocks.hidden_act == Activation::QuickGelu {
            let warning = Report::new(
                Code::W2122,
                "config",
                "a ViT of width 1280 with quick_gelu is unusual",
            )
            .place("config.json, vision_config.hidden_act")
            .help("OpenCLIP's ViT-H/14 uses gelu; check config.json");
            self.warnings.push(warning);
        }
        let patch_size =
            self.size("vision_config.patch_size", side.patch_size, &[(PATCH, 2), (PATCH, 3)], None);
        let num_channels =
            self.size("vision_config.num_channels", side.num_channels, &[(PATCH, 1)], Some(3));
        let grid =
            self.found(&[(POSITIONS, 0)]).first().map(|&(rows, _)| rows.saturating_sub(1).isqrt());
        let image_size = match (side.image_size, grid) {
            (None, Some(grid)) => grid * patch_size,
            (said, grid) => {
                let image_size = self.size("vision_config.image_size", said, &[], None);
                if let Some(grid) = grid.filter(|&grid| grid != image_size / patch_size) {
                    let whole = format!(
                        "{} ({grid} × {grid} patches, tensor {POSITIONS})",
                        grid * patch_size
                    );
                    self.problem("vision_config.image_size", image_size.to_string(), whole);
                }
                image_size
            }
        };
        Vision { blocks, image_size, patch_size, num_channels, post_layernorm: true }
    }

    /// R2D2's joint encoders, which have the width and heads of the text tower.
    fn joint(&mut self, text: &Transformer) -> Joint {
        let mut blocks = |name: &str| {
            let prefix = format!("{name}.encoder.layer.");
            let layers = self.layers(&prefix);
            let fc1 = format!("{prefix}0.intermediate.dense.weight");
            let found = self.found(&[(&fc1, 0)]).first().map(|found| found.0);
            Transformer {
                num_hidden_layers: self.size(name, None, &[], Some(layers.max(1))),
                intermediate_size: found.unwrap_or(text.intermediate_size),
                ..*text
            }
        };
        Joint { text: blocks("text_joint_layer"), image: blocks("img_joint_layer") }
    }

    /// Wukong's token learner, where there is one.
    fn token_learner(&self) -> Option<TokenLearner> {
        let maps = self.checkpoint.shape("token_learner.attention_maps.1.weight")?;
        let grouped = self.checkpoint.shape("token_learner.feat_conv.weight")?;
        let (&[tokens, width, ..], &[_, share, ..]) = (maps, grouped) else { return None };
        Some(TokenLearner { tokens, groups: width / share.max(1), width })
    }

    fn transformer(
        &mut self,
        name: &str,
        side: &Side,
        witnesses: &Witnesses,
        defaults: &Defaults,
    ) -> Transformer {
        let field = |field: &str| format!("{name}.{field}");
        let hidden_size = self.size(&field("hidden_size"), side.hidden_size, witnesses.width, None);
        let intermediate_size = self.size(
            &field("intermediate_size"),
            side.intermediate_size,
            &[(witnesses.fc1, 0)],
            None,
        );
        let layers = self.layers(witnesses.layers);
        let num_hidden_layers = match side.num_hidden_layers {
            Some(said) if layers > 0 && said != layers as u64 => {
                let allowed = format!("{layers} (blocks {}* in the weights)", witnesses.layers);
                self.problem(&field("num_hidden_layers"), said.to_string(), allowed);
                layers
            }
            _ if layers > 0 => layers,
            said => self.size(&field("num_hidden_layers"), said, &[], None),
        };
        let heads = side.num_attention_heads.unwrap_or(defaults.heads);
        if heads == 0 || heads > hidden_size as u64 || !(hidden_size as u64).is_multiple_of(heads) {
            let allowed = format!("a divisor of hidden_size = {hidden_size}");
            self.problem(&field("num_attention_heads"), heads.to_string(), allowed);
        }
        let eps = side.layer_norm_eps.unwrap_or(defaults.eps);
        if !(eps > 0.0 && eps < 1.0) {
            self.problem(
                &field("layer_norm_eps"),
                eps.to_string(),
                "a number between 0 and 1".into(),
            );
        }
        let act = side.hidden_act.as_deref().unwrap_or(defaults.act);
        let hidden_act = activation(act).unwrap_or_else(|| {
            self.problem(&field("hidden_act"), quote(act), "gelu or quick_gelu".into());
            Activation::Gelu
        });
        Transformer {
            hidden_size,
            num_hidden_layers,
            num_attention_heads: (heads.clamp(1, MAX_SIZE)) as usize,
            intermediate_size,
            layer_norm_eps: eps as f32,
            hidden_act,
        }
    }

    /// A size: as stated if any witness agrees or none exists, else as found.
    fn size(
        &mut self,
        field: &str,
        said: Option<u64>,
        witnesses: &[(&str, usize)],
        default: Option<usize>,
    ) -> usize {
        let found = self.found(witnesses);
        match (said, found.first()) {
            (Some(said), _) if said == 0 || said > MAX_SIZE => {
                self.problem(field, said.to_string(), format!("1 to {MAX_SIZE}"));
                found.first().map_or(1, |found| found.0)
            }
            (Some(said), Some((first, name)))
                if found.iter().all(|found| found.0 as u64 != said) =>
            {
                self.problem(field, said.to_string(), format!("{first} (tensor {name})"));
                *first
            }
            (Some(said), _) => said as usize,
            (None, Some((first, _))) => *first,
            (None, None) => default.unwrap_or_else(|| {
                self.problem(field, "missing".into(), "a size".into());
                1
            }),
        }
    }

    fn id(&mut self, field: &str, said: Option<u64>, default: u32) -> u32 {
        let Some(said) = said else { return default };
        u32::try_from(said).unwrap_or_else(|_| {
            self.problem(field, said.to_string(), "an id below 2³²".into());
            default
        })
    }

    fn found<'n>(&self, witnesses: &[(&'n str, usize)]) -> Vec<(usize, &'n str)> {
        let dim = |&(name, dim): &(&'n str, usize)| {
            let size = *self.checkpoint.shape(name)?.get(dim)?;
            (size > 0).then_some((size, name))
        };
        witnesses.iter().filter_map(dim).collect()
    }

    /// One more than the highest block number below `prefix`.
    fn layers(&self, prefix: &str) -> usize {
        let number =
            |name: &str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        self.checkpoint.names().filter_map(number).max().map_or(0, |last| last.saturating_add(1))
    }

    fn problem(&mut self, field: &str, value: String, allowed: String) {
        self.problems.push(Error::ConfigField { field: field.to_owned(), value, allowed });
    }
}

/// The fields that decide what is computed.
const MEANINGFUL: &[&str] = &[
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "layer_norm_eps",
    "hidden_act",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
    "pad_token_id",
    "project_dim",
    "image_size",
    "patch_size",
    "num_channels",
];

fn conflict(side: &str, field: &str, ours: Option<&Value>, theirs: &Value, stale: bool) -> Report {
    let obeyed = if stale {
        "config_dict does not fit the weights and is ignored"
    } else {
        "config_dict is obeyed"
    };
    let ours = ours.map_or_else(|| "nothing".into(), |value| quote(&value.to_string()));
    let message = format!(
        "`{side}_config.{field}` is {ours}, `{side}_config_dict.{field}` {}",
        quote(&theirs.to_string())
    );
    Report::new(Code::W2122, "config", message)
        .place("config.json")
        .help(format!("{side}_{obeyed}, as transformers and the weights ask"))
}

fn activation(name: &str) -> Option<Activation> {
    match name {
        "gelu" => Some(Activation::Gelu),
        "quick_gelu" => Some(Activation::QuickGelu),
        _ => None,
    }
}
