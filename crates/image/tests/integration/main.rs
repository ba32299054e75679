//! Tests of the whole crate: parity with Pillow and transformers, bad inputs, mutations.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod aspect;
mod bad_inputs;
mod files;
mod folder;
mod golden;
mod mutation;
mod support;
