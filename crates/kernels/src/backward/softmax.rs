//! Gradient through a softmax: `ds = p · (dp - Σ p·dp)`.

use super::{load, store};
use crate::arch::generic::{F32x16, LANES};

/// Replaces `dp` by the gradient of the scores whose softmax is `p`.
///
/// # Safety
/// The processor has the instruction set of `V`; the slices have one length.
#[inline(always)]
pub(crate) unsafe fn softmax_backward<V: F32x16>(p: &[f32], dp: &mut [f32]) {
    debug_assert_eq!(p.len(), dp.len());
    let (p, len) = (p.as_ptr(), dp.len());
    let dp = dp.as_mut_ptr();
    // SAFETY: all offsets stay within the length that both slices have.
    unsafe {
        let mut sum = V::splat(0.0);
        for at in (0..len).step_by(LANES) {
            let count = LANES.min(len - at);
            sum = load::<V>(p.add(at), count, 0.0).fma(load(dp.add(at), count, 0.0), sum);
        }
        let sum = V::splat(sum.sum());
        for at in (0..len).step_by(LANES) {
            let count = LANES.min(len - at);
            let ds = load::<V>(p.add(at), count, 0.0) * (load::<V>(dp.add(at), count, 0.0) - sum);
            store(ds, dp.add(at), count);
        }
    }
}
