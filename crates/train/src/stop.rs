//! When a run ends before its last step: signals and early stopping.

use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A wish to stop that is looked at between two steps.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    wished: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// A wish that only [`Stop::wish`] makes.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on SIGTERM and SIGINT (and SIGHUP where there is one) are such a wish, in the whole
    /// process. The second signal ends the process at once, with 128 + its number as status: 143,
    /// 130, 129.
    ///
    /// # Errors
    /// What the system says.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::new();
        #[cfg(unix)]
        let signals = [SIGTERM, SIGINT, signal_hook::consts::SIGHUP];
        #[cfg(not(unix))]
        let signals = [SIGTERM, SIGINT];
        for signal in signals {
            use signal_hook::flag;
            // In this order: the first signal must not meet the flag that it sets itself.
            flag::register_conditional_shutdown(signal, 128 + signal, stop.wished.clone())?;
            let number = usize::try_from(signal).unwrap_or_default();
            flag::register_usize(signal, stop.signal.clone(), number)?;
            flag::register(signal, stop.wished.clone())?;
        }
        Ok(stop)
    }

    /// Makes the wish.
    pub fn wish(&self) {
        self.wished.store(true, Ordering::SeqCst);
    }

    /// Whether there is a wish.
    pub fn is_wished(&self) -> bool {
        self.wished.load(Ordering::SeqCst)
    }

    /// The number of the signal that made it.
    pub fn signal(&self) -> Option<i32> {
        let number = self.signal.load(Ordering::SeqCst);
        i32::try_from(number).ok().filter(|number| *number != 0)
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// All steps were done.
    Finished,
    /// The metric did not get better for as many evaluations as the patience says.
    EarlyStopping,
    /// A signal, or [`Stop::wish`].
    Interrupted,
    /// The guard against numbers that are not finite gave up.
    NumericGuard,
    /// Checkpoints could not be saved.
    SavesFailed,
    /// Another error.
    Error,
}

impl StopReason {
    /// As a sentence for people.
    pub fn as_sentence(self) -> &'static str {
        match self {
            Self::Finished => "all steps were done",
            Self::EarlyStopping => "the metric no longer got better",
            Self::Interrupted => "interrupted; the state is saved",
            Self::NumericGuard => "stopped by the numeric guard",
            Self::SavesFailed => "stopped because checkpoints could not be saved",
            Self::Error => "stopped by an error",
        }
    }
}

/// Ends a run whose metric no longer gets better. Its fields are the state: saved with the
/// checkpoint, they make a resumed run stop at the same step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Evaluations without a better value after which the run ends; 0 means never.
    pub patience: u32,
    /// By how much a value must be better to count.
    pub min_delta: f64,
    /// Whether greater is better.
    pub maximize: bool,
    /// The best value so far.
    best: Option<f64>,
    /// Evaluations since then.
    waited: u32,
}

/// What an evaluation means for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The best so far.
    Better,
    /// Not better; the run goes on.
    Waiting,
    /// Not better for too long.
    Stop,
}

impl EarlyStopping {
    /// No evaluation so far.
    pub fn new(patience: u32, min_delta: f64, maximize: bool) -> Self {
        Self { patience, min_delta, maximize, best: None, waited: 0 }
    }

    /// Takes the value of an evaluation; one that is not finite is never better.
    pub fn update(&mut self, value: f64) -> Verdict {
        let gain = |best: f64| if self.maximize { value - best } else { best - value };
        if value.is_finite() && self.best.is_none_or(|best| gain(best) > self.min_delta) {
            (self.best, self.waited) = (Some(value), 0);
            return Verdict::Better;
        }
        self.waited = self.waited.saturating_add(1);
        if self.is_over() { Verdict::Stop } else { Verdict::Waiting }
    }

    /// Whether the patience was at an end at the last evaluation.
    pub fn is_over(&self) -> bool {
        self.patience > 0 && self.waited >= self.patience
    }

    /// The best value so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_a_run_and_survives_a_resume() {
        let values = [0.1, 0.3, 0.3, f64::NAN, 0.31, 0.2, 0.25, 0.1];
        let verdicts = |resume_at: usize| {
            let mut early = EarlyStopping::new(3, 0.005, true);
            let judge = |(i, value): (usize, &f64)| {
                if i == resume_at {
                    let saved = serde_json::to_string(&early).unwrap();
                    early = serde_json::from_str(&saved).unwrap();
                }
                early.update(*value)
            };
            values.iter().enumerate().map(judge).collect::<Vec<_>>()
        };
        use Verdict::{Better, Stop, Waiting};
        let expected = [Better, Better, Waiting, Waiting, Better, Waiting, Waiting, Stop];
        (0..9).for_each(|resume_at| assert_eq!(verdicts(resume_at), expected));

        let mut loss = EarlyStopping::new(0, 0.0, false);
        let found: Vec<_> = [2.0, 1.0, 1.0, 3.0].map(|value| loss.update(value)).to_vec();
        assert_eq!(found, [Better, Better, Waiting, Waiting]);
        assert_eq!(loss.best(), Some(1.0));
    }
}
