//! What can be typed behind `altclip train`. Every flag is also a key of a run's `config.toml`.

use super::number::{below_1, not_negative, over_0, share};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;

/// The kinds of training.
#[derive(Subcommand)]
pub(crate) enum Train {
    /// Stage 1: a text tower of many languages learns from CLIP's, from parallel sentences alone
    #[command(after_help = "Example:
  altclip train distill --teacher clip-vit-large-patch14 --student xlm-roberta-large \\
      --pairs en-zh.tsv --out altclip-stage1

A line of the TSV file is teacher_text<TAB>student_text, used as given. OUT becomes a complete
AltCLIP folder. Run the same command with --resume after an interruption.")]
    Distill(Distill),
    /// Stage 2: the text tower on picture–text pairs, the image tower frozen
    #[command(after_help = "Example:
  altclip train contrastive --model altclip-stage1 --pairs captions.jsonl --images photos/ --out altclip

A line of the JSONL file is {\"image\": \"a.jpg\", \"text\": \"…\" or [\"…\", …], \"language\": \"zh\"}.")]
    Contrastive(Contrastive),
    /// A CLIP of its own: both towers from random numbers
    #[command(after_help = "Example:
  altclip train clip --config model/config.json --pairs captions.jsonl --images photos/ --out clip

The tokenizer's files and preprocessor_config.json lie beside config.json.")]
    Clip(Clip),
    /// A model on labelled pictures of yours
    #[command(after_help = "Examples:
  altclip train finetune --model BAAI/AltCLIP --data flowers/ --template 'a photo of a {}' --out tuned
  altclip train finetune --model BAAI/AltCLIP --data webdataset:cifar10/train --lora-rank 8 --out tuned

The folders' names, or classnames.txt, are the labels: words, never numbers.")]
    Finetune(Finetune),
}

/// What every run has.
#[derive(Args, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Run {
    /// The folder that the run leaves behind: the model, checkpoints, metrics, report
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Samples of an update
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_size: Option<u32>,
    /// Samples of one forward and backward pass; a larger batch is cut up, with the same result
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) chunk_size: u32,
    /// Updates of the whole run [default: as --epochs says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_steps: Option<u64>,
    /// Passes over the data
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) epochs: u32,
    /// Learning rate behind the warm-up
    #[arg(long, value_name = "X", value_parser = not_negative, allow_negative_numbers = true)]
    pub(crate) lr: Option<f64>,
    /// What the learning rate does behind the warm-up
    #[arg(long, value_enum)]
    pub(crate) lr_schedule: Option<LrSchedule>,
    /// Updates over which the learning rate rises from 0
    #[arg(long, value_name = "N")]
    pub(crate) warmup_steps: Option<u64>,
    /// Decay of weights that are no bias, norm or scale
    #[arg(long, value_name = "X", value_parser = not_negative, allow_negative_numbers = true)]
    pub(crate) weight_decay: Option<f64>,
    /// Memory of the gradient's mean
    #[arg(long, value_name = "X", value_parser = below_1, allow_negative_numbers = true)]
    pub(crate) beta1: Option<f64>,
    /// Memory of the gradient's square
    #[arg(long, value_name = "X", value_parser = below_1, allow_negative_numbers = true)]
    pub(crate) beta2: Option<f64>,
    /// Beside the root in the update
    #[arg(long, value_name = "X", value_parser = over_0, allow_negative_numbers = true)]
    pub(crate) eps: Option<f64>,
    /// Largest norm of all gradients together; 0 leaves them
    #[arg(long, value_name = "X", value_parser = not_negative, allow_negative_numbers = true)]
    pub(crate) grad_clip: Option<f64>,
    /// Damp gradients whose norm is more than Z deviations above its running mean; 0 leaves them
    #[arg(long, value_name = "Z", default_value_t = altclip_train::spike::LIMIT, value_parser = not_negative, allow_negative_numbers = true)]
    pub(crate) spike_guard: f64,
    /// How weights are updated
    #[arg(long, value_enum, default_value_t = Optimizer::Adamw)]
    pub(crate) optimizer: Optimizer,
    /// What products are computed in; weights are kept in f32
    #[arg(long, value_enum, default_value_t = TrainPrecision::F32)]
    pub(crate) precision: TrainPrecision,
    /// What all random numbers follow from
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Samples in the order of the data
    #[arg(long)]
    pub(crate) no_shuffle: bool,
    /// Longest text in tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=8192))]
    pub(crate) max_length: Option<u16>,
    /// Share of hidden activations that is dropped in the text tower
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = below_1, allow_negative_numbers = true)]
    pub(crate) dropout: f64,
    /// Compute a block's activations again instead of keeping them: less memory, a third more time
    #[arg(long)]
    pub(crate) checkpoint_activations: bool,
    /// Go on from the newest checkpoint in OUT: the newest that is whole, or with `exact` no older one
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "newest", value_name = "WHICH")]
    pub(crate) resume: Option<ResumeFrom>,
    /// Updates between checkpoints [default: a twentieth of the run, at most 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) save_every: Option<u64>,
    /// Checkpoints to keep beside the best
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) keep: u16,
    /// What to measure on: pairs, JSONL, with R@1 for each language; for `finetune` labelled pictures, as --data
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) eval: Vec<PathBuf>,
    /// Folder of the pictures of --eval [default: that of --images]
    #[arg(long, value_name = "DIR")]
    pub(crate) eval_images: Option<PathBuf>,
    /// Updates between measurements [default: a tenth of the run]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) eval_every: Option<u64>,
    /// End when so many measurements in a row brought nothing better, with the best model; needs --eval
    #[arg(long, value_name = "N", requires = "eval", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) patience: Option<u32>,
    /// Share of bad samples in the last 10,000 that ends the run
    #[arg(long, value_name = "SHARE", default_value = "1%")]
    pub(crate) max_bad: String,
    /// Go on although files changed after they were opened; the order of the data is another one then
    #[arg(long)]
    pub(crate) allow_changed: bool,
    /// Start although the pre-check found errors in the data
    #[arg(long)]
    pub(crate) ignore_check: bool,
    /// Write the model as bf16, in half the space
    #[arg(long)]
    pub(crate) save_bf16: bool,
    /// Number of threads [default: as many as the process may use]
    #[arg(long, env = "ALTCLIP_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// One JSON object about the finished run
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where a run's flags may also stand.
#[derive(Args, Clone, Serialize)]
pub(crate) struct ConfigFile {
    /// A TOML file with flags as keys, `batch-size = 256`; what is typed goes first
    #[arg(long, value_name = "FILE.toml")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Args, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Distill {
    /// A CLIP folder, or an AltCLIP that knows the teacher's language; its text tower is imitated, the rest
    /// becomes part of the new model
    #[arg(long, value_name = "DIR")]
    pub(crate) teacher: PathBuf,
    /// A folder of XLM-RoBERTa, of an AltCLIP, or of config.json and tokenizer alone (random start)
    #[arg(long, value_name = "DIR")]
    pub(crate) student: PathBuf,
    /// Parallel texts: TSV (teacher TAB student), JSONL or Parquet; .gz is read; several files are
    /// taken one after the other
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) pairs: Vec<PathBuf>,
    /// Names of the two columns of JSONL and Parquet files
    #[arg(long, value_name = "TEACHER,STUDENT", default_value = "source,target")]
    pub(crate) columns: String,
    /// Each sentence of the teacher is also a pair with itself, as AltCLIP's English–English pairs
    #[arg(long)]
    pub(crate) add_identity_pairs: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) config_file: ConfigFile,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) run: Run,
}

/// Pictures with captions.
#[derive(Args, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Captions {
    /// Pictures and captions: JSONL, CSV, Parquet, or webdataset:DIR; several are taken one after the
    /// other
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) pairs: Vec<PathBuf>,
    /// The folder that picture names are relative to
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
}

#[derive(Args, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Contrastive {
    /// An AltCLIP or CLIP folder
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) captions: Captions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) config_file: ConfigFile,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) run: Run,
}

#[derive(Args, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Clip {
    /// The config.json of the model to be; or a TOML file with flags as keys, in which `model-config`
    /// names it
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: PathBuf,
    /// The config.json of the model to be, where --config is a TOML file
    #[arg(long, value_name = "FILE.json")]
    pub(crate) model_config: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) captions: Captions,
    /// How training pictures are changed
    #[arg(long, value_enum, default_value_t = AugmentKind::Crop)]
    pub(crate) augment: AugmentKind,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) run: Run,
}

#[derive(Args, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Finetune {
    /// An AltCLIP or CLIP folder, `nano`, or the hub id of a downloaded model
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Labelled pictures: a folder of folders, or webdataset:DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// A caption with {} for the label; several are drawn from
    #[arg(long, value_name = "TEXT")]
    pub(crate) template: Vec<String>,
    /// What is trained
    #[arg(long, value_enum, default_value_t = Part::Full)]
    pub(crate) part: Part,
    /// Blocks of each tower, from the end, that `--part last` trains
    #[arg(long, value_name = "K", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) last: u16,
    /// Train low-rank updates of this rank in all maps of the blocks instead of the weights
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) lora_rank: Option<u16>,
    /// Factor of the low-rank updates, divided by the rank [default: twice the rank]
    #[arg(long, value_name = "X", requires = "lora_rank", value_parser = over_0, allow_negative_numbers = true)]
    pub(crate) lora_alpha: Option<f64>,
    /// Also write the low-rank updates alone, as PEFT names them, to OUT/adapter
    #[arg(long, requires = "lora_rank")]
    pub(crate) save_adapter: bool,
    /// Share of the tuned weights in the result; below 1 they are mixed with those of the start
    /// (WiSE-FT)
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share, allow_negative_numbers = true)]
    pub(crate) wise_ft: f64,
    /// How training pictures are changed
    #[arg(long, value_enum, default_value_t = AugmentKind::Crop)]
    pub(crate) augment: AugmentKind,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) config_file: ConfigFile,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) run: Run,
}

#[derive(Clone, Copy, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ResumeFrom {
    /// The newest checkpoint that is whole; steps that are lost are done again
    Newest,
    /// The newest checkpoint, or an error
    Exact,
}

#[derive(Clone, Copy, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LrSchedule {
    /// It stays
    Constant,
    /// Half a cosine down to 0
    Cosine,
    /// A straight line down to 0
    Linear,
}

#[derive(Clone, Copy, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Optimizer {
    /// Adam with decoupled weight decay
    Adamw,
    /// AdamW that makes smaller updates where its second moment is too small
    StableAdamw,
}

#[derive(Clone, Copy, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TrainPrecision {
    /// Single precision
    F32,
    /// Products in bfloat16
    Bf16,
}

#[derive(Clone, Copy, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AugmentKind {
    /// Pictures as they are
    None,
    /// Windows of at least 90 % of a picture
    Crop,
    /// Smaller windows, other colours and grounds: for small sets
    Strong,
}

#[derive(Clone, Copy, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// Both towers
    Full,
    /// The text tower
    Text,
    /// The image tower
    Image,
    /// The last blocks of both towers, and what follows them
    Last,
}
