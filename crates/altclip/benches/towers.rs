//! Seconds per item of both towers on a real or random full-size folder, as JSON lines.
//!
//! `cargo bench -p altclip --bench towers -- build/full` (made by `scripts/reference/full_size.py`);
//! `scripts/reference/bench_torch.py` prints the same lines for PyTorch. Without a folder, or with
//! `--test`, the golden checkpoint runs once, so that the bench cannot rot.

use altclip::tensor::Counting;
use altclip::{LoadOptions, Model};
use std::path::{Path, PathBuf};
use std::time::Instant;

const TOKENS: usize = 16;

fn main() {
    let folder = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).map(PathBuf::from);
    match folder {
        // Cargo runs benches in the folder of their package.
        Some(folder) if folder.is_absolute() => run(&folder, 5),
        Some(folder) => run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder), 5),
        None => smoke(),
    }
}

/// The golden checkpoint with its tokenizer, once.
fn smoke() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let dir = std::env::temp_dir().join(format!("altclip-towers-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary folder");
    for file in [
        "alt_l/config.json",
        "alt_l/preprocessor_config.json",
        "alt_l/model.safetensors",
        "tokenizer/tokenizer.json",
    ] {
        let name = Path::new(file).file_name().expect("a file name");
        std::fs::copy(golden.join(file), dir.join(name)).expect("a golden file");
    }
    run(&dir, 1);
    std::fs::remove_dir_all(&dir).expect("the temporary folder");
}

fn run(folder: &Path, runs: usize) {
    let model = Model::load(folder, &LoadOptions::default()).expect("a model folder");
    let (height, width) = model.preprocessor().expect("preprocessor_config.json").output_size();
    for batch in [1, 8] {
        let pixels: Vec<f32> =
            (0..batch * 3 * height * width).map(|n| (n as f32 * 0.37).sin()).collect();
        let image = || drop(model.features_of_pixels(&pixels).expect("image features"));
        print(
            &model,
            "image",
            batch,
            0,
            median(runs, image),
            flops_of_pixels(&model, &pixels, height * width * 3),
        );
    }
    for batch in [1, 32] {
        let ids: Vec<Vec<u32>> = (0..batch)
            .map(|b| (0..TOKENS as u32).map(|n| 5 + 37 * (n + 11 * b) % 500).collect())
            .collect();
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let text = || drop(model.features_of_ids(&ids).expect("text features"));
        let counting = Counting::new(model.backend());
        model
            .text_encoder()
            .and_then(|encoder| Ok(encoder.features(&counting, &ids)?))
            .expect("text features");
        print(&model, "text", batch as usize, TOKENS, median(runs, text), total(&counting));
    }
}

fn flops_of_pixels(model: &Model, pixels: &[f32], picture: usize) -> u64 {
    use altclip::tensor::Backend;
    let counting = Counting::new(model.backend());
    let tensor = counting.tensor(pixels.len() / picture, picture, pixels).expect("a tensor");
    model
        .image_encoder()
        .and_then(|tower| Ok(tower.0.features(&counting, &tensor)?))
        .expect("image features");
    total(&counting)
}

fn total(counting: &Counting<'_>) -> u64 {
    counting.counts().values().map(|count| count.flops).sum()
}

fn median(runs: usize, work: impl Fn()) -> f64 {
    work();
    let time = || {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let mut times: Vec<f64> = (0..runs).map(|_| time()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[allow(clippy::print_stdout)]
fn print(model: &Model, tower: &str, batch: usize, tokens: usize, seconds: f64, flops: u64) {
    let per_item = seconds / batch as f64;
    let gflops = flops as f64 / seconds / 1e9;
    let threads = altclip::tensor::CpuBackend::threads(model.backend());
    println!(
        r#"{{"engine":"altclip","tower":"{tower}","precision":"f32","batch":{batch},"tokens":{tokens},"seconds_per_item":{per_item:.5},"gflops":{gflops:.1},"threads":{threads}}}"#
    );
}
