//! Weight files as named, shaped, memory-mapped tensors: safetensors and PyTorch archives, single
//! or sharded, and a writer of safetensors.
//!
//! Everything in a weight file is foreign: each length, offset, name and shape is checked before it
//! is used, a pickle is read by an interpreter that cannot call anything, and what is wrong is said
//! with the file, the tensor and both numbers. Opening reads headers only, so a checkpoint of
//! several gigabytes is listed in milliseconds; values are read when asked for and their pages are
//! given back.
//!
//! ```no_run
//! use altclip_checkpoint::Checkpoint;
//! # fn main() -> Result<(), altclip_checkpoint::Error> {
//! let checkpoint = Checkpoint::open("AltCLIP".as_ref())?;
//! for name in checkpoint.names() {
//!     println!("{name} {:?}", checkpoint.shape(name));
//! }
//! let scale: Vec<f32> = checkpoint.read_f32("logit_scale")?;
//! # Ok(())
//! # }
//! ```

mod allowed;
mod check;
mod checkpoint;
mod convert;
mod dtype;
mod error;
mod identity;
mod json;
mod limits;
mod map;
mod names;
mod packed;
mod pickle;
mod read;
mod reshape;
mod safetensors;
mod sealed;
mod shards;
mod stream;
mod torch;
mod write;
mod zip;

pub use check::{Expected, check};
pub use checkpoint::{Checkpoint, FileInfo, Format, TensorInfo, is_original};
pub use dtype::Dtype;
pub use error::Error;
pub use identity::Identity;
pub use packed::{MatrixFormat, MatrixInfo, MatrixToWrite, PackedInfo, PackedModel, write_packed};
pub use read::NonFinite;
pub use sealed::{PackedMatrix, Stored};
pub use stream::read_safetensors_f32;
pub use write::{SafetensorsFile, TensorData, TensorToWrite, write_safetensors};
