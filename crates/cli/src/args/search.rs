//! `altclip index` and `altclip search`.

use super::number::{finite, share};
use super::{MaxBad, RunArgs};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Index {
    #[command(subcommand)]
    pub(crate) task: IndexTask,
}

#[derive(Subcommand)]
pub(crate) enum IndexTask {
    /// Pictures, or folders of them, into an index; it is made where there is none
    #[command(after_help = "Examples:
  altclip index add ~/Pictures --index pictures.index --model BAAI/AltCLIP
  altclip index add --rebuild --index pictures.index --model BAAI/AltCLIP-m18

A picture is acknowledged once it is on the disk. What is interrupted goes on with the same command. Files
are known by size, time and contents: what was moved or copied is not computed again.")]
    Add(IndexAdd),
    /// Looks through the folders of an index: new, changed, moved and deleted pictures
    Update(IndexUpdate),
    /// Forgets pictures and folders, until they are added again; their files are not touched
    Remove(IndexRemove),
    /// What an index holds
    Status(IndexRead),
    /// Reads everything and compares it with its checksums
    Verify(IndexRead),
    /// Makes a damaged index good: what is whole is kept, what is lost is named
    #[command(
        after_help = "Pictures that were lost and whose files are still there come back with: altclip index update."
    )]
    Repair(IndexRepair),
    /// An embedding dump that clip-retrieval, embedding-reader and autofaiss read
    Export(IndexExport),
    /// The pictures of an embedding dump
    #[command(after_help = "The dump must be of the model that is named; its vectors cannot tell.")]
    Import(IndexImport),
    /// Groups of pictures that are nearly the same
    Duplicates(IndexDuplicates),
    /// Pictures that are near to every text: black frames, logos, screenshots
    #[command(
        after_help = "They come up for any query by their cosine; p_match and the order of a search leave that out."
    )]
    Hubs(IndexHubs),
}

/// Which index.
#[derive(Args, Clone)]
pub(crate) struct IndexPath {
    /// The folder of the index
    #[arg(long, env = "ALTCLIP_INDEX", value_name = "DIR")]
    pub(crate) index: PathBuf,
    /// JSON Lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct IndexAdd {
    #[command(flatten)]
    pub(crate) at: IndexPath,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Pictures, or folders of pictures
    #[arg(value_name = "PATH", required_unless_present = "rebuild")]
    pub(crate) paths: Vec<PathBuf>,
    /// Words that the pictures can be found by with --tag (may be repeated)
    #[arg(long, value_name = "WORD")]
    pub(crate) tag: Vec<String>,
    /// Make the index anew, with this model; the present one serves until the new one is complete
    #[arg(long)]
    pub(crate) rebuild: bool,
    /// Bad inputs that do not fail the command: a number or a percentage
    #[arg(long, value_name = "N|P%", default_value = "0")]
    pub(crate) max_bad: MaxBad,
}

#[derive(Args)]
pub(crate) struct IndexUpdate {
    #[command(flatten)]
    pub(crate) at: IndexPath,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Forget the pictures of folders that are empty; they are kept, since a disk may be missing there
    #[arg(long)]
    pub(crate) forget_empty: bool,
    /// Bad inputs that do not fail the command: a number or a percentage
    #[arg(long, value_name = "N|P%", default_value = "0")]
    pub(crate) max_bad: MaxBad,
}

#[derive(Args)]
pub(crate) struct IndexRemove {
    #[command(flatten)]
    pub(crate) at: IndexPath,
    /// Pictures or folders of the index
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct IndexRead {
    #[command(flatten)]
    pub(crate) at: IndexPath,
}

#[derive(Args)]
pub(crate) struct IndexRepair {
    #[command(flatten)]
    pub(crate) at: IndexPath,
    /// Go on although pictures are lost; without it they are only named
    #[arg(long)]
    pub(crate) accept_loss: bool,
}

#[derive(Args)]
pub(crate) struct IndexExport {
    #[command(flatten)]
    pub(crate) at: IndexPath,
    /// The folder to write; must not exist yet
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct IndexImport {
    #[command(flatten)]
    pub(crate) at: IndexPath,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// The dump: img_emb/*.npy and metadata/*.parquet with a column image_path
    #[arg(value_name = "DIR")]
    pub(crate) dump: PathBuf,
}

#[derive(Args)]
pub(crate) struct IndexDuplicates {
    #[command(flatten)]
    pub(crate) at: IndexPath,
    /// Least cosine of two pictures that are nearly the same
    #[arg(long, value_name = "COSINE", default_value_t = 0.97, value_parser = share, allow_negative_numbers = true)]
    pub(crate) threshold: f64,
}

#[derive(Args)]
pub(crate) struct IndexHubs {
    #[command(flatten)]
    pub(crate) at: IndexPath,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Least distance from the others, in standard deviations
    #[arg(long, value_name = "Z", default_value_t = 3.0, value_parser = finite, allow_negative_numbers = true)]
    pub(crate) threshold: f64,
}

#[derive(Args)]
pub(crate) struct Search {
    #[command(flatten)]
    pub(crate) at: IndexPath,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// What is looked for, in any language of the model
    #[arg(value_name = "QUERY", required_unless_present = "image")]
    pub(crate) query: Option<String>,
    /// A picture that is looked for, beside the query (may be repeated)
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Vec<PathBuf>,
    /// Most pictures that are shown
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) top_k: u32,
    /// Least probability of a match that is shown; below 0.5 at the best picture nothing matches
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = share, allow_negative_numbers = true)]
    pub(crate) min_p: f64,
    /// Only pictures whose path fits: *, ** and ? (may be repeated: one must fit)
    #[arg(long, value_name = "PATTERN")]
    pub(crate) path: Vec<String>,
    /// Only pictures taken on this day or later: 2024, 2024-05 or 2024-05-31
    #[arg(long, value_name = "DAY")]
    pub(crate) since: Option<String>,
    /// Only pictures taken on this day or earlier
    #[arg(long, value_name = "DAY")]
    pub(crate) until: Option<String>,
    /// Only pictures whose shorter side has so many pixels
    #[arg(long, value_name = "PIXELS")]
    pub(crate) min_side: Option<u32>,
    /// Only files of at most so many bytes
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_bytes: Option<u64>,
    /// Only pictures that were added with this word (may be repeated: all must be there)
    #[arg(long, value_name = "WORD")]
    pub(crate) tag: Vec<String>,
    /// Compare every vector, without estimates
    #[arg(long)]
    pub(crate) exact: bool,
    /// A page with the pictures, readable offline
    #[arg(long, value_name = "FILE.html")]
    pub(crate) html: Option<PathBuf>,
    /// Show the page
    #[arg(long, requires = "html")]
    pub(crate) open: bool,
}
