//! What happens to a step whose numbers are not finite: skip it, go back, or stop.
//!
//! Before every update the loop looks for an infinity or a NaN ([`first_non_finite`]) and asks the
//! guard ([`Guard::judge`]). Weights and moments never take up such numbers. The policy:
//!
//! 1. A bad batch is skipped: no update.
//! 2. More than 5 within 1,000 batches: the run goes back to the newest checkpoint, and the data go
//!    on 200 batches further. Only weights, moments and the number of updates go back: the batches
//!    from the checkpoint to the bad one are left out with the 200, as in the training of PaLM.
//! 3. After 3 such returns, the next stops the run (E6004).
//!
//! The guard counts batches as they are read, in one number that never goes back. All its state is
//! in the struct, which is saved with each checkpoint. On going back within a run it is kept, not
//! taken from the checkpoint, or it would count to three for ever; after a kill the run goes on from a
//! checkpoint's state, reads the same batches and decides the same again.
//!
//! # Source
//! Chowdhery et al., "PaLM", arXiv 2204.02311, section 5.1.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::optimizer::Norms;

/// Bad batches that may be skipped within [`WINDOW`].
pub const MAX_SKIPS: usize = 5;
/// Batches over which skips are counted.
pub const WINDOW: u64 = 1000;
/// Batches that are left out after going back.
pub const LEFT_OUT: u64 = 200;
/// How often a run may go back.
pub const MAX_ROLLBACKS: u32 = 3;

/// What is not finite in a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    /// The loss.
    Loss,
    /// The logit scale.
    LogitScale,
    /// The gradient of the tensor of this name.
    Gradient(String),
    /// The tensor of this name itself.
    Weight(String),
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NonFinite::Loss => f.write_str("the loss"),
            NonFinite::LogitScale => f.write_str("logit_scale"),
            NonFinite::Gradient(name) => write!(f, "the gradient of {name}"),
            NonFinite::Weight(name) => write!(f, "the weights {name}"),
        }
    }
}

/// What the loop is to do with a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Update the weights.
    Update,
    /// Leave the weights as they are and take the next batch.
    Skip,
    /// Take weights, moments and the number of updates from the newest checkpoint, and go on
    /// reading after the batches `skip`.
    RollBack {
        /// The batches to leave out, from the next on.
        skip: Range<u64>,
    },
    /// End with [`crate::Error::NotFinite`].
    Stop,
}

/// The state of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Bad batches within the window, oldest first.
    recent: VecDeque<u64>,
    /// Bad batches of the whole run.
    bad: u64,
    /// How often the run went back.
    rollbacks: u32,
}

impl Guard {
    /// Says what to do with the step of `batch`, a count of batches read that rises from call to
    /// call. `bad` is what [`first_non_finite`] found.
    pub fn judge(&mut self, batch: u64, bad: Option<&NonFinite>) -> Verdict {
        while self.recent.front().is_some_and(|&oldest| batch.saturating_sub(oldest) >= WINDOW) {
            self.recent.pop_front();
        }
        if bad.is_none() {
            return Verdict::Update;
        }
        self.bad += 1;
        self.recent.push_back(batch);
        if self.recent.len() <= MAX_SKIPS {
            return Verdict::Skip;
        }
        if self.rollbacks == MAX_ROLLBACKS {
            return Verdict::Stop;
        }
        self.rollbacks += 1;
        self.recent.clear();
        let next = batch.saturating_add(1);
        Verdict::RollBack { skip: next..next.saturating_add(LEFT_OUT) }
    }

    /// Bad batches of the whole run.
    pub fn bad(&self) -> u64 {
        self.bad
    }

    /// How often the run went back to a checkpoint.
    pub fn rollbacks(&self) -> u32 {
        self.rollbacks
    }
}

/// The first of loss, logit scale and gradients that holds an infinity or a NaN. `names` are those
/// of the gradients in `norms`, in their order. To be asked before the update.
pub fn first_non_finite(
    loss: f32,
    logit_scale: Option<f32>,
    norms: &Norms,
    names: &[&str],
) -> Option<NonFinite> {
    if !loss.is_finite() {
        return Some(NonFinite::Loss);
    }
    if logit_scale.is_some_and(|scale| !scale.is_finite()) {
        return Some(NonFinite::LogitScale);
    }
    let name = |index: usize| names.get(index).copied().unwrap_or_default().to_owned();
    norms.non_finite().map(|index| NonFinite::Gradient(name(index)))
}

impl Verdict {
    /// How `bad_batches.jsonl` calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Update => "update",
            Verdict::Skip => "skip",
            Verdict::RollBack { .. } => "roll_back",
            Verdict::Stop => "stop",
        }
    }
}

#[cfg(test)]
mod tests {
    use altclip_kernels::Pool;
    use proptest::prelude::*;

    use super::*;
    use crate::optimizer::Gradient;

    /// A run over the batches `0..n`, of which `bad` says which are bad: each batch and its verdict.
    fn run(guard: &mut Guard, from: u64, n: u64, bad: impl Fn(u64) -> bool) -> Vec<(u64, Verdict)> {
        let mut verdicts = Vec::new();
        let mut batch = from;
        while batch < n {
            let verdict = guard.judge(batch, bad(batch).then_some(&NonFinite::Loss));
            verdicts.push((batch, verdict.clone()));
            batch = match verdict {
                Verdict::RollBack { skip } => skip.end,
                Verdict::Stop => break,
                _ => batch + 1,
            };
        }
        verdicts
    }

    #[test]
    fn five_in_a_thousand_are_skipped_for_ever() {
        let mut guard = Guard::default();
        let verdicts = run(&mut guard, 0, 20_000, |batch| batch % 200 == 7);
        assert!(verdicts.iter().all(|(_, v)| matches!(v, Verdict::Update | Verdict::Skip)));
        assert_eq!((guard.bad(), guard.rollbacks()), (100, 0));
    }

    #[test]
    fn a_stretch_of_bad_batches_is_jumped_over() {
        let mut guard = Guard::default();
        let verdicts = run(&mut guard, 0, 3000, |batch| (100..250).contains(&batch));
        assert_eq!(verdicts[105], (105, Verdict::RollBack { skip: 106..306 }));
        assert!(verdicts[106..].iter().all(|(_, verdict)| *verdict == Verdict::Update));
        assert_eq!(guard.rollbacks(), 1);
    }

    #[test]
    fn the_fourth_time_is_the_last() {
        let mut guard = Guard::default();
        let verdicts = run(&mut guard, 0, 100_000, |_| true);
        let backs = verdicts.iter().filter(|(_, v)| matches!(v, Verdict::RollBack { .. }));
        assert_eq!(backs.count(), 3);
        assert_eq!(verdicts.last(), Some(&(3 * 206 + 5, Verdict::Stop)));
    }

    #[test]
    fn loss_scale_and_each_gradient_are_seen() {
        let pool = Pool::new(1);
        let look = |loss, scale, second: f32| {
            let (a, b) = ([1.0; 20], [0.5, second]);
            let norms = Norms::of(&pool, &[Gradient::Dense(&a), Gradient::Dense(&b)]);
            first_non_finite(loss, Some(scale), &norms, &["a", "b"])
        };
        assert_eq!(look(1.0, 2.0, 3.0), None);
        assert_eq!(look(f32::NAN, 2.0, 3.0), Some(NonFinite::Loss));
        assert_eq!(look(1.0, f32::INFINITY, 3.0), Some(NonFinite::LogitScale));
        assert_eq!(look(1.0, 2.0, f32::NAN), Some(NonFinite::Gradient("b".into())));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn no_bad_batch_is_an_update_and_no_good_one_is_anything_else(
            bad in proptest::collection::btree_set(0..4000_u64, 0..60),
        ) {
            let mut guard = Guard::default();
            for (batch, verdict) in run(&mut guard, 0, 4000, |batch| bad.contains(&batch)) {
                prop_assert_eq!(bad.contains(&batch), verdict != Verdict::Update);
            }
            prop_assert!(guard.rollbacks() <= MAX_ROLLBACKS);
        }

        #[test]
        fn the_saved_state_decides_the_same(
            bad in proptest::collection::btree_set(0..600_u64, 0..60),
            cut in 0..200_u64,
        ) {
            let is_bad = |batch| bad.contains(&batch);
            let mut guard = Guard::default();
            let whole = run(&mut guard, 0, 1000, is_bad);
            let mut before = Guard::default();
            let first = run(&mut before, 0, cut, is_bad);
            let text = serde_json::to_string(&before).unwrap();
            let mut after: Guard = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&after, &before);
            let next = first.last().map_or(0, |(batch, verdict)| match verdict {
                Verdict::RollBack { skip } => skip.end,
                _ => batch + 1,
            });
            let stopped = matches!(first.last(), Some((_, Verdict::Stop)));
            let rest = if stopped { Vec::new() } else { run(&mut after, next, 1000, is_bad) };
            prop_assert_eq!([first, rest].concat(), whole);
            prop_assert_eq!(after, guard);
        }
    }
}
