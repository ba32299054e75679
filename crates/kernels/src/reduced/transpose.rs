//! Transposed operands in `bf16`: see `transpose.rs` of the crate for what they are for.
//!
//! Everything goes by blocks of 32 × 32 values. As rows a block is 32 pieces of 64 bytes; as one step
//! of a panel it is 16 lines of 32 pairs. Pairing rows (2i, 2i + 1) makes the panel of the transpose;
//! transposing the pairs, as 32-bit values, makes the rows of the transpose.

use super::tiles::{Source, Tiles, tiles_bytes};
use super::{PANEL_COLS, PANEL_STEP_BYTES, PackedBf16, STEP_BYTES, TILE_BYTES, TILE_ROWS};
use crate::Pool;
use crate::aligned::with_scratch;
use crate::arch::generic::LANES;
use crate::dispatch::Kernels;
use crate::elementwise::SendPointer;
use crate::gemm::{FillRows, for_panels};
use crate::transpose::TransposeArgs;

/// Rows and columns of a block.
const BLOCK: usize = PANEL_COLS;
/// Values of a block, in pairs.
const BLOCK_PAIRS: usize = BLOCK * BLOCK / 2;

/// Rows that do not exist.
static ZEROS: [u8; STEP_BYTES] = [0; STEP_BYTES];

/// A block in 32-bit units, on a cache line.
#[repr(align(64))]
struct Block([f32; BLOCK_PAIRS]);

impl Block {
    fn new() -> Self {
        Self([0.0; BLOCK_PAIRS])
    }

    fn bytes(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

impl Kernels {
    /// Writes 32 pieces of 64 bytes, those of rows `0..32`, as the step of a panel.
    ///
    /// # Safety
    /// The pieces are readable, and `out` is writable for a step of a panel.
    unsafe fn pair_rows(&self, piece: impl Fn(usize) -> *const u8, out: *mut u8) {
        for pair in 0..BLOCK / 2 {
            // SAFETY: a table exists only where its instruction set does; a line is 128 bytes.
            unsafe {
                let line = out.add(pair * PANEL_COLS * 4);
                (self.backward.pair_bf16)(piece(2 * pair), piece(2 * pair + 1), line);
            }
        }
    }

    /// Writes the transpose of 32 pieces of 64 bytes as two tiles, `out_tile` bytes apart.
    ///
    /// # Safety
    /// The pieces are readable, `out` and `out + out_tile` writable for a tile.
    pub(super) unsafe fn transpose_block(
        &self,
        piece: impl Fn(usize) -> *const u8,
        out: *mut u8,
        out_tile: usize,
    ) {
        let mut block = Block::new();
        // SAFETY: as promised; a block is a step of a panel.
        unsafe {
            self.pair_rows(piece, block.bytes());
            self.unpair(block.bytes(), out, out_tile);
        }
    }

    /// Writes the transpose of a panel's step as 32 pieces of 64 bytes one after the other: two
    /// tiles, if `out_tile` is the distance of tiles.
    ///
    /// # Safety
    /// `step` is readable for a step of a panel, `out` and `out + out_tile` writable for a tile.
    unsafe fn unpair(&self, step: *const u8, out: *mut u8, out_tile: usize) {
        for half in 0..2 {
            // SAFETY: a table exists only where its instruction set does; 16 × 16 pairs from a
            // half of the lines, and 16 pieces of 16 pairs.
            unsafe {
                (self.backward.transpose)(&TransposeArgs {
                    x: step.cast::<f32>().add(half * LANES),
                    x_row: PANEL_COLS,
                    rows: LANES,
                    cols: LANES,
                    out: out.add(half * out_tile).cast(),
                    out_row: LANES,
                });
            }
        }
    }

    /// Rounds and packs a weight [`n`, `k`] that `fill` gives in pieces, to the bytes of
    /// [`PackedBf16::with_rows`].
    ///
    /// # Errors
    /// An error of `fill`, as it is.
    ///
    /// # Panics
    /// Panics if `out` has not [`PackedBf16::bytes_of`] bytes.
    pub fn pack_rows_bf16<E: Send>(
        &self,
        pool: &Pool,
        n: usize,
        k: usize,
        fill: FillRows<'_, E>,
        out: &mut [u8],
    ) -> Result<(), E> {
        /// Steps that are rounded together, for 32 rows in two rows of tiles.
        const STEPS: usize = 8;
        #[repr(align(64))]
        struct Rounded([u8; 2 * STEPS * TILE_BYTES]);

        assert_eq!(out.len(), PackedBf16::bytes_of(n, k), "pack: out is no such panels");
        let panel_len = PackedBf16::steps_of(k) * PANEL_STEP_BYTES;
        for_panels(pool, (n, k, PANEL_COLS), panel_len, out, fill, &|_, rows, panel| {
            // Rows that do not exist stay zeros.
            let mut rounded = Rounded([0; 2 * STEPS * TILE_BYTES]);
            let panels = panel.chunks_mut(STEPS * PANEL_STEP_BYTES);
            for (first, panel) in (0..).step_by(STEPS * BLOCK).zip(panels) {
                for (row, values) in rows.chunks_exact(k).enumerate() {
                    let values = &values[first..k.min(first + STEPS * BLOCK)];
                    let at = row / TILE_ROWS * STEPS * TILE_BYTES + row % TILE_ROWS * STEP_BYTES;
                    // SAFETY: a table exists only where its instruction set does; a piece of this
                    // row in each of the tiles that the values take, at most `STEPS`.
                    unsafe {
                        let out = rounded.0[at..].as_mut_ptr();
                        (self.reduced.pack_weight_row)(values, out);
                    }
                }
                for (step, panel) in panel.chunks_exact_mut(PANEL_STEP_BYTES).enumerate() {
                    for half in 0..2 {
                        let tile = &rounded.0[(half * STEPS + step) * TILE_BYTES..][..TILE_BYTES];
                        // SAFETY: as above; 16 rows of 16 pairs, and a half of 16 lines.
                        unsafe {
                            (self.backward.transpose)(&TransposeArgs {
                                x: tile.as_ptr().cast(),
                                x_row: LANES,
                                rows: LANES,
                                cols: LANES,
                                out: panel.as_mut_ptr().cast::<f32>().add(half * LANES),
                                out_row: PANEL_COLS,
                            });
                        }
                    }
                }
            }
        })
    }

    /// The transpose of tiles: `out` holds the tiles of [cols, rows].
    ///
    /// # Panics
    /// Panics if `out` has not the bytes of these tiles.
    pub fn transpose_tiles(&self, pool: &Pool, x: &Tiles<'_>, out: &mut [u8]) {
        let (rows, cols) = (x.rows(), x.cols());
        assert_eq!(out.len(), tiles_bytes(cols, rows), "transpose: out is no such tiles");
        let out_steps = rows.div_ceil(BLOCK);
        let out_tiles = cols.div_ceil(TILE_ROWS);
        let start = SendPointer(out.as_mut_ptr());
        pool.run(cols.div_ceil(BLOCK), &|step| {
            let (mut block, mut spare) = (Block::new(), Block::new());
            for at in 0..out_steps {
                let piece = |row: usize| match at * BLOCK + row {
                    row if row < rows => x.piece_of(row, step).as_ptr(),
                    _ => ZEROS.as_ptr(),
                };
                let tile = 2 * step * out_steps + at;
                let whole = 2 * step + 1 < out_tiles;
                // SAFETY: pieces are of 64 bytes; a block is one step of a panel; tiles 2 · step
                // and the one below, if there is one, are inside `out` and this task's alone.
                unsafe {
                    self.pair_rows(piece, block.bytes());
                    let out = start.get().add(tile * TILE_BYTES);
                    if whole {
                        self.unpair(block.bytes(), out, out_steps * TILE_BYTES);
                    } else {
                        self.unpair(block.bytes(), spare.bytes(), TILE_BYTES);
                        std::ptr::copy_nonoverlapping(spare.bytes(), out, TILE_BYTES);
                    }
                }
            }
        });
    }

    /// Packs the transpose of `x` [`rows`, `cols`], rounded, as the weight [`cols`, `rows`] of a
    /// product; see [`PackedBf16::from_bytes`].
    ///
    /// # Panics
    /// Panics if the lengths do not fit.
    pub fn pack_columns_bf16(
        &self,
        pool: &Pool,
        x: &Source<'_>,
        rows: usize,
        cols: usize,
        out: &mut [u8],
    ) {
        x.check(rows, cols);
        assert_eq!(out.len(), PackedBf16::bytes_of(cols, rows), "pack: out is no such panels");
        let (panels, steps) = (cols.div_ceil(PANEL_COLS), rows.div_ceil(BLOCK));
        let start = SendPointer(out.as_mut_ptr());
        pool.run(steps, &|step| {
            let first = step * BLOCK;
            let count = BLOCK.min(rows - first);
            let write = |tiles: &Tiles<'_>, first: usize| {
                for panel in 0..panels {
                    let piece = |row: usize| match row < count {
                        true => tiles.piece_of(first + row, panel).as_ptr(),
                        false => ZEROS.as_ptr(),
                    };
                    // SAFETY: pieces are of 64 bytes; this step of the panel is inside `out` and
                    // this task's alone.
                    unsafe {
                        let at = (panel * steps + step) * PANEL_STEP_BYTES;
                        self.pair_rows(piece, start.get().add(at));
                    }
                }
            };
            match x {
                Source::Tiles(tiles) => write(tiles, first),
                Source::Rows(x) => with_scratch(tiles_bytes(BLOCK, cols) / 4, |scratch| {
                    let bytes = super::attention::as_bytes(scratch);
                    let rows = &x[first * cols..(first + count) * cols];
                    let bytes = &mut bytes[..tiles_bytes(count, cols)];
                    self.pack_tiles(pool, rows, count, cols, bytes);
                    write(&Tiles::new(bytes, count, cols), 0);
                }),
            }
        });
    }

    /// The weight [N, K] as the weight [K, N] of the product with its transpose; see
    /// [`PackedBf16::from_bytes`].
    ///
    /// # Panics
    /// Panics if `out` has not the bytes of the panels.
    pub fn transpose_packed_bf16(&self, pool: &Pool, weight: &PackedBf16, out: &mut [u8]) {
        let (n, k) = (weight.n(), weight.k());
        let (panels, steps) = (n.div_ceil(PANEL_COLS), k.div_ceil(BLOCK));
        let bytes = weight.bytes().as_slice();
        assert_eq!(out.len(), PackedBf16::bytes_of(k, n), "transposed: out is no such panels");
        let start = SendPointer(out.as_mut_ptr());
        // Step `step` of panel `panel` becomes step `panel` of panel `step`.
        pool.run(steps, &|step| {
            let mut rows = Block::new();
            for panel in 0..panels {
                let from = &bytes[(panel * steps + step) * PANEL_STEP_BYTES..][..PANEL_STEP_BYTES];
                let at = (step * panels + panel) * PANEL_STEP_BYTES;
                // SAFETY: both are steps of a panel, inside theirs; that of `out` is this task's
                // alone.
                unsafe {
                    self.unpair(from.as_ptr(), rows.bytes(), TILE_BYTES);
                    let rows = rows.bytes().cast_const();
                    self.pair_rows(|row| rows.add(row * STEP_BYTES), start.get().add(at));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, Random, Runner};
    use std::convert::Infallible;

    const SIZES: [(usize, usize); 8] =
        [(1, 1), (15, 17), (16, 16), (33, 5), (3, 70), (64, 130), (130, 64), (40, 79)];

    fn transposed(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
        (0..rows * cols).map(|i| x[i % rows * cols + i / rows]).collect()
    }

    fn pack(pool: &Pool, w: &[f32], n: usize, k: usize) -> PackedBf16 {
        let fill = |rows: std::ops::Range<usize>, out: &mut [f32]| {
            out.copy_from_slice(&w[rows.start * k..rows.end * k]);
            Ok::<(), Infallible>(())
        };
        PackedBf16::with_rows(pool, n, k, None, &fill).unwrap()
    }

    #[test]
    fn tiles_of_the_transpose_are_those_of_its_rows() {
        let mut random = Random::new(1);
        let pool = Pool::new(2);
        for (rows, cols) in SIZES {
            let x = random.values(rows * cols);
            let across = transposed(&x, rows, cols);
            for kernels in Runner::new().kernels() {
                for &place in Place::ALL {
                    // What is behind the last row of a tile may be anything, in and out.
                    let mut tiles = place.fill(0xff, tiles_bytes(rows, cols));
                    kernels.pack_tiles(&pool, &x, rows, cols, &mut tiles);
                    let mut out = place.fill(0xff, tiles_bytes(cols, rows));
                    kernels.transpose_tiles(&pool, &Tiles::new(&tiles, rows, cols), &mut out);
                    let mut expected = vec![0xff; tiles_bytes(cols, rows)];
                    kernels.pack_tiles(&pool, &across, cols, rows, &mut expected);
                    let (out, expected) =
                        (Tiles::new(&out, cols, rows), Tiles::new(&expected, cols, rows));
                    for row in 0..cols {
                        for step in 0..out.steps() {
                            let name = format!("[{rows}, {cols}] row {row} step {step}");
                            assert_eq!(
                                out.piece_of(row, step),
                                expected.piece_of(row, step),
                                "{name}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn packed_rows_are_those_of_the_plain_loop() {
        let mut random = Random::new(3);
        let pool = Pool::new(2);
        for (n, k) in SIZES.into_iter().chain([(40, 300)]) {
            let mut w = random.values(n * k);
            // Below the normal numbers, where processors round in their own ways.
            w[0] = f32::from_bits(0x0003_8001);
            let expected = pack(&pool, &w, n, k);
            let fill = |rows: std::ops::Range<usize>, out: &mut [f32]| {
                out.copy_from_slice(&w[rows.start * k..rows.end * k]);
                Ok::<(), Infallible>(())
            };
            for kernels in Runner::new().kernels() {
                let mut out = Place::BeforePage.fill(0xff, PackedBf16::bytes_of(n, k));
                kernels.pack_rows_bf16(&pool, n, k, &fill, &mut out).unwrap();
                assert!(*out == *expected.bytes().as_slice(), "[{n}, {k}] {}", kernels.isa());
            }
        }
    }

    #[test]
    fn panels_of_the_transpose_are_those_of_its_rows() {
        let mut random = Random::new(2);
        let pool = Pool::new(2);
        for (rows, cols) in SIZES {
            let x = random.values(rows * cols);
            let expected = pack(&pool, &transposed(&x, rows, cols), cols, rows);
            let expected = expected.bytes().as_slice();
            for kernels in Runner::new().kernels() {
                for &place in Place::ALL {
                    let mut tiles = place.fill(0xff, tiles_bytes(rows, cols));
                    kernels.pack_tiles(&pool, &x, rows, cols, &mut tiles);
                    let placed = place.put(&x);
                    let tiles = Source::Tiles(Tiles::new(&tiles, rows, cols));
                    for source in [tiles, Source::Rows(&placed)] {
                        let mut out = place.fill(0xff, expected.len());
                        kernels.pack_columns_bf16(&pool, &source, rows, cols, &mut out);
                        assert!(*out == *expected, "[{rows}, {cols}] {}", kernels.isa());
                    }
                }
                let weight = pack(&pool, &x, rows, cols);
                let mut out = Place::BeforePage.fill(0xff, expected.len());
                kernels.transpose_packed_bf16(&pool, &weight, &mut out);
                assert!(*out == *expected, "[{rows}, {cols}] {}", kernels.isa());
            }
        }
    }
}
