//! Reused activation buffers: what a dropped tensor held serves the next one.

use crate::Storage;
use altclip_kernels::{Aligned, Tiles, tiles_bytes};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Free memory beyond this is given back to the system, unless the backend trains.
const MAX_FREE_BYTES: usize = 256 << 20;

/// Free buffers by capacity. In the steady state nothing is allocated.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Free>);

#[derive(Default)]
struct Free {
    by_capacity: BTreeMap<usize, Vec<Aligned<f32>>>,
    /// Free, in use, and the most that ever was in use at once.
    bytes: usize,
    used: usize,
    peak: usize,
    keep_peak: bool,
}

impl Buffers {
    /// A buffer of `len` numbers of unspecified value.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        // Sizes of four bits: batches of about the same length share their buffers.
        let step = (len / 8 + 1).next_power_of_two() / 2;
        let capacity = len.next_multiple_of(step.max(1));
        let found = {
            let mut free = self.lock();
            let found = free.take(len);
            let capacity = found.as_ref().map_or(capacity, |numbers| numbers.len());
            free.count_used(capacity * size_of::<f32>());
            found
        };
        let numbers = found.unwrap_or_else(|| Aligned::zeros(capacity));
        Buffer { numbers, len, home: Arc::clone(self) }
    }

    /// Keeps as much free memory as was ever in use: a training step takes what the last one left.
    pub(super) fn keep_peak(&self) {
        self.lock().keep_peak = true;
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

    fn count_used(&mut self, bytes: usize) {
        self.used += bytes;
        self.peak = self.peak.max(self.used);
        // What is free and of no use now is not to make the whole much larger than it had to be.
        while self.keep_peak && self.used + self.bytes > self.peak + MAX_FREE_BYTES {
            let Some(mut entry) = self.by_capacity.first_entry() else { break };
            match entry.get_mut().pop() {
                Some(numbers) => self.bytes -= size_of_val(&*numbers),
                None => drop(entry.remove()),
            }
        }
    }

    fn give_back(&mut self, numbers: Aligned<f32>) {
        let bytes = size_of_val(&*numbers);
        self.used -= bytes;
        let limit = if self.keep_peak { self.peak.max(MAX_FREE_BYTES) } else { MAX_FREE_BYTES };
        if bytes > 0 && self.bytes + bytes <= limit {
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

    #[test]
    fn training_keeps_what_it_needed_at_once() {
        let quarter = MAX_FREE_BYTES / 4 / size_of::<f32>();
        for keep in [false, true] {
            let buffers = Arc::<Buffers>::default();
            if keep {
                buffers.keep_peak();
            }
            let used: Vec<Buffer> = (0..6).map(|_| buffers.take(quarter)).collect();
            drop(used);
            let expected = if keep { 6 } else { 4 };
            assert_eq!(buffers.lock().bytes, expected * quarter * size_of::<f32>());
            // Buffers of another size push the unused ones out.
            let _other = buffers.take(quarter / 4);
            assert!(buffers.lock().bytes <= 6 * quarter * size_of::<f32>());
        }
    }
}
