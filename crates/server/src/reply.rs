//! The answers of one request: collected one by one, handed over when the last is there.

use crate::row::Row;
use altclip_report::Report;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

/// What became of an item.
#[derive(Clone, Debug)]
pub(crate) enum Outcome<T> {
    Done(T),
    /// It failed, and why.
    Failed(Report),
    /// Its time was over before it was begun.
    Late,
}

/// Where a worker puts answers.
pub(crate) struct Reply {
    /// The rows are not to be normalised.
    pub(crate) raw: bool,
    wanted: AtomicBool,
    slots: Mutex<Slots>,
}

struct Slots {
    answers: Vec<Option<Outcome<Row>>>,
    left: usize,
    sender: Option<oneshot::Sender<Vec<Outcome<Row>>>>,
}

impl Reply {
    pub(crate) fn new(items: usize, raw: bool, sender: oneshot::Sender<Vec<Outcome<Row>>>) -> Self {
        let slots = Slots { answers: vec![None; items], left: items, sender: Some(sender) };
        Self { raw, wanted: AtomicBool::new(true), slots: Mutex::new(slots) }
    }

    /// Whether somebody waits for it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Nobody waits any more; whether something was still missing.
    pub(crate) fn abandon(&self) -> bool {
        self.wanted.store(false, Ordering::Release);
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).left > 0
    }

    pub(crate) fn put(&self, place: usize, outcome: Outcome<Row>) {
        self.put_if_missing(place, || outcome);
    }

    /// The first answer stays.
    pub(crate) fn put_if_missing(&self, place: usize, outcome: impl FnOnce() -> Outcome<Row>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.answers.get_mut(place) {
            Some(slot @ None) => *slot = Some(outcome()),
            _ => return,
        }
        slots.left -= 1;
        if slots.left == 0
            && let Some(sender) = slots.sender.take()
        {
            // Who has gone needs no answer.
            let _ = sender.send(std::mem::take(&mut slots.answers).into_iter().flatten().collect());
        }
    }
}
