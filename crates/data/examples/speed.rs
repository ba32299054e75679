//! How fast parallel texts are opened and read by number: `cargo run --release -p altclip-data --example speed -- FILE`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use altclip_data::{Dataset, Order, ParallelOptions, ParallelTexts};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("name a file of parallel texts")?;
    let start = Instant::now();
    let data = ParallelTexts::open(&[path.into()], &ParallelOptions::new(std::env::temp_dir()))?;
    let seconds = start.elapsed().as_secs_f64();
    println!("opened {} lines in {seconds:.2} s", data.len());
    let samples = data.len().min(200_000);
    let start = Instant::now();
    let order = Order::new(data.len(), 1, true);
    let walk = order.walk(0, 0).take(samples as usize);
    let bytes: usize = walk
        .filter_map(|at| data.get(at.2).ok())
        .map(|pair| pair.source.len() + pair.target.len())
        .sum();
    let rate = samples as f64 / start.elapsed().as_secs_f64();
    println!("read {samples} of them shuffled, {bytes} bytes, {rate:.0} a second");
    Ok(())
}
