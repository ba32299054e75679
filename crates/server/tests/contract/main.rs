//! The server as a client sees it: protocols, refusals, load, and how it stops.
#![allow(clippy::unwrap_used)]

mod client;
mod dialects;
mod faults;
mod index;
mod lifecycle;
mod load;
mod page;
mod refusals;
mod sabotage;
mod slow;
