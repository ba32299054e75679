//! Where a run starts: model folders, or a configuration and random numbers; and the folder that it
//! leaves behind.

use crate::parameters::{LOGIT_SCALE, Parameter, Parameters, is_norm};
use crate::random::Random;
use crate::{Error, Result};
use altclip_checkpoint::{
    Checkpoint, Dtype, Expected, TensorData, TensorToWrite, write_safetensors,
};
use altclip_kernels::Pool;
use altclip_models::config::{AltClipText, Model, Text, Transformer};
use altclip_models::original::is_classifier;
use altclip_models::weights::canonical_name;
use altclip_models::{Family, Opened};
use altclip_tensor::Activation;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A model to be trained: its sizes, its weights and the small files of its folder.
pub struct Start {
    /// The sizes.
    pub model: Model,
    /// The weights.
    pub parameters: Parameters,
    /// Files that the new folder gets as they are: the tokenizer's and the preprocessor's.
    pub files: Vec<PathBuf>,
    /// Tensors of the model.
    expected: Vec<Expected>,
}

/// Files of a tokenizer, as folders of the hub have them.
const TOKENIZER_FILES: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
];
const PREPROCESSOR: &str = "preprocessor_config.json";
/// Blocks of a tower that is made of random numbers; no published one has a tenth of them.
const MAX_LAYERS: usize = 512;

/// What one side of a folder brings along.
struct Folder {
    dir: PathBuf,
    config: Vec<u8>,
    checkpoint: Option<Checkpoint>,
}

impl Folder {
    /// `config.json`, and the weights if there are any.
    fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let not_trainable = |kind| Err(Error::NotTrainable { path: dir.to_owned(), kind });
        if dir.is_file() {
            return not_trainable("an author's own weight file or a packed one");
        }
        let config = match std::fs::read(&path) {
            Ok(config) if is_classifier(&config) => return not_trainable("Taiyi-CLIP"),
            Ok(config) => config,
            // Weights without settings are as their authors publish them.
            Err(_) if Checkpoint::open(dir).is_ok() => {
                return not_trainable("a folder with an author's own weight file");
            }
            Err(source) => return Err(Error::Read { path, source }),
        };
        let checkpoint = match Checkpoint::open(dir) {
            Ok(checkpoint) => Some(checkpoint),
            Err(altclip_checkpoint::Error::NoWeights { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { dir: dir.to_owned(), config, checkpoint })
    }

    /// The whole model; nothing of it is read yet.
    fn opened(&mut self) -> Result<Opened> {
        let checkpoint = self.checkpoint.take();
        let missing = || altclip_checkpoint::Error::NoWeights { dir: self.dir.clone() };
        Ok(Opened::open(checkpoint.ok_or_else(missing)?, &self.config, true)?)
    }

    fn files(&self, names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| self.dir.join(name)).filter(|path| path.is_file()).collect()
    }
}

impl Start {
    /// A whole model folder, of which the tensors named by `is_trained` are trained.
    ///
    /// # Errors
    /// The folder is incomplete or damaged.
    pub fn of_model(dir: &Path, is_trained: &dyn Fn(&str) -> bool) -> Result<Self> {
        let mut folder = Folder::open(dir)?;
        let opened = folder.opened()?;
        let kind = match opened.family() {
            Family::AltClip | Family::Clip | Family::ChineseClip => None,
            Family::AltClipText => {
                return Err(altclip_models::Error::NoTower("vision tower").into());
            }
            Family::TaiyiClip => Some("Taiyi-CLIP"),
            Family::Prd2 => Some("PRD2"),
            Family::R2d2 => Some("R2D2"),
            Family::Wukong => Some("Wukong"),
        };
        if let Some(kind) = kind {
            return Err(Error::NotTrainable { path: dir.to_owned(), kind });
        }
        let (model, files) = (*opened.config(), opened.files());
        let expected = model.tensors()?;
        let parameters = Parameters::of_files(&expected, files, is_trained)?;
        let mut files = folder.files(&TOKENIZER_FILES);
        files.extend(folder.files(&[PREPROCESSOR]));
        Ok(Self { model, parameters, files, expected })
    }

    /// A student text tower for a teacher, CLIP or AltCLIP: an AltCLIP whose vision tower, projections
    /// and `logit_scale` are the teacher's. All of the text tower is trained.
    ///
    /// `student` is a folder of XLM-RoBERTa (the head is new), of an AltCLIP (its head goes on) or of
    /// `config.json` and tokenizer alone (random start).
    ///
    /// # Errors
    /// A folder is incomplete, or the two do not fit.
    pub fn of_student(student: &Path, teacher: &Path, seed: u64, pool: &Pool) -> Result<Self> {
        let (student, mut teacher) = (Folder::open(student)?, Folder::open(teacher)?);
        let opened = teacher.opened()?;
        if matches!(opened.config().text, Text::Bert(_)) || opened.config().vision.is_none() {
            return Err(Error::NotATeacher { dir: teacher.dir });
        }
        let width = opened.config().text.width();
        let mut weights = student.checkpoint.unwrap_or_else(Checkpoint::empty);
        let bare = weights.names().any(|name| name.starts_with("embeddings."));
        weights.rename(&|name| student_name(name, bare))?;
        let text = student_text(&student.config, &weights, width)?;
        if text.project_dim != width {
            return Err(Error::Width {
                what: "project_dim of the student, which imitates the teacher's states",
                found: text.project_dim,
                expected: width,
            });
        }
        let model = Model { text: Text::AltClip(text), ..*opened.config() };
        let expected = model.tensors()?;
        let from_random = weights.names().next().is_none();
        let mut trained = Vec::new();
        for tensor in expected.iter().filter(|tensor| tensor.name.starts_with("text_model.")) {
            let values = match weights.shape(&tensor.name) {
                Some(shape) if shape == tensor.shape => weights.read_f32(&tensor.name)?,
                Some(shape) => {
                    return Err(altclip_checkpoint::Error::ShapeMismatch {
                        name: tensor.name.clone(),
                        file: student.dir,
                        found: shape.to_vec(),
                        expected: tensor.shape.clone(),
                    }
                    .into());
                }
                None if from_random || is_head(&tensor.name) => {
                    random_tensor(pool, seed, &model, tensor)
                }
                None => {
                    let name = tensor.name.clone();
                    return Err(
                        altclip_checkpoint::Error::TensorMissing { name, nearest: None }.into()
                    );
                }
            };
            trained.push(Parameter::new(&tensor.name, &tensor.shape, values));
        }
        let mut files: Vec<PathBuf> = TOKENIZER_FILES
            .iter()
            .map(|name| student.dir.join(name))
            .filter(|path| path.is_file())
            .collect();
        files.extend(teacher.files(&[PREPROCESSOR]));
        Ok(Self {
            model,
            parameters: Parameters::new(trained, Some(opened.files())),
            files,
            expected,
        })
    }

    /// A CLIP or AltCLIP of the sizes of `config` with random weights, all of them trained. Its
    /// tokenizer's and preprocessor's files lie beside `config`.
    ///
    /// # Errors
    /// The configuration is not valid.
    pub fn of_config(config: &Path, seed: u64, pool: &Pool) -> Result<Self> {
        let bytes = std::fs::read(config)
            .map_err(|source| Error::Read { path: config.to_owned(), source })?;
        let model = Model::read(&bytes, &Checkpoint::empty())?;
        if model.vision.is_none() {
            return Err(altclip_models::Error::NoTower("vision tower").into());
        }
        if let Some(vision) = &model.vision
            && !(1..=vision.image_size).contains(&vision.patch_size)
        {
            return Err(Error::Size {
                what: "patch_size",
                found: vision.patch_size,
                limits: 1..=vision.image_size,
            });
        }
        let depths =
            [Some(model.text.blocks()), model.vision.as_ref().map(|vision| &vision.blocks)];
        for blocks in depths.into_iter().flatten() {
            let (what, found) = ("num_hidden_layers", blocks.num_hidden_layers);
            if !(1..=MAX_LAYERS).contains(&found) {
                return Err(Error::Size { what, found, limits: 1..=MAX_LAYERS });
            }
        }
        let expected = model.tensors()?;
        let tensor = |tensor: &Expected| {
            Parameter::new(&tensor.name, &tensor.shape, random_tensor(pool, seed, &model, tensor))
        };
        let trained = expected.iter().map(tensor).collect();
        let dir = config.parent().unwrap_or(Path::new("")).to_owned();
        let folder = Folder { dir, config: bytes, checkpoint: None };
        let mut files = folder.files(&TOKENIZER_FILES);
        files.extend(folder.files(&[PREPROCESSOR]));
        Ok(Self { model, parameters: Parameters::new(trained, None), files, expected })
    }

    /// The tensors of the model.
    pub fn expected(&self) -> &[Expected] {
        &self.expected
    }

    /// Writes a complete model folder in the layout of the hub, which transformers loads: its weights
    /// by `read`, as f32 or in half the space as `bf16`.
    ///
    /// # Errors
    /// A file cannot be written, or a tensor not be read.
    pub fn write(&self, dir: &Path, bf16: bool) -> Result<()> {
        let fault = |path: PathBuf| move |source| Error::Write { path, source };
        std::fs::create_dir_all(dir).map_err(fault(dir.to_owned()))?;
        for file in &self.files {
            let Some(name) = file.file_name() else { continue };
            let to = dir.join(name);
            let same = std::fs::canonicalize(&to).ok() == std::fs::canonicalize(file).ok();
            if !same || !to.exists() {
                std::fs::copy(file, &to).map_err(fault(to.clone()))?;
            }
        }
        let config = dir.join("config.json");
        let json =
            serde_json::to_string_pretty(&config_json(&self.model, bf16)).unwrap_or_default();
        std::fs::write(&config, json + "\n").map_err(fault(config))?;
        let tensor = |tensor: &Expected| TensorToWrite {
            name: tensor.name.clone(),
            dtype: if bf16 { Dtype::BF16 } else { Dtype::F32 },
            shape: tensor.shape.clone(),
            data: TensorData::Stream(Box::new({
                let name = tensor.name.clone();
                move |out: &mut dyn std::io::Write| {
                    let values = self.parameters.read(&name).map_err(std::io::Error::other)?;
                    for chunk in values.chunks(4096) {
                        let bytes: Vec<u8> = if bf16 {
                            let narrow = |v: &f32| half::bf16::from_f32(*v).to_le_bytes();
                            chunk.iter().flat_map(narrow).collect()
                        } else {
                            chunk.iter().flat_map(|v| v.to_le_bytes()).collect()
                        };
                        out.write_all(&bytes)?;
                    }
                    Ok(())
                }
            })),
        };
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let path = dir.join("model.safetensors");
        write_safetensors(&path, self.expected.iter().map(tensor), &metadata)?;
        Ok(())
    }
}

/// The name in an AltCLIP of a tensor of XLM-RoBERTa (alone, below `roberta.`, or with a head on top).
fn student_name(name: &str, bare: bool) -> Option<String> {
    if bare && ["embeddings.", "encoder.", "pooler."].iter().any(|part| name.starts_with(part)) {
        return canonical_name(&format!("roberta.{name}"), true);
    }
    canonical_name(name, true)
}

/// The head that XLM-RoBERTa does not have.
fn is_head(name: &str) -> bool {
    name.starts_with("text_model.pre_LN.") || name.starts_with("text_model.transformation.")
}

/// The student's sizes; without a width of its own the head gets the teacher's.
fn student_text(config: &[u8], weights: &Checkpoint, width: usize) -> Result<AltClipText> {
    let value: Value =
        serde_json::from_slice(config).map_err(altclip_models::Error::ConfigSyntax)?;
    let whole = value.get("text_config").filter(|text| text.is_object());
    let mut side = whole.unwrap_or(&value).clone();
    if let Some(fields) = side.as_object_mut() {
        fields.entry("project_dim").or_insert(json!(width));
    }
    // Sizes are taken from the text tower alone, whatever else the folder holds.
    let json = json!({ "model_type": "altclip", "text_config": side }).to_string();
    let mut text_only = Checkpoint::empty();
    let model = if weights.names().any(|name| name.starts_with("vision_model.")) {
        Model::read(config, weights)?
    } else {
        let source = if weights.names().next().is_some() { weights } else { &mut text_only };
        Model::read(json.as_bytes(), source)?
    };
    match model.text {
        Text::AltClip(text) => Ok(text),
        Text::Clip(_) | Text::Bert(_) => Err(Error::NotAStudent),
    }
}

/// First values, as transformers' AltCLIP and CLIP have them: normal matrices, zero biases, norms of
/// one. The scale is that of the paper, `ln(1 / 0.07)`.
///
/// # Source
/// huggingface/transformers 5.23, `_init_weights` of `models/clip/modeling_clip.py`; Radford et al.,
/// arXiv 2103.00020, section 2.5.
fn random_tensor(pool: &Pool, seed: u64, model: &Model, tensor: &Expected) -> Vec<f32> {
    let name = tensor.name.as_str();
    let len = tensor.shape.iter().product();
    if name == LOGIT_SCALE {
        return vec![(1.0f32 / 0.07).ln(); len];
    }
    if name.ends_with(".bias") {
        return vec![0.0; len];
    }
    if is_norm(name) {
        return vec![1.0; len];
    }
    let std = deviation(model, name);
    let mut values = vec![0.0; len];
    Random::named(seed, name).fill_normal(pool, std, &mut values);
    // The row of the pad token is zero and never looked up.
    if let (Text::AltClip(text), true) = (&model.text, name.contains("word_embeddings")) {
        let width = text.bert.blocks.hidden_size;
        let start = text.bert.pad_token_id as usize * width;
        values.get_mut(start..start + width).into_iter().flatten().for_each(|value| *value = 0.0);
    }
    values
}

fn deviation(model: &Model, name: &str) -> f64 {
    let inverse_root = |n: usize| (n as f64).sqrt().recip();
    let block = |blocks: &Transformer| {
        let depth = inverse_root(2 * blocks.num_hidden_layers);
        let width = blocks.hidden_size;
        if name.contains("mlp.fc1") {
            inverse_root(2 * width)
        } else if name.contains("out_proj") {
            inverse_root(width)
        } else {
            // Queries, keys, values and the map that leads back into the residual.
            inverse_root(width) * depth
        }
    };
    match (&model.text, &model.vision) {
        (_, Some(vision)) if name.starts_with("vision_model.encoder.") => block(&vision.blocks),
        (Text::Clip(text), _) if name.starts_with("text_model.encoder.") => block(&text.blocks),
        (_, Some(vision)) if name == "vision_model.embeddings.class_embedding" => {
            inverse_root(vision.blocks.hidden_size)
        }
        (_, Some(vision)) if name == "visual_projection.weight" => {
            inverse_root(vision.blocks.hidden_size)
        }
        (text, _) if name == "text_projection.weight" => inverse_root(text.width()),
        _ => 0.02,
    }
}

/// `config.json` of a model, with every size written out.
pub fn config_json(model: &Model, bf16: bool) -> Value {
    let act = |activation: Activation| match activation {
        Activation::QuickGelu => "quick_gelu",
        _ => "gelu",
    };
    let blocks = |blocks: &Transformer| {
        let mut fields = Map::new();
        fields.insert("hidden_size".into(), json!(blocks.hidden_size));
        fields.insert("intermediate_size".into(), json!(blocks.intermediate_size));
        fields.insert("num_hidden_layers".into(), json!(blocks.num_hidden_layers));
        fields.insert("num_attention_heads".into(), json!(blocks.num_attention_heads));
        fields.insert("hidden_act".into(), json!(act(blocks.hidden_act)));
        fields.insert("layer_norm_eps".into(), json!(shortest(blocks.layer_norm_eps)));
        fields
    };
    let (family, text) = match &model.text {
        Text::AltClip(text) => {
            let mut fields = blocks(&text.bert.blocks);
            fields.insert("model_type".into(), json!("altclip_text_model"));
            fields.insert("vocab_size".into(), json!(text.bert.vocab_size));
            fields
                .insert("max_position_embeddings".into(), json!(text.bert.max_position_embeddings));
            fields.insert("type_vocab_size".into(), json!(text.bert.type_vocab_size));
            fields.insert("pad_token_id".into(), json!(text.bert.pad_token_id));
            fields.insert("bos_token_id".into(), json!(0));
            fields.insert("eos_token_id".into(), json!(2));
            fields.insert("project_dim".into(), json!(text.project_dim));
            fields.insert("attention_probs_dropout_prob".into(), json!(0.0));
            fields.insert("hidden_dropout_prob".into(), json!(0.0));
            ("altclip", fields)
        }
        Text::Clip(text) => {
            let mut fields = blocks(&text.blocks);
            fields.insert("model_type".into(), json!("clip_text_model"));
            fields.insert("vocab_size".into(), json!(text.vocab_size));
            fields.insert("max_position_embeddings".into(), json!(text.max_position_embeddings));
            fields.insert("eos_token_id".into(), json!(text.eos_token_id));
            fields.insert("projection_dim".into(), json!(model.projection_dim));
            (model.family.name(), fields)
        }
        Text::Bert(text) => {
            let mut fields = blocks(&text.bert.blocks);
            fields.insert("model_type".into(), json!("chinese_clip_text_model"));
            fields.insert("vocab_size".into(), json!(text.bert.vocab_size));
            fields
                .insert("max_position_embeddings".into(), json!(text.bert.max_position_embeddings));
            fields.insert("type_vocab_size".into(), json!(text.bert.type_vocab_size));
            fields.insert("pad_token_id".into(), json!(text.bert.pad_token_id));
            (model.family.name(), fields)
        }
    };
    let mut config = Map::new();
    let class = match family {
        "altclip" => "AltCLIPModel",
        "chinese_clip" => "ChineseCLIPModel",
        _ => "CLIPModel",
    };
    config.insert("architectures".into(), json!([class]));
    config.insert("model_type".into(), json!(family));
    config.insert("projection_dim".into(), json!(model.projection_dim));
    config.insert("logit_scale_init_value".into(), json!(2.6592));
    config.insert("torch_dtype".into(), json!(if bf16 { "bfloat16" } else { "float32" }));
    config.insert("text_config".into(), Value::Object(text));
    if let Some(vision) = &model.vision {
        let mut fields = blocks(&vision.blocks);
        fields.insert("model_type".into(), json!(format!("{family}_vision_model")));
        fields.insert("image_size".into(), json!(vision.image_size));
        fields.insert("patch_size".into(), json!(vision.patch_size));
        fields.insert("num_channels".into(), json!(vision.num_channels));
        fields.insert("projection_dim".into(), json!(model.projection_dim));
        config.insert("vision_config".into(), Value::Object(fields));
    }
    Value::Object(config)
}

/// The number that a person would write: 1e-5, not 0.000009999999747378752.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
