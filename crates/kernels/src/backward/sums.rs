//! Sums over rows: the gradient of a bias, and of whatever else is the same for every row.

use super::{load, store};
use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;
use crate::elementwise::SendPointer;
use crate::reduced::{STEP_BYTES, TILE_BYTES, TILE_ROWS};
use crate::{Pool, Source};

/// Columns that one task sums up.
const TASK_COLUMNS: usize = 128;
/// Values of one row in a tile.
const TILE_VALUES: usize = STEP_BYTES / 2;

/// Adds `rows` rows, `x_row` values apart, to `sums`, in the order of the rows.
///
/// # Safety
/// The processor has the instruction set of `V`; each row is readable for `sums.len()` values.
#[inline(always)]
pub(crate) unsafe fn add_rows<V: F32x16>(
    x: *const f32,
    x_row: usize,
    rows: usize,
    sums: &mut [f32],
) {
    const WIDTH: usize = 4;
    let (len, sums) = (sums.len(), sums.as_mut_ptr());
    // SAFETY: all offsets stay within the rows and `sums`.
    unsafe {
        let mut first = 0;
        while first + WIDTH * LANES <= len {
            let mut totals = [V::splat(0.0); WIDTH];
            for (v, total) in totals.iter_mut().enumerate() {
                *total = V::load(sums.add(first + v * LANES));
            }
            for row in 0..rows {
                let x = x.add(row * x_row + first);
                for (v, total) in totals.iter_mut().enumerate() {
                    *total = *total + V::load(x.add(v * LANES));
                }
            }
            for (v, total) in totals.into_iter().enumerate() {
                total.store(sums.add(first + v * LANES));
            }
            first += WIDTH * LANES;
        }
        for at in (first..len).step_by(LANES) {
            let count = LANES.min(len - at);
            let mut total = load::<V>(sums.add(at), count, 0.0);
            for row in 0..rows {
                total = total + load::<V>(x.add(row * x_row + at), count, 0.0);
            }
            store(total, sums.add(at), count);
        }
    }
}

/// Adds the first `rows` rows of one tile to `sums`, 32 values.
///
/// # Safety
/// The processor has the instruction set of `V`; `x` is readable for a tile, and `rows` is no more
/// than its rows.
#[inline(always)]
pub(crate) unsafe fn add_tile_rows<V: F32x16>(x: *const u8, rows: usize, sums: &mut [f32]) {
    debug_assert!(sums.len() == TILE_VALUES && rows <= TILE_ROWS);
    let sums = sums.as_mut_ptr();
    // SAFETY: as promised by the caller; a row of a tile is 32 values.
    unsafe {
        let (mut low, mut high) = (V::load(sums), V::load(sums.add(LANES)));
        for row in 0..rows {
            let x = x.add(row * STEP_BYTES).cast::<u16>();
            low = low + V::load_bf16(x);
            high = high + V::load_bf16(x.add(LANES));
        }
        low.store(sums);
        high.store(sums.add(LANES));
    }
}

impl Kernels {
    /// `out[c] = Σ_r x[r, c]` for `x` [`rows`, `out.len()`].
    ///
    /// # Panics
    /// Panics if the lengths do not fit.
    ///
    /// # Numerics
    /// One `f32` sum a column, in the order of the rows.
    pub fn column_sums(&self, pool: &Pool, x: &Source<'_>, rows: usize, out: &mut [f32]) {
        let cols = out.len();
        x.check(rows, cols);
        let start = SendPointer(out.as_mut_ptr());
        pool.run(cols.div_ceil(TASK_COLUMNS), &|task| {
            let first = task * TASK_COLUMNS;
            let count = TASK_COLUMNS.min(cols - first);
            let mut sums = [0.0; TASK_COLUMNS];
            match x {
                // SAFETY: a table exists only where its instruction set does; the columns are
                // inside the rows, which `check` has counted.
                Source::Rows(x) => unsafe {
                    let x = x.as_ptr().wrapping_add(first);
                    (self.backward.add_rows)(x, cols, rows, &mut sums[..count]);
                },
                Source::Tiles(tiles) => {
                    for (at, sums) in sums.chunks_exact_mut(TILE_VALUES).enumerate() {
                        let step = first / TILE_VALUES + at;
                        if step >= tiles.steps() {
                            break;
                        }
                        for row in (0..rows).step_by(TILE_ROWS) {
                            let at = tiles.row_start(row) + step * TILE_BYTES;
                            let tile = &tiles.bytes()[at..][..TILE_BYTES];
                            let count = TILE_ROWS.min(rows - row);
                            // SAFETY: as above; a tile is whole.
                            unsafe { (self.backward.add_tile_rows)(tile.as_ptr(), count, sums) };
                        }
                    }
                }
            }
            // SAFETY: these columns are inside `out`, and this task's alone.
            unsafe {
                let out = std::slice::from_raw_parts_mut(start.get().add(first), count);
                out.copy_from_slice(&sums[..count]);
            }
        });
    }

    /// For each group `g`, `out` row `g` becomes the sum of the rows `rows[starts[g] ..
    /// starts[g + 1]]` of `x` [_, `cols`], in that order: the gradient of rows of a table.
    ///
    /// # Panics
    /// Panics if a row is not in `x`, or lengths do not fit.
    pub fn sum_rows(
        &self,
        pool: &Pool,
        x: &[f32],
        cols: usize,
        (rows, starts): (&[u32], &[usize]),
        out: &mut [f32],
    ) {
        let groups = starts.len().saturating_sub(1);
        assert_eq!(out.len(), groups * cols, "sum_rows: out has not a row for each group");
        crate::elementwise::for_chunks(pool, out, cols.max(1), &|range, out| {
            let first = range.start / cols.max(1);
            for (at, out) in out.chunks_exact_mut(cols.max(1)).enumerate() {
                out.fill(0.0);
                for &row in &rows[starts[first + at]..starts[first + at + 1]] {
                    let x = &x[row as usize * cols..][..cols];
                    // SAFETY: a table exists only where its instruction set does; one row.
                    unsafe { (self.backward.add_rows)(x.as_ptr(), cols, 1, out) };
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::testing::{Bound, Place, Random, Runner, lengths};
    use crate::{Tiles, tiles_bytes};

    #[test]
    fn columns_agree_with_the_oracle() {
        let runner = Runner::new();
        let mut random = Random::new(1);
        for cols in lengths().filter(|&cols| cols > 0) {
            for rows in [0, 1, 2, 17, 33] {
                let x = random.values(rows * cols);
                let expected = reference::column_sums(&x, cols);
                let run = |kernels: &Kernels, pool: &Pool, place: Place| {
                    let mut out = place.fill(f32::NAN, cols);
                    kernels.column_sums(pool, &Source::Rows(&place.put(&x)), rows, &mut out);
                    out.to_vec()
                };
                let name = format!("column sums [{rows}, {cols}]");
                let bound = Bound::Absolute(rows as f64 * 4e-6);
                runner.check(&name, &expected, &bound, &|k, p| run(k, p, Place::Anywhere));
                if cols < 70 {
                    runner.in_all_places(&name, &run);
                }
                // From tiles: the sums of the rounded values.
                let run = |kernels: &Kernels, pool: &Pool, place: Place, unpack: bool| {
                    let mut tiles = place.fill(0xff, tiles_bytes(rows, cols));
                    kernels.pack_tiles(pool, &x, rows, cols, &mut tiles);
                    let tiles = Tiles::new(&tiles, rows, cols);
                    let mut out = place.fill(f32::NAN, cols);
                    if unpack {
                        let mut plain = vec![0.0; rows * cols];
                        kernels.unpack_tiles(pool, &tiles, &mut plain);
                        kernels.column_sums(pool, &Source::Rows(&plain), rows, &mut out);
                    } else {
                        kernels.column_sums(pool, &Source::Tiles(tiles), rows, &mut out);
                    }
                    out.to_vec()
                };
                for kernels in runner.kernels() {
                    for &place in Place::ALL {
                        let pool = Pool::new(1);
                        let found = run(kernels, &pool, place, false);
                        assert_eq!(found, run(kernels, &pool, place, true), "{name} of tiles");
                    }
                }
            }
        }
    }

    #[test]
    fn groups_of_rows_are_summed() {
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        for kernels in Runner::new().kernels() {
            let mut out = [9.0; 9];
            let groups: (&[u32], &[usize]) = (&[3, 0, 1], &[0, 2, 2, 3]);
            kernels.sum_rows(&Pool::new(2), &x, 3, groups, &mut out);
            assert_eq!(out, [9.0, 11.0, 13.0, 0.0, 0.0, 0.0, 3.0, 4.0, 5.0]);
        }
    }
}
