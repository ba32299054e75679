//! Weights in panels of 32 columns.
//!
//! Rounding a weight moves its products by `(w - ŵ) · x`. Inputs of a layer have much in common, so a
//! large part of that is the same for every input: `(w - ŵ) · mean x`. Where the mean is known, that
//! part is kept as the weight's *correction*, one value a row, which is added to its products like a
//! bias.
//!
//! # Source
//! Nagel et al., arXiv 1906.04721, section 4.2.

use std::sync::{Arc, Mutex, PoisonError};

use super::{PANEL_COLS, PANEL_STEP_BYTES, STEP_BYTES};
use crate::Pool;
use crate::aligned::Aligned;
use crate::arch::generic::round_to_bf16;
use crate::gemm::{FillRows, for_panels};

/// The bytes of a packed weight: made here, or lying in a mapped file.
#[derive(Clone)]
pub enum WeightBytes {
    /// Owned.
    Owned(Arc<Aligned<u8>>),
    /// Somebody else's, who keeps them unchanged. They need no alignment, but are read fastest
    /// when they begin at a multiple of 64.
    Shared(Arc<dyn AsRef<[u8]> + Send + Sync>),
}

impl WeightBytes {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            WeightBytes::Owned(bytes) => bytes,
            WeightBytes::Shared(bytes) => (**bytes).as_ref(),
        }
    }
}

impl std::fmt::Debug for WeightBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WeightBytes({})", self.as_slice().len())
    }
}

/// A weight [N, K] in `bf16`.
#[derive(Clone, Debug)]
pub struct PackedBf16 {
    n: usize,
    k: usize,
    bytes: WeightBytes,
    correction: Option<Arc<[f32]>>,
}

impl PackedBf16 {
    /// Rounds and packs a weight [`n`, `k`] that `fill` gives in pieces, on the threads of `pool`.
    /// `mean` is the mean of its inputs, `k` values, if it is known.
    ///
    /// # Errors
    /// The first error of `fill`.
    ///
    /// # Panics
    /// Panics if `mean` has not `k` values.
    pub fn with_rows<E: Send>(
        pool: &Pool,
        n: usize,
        k: usize,
        mean: Option<&[f32]>,
        fill: FillRows<'_, E>,
    ) -> Result<PackedBf16, E> {
        assert!(mean.is_none_or(|mean| mean.len() == k));
        let mut bytes = Aligned::zeros(Self::bytes_of(n, k));
        let correction = Mutex::new(vec![0.0; if mean.is_some() { n } else { 0 }]);
        let panel_len = Self::steps_of(k) * PANEL_STEP_BYTES;
        for_panels(
            pool,
            (n, k, PANEL_COLS),
            panel_len,
            &mut bytes,
            fill,
            &|first, rows, panel| {
                for (column, row) in rows.chunks_exact(k.max(1)).enumerate() {
                    for (at, pair) in row.chunks(2).enumerate() {
                        let place = place(at) + column * 4;
                        for (half, &value) in pair.iter().enumerate() {
                            let bits = round_to_bf16(value).to_le_bytes();
                            panel[place + 2 * half..][..2].copy_from_slice(&bits);
                        }
                    }
                    if let Some(mean) = mean {
                        let lost = |&w: &f32| {
                            f64::from(w)
                                - f64::from(f32::from_bits(u32::from(round_to_bf16(w)) << 16))
                        };
                        let sum =
                            row.iter().map(lost).zip(mean).map(|(lost, &x)| lost * f64::from(x));
                        let mut correction =
                            correction.lock().unwrap_or_else(PoisonError::into_inner);
                        correction[first + column] = sum.sum::<f64>() as f32;
                    }
                }
            },
        )?;
        let bytes = WeightBytes::Owned(Arc::new(bytes));
        let correction = correction.into_inner().unwrap_or_else(PoisonError::into_inner);
        let packed = PackedBf16 { n, k, bytes, correction: None };
        Ok(packed.with_correction(mean.map(|_| correction.into())))
    }

    /// A weight packed before.
    ///
    /// # Errors
    /// The number of bytes it should have, if it has another.
    pub fn from_bytes(n: usize, k: usize, bytes: WeightBytes) -> Result<PackedBf16, usize> {
        let expected = Self::bytes_of(n, k);
        if bytes.as_slice().len() != expected {
            return Err(expected);
        }
        Ok(PackedBf16 { n, k, bytes, correction: None })
    }

    /// The same with a correction taken before, one value a row.
    ///
    /// # Panics
    /// Panics if it has not `n` values.
    #[must_use]
    pub fn with_correction(mut self, correction: Option<Arc<[f32]>>) -> Self {
        assert!(correction.as_ref().is_none_or(|correction| correction.len() == self.n));
        self.correction = correction;
        self
    }

    /// What is to be added to every product, if anything.
    pub fn correction(&self) -> Option<&[f32]> {
        self.correction.as_deref()
    }

    /// Rows of the weight: columns of the product.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Columns of the weight: the length of the sums.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The packed bytes.
    pub fn bytes(&self) -> &WeightBytes {
        &self.bytes
    }

    pub(crate) fn steps_of(k: usize) -> usize {
        k.div_ceil(STEP_BYTES / 2)
    }

    /// Bytes that a weight [`n`, `k`] takes.
    pub fn bytes_of(n: usize, k: usize) -> usize {
        n.div_ceil(PANEL_COLS) * Self::steps_of(k) * PANEL_STEP_BYTES
    }
}

/// A weight [N, K] in 8 bits, one scale a row: `w ≈ scale · q`.
#[derive(Clone, Debug)]
pub struct PackedI8 {
    n: usize,
    k: usize,
    bytes: WeightBytes,
    /// Per column of the product, padded with zeros to whole panels.
    pub(crate) scales: Vec<f32>,
    /// `Σ_k q`, padded likewise.
    pub(crate) sums: Vec<i32>,
    smoothing: Option<Arc<[f32]>>,
    correction: Option<Arc<[f32]>>,
}

/// What one column of a [`PackedI8`] is packed with.
#[derive(Clone, Copy, Debug, Default)]
struct Column {
    scale: f32,
    sum: i32,
    correction: f32,
}

impl PackedI8 {
    /// Quantises and packs a weight [`n`, `k`] that `fill` gives in pieces.
    ///
    /// With `smoothing`, `k` positive factors, the inputs are to be multiplied by them before they
    /// are quantised, and the weight is divided by them here: outliers of the inputs go into the
    /// weight, whose scale is per column. `mean` is the mean of the inputs before that, if it is known.
    ///
    /// # Errors
    /// The first error of `fill`.
    ///
    /// # Panics
    /// Panics if `smoothing` or `mean` has not `k` values.
    ///
    /// # Source
    /// Xiao et al., SmoothQuant, arXiv 2211.10438, equation 3.
    pub fn with_rows<E: Send>(
        pool: &Pool,
        n: usize,
        k: usize,
        smoothing: Option<Arc<[f32]>>,
        mean: Option<&[f32]>,
        fill: FillRows<'_, E>,
    ) -> Result<PackedI8, E> {
        assert!(smoothing.as_ref().is_none_or(|factors| factors.len() == k));
        assert!(mean.is_none_or(|mean| mean.len() == k));
        // As the rounded weight sees it.
        let mean: Option<Vec<f64>> = mean.map(|mean| match &smoothing {
            None => mean.iter().map(|&x| f64::from(x)).collect(),
            Some(factors) => {
                mean.iter().zip(&**factors).map(|(&x, &s)| f64::from(x) * f64::from(s)).collect()
            }
        });
        let mut bytes = Aligned::zeros(Self::bytes_of(n, k));
        let panel_len = Self::steps_of(k) * PANEL_STEP_BYTES;
        let padded = n.next_multiple_of(PANEL_COLS);
        let columns = Mutex::new(vec![Column::default(); padded]);
        let factors = smoothing.as_deref();
        for_panels(
            pool,
            (n, k, PANEL_COLS),
            panel_len,
            &mut bytes,
            fill,
            &|first, rows, panel| {
                for (column, row) in rows.chunks_exact_mut(k.max(1)).enumerate() {
                    if let Some(factors) = factors {
                        row.iter_mut().zip(factors).for_each(|(w, factor)| *w /= factor);
                    }
                    let quantised = quantise_column(row, mean.as_deref(), column, panel);
                    let mut columns = columns.lock().unwrap_or_else(PoisonError::into_inner);
                    columns[first + column] = quantised;
                }
            },
        )?;
        let columns = columns.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (scales, sums) = columns.iter().map(|column| (column.scale, column.sum)).unzip();
        let correction =
            mean.map(|_| columns[..n].iter().map(|column| column.correction).collect());
        let bytes = WeightBytes::Owned(Arc::new(bytes));
        Ok(PackedI8 { n, k, bytes, scales, sums, smoothing, correction })
    }

    /// A weight packed before: its bytes, the scale of each row, and the smoothing. The sums of
    /// the rows are taken from the bytes.
    ///
    /// # Errors
    /// The number of bytes it should have, if it has another.
    ///
    /// # Panics
    /// Panics if there are not `n` scales, or not `k` smoothing factors.
    pub fn from_bytes(
        n: usize,
        k: usize,
        bytes: WeightBytes,
        scales: &[f32],
        sums: &[i32],
        smoothing: Option<Arc<[f32]>>,
    ) -> Result<PackedI8, usize> {
        assert!(scales.len() == n && sums.len() == n, "int8 weight: not n scales and sums");
        assert!(smoothing.as_ref().is_none_or(|factors| factors.len() == k));
        let expected = Self::bytes_of(n, k);
        if bytes.as_slice().len() != expected {
            return Err(expected);
        }
        let padded = n.next_multiple_of(PANEL_COLS);
        let (mut scales, mut sums) = (scales.to_vec(), sums.to_vec());
        scales.resize(padded, 0.0);
        sums.resize(padded, 0);
        Ok(PackedI8 { n, k, bytes, scales, sums, smoothing, correction: None })
    }

    /// As [`PackedBf16::with_correction`].
    ///
    /// # Panics
    /// Panics if it has not `n` values.
    #[must_use]
    pub fn with_correction(mut self, correction: Option<Arc<[f32]>>) -> Self {
        assert!(correction.as_ref().is_none_or(|correction| correction.len() == self.n));
        self.correction = correction;
        self
    }

    /// What is to be added to every product, if anything.
    pub fn correction(&self) -> Option<&[f32]> {
        self.correction.as_deref()
    }

    /// Rows of the weight: columns of the product.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Columns of the weight: the length of the sums.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The packed bytes.
    pub fn bytes(&self) -> &WeightBytes {
        &self.bytes
    }

    /// The scale of each row.
    pub fn scales(&self) -> &[f32] {
        &self.scales[..self.n]
    }

    /// The sum of each row's quantised values.
    pub fn sums(&self) -> &[i32] {
        &self.sums[..self.n]
    }

    /// Factors of the inputs, if any.
    pub fn smoothing(&self) -> Option<&Arc<[f32]>> {
        self.smoothing.as_ref()
    }

    pub(crate) fn steps_of(k: usize) -> usize {
        k.div_ceil(STEP_BYTES)
    }

    fn bytes_of(n: usize, k: usize) -> usize {
        n.div_ceil(PANEL_COLS) * Self::steps_of(k) * PANEL_STEP_BYTES
    }
}

/// Where k group `group` of column 0 is in a panel: groups are 32 columns of 4 bytes.
fn place(group: usize) -> usize {
    group * PANEL_COLS * 4
}

/// Writes one column of a panel in 8 bits. `mean` is that of the inputs.
fn quantise_column(row: &[f32], mean: Option<&[f64]>, column: usize, panel: &mut [u8]) -> Column {
    let largest = row.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
    let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
    let (mut sum, mut correction) = (0, 0.0);
    for (group, values) in row.chunks(4).enumerate() {
        let at = place(group) + column * 4;
        for (within, (byte, &w)) in panel[at..at + 4].iter_mut().zip(values).enumerate() {
            let q = (w / scale).round_ties_even().clamp(-127.0, 127.0) as i8;
            sum += i32::from(q);
            *byte = q.cast_unsigned();
            if let Some(mean) = mean {
                let lost = f64::from(w) - f64::from(scale) * f64::from(q);
                correction += lost * mean[4 * group + within];
            }
        }
    }
    Column { scale, sum, correction: correction as f32 }
}
