//! What can be typed. Names of flags are kebab-case; most are also `ALTCLIP_*` variables.

pub(crate) mod config_file;
mod eval;
mod number;
mod search;
mod serve;
pub(crate) mod train;

pub(crate) use eval::{
    Eval, EvalCompare, EvalConsistency, EvalLinearProbe, EvalRetrieval, EvalRun, EvalTable,
    EvalTask, EvalZeroshot,
};
pub(crate) use search::{
    Index, IndexAdd, IndexDuplicates, IndexExport, IndexHubs, IndexImport, IndexPath, IndexRead,
    IndexRemove, IndexRepair, IndexTask, IndexUpdate, Search,
};
pub(crate) use serve::Serve;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Pictures and sentences of many languages in one space.
#[derive(Parser)]
#[command(name = "altclip", version, about, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// No progress and no warnings on stderr
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    /// How errors are written to stderr
    #[arg(long, global = true, value_enum, default_value_t = ErrorFormat::Text)]
    pub(crate) error_format: ErrorFormat,
}

const EXAMPLES: &str = "Examples:
  altclip download BAAI/AltCLIP
  altclip classify --model BAAI/AltCLIP --label 一只猫 --label 'a dog' cat.jpg
  altclip embed --model BAAI/AltCLIP --image photos/ --json > photos.jsonl

Exit status: 0 done, 2 usage, 3 input refused, 4 model refused, 5 index refused, 6 resource, 7 file or network,
8 training's numbers, 70 bug, 75 training interrupted and saved.";

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ErrorFormat {
    /// One line for a person
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Texts and pictures to vectors
    #[command(visible_alias = "inference", after_help = EMBED_EXAMPLES)]
    Embed(Embed),
    /// Which label fits a picture
    #[command(after_help = CLASSIFY_EXAMPLES)]
    Classify(Classify),
    /// Cosines between pictures and texts, or between texts
    #[command(after_help = "Example:
  altclip similarity --model AltCLIP --text 一只猫 --text 'a cat' --text 'a dog'
  altclip similarity --model AltCLIP --image cat.jpg --text 一只猫 --text 'a dog' --json")]
    Similarity(Similarity),
    /// An index of pictures: made, kept up to date, checked
    Index(Box<Index>),
    /// Finds pictures with words, in any language of the model, or says that nothing matches
    #[command(after_help = SEARCH_EXAMPLES)]
    Search(Box<Search>),
    /// A server that existing clients speak to, and a page to search with
    #[command(visible_alias = "back", after_help = SERVE_EXAMPLES)]
    Serve(Box<Serve>),
    /// Texts to token ids
    #[command(after_help = "Example:
  altclip tokenize --model AltCLIP --json -- 一只猫 'a dog'")]
    Tokenize(Tokenize),
    /// A picture to the pixel values that the model takes
    #[command(after_help = "Example:
  altclip preprocess --model AltCLIP cat.jpg --out cat.npy")]
    Preprocess(Preprocess),
    /// What a model folder holds, without reading its weights
    #[command(after_help = "Example:
  altclip info --model BAAI/AltCLIP-m18 --json")]
    Info(Info),
    /// A model from the hub into the standard cache
    #[command(after_help = "Example:
  altclip download BAAI/AltCLIP
  HF_ENDPOINT=https://mirror.example altclip download BAAI/AltCLIP-m18 --revision main

Variables: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE,
HF_HUB_DOWNLOAD_TIMEOUT, HF_HUB_DISABLE_PROGRESS_BARS.")]
    Download(Download),
    /// A miniature model finds pictures in eight languages; no network, no model needed
    #[command(after_help = "Example:
  altclip demo
  altclip demo --out found.html --json")]
    Demo(Demo),
    /// Trains a model
    #[command(subcommand)]
    Train(Box<train::Train>),
    /// How fast this machine runs a model
    #[command(after_help = "Examples:
  altclip bench
  altclip bench --precision bf16 --batch 8 --json
  altclip bench --tower text --lengths 5..77 --texts 256 --batch 32
  altclip bench --images photos/ --precision bf16 --json")]
    Bench(Bench),
    /// Whether this machine and a model folder are in order
    #[command(after_help = "Example:
  altclip doctor
  altclip doctor --model BAAI/AltCLIP --full
  altclip doctor --model BAAI/AltCLIP --accuracy --images photos/")]
    Doctor(Doctor),
    /// How good a model or its embeddings are at a task
    Eval(Eval),
    /// A model folder to one packed file that starts at once
    #[command(after_help = "Example:
  altclip convert --model BAAI/AltCLIP --precision int8 --out altclip-int8.altclip
  altclip classify --model altclip-int8.altclip --label 一只猫 --label 'a dog' cat.jpg")]
    Convert(Convert),
    /// A completion script for a shell
    #[command(after_help = "Example:
  altclip completions bash > ~/.local/share/bash-completion/completions/altclip")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const EMBED_EXAMPLES: &str = "Examples:
  altclip embed --model BAAI/AltCLIP --text 一只猫 --text 'a cat' --json
  altclip embed --model BAAI/AltCLIP --image photos/ --max-bad 1% --json > photos.jsonl
  altclip embed --model BAAI/AltCLIP --image photos/ --format npy --out dump
  altclip embed --model BAAI/AltCLIP --shards 'laion/{00000..00999}.tar' --shard $SLURM_ARRAY_TASK_ID/64 --out dump

A bad input becomes a row with an `error`, the others go on; with more bad inputs than --max-bad
the exit status is that of the first of them.";

const SEARCH_EXAMPLES: &str = "Examples:
  altclip search 一只猫 --index pictures.index
  altclip search '红色 + car - \"traffic light\"' --index pictures.index --json
  altclip search 'beach AND NOT people' --index pictures.index --since 2024-06 --html found.html --open
  altclip search --image cat.jpg --index pictures.index --top-k 20

+ and - stand alone between words and add or take away; 2*red is a weight; AND, OR, NOT and parentheses
join probabilities. p_match is the probability that a picture is a true match, where that is known.";

const SERVE_EXAMPLES: &str = "Examples:
  altclip serve --model BAAI/AltCLIP --index pictures.index
  ALTCLIP_API_KEY=$(openssl rand -hex 32) altclip serve --model BAAI/AltCLIP --host 0.0.0.0
  curl localhost:8000/v1/embeddings -H 'content-type: application/json' -d '{\"input\": [\"一只猫\"]}'

One line on stdout says where it listens; the log is JSON Lines on stderr. SIGTERM ends it once it has answered
what it accepted, a second one at once. /docs describes the routes.";

const CLASSIFY_EXAMPLES: &str = "Examples:
  altclip classify --model BAAI/AltCLIP --label 一只猫 --label 'a dog' cat.jpg
  altclip classify --model BAAI/AltCLIP --label 猫 --label 狗 --template '一张{}的照片' photos/ --json";

/// Which model, and how it runs.
#[derive(Args, Clone)]
pub(crate) struct ModelArgs {
    /// A model folder, a packed .altclip file, or the hub id of a downloaded model
    #[arg(long, env = "ALTCLIP_MODEL", value_name = "DIR|FILE|ORG/NAME")]
    pub(crate) model: Option<PathBuf>,
    /// Accept tensors that the model does not use
    #[arg(long)]
    pub(crate) allow_extra_keys: bool,
}

#[derive(Args, Clone)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Numeric format of weights and activations [default: f32, or that of the index]
    #[arg(long, env = "ALTCLIP_PRECISION", value_enum)]
    pub(crate) precision: Option<Precision>,
    /// Keep nothing in ALTCLIP_CACHE [default: the user's cache folder]: no packed weights (those of f32
    /// never are) and no embeddings that `eval` computed
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Number of threads [default: as many as the process may use]
    #[arg(long, env = "ALTCLIP_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Longest text in tokens; longer ones are truncated, and say so
    #[arg(long, env = "ALTCLIP_MAX_LENGTH", value_name = "N", default_value_t = 77, value_parser = clap::value_parser!(u16).range(2..=8192))]
    pub(crate) max_length: u16,
    #[command(flatten)]
    pub(crate) pictures: PictureArgs,
    /// Weights are copied, so that files that change harm nothing
    #[arg(skip)]
    pub(crate) own_memory: bool,
}

#[derive(Args, Clone, Default)]
pub(crate) struct PictureArgs {
    /// Turn pictures as their EXIF orientation says (the reference does not)
    #[arg(long)]
    pub(crate) exif_orient: bool,
    /// What becomes of transparency: the reference drops it
    #[arg(long, value_enum, default_value_t = Alpha::Drop)]
    pub(crate) alpha: Alpha,
    /// Largest picture in pixels
    #[arg(long, value_name = "N", default_value_t = 64_000_000)]
    pub(crate) max_pixels: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Alpha {
    /// Show the colours under it
    #[default]
    Drop,
    /// Put the picture on white
    Composite,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// 32-bit floating point: the reference's numbers
    F32,
    /// bfloat16 weights and products
    Bf16,
    /// 8-bit weights and products where that keeps 2 %, else bf16
    Int8,
}

impl From<Precision> for altclip::tensor::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::Int8 => Self::Int8,
        }
    }
}

#[derive(Args)]
pub(crate) struct Embed {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// A text (may be repeated)
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Vec<OsString>,
    /// A file with one text a line, `-` for stdin (may be repeated)
    #[arg(long, value_name = "FILE")]
    pub(crate) texts: Vec<PathBuf>,
    /// A picture, or a folder of pictures (may be repeated)
    #[arg(long, value_name = "PATH")]
    pub(crate) image: Vec<PathBuf>,
    /// Leave the vectors at their length
    #[arg(long)]
    pub(crate) no_normalize: bool,
    /// Bad inputs that do not fail the command: a number or a percentage
    #[arg(long, value_name = "N|P%", default_value = "0")]
    pub(crate) max_bad: MaxBad,
    /// Rows on stdout, or a folder of .npy files
    #[arg(long, value_enum, default_value_t = Format::Rows)]
    pub(crate) format: Format,
    /// The folder for --format npy, which must not exist yet, or for --shards
    #[arg(long, value_name = "DIR", required_if_eq("format", "npy"))]
    pub(crate) out: Option<PathBuf>,
    /// Webdataset shards instead: a .tar file, a folder or a range such as data/{0000..0099}.tar. Each
    /// becomes an array and a table in --out; what is there already is not computed again
    #[arg(long, value_name = "TAR", requires = "out", conflicts_with_all = ["text", "texts", "image"])]
    pub(crate) shards: Vec<PathBuf>,
    /// Only every N-th shard, from number I on: one part of N that run beside each other
    #[arg(long, value_name = "I/N", requires = "shards", default_value = "0/1")]
    pub(crate) shard: Part,
    /// JSON Lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A row for each input on stdout
    Rows,
    /// img_emb/, text_emb/, metadata/ and manifest.json, as clip-retrieval lays them out
    Npy,
}

/// A part of the work: number and count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: usize,
    pub(crate) count: usize,
}

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((number, count)) if number < count => Ok(Self { number, count }),
            _ => Err(format!("`{text}` is not a part such as 0/8, with numbers from 0 on")),
        }
    }
}

/// A budget of bad inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MaxBad {
    Count(u64),
    Percent(f64),
}

impl std::str::FromStr for MaxBad {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is neither a number nor a percentage from 0% to 100%");
        match text.strip_suffix('%') {
            None => text.parse().map(MaxBad::Count).map_err(|_| bad()),
            Some(percent) => match percent.parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(MaxBad::Percent(percent)),
                _ => Err(bad()),
            },
        }
    }
}

impl MaxBad {
    /// Whether `bad` of `all` inputs are within the budget.
    pub(crate) fn allows(self, bad: u64, all: u64) -> bool {
        match self {
            MaxBad::Count(limit) => bad <= limit,
            MaxBad::Percent(percent) => bad as f64 <= percent / 100.0 * all as f64,
        }
    }
}

#[derive(Args)]
pub(crate) struct Classify {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// A label, in any language of the model (may be repeated)
    #[arg(long, required = true, value_name = "LABEL")]
    pub(crate) label: Vec<String>,
    /// A caption with {} for the label (may be repeated: the mean is used)
    #[arg(long, value_name = "TEXT")]
    pub(crate) template: Vec<String>,
    /// Pictures, or folders of pictures
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// Bad inputs that do not fail the command: a number or a percentage
    #[arg(long, value_name = "N|P%", default_value = "0")]
    pub(crate) max_bad: MaxBad,
    /// JSON Lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Similarity {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// A text (may be repeated)
    #[arg(long, required = true, value_name = "TEXT")]
    pub(crate) text: Vec<String>,
    /// A picture (may be repeated)
    #[arg(long, value_name = "PATH")]
    pub(crate) image: Vec<PathBuf>,
    /// JSON Lines, one for each pair
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Tokenize {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Longest text in tokens
    #[arg(long, env = "ALTCLIP_MAX_LENGTH", value_name = "N", default_value_t = 77, value_parser = clap::value_parser!(u16).range(2..=8192))]
    pub(crate) max_length: u16,
    /// Texts
    #[arg(required = true, value_name = "TEXT")]
    pub(crate) texts: Vec<OsString>,
    /// JSON Lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Preprocess {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) pictures: PictureArgs,
    /// A picture
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,
    /// The .npy file to write, float32 [3, height, width]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Say what was written as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Convert {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Numeric format of the packed weights
    #[arg(long, value_enum)]
    pub(crate) precision: PackedPrecision,
    /// Pictures of yours, or a folder of them, that rounding is fitted to [default: made by formula]
    #[arg(long, value_name = "DIR")]
    pub(crate) calibrate: Option<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "FILE.altclip")]
    pub(crate) out: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Number of threads [default: as many as the process may use]
    #[arg(long, env = "ALTCLIP_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// A precision that a packed file can have.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PackedPrecision {
    /// bfloat16
    Bf16,
    /// 8-bit integers inside the towers, bfloat16 at their ends
    Int8,
}

#[derive(Args)]
pub(crate) struct Demo {
    /// The page to write
    #[arg(long, value_name = "FILE.html", default_value = "altclip-demo.html")]
    pub(crate) out: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// One JSON object a query
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Download {
    /// The repository, such as BAAI/AltCLIP
    #[arg(value_name = "ORG/NAME")]
    pub(crate) repo: String,
    /// Branch, tag or commit
    #[arg(long, default_value = "main")]
    pub(crate) revision: String,
    /// One JSON object at the end
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The shape, if no model is named; its weights are random
    #[arg(long, value_enum, default_value_t = Arch::Altclip)]
    pub(crate) arch: Arch,
    /// One tower only
    #[arg(long, value_enum)]
    pub(crate) tower: Option<BenchTower>,
    /// Numeric format of weights and activations
    #[arg(long, env = "ALTCLIP_PRECISION", value_enum, default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
    /// Pictures or texts at a time [default: 1, or the pipeline's own with --images]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) batch: Option<usize>,
    /// End to end instead, from the picture files of a folder to rows
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tower", "tokens", "lengths", "texts"])]
    pub(crate) images: Option<PathBuf>,
    /// Tokens of each text
    #[arg(long, value_name = "S", default_value_t = 16, value_parser = at_least_one)]
    pub(crate) tokens: usize,
    /// Texts of different lengths instead, uniform from A to B
    #[arg(long, value_name = "A..B", value_parser = length_range)]
    pub(crate) lengths: Option<std::ops::RangeInclusive<usize>>,
    /// How many texts with --lengths
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) texts: usize,
    /// Number of threads [default: as many as the process may use]
    #[arg(long, env = "ALTCLIP_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// JSON Lines, one for each tower
    #[arg(long)]
    pub(crate) json: bool,
}

impl Bench {
    /// Items at a time where a tower alone is measured.
    pub(crate) fn batch(&self) -> usize {
        self.batch.unwrap_or(1)
    }

    pub(crate) fn threads(&self) -> usize {
        threads(self.threads)
    }
}

/// Threads as typed, or as many as the process may use.
pub(crate) fn threads(typed: Option<u16>) -> usize {
    typed.map_or_else(|| altclip::LoadOptions::default().threads, usize::from)
}

/// Largest batch, text and number of texts of a measurement.
const MOST: usize = 65_536;

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a number from 1 to {MOST}"))
}

fn length_range(text: &str) -> Result<std::ops::RangeInclusive<usize>, String> {
    let bad = || format!("`{text}` is not a range such as 5..77");
    let (first, last) = text.split_once("..").ok_or_else(bad)?;
    let (first, last) = (at_least_one(first)?, at_least_one(last.trim_start_matches('='))?);
    if first <= last { Ok(first..=last) } else { Err(bad()) }
}

/// A published shape.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    /// ViT-L/14 and XLM-R-large; also -m9
    Altclip,
    /// ViT-H/14 and XLM-R-large
    AltclipM18,
}

impl Arch {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Arch::Altclip => "altclip",
            Arch::AltclipM18 => "altclip-m18",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchTower {
    /// The vision tower
    Image,
    /// The text tower
    Text,
}

#[derive(Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Read every weight and check that it is finite
    #[arg(long)]
    pub(crate) full: bool,
    /// Compare bf16 and int8 with f32, on --images or on pictures made by formula
    #[arg(long)]
    pub(crate) accuracy: bool,
    /// Pictures, or a folder of them, for --accuracy
    #[arg(long, value_name = "DIR", requires = "accuracy")]
    pub(crate) images: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn budgets_of_bad_inputs() {
        let parse = |text: &str| text.parse::<MaxBad>();
        assert!(parse("3").unwrap().allows(3, 3) && !parse("3").unwrap().allows(4, 100));
        assert!(parse("1%").unwrap().allows(1, 100) && !parse("1%").unwrap().allows(2, 100));
        for bad in ["", "-1", "%", "101%", "NaN%", "x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
