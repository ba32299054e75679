//! Whether the server is alive, and whether it would answer: by what the engine really did.

use crate::queue::Queue;
use altclip_report::{Code, Report};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A forward older than this says nothing about now.
const FRESH: Duration = Duration::from_secs(10);
/// Longest silence of a worker that has work, and least time after which a batch counts as stuck.
const STUCK: Duration = Duration::from_millis(1500);
/// A batch is stuck after so many times that of a full one.
const STUCK_BATCHES: u32 = 8;
/// The same where it is not known how long a batch takes.
const STUCK_UNKNOWN: Duration = Duration::from_secs(60);
/// So many panics within this time end the server.
const PANICS: usize = 5;
const PANICS_WITHIN: Duration = Duration::from_secs(60);

/// What is known of the engine's thread.
#[derive(Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Default)]
struct State {
    succeeded: Option<Instant>,
    failed: Option<Instant>,
    begun: Option<Instant>,
    panics: VecDeque<Instant>,
    ended: bool,
    lost: bool,
    draining: bool,
}

/// What a look at the engine says.
#[derive(Debug)]
pub(crate) enum Verdict {
    Ready,
    /// Nothing speaks against it, but only a forward can tell.
    Unknown,
    NotReady(Report),
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begun(&self) {
        self.lock().begun = Some(Instant::now());
    }

    pub(crate) fn idle(&self) {
        self.lock().begun = None;
    }

    pub(crate) fn succeeded(&self) {
        self.lock().succeeded = Some(Instant::now());
    }

    pub(crate) fn failed(&self) {
        self.lock().failed = Some(Instant::now());
    }

    /// A batch ended in a panic. Too many of them are no accident.
    pub(crate) fn panicked(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        state.begun = None;
        state.panics.retain(|panic| now - *panic < PANICS_WITHIN);
        state.panics.push_back(now);
        state.lost |= state.panics.len() >= PANICS;
    }

    pub(crate) fn ended(&self) {
        self.lock().ended = true;
    }

    pub(crate) fn drain(&self) {
        self.lock().draining = true;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.lock().draining
    }

    /// Whether it failed too often to go on.
    pub(crate) fn is_lost(&self) -> bool {
        self.lock().lost
    }

    /// Whether the engine's thread is there.
    pub(crate) fn is_alive(&self) -> bool {
        let state = self.lock();
        !state.lost && (state.draining || !state.ended)
    }

    pub(crate) fn verdict(&self, queue: &Queue) -> Verdict {
        let now = Instant::now();
        let slowest = queue.slowest_batch();
        let unasked = queue.unasked_since();
        let state = self.lock();
        let not_ready = |code, what: &str| {
            let report = Report::new(code, "server", what.to_owned());
            Verdict::NotReady(report.help("ask another replica, or again in a moment"))
        };
        if state.draining {
            return not_ready(Code::E8103, "the server is stopping");
        }
        if state.lost || state.ended {
            return not_ready(Code::E8201, "the worker failed too often");
        }
        let limit = slowest.map_or(STUCK_UNKNOWN, |time| STUCK.max(time * STUCK_BATCHES));
        match state.begun {
            Some(begun) if now - begun > limit => {
                return not_ready(Code::E8202, "a batch does not come to its end");
            }
            None if unasked.is_some_and(|since| now.saturating_duration_since(since) > STUCK) => {
                return not_ready(Code::E8202, "work waits and nobody takes it");
            }
            _ => {}
        }
        match (state.succeeded, state.failed) {
            (Some(good), Some(bad)) if bad > good => Verdict::Unknown,
            (Some(good), _) if now - good < FRESH => Verdict::Ready,
            _ => Verdict::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn five_panics_are_no_accident() {
        let health = Health::default();
        (1..PANICS).for_each(|_| health.panicked());
        assert!(health.is_alive() && !health.is_lost());
        health.panicked();
        assert!(!health.is_alive() && health.is_lost());
    }

    #[test]
    fn only_a_forward_makes_ready() {
        let (health, queue) = (Health::default(), Queue::new(&Limits::default()));
        assert!(matches!(health.verdict(&queue), Verdict::Unknown));
        health.succeeded();
        assert!(matches!(health.verdict(&queue), Verdict::Ready));
        health.failed();
        assert!(matches!(health.verdict(&queue), Verdict::Unknown));
        health.drain();
        assert!(matches!(health.verdict(&queue), Verdict::NotReady(_)));
    }
}
