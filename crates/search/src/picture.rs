//! A picture of the index: where it lies, what tells whether it changed, and its vector.

use half::f16;
use xxhash_rust::xxh3::Xxh3;

/// Longest path in bytes.
pub const MAX_PATH_BYTES: usize = 4096;
/// Widest vector.
pub const MAX_WIDTH: usize = 65_536;

/// What is known of a picture file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Its absolute path.
    pub path: String,
    /// XXH3 of its bytes, 128 bits.
    pub hash: u128,
    /// Length in bytes.
    pub bytes: u64,
    /// When it was changed, in nanoseconds since 1970.
    pub modified: i64,
    /// Pixels across, 0 where unknown.
    pub width: u32,
    /// Pixels down, 0 where unknown.
    pub height: u32,
    /// When it was taken by its EXIF data, in seconds since 1970 by the clock of the camera.
    pub taken: Option<i64>,
    /// Words of the user.
    pub tags: Vec<String>,
}

impl Picture {
    /// When it was taken, else changed: seconds since 1970.
    pub fn date(&self) -> i64 {
        self.taken.unwrap_or(self.modified.div_euclid(1_000_000_000))
    }

    /// A hash of everything that is stored of it, with its vector.
    pub fn checksum(&self, vector: &[u8]) -> i64 {
        let mut hash = Xxh3::new();
        let mut add = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        add(self.path.as_bytes());
        add(&self.hash.to_le_bytes());
        add(&self.bytes.to_le_bytes());
        add(&self.modified.to_le_bytes());
        add(&self.width.to_le_bytes());
        add(&self.height.to_le_bytes());
        add(format!("{:?}", self.taken).as_bytes());
        add(self.tags.join("\n").as_bytes());
        add(vector);
        hash.digest().cast_signed()
    }
}

/// A vector as the store keeps it: `f16`, little-endian.
pub fn to_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect()
}

/// The `f16` bits of a stored vector.
pub(crate) fn to_bits(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks().0.iter().map(|&pair| u16::from_le_bytes(pair))
}

/// A stored vector as numbers.
pub fn to_numbers(bytes: &[u8]) -> Vec<f32> {
    to_bits(bytes).map(|bits| f16::from_bits(bits).to_f32()).collect()
}
