//! Sums of gradients that meet.

use crate::{Backend, Error, Op, Result, Tensor, WeightGrad};
use std::collections::BTreeMap;

pub(super) fn sum_of_tensors(backend: &dyn Backend, a: Tensor, b: Tensor) -> Result<Tensor> {
    backend.forward(&Op::Add { a, b })
}

/// Of two gradients of one weight.
///
/// # Errors
/// [`Error::ForeignHandle`] if one is dense and the other is not: a weight is used in one way.
pub(super) fn sum_of_weights(
    backend: &dyn Backend,
    a: WeightGrad,
    b: WeightGrad,
) -> Result<WeightGrad> {
    match (a, b) {
        (WeightGrad::Dense(a), WeightGrad::Dense(b)) => {
            Ok(WeightGrad::Dense(sum_of_tensors(backend, a, b)?))
        }
        (
            WeightGrad::Rows { rows: a_rows, values: a },
            WeightGrad::Rows { rows: b_rows, values: b },
        ) => {
            let cols = a.cols();
            let (a, b) = (backend.read(&a)?, backend.read(&b)?);
            let mut sums = BTreeMap::<u32, Vec<f32>>::new();
            for (rows, values) in [(a_rows, a), (b_rows, b)] {
                for (&row, values) in rows.iter().zip(values.chunks_exact(cols.max(1))) {
                    let sum = sums.entry(row).or_insert_with(|| vec![0.0; cols]);
                    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
            }
            let rows = sums.keys().copied().collect();
            let values = sums.into_values().collect::<Vec<_>>().concat();
            let values = backend.tensor(values.len() / cols.max(1), cols, &values)?;
            Ok(WeightGrad::Rows { rows, values })
        }
        _ => Err(Error::ForeignHandle { op: "gradients", what: "a gradient" }),
    }
}
