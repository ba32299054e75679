//! Products in `bf16` and in 8-bit integers: half and a quarter of the bytes, and the processor's
//! matrix instructions.
//!
//! # Layout
//!
//! Both operands consist of *steps*: 64 bytes of a row along K, 32 `bf16` or 64 bytes. It is the
//! same on every instruction set, so packed weights can be kept in a file.
//!
//! ```text
//! inputs   Tiles      16 rows:     [step][row 16][64 bytes]               (one AMX tile a step)
//! weights  panels     32 columns:  [step][k group 16][column 32][4 bytes] (two AMX tiles a step)
//! ```
//!
//! A k group is what one instruction multiplies and adds for one output: 2 `bf16` or 4 bytes.
//! Rows, columns and K are padded with zeros to whole tiles.
//!
//! # Numerics
//!
//! - `bf16`: inputs and weights are rounded once, to nearest; products are exact, sums are `f32`.
//!   How terms of a step are grouped is the instruction's business, so results may differ between
//!   instruction sets in the last bits of the `f32` sums, but never with threads or the batch.
//! - 8 bits: `w = scale_n · q_w`, `q_w` in -127..=127, per column; `x = scale_m · (q_x - zero_m)`, `q_x`
//!   in 0..=255, per row. Sums are exact 32-bit integers (K ≤ 66,000 cannot overflow), so results
//!   are the same bits on every instruction set.

mod attention;
mod block;
mod finish;
mod gemm;
mod packed;
mod quantize;
#[cfg(test)]
mod tests;

mod tiles;
mod transpose;

pub(crate) use attention::softmax_bf16;
pub(crate) use block::{
    BlockArgs, BytesTile, GROUPS, WIDENED_BYTES, WidenedTile, block_bf16_by_widening,
    block_i8_by_widening, block_i8_in_16_bits,
};
#[cfg(test)]
pub(crate) use finish::OutPlace;
pub(crate) use finish::{FinishBlock, finish_block};
pub(crate) use quantize::{AnyRow, quantize_row};
pub(crate) use tiles::{pack_row_bf16, unpack_row_bf16};

pub use attention::AttentionBf16;
pub use gemm::{GemmReduced, Out, ReducedWeight};
pub use packed::{PackedBf16, PackedI8, WeightBytes};
pub use quantize::{Quantized, RowScale};
pub use tiles::{Source, Tiles, tiles_bytes};

/// Bytes of one row in one step.
pub(crate) const STEP_BYTES: usize = 64;
/// Rows of a tile of inputs.
pub(crate) const TILE_ROWS: usize = 16;
/// Bytes of a tile of inputs: one step of 16 rows.
pub(crate) const TILE_BYTES: usize = TILE_ROWS * STEP_BYTES;
/// Columns of a panel of weights.
pub(crate) const PANEL_COLS: usize = 32;
/// Bytes of one step of a panel.
pub(crate) const PANEL_STEP_BYTES: usize = PANEL_COLS * STEP_BYTES;
/// Rows of the block that the kernels compute: two tiles.
pub(crate) const BLOCK_ROWS: usize = 2 * TILE_ROWS;
/// Sums of a block: `[32 rows][32 columns]`, 4 bytes each.
pub(crate) const BLOCK_SUMS: usize = BLOCK_ROWS * PANEL_COLS;

/// The kernels of reduced precision of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) block_bf16: unsafe fn(&BlockArgs),
    pub(crate) block_i8: unsafe fn(&BlockArgs),
    pub(crate) finish: unsafe fn(&FinishBlock<'_>),
    pub(crate) pack_row: unsafe fn(&[f32], *mut u8),
    /// The same for weights, whose bytes are the same on every processor.
    pub(crate) pack_weight_row: unsafe fn(&[f32], *mut u8),
    pub(crate) unpack_row: unsafe fn(*const u8, &mut [f32]),
    pub(crate) quantize_row: unsafe fn(AnyRow<'_>, Option<&[f32]>, *mut u8) -> RowScale,
    pub(crate) softmax: unsafe fn(&[f32], f32, *mut u8) -> f32,
    /// Called by a thread before its first block of a task, and after its last.
    pub(crate) enter: unsafe fn(),
    pub(crate) leave: unsafe fn(),
    /// Steps of K that are done for all rows of a chunk before the next: a panel's part of so many
    /// stays in the first-level cache.
    pub(crate) k_steps: usize,
    /// Does so many rounds of the block's instruction on registers alone; operations per round.
    pub(crate) peak_bf16: Option<(unsafe fn(usize), usize)>,
    pub(crate) peak_i8: Option<(unsafe fn(usize), usize)>,
}

/// For instruction sets whose blocks need no preparation.
///
/// # Safety
/// None needed; the type is that of the table.
pub(crate) unsafe fn nothing() {}
