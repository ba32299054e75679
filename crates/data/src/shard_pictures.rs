//! The pictures of one webdataset shard, with a caption where there is one: what is embedded.

use crate::shards::{Role, Shards};
use crate::{Error, Fault, list};
use std::path::{Path, PathBuf};

/// A picture of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPicture {
    /// The key of its sample.
    pub key: String,
    /// The bytes of its file.
    pub bytes: Vec<u8>,
    /// The text beside it; empty where there is none.
    pub caption: String,
}

/// The pictures of one shard, by number.
pub struct ShardPictures(Shards);

impl ShardPictures {
    /// The shards that names, folders and ranges such as `{00000..00012}.tar` stand for, in order.
    ///
    /// # Errors
    /// [`Error::List`] where there is none.
    pub fn shards(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
        list::expand(paths, &[".tar"])
    }

    /// Reads the headers of a shard.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(shard: &Path) -> Result<Self, Error> {
        Ok(Self(Shards::open(vec![shard.to_owned()])?))
    }

    /// Number of samples, the bad ones included.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The picture of a sample.
    ///
    /// # Errors
    /// A [`Fault`] of this sample.
    pub fn get(&self, number: u64) -> Result<ShardPicture, Fault> {
        let bytes = self.0.picture(number)?;
        let caption = self.0.text(number, Role::Text)?.unwrap_or_default().trim().to_owned();
        let key = self.0.place(number).key.unwrap_or_default();
        Ok(ShardPicture { key, bytes, caption })
    }
}
