//! `altclip train` from outside: what a run leaves, what it survives, what it refuses.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]
// The suites share `support`, and each needs another part of it.
#![allow(dead_code)]

mod data;
mod end_to_end;
mod finetune;
mod kills;
mod refusals;
mod settings;

#[path = "../support/mod.rs"]
mod support;
