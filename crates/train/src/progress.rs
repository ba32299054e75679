//! What a run tells while it goes on, and how fast it goes. Printing is the edge's business.

use crate::metrics::StepRecord;
use crate::state::{Error, disk};
use altclip_durable::{Vfs, VfsFile};
use altclip_report::Report;
use std::collections::VecDeque;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Steps over which the speed is averaged.
const WINDOW: usize = 50;

/// Something that a run tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step was done.
    Step {
        /// What is logged of it.
        record: &'a StepRecord,
        /// How far and how fast the run is.
        progress: Progress,
    },
    /// An evaluation was done; names as in the log.
    Evaluation {
        /// After this step.
        step: u64,
        /// Names and values.
        values: &'a [(String, f64)],
    },
    /// A checkpoint was saved.
    Saved {
        /// Its step.
        step: u64,
        /// Its folder.
        dir: &'a Path,
    },
    /// A warning, or a fault with which the run goes on.
    Notice(&'a Report),
}

/// Is told what happens in a run. Every closure that takes an [`Event`] is one.
pub trait Observer {
    /// Takes an event.
    fn tell(&mut self, event: &Event<'_>);
}

impl<F: FnMut(&Event<'_>)> Observer for F {
    fn tell(&mut self, event: &Event<'_>) {
        self(event);
    }
}

/// How far and how fast a run is; printed as one line.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// The loss of the last step.
    pub loss: f64,
    /// Its learning rate.
    pub lr: f64,
    /// Samples a second over the last steps.
    pub samples_per_second: f64,
    /// The time that the rest takes at this speed.
    pub remaining: Option<Duration>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, steps, loss, lr, samples_per_second: speed, remaining } = self;
        write!(f, "step {step}/{steps}  loss {loss:.4}  lr {lr:.2e}  {speed:.1} samples/s")?;
        match remaining {
            Some(time) => write!(f, "  {} left", for_people(*time)),
            None => Ok(()),
        }
    }
}

/// `45 s`, `12 min`, `3 h 20 min`.
fn for_people(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..=99 => format!("{s} s"),
        s @ 100..=5999 => format!("{} min", s / 60),
        s => format!("{} h {:02} min", s / 3600, s / 60 % 60),
    }
}

/// The speed of the last steps.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    steps: VecDeque<(u64, Duration)>,
}

impl Pace {
    /// Takes a step that used so many samples and so much time.
    pub fn step(&mut self, samples: u64, time: Duration) {
        if self.steps.len() == WINDOW {
            self.steps.pop_front();
        }
        self.steps.push_back((samples, time));
    }

    /// Samples a second; 0 before the first step.
    pub fn samples_per_second(&self) -> f64 {
        let samples: u64 = self.steps.iter().map(|(samples, _)| samples).sum();
        let time: Duration = self.steps.iter().map(|(_, time)| *time).sum();
        if time.is_zero() { 0.0 } else { samples as f64 / time.as_secs_f64() }
    }

    /// How far a run of `steps` steps is after the step of `record`.
    pub fn progress(&self, record: &StepRecord, steps: u64) -> Progress {
        let time: Duration = self.steps.iter().map(|(_, time)| *time).sum();
        let known = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        let each = time.checked_div(known);
        let left = steps.saturating_sub(record.step);
        let seconds = each.map(|each| each.as_secs_f64() * left as f64);
        Progress {
            step: record.step,
            steps,
            loss: record.loss,
            lr: record.lr,
            samples_per_second: self.samples_per_second(),
            remaining: seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        }
    }
}

/// `timings.jsonl`: how long each step took. Beside the other log, because no two runs agree on it;
/// a step that is done again has another line.
pub struct Timings {
    path: PathBuf,
    file: Box<dyn VfsFile>,
}

impl Timings {
    /// Goes on with the log of a run, or begins one.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn open(vfs: &dyn Vfs, path: &Path) -> Result<Self, Error> {
        let mut file = vfs.append(path).map_err(disk("open", path))?;
        // A kill may have cut the last line; an empty line says nothing.
        file.write_all(b"\n").map_err(disk("write", path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Adds a step that used so many samples and so much time.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn step(&mut self, step: u64, samples: u64, time: Duration) -> Result<(), Error> {
        let seconds = time.as_secs_f64();
        let line = format!("{{\"step\":{step},\"samples\":{samples},\"seconds\":{seconds:.6}}}\n");
        self.file.write_all(line.as_bytes()).map_err(disk("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_line() {
        let record = StepRecord { step: 100, loss: 2.34567, lr: 1e-4, ..StepRecord::default() };
        let mut pace = Pace::default();
        assert_eq!(
            pace.progress(&record, 1000).to_string(),
            "step 100/1000  loss 2.3457  lr 1.00e-4  0.0 samples/s"
        );
        // Slow steps long ago no longer count.
        (0..3).for_each(|_| pace.step(64, Duration::from_secs(100)));
        (0..50).for_each(|_| pace.step(64, Duration::from_millis(500)));
        assert_eq!(
            pace.progress(&record, 1000).to_string(),
            "step 100/1000  loss 2.3457  lr 1.00e-4  128.0 samples/s  7 min left"
        );
        assert_eq!(for_people(Duration::from_secs(45)), "45 s");
        assert_eq!(for_people(Duration::from_secs(12_345)), "3 h 25 min");
        let mut told = 0;
        let mut observer = |_: &Event<'_>| told += 1;
        observer.tell(&Event::Step { record: &record, progress: pace.progress(&record, 1000) });
        assert_eq!(told, 1);
    }
}
