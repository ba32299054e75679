//! AVX-512 with dot products: `vdpbf16ps` (two `bf16` products an output) and `vpdpbusd` (four
//! byte products).
//!
//! The register tile is 8 rows × 2 vectors: 16 accumulators, more than the instructions' latency
//! asks for, and one broadcast input from memory for two of them.

use std::arch::x86_64::*;

use super::avx512::{self, with_bf16};
use crate::dispatch::{Isa, Kernels};
use crate::reduced::{BlockArgs, GROUPS, Table};

/// AVX-512 with VNNI: bytes by `vpdpbusd`, `bf16` widens.
pub(crate) static VNNI: Kernels = Kernels {
    isa: Isa::Avx512Vnni,
    reduced: Table { block_i8, peak_i8: Some((peak_i8, 16 * 128)), ..avx512::TABLE.reduced },
    ..avx512::TABLE
};

/// AVX-512 with VNNI and BF16.
pub(crate) static BF16: Kernels = Kernels {
    isa: Isa::Avx512Bf16,
    reduced: Table {
        block_bf16,
        block_i8,
        pack_weight_row: avx512::TABLE.reduced.pack_weight_row,
        peak_bf16: Some((peak_bf16, 16 * 64)),
        peak_i8: Some((peak_i8, 16 * 128)),
        ..with_bf16::TABLE.reduced
    },
    ..with_bf16::TABLE
};

/// Rows of the register tile.
const ROWS: usize = 8;

/// A block by a dot-product instruction on `[sums; 2]` vectors.
macro_rules! block {
    ($name:ident, $features:literal, $sum:ty, $zero:expr, $load:expr, $store:expr, $broadcast:expr,
     $weights:expr, $dot:path) => {
        /// # Safety
        /// The processor has the features; the pointers are valid for what [`BlockArgs`] says.
        #[target_feature(enable = $features)]
        unsafe fn $name(args: &BlockArgs) {
            for line in 0..args.prefetch_lines {
                _mm_prefetch::<_MM_HINT_T1>(args.prefetch.wrapping_add(line * 64).cast());
            }
            for first in (0..args.rows).step_by(ROWS) {
                // SAFETY: tiles are whole, so 8 rows from a multiple of 8 on are readable and their
                // sums writable; steps and groups are inside the block.
                unsafe {
                    let c = |r: usize, half: usize| args.c_row(first + r).add(half * 64);
                    let mut sums: [[$sum; 2]; ROWS] = [[$zero; 2]; ROWS];
                    if args.resume {
                        for (r, row) in sums.iter_mut().enumerate() {
                            for (half, sum) in row.iter_mut().enumerate() {
                                *sum = $load(c(r, half).cast());
                            }
                        }
                    }
                    for step in 0..args.steps {
                        for group in 0..GROUPS {
                            let b = args.b_group(step, group);
                            let weights = [$weights(b.cast()), $weights(b.add(64).cast())];
                            for (r, row) in sums.iter_mut().enumerate() {
                                let a = args.a_group(first, step, group).add(r * 64);
                                let x = $broadcast(a.cast::<i32>().read_unaligned());
                                row[0] = $dot(row[0], x, weights[0]);
                                row[1] = $dot(row[1], x, weights[1]);
                            }
                        }
                    }
                    for (r, row) in sums.iter().enumerate() {
                        for (half, sum) in row.iter().enumerate() {
                            $store(c(r, half).cast(), *sum);
                        }
                    }
                }
            }
        }
    };
}

block!(
    block_bf16,
    "avx512f,avx512bf16",
    __m512,
    _mm512_setzero_ps(),
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    broadcast_bf16,
    load_bf16,
    _mm512_dpbf16_ps
);
block!(
    block_i8,
    "avx512f,avx512vnni",
    __m512i,
    _mm512_setzero_si512(),
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    _mm512_set1_epi32,
    _mm512_loadu_si512,
    _mm512_dpbusd_epi32
);

#[target_feature(enable = "avx512f,avx512bf16")]
fn broadcast_bf16(pair: i32) -> __m512bh {
    // SAFETY: both are 64 bytes, and any bytes are a value.
    unsafe { std::mem::transmute(_mm512_set1_epi32(pair)) }
}

/// # Safety
/// `p` is readable for 64 bytes.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn load_bf16(p: *const u8) -> __m512bh {
    // SAFETY: as promised; both are 64 bytes, and any bytes are a value.
    unsafe { std::mem::transmute(_mm512_loadu_si512(p.cast())) }
}

/// A register-only loop over the instruction of a block.
macro_rules! peak {
    ($name:ident, $features:literal, $sum:ty, $zero:expr, $x:expr, $dot:path) => {
        /// # Safety
        /// The processor has the features.
        #[target_feature(enable = $features)]
        unsafe fn $name(rounds: usize) {
            let mut sums: [$sum; 16] = [$zero; 16];
            let x = $x(std::hint::black_box(0));
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $dot(*sum, x, x);
                }
            }
            std::hint::black_box(sums);
        }
    };
}

peak!(
    peak_bf16,
    "avx512f,avx512bf16",
    __m512,
    _mm512_setzero_ps(),
    broadcast_bf16,
    _mm512_dpbf16_ps
);
peak!(
    peak_i8,
    "avx512f,avx512vnni",
    __m512i,
    _mm512_setzero_si512(),
    _mm512_set1_epi32,
    _mm512_dpbusd_epi32
);
