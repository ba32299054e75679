//! An index of pictures that is searched with words, pictures or both, and that says when nothing matches.
//!
//! [`Index`] is a folder with a durable [`Store`] and a search structure ([`Flat`]) made from it. [`Plan`]
//! and [`apply`] bring it up to date with folders of pictures. [`Searcher`] finds the nearest rows.
//!
//! **What is acknowledged is on the disk**: rows are committed to SQLite with a checksum each, then the
//! number of the commit is written to a small file of its own, synced and renamed; only then anybody is
//! told. An index that holds less than that file says is not opened.

#![forbid(unsafe_code)]

mod answer;
mod background;
mod dump;
mod error;
mod filter;
mod flat;
mod generation;
mod head;
mod index;
mod judge;
mod language;
pub mod metadata;
mod path;
mod picture;
mod query;
mod repair;
mod seal;
mod search;
mod settings;
mod shown;
mod sketch;
mod sqlite;
mod store;
mod thumbnail;
mod update;

pub use answer::{Answer, Ask, Match, answer};
pub use background::{Background, hubs};
pub use dump::{export, import, table};
pub use error::Error;
pub use filter::{Filter, day};
pub use flat::Flat;
pub use head::Head;
pub use index::Index;
pub use judge::{
    Asked, HUB, Judge, LEAST_PICTURES, MATCHES, Nulls, Parameters, Uncalibrated, logistic,
    parameters,
};
pub use language::Group;
pub use path::plain;
pub use picture::{MAX_PATH_BYTES, MAX_WIDTH, Picture, to_bytes, to_numbers};
pub use query::{Content, Query, Term};
pub use repair::{Lost, Repair, repair, roots};
pub use search::{Hit, Scan, Searcher};
pub use settings::{Settings, decode_as};
pub use shown::{Shown, ShownMatch};
pub use sqlite::SqliteStore;
pub use store::{Change, Entry, State, Store};
pub use thumbnail::thumbnail;
pub use update::{Candidate, Emptied, Plan, Told, apply};
