//! `altclip eval`: one subcommand a task.

use super::{MaxBad, RunArgs};
use altclip_data::retrieval::SetSpec;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Eval {
    #[command(subcommand)]
    pub(crate) task: EvalTask,
}

#[derive(Subcommand)]
pub(crate) enum EvalTask {
    /// Whether texts find their images, and images their texts
    #[command(after_help = RETRIEVAL_HELP)]
    Retrieval(Box<EvalRetrieval>),
    /// Whether pictures get the name of their class
    #[command(after_help = ZEROSHOT_HELP)]
    Zeroshot(Box<EvalZeroshot>),
    /// How well a linear classifier on the embeddings does
    #[command(after_help = PROBE_HELP)]
    LinearProbe(Box<EvalLinearProbe>),
    /// Whether a query and its translation find the same pictures
    #[command(after_help = CONSISTENCY_HELP)]
    Consistency(Box<EvalConsistency>),
    /// The figures of two runs beside each other
    #[command(after_help = "Example:
  altclip eval compare before/flickr30k_….json after/flickr30k_….json")]
    Compare(EvalCompare),
    /// The figures of many runs, a row each, in the form of AltCLIP's README
    #[command(after_help = "Example:
  altclip eval table runs/* --markdown")]
    Table(EvalTable),
}

const RETRIEVAL_HELP: &str = "Examples:
  altclip eval retrieval --model BAAI/AltCLIP --dataset flickr30k:dataset_flickr30k.json --images flickr30k-images/ --language en --table
  altclip eval retrieval --model BAAI/AltCLIP --dataset jsonl:captions.jsonl --images photos/ --out report/
  altclip eval retrieval --image-embeddings images.npy --text-embeddings texts.npy \\
    --text-image-index index.npy --languages languages.txt --out report/

Datasets: jsonl:FILE, csv:FILE, parquet:FILE (image, text, language); webdataset:DIR;
flickr30k:FILE, mscoco:FILE (Karpathy's JSON); flickr30k-cn:FILE, coco-cn:FILE (ID#N caption);
muge:DIR, chinese-clip:DIR (SPLIT_imgs.tsv, SPLIT_texts.jsonl); xtd:DIR; crossmodal-3600:FILE.

Recall is CLIP's: a text finds its image, an image any of its texts, among the first 1, 5 or 10. JSON has
CLIP_benchmark's names and shares from 0 to 1. Rows need not be normalised. Of equal similarities the
lower row comes first. A dataset gives one result for each of its languages, with the images that the
language speaks of. Where a text fits several images (MUGE) any of them is a hit, and MUGE's own figure, the
mean of the three from text to image, is given too.

R2D2 looks at the 128 best of each query again; Wukong compares token by token. docs/evaluate.md says how each
dataset is laid out.";

const ZEROSHOT_HELP: &str = "Examples:
  altclip eval zeroshot --model BAAI/AltCLIP --dataset webdataset:cifar10 --templates templates.txt \\
    --classnames names.txt --language zh --json
  altclip eval zeroshot --model BAAI/AltCLIP --dataset imagenet:val/ --classnames cn_classnames.json \\
    --templates cn_zeroshot_classification_templates.json --language zh --name imagenet --table --out report/

Datasets: webdataset:DIR as CLIP_benchmark writes it, imagenet:DIR with a folder for each class,
cifar10:DIR with its batches. Templates have {} or {c} for the class.";

const PROBE_HELP: &str = "Examples:
  altclip eval linear-probe --model BAAI/AltCLIP --dataset webdataset:cifar10
  altclip eval linear-probe --model BAAI/AltCLIP --train-dataset imagenet:train/ --dataset imagenet:val/ --l2 1e-6

CLIP's protocol: logistic regression by L-BFGS; without --l2 its strength is searched for on one tenth
of the training pictures.";

const CONSISTENCY_HELP: &str = "Example:
  altclip eval consistency --model BAAI/AltCLIP --queries pairs.tsv --language-a en --language-b zh --images photos/

The file has a query and its translation a line, with a tab between, or more columns and a head that
names the languages.";

/// What every task that embeds has in common.
#[derive(Args)]
pub(crate) struct EvalRun {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// The split, where a dataset has several; or a file with the ids of one
    #[arg(long, value_name = "NAME|FILE", default_value = "test")]
    pub(crate) split: String,
    /// Samples that may be left out because they are bad: a number or a percentage
    #[arg(long, value_name = "N|P%", default_value = "0")]
    pub(crate) max_bad: MaxBad,
    /// What the dataset is called in results and tables, such as imagenet-r [default: its own name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// A new folder for the results (JSON and CSV as CLIP_benchmark writes them) and report.html
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// One JSON object a result, with CLIP_benchmark's keys
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct EvalRetrieval {
    /// Image embeddings, a .npy file of floats [I, E]
    #[arg(long, value_name = "FILE.npy", requires_all = ["text_embeddings", "text_image_index"], conflicts_with = "dataset", required_unless_present = "dataset")]
    pub(crate) image_embeddings: Option<PathBuf>,
    /// Text embeddings, a .npy file of floats [T, E]
    #[arg(long, value_name = "FILE.npy", requires = "image_embeddings")]
    pub(crate) text_embeddings: Option<PathBuf>,
    /// The row of the image of each text, a .npy file of T whole numbers
    #[arg(long, value_name = "FILE.npy", requires = "image_embeddings")]
    pub(crate) text_image_index: Option<PathBuf>,
    /// A file with the language of each text, one a line: figures for each of them
    #[arg(long, value_name = "FILE", requires = "image_embeddings")]
    pub(crate) languages: Option<PathBuf>,
    /// Pictures with captions to embed (may be repeated)
    #[arg(long, value_name = "KIND:PATH")]
    pub(crate) dataset: Vec<SetSpec>,
    /// The folder that picture names are relative to [default: the folder of the dataset]
    #[arg(long, value_name = "DIR", requires = "dataset")]
    pub(crate) images: Option<PathBuf>,
    /// The language of captions that do not say theirs; captions in another one are refused
    #[arg(long, value_name = "LANGUAGE", requires = "dataset")]
    pub(crate) language: Option<String>,
    /// Take part-of-speech marks and spaces between words out of Chinese captions
    #[arg(long, requires = "dataset")]
    pub(crate) clean_captions: bool,
    /// The published table with the measured row in it
    #[arg(long, requires = "dataset", conflicts_with = "json")]
    pub(crate) table: bool,
    /// How often images are drawn anew for the 95 % intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) bootstrap: u32,
    /// Seed of those draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// How many of the worst queries are listed, each way
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(crate) worst: u32,
    #[command(flatten)]
    pub(crate) eval: EvalRun,
}

#[derive(Args)]
pub(crate) struct EvalZeroshot {
    /// Labelled pictures
    #[arg(long, value_name = "KIND:PATH")]
    pub(crate) dataset: SetSpec,
    /// Prompts with {} or {c} for the class: one a line, or JSON [default: the dataset's, else the names
    /// alone]
    #[arg(long, value_name = "FILE")]
    pub(crate) templates: Option<PathBuf>,
    /// Names of the classes in order of their labels: one a line, or JSON [default: the dataset's]
    #[arg(long, value_name = "FILE")]
    pub(crate) classnames: Option<PathBuf>,
    /// Which list of a JSON file [default: the dataset's name, or the only one that fits]
    #[arg(long, value_name = "NAME")]
    pub(crate) prompts: Option<String>,
    /// The language of the prompts
    #[arg(long, value_name = "LANGUAGE", default_value = "en")]
    pub(crate) language: String,
    /// Published figures with the measured one
    #[arg(long, conflicts_with = "json")]
    pub(crate) table: bool,
    #[command(flatten)]
    pub(crate) eval: EvalRun,
}

#[derive(Args)]
pub(crate) struct EvalLinearProbe {
    /// Labelled pictures; the split `train` is fitted to, --split is what counts
    #[arg(long, value_name = "KIND:PATH")]
    pub(crate) dataset: SetSpec,
    /// Labelled pictures to fit to, where they are no split of the same dataset
    #[arg(long, value_name = "KIND:PATH")]
    pub(crate) train_dataset: Option<SetSpec>,
    /// Strength of L2, a factor of half the squared weights beside the mean loss [default: searched]
    #[arg(long, value_name = "X")]
    pub(crate) l2: Option<f64>,
    /// Most steps of L-BFGS
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) steps: u32,
    #[command(flatten)]
    pub(crate) eval: EvalRun,
}

#[derive(Args)]
pub(crate) struct EvalConsistency {
    /// Queries and their translations, tab-separated
    #[arg(long, value_name = "FILE.tsv")]
    pub(crate) queries: PathBuf,
    /// Language of the first
    #[arg(long, value_name = "LANGUAGE")]
    pub(crate) language_a: String,
    /// Language of the second
    #[arg(long, value_name = "LANGUAGE")]
    pub(crate) language_b: String,
    /// The pictures that are searched: a folder; with --dataset, what its names are relative to
    #[arg(long, value_name = "DIR", required_unless_present = "dataset")]
    pub(crate) images: Option<PathBuf>,
    /// The pictures that are searched: those of a dataset
    #[arg(long, value_name = "KIND:PATH")]
    pub(crate) dataset: Option<SetSpec>,
    /// Ranks that are compared
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub(crate) depth: u32,
    /// How many of the worst pairs are listed
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(crate) worst: u32,
    #[command(flatten)]
    pub(crate) eval: EvalRun,
}

#[derive(Args)]
pub(crate) struct EvalCompare {
    /// Results of one run: a JSON file, or a folder of --out
    #[arg(value_name = "A.json")]
    pub(crate) before: PathBuf,
    /// Results of another
    #[arg(value_name = "B.json")]
    pub(crate) after: PathBuf,
    /// One JSON object a figure
    #[arg(long)]
    pub(crate) json: bool,
    /// A new page with the figures, their intervals and what is told apart
    #[arg(long, value_name = "FILE.html")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct EvalTable {
    /// Results: JSON files, or folders of --out
    #[arg(value_name = "RESULT", required = true)]
    pub(crate) results: Vec<PathBuf>,
    /// As Markdown
    #[arg(long)]
    pub(crate) markdown: bool,
}
