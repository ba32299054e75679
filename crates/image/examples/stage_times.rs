//! Best of ten times, in milliseconds, of decoding and of preprocessing each picture on one thread.
//!
//! `cargo run --release -p altclip-image --example stage_times -- PICTURE...`

use std::time::{Duration, Instant};

use altclip_image::{DecodeOptions, Preprocessor, decode, read_file};

fn best<T>(mut work: impl FnMut() -> T) -> Duration {
    let time = |_| {
        let start = Instant::now();
        std::hint::black_box(work());
        start.elapsed()
    };
    (0..10).map(time).min().unwrap_or_default()
}

#[allow(clippy::print_stdout, reason = "the output of an example")]
fn main() -> Result<(), altclip_image::Error> {
    let options = DecodeOptions::default();
    let clip = Preprocessor::clip(224);
    for path in std::env::args_os().skip(1) {
        let bytes = read_file(path.as_ref(), &options)?;
        let rgb = decode(&bytes, &options)?;
        let decoding = best(|| decode(&bytes, &options));
        let preprocessing = best(|| clip.apply(&rgb));
        println!(
            "{}\t{}x{}\tdecode {:.2} ms\tpreprocess {:.2} ms",
            path.to_string_lossy(),
            rgb.width(),
            rgb.height(),
            1e3 * decoding.as_secs_f64(),
            1e3 * preprocessing.as_secs_f64(),
        );
    }
    Ok(())
}
