//! Reused activation buffers: what a dropped tensor held serves the next one.

use crate::Storage;
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
    by_capacity: BTreeMap<usize, Vec<Vec<f32>>>,
    bytes: usize,
}

impl Buffers {
    /// A buffer of `len` numbers of unspecified value.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let mut numbers = self.lock().take(len).unwrap_or_default();
        numbers.resize(len, 0.0);
        Buffer { numbers, home: Arc::clone(self) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Free> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
    /// The smallest free buffer that holds `len` without wasting more than half of itself.
    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        let mut entry = self
            .by_capacity
            .range_mut(len..=len.saturating_mul(2))
            .find(|(_, list)| !list.is_empty());
        let numbers = entry.as_mut()?.1.pop()?;
        self.bytes -= numbers.capacity() * size_of::<f32>();
        Some(numbers)
    }

    fn give_back(&mut self, numbers: Vec<f32>) {
        let bytes = numbers.capacity() * size_of::<f32>();
        if bytes > 0 && self.bytes + bytes <= MAX_FREE_BYTES {
            self.bytes += bytes;
            self.by_capacity.entry(numbers.capacity()).or_default().push(numbers);
        }
    }
}

/// The numbers of one tensor; goes back to its pool on drop.
pub(super) struct Buffer {
    numbers: Vec<f32>,
    home: Arc<Buffers>,
}

impl Buffer {
    pub(super) fn as_slice(&self) -> &[f32] {
        &self.numbers
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.numbers
    }
}

impl Storage for Buffer {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.lock().give_back(std::mem::take(&mut self.numbers));
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
