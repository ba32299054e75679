//! The learning rate of each step: linear warm-up, then constant, cosine or linear to 0.
//!
//! The formulas are those of transformers' `get_{constant,cosine,linear}_schedule_with_warmup`. A
//! loop in PyTorch calls `scheduler.step()` after `optimizer.step()`, so its first update has the
//! factor of 0 and the update of step `s` (counted from 1) that of `s - 1`; so it is here. With a
//! warm-up the first update has therefore a rate of 0.
//!
//! open_clip counts the warm-up from 1 (`lr · (s + 1) / warmup` for its step s from 0), so its first
//! rate is not 0, and is the same afterwards. FlagAI's `AnnealingLR` takes the warm-up as a share of
//! all steps and decays to a tenth of the rate, not to 0.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::elementary::cos_turns;

/// What the rate does after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// It stays.
    Constant,
    /// Half a cosine, down to 0 at the end.
    Cosine,
    /// A straight line, down to 0 at the end.
    Linear,
}

impl FromStr for Shape {
    type Err = ();

    fn from_str(name: &str) -> Result<Shape, ()> {
        match name {
            "constant" => Ok(Shape::Constant),
            "cosine" => Ok(Shape::Cosine),
            "linear" => Ok(Shape::Linear),
            _ => Err(()),
        }
    }
}

/// A learning-rate schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// What follows the warm-up.
    pub shape: Shape,
    /// The highest rate.
    pub lr: f64,
    /// Updates over which the rate rises from 0.
    pub warmup_steps: u64,
    /// Updates of the whole run, the warm-up among them.
    pub total_steps: u64,
}

impl Schedule {
    /// The learning rate of the update `step`, counted from 1.
    pub fn lr(&self, step: u64) -> f64 {
        self.lr * self.factor(step.saturating_sub(1))
    }

    /// transformers' `lr_lambda(done)`, with `done` updates behind.
    fn factor(&self, done: u64) -> f64 {
        if done < self.warmup_steps {
            return done as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        match self.shape {
            Shape::Constant => 1.0,
            Shape::Linear => self.total_steps.saturating_sub(done) as f64 / span,
            Shape::Cosine => {
                // Past the end the rate stays at 0; transformers' cosine would rise again.
                let progress = ((done - self.warmup_steps) as f64 / span).min(1.0);
                0.5 * (1.0 + cos_turns(0.5 * progress))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(shape: Shape) -> Schedule {
        Schedule { shape, lr: 2.0, warmup_steps: 4, total_steps: 12 }
    }

    #[test]
    fn all_rise_alike_and_meet_the_highest_rate() {
        for shape in [Shape::Constant, Shape::Cosine, Shape::Linear] {
            let rates: Vec<f64> = (1..=5).map(|step| schedule(shape).lr(step)).collect();
            assert_eq!(rates, [0.0, 0.5, 1.0, 1.5, 2.0], "{shape:?}");
        }
    }

    #[test]
    fn and_go_their_ways() {
        assert_eq!(schedule(Shape::Constant).lr(1000), 2.0);
        assert_eq!(schedule(Shape::Linear).lr(9), 1.0);
        assert!((schedule(Shape::Cosine).lr(9) - 1.0).abs() < 1e-15);
        for shape in [Shape::Cosine, Shape::Linear] {
            assert!(schedule(shape).lr(12) > 0.0);
            assert_eq!(schedule(shape).lr(13), 0.0);
            assert_eq!(schedule(shape).lr(14), 0.0);
        }
        let none = Schedule { warmup_steps: 0, ..schedule(Shape::Linear) };
        assert_eq!(none.lr(1), 2.0);
    }
}
