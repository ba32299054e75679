//! Time and memory to load a model of XLM-R's size, and the speed of encoding.
//!
//! `cargo bench -p altclip-tokenizer` measures; `-- --test` runs everything once on a small model;
//! `-- --steps FAMILY BYTES` encodes one hostile text, for a count of instructions from outside
//! (`valgrind --tool=cachegrind --cache-sim=no` around two sizes gives t(2n)/t(n)).
#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use altclip_tokenizer::{DEFAULT_MAX_LENGTH, Tokenizer};
use support::{golden_bytes, memory, synthetic, texts};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let test = arguments.iter().any(|argument| argument == "--test");
    let (n_pieces, bytes, rounds) =
        if test { (20_000, 1 << 14, 1) } else { (synthetic::XLMR_PIECES, 1 << 20, 7) };

    let small = serde_json::from_slice(&golden_bytes("tokenizer/tokenizer.json")).expect("JSON");
    let pieces = synthetic::pieces(n_pieces);
    let model = synthetic::sentencepiece(&pieces, &synthetic::charsmap(&small));
    let json = synthetic::tokenizer_json(&pieces, &small);
    drop((small, pieces));

    if let [option, family, bytes] = arguments.as_slice()
        && option == "--steps"
    {
        let tokenizer = Tokenizer::from_sentencepiece(&model).expect("a good model");
        let texts = texts::hostile(bytes.parse().expect("a number of bytes"));
        let found = texts.iter().find(|(name, _)| name == family);
        let (_, text) = found.expect("a family");
        let encoding = tokenizer.encode(text, DEFAULT_MAX_LENGTH).expect("encoded");
        println!("{} tokens", encoding.tokens_total);
        return;
    }

    let files: [(&str, &[u8]); 2] =
        [("sentencepiece.bpe.model", &model), ("tokenizer.json", &json)];
    for (name, file) in files {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(name), file).expect("written");
        let mut times: Vec<f64> = Vec::new();
        let mut most = 0;
        for _ in 0..rounds {
            let start = Instant::now();
            let (tokenizer, peak) = memory::peak(|| Tokenizer::from_dir(folder.path()));
            times.push(start.elapsed().as_secs_f64() * 1e3);
            most = most.max(peak);
            assert_eq!(tokenizer.expect("a good model").vocab_size(), n_pieces + 2);
        }
        times.sort_by(f64::total_cmp);
        let (best, median) = (times[0], times[times.len() / 2]);
        let (file, most) = (file.len() as f64 / 1e6, most as f64 / 1e6);
        println!(
            "load {name} ({file:.1} MB): {best:.1} ms, median {median:.1} ms, peak {most:.1} MB with the file"
        );
    }

    let tokenizer = Tokenizer::from_sentencepiece(&model).expect("a good model");
    println!("{:24} {:>9} {:>10} {:>8} {:>11}", "text", "ms/MiB", "MB/s", "t2n/tn", "peak KiB");
    for ((name, text), (_, double)) in
        texts::hostile(bytes).into_iter().zip(texts::hostile(2 * bytes))
    {
        let seconds = |text: &str| {
            let mut best = f64::INFINITY;
            for _ in 0..rounds.min(3) {
                let start = Instant::now();
                tokenizer.encode(text, DEFAULT_MAX_LENGTH).expect("encoded");
                best = best.min(start.elapsed().as_secs_f64());
            }
            best
        };
        let (one, two) = (seconds(&text), seconds(&double));
        let (_, peak) = memory::peak(|| tokenizer.encode(&text, DEFAULT_MAX_LENGTH));
        let per_mib = one * 1e3 * 1_048_576.0 / text.len() as f64;
        let speed = text.len() as f64 / one / 1e6;
        println!(
            "{name:24} {per_mib:9.1} {speed:10.1} {:8.2} {:11.0}",
            two / one,
            peak as f64 / 1024.0
        );
    }
}
