//! The tape over the CPU backend: gradients of every operation against finite differences of `f64`
//! references, and what a tape promises.
#![allow(clippy::unwrap_used)]

mod operations;
mod reference;
mod support;
mod tape;
