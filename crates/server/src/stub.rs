//! An engine of a fixed time for each batch and no work: what is measured with it is the server.

use crate::engine::{About, Engine, Tokens};
use crate::model::served;
use altclip_report::{Code, Report};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a text that count as a token.
const BYTES_PER_TOKEN: usize = 4;

/// An [`Engine`] that sleeps. A row is a function of its input alone.
pub struct StubEngine {
    about: About,
    batch_time: Duration,
}

impl StubEngine {
    /// A stub of this width that takes `batch_time` for each batch.
    pub fn new(width: usize, batch_time: Duration) -> Self {
        let about = About {
            name: "stub".into(),
            width: width.max(1),
            max_length: 77,
            picture: (8, 8),
            precision: "f32".into(),
            languages: None,
        };
        Self { about, batch_time }
    }

    fn rows(&self, seeds: impl Iterator<Item = u64>) -> Vec<f32> {
        std::thread::sleep(self.batch_time);
        seeds.flat_map(|seed| (0..self.about.width).map(move |place| number(seed, place))).collect()
    }
}

impl Engine for StubEngine {
    fn about(&self) -> &About {
        &self.about
    }

    fn tokenize(&self, text: &str) -> Result<Tokens, Report> {
        let total = 2 + text.len().div_ceil(BYTES_PER_TOKEN);
        let first = (hash(text.as_bytes()) >> 32) as u32;
        let ids = (0..total.min(self.about.max_length) as u32).map(|n| first.wrapping_add(n));
        Ok(Tokens { ids: ids.collect(), total })
    }

    fn preprocess(&self, file: &[u8]) -> Result<Vec<f32>, Report> {
        served(file)?;
        let (height, width) = self.about.picture;
        let seed = hash(file);
        Ok((0..3 * height * width).map(|place| number(seed, place)).collect())
    }

    fn encode_ids(&self, ids: &[&[u32]]) -> Result<Vec<f32>, Report> {
        let seed = |ids: &&[u32]| ids.iter().fold(7, |seed, &id| mix(seed ^ u64::from(id)));
        Ok(self.rows(ids.iter().map(seed)))
    }

    fn encode_pixels(&self, pixels: &[f32], count: usize) -> Result<Vec<f32>, Report> {
        let each = (pixels.len() / count.max(1)).max(1);
        let seed =
            |pixels: &[f32]| pixels.iter().fold(9, |seed, x| mix(seed ^ u64::from(x.to_bits())));
        Ok(self.rows(pixels.chunks_exact(each).map(seed)))
    }

    fn normalize(&self, mut rows: Vec<f32>) -> Result<Vec<f32>, Report> {
        for row in rows.chunks_exact_mut(self.about.width) {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= length);
        }
        Ok(rows)
    }

    fn scale(&self) -> f32 {
        100.0
    }

    fn model(&self) -> Result<Arc<altclip::Model>, Report> {
        Err(Report::new(Code::E8005, "server", "the stub has no model").help("leave --stub-ms out"))
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn mix(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

/// From -1 to 1, never 0.
fn number(seed: u64, place: usize) -> f32 {
    let bits = mix(seed.wrapping_add((place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    ((bits >> 40) as f32 + 0.5) / (1 << 23) as f32 - 1.0
}
