//! Random weights of a model's true shapes, made when they are asked for: what measurements run on
//! where no checkpoint is at hand.
//!
//! Matrices are uniform with the standard deviation `1 / sqrt(K)`, so activations keep their size;
//! norms are near 1. A few channels, the same in every norm, are planted far from the others, as trained
//! towers have them: they are what makes 8 bits hard. Dettmers et al., LLM.int8(), arXiv 2208.07339,
//! section 3.2, count a channel as an outlier from a magnitude of 6 on.

use crate::weights::Source;
use crate::{Error, Result};
use altclip_report::Report;
use altclip_tensor::RowSource;
use std::ops::Range;
use std::sync::Arc;

/// Random tensors of any name and shape. The same seed gives the same numbers.
#[derive(Clone, Copy, Debug)]
pub struct RandomWeights {
    seed: u64,
    outliers: bool,
}

impl RandomWeights {
    /// Weights of a seed, with planted outlier channels.
    pub fn new(seed: u64) -> Self {
        Self { seed, outliers: true }
    }

    /// Weights of a seed whose channels are all alike.
    pub fn without_outliers(seed: u64) -> Self {
        Self { seed, outliers: false }
    }
}

impl Source for RandomWeights {
    fn rows(&self, name: &str, shape: &[usize]) -> Result<Arc<dyn RowSource>> {
        let shape = match shape {
            [] => [1, 1],
            [len] => [1, *len],
            [rows, rest @ ..] => [*rows, rest.iter().product()],
        };
        let hash = name.bytes().fold(self.seed, |hash, byte| mix(hash ^ u64::from(byte)));
        // What a norm does to a channel is what makes it an outlier behind it.
        let is_norm = name.contains("norm") || name.contains("Norm") || name.contains("LN");
        let kind = match (is_norm, name.ends_with("weight"), shape[0] == 1) {
            (true, true, _) => Kind::Norm { outliers: self.outliers },
            (_, _, true) => Kind::Uniform(0.02),
            _ if name.contains("embeddings.") => Kind::Uniform(0.05),
            // Uniform on [-a, a] has the deviation a / sqrt 3.
            _ => Kind::Uniform((3.0 / shape[1] as f32).sqrt()),
        };
        Ok(Arc::new(RandomRows { hash, shape, kind }))
    }

    fn has(&self, _: &str) -> bool {
        false
    }
}

/// How far an outlier channel is from the others (half as much more or less), and how many channels
/// there are to one.
const OUTLIER: f32 = 6.0;
const OUTLIER_EVERY: u64 = 256;

#[derive(Clone, Copy)]
enum Kind {
    Uniform(f32),
    Norm { outliers: bool },
}

struct RandomRows {
    hash: u64,
    shape: [usize; 2],
    kind: Kind,
}

impl RowSource for RandomRows {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> std::result::Result<(), Report> {
        let cols = self.shape[1].max(1);
        for (row, out) in rows.zip(out.chunks_exact_mut(cols)) {
            let mut state = mix(self.hash ^ row as u64);
            for (column, value) in out.iter_mut().enumerate() {
                state =
                    state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                let unit = (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
                *value = match self.kind {
                    Kind::Uniform(size) => size * unit,
                    Kind::Norm { outliers: true }
                        if mix(column as u64).is_multiple_of(OUTLIER_EVERY) =>
                    {
                        OUTLIER * (1.0 + 0.5 * unit)
                    }
                    Kind::Norm { .. } => 1.0 + 0.2 * unit,
                };
            }
        }
        Ok(())
    }
}

/// SplitMix64's finalizer.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Presets of published shapes.
impl crate::config::Model {
    /// The shape of a published model: `altclip` (and -m9), `altclip-m18`.
    ///
    /// # Errors
    /// [`Error::Family`] for another name.
    pub fn preset(name: &str) -> Result<Self> {
        use crate::config::{
            AltClipText, Bert, Family, Positions, ProjectionBias, Scale, Similarity, Text,
            Transformer, Vision,
        };
        use altclip_tensor::Activation;
        let large = Transformer {
            hidden_size: 1024,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            intermediate_size: 4096,
            layer_norm_eps: 1e-5,
            hidden_act: Activation::QuickGelu,
        };
        let (vision, projection_dim) = match name {
            "altclip" => (large, 768),
            "altclip-m18" => {
                let huge = Transformer {
                    hidden_size: 1280,
                    num_hidden_layers: 32,
                    intermediate_size: 5120,
                    hidden_act: Activation::Gelu,
                    ..large
                };
                (huge, 1024)
            }
            _ => return Err(Error::Family(name.to_owned())),
        };
        let bert = Bert {
            blocks: Transformer { hidden_act: Activation::Gelu, ..large },
            vocab_size: 250_002,
            max_position_embeddings: 514,
            type_vocab_size: 1,
            pad_token_id: 1,
            positions: Positions::AfterPad,
        };
        Ok(Self {
            family: Family::AltClip,
            text: Text::AltClip(AltClipText { bert, project_dim: projection_dim }),
            vision: Some(Vision {
                blocks: vision,
                image_size: 224,
                patch_size: 14,
                num_channels: 3,
                post_layernorm: true,
            }),
            projection_dim,
            projection_bias: ProjectionBias::default(),
            scale: Scale::Exponential,
            similarity: Similarity::Cosine,
            token_learner: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_same_however_they_are_read() {
        let source = RandomWeights::new(1);
        let rows = source.rows("a.weight", &[5, 7]).unwrap();
        let (mut all, mut one) = (vec![0.0; 35], vec![0.0; 7]);
        rows.read_rows(0..5, &mut all).unwrap();
        rows.read_rows(3..4, &mut one).unwrap();
        assert_eq!(one, all[21..28]);
        assert!(all.iter().all(|x| x.abs() <= (3.0f32 / 7.0).sqrt()));
        let mut other = vec![0.0; 35];
        source.rows("b.weight", &[5, 7]).unwrap().read_rows(0..5, &mut other).unwrap();
        assert_ne!(all, other);
    }

    #[test]
    fn norms_have_outliers_only_where_asked() {
        let largest = |source: RandomWeights| {
            let mut row = vec![0.0; 4096];
            source.rows("pre_LN.weight", &[4096]).unwrap().read_rows(0..1, &mut row).unwrap();
            row.into_iter().fold(0.0f32, f32::max)
        };
        assert!(largest(RandomWeights::new(1)) > 5.0);
        assert!(largest(RandomWeights::without_outliers(1)) < 1.3);
    }
}
