//! Rows of `bf16` in tiles of 16 rows by 32 values: what a product reads, and what an operation
//! whose result only feeds products writes.
//!
//! Value (r, k) is at `(r / 16 · steps + k / 32) · 1024 + r % 16 · 64 + k % 32 · 2` bytes.

use super::{STEP_BYTES, TILE_BYTES, TILE_ROWS};
use crate::Pool;
use crate::aligned::with_scratch;
use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;
use crate::elementwise::{SendPointer, for_chunks};

/// Values of one row in one tile.
const TILE_VALUES: usize = STEP_BYTES / 2;

/// Rows of `bf16` in tiles.
#[derive(Clone, Copy)]
pub struct Tiles<'a> {
    bytes: &'a [u8],
    rows: usize,
    cols: usize,
}

impl std::fmt::Debug for Tiles<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tiles([{}, {}])", self.rows, self.cols)
    }
}

/// Bytes that `rows` rows of `cols` `bf16` values take in tiles.
///
/// # Panics
/// Panics if that is more than can be addressed.
pub fn tiles_bytes(rows: usize, cols: usize) -> usize {
    let tiles = rows.div_ceil(TILE_ROWS).checked_mul(cols.div_ceil(TILE_VALUES));
    let bytes = tiles.and_then(|tiles| tiles.checked_mul(TILE_BYTES));
    bytes.expect("tiles larger than the address space; this is a bug")
}

impl<'a> Tiles<'a> {
    /// The tiles in `bytes`.
    ///
    /// # Panics
    /// Panics if `bytes` has not [`tiles_bytes`] bytes.
    pub fn new(bytes: &'a [u8], rows: usize, cols: usize) -> Self {
        assert_eq!(bytes.len(), tiles_bytes(rows, cols), "tiles: wrong number of bytes");
        Self { bytes, rows, cols }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Tiles side by side.
    pub(crate) fn steps(&self) -> usize {
        self.cols.div_ceil(TILE_VALUES)
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where row `row` begins; its next 64 bytes are a tile further.
    pub(crate) fn row_start(&self, row: usize) -> usize {
        row / TILE_ROWS * self.steps() * TILE_BYTES + row % TILE_ROWS * STEP_BYTES
    }

    /// The 64 bytes of `row` in step `step`.
    ///
    /// # Panics
    /// Panics if there is no such row or step.
    pub(crate) fn piece_of(&self, row: usize, step: usize) -> &'a [u8; STEP_BYTES] {
        let piece = self.bytes[self.row_start(row) + step * TILE_BYTES..].first_chunk();
        piece.expect("tiles are whole; this is a bug")
    }
}

/// Rows on their way into a product.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// `f32` rows, one after the other.
    Rows(&'a [f32]),
    /// `bf16` tiles.
    Tiles(Tiles<'a>),
}

impl Source<'_> {
    pub(crate) fn check(&self, rows: usize, cols: usize) {
        match self {
            Source::Rows(x) => assert_eq!(x.len(), rows * cols, "source: not rows · cols values"),
            Source::Tiles(x) => {
                assert_eq!((x.rows(), x.cols()), (rows, cols), "source: another shape");
            }
        }
    }
}

/// Writes one row of `f32` to its places in tiles, `out` being the first; the values of the last
/// tile behind the row are zeros.
///
/// # Safety
/// The processor has the instruction set of `V`; `out` is writable for 64 bytes in each of the
/// `row.len() / 32` tiles, 1024 bytes apart.
#[inline(always)]
pub(crate) unsafe fn pack_row_bf16<V: F32x16>(row: &[f32], out: *mut u8) {
    let x = row.as_ptr();
    for at in (0..row.len().next_multiple_of(TILE_VALUES)).step_by(LANES) {
        // SAFETY: `at` is inside the row but for the half tile behind its end, where nothing is
        // read; the place is in the tile of `at`, which the caller promises.
        unsafe {
            let out = out.add(at / TILE_VALUES * TILE_BYTES + at % TILE_VALUES * 2).cast();
            let count = row.len().saturating_sub(at).min(LANES);
            let lanes = if count == LANES {
                V::load(x.add(at))
            } else {
                V::load_head(x.add(at.min(row.len())), count, 0.0)
            };
            lanes.store_bf16(out);
        }
    }
}

/// Reads one row back, `row` being its first place in tiles.
///
/// # Safety
/// As for [`pack_row_bf16`], readable.
#[inline(always)]
pub(crate) unsafe fn unpack_row_bf16<V: F32x16>(row: *const u8, out: &mut [f32]) {
    let len = out.len();
    let y = out.as_mut_ptr();
    for at in (0..len).step_by(LANES) {
        // SAFETY: `at` is inside the row; a tile is whole, so 16 values can be read.
        unsafe {
            let row = row.add(at / TILE_VALUES * TILE_BYTES + at % TILE_VALUES * 2).cast();
            let lanes = V::load_bf16(row);
            if len - at >= LANES {
                lanes.store(y.add(at));
            } else {
                lanes.store_head(y.add(at), len - at);
            }
        }
    }
}

/// A task packs this many rows: a tile's.
const TASK_ROWS: usize = TILE_ROWS;

impl Kernels {
    /// Rounds `f32` rows [`rows`, `cols`] to `bf16` tiles.
    ///
    /// # Panics
    /// Panics if lengths do not fit each other.
    pub fn pack_tiles(&self, pool: &Pool, x: &[f32], rows: usize, cols: usize, out: &mut [u8]) {
        Source::Rows(x).check(rows, cols);
        self.write_tiles(pool, rows, cols, out, &|row, write| write(&x[row * cols..][..cols]));
    }

    /// Writes tiles row by row: `row(index, write)` calls `write` once with the row's values.
    #[allow(clippy::type_complexity, reason = "an alias would hide what the closure takes")]
    pub(crate) fn write_tiles(
        &self,
        pool: &Pool,
        rows: usize,
        cols: usize,
        out: &mut [u8],
        row: &(dyn Fn(usize, &mut dyn FnMut(&[f32])) + Sync),
    ) {
        assert_eq!(out.len(), tiles_bytes(rows, cols), "tiles: wrong number of bytes");
        let block = cols.div_ceil(TILE_VALUES) * TILE_BYTES;
        let start = SendPointer(out.as_mut_ptr());
        pool.run(rows.div_ceil(TASK_ROWS), &|task| {
            for index in task * TASK_ROWS..rows.min((task + 1) * TASK_ROWS) {
                row(index, &mut |values| {
                    assert_eq!(values.len(), cols, "tiles: a row of another width");
                    let at = task * block + index % TILE_ROWS * STEP_BYTES;
                    // SAFETY: a table exists only where its instruction set does; the row is
                    // inside `out`, whose length is checked above, and rows differ in their places.
                    unsafe { (self.reduced.pack_row)(values, start.get().add(at)) }
                });
            }
        });
    }

    /// The layer norm of each row of `x` [rows, D] as `bf16` tiles, D the length of `weight`.
    ///
    /// # Panics
    /// As [`Kernels::layer_norm_f32`].
    pub fn layer_norm_tiles(
        &self,
        pool: &Pool,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        out: &mut [u8],
    ) {
        let cols = weight.len();
        assert_eq!(bias.len(), cols, "layer_norm: bias and weight differ in length");
        let rows = x.len().checked_div(cols).unwrap_or(0);
        Source::Rows(x).check(rows, cols);
        self.write_tiles(pool, rows, cols, out, &|row, write| {
            with_scratch(cols, |normed| {
                let row = &x[row * cols..][..cols];
                // SAFETY: a table exists only where its instruction set does; all are `cols` long.
                unsafe { (self.layer_norm)(row, weight, bias, eps, normed) };
                write(normed);
            });
        });
    }

    /// Rounds tiles back to `f32` rows (exactly: every `bf16` is an `f32`).
    ///
    /// # Panics
    /// Panics if `out` has not the tiles' number of values.
    pub fn unpack_tiles(&self, pool: &Pool, x: &Tiles<'_>, out: &mut [f32]) {
        assert_eq!(out.len(), x.rows() * x.cols(), "unpack: out has another length");
        let cols = x.cols().max(1);
        for_chunks(pool, out, cols, &|range, out| {
            for (row, out) in (range.start / cols..).zip(out.chunks_exact_mut(cols)) {
                self.read_row(&Source::Tiles(*x), row, cols, out);
            }
        });
    }

    /// Row `row` of `x` as `f32`.
    ///
    /// # Panics
    /// Panics if there is no such row, or `out` has not `cols` values.
    pub fn read_row(&self, x: &Source<'_>, row: usize, cols: usize, out: &mut [f32]) {
        match x {
            Source::Rows(x) => out.copy_from_slice(&x[row * cols..][..cols]),
            Source::Tiles(x) => {
                assert!(row < x.rows() && cols == x.cols() && out.len() == cols);
                // SAFETY: a table exists only where its instruction set does; the row is inside.
                unsafe {
                    let start = x.bytes().as_ptr().add(x.row_start(row));
                    (self.reduced.unpack_row)(start, out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::generic::round_to_bf16;
    use crate::testing::Runner;

    /// Every sign, exponent and upper mantissa, with lower halves at and around the ties.
    fn all_floats() -> impl Iterator<Item = f32> {
        let lows = [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
        (0..1u32 << 16).flat_map(move |high| lows.map(|low| f32::from_bits(high << 16 | low)))
    }

    #[test]
    fn values_are_rounded_as_the_crate_half_does() {
        let x: Vec<f32> = all_floats().collect();
        let expected: Vec<u16> = x.iter().map(|&x| half::bf16::from_f32(x).to_bits()).collect();
        for (&x, &expected) in x.iter().zip(&expected) {
            assert_eq!(round_to_bf16(x), expected, "{:08x}", x.to_bits());
        }
        let pool = Pool::new(1);
        let cols = 3 << 9;
        let rows = x.len() / cols;
        for kernels in Runner::new().kernels() {
            let mut tiles = vec![0; tiles_bytes(rows, cols)];
            kernels.pack_tiles(&pool, &x, rows, cols, &mut tiles);
            let tiles = Tiles::new(&tiles, rows, cols);
            let mut back = vec![0.0; x.len()];
            kernels.unpack_tiles(&pool, &tiles, &mut back);
            let own = matches!(kernels.isa(), crate::Isa::Avx512Bf16 | crate::Isa::Amx);
            for (at, (&bits, &back)) in expected.iter().zip(&back).enumerate() {
                // The processor's own rounding takes numbers below the normal ones for zero.
                let bits = if own && x[at].is_subnormal() { bits & 0x8000 } else { bits };
                let piece = tiles.piece_of(at / cols, at % cols / TILE_VALUES);
                let place = at % TILE_VALUES * 2;
                let found = u16::from_le_bytes([piece[place], piece[place + 1]]);
                let name = format!("{}: {:08x}", kernels.isa(), x[at].to_bits());
                assert_eq!(found, bits, "{name}");
                assert_eq!(back.to_bits(), u32::from(bits) << 16, "{name} and back");
            }
        }
    }

    #[test]
    fn a_level_writes_the_bits_of_the_portable_one() {
        // Bytes and sums have no crate for an oracle: rounding at ties and out of range.
        let mut x: Vec<f32> = (-40..=1100).map(|i| i as f32 * 0.25).collect();
        x.extend([
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            254.5,
            255.5,
            1e30,
            -1e30,
            3e9,
            -0.0,
        ]);
        x.resize(x.len().next_multiple_of(LANES), 0.5);
        let expected: Vec<u8> = x.iter().map(|x| x.round_ties_even() as u8).collect();
        let sums: Vec<i32> = (0..16).map(|i| (i - 8) * 0x0fff_fff1).collect();
        let check = |name: &str, bytes: &[u8], from: &[f32]| {
            assert_eq!(bytes, expected, "{name}");
            for (i, &y) in from.iter().enumerate() {
                let exact = sums[i] as f32;
                assert_eq!(y.to_bits(), exact.to_bits(), "{name} {i}");
            }
        };
        /// # Safety
        /// The processor has the instruction set of `V`.
        unsafe fn run<V: F32x16>(x: &[f32], sums: &[i32]) -> (Vec<u8>, [f32; 16]) {
            let mut bytes = vec![0; x.len()];
            for (x, out) in x.chunks_exact(LANES).zip(bytes.chunks_exact_mut(LANES)) {
                // SAFETY: as promised by the caller; both have 16 values.
                unsafe { V::load(x.as_ptr()).store_u8(out.as_mut_ptr()) };
            }
            assert_eq!(sums.len(), LANES);
            // SAFETY: as above.
            (bytes, unsafe { V::from_i32(sums.as_ptr()) }.to_array())
        }
        macro_rules! level {
            ($isa:ident, $vector:path) => {
                if crate::Isa::$isa.is_available() {
                    // SAFETY: just found.
                    let (bytes, from) = unsafe { run::<$vector>(&x, &sums) };
                    check(crate::Isa::$isa.name(), &bytes, &from);
                }
            };
        }
        level!(Scalar, crate::arch::portable::PortableF32);
        #[cfg(target_arch = "x86_64")]
        level!(Avx2, crate::arch::x86_64::avx2::Avx2F32);
        #[cfg(target_arch = "x86_64")]
        level!(Avx512, crate::arch::x86_64::avx512::Avx512F32);
        #[cfg(target_arch = "aarch64")]
        level!(Neon, crate::arch::aarch64::neon::NeonF32);
    }
}
