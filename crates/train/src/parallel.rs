//! Loops over pieces of slices on a pool, and sums whose order is fixed.
//!
//! Pieces are cut by length alone, never by the number of threads, and sums run over a tree of
//! fixed shape: so every result has the same bits on any number of threads.

use std::sync::{Mutex, PoisonError};

use altclip_kernels::Pool;

/// Values of one piece: 256 KiB, long enough that taking a task costs nothing beside it.
pub(crate) const PIECE: usize = 65_536;

/// Lanes of a sum; a multiple of every vector width in `f64`.
const LANES: usize = 16;

/// `f(item)` for each item, on the threads of `pool`; the results in the order of the items.
pub(crate) fn map<T: Send, R: Send>(
    pool: &Pool,
    items: Vec<T>,
    f: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let cells: Vec<_> = items.into_iter().map(|item| Mutex::new((Some(item), None))).collect();
    pool.run(cells.len(), &|task| {
        let mut cell = cells[task].lock().unwrap_or_else(PoisonError::into_inner);
        cell.1 = cell.0.take().map(&f);
    });
    cells
        .into_iter()
        .filter_map(|cell| cell.into_inner().unwrap_or_else(PoisonError::into_inner).1)
        .collect()
}

/// The sum over a binary tree whose shape follows from the length.
pub(crate) fn tree_sum(values: &[f64]) -> f64 {
    match values {
        [] => 0.0,
        [value] => *value,
        _ => {
            let (left, right) = values.split_at(values.len() / 2);
            tree_sum(left) + tree_sum(right)
        }
    }
}

/// `Σ f(x[i], y[i])` in sixteen lanes and then a tree.
///
/// # Panics
/// Panics if the lengths differ.
#[inline(always)]
pub(crate) fn lane_sum(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f64) -> f64 {
    assert_eq!(x.len(), y.len(), "a sum over slices of different lengths; this is a bug");
    let mut lanes = [0.0; LANES];
    let (x_groups, x_rest) = x.as_chunks::<LANES>();
    let (y_groups, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x_groups.iter().zip(y_groups) {
        for lane in 0..LANES {
            lanes[lane] += f(x[lane], y[lane]);
        }
    }
    for (lane, (&x, &y)) in x_rest.iter().zip(y_rest).enumerate() {
        lanes[lane] += f(x, y);
    }
    tree_sum(&lanes)
}

/// `Σ x²` of a slice.
pub(crate) fn sum_of_squares(x: &[f32]) -> f64 {
    lane_sum(x, x, |x, _| f64::from(x) * f64::from(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_on_any_number_of_threads() {
        for threads in [1, 2, 5] {
            let squares = map(&Pool::new(threads), (0..1000_u64).collect(), |x| x * x);
            assert_eq!(squares, (0..1000).map(|x| x * x).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn sums_take_every_value_once() {
        for len in [0_u16, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..len).map(f32::from).collect();
            let squares: Vec<f64> = x.iter().map(|&x| f64::from(x * x)).collect();
            let expected: f64 = squares.iter().sum();
            assert_eq!(tree_sum(&squares), expected);
            assert_eq!(sum_of_squares(&x), expected);
        }
    }
}
