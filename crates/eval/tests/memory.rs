//! What retrieval may allocate beside the embeddings, measured by a counting allocator: blocks and a few
//! numbers a row, never the matrix.
//!
//! A binary of its own with a single test, so that nothing else allocates meanwhile.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "what tests call fails like a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use altclip_eval::{Pairs, RetrievalOptions, Rows, Scorer, TokenRows, retrieval};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` above with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The largest number of bytes that were allocated at once meanwhile.
fn peak(work: impl FnOnce()) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed) - before
}

const MIB: usize = 1 << 20;

/// Rows of numbers that are never all zero.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let number = |n: usize| {
        let x = (n as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((x >> 40) % 2_001) as f32 / 1_000.0 - 0.9995
    };
    (0..count).map(number).collect()
}

#[test]
fn the_matrix_never_exists() {
    const WIDTH: usize = 16;
    let scorer = Scorer::new(2);
    let options = RetrievalOptions::default();
    // 5,000 images with five texts each: a matrix of 477 MiB.
    let (images, texts) = (numbers(5_000 * WIDTH, 1), numbers(25_000 * WIDTH, 2));
    let index: Vec<usize> = (0..25_000).map(|text| text / 5).collect();
    let bytes = peak(|| {
        let images = Rows::new("images", &images, WIDTH).unwrap();
        let texts = Rows::new("texts", &texts, WIDTH).unwrap();
        let report = retrieval(&scorer, &Pairs::new(images, texts, &index).unwrap(), &options);
        assert_eq!((report.images, report.texts, report.worst.len()), (5_000, 25_000, 20));
    });
    println!("25,000 x 5,000: {} KiB", bytes >> 10);
    assert!(bytes < 32 * MIB, "{bytes}");
    // 300 images of 50 tokens and 1,000 texts of 12: 687 MiB of cosines.
    let (images, texts) = (numbers(300 * 50 * WIDTH, 3), numbers(12_000 * WIDTH, 4));
    let bytes = peak(|| {
        let images = Rows::new("images", &images, WIDTH).unwrap();
        let texts = Rows::new("texts", &texts, WIDTH).unwrap();
        let images = TokenRows::new(images, &[50; 300], vec![false; 300]).unwrap();
        let texts = TokenRows::new(texts, &[12; 1_000], vec![true; 1_000]).unwrap();
        let pairs = (0..1_000).map(|text| (text, text % 300));
        let pairs = Pairs::token_wise(images, texts, pairs).unwrap();
        assert_eq!(retrieval(&scorer, &pairs, &options).texts, 1_000);
    });
    println!("token by token: {} KiB", bytes >> 10);
    assert!(bytes < 32 * MIB, "{bytes}");
}
