//! Median times, in milliseconds, of decoding, of preprocessing and of both in one call, for each
//! picture on one thread.
//!
//! `cargo run --release -p altclip-image --example stage_times -- PICTURE...`

use std::time::{Duration, Instant};

use altclip_image::{DecodeOptions, Preprocessor, decode, decode_and_preprocess, read_file};

const RUNS: usize = 21;

fn median_ms<T>(mut work: impl FnMut() -> T) -> f64 {
    let time = |_| {
        let start = Instant::now();
        std::hint::black_box(work());
        start.elapsed()
    };
    let mut times: Vec<Duration> = (0..=RUNS).map(time).skip(1).collect();
    times.sort_unstable();
    times.get(RUNS / 2).map_or(0.0, |time| 1e3 * time.as_secs_f64())
}

#[allow(clippy::print_stdout, reason = "the output of an example")]
fn main() -> Result<(), altclip_image::Error> {
    let options = DecodeOptions::default();
    let clip = Preprocessor::clip(224);
    for path in std::env::args_os().skip(1) {
        let bytes = read_file(path.as_ref(), &options)?;
        let rgb = decode(&bytes, &options)?;
        println!(
            "{}\t{}x{}\tdecode {:.3} ms\tpreprocess {:.3} ms\ttotal {:.3} ms",
            path.to_string_lossy(),
            rgb.width(),
            rgb.height(),
            median_ms(|| decode(&bytes, &options)),
            median_ms(|| clip.apply(&rgb)),
            median_ms(|| {
                let mut values = vec![0.0; 3 * 224 * 224];
                decode_and_preprocess(&bytes, &options, &clip, &mut values).map(|()| values)
            }),
        );
    }
    Ok(())
}
