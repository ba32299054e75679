//! The shared cases of the kernel tests (feature `testing`).
//!
//! A test states an operation once, its expected values (from [`crate::reference`]) and a bound of
//! the error; [`Runner::check`] runs it on every instruction set and on one and three threads,
//! holds each result against the bound, and holds all of them against each other bit for bit. An
//! instruction set that this processor lacks is named on the standard output.
//!
//! [`Runner::in_all_places`] runs it with its operands unaligned, and flush against pages that must
//! not be touched: a read or write out of bounds ends the process.

use crate::{Aligned, Isa, Kernels, Plain, Pool};

/// Runs an operation on every level and thread count.
pub struct Runner {
    pools: [Pool; 2],
    kernels: Vec<&'static Kernels>,
}

/// How far a value may be from the expected one.
pub enum Bound {
    /// At most this, absolutely.
    Absolute(f64),
    /// At most this times `max(1, |expected|)`.
    Relative(f64),
    /// At most this, for each value its own.
    Each(Vec<f64>),
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

impl Runner {
    /// A runner over the levels of this processor; prints those it lacks.
    #[allow(clippy::print_stdout, reason = "a skipped case must be seen in the test's output")]
    pub fn new() -> Self {
        let mut kernels = Vec::new();
        for isa in Isa::ALL {
            match Kernels::for_isa(isa) {
                Some(found) => kernels.push(found),
                None => println!("skipped: {isa} not present"),
            }
        }
        Runner { pools: [Pool::new(1), Pool::new(3)], kernels }
    }

    /// The levels that are run.
    pub fn kernels(&self) -> &[&'static Kernels] {
        &self.kernels
    }

    /// Runs `op` everywhere and gives back its result, which is the same everywhere.
    ///
    /// # Panics
    /// Panics, with `name` and the place, where a result is out of bound or differs between
    /// levels or thread counts. A NaN must be a NaN, an infinity the same infinity.
    pub fn check(
        &self,
        name: &str,
        expected: &[f32],
        bound: &Bound,
        op: &dyn Fn(&Kernels, &Pool) -> Vec<f32>,
    ) -> Vec<f32> {
        let result = self.same_bits(name, op);
        assert_close(name, &result, expected, bound);
        result
    }

    /// Runs `op` everywhere, for operations whose bits may differ between levels: holds each level
    /// against the bound, and its thread counts against each other bit for bit.
    ///
    /// # Panics
    /// As [`Runner::check`].
    pub fn check_each(
        &self,
        name: &str,
        expected: &[f32],
        bound: &Bound,
        op: &dyn Fn(&Kernels, &Pool) -> Vec<f32>,
    ) {
        for kernels in &self.kernels {
            let name = format!("{name}, {}", kernels.isa());
            let first = op(kernels, &self.pools[0]);
            assert_close(&name, &first, expected, bound);
            for pool in &self.pools[1..] {
                assert_same_bits(&name, &op(kernels, pool), &first);
            }
        }
    }

    /// Runs `op` on every level with its operands at every [`Place`]: all results of a level are the
    /// same bit for bit. `op` puts every operand, results too, where it is told.
    ///
    /// # Panics
    /// Panics, with `name` and the place, where two results differ. An access out of bounds ends
    /// the process.
    pub fn in_all_places(&self, name: &str, op: &dyn Fn(&Kernels, &Pool, Place) -> Vec<f32>) {
        for kernels in &self.kernels {
            let expected = op(kernels, &self.pools[0], Place::Anywhere);
            for (nth, &place) in Place::ALL.iter().enumerate() {
                let pool = &self.pools[nth % self.pools.len()];
                let name = format!("{name}, {}, {place:?}", kernels.isa());
                assert_same_bits(&name, &op(kernels, pool, place), &expected);
            }
        }
    }

    /// Runs `op` everywhere and gives back its result, which is the same everywhere.
    ///
    /// # Panics
    /// Panics, with `name` and the place, where two results differ.
    pub fn same_bits(&self, name: &str, op: &dyn Fn(&Kernels, &Pool) -> Vec<f32>) -> Vec<f32> {
        let mut first: Option<Vec<f32>> = None;
        for kernels in &self.kernels {
            for pool in &self.pools {
                let result = op(kernels, pool);
                let name = format!("{name}, {}, {} threads", kernels.isa(), pool.threads());
                match &first {
                    Some(first) => assert_same_bits(&name, &result, first),
                    None => first = Some(result),
                }
            }
        }
        first.unwrap_or_default()
    }
}

/// Holds two results against each other bit for bit; any NaN equals any NaN.
///
/// # Panics
/// Panics, with `name` and the place, where they differ.
pub fn assert_same_bits(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}: lengths");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(same, "{name}: value {i} is {a:e}, expected {b:e} bit for bit");
    }
}

/// Holds a result against expected values.
///
/// # Panics
/// Panics, with `name` and the worst place, where a value is out of bound.
pub fn assert_close(name: &str, found: &[f32], expected: &[f32], bound: &Bound) {
    assert_eq!(found.len(), expected.len(), "{name}: lengths");
    for (i, (&a, &b)) in found.iter().zip(expected).enumerate() {
        let within = match bound {
            Bound::Absolute(bound) => *bound,
            Bound::Relative(bound) => bound * f64::from(b).abs().max(1.0),
            Bound::Each(bounds) => bounds[i],
        };
        let close = if b.is_finite() {
            (f64::from(a) - f64::from(b)).abs() <= within
        } else {
            a == b || (a.is_nan() && b.is_nan())
        };
        assert!(close, "{name}: value {i} is {a:e}, expected {b:e} within {within:e}");
    }
}

/// Numbers that look random and are the same in every run (SplitMix64).
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next_bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A value in [-1, 1), uniform.
    pub fn value(&mut self) -> f32 {
        (self.next_bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    /// `len` values in [-1, 1).
    pub fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }

    /// `len` values of very different size, which cancel in sums: ±10^-6 … ±10^6.
    pub fn hostile(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value() * 10f32.powi((self.next_bits() % 13) as i32 - 6)).collect()
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next_bits() % end as u64) as usize
    }
}

/// Lengths around every vector and tile size: 0–66, and about 96, 128 and 256.
pub fn lengths() -> impl Iterator<Item = usize> {
    (0..=66).chain([95, 96, 97, 127, 128, 129, 130, 255, 256, 257])
}

/// A copy of `values` that begins one value behind a boundary, and the offset at which it begins.
pub fn unaligned(values: &[f32]) -> (Vec<f32>, usize) {
    let mut shifted = vec![f32::NAN];
    shifted.extend_from_slice(values);
    (shifted, 1)
}

/// Where an operand lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Wherever the allocator puts it.
    Anywhere,
    /// One value behind a boundary of 64 bytes: an odd address for bytes.
    Shifted,
    /// Its end is the end of a page, and what follows must not be touched.
    BeforePage,
    /// Its beginning is the beginning of a page, and what precedes must not be touched.
    AfterPage,
}

impl Place {
    /// The places that this system can give. Pages are taken from Linux only.
    pub const ALL: &[Place] = if cfg!(target_os = "linux") {
        &[Place::Anywhere, Place::Shifted, Place::BeforePage, Place::AfterPage]
    } else {
        &[Place::Anywhere, Place::Shifted]
    };

    /// A copy of `values` at such a place.
    pub fn put<T: Plain>(self, values: &[T]) -> Placed<T> {
        let count = values.len();
        let (memory, first) = match self {
            Place::Anywhere | Place::Shifted => {
                let first = usize::from(self == Place::Shifted);
                (Memory::Plain(Aligned::zeros(count + first)), first * size_of::<T>())
            }
            #[cfg(target_os = "linux")]
            Place::BeforePage | Place::AfterPage => {
                let pages = Pages::new(size_of_val(values));
                let first =
                    if self == Place::AfterPage { 0 } else { pages.len - size_of_val(values) };
                (Memory::Pages(pages), first)
            }
            #[cfg(not(target_os = "linux"))]
            Place::BeforePage | Place::AfterPage => panic!("pages are taken from Linux only"),
        };
        let mut placed = Placed { memory, first, count };
        placed.copy_from_slice(values);
        placed
    }

    /// `count` times `value` at such a place.
    pub fn fill<T: Plain>(self, value: T, count: usize) -> Placed<T> {
        self.put(&vec![value; count])
    }
}

/// An operand at its [`Place`].
pub struct Placed<T: Plain> {
    memory: Memory<T>,
    /// The byte at which it begins.
    first: usize,
    count: usize,
}

enum Memory<T: Plain> {
    Plain(Aligned<T>),
    #[cfg(target_os = "linux")]
    Pages(Pages),
}

impl<T: Plain> Placed<T> {
    fn start(&self) -> *mut T {
        let base = match &self.memory {
            Memory::Plain(memory) => memory.as_ptr().cast_mut().cast::<u8>(),
            #[cfg(target_os = "linux")]
            Memory::Pages(pages) => pages.start,
        };
        base.wrapping_add(self.first).cast()
    }
}

impl<T: Plain> std::ops::Deref for Placed<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `put` has taken memory for `count` values from `first` on, a multiple of the
        // value's size behind a page or 64 bytes; zeros and copies of values are values.
        unsafe { std::slice::from_raw_parts(self.start(), self.count) }
    }
}

impl<T: Plain> std::ops::DerefMut for Placed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.count) }
    }
}

impl<T: Plain> AsRef<[T]> for Placed<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

/// Pages between two that must not be touched: doing so ends the process.
#[cfg(target_os = "linux")]
struct Pages {
    start: *mut u8,
    len: usize,
    page: usize,
}

// SAFETY: the memory is owned, as a `Box<[u8]>` owns its own.
#[cfg(target_os = "linux")]
unsafe impl Send for Pages {}
// SAFETY: as above; shared access only reads.
#[cfg(target_os = "linux")]
unsafe impl Sync for Pages {}

#[cfg(target_os = "linux")]
impl Pages {
    /// Pages for at least `bytes` bytes, zeros at first.
    fn new(bytes: usize) -> Self {
        // SAFETY: asks for a number.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) });
        let page = page.expect("the system has pages");
        let len = bytes.next_multiple_of(page).max(page);
        // SAFETY: new memory of the system's choice, inaccessible at first; then the part between
        // its first and last page is opened.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let all = len + 2 * page;
            let base = libc::mmap(std::ptr::null_mut(), all, libc::PROT_NONE, flags, -1, 0);
            assert!(base != libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
            let start = base.cast::<u8>().add(page);
            let opened = libc::mprotect(start.cast(), len, libc::PROT_READ | libc::PROT_WRITE);
            assert!(opened == 0, "mprotect: {}", std::io::Error::last_os_error());
            Self { start, len, page }
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this beginning and length, and not unmapped before.
        unsafe {
            libc::munmap(self.start.sub(self.page).cast(), self.len + 2 * self.page);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// How a process ends that reads one byte at `address`: 0, or the signal.
    fn ends_with(address: *const u8) -> i32 {
        // SAFETY: the child reads a byte and is gone, without allocating or unwinding; the parent
        // waits for it.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                address.read_volatile();
                libc::_exit(0);
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 }
        }
    }

    #[test]
    fn one_byte_out_of_bounds_ends_the_process() {
        for len in [0, 1, 4095, 4096, 10_000] {
            let before = Place::BeforePage.fill(7u8, len);
            let after = Place::AfterPage.fill(7u8, len);
            assert_eq!(ends_with(before.as_ptr().wrapping_add(len)), libc::SIGSEGV);
            assert_eq!(ends_with(after.as_ptr().wrapping_sub(1)), libc::SIGSEGV);
            if len > 0 {
                assert_eq!(ends_with(before.as_ptr().wrapping_add(len - 1)), 0);
                assert_eq!(ends_with(after.as_ptr()), 0);
            }
        }
    }

    #[test]
    fn operands_hold_what_was_put_there() {
        for &place in Place::ALL {
            for len in [0, 1, 17, 5000] {
                let values = Random::new(1).values(len);
                assert_eq!(&*place.put(&values), values, "{place:?}");
            }
        }
        let odd = Place::Shifted.fill(0u8, 3);
        assert_eq!(odd.as_ptr() as usize % 64, 1);
    }
}
