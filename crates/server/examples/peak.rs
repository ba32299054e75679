//! The most that an engine does with full batches, in one process: what a server can be compared with.
//!
//! `cargo run --release -p altclip-server --example peak -- MODEL [THREADS]`
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use altclip::{LoadOptions, Model};
use serde_json::json;
use std::time::Instant;

/// A batch of the server.
const TOKENS: usize = 2048;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut options = LoadOptions::default();
    if let Some(threads) = args.get(1) {
        options.threads = threads.parse().unwrap();
    }
    let model = Model::load(args[0].as_ref(), &options).unwrap();
    // As the load generator sends them.
    let ids = model.tokenize(&"a b c d ".repeat(50)).unwrap().input_ids;
    // Each text is another one: what occurs twice is computed once.
    let batch: Vec<Vec<u32>> = (0..TOKENS / ids.len())
        .map(|n| {
            let mut ids = ids.clone();
            let place = 1 + n % (ids.len() - 2);
            ids[place] = 5 + n as u32;
            ids
        })
        .collect();
    let batch: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
    model.features_of_ids(&batch).unwrap();
    let (begun, mut texts) = (Instant::now(), 0);
    while begun.elapsed().as_secs_f64() < 5.0 {
        model.features_of_ids(&batch).unwrap();
        texts += batch.len();
    }
    let rate = texts as f64 / begun.elapsed().as_secs_f64();
    println!("{}", json!({ "tokens_per_text": ids.len(), "texts_per_second": rate }));
}
