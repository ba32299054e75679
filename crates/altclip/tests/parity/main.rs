//! The numbers of transformers, stage by stage, on tiny random checkpoints of the published shapes.
//!
//! `tests/golden/README.md` says what each file is. Every comparison goes through [`golden::compare`],
//! and `controls.rs` shows that the same comparisons fail for models that are wrong on purpose.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod controls;
mod golden;
mod independence;
mod packed;
mod pipeline;
mod precision;
mod same_bits;
mod stages;
