//! Reused activation buffers: what a dropped tensor held serves the next one.

use crate::Storage;
use altclip_kernels::{Aligned, Tiles, tiles_bytes};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Free memory beyond this is given back to the system.
const MAX_FREE_BYTES: usize = 256 << 20;

/// Free buffers by capacity. In the steady state nothing is allocated.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Free>);

#[derive(Default)]
struct Free {
    by_capacity: BTreeMap<usize, Vec<Aligned<f32>>>,
    bytes: usize,
}

impl Buffers {
    /// A buffer of `len` numbers of unspecified value.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let numbers = self.lock().take(len).unwrap_or_else(|| Aligned::zeros(len));
        Buffer { numbers, len, home: Arc::clone(self) }
    }

    /// Tiles of unspecified contents, for `rows` rows of `cols` `bf16` values.
    pub(super) fn take_tiles(self: &Arc<Self>, rows: usize, cols: usize) -> TileBuffer {
        TileBuffer { buffer: self.take(tiles_bytes(rows, cols) / 4), rows, cols }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Free> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
    /// The smallest free buffer that holds `len` without wasting more than half of itself.
    fn take(&mut self, len: usize) -> Option<Aligned<f32>> {
        let mut entry = self
            .by_capacity
            .range_mut(len..=len.saturating_mul(2))
            .find(|(_, list)| !list.is_empty());
        let numbers = entry.as_mut()?.1.pop()?;
        self.bytes -= numbers.len() * size_of::<f32>();
        Some(numbers)
    }

    fn give_back(&mut self, numbers: Aligned<f32>) {
        let bytes = numbers.len() * size_of::<f32>();
        if bytes > 0 && self.bytes + bytes <= MAX_FREE_BYTES {
            self.bytes += bytes;
            self.by_capacity.entry(numbers.len()).or_default().push(numbers);
        }
    }
}

/// The numbers of one tensor; goes back to its pool on drop.
pub(super) struct Buffer {
    numbers: Aligned<f32>,
    len: usize,
    home: Arc<Buffers>,
}

impl Buffer {
    pub(super) fn as_slice(&self) -> &[f32] {
        &self.numbers[..self.len]
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.numbers[..self.len]
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.numbers.as_bytes()[..self.len * 4]
    }

    pub(super) fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.numbers.as_bytes_mut()[..self.len * 4]
    }
}

/// `bf16` rows in tiles; what [`crate::Op`] calls compact.
pub(super) struct TileBuffer {
    buffer: Buffer,
    rows: usize,
    cols: usize,
}

impl TileBuffer {
    pub(super) fn tiles(&self) -> Tiles<'_> {
        Tiles::new(self.buffer.as_bytes(), self.rows, self.cols)
    }

    pub(super) fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.as_bytes_mut()
    }
}

// Buffers that hold packed operands of one product.
impl AsRef<[f32]> for Buffer {
    fn as_ref(&self) -> &[f32] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Storage for TileBuffer {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Storage for Buffer {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let numbers = std::mem::replace(&mut self.numbers, Aligned::zeros(0));
        self.home.lock().give_back(numbers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let buffers = Arc::<Buffers>::default();
        let first = buffers.take(1000);
        let address = first.as_slice().as_ptr();
        drop(first);
        assert!(buffers.take(400).as_slice().as_ptr() != address, "too large for 400");
        let again = buffers.take(900);
        assert_eq!(again.as_slice().as_ptr(), address);
        assert_eq!(again.as_slice().len(), 900);
    }
}
