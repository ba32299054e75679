//! `altclip eval`: one subcommand a task.

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
    Retrieval(EvalRetrieval),
}

const RETRIEVAL_HELP: &str = "Example:
  altclip eval retrieval --image-embeddings images.npy --text-embeddings texts.npy \\
    --text-image-index index.npy --languages languages.txt --out report/

Recall is CLIP's: a text finds its image, an image any of its texts, among the first 1, 5 or 10. JSON has
CLIP_benchmark's names and shares from 0 to 1. Rows need not be normalised. Of equal similarities the
lower row comes first.";

#[derive(Args)]
pub(crate) struct EvalRetrieval {
    /// Image embeddings, a .npy file of floats [I, E]
    #[arg(long, value_name = "FILE.npy")]
    pub(crate) image_embeddings: PathBuf,
    /// Text embeddings, a .npy file of floats [T, E]
    #[arg(long, value_name = "FILE.npy")]
    pub(crate) text_embeddings: PathBuf,
    /// The row of the image of each text, a .npy file of whole numbers [T]
    #[arg(long, value_name = "FILE.npy")]
    pub(crate) text_image_index: PathBuf,
    /// A file with the language of each text, one a line: figures for each of them
    #[arg(long, value_name = "FILE")]
    pub(crate) languages: Option<PathBuf>,
    /// How often images are drawn anew for the 95 % intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) bootstrap: u32,
    /// Seed of those draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// How many of the worst queries are listed, each way
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(crate) worst: u32,
    /// A new folder for retrieval.json and report.html
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Number of threads [default: as many as the process may use]
    #[arg(long, env = "ALTCLIP_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
