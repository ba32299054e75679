//! Dropout whose mask is a function of a seed and of where a value stands, so that it need not be
//! kept: the backward form, or a second forward pass, makes it again.

use crate::Pool;
use crate::dispatch::Kernels;
use crate::elementwise::for_chunks;

/// A mask: value `i` is kept where a hash of the seed and `offset + i` is not below a threshold.
///
/// # Numerics
/// The probability is met to 2^-32. Kept values are multiplied by `1 / (1 - p)`, rounded.
///
/// # Source
/// The hash is two rounds of the finalizer of MurmurHash3 (A. Appleby, public domain) with the
/// halves of the position and of the mixed seed.
#[derive(Clone, Copy, Debug)]
pub struct DropoutMask {
    keys: [u32; 2],
    offset: u64,
    threshold: u64,
    scale: f32,
}

impl DropoutMask {
    /// The mask of `seed` that drops with probability `p`, for values counted from `offset`.
    ///
    /// # Panics
    /// Panics if `p` is not at least 0 and below 1.
    pub fn new(p: f32, seed: u64, offset: u64) -> Self {
        assert!((0.0..1.0).contains(&p), "dropout: p is {p}, not in 0.0..1.0");
        let mixed = mix(seed);
        Self {
            keys: [mixed as u32, (mixed >> 32) as u32],
            offset,
            threshold: (f64::from(p) * 2f64.powi(32)).ceil() as u64,
            scale: 1.0 / (1.0 - p),
        }
    }
}

/// SplitMix64's finalizer.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// MurmurHash3's finalizer.
#[inline(always)]
fn finalize(h: u32) -> u32 {
    let h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    let h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

/// `out[i]` becomes `x[i] · scale` or 0, by the mask from position `first` of it on.
///
/// The loop has nothing but exact operations on integers and one product, so it may be vectorised in
/// any way.
#[inline(always)]
pub(crate) fn dropout(mask: &DropoutMask, first: u64, x: &[f32], out: &mut [f32]) {
    let DropoutMask { keys: [low_key, high_key], offset, threshold, scale } = *mask;
    let mut at = 0;
    while at < out.len() {
        // The upper half of the position stays the same up to the next multiple of 2^32.
        let position = offset.wrapping_add(first).wrapping_add(at as u64);
        let run = (1 << 32) - (position & 0xffff_ffff);
        let end = out.len().min(at.saturating_add(usize::try_from(run).unwrap_or(usize::MAX)));
        let key = finalize((position >> 32) as u32 ^ high_key);
        let (from, low) = (&x[at..end], position as u32);
        for (i, (out, &x)) in out[at..end].iter_mut().zip(from).enumerate() {
            let hash = finalize(finalize(low.wrapping_add(i as u32) ^ low_key).wrapping_add(key));
            *out = if u64::from(hash) < threshold { 0.0 } else { x * scale };
        }
        at = end;
    }
}

impl Kernels {
    /// `out` becomes `x` with dropped values set to 0 and the others scaled.
    ///
    /// # Panics
    /// Panics if the lengths differ.
    pub fn dropout(&self, pool: &Pool, mask: &DropoutMask, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "dropout: x and out differ in length");
        for_chunks(pool, out, 1, &|range, out| {
            // SAFETY: a table exists only where its instruction set does.
            unsafe { (self.backward.dropout)(mask, range.start as u64, &x[range], out) }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::testing::{Bound, Place, Random, Runner, lengths};

    #[test]
    fn masks_agree_with_the_oracle() {
        let runner = Runner::new();
        let mut random = Random::new(1);
        for len in lengths().chain([70_000]) {
            let x = random.values(len);
            // Positions that pass a multiple of 2^32 within the values.
            for (p, seed, offset) in [(0.1, 7, 0), (0.5, 8, (1 << 32) - 20), (0.0, 9, u64::MAX)] {
                let expected = reference::dropout(&x, p, seed, offset);
                let run = |kernels: &Kernels, pool: &Pool, place: Place| {
                    let mut out = place.fill(f32::NAN, len);
                    let mask = DropoutMask::new(p, seed, offset);
                    kernels.dropout(pool, &mask, &place.put(&x), &mut out);
                    out.to_vec()
                };
                let (name, exact) = (format!("dropout {len}"), Bound::Absolute(0.0));
                runner.check(&name, &expected, &exact, &|k, p| run(k, p, Place::Anywhere));
                if len < 70 {
                    runner.in_all_places(&name, &run);
                }
            }
        }
    }

    #[test]
    fn a_mask_drops_at_its_rate_and_independently() {
        let (len, p) = (1 << 20, 0.1);
        let kept = |seed: u64, offset: u64| {
            let mut out = vec![0.0; len];
            let mask = DropoutMask::new(p, seed, offset);
            Kernels::get().dropout(&Pool::new(1), &mask, &vec![1.0; len], &mut out);
            out.iter().map(|&y| f64::from(u8::from(y > 0.0))).collect::<Vec<_>>()
        };
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let first = kept(1, 0);
        // Five standard deviations of a mean of 2^20 values.
        assert!((mean(&first) - 0.9).abs() < 5.0 * 0.3 / 1024.0, "{}", mean(&first));
        let other = [kept(2, 0), kept(1, len as u64), kept(1, 1 << 32)];
        let shifted = |by: usize| first[by..].iter().chain(&first[..by]).copied().collect();
        for other in other.into_iter().chain([1, 16, 768, 1024].map(shifted)) {
            let both: Vec<f64> = first.iter().zip(&other).map(|(a, b)| a * b).collect();
            assert!((mean(&both) - 0.81).abs() < 5.0 * 0.4 / 1024.0, "{}", mean(&both));
        }
    }
}
