//! Tests of the whole crate: parity with Pillow and transformers, bad inputs, mutations.

#![allow(clippy::unwrap_used, reason = "what tests call fails like a test")]

mod aspect;
mod bad_inputs;
mod files;
mod folder;
mod golden;
mod mutation;
mod support;
