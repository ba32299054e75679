//! Philox2x64-10: random bits as a function of a counter and a key, without state.
//!
//! # Source
//! Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011), section 4.3.

const MULTIPLIER: u64 = 0xd2b7_4407_b1ce_6e93;
/// The golden ratio, 64 bits of its fraction.
const WEYL: u64 = 0x9e37_79b9_7f4a_7c15;
const ROUNDS: u32 = 10;

/// Two random words for this counter and key.
pub fn philox2x64(counter: [u64; 2], key: u64) -> [u64; 2] {
    let ([mut left, mut right], mut key) = (counter, key);
    for _ in 0..ROUNDS {
        let product = u128::from(left) * u128::from(MULTIPLIER);
        // Both halves of the product are wanted.
        let (high, low) = ((product >> 64) as u64, product as u64);
        (left, right) = (high ^ key ^ right, low);
        key = key.wrapping_add(WEYL);
    }
    [left, right]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the authors' library Random123 (`kat_vectors`, philox2x64 10).
    #[test]
    fn known_answers() {
        let all = u64::MAX;
        let cases = [
            ([0, 0], 0, [0xca00_a045_9843_d731, 0x66c2_4222_c9a8_45b5]),
            ([all, all], all, [0x65b0_21d6_0cd8_310f, 0x4d02_f322_2f86_df20]),
            (
                [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
                0xa409_3822_299f_31d0,
                [0x0a5e_742c_2997_341c, 0xb0f8_83d3_8000_de5d],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox2x64(counter, key), expected);
        }
    }
}
