//! How long batches take, learned from those that ran.

use std::time::Duration;

/// Weight of the newest batch.
const NEWEST: f64 = 0.2;
/// From this share on a batch counts as full.
const FULL: f64 = 0.5;

/// The time of a full batch, smoothed; that of any batch until a full one ran.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BatchTimes {
    full: Option<f64>,
    any: Option<f64>,
}

impl BatchTimes {
    /// A batch that was full to this share took so long.
    pub(crate) fn add(&mut self, share: f64, time: Duration) {
        let smooth = |before: Option<f64>, now: f64| match before {
            Some(before) => before + NEWEST * (now - before),
            None => now,
        };
        let seconds = time.as_secs_f64();
        self.any = Some(smooth(self.any, seconds));
        if share >= FULL {
            self.full = Some(smooth(self.full, seconds));
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.any.is_some()
    }

    /// Zero while nothing is known: then nothing is refused because of time.
    pub(crate) fn of_full(&self) -> Duration {
        Duration::from_secs_f64(self.full.or(self.any).unwrap_or(0.0).clamp(0.0, 3600.0))
    }
}
