//! AMX: a register is a tile of 16 rows × 64 bytes, one instruction multiplies two of them.
//!
//! ```text
//! tmm0 tmm1     sums of rows 0..16   with columns 0..16, 16..32
//! tmm2 tmm3     sums of rows 16..32
//! tmm4 tmm5     inputs, rows 0..16 and 16..32           64 bytes apart
//! tmm6 tmm7     weights, columns 0..16 and 16..32      128 bytes apart
//! ```
//!
//! Four loads for four products: a product takes 16 cycles, a load at least 8, so the loads hide
//! behind the products as long as the first-level cache serves them. A panel's part stays there for
//! all rows, so inputs are loaded past it (`tileloaddt1`); with one tile of rows, nothing of the
//! panel is used again, and it is the weights that go past. That is worth a sixth.
//!
//! The compiler knows no tile registers (their intrinsics are not stable), so a block is one piece
//! of assembly that begins and ends with the sums in memory. Linux gives a process the tile state
//! only if it asks; [`is_available`] asks.
//!
//! Within a step the products of even and of odd places are summed apart, then added to the
//! accumulator; numbers below the normal ones count as zero (Intel SDM, `TDPBF16PS`).

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _MM_HINT_T1, _mm_prefetch, _xgetbv};
use std::sync::OnceLock;

use super::avx512::with_bf16;
use crate::dispatch::{Isa, Kernels};
use crate::reduced::{BlockArgs, TILE_ROWS, Table};

/// AMX beside AVX-512 with dot products.
pub(crate) static KERNELS: Kernels = Kernels {
    isa: Isa::Amx,
    reduced: Table {
        block_bf16,
        block_i8,
        enter,
        leave,
        k_steps: 16,
        peak_bf16: Some((peak_bf16, 4 * 16 * 16 * 64)),
        peak_i8: Some((peak_i8, 4 * 16 * 16 * 128)),
        pack_weight_row: super::avx512::TABLE.reduced.pack_weight_row,
        ..with_bf16::TABLE.reduced
    },
    ..with_bf16::TABLE
};

/// Whether processor and system let this process use AMX with `bf16` and bytes, and the AVX-512
/// that the rest of the level needs.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        avx512_dot_is_available() && has_instructions() && system_saves_tiles() && permitted()
    })
}

fn avx512_dot_is_available() -> bool {
    Isa::Avx512Bf16.is_available()
}

/// CPUID 7.0, EDX: AMX-BF16 is bit 22, AMX-TILE 24, AMX-INT8 25.
fn has_instructions() -> bool {
    const NEEDED: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & NEEDED == NEEDED
}

/// XCR0: tile configuration is bit 17, tile data 18.
fn system_saves_tiles() -> bool {
    if !is_x86_feature_detected!("xsave") {
        return false;
    }
    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: register 0 exists where the feature is.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: the feature was just found.
    unsafe { xcr0() >> 17 & 3 == 3 }
}

/// Asks Linux for the tile state (arch_prctl, ARCH_REQ_XCOMP_PERM of feature 18), for all threads of
/// the process.
fn permitted() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const TILE_DATA: libc::c_long = 18;
        // SAFETY: the call takes two numbers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// The operand of `ldtilecfg`: palette 1, eight tiles of 16 rows × 64 bytes.
#[repr(C, align(64))]
struct TileConfig([u8; 64]);

static CONFIG: TileConfig = {
    let mut config = [0; 64];
    config[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        config[16 + 2 * tile] = 64;
        config[48 + tile] = TILE_ROWS as u8;
        tile += 1;
    }
    TileConfig(config)
};

/// # Safety
/// The processor has AMX and the process may use it.
unsafe fn enter() {
    // SAFETY: the configuration is valid for palette 1.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) }
}

/// # Safety
/// As for [`enter`].
unsafe fn leave() {
    // SAFETY: gives the tile state back; nothing of it is used afterwards.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}

/// Lines that a step of a block asks for.
const LINES_A_STEP: usize = 4;

/// What the steps of a block ask for: all at once would keep the block's own loads waiting.
struct Ahead {
    first: *const u8,
    /// From one step's lines to the next; 0 where there is nothing to ask for.
    step: usize,
}

impl Ahead {
    fn new(args: &BlockArgs) -> Self {
        let inside = args.prefetch_lines.min(args.steps * LINES_A_STEP);
        for line in inside..args.prefetch_lines {
            // SAFETY: a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(args.prefetch.wrapping_add(line * 64).cast()) };
        }
        match inside {
            0 => Self { first: args.b, step: 0 },
            _ => Self { first: args.prefetch, step: LINES_A_STEP * 64 },
        }
    }
}

/// A block of one tile of rows, or two.
macro_rules! block {
    ($name:ident, $product:literal) => {
        /// # Safety
        /// The thread has called [`enter`]; the pointers are valid for what [`BlockArgs`] says.
        unsafe fn $name(args: &BlockArgs) {
            if args.steps == 0 {
                if !args.resume {
                    for row in 0..args.rows.next_multiple_of(TILE_ROWS) {
                        // SAFETY: `c` is writable for the block's rows.
                        unsafe { args.c_row(row).write_bytes(0, crate::reduced::PANEL_COLS * 4) };
                    }
                }
                return;
            }
            // SAFETY: each load and store is one of those that `BlockArgs` promises; all state that
            // is changed is named, but for tile registers, which the compiler does not use.
            unsafe {
                if args.rows > TILE_ROWS {
                    let ahead = Ahead::new(args);
                    asm!(
                        "test {resume:e}, {resume:e}",
                        "jz 2f",
                        "tileloadd tmm0, [{c} + {row}]",
                        "tileloadd tmm1, [{c} + {row} + 64]",
                        "tileloadd tmm2, [{c1} + {row}]",
                        "tileloadd tmm3, [{c1} + {row} + 64]",
                        "jmp 3f",
                        "2:",
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "3:",
                        "tileloadd tmm6, [{b} + {s128}]",
                        "tileloaddt1 tmm4, [{a0} + {s64}]",
                        "prefetcht1 [{ahead}]",
                        "prefetcht1 [{ahead} + 64]",
                        concat!($product, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm7, [{b} + {s128} + 64]",
                        concat!($product, " tmm1, tmm4, tmm7"),
                        "tileloaddt1 tmm5, [{a1} + {s64}]",
                        "prefetcht1 [{ahead} + 128]",
                        "prefetcht1 [{ahead} + 192]",
                        concat!($product, " tmm2, tmm5, tmm6"),
                        concat!($product, " tmm3, tmm5, tmm7"),
                        "add {ahead}, {ahead_step}",
                        "add {b}, 2048",
                        "add {a0}, 1024",
                        "add {a1}, 1024",
                        "dec {steps}",
                        "jnz 3b",
                        "tilestored [{c} + {row}], tmm0",
                        "tilestored [{c} + {row} + 64], tmm1",
                        "tilestored [{c1} + {row}], tmm2",
                        "tilestored [{c1} + {row} + 64], tmm3",
                        resume = in(reg) u32::from(args.resume),
                        c = in(reg) args.c,
                        c1 = in(reg) args.c.wrapping_add(TILE_ROWS * args.c_row),
                        row = in(reg) args.c_row,
                        s128 = in(reg) 128usize,
                        s64 = in(reg) 64usize,
                        a0 = inout(reg) args.a => _,
                        a1 = inout(reg) args.a.add(args.a_block) => _,
                        b = inout(reg) args.b => _,
                        steps = inout(reg) args.steps => _,
                        ahead = inout(reg) ahead.first => _,
                        ahead_step = in(reg) ahead.step,
                        options(nostack),
                    );
                } else {
                    asm!(
                        "test {resume:e}, {resume:e}",
                        "jz 2f",
                        "tileloadd tmm0, [{c} + {row}]",
                        "tileloadd tmm1, [{c} + {row} + 64]",
                        "jmp 3f",
                        "2:",
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "3:",
                        "tileloaddt1 tmm6, [{b} + {s128}]",
                        "tileloadd tmm4, [{a} + {s64}]",
                        concat!($product, " tmm0, tmm4, tmm6"),
                        "tileloaddt1 tmm7, [{b} + {s128} + 64]",
                        concat!($product, " tmm1, tmm4, tmm7"),
                        "add {b}, 2048",
                        "add {a}, 1024",
                        "dec {steps}",
                        "jnz 3b",
                        "tilestored [{c} + {row}], tmm0",
                        "tilestored [{c} + {row} + 64], tmm1",
                        resume = in(reg) u32::from(args.resume),
                        c = in(reg) args.c,
                        row = in(reg) args.c_row,
                        s128 = in(reg) 128usize,
                        s64 = in(reg) 64usize,
                        a = inout(reg) args.a => _,
                        b = inout(reg) args.b => _,
                        steps = inout(reg) args.steps => _,
                        options(nostack),
                    );
                }
            }
        }
    };
}

block!(block_bf16, "tdpbf16ps");
block!(block_i8, "tdpbusd");

/// A register-only loop over the four products of a step.
macro_rules! peak {
    ($name:ident, $product:literal) => {
        /// # Safety
        /// The thread has called [`enter`].
        unsafe fn $name(rounds: usize) {
            // SAFETY: no memory is touched; tiles are not the compiler's.
            unsafe {
                asm!(
                    "2:",
                    concat!($product, " tmm0, tmm4, tmm6"),
                    concat!($product, " tmm1, tmm4, tmm7"),
                    concat!($product, " tmm2, tmm5, tmm6"),
                    concat!($product, " tmm3, tmm5, tmm7"),
                    "dec {rounds}",
                    "jnz 2b",
                    rounds = inout(reg) rounds.max(1) => _,
                    options(nostack, nomem),
                );
            }
        }
    };
}

peak!(peak_bf16, "tdpbf16ps");
peak!(peak_i8, "tdpbusd");

const _: () = assert!(size_of::<TileConfig>() == 64);
