//! The blocks that the towers share: each is a few weights and one short `forward`.

mod attention;
mod linear;
mod mlp;
mod pre_norm;

pub use attention::{Attention, AttentionNames, Mask};
pub use linear::{LayerNorm, Linear};
pub use mlp::Mlp;
pub use pre_norm::PreNormBlock;
