//! How fast vectors are searched, beside reading them once from memory.
//!
//! ```text
//! cargo run --release -p altclip-search --example scan -- [ROWS] [WIDTH] [DIR]
//! ```
//!
//! Rows are clustered (a thousand centres, as many sizes) and normalised; queries are near to rows, as those
//! of texts are. With a folder, rows and queries are written there for other programs: `rows.f16`,
//! `queries.f32`. Figures are the best of several rounds, taken in turns.
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use altclip_kernels::{Pool, large_vec};
use altclip_search::{Flat, Hit, Scan, Searcher};
use half::f16;
use std::time::Instant;

const CENTRES: usize = 1000;
const QUERIES: usize = 50;
const ROUNDS: usize = 5;
const TOP: usize = 10;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// About normal: the sum of four uniform numbers.
    fn value(&mut self) -> f32 {
        let z = self.next();
        let part = |n: u32| (z >> (16 * n) & 0xffff) as f32 / 65_536.0 - 0.5;
        (part(0) + part(1) + part(2) + part(3)) * 1.732
    }
}

fn normalized(mut row: Vec<f32>) -> Vec<f32> {
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter_mut().for_each(|x| *x /= length);
    row
}

/// The same rows once more, on pages as large.
fn rows_of(bits: &[u16]) -> Vec<u16> {
    let mut rows = large_vec(bits.len()).expect("memory for the rows");
    rows.extend_from_slice(bits);
    rows
}

/// The shortest of some rounds in seconds, of several works in turns.
fn best<const N: usize>(works: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    let mut works = works;
    for _ in 0..ROUNDS {
        for (work, best) in works.iter_mut().zip(&mut best) {
            let start = Instant::now();
            work();
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    best
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number =
        |default| arguments.next().map_or(default, |text| text.parse().unwrap_or(default));
    let (rows, width) = (number(1_000_000), number(768));
    let dir = arguments.next();
    let mut random = Random(1);
    // Pictures of a model have a direction in common; a centre is off it, a row is off its centre.
    let common: Vec<f32> = (0..width).map(|_| random.value()).collect();
    let centres: Vec<Vec<f32>> =
        (0..CENTRES).map(|_| common.iter().map(|x| x + random.value()).collect()).collect();
    let mut bits = large_vec(rows * width).expect("memory for the rows");
    let mut queries = Vec::new();
    for n in 0..rows {
        // Sizes of clusters fall off.
        let centre =
            (random.next() % CENTRES as u64) * (random.next() % CENTRES as u64) / CENTRES as u64;
        let centre = &centres[centre as usize];
        let row = normalized(centre.iter().map(|x| x + 0.8 * random.value()).collect());
        if n % (rows / QUERIES).max(1) == 0 && queries.len() < QUERIES {
            queries.push(normalized(row.iter().map(|x| x + 0.03 * random.value()).collect()));
        }
        bits.extend(row.iter().map(|&x| f16::from_f32(x).to_bits()));
    }
    if let Some(dir) = dir {
        let path = std::path::Path::new(&dir);
        let bytes: Vec<u8> = bits.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(path.join("rows.f16"), bytes)?;
        let bytes: Vec<u8> = queries.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(path.join("queries.f32"), bytes)?;
    }
    let start = Instant::now();
    let flat = Flat::new(0, width, (0..rows as i64).collect(), rows_of(&bits));
    let build = start.elapsed().as_secs_f64();
    let pool = Pool::new(std::thread::available_parallelism().map_or(1, usize::from));
    let searcher = Searcher::new(&flat, &pool);
    let (mut exact, mut estimated) = (Vec::new(), Vec::new());
    let find = |query: &[f32], scan| -> Vec<Hit> { searcher.nearest(query, TOP, None, scan) };
    for query in &queries {
        exact.push(find(query, Scan::Exact));
        estimated.push(find(query, Scan::Estimated));
    }
    let found = |(exact, estimated): (&Vec<Hit>, &Vec<Hit>)| {
        exact.iter().filter(|hit| estimated.iter().any(|other| other.row == hit.row)).count()
    };
    let all = exact.iter().map(Vec::len).sum::<usize>();
    let recall = exact.iter().zip(&estimated).map(found).sum::<usize>() as f64 / all as f64;
    // The plainest thing that touches every byte: sums of words, as wide as the compiler makes them.
    let read = || {
        let parts = pool.threads() * 64;
        let part = bits.len().div_ceil(parts);
        pool.run(parts, &|task| {
            let words = bits.get(task * part..).unwrap_or_default();
            let words = words.get(..part.min(words.len())).unwrap_or_default();
            let (eights, _) = words.as_chunks::<64>();
            let mut sums = [0u16; 64];
            for eight in eights {
                sums.iter_mut().zip(eight).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
            }
            std::hint::black_box(sums);
        });
    };
    let mut turn = 0;
    let mut next = || {
        turn += 1;
        &queries[turn % queries.len()]
    };
    let [memory, scan] = best([&mut || read(), &mut || {
        std::hint::black_box(find(next(), Scan::Exact));
    }]);
    let mut each = 0;
    let [estimate] = best([&mut || {
        for query in &queries {
            each += find(query, Scan::Estimated).len();
        }
    }]);
    let estimate = estimate / queries.len() as f64;
    let [counts] = best([&mut || {
        std::hint::black_box(searcher.estimates(&queries[0]));
    }]);
    println!(
        "{}",
        serde_json::json!({
            "rows": rows, "width": width, "threads": pool.threads(), "build_s": build,
            "read_memory_ms": memory * 1e3, "exact_ms": scan * 1e3, "estimated_ms": estimate * 1e3,
            "estimates_alone_ms": counts * 1e3,
            "exact_over_memory": scan / memory, "exact_over_estimated": scan / estimate,
            "recall_at_10": recall,
        })
    );
    Ok(())
}
