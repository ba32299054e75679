//! Weights between those before fine-tuning and those after: WiSE-FT.
//!
//! # Source
//! Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903, equation 1.

use altclip_kernels::Pool;

use crate::parallel::{PIECE, map};

/// Replaces `tuned` by `(1 - alpha) · start + alpha · tuned`. To be called for every tensor of the
/// model, the logit scale too.
///
/// With `alpha` 0 and 1 finite weights come out exactly as `start` and `tuned`.
///
/// # Panics
/// Panics if the lengths differ.
pub fn interpolate(pool: &Pool, start: &[f32], tuned: &mut [f32], alpha: f32) {
    assert_eq!(start.len(), tuned.len(), "interpolate: tensors differ in length");
    let pieces = tuned.chunks_mut(PIECE).zip(start.chunks(PIECE)).collect();
    map(pool, pieces, |(tuned, start)| {
        for (tuned, start) in tuned.iter_mut().zip(start) {
            *tuned = (1.0 - alpha) * start + alpha * *tuned;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_exact_and_the_middle_is_the_mean() {
        let start = [1.1, -7.3e-12, 5e30, 0.1];
        let at = |alpha| {
            let mut tuned = [3.3, 4.7, -2e-7, 0.3];
            interpolate(&Pool::new(2), &start, &mut tuned, alpha);
            tuned
        };
        assert_eq!(at(0.0), start);
        assert_eq!(at(1.0), [3.3, 4.7, -2e-7, 0.3]);
        assert_eq!(at(0.5)[3], 0.2);
    }
}
