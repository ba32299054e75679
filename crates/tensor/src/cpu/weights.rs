//! How the CPU keeps a weight: matrices packed, vectors copied, tables read by row.

use super::buffers::{Buffer, Buffers};
use crate::{Error, Format, Packed, Precision, Result, RowSource, Storage, Weight, WeightKind};
use altclip_kernels::{Kernels, PackedBf16, PackedF32, PackedI8, Pool, WeightBytes};
use std::any::Any;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

/// Tables of at most this many numbers are copied; larger ones stay where they are and are read by
/// row.
const MAX_COPIED_TABLE: usize = 1 << 21;

pub(super) struct Vector(pub(super) Vec<f32>);

pub(super) enum Table {
    Copied { numbers: Vec<f32>, cols: usize },
    Source(Arc<dyn RowSource>),
}

macro_rules! storage {
    ($($type:ty),*) => {$(
        impl Storage for $type {
            fn as_any(&self) -> &dyn Any {
                self
            }
        }
    )*};
}
storage!(Vector, Table, Matrix);

/// A packed matrix.
pub(super) struct Matrix {
    pub(super) packed: Form,
    /// The same for the product with its transpose, packed when a gradient first needs it.
    transposed: OnceLock<Form>,
}

/// How a matrix is kept.
pub(super) enum Form {
    F32(PackedF32),
    Reduced(Packed),
}

impl From<Form> for Matrix {
    fn from(packed: Form) -> Self {
        Self { packed, transposed: OnceLock::new() }
    }
}

impl Matrix {
    /// The matrix `[K, N]` that multiplies by the transpose.
    ///
    /// # Errors
    /// [`Error::NotTrainable`] in 8 bits.
    pub(super) fn transposed(&self, preparation: Preparation<'_>) -> Result<&Form> {
        let Preparation { kernels, pool, .. } = preparation;
        let [n, k] = self.shape();
        let form = match &self.packed {
            Form::F32(packed) => self.transposed.get_or_init(|| {
                always(preparation.f32(k, n, |out| {
                    kernels.transpose_packed_f32(pool, packed, out);
                    Ok(())
                }))
            }),
            Form::Reduced(Packed::Bf16(packed)) => self.transposed.get_or_init(|| {
                always(preparation.bf16(k, n, |out| {
                    kernels.transpose_packed_bf16(pool, packed, out);
                    Ok(())
                }))
            }),
            Form::Reduced(Packed::Int8(_)) => {
                return Err(Error::NotTrainable { op: "linear", precision: Precision::Int8 });
            }
        };
        Ok(form)
    }

    /// Its logical shape `[N, K]`.
    pub(super) fn shape(&self) -> [usize; 2] {
        match &self.packed {
            Form::F32(packed) => [packed.n(), packed.k()],
            Form::Reduced(Packed::Bf16(packed)) => [packed.n(), packed.k()],
            Form::Reduced(Packed::Int8(packed)) => [packed.n(), packed.k()],
        }
    }
}

/// What decides how weights are prepared.
#[derive(Clone, Copy)]
pub(super) struct Preparation<'a> {
    pub(super) kernels: &'static Kernels,
    pub(super) pool: &'a Pool,
    pub(super) buffers: &'a Arc<Buffers>,
    pub(super) precision: Precision,
    pub(super) own_tables: bool,
}

impl Preparation<'_> {
    pub(super) fn weight(&self, kind: WeightKind, source: Arc<dyn RowSource>) -> Result<Weight> {
        let [rows, cols] = source.shape();
        let storage: Arc<dyn Storage> = match kind {
            WeightKind::Matrix | WeightKind::Edge => Arc::new(self.matrix(kind, &*source)?),
            WeightKind::Vector => Arc::new(Vector(read_all(&*source)?)),
            WeightKind::Table if self.own_tables || rows * cols <= MAX_COPIED_TABLE => {
                Arc::new(Table::Copied { numbers: read_all(&*source)?, cols })
            }
            WeightKind::Table => Arc::new(Table::Source(source)),
        };
        Ok(Weight::from_storage(rows, cols, storage))
    }

    /// The form of a matrix `[n, k]` whose panels `write` writes.
    pub(super) fn f32<E>(
        &self,
        n: usize,
        k: usize,
        write: impl FnOnce(&mut [f32]) -> std::result::Result<(), E>,
    ) -> std::result::Result<Form, E> {
        let mut panels = self.buffers.take(PackedF32::len_of(n, k));
        write(panels.as_mut_slice())?;
        let panels: Arc<Buffer> = Arc::new(panels);
        Ok(Form::F32(PackedF32::from_panels(self.kernels.isa(), n, k, panels)))
    }

    /// The same in `bf16`.
    pub(super) fn bf16<E>(
        &self,
        n: usize,
        k: usize,
        write: impl FnOnce(&mut [u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<Form, E> {
        let mut panels = self.buffers.take(PackedBf16::bytes_of(n, k) / 4);
        write(panels.as_bytes_mut())?;
        let packed = PackedBf16::from_bytes(n, k, WeightBytes::Shared(Arc::new(panels)));
        Ok(Form::Reduced(Packed::Bf16(packed.expect("as many bytes as asked for; this is a bug"))))
    }

    fn matrix(&self, kind: WeightKind, source: &dyn RowSource) -> Result<Matrix> {
        let [n, k] = source.shape();
        if let Some(packed) = source.packed().map_err(Error::Source)? {
            return Ok(Form::Reduced(packed).into());
        }
        let fill = |rows, out: &mut [f32]| source.read_rows(rows, out);
        let own = match (self.precision, kind) {
            (Precision::F32, _) => Format::F32,
            (Precision::Int8, WeightKind::Matrix) => Format::INT8,
            (Precision::Bf16 | Precision::Int8, _) => Format::BF16,
        };
        let form = match source.format().unwrap_or(own) {
            Format::F32 => {
                self.f32(n, k, |out| self.kernels.pack_rows_f32(self.pool, n, k, &fill, out))
            }
            Format::Bf16 { mean: None } => {
                self.bf16(n, k, |out| self.kernels.pack_rows_bf16(self.pool, n, k, &fill, out))
            }
            Format::Bf16 { mean } => PackedBf16::with_rows(self.pool, n, k, mean.as_deref(), &fill)
                .map(|packed| Form::Reduced(Packed::Bf16(packed))),
            Format::Int8 { smoothing, mean } => {
                PackedI8::with_rows(self.pool, n, k, smoothing, mean.as_deref(), &fill)
                    .map(|packed| Form::Reduced(Packed::Int8(packed)))
            }
        };
        form.map(Matrix::from).map_err(Error::Source)
    }
}

pub(super) fn always<T>(result: std::result::Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

fn read_all(source: &dyn RowSource) -> Result<Vec<f32>> {
    let [rows, cols] = source.shape();
    let mut numbers = vec![0.0; rows * cols];
    source.read_rows(0..rows, &mut numbers).map_err(Error::Source)?;
    Ok(numbers)
}

impl Table {
    pub(super) fn read_row(&self, id: u32, out: &mut [f32]) -> Result<()> {
        let row = id as usize;
        match self {
            Table::Copied { numbers, cols } => {
                let rows = numbers.len() / cols.max(&1);
                let from = numbers.get(row * cols..(row + 1) * cols);
                out.copy_from_slice(from.ok_or(Error::RowOutOfRange { op: "embed", row, rows })?);
                Ok(())
            }
            Table::Source(source) => {
                let [rows, _] = source.shape();
                if row >= rows {
                    return Err(Error::RowOutOfRange { op: "embed", row, rows });
                }
                source.read_rows(row..row + 1, out).map_err(Error::Source)
            }
        }
    }

    /// All rows of a small table.
    pub(super) fn whole(&self) -> Result<&[f32]> {
        match self {
            Table::Copied { numbers, .. } => Ok(numbers),
            Table::Source(_) => {
                Err(Error::ForeignHandle { op: "class_token", what: "a table over the limit" })
            }
        }
    }
}
