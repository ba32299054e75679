//! A4 and A5: what decoding and preprocessing may allocate, measured by a counting allocator.
//!
//! A binary of its own with a single test, so that nothing else allocates meanwhile.

#![allow(clippy::unwrap_used, reason = "what tests call fails like a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use altclip_image::{DecodeOptions, Error, Limits, Preprocessor, Rgb, decode};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
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

/// The result and the largest number of bytes that were allocated at once meanwhile.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed) - before)
}

const MIB: usize = 1 << 20;

fn png(width: u32, height: u32, depth: png::BitDepth, n_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_depth(depth);
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![0; n_bytes]).unwrap();
    writer.finish().unwrap();
    out
}

#[test]
fn memory_stays_within_its_bounds() {
    let options = DecodeOptions::default();
    let clip = Preprocessor::clip(224);

    // The reference needs 1.44 GiB for the first of these. The output itself is 588 KiB.
    for (width, height) in [(1, 3000), (3000, 1), (1, 65_535), (65_535, 1)] {
        let file = png(width, height, png::BitDepth::Eight, (width * height) as usize);
        let (result, used) = peak(|| {
            let rgb = decode(&file, &options)?;
            clip.apply(&rgb)
        });
        assert_eq!(result.unwrap().len(), 3 * 224 * 224);
        assert!(used <= 2 * MIB, "{width} x {height}: {used} bytes");
    }

    // Any size: the decoded picture and 2 MiB.
    for (width, height) in [(8000, 8000), (65_535, 976), (976, 65_535), (3000, 9000)] {
        let rgb = Rgb::from_raw(width, height, vec![7; 3 * (width * height) as usize]).unwrap();
        let (_, used) = peak(|| clip.apply(&rgb).unwrap());
        assert!(used <= 2 * MIB, "{width} x {height}: {used} bytes");
    }

    // The bomb: refused by its header without memory; with the limit raised, no more than RGB.
    let bomb = png(13_300, 13_300, png::BitDepth::One, 13_300_usize.div_ceil(8) * 13_300);
    assert!(bomb.len() < 100_000, "{} bytes", bomb.len());
    let (result, used) = peak(|| decode(&bomb, &options));
    assert!(matches!(result, Err(Error::OverLimit { .. })));
    assert!(used < 4096, "{used} bytes to refuse");
    let limits = Limits { pixels: 200_000_000, ..Default::default() };
    let raised = DecodeOptions { limits, ..Default::default() };
    let (result, used) = peak(|| decode(&bomb, &raised).unwrap());
    let rgb_bytes = 3 * 13_300 * 13_300;
    assert_eq!(result.data().len(), rgb_bytes);
    assert!(used <= rgb_bytes + 16 * MIB, "{used} bytes");

    // A JPEG that declares much and holds nothing claims no more than its result.
    let mut header = b"\xff\xd8\xff\xc0\0\x11\x08".to_vec();
    header.extend_from_slice(&[0x1f, 0x40, 0x1f, 0x40, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]);
    let (result, used) = peak(|| decode(&header, &options));
    assert!(matches!(result, Err(Error::Truncated { .. })));
    assert!(used <= MIB, "{used} bytes");
}
