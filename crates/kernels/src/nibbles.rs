//! Sums of table entries that rows of four-bit codes pick: for rows of one bit a dimension, the dot products
//! with a query of a few bits a dimension, four dimensions at a look.
//!
//! Rows lie in blocks of [`BLOCK_ROWS`], byte by byte: `[rows / 64, bytes, 64]`. So one instruction looks up
//! the same code of many rows in a table that is in one register. Entries are below 128: two of them fit in
//! a byte, and 512 in the 16 bits of a partial sum.
//!
//! # Source
//! André, Kermarrec and Le Scouarnec, "Quicker ADC", arXiv 1812.09162: tables in registers.

use crate::Pool;
use crate::dispatch::Kernels;
use crate::elementwise::for_runs;

/// Rows of a block.
pub const BLOCK_ROWS: usize = 64;
/// Entries of a table, one for each code.
pub const TABLE: usize = 16;
/// Bytes of a row, of two codes each, whose sums fit in 16 bits.
const RUN_BYTES: usize = 256;
/// Blocks of one task.
const TASK_BLOCKS: usize = 64;

/// Vectors of bytes, one for each of `ROWS` rows.
///
/// # Safety
/// All methods need the instruction set of the type, and pointers to as many bytes as are read or written.
trait Bytes: Copy {
    const ROWS: usize;
    /// Bytes of so many rows.
    unsafe fn load(p: *const u8) -> Self;
    /// A table for lookups.
    unsafe fn table(p: *const u8) -> Self;
    unsafe fn zero() -> Self;
    /// The lower four bits of each byte.
    unsafe fn low(self) -> Self;
    /// The upper four bits of each byte.
    unsafe fn high(self) -> Self;
    /// The entries of the codes; `self` is a table.
    unsafe fn look_up(self, codes: Self) -> Self;
    unsafe fn add_bytes(self, other: Self) -> Self;
    /// Adds pairs of bytes as numbers of 16 bits, the first byte the lower one, without regard of overflow.
    unsafe fn add_pairs(self, other: Self) -> Self;
    /// The second byte of each pair as a number of 16 bits.
    unsafe fn seconds(self) -> Self;
    unsafe fn store(self, p: *mut u16);
}

/// The sums of one block of rows.
///
/// # Safety
/// The processor has the instruction set of `V`; `block` has `bytes` bytes of 64 rows and `tables` two tables
/// for each byte.
#[inline(always)]
unsafe fn block<V: Bytes>(block: *const u8, bytes: usize, tables: *const u8, out: &mut [u32; 64]) {
    *out = [0; BLOCK_ROWS];
    for from in (0..bytes).step_by(RUN_BYTES) {
        for rows in (0..BLOCK_ROWS).step_by(V::ROWS) {
            let mut pairs = [0u16; BLOCK_ROWS];
            let mut seconds = [0u16; BLOCK_ROWS];
            // SAFETY: codes and tables are inside of what the caller promises; a vector of sums has
            // half as many numbers as bytes.
            unsafe {
                let (mut sum_pairs, mut sum_seconds) = (V::zero(), V::zero());
                for at in from..bytes.min(from + RUN_BYTES) {
                    let codes = V::load(block.add(at * BLOCK_ROWS + rows));
                    let first = V::table(tables.add(2 * at * TABLE)).look_up(codes.low());
                    let second = V::table(tables.add((2 * at + 1) * TABLE)).look_up(codes.high());
                    let both = first.add_bytes(second);
                    sum_pairs = sum_pairs.add_pairs(both);
                    sum_seconds = sum_seconds.add_pairs(both.seconds());
                }
                sum_pairs.store(pairs.as_mut_ptr());
                sum_seconds.store(seconds.as_mut_ptr());
            }
            let sums = pairs.iter().zip(&seconds);
            let out = out[rows..rows + V::ROWS].as_chunks_mut::<2>().0;
            for ([first, second], (&pair, &of_second)) in out.iter_mut().zip(sums) {
                *first += u32::from(pair.wrapping_sub(of_second << 8));
                *second += u32::from(of_second);
            }
        }
    }
}

/// All blocks of a run, whose last may have fewer rows.
///
/// # Safety
/// As [`block`], for as many blocks as `out` has rows.
#[inline(always)]
unsafe fn blocks<V: Bytes>(codes: &[u8], bytes: usize, tables: &[u8], out: &mut [u32]) {
    let mut sums = [0; BLOCK_ROWS];
    for (codes, out) in codes.chunks_exact(bytes * BLOCK_ROWS).zip(out.chunks_mut(BLOCK_ROWS)) {
        // SAFETY: as promised by the caller.
        unsafe { block::<V>(codes.as_ptr(), bytes, tables.as_ptr(), &mut sums) };
        out.copy_from_slice(&sums[..out.len()]);
    }
}

/// The plain form.
fn portable(codes: &[u8], bytes: usize, tables: &[u8], out: &mut [u32]) {
    let entry = |table: usize, code: u8| u32::from(tables[table * TABLE + usize::from(code)]);
    out.fill(0);
    for (codes, out) in codes.chunks_exact(bytes * BLOCK_ROWS).zip(out.chunks_mut(BLOCK_ROWS)) {
        for (at, codes) in codes.chunks_exact(BLOCK_ROWS).enumerate() {
            for (out, &code) in out.iter_mut().zip(codes) {
                *out += entry(2 * at, code & 15) + entry(2 * at + 1, code >> 4);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Bytes in `zmm` and `ymm`.

    use super::{Bytes, blocks};
    use std::arch::x86_64::*;

    /// Wraps the operations of one width.
    macro_rules! vector {
        ($name:ident, $raw:ty, $rows:literal, $load:ident, $store:ident, $broadcast:ident, $zero:ident,
         $set:ident, $and:ident, $shift:ident, $shuffle:ident, $add8:ident, $add16:ident) => {
            #[derive(Clone, Copy)]
            struct $name($raw);

            // In each method: SAFETY: the caller promises the instruction set and the memory.
            impl Bytes for $name {
                const ROWS: usize = $rows;
                #[inline(always)]
                unsafe fn load(p: *const u8) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $load(p.cast()) })
                }
                #[inline(always)]
                unsafe fn table(p: *const u8) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $broadcast(_mm_loadu_si128(p.cast())) })
                }
                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $zero() })
                }
                #[inline(always)]
                unsafe fn low(self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $and(self.0, $set(15)) })
                }
                #[inline(always)]
                unsafe fn high(self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $and($shift::<4>(self.0), $set(15)) })
                }
                #[inline(always)]
                unsafe fn look_up(self, codes: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $shuffle(self.0, codes.0) })
                }
                #[inline(always)]
                unsafe fn add_bytes(self, other: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $add8(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn add_pairs(self, other: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $add16(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn seconds(self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $shift::<8>(self.0) })
                }
                #[inline(always)]
                unsafe fn store(self, p: *mut u16) {
                    // SAFETY: as above.
                    unsafe { $store(p.cast(), self.0) }
                }
            }
        };
    }

    vector!(
        Zmm,
        __m512i,
        64,
        _mm512_loadu_si512,
        _mm512_storeu_si512,
        _mm512_broadcast_i32x4,
        _mm512_setzero_si512,
        _mm512_set1_epi8,
        _mm512_and_si512,
        _mm512_srli_epi16,
        _mm512_shuffle_epi8,
        _mm512_add_epi8,
        _mm512_add_epi16
    );
    vector!(
        Ymm,
        __m256i,
        32,
        _mm256_loadu_si256,
        _mm256_storeu_si256,
        _mm256_broadcastsi128_si256,
        _mm256_setzero_si256,
        _mm256_set1_epi8,
        _mm256_and_si256,
        _mm256_srli_epi16,
        _mm256_shuffle_epi8,
        _mm256_add_epi8,
        _mm256_add_epi16
    );

    /// # Safety
    /// As [`blocks`], on a processor with the features.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn avx512(codes: &[u8], bytes: usize, tables: &[u8], out: &mut [u32]) {
        // SAFETY: as promised by the caller.
        unsafe { blocks::<Zmm>(codes, bytes, tables, out) }
    }

    /// # Safety
    /// As [`blocks`], on a processor with the feature.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2(codes: &[u8], bytes: usize, tables: &[u8], out: &mut [u32]) {
        // SAFETY: as promised by the caller.
        unsafe { blocks::<Ymm>(codes, bytes, tables, out) }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    //! Bytes in a `q` register.

    use super::{Bytes, blocks};
    use std::arch::aarch64::*;

    #[derive(Clone, Copy)]
    struct Q(uint8x16_t);

    impl Q {
        #[inline(always)]
        fn wide(self) -> uint16x8_t {
            // SAFETY: a value of this type exists only where the processor has NEON.
            unsafe { vreinterpretq_u16_u8(self.0) }
        }
    }

    // In each method: SAFETY: the caller promises the instruction set and the memory.
    impl Bytes for Q {
        const ROWS: usize = 16;
        #[inline(always)]
        unsafe fn load(p: *const u8) -> Self {
            // SAFETY: as above.
            Self(unsafe { vld1q_u8(p) })
        }
        #[inline(always)]
        unsafe fn table(p: *const u8) -> Self {
            // SAFETY: as above.
            Self(unsafe { vld1q_u8(p) })
        }
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: as above.
            Self(unsafe { vdupq_n_u8(0) })
        }
        #[inline(always)]
        unsafe fn low(self) -> Self {
            // SAFETY: as above.
            Self(unsafe { vandq_u8(self.0, vdupq_n_u8(15)) })
        }
        #[inline(always)]
        unsafe fn high(self) -> Self {
            // SAFETY: as above.
            Self(unsafe { vshrq_n_u8::<4>(self.0) })
        }
        #[inline(always)]
        unsafe fn look_up(self, codes: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { vqtbl1q_u8(self.0, codes.0) })
        }
        #[inline(always)]
        unsafe fn add_bytes(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { vaddq_u8(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn add_pairs(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { vreinterpretq_u8_u16(vaddq_u16(self.wide(), other.wide())) })
        }
        #[inline(always)]
        unsafe fn seconds(self) -> Self {
            // SAFETY: as above.
            Self(unsafe { vreinterpretq_u8_u16(vshrq_n_u16::<8>(self.wide())) })
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut u16) {
            // SAFETY: as above.
            unsafe { vst1q_u16(p, self.wide()) }
        }
    }

    /// # Safety
    /// As [`blocks`].
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn neon(codes: &[u8], bytes: usize, tables: &[u8], out: &mut [u32]) {
        // SAFETY: as promised by the caller.
        unsafe { blocks::<Q>(codes, bytes, tables, out) }
    }
}

impl Kernels {
    /// For each row the sum over its bytes of the entry of the lower four bits in the byte's first table
    /// and of the entry of the upper four in its second. Codes are `[rows / 64, bytes, 64]`, the last
    /// block filled up with anything; tables `[2 · bytes, 16]`; `out` is `[rows]`.
    ///
    /// # Panics
    /// Panics if the shapes do not fit each other, or an entry is above 127.
    pub fn scan_nibbles(
        &self,
        pool: &Pool,
        codes: &[u8],
        bytes: usize,
        tables: &[u8],
        out: &mut [u32],
    ) {
        assert_eq!(tables.len(), 2 * bytes * TABLE, "scan_nibbles: not two tables a byte");
        assert!(tables.iter().all(|&entry| entry < 128), "scan_nibbles: an entry above 127");
        let all = out.len().div_ceil(BLOCK_ROWS) * bytes * BLOCK_ROWS;
        assert_eq!(codes.len(), all, "scan_nibbles: codes are not blocks of {BLOCK_ROWS} rows");
        if bytes == 0 {
            return out.fill(0);
        }
        let isa = self.isa();
        for_runs(pool, out, TASK_BLOCKS * BLOCK_ROWS, &|range, out| {
            let blocks = range.start / BLOCK_ROWS..range.end.div_ceil(BLOCK_ROWS);
            let codes = &codes[blocks.start * bytes * BLOCK_ROWS..blocks.end * bytes * BLOCK_ROWS];
            #[cfg(target_arch = "x86_64")]
            {
                if isa.has_avx512() && is_x86_feature_detected!("avx512bw") {
                    // SAFETY: the features were found; the shapes were checked.
                    return unsafe { x86::avx512(codes, bytes, tables, out) };
                }
                if isa != crate::Isa::Scalar && is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    return unsafe { x86::avx2(codes, bytes, tables, out) };
                }
            }
            #[cfg(target_arch = "aarch64")]
            if isa != crate::Isa::Scalar {
                // SAFETY: every processor of this kind has it; the shapes were checked.
                return unsafe { neon::neon(codes, bytes, tables, out) };
            }
            portable(codes, bytes, tables, out);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bound, Random, Runner};

    #[test]
    fn sums_are_those_of_looking_up_one_by_one() {
        let mut random = Random::new(3);
        // Up to and over what 16 bits hold, with the largest entries.
        for bytes in (1..=17).chain([96, 255, 256, 257, 700]) {
            for rows in [1, 63, 64, 65, 200] {
                let blocks = usize::div_ceil(rows, BLOCK_ROWS);
                let mut below = |n| random.below(n) as u8;
                let mut codes: Vec<u8> =
                    (0..blocks * bytes * BLOCK_ROWS).map(|_| below(256)).collect();
                let mut tables: Vec<u8> = (0..2 * bytes * TABLE).map(|_| below(128)).collect();
                if rows == 65 {
                    codes.fill(0xff);
                    tables.fill(127);
                }
                let code = |row: usize, at: usize| {
                    codes
                        [row / BLOCK_ROWS * bytes * BLOCK_ROWS + at * BLOCK_ROWS + row % BLOCK_ROWS]
                };
                let entry =
                    |table: usize, code: u8| f32::from(tables[table * TABLE + code as usize]);
                let expected: Vec<f32> = (0..rows)
                    .map(|row| {
                        let of_byte = |at: usize| {
                            let code = code(row, at);
                            entry(2 * at, code % 16) + entry(2 * at + 1, code / 16)
                        };
                        (0..bytes).map(of_byte).sum()
                    })
                    .collect();
                Runner::new().check(
                    "nibbles",
                    &expected,
                    &Bound::Absolute(0.0),
                    &|kernels, pool| {
                        let mut out = vec![7; rows];
                        kernels.scan_nibbles(pool, &codes, bytes, &tables, &mut out);
                        out.iter().map(|&sum| sum as f32).collect()
                    },
                );
            }
        }
    }

    #[test]
    fn many_rows_are_cut_into_tasks() {
        let mut random = Random::new(4);
        let rows = 3 * TASK_BLOCKS * BLOCK_ROWS + 5;
        let codes: Vec<u8> =
            (0..rows.next_multiple_of(BLOCK_ROWS) * 2).map(|_| random.below(256) as u8).collect();
        let tables: Vec<u8> = (0..4 * TABLE).map(|_| random.below(128) as u8).collect();
        Runner::new().same_bits("tasks", &|kernels, pool| {
            let mut out = vec![0; rows];
            kernels.scan_nibbles(pool, &codes, 2, &tables, &mut out);
            out.iter().map(|&sum| sum as f32).collect()
        });
    }

    #[test]
    #[should_panic(expected = "an entry above 127")]
    fn entries_that_could_run_over_are_refused() {
        let tables = [128; 2 * TABLE];
        Kernels::get().scan_nibbles(&Pool::new(1), &[0; 64], 1, &tables, &mut [0]);
    }

    #[test]
    #[should_panic(expected = "codes are not blocks")]
    fn broken_blocks_are_refused() {
        Kernels::get().scan_nibbles(&Pool::new(1), &[0; 63], 1, &[0; 2 * TABLE], &mut [0]);
    }
}
