//! Backward forms: gradients of the operands of an operation from the gradient of its result.
//!
//! Those of products are products (see `transpose.rs`); here is the rest. As forward, each is written
//! once over 16 lanes and has the same bits on every instruction set and for any number of threads:
//! sums over rows are taken in the order of the rows, or of fixed blocks of rows.

mod activation;
mod dropout;
mod layer_norm;
mod softmax;
mod sums;

pub(crate) use activation::activation_backward;
pub use dropout::DropoutMask;
pub(crate) use dropout::dropout;
pub(crate) use layer_norm::{LayerNormRow, layer_norm_backward_row};
pub(crate) use softmax::softmax_backward;
pub(crate) use sums::{add_rows, add_tile_rows};

use crate::Activation;
use crate::arch::generic::{F32x16, LANES};
use crate::transpose::TransposeArgs;

/// The backward kernels of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) transpose: unsafe fn(&TransposeArgs),
    pub(crate) pair_bf16: unsafe fn(*const u8, *const u8, *mut u8),
    pub(crate) activation: unsafe fn(Activation, &[f32], &[f32], &mut [f32]),
    pub(crate) layer_norm: unsafe fn(&mut LayerNormRow<'_>),
    pub(crate) softmax: unsafe fn(&[f32], &mut [f32]),
    pub(crate) add_rows: unsafe fn(*const f32, usize, usize, &mut [f32]),
    pub(crate) add_tile_rows: unsafe fn(*const u8, usize, &mut [f32]),
    pub(crate) dropout: unsafe fn(&DropoutMask, u64, &[f32], &mut [f32]),
}

/// Makes the backward table `BACKWARD` of one instruction set.
macro_rules! instantiate_backward {
    ($vector:ty, [$($feature:literal),*]) => {
        $(#[target_feature(enable = $feature)])*
        unsafe fn transpose(args: &crate::transpose::TransposeArgs) {
            // SAFETY: the features of this function are those of the vector; the rest is the
            // caller's promise, which is the same. So it is below.
            unsafe { crate::transpose::transpose::<$vector>(args) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn pair_bf16(a: *const u8, b: *const u8, out: *mut u8) {
            // SAFETY: as in `transpose`.
            unsafe { <$vector as crate::arch::generic::F32x16>::pair_bf16(a, b, out) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn activation_backward(
            activation: crate::Activation,
            x: &[f32],
            dy: &[f32],
            out: &mut [f32],
        ) {
            // SAFETY: as in `transpose`.
            unsafe { crate::backward::activation_backward::<$vector>(activation, x, dy, out) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn layer_norm_backward(row: &mut crate::backward::LayerNormRow<'_>) {
            // SAFETY: as in `transpose`.
            unsafe { crate::backward::layer_norm_backward_row::<$vector>(row) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn softmax_backward(p: &[f32], dp: &mut [f32]) {
            // SAFETY: as in `transpose`.
            unsafe { crate::backward::softmax_backward::<$vector>(p, dp) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn add_rows(x: *const f32, x_row: usize, rows: usize, sums: &mut [f32]) {
            // SAFETY: as in `transpose`.
            unsafe { crate::backward::add_rows::<$vector>(x, x_row, rows, sums) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn add_tile_rows(x: *const u8, rows: usize, sums: &mut [f32]) {
            // SAFETY: as in `transpose`.
            unsafe { crate::backward::add_tile_rows::<$vector>(x, rows, sums) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn dropout(
            mask: &crate::backward::DropoutMask,
            first: u64,
            x: &[f32],
            out: &mut [f32],
        ) {
            crate::backward::dropout(mask, first, x, out)
        }

        /// The backward kernels of this instruction set.
        const BACKWARD: crate::backward::Table = crate::backward::Table {
            transpose,
            pair_bf16,
            activation: activation_backward,
            layer_norm: layer_norm_backward,
            softmax: softmax_backward,
            add_rows,
            add_tile_rows,
            dropout,
        };
    };
}
pub(crate) use instantiate_backward;

/// # Safety
/// The processor has the instruction set of `V`; `p` is readable for `count` values.
#[inline(always)]
unsafe fn load<V: F32x16>(p: *const f32, count: usize, fill: f32) -> V {
    // SAFETY: as promised by the caller.
    unsafe { if count == LANES { V::load(p) } else { V::load_head(p, count, fill) } }
}

/// # Safety
/// `p` is writable for `count` values.
#[inline(always)]
unsafe fn store<V: F32x16>(y: V, p: *mut f32, count: usize) {
    // SAFETY: as promised by the caller.
    unsafe { if count == LANES { y.store(p) } else { y.store_head(p, count) } }
}
