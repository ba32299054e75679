//! CPU kernels on slices, with run-time dispatch.
//!
//! Everything that costs time in a forward pass on the processor is here: prepacked matrix
//! products ([`Kernels::gemm_f32`], and in `bf16` and 8 bits [`Kernels::gemm_reduced`]), attention
//! over packed rows ([`Kernels::attention_f32`], [`Kernels::attention_bf16`]), layer norm, softmax,
//! activations, the comparison of many rows with a
//! query ([`Kernels::scan_f16`]), and the thread pool they run on ([`Pool`]). The crate knows slices and dimensions,
//! and nothing of models or tensors.
//!
//! # One algorithm, one result
//!
//! Each `f32` kernel is written once, over a vector of 16 lanes, and compiled for each instruction
//! set ([`Isa`]): AVX-512, AVX2 with FMA, NEON, and a portable form. Because all of them do the
//! same correctly rounded operations in the same order, the results are the same **bit for bit**
//! on every instruction set. They also do not depend on the number of threads, on how work is cut
//! into tasks, or on what else is in the batch: a row of an output is computed from that row's
//! inputs alone, and the sum over `K` always runs from the first to the last term with a fused
//! multiply-add per term.
//!
//! (The bits of a NaN are outside this promise; that it is a NaN is inside.)
//!
//! In `bf16` and 8 bits the processor's own instructions group the terms of a sum (AMX, `vdpbf16ps`,
//! `bfmmla`), so there the last bits depend on the instruction set, and on nothing else.
//!
//! [`mod@reference`] holds the same operations as plain loops that accumulate in `f64`: the oracle.
//!
//! # Dispatch
//!
//! [`Kernels::get`] picks the best level once. The environment variable `ALTCLIP_ISA`
//! (`scalar`, `avx2`, `avx512`, `avx512vnni`, `avx512bf16`, `amx`, `neon`, `neonmatrix`) forces one;
//! where it names a level that the processor lacks, the best one is used and [`isa_notice`] says so.
//!
//! # Example
//!
//! ```
//! use altclip_kernels::{Activation, GemmF32, Kernels, PackedF32, Pool};
//!
//! let kernels = Kernels::get();
//! let pool = Pool::new(2);
//! // y = x · Wᵀ with W of 2 rows and 3 columns.
//! let weight = PackedF32::pack(kernels.isa(), &[1., 0., 0., 0., 1., 1.], 2, 3);
//! let mut y = [0.0; 2];
//! let gemm = GemmF32 {
//!     x: &[1., 2., 3.],
//!     x_stride: 3,
//!     m: 1,
//!     weight: &weight,
//!     bias: None,
//!     activation: Activation::Identity,
//!     residual: None,
//! };
//! kernels.gemm_f32(&pool, &gemm, &mut y);
//! assert_eq!(y, [1., 5.]);
//! ```

mod activation;
mod aligned;
mod arch;
mod attention;
mod backward;
#[cfg(test)]
mod bounds;
mod dispatch;
mod elementwise;
mod exp;
mod gemm;
mod layer_norm;
pub mod nibbles;
mod pool;
mod reduced;
pub mod reference;
mod scan;
mod softmax;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transpose;

pub use activation::Activation;
pub use aligned::{Aligned, Plain, large_vec};
pub use attention::{AttentionF32, AttentionGradients};
pub use backward::DropoutMask;
pub use dispatch::{Isa, Kernels, isa_notice};
pub use gemm::{FillRows, GemmF32, PackedF32};
pub use pool::Pool;
pub use reduced::{
    AttentionBf16, GemmReduced, Out, PackedBf16, PackedI8, Quantized, ReducedWeight, RowScale,
    Source, Tiles, WeightBytes, tiles_bytes,
};
pub use scan::top_k;
