//! `Tensor`, `Weight` and the coarse [`Backend`] trait over which every model is written once.
//!
//! A model holds [`Weight`]s and calls about a dozen coarse [`Op`]s. What executes them is a
//! [`Backend`]: the CPU ([`CpuBackend`]), a decorator that counts ([`Counting`]), a decorator that
//! records for back-propagation ([`autograd::Tape`]), and later CUDA. A faster weight format (bf16,
//! int8) is another thing behind [`Weight`]; model files do not change.
//!
//! Tensors are matrices of packed rows `[T, D]`: sequences of different length follow each other and
//! [`Segments`] say where each begins. There is no padding.
//!
//! ```
//! use altclip_tensor::{Backend, CpuBackend, Op, WeightKind};
//! let backend = CpuBackend::new(1);
//! let x = backend.tensor(1, 2, &[3.0, 4.0])?;
//! let unit = backend.forward(&Op::L2Normalize { x })?;
//! assert_eq!(backend.read(&unit)?, [0.6, 0.8]);
//! # Ok::<(), altclip_tensor::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod autograd;
mod backend;
mod counting;
mod cpu;
mod dropout;
mod error;
mod handle;
mod op;
mod segments;

pub use altclip_kernels::{
    Activation, Isa, Kernels, PackedBf16, PackedI8, WeightBytes, isa_notice,
};
pub use backend::{
    Backend, Format, Grads, Ops, Packed, Precision, RowSource, Saved, Wanted, WeightGrad,
    WeightKind,
};
pub use counting::{Count, Counting};
pub use cpu::CpuBackend;
pub use dropout::Dropout;
pub use error::Error;
pub use handle::{Storage, Tensor, TensorId, Weight, WeightId};
pub use op::{Lookup, Op};
pub use segments::Segments;

/// What the operations of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
