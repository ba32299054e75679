//! Files that a crash leaves whole.
//!
//! Whoever writes a file that others rely on does it through a [`Vfs`]: beside its place, synced,
//! compared with what was meant, renamed, and the folder synced ([`replace()`]; [`Folder`] for several
//! files that belong together). [`RealFs`] is the file system of the machine. [`SimFs`] is one in
//! memory that can fail at each operation and lose power with whatever was not synced, so the
//! promise is tested at every point instead of hoped for.
//!
//! ```
//! use altclip_durable::{SimFs, Damage, Vfs, replace};
//! # fn main() -> Result<(), altclip_durable::Error> {
//! let disk = SimFs::new();
//! replace(&disk, "LATEST".as_ref(), |out| out.write_all(b"step-00000100\n"))?;
//! let disk = disk.crash(Damage::DropAll);
//! assert_eq!(altclip_durable::read(&disk, "LATEST".as_ref(), 64)?, b"step-00000100\n");
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod digest;
mod error;
mod folder;
mod lock;
mod real;
mod replace;
mod sim;
mod vfs;

pub use digest::{Digest, Hasher};
pub use error::Error;
pub use folder::Folder;
pub use lock::Lock;
pub use real::RealFs;
pub use replace::{Sealed, read, remove_all, replace, sweep, temporary, verify};
pub use sim::{Damage, Fault, FaultKind, Operation, SECTOR_BYTES, SimFs};
pub use vfs::{Metadata, Vfs, VfsFile};
