//! Stored little-endian numbers to f32, exactly where f32 holds them.

use crate::dtype::Dtype;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Elements that are converted at a time where a buffer is needed.
const BLOCK: usize = 4096;

/// Converts `bytes` to `out`; false when a result is NaN or infinite.
///
/// F32, F16 and BF16 are exact; F64 is rounded to the nearest f32. Both slices hold the same number
/// of elements.
pub(crate) fn to_f32(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> bool {
    match dtype {
        Dtype::F32 => {
            for (to, from) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *to = f32::from_le_bytes(*from);
            }
        }
        Dtype::F64 => {
            for (to, from) in out.iter_mut().zip(bytes.as_chunks::<8>().0) {
                // The only narrowing there is; the loss is what the caller asked for.
                #[allow(clippy::cast_possible_truncation)]
                {
                    *to = f64::from_le_bytes(*from) as f32;
                }
            }
        }
        Dtype::F16 => {
            let mut block = [f16::ZERO; BLOCK];
            for (out, bytes) in out.chunks_mut(BLOCK).zip(bytes.chunks(2 * BLOCK)) {
                let block = block.get_mut(..out.len()).unwrap_or_default();
                for (to, from) in block.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *to = f16::from_le_bytes(*from);
                }
                block.convert_to_f32_slice(out);
            }
        }
        Dtype::BF16 => {
            for (to, from) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *to = bf16::from_le_bytes(*from).to_f32();
            }
        }
        _ => return false,
    }
    all_finite(out)
}

/// Whether no value is NaN or infinite; a plain loop over the exponents, so that it vectorises.
fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    values
        .chunks(BLOCK)
        .all(|block| !block.iter().fold(false, |bad, v| bad | (v.to_bits() & EXPONENT == EXPONENT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_converted() {
        let values = [0.0f32, -1.5, 65504.0, 0.099_975_586, f32::MIN_POSITIVE];
        let mut out = [0.0; 5];
        let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(to_f32(Dtype::F32, &f32s, &mut out));
        assert_eq!(out, values);
        let f64s: Vec<u8> = values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
        assert!(to_f32(Dtype::F64, &f64s, &mut out));
        assert_eq!(out, values);
        let f16s: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        assert!(to_f32(Dtype::F16, &f16s, &mut out));
        assert_eq!(out[..4], values[..4]);
        let bf16s: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        assert!(to_f32(Dtype::BF16, &bf16s, &mut out));
        assert_eq!(out[1], -1.5);
    }

    #[test]
    fn all_halves_convert_as_their_definition_says() {
        let bits: Vec<u16> = (0..=u16::MAX).filter(|b| b & 0x7c00 != 0x7c00).collect();
        let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        let mut out = vec![0.0; bits.len()];
        assert!(to_f32(Dtype::F16, &bytes, &mut out));
        for (bits, got) in bits.iter().zip(out) {
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-24),
                e => (1.0 + fraction / 1024.0) * 2f64.powi(e - 15),
            };
            let expected = if bits >> 15 == 1 { -magnitude } else { magnitude };
            assert_eq!(f64::from(got), expected);
        }
    }

    #[test]
    fn values_that_are_not_finite_are_seen() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 4095, 4096, 9999] {
                let mut values = vec![1.0f32; 10_000];
                values[at] = bad;
                assert!(!all_finite(&values));
            }
        }
        let mut out = [0.0];
        assert!(!to_f32(Dtype::F64, &1e300f64.to_le_bytes(), &mut out));
        assert!(!to_f32(Dtype::F16, &f16::INFINITY.to_le_bytes(), &mut out));
    }
}
