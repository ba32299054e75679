//! What the crate promises, on files built here: hostile ones are refused with their code and
//! within their memory, good ones read as the independent readers read them.

// A failed `unwrap` is a failed test; clippy's exemption does not reach functions without `#[test]`.
#![allow(clippy::unwrap_used)]

mod alloc;
mod folders;
mod forge;
mod hostile_pickle;
mod hostile_safetensors;
mod mutated;
mod oracle;
mod packed;
mod reading;
mod streamed;
mod torch_script;
mod traced;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;
