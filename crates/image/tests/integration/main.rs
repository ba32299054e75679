//! Tests of the whole crate: parity with Pillow and transformers, bad inputs, mutations.

mod aspect;
mod bad_inputs;
mod files;
mod folder;
mod golden;
mod mutation;
mod support;
