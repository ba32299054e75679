//! How the CPU keeps a weight: matrices packed, vectors copied, tables read by row.

use crate::{Error, Result, RowSource, Storage, Weight, WeightKind};
use altclip_kernels::{Isa, PackedF32};
use std::any::Any;
use std::sync::Arc;

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
storage!(Vector, Table, PackedF32);

pub(super) fn prepare(isa: Isa, kind: WeightKind, source: Arc<dyn RowSource>) -> Result<Weight> {
    let [rows, cols] = source.shape();
    let storage: Arc<dyn Storage> = match kind {
        WeightKind::Matrix => Arc::new(
            PackedF32::with_rows(isa, rows, cols, &mut |range, out| source.read_rows(range, out))
                .map_err(Error::Source)?,
        ),
        WeightKind::Vector => Arc::new(Vector(read_all(&*source)?)),
        WeightKind::Table if rows * cols <= MAX_COPIED_TABLE => {
            Arc::new(Table::Copied { numbers: read_all(&*source)?, cols })
        }
        WeightKind::Table => Arc::new(Table::Source(source)),
    };
    Ok(Weight::from_storage(rows, cols, storage))
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
