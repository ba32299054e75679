//! Buffers of `f32` that begin on a cache line, and each thread's own scratch.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes of a cache line; also the width of the widest vector.
const ALIGNMENT: usize = 64;

/// A fixed-size buffer of `f32`, 64-byte aligned, zeros at first.
pub(crate) struct AlignedF32 {
    start: NonNull<f32>,
    len: usize,
}

// SAFETY: the buffer is owned and holds plain values, as a `Box<[f32]>` does.
unsafe impl Send for AlignedF32 {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for AlignedF32 {}

impl AlignedF32 {
    /// A buffer of `len` zeros.
    ///
    /// # Panics
    /// Panics if `len` values are more bytes than can be addressed; ends the process, as every
    /// allocation of the standard library does, where memory is out.
    pub(crate) fn zeros(len: usize) -> Self {
        if len == 0 {
            return Self { start: NonNull::dangling(), len };
        }
        let layout = Self::layout(len);
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start.cast()) {
            Some(start) => Self { start, len },
            None => handle_alloc_error(layout),
        }
    }

    fn layout(len: usize) -> Layout {
        let bytes = len.checked_mul(size_of::<f32>());
        bytes
            .and_then(|bytes| Layout::from_size_align(bytes, ALIGNMENT).ok())
            .expect("a buffer larger than the address space; this is a bug")
    }
}

impl Drop for AlignedF32 {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `zeros` with the same layout, and not freed before.
            unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.len)) }
        }
    }
}

impl Deref for AlignedF32 {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised values from `start`, owned by `self` (dangling only for 0).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedF32 {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

thread_local! {
    static SCRATCH: Cell<Option<AlignedF32>> = const { Cell::new(None) };
}

/// A thread keeps a scratch up to this many values (4 MiB); larger ones are freed after use.
const SCRATCH_KEPT: usize = 1 << 20;

/// Calls `f` with `len` values of this thread's scratch, which hold anything.
///
/// A call inside `f` gets a scratch of its own.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut scratch = match SCRATCH.take() {
        Some(scratch) if scratch.len() >= len => scratch,
        _ => AlignedF32::zeros(len),
    };
    let result = f(&mut scratch[..len]);
    if scratch.len() <= SCRATCH_KEPT {
        SCRATCH.set(Some(scratch));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zero() {
        for len in [0, 1, 16, 1000] {
            let mut buffer = AlignedF32::zeros(len);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&x| x == 0.0));
            assert!(len == 0 || (buffer.as_ptr() as usize).is_multiple_of(ALIGNMENT));
            buffer.fill(1.0);
        }
    }

    #[test]
    fn scratch_may_be_used_inside_scratch() {
        with_scratch(8, |outer| {
            outer.fill(1.0);
            with_scratch(8, |inner| inner.fill(2.0));
            assert!(outer.iter().all(|&x| x == 1.0));
        });
    }
}
