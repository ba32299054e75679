//! What an index needs of whatever keeps its rows. SQLite is one way ([`crate::SqliteStore`]); a server
//! that several machines share would be another.

use crate::picture::Picture;
use crate::{Error, Filter};
use altclip_report::Report;

/// A change of the rows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Adds a picture, or takes the place of the one at its path. The vector is as [`crate::to_bytes`] makes it.
    Put(Picture, Vec<u8>),
    /// A picture's file has another time and the same contents.
    Touch {
        /// Its path.
        path: String,
        /// Nanoseconds since 1970.
        modified: i64,
    },
    /// Forgets the picture at a path.
    Remove(String),
    /// Writes a setting.
    Set(String, String),
}

/// A row without its vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of the row; a number is never given twice.
    pub id: i64,
    /// The picture; its tags are left out.
    pub picture: Picture,
}

/// What a store says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Number of the last commit.
    pub sequence: u64,
    /// Number of pictures, counted now.
    pub images: u64,
    /// Number of pictures as the last commit counted them.
    pub counted: Option<u64>,
}

/// Where rows are kept. A commit is durable when it returns.
pub trait Store: Send {
    /// Number of the last commit.
    ///
    /// # Errors
    /// What the store says; so with every method here.
    fn sequence(&self) -> Result<u64, Error>;

    /// Number of pictures, counted.
    fn images(&self) -> Result<u64, Error>;

    /// All of one moment, whatever a writer does.
    fn state(&self) -> Result<State, Error>;

    /// A setting.
    fn setting(&self, key: &str) -> Result<Option<String>, Error>;

    /// Makes all changes or none, and gives the number of the commit.
    fn commit(&mut self, changes: &[Change]) -> Result<u64, Error>;

    /// Hands out all rows without vectors and tags.
    fn entries(&self, visit: &mut dyn FnMut(Entry)) -> Result<(), Error>;

    /// The picture of a row.
    fn picture(&self, id: i64) -> Result<Option<Picture>, Error>;

    /// Number and vector of the row at a path.
    fn at(&self, path: &str) -> Result<Option<(i64, Vec<u8>)>, Error>;

    /// A picture of these contents, with its vector.
    fn with_hash(&self, hash: u128) -> Result<Option<(Picture, Vec<u8>)>, Error>;

    /// Hands out all vectors in the order of their numbers, each compared with its checksum, and gives
    /// the number of the commit that they are of.
    fn vectors(&self, visit: &mut dyn FnMut(i64, &[u8])) -> Result<u64, Error>;

    /// Hands out all rows whole.
    fn rows(&self, visit: &mut dyn FnMut(i64, Picture, &[u8])) -> Result<(), Error>;

    /// The numbers of the rows that a filter lets through, ascending.
    fn select(&self, filter: &Filter) -> Result<Vec<i64>, Error>;

    /// Reads everything and says what is damaged.
    fn verify(&self) -> Result<Vec<Report>, Error>;
}
