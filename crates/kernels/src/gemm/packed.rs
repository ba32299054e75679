//! Weights in the order in which the register tile reads them.
//!
//! A weight [N, K] (PyTorch's layout: a row per output column of the product) becomes panels of
//! `width` of its rows. A panel is [K, width]: for each k the `width` values side by side, so the
//! tile reads it from front to back. The last panel is as narrow as whole vectors allow, and its
//! missing rows are zeros.
//!
//! ```text
//! W[0..width, 0] W[0..width, 1] …   W[width..2·width, 0] …
//! ```

use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Pool;
use crate::aligned::{AlignedF32, Plain, with_scratch};
use crate::arch::generic::LANES;
use crate::dispatch::Isa;

/// A weight [N, K] in `f32`, packed for the register tile of one [`Isa`].
pub struct PackedF32 {
    isa: Isa,
    n: usize,
    k: usize,
    panels: Panels,
}

/// Where the panels lie.
enum Panels {
    Owned(AlignedF32),
    Shared(Arc<dyn AsRef<[f32]> + Send + Sync>),
}

impl Panels {
    fn as_slice(&self) -> &[f32] {
        match self {
            Panels::Owned(panels) => panels,
            Panels::Shared(panels) => (**panels).as_ref(),
        }
    }
}

impl std::fmt::Debug for PackedF32 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { isa, n, k, .. } = self;
        write!(f, "PackedF32([{n}, {k}] for {isa})")
    }
}

impl PackedF32 {
    /// Packs `weight` [`n`, `k`], row after row, for `isa`.
    ///
    /// # Panics
    /// Panics if `weight` has not `n · k` values.
    pub fn pack(isa: Isa, weight: &[f32], n: usize, k: usize) -> PackedF32 {
        assert_eq!(weight.len(), n * k, "pack: weight has not n · k values");
        let filled = Self::with_rows(&Pool::new(1), isa, n, k, &|rows, out: &mut [f32]| {
            out.copy_from_slice(&weight[rows.start * k..rows.end * k]);
            Ok::<(), Infallible>(())
        });
        match filled {
            Ok(packed) => packed,
            Err(never) => match never {},
        }
    }

    /// Packs a weight [`n`, `k`] that `fill` gives in pieces, so that a large one is never held
    /// twice: `fill(rows, out)` writes the rows `rows` into `out` [rows, `k`]. It is called with
    /// runs of some 16 to 64 rows, which together are `0..n`, from the threads of `pool`.
    ///
    /// # Errors
    /// An error of `fill`, as it is.
    ///
    /// # Panics
    /// Panics if `n · k` values are more than can be addressed.
    pub fn with_rows<E: Send>(
        pool: &Pool,
        isa: Isa,
        n: usize,
        k: usize,
        fill: FillRows<'_, E>,
    ) -> Result<PackedF32, E> {
        let width = isa.panel_width();
        let len = n.checked_next_multiple_of(LANES).and_then(|n| n.checked_mul(k));
        let len = len.expect("a weight larger than the address space; this is a bug");
        let mut panels = AlignedF32::zeros(len);
        for_panels(pool, (n, k, width), width * k, &mut panels, fill, &|_, rows, panel| {
            let count = rows.len() / k.max(1);
            let row = |index: usize| &rows[index * k..][..k];
            pack_panel(&row, count, k, panel, count.next_multiple_of(LANES));
        })?;
        Ok(PackedF32 { isa, n, k, panels: Panels::Owned(panels) })
    }

    /// Values that the panels of a weight [`n`, `k`] take.
    pub fn len_of(n: usize, k: usize) -> usize {
        n.next_multiple_of(LANES) * k
    }

    /// A weight [`n`, `k`] whose panels [`crate::Kernels::pack_rows_f32`] or
    /// [`crate::Kernels::pack_columns_f32`] has written.
    ///
    /// # Panics
    /// Panics if there are not [`PackedF32::len_of`] values.
    pub fn from_panels(
        isa: Isa,
        n: usize,
        k: usize,
        panels: Arc<dyn AsRef<[f32]> + Send + Sync>,
    ) -> PackedF32 {
        let len = (*panels).as_ref().len();
        assert_eq!(len, Self::len_of(n, k), "from_panels: wrong number of values");
        PackedF32 { isa, n, k, panels: Panels::Shared(panels) }
    }

    /// Rows of the weight: columns of the product.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Columns of the weight: the length of the sums.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The level it is packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes it holds, with padding.
    pub fn bytes(&self) -> usize {
        size_of_val(self.panels.as_slice())
    }

    /// Writes row `row` of the weight to `out`, exactly as it was given.
    ///
    /// # Panics
    /// Panics if `row` is not below `n`, or `out` has not `k` values.
    pub fn unpack_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n, "unpack_row: row {row} of {}", self.n);
        assert_eq!(out.len(), self.k, "unpack_row: out has not k values");
        let start = row / self.isa.panel_width() * self.isa.panel_width();
        let (panel, width) = self.panel(start);
        for (out, values) in out.iter_mut().zip(panel.chunks_exact(width)) {
            *out = values[row - start];
        }
    }

    /// The panel whose first row is `start`, and its width.
    pub(crate) fn panel(&self, start: usize) -> (&[f32], usize) {
        let width = panel_width(self.isa.panel_width(), self.n, start);
        (&self.panels.as_slice()[start * self.k..][..width * self.k], width)
    }
}

/// Gives the rows of a weight: `fill(rows, out)` writes the rows `rows` into `out` [rows, K].
pub type FillRows<'a, E> = &'a (dyn Fn(Range<usize>, &mut [f32]) -> Result<(), E> + Sync);

/// Reads a weight [n, k] in runs of `width` rows, in parallel, and calls `write(first row, rows,
/// panel)` for each; the panels, of `panel_len` values, lie one after the other in `out`.
#[allow(clippy::type_complexity, reason = "an alias would hide what the closure takes")]
pub(crate) fn for_panels<T: Plain, E: Send>(
    pool: &Pool,
    (n, k, width): (usize, usize, usize),
    panel_len: usize,
    out: &mut [T],
    fill: FillRows<'_, E>,
    write: &(dyn Fn(usize, &mut [f32], &mut [T]) + Sync),
) -> Result<(), E> {
    let failed = Mutex::new(None);
    let panels = n.div_ceil(width);
    let slots: Vec<Mutex<&mut [T]>> = out.chunks_mut(panel_len.max(1)).map(Mutex::new).collect();
    pool.run(panels, &|task| {
        let first = task * width;
        let count = width.min(n - first);
        with_scratch(count * k, |rows| match fill(first..first + count, rows) {
            Ok(()) => {
                // A weight without columns has no panels to write.
                if let Some(slot) = slots.get(task) {
                    let mut panel = slot.lock().unwrap_or_else(PoisonError::into_inner);
                    write(first, rows, &mut panel);
                }
            }
            Err(error) => {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        });
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// The width of the panel that begins at row `start` of `n`: `full`, or what the rest needs.
pub(crate) fn panel_width(full: usize, n: usize, start: usize) -> usize {
    full.min((n - start).next_multiple_of(LANES))
}

/// Turns `count` rows of `k` values, given by `row`, into one panel [`k`, `width`]. Columns past
/// `count` become zeros.
///
/// Squares of 16 × 16 at a time: reads run along rows, and the writes stay in a few cache lines.
pub(crate) fn pack_panel<'a>(
    row: &dyn Fn(usize) -> &'a [f32],
    count: usize,
    k: usize,
    panel: &mut [f32],
    width: usize,
) {
    let panel = &mut panel[..k * width];
    if count < width {
        panel.fill(0.0);
    }
    for k_start in (0..k).step_by(LANES) {
        let k_count = LANES.min(k - k_start);
        let square = &mut panel[k_start * width..(k_start + k_count) * width];
        for column in 0..count {
            let row = &row(column)[k_start..][..k_count];
            for (value, line) in row.iter().zip(square.chunks_exact_mut(width)) {
                line[column] = *value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        for isa in Isa::ALL {
            for (n, k) in [(1, 1), (15, 3), (16, 16), (17, 40), (64, 5), (65, 33), (130, 17)] {
                let weight: Vec<f32> = (0..n * k).map(|i| i as f32 + 0.5).collect();
                let packed = PackedF32::pack(isa, &weight, n, k);
                assert_eq!((packed.n(), packed.k(), packed.isa()), (n, k, isa));
                assert_eq!(packed.bytes(), n.next_multiple_of(16) * k * 4);
                let mut row = vec![0.0; k];
                for (i, expected) in weight.chunks_exact(k).enumerate() {
                    packed.unpack_row(i, &mut row);
                    assert_eq!(row, expected, "row {i} of [{n}, {k}]");
                }
            }
        }
    }

    #[test]
    fn an_empty_weight_is_no_trouble() {
        assert_eq!(PackedF32::pack(Isa::Scalar, &[], 0, 7).bytes(), 0);
        assert_eq!(PackedF32::pack(Isa::Scalar, &[], 7, 0).bytes(), 0);
    }

    #[test]
    fn an_error_while_filling_is_handed_on() {
        let asked = Mutex::new(Vec::new());
        let pool = Pool::new(1);
        let result = PackedF32::with_rows(&pool, Isa::Scalar, 40, 2, &|rows, out: &mut [f32]| {
            assert_eq!(out.len(), rows.len() * 2);
            asked.lock().unwrap().push(rows.clone());
            if rows.start == 32 { Err("torn page") } else { Ok(()) }
        });
        assert_eq!(result.err(), Some("torn page"));
        assert_eq!(asked.into_inner().unwrap(), [0..16, 16..32, 32..40]);
    }
}
