//! Buffers that begin on a cache line, and each thread's own scratch.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::collections::TryReserveError;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes of a cache line; also the width of the widest vector.
const ALIGNMENT: usize = 64;
/// Bytes of a large page. A buffer of several begins on one, and the system is asked to use them:
/// weights are read from end to end, and small pages cost a tenth of that.
const LARGE_PAGE: usize = 2 << 20;

/// Plain numbers: any bytes are a value, and zeros are one.
pub trait Plain: Copy + Default + Send + Sync + sealed::Sealed + 'static {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! plain {
    ($($t:ty),*) => {$(
        impl sealed::Sealed for $t {}
        impl Plain for $t {}
    )*};
}
plain!(u8, u16, i32, u32, u64, f32, crate::RowScale);

/// A fixed-size buffer of plain numbers, 64-byte aligned, zeros at first.
pub struct Aligned<T: Plain> {
    start: NonNull<T>,
    len: usize,
}

/// A buffer of `f32`.
pub(crate) type AlignedF32 = Aligned<f32>;

// SAFETY: the buffer is owned and holds plain values, as a `Box<[f32]>` does.
unsafe impl<T: Plain> Send for Aligned<T> {}
// SAFETY: as above; shared access only reads.
unsafe impl<T: Plain> Sync for Aligned<T> {}

impl<T: Plain> std::fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Aligned({} values)", self.len)
    }
}

impl<T: Plain> Aligned<T> {
    /// A buffer of `len` zeros.
    ///
    /// # Panics
    /// Panics if `len` values are more bytes than can be addressed; ends the process, as every
    /// allocation of the standard library does, where memory is out.
    pub fn zeros(len: usize) -> Self {
        if len == 0 {
            return Self { start: NonNull::dangling(), len };
        }
        let layout = Self::layout(len);
        let start = if is_large(&layout) {
            large::map(layout.size())
        } else {
            // SAFETY: the layout has a size above zero.
            unsafe { alloc_zeroed(layout) }
        };
        match NonNull::new(start.cast::<T>()) {
            Some(start) => Self { start, len },
            None => handle_alloc_error(layout),
        }
    }

    fn layout(len: usize) -> Layout {
        let bytes = len.checked_mul(size_of::<T>());
        let alignment = |bytes| if bytes >= LARGE_PAGE { LARGE_PAGE } else { ALIGNMENT };
        bytes
            .and_then(|bytes| Layout::from_size_align(bytes, alignment(bytes)).ok())
            .expect("a buffer larger than the address space; this is a bug")
    }
}

/// An empty vector with room for `capacity` values, on large pages where the system has them and the room
/// is several of them: for what grows, or is read value by value, and is then scanned from end to end.
///
/// # Errors
/// The system refuses so much memory.
pub fn large_vec<T>(capacity: usize) -> Result<Vec<T>, TryReserveError> {
    let mut values = Vec::new();
    values.try_reserve_exact(capacity)?;
    large::advise(values.spare_capacity_mut());
    Ok(values)
}

/// Whether a buffer comes from the system itself: its pages are zeros already, and large pages are
/// asked for before any is touched.
fn is_large(layout: &Layout) -> bool {
    cfg!(target_os = "linux") && layout.size() >= LARGE_PAGE
}

#[cfg(target_os = "linux")]
mod large {
    //! Memory that begins on a large page.

    use super::LARGE_PAGE;

    /// `bytes` zeros, or null where memory is out.
    pub(super) fn map(bytes: usize) -> *mut u8 {
        let Some(all) = whole(bytes).and_then(|bytes| bytes.checked_add(LARGE_PAGE)) else {
            return std::ptr::null_mut();
        };
        // SAFETY: new memory of the system's choice; what is before its first large page, and
        // behind the large pages wanted, is given back.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let base = libc::mmap(std::ptr::null_mut(), all, access, flags, -1, 0);
            if base == libc::MAP_FAILED {
                return std::ptr::null_mut();
            }
            let base = base.cast::<u8>();
            let before = base.align_offset(LARGE_PAGE);
            let start = base.add(before);
            let end = start.add(all - LARGE_PAGE);
            if before > 0 {
                libc::munmap(base.cast(), before);
            }
            libc::munmap(end.cast(), LARGE_PAGE - before);
            // Only where a large page is used whole. A refusal changes nothing but speed.
            libc::madvise(start.cast(), bytes / LARGE_PAGE * LARGE_PAGE, libc::MADV_HUGEPAGE);
            start
        }
    }

    /// Gives back what [`map`] gave for as many bytes.
    ///
    /// # Safety
    /// Nobody uses the memory any more.
    pub(super) unsafe fn unmap(start: *mut u8, bytes: usize) {
        // SAFETY: mapped by `map`, which has found the size to fit, and not given back before.
        unsafe { libc::munmap(start.cast(), whole(bytes).unwrap_or(bytes)) };
    }

    /// Asks for large pages where they lie whole inside of the memory.
    pub(super) fn advise<T>(memory: &mut [T]) {
        let bytes = size_of_val(memory);
        let start = memory.as_mut_ptr().cast::<u8>();
        let before = start.align_offset(LARGE_PAGE);
        let inside = bytes.saturating_sub(before) / LARGE_PAGE * LARGE_PAGE;
        if inside > 0 {
            // SAFETY: the pages lie inside of memory that is borrowed exclusively; the advice changes
            // nothing of what they hold, and a refusal nothing but speed.
            unsafe { libc::madvise(start.add(before).cast(), inside, libc::MADV_HUGEPAGE) };
        }
    }

    /// Bytes of whole large pages.
    fn whole(bytes: usize) -> Option<usize> {
        bytes.checked_next_multiple_of(LARGE_PAGE)
    }
}

#[cfg(not(target_os = "linux"))]
mod large {
    //! Other systems have no large buffers of their own.

    pub(super) fn map(_: usize) -> *mut u8 {
        std::ptr::null_mut()
    }

    pub(super) fn advise<T>(_: &mut [T]) {}

    /// # Safety
    /// Never called.
    pub(super) unsafe fn unmap(_: *mut u8, _: usize) {}
}

impl Aligned<f32> {
    /// The same memory as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: every byte of an `f32` is a byte, and the length is the same.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len * 4) }
    }

    /// The same memory as bytes.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_bytes`, any bytes are an `f32`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.len * 4) }
    }
}

impl<T: Plain> Drop for Aligned<T> {
    fn drop(&mut self) {
        if self.len > 0 {
            let layout = Self::layout(self.len);
            let start = self.start.as_ptr().cast();
            // SAFETY: taken in `zeros` with the same layout in the same way, not freed before.
            unsafe {
                if is_large(&layout) {
                    large::unmap(start, layout.size());
                } else {
                    dealloc(start, layout);
                }
            }
        }
    }
}

impl<T: Plain> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` initialised values from `start`, owned by `self` (dangling only for 0).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
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
        for len in [0, 1, 16, 1000, LARGE_PAGE / 4, LARGE_PAGE + 3] {
            let mut buffer = Aligned::<f32>::zeros(len);
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
