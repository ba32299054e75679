//! AltCLIP behind an address: the protocols of clients that exist, dynamic batches, and a page for people.
//!
//! ```text
//! socket ─► connection ─► dispatch ─► handler ─► embed ─► preparers ─► queue ─► worker ─► engine
//!           (its pace)    (key, body)  (dialect)  (room for all items)  (bounded)  (panics end here)
//! ```
//!
//! A request is admitted whole or not at all, before anything of it is computed. What nobody waits for any
//! more leaves the queue. Everything that grows has a bound, and their sum is known at the start.
//!
//! ```
//! use altclip_server::{Server, Setup, StubEngine};
//! use std::{sync::Arc, time::Duration};
//! let engine = Arc::new(StubEngine::new(8, Duration::from_millis(1)));
//! let server = Server::start(Setup::new(engine))?;
//! println!("http://{}", server.address());
//! server.stop()?;
//! # Ok::<(), altclip_server::Error>(())
//! ```

#![forbid(unsafe_code)]

mod allowance;
mod app;
mod batch_times;
mod call;
mod catalog;
mod connection;
mod dialect;
mod dispatch;
mod embed;
mod engine;
mod error;
mod fault;
mod health;
mod host;
mod json;
mod keys;
mod limits;
mod log;
mod memory;
mod metrics;
mod model;
mod openapi;
mod picture_source;
mod queue;
mod reply;
mod routes;
mod row;
mod server;
mod stub;
mod threads;
mod worker;

pub use engine::{About, Engine, Tokens};
pub use error::Error;
pub use keys::KeySource;
pub use limits::Limits;
pub use log::Log;
pub use model::ModelEngine;
pub use server::{Server, Setup};
pub use stub::StubEngine;
