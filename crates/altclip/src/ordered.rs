//! Work on the items of an iterator by several threads, with the results in the iterator's order.
//!
//! At most a window of items is begun and not handed out, so memory is bounded whatever the length of
//! the iterator and whichever side is slower. Threads sleep while the window is full.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A panic while an item was in work; the item is its only victim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// What the panic said.
    pub message: String,
}

/// The results, in order: one for each item of the source.
///
/// A panic in the source itself becomes the last result. Dropping this stops the threads and waits
/// for them: as long as one item takes, and one `next` of the source.
pub struct Ordered<T> {
    shared: Arc<Shared<T>>,
    /// Takes one item and works on it; `false` once there is none.
    step: Arc<dyn Fn() -> bool + Send + Sync>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Ordered<T> {
    /// Applies `work` to the items of `source` on `threads` threads, with at most `window` items (at
    /// least one) begun and not handed out. With no thread the caller works, when it asks for a result.
    pub fn new<S: Send + 'static>(
        source: impl Iterator<Item = S> + Send + 'static,
        threads: usize,
        window: usize,
        work: impl Fn(S) -> T + Send + Sync + 'static,
    ) -> Self {
        let threads = source.size_hint().1.map_or(threads, |most| threads.min(most));
        let shared = Arc::new(Shared::new(window.max(1)));
        let step = {
            let (shared, source) = (Arc::clone(&shared), Mutex::new(Some(source)));
            Arc::new(move || match shared.begin(&source) {
                None => false,
                Some((place, item)) => {
                    let result = item.and_then(|item| fenced(|| work(item)));
                    shared.put(place, result);
                    true
                }
            })
        };
        let mut ordered = Self { shared, step, threads: Vec::new() };
        for n in 0..threads {
            let step = Arc::clone(&ordered.step);
            let builder = std::thread::Builder::new().name(format!("altclip-input-{n}"));
            match builder.spawn(move || while step() {}) {
                Ok(thread) => ordered.threads.push(thread),
                // The machine gives no more: fewer threads do, or the caller alone.
                Err(_) => break,
            }
        }
        ordered
    }
}

impl<T> Ordered<T> {
    /// Whether the next result is there, so that [`Iterator::next`] would not wait.
    pub fn is_ready(&self) -> bool {
        matches!(self.shared.lock().begun.front(), Some(Some(_)))
    }

    /// Waits until [`Iterator::next`] would not wait, at most for `limit`; `false` if that was not enough.
    /// Without threads nothing is waited for: the work is done by whoever asks.
    pub fn wait_ready(&self, limit: Duration) -> bool {
        let state = self.shared.lock();
        let waits = |state: &mut State<T>| {
            !(self.threads.is_empty()
                || matches!(state.begun.front(), Some(Some(_)))
                || (state.ended && state.begun.is_empty()))
        };
        let waited = self.shared.ready.wait_timeout_while(state, limit, waits);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl<T> Iterator for Ordered<T> {
    type Item = Result<T, Panicked>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut state = self.shared.lock();
            if let Some(result) = state.take_oldest() {
                self.shared.room.notify_one();
                return Some(result);
            }
            if state.ended && state.begun.is_empty() {
                return None;
            }
            if self.threads.is_empty() {
                drop(state);
                (self.step)();
            } else {
                drop(wait(&self.shared.ready, state));
            }
        }
    }
}

impl<T> Drop for Ordered<T> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.room.notify_all();
        for thread in self.threads.drain(..) {
            // Panics are caught where they happen, so a thread ends without one.
            let _ = thread.join();
        }
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
    window: usize,
    /// Signalled when an item was handed out, and at the end.
    room: Condvar,
    /// Signalled when the oldest result is there, and when the source has ended.
    ready: Condvar,
}

struct State<T> {
    /// Items begun and not handed out, the oldest first; `None` while in work.
    begun: VecDeque<Option<Result<T, Panicked>>>,
    /// Number of the oldest of them.
    oldest: u64,
    /// No further item will be begun.
    ended: bool,
    /// Nobody wants results any more.
    closed: bool,
}

impl<T> State<T> {
    fn take_oldest(&mut self) -> Option<Result<T, Panicked>> {
        let result = self.begun.front_mut()?.take()?;
        self.begun.pop_front();
        self.oldest += 1;
        Some(result)
    }
}

impl<T> Shared<T> {
    fn new(window: usize) -> Self {
        let state = State { begun: VecDeque::new(), oldest: 0, ended: false, closed: false };
        Self { state: Mutex::new(state), window, room: Condvar::new(), ready: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }

    /// The next item and its number, once there is room for it. The source stays locked meanwhile, so
    /// that numbers are in its order.
    fn begin<S>(
        &self,
        source: &Mutex<Option<impl Iterator<Item = S>>>,
    ) -> Option<(u64, Result<S, Panicked>)> {
        let mut source = lock(source);
        let items = source.as_mut()?;
        let mut state = self.lock();
        while state.begun.len() >= self.window && !state.closed {
            state = wait(&self.room, state);
        }
        if state.closed {
            return None;
        }
        drop(state);
        let item = fenced(|| items.next()).transpose();
        let last = !matches!(item, Some(Ok(_)));
        let mut state = self.lock();
        let place = state.oldest + state.begun.len() as u64;
        if item.is_some() {
            state.begun.push_back(None);
        }
        if last {
            state.ended = true;
            self.ready.notify_all();
            drop(state);
            *source = None;
        }
        item.map(|item| (place, item))
    }

    fn put(&self, place: u64, result: Result<T, Panicked>) {
        let mut state = self.lock();
        let index = (place - state.oldest) as usize;
        if let Some(slot) = state.begun.get_mut(index) {
            *slot = Some(result);
        }
        if index == 0 {
            self.ready.notify_all();
        }
    }
}

/// What was running when a lock was poisoned is caught elsewhere; each change under a lock is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'g, T>(condition: &Condvar, guard: MutexGuard<'g, T>) -> MutexGuard<'g, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Runs what belongs to one item. It owns or only reads what it uses, so nothing half-changed is seen
/// after a panic.
fn fenced<R>(work: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked { message: said(&*payload) })
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    const THREADS: [usize; 4] = [0, 1, 2, 7];

    #[test]
    fn results_are_in_order() {
        for threads in THREADS {
            for (window, items) in [(0, 5), (1, 20), (3, 1), (4, 0), (5, 1000)] {
                let found: Vec<_> = Ordered::new(0..items, threads, window, |n| n * n)
                    .map(Result::unwrap)
                    .collect();
                assert_eq!(found, (0..items).map(|n| n * n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_later_item_may_be_done_first() {
        // Item 0 ends only after item 1 has.
        let (send, receive) = mpsc::channel();
        let receive = Mutex::new(receive);
        let work = move |n: usize| {
            if n == 0 {
                lock(&receive).recv().unwrap();
            } else {
                send.send(()).unwrap();
            }
            n
        };
        let found: Vec<_> = Ordered::new(0..2, 2, 2, work).map(Result::unwrap).collect();
        assert_eq!(found, [0, 1]);
    }

    #[test]
    fn no_more_than_a_window_is_begun() {
        const WINDOW: usize = 3;
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let source = (0..50).inspect(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let ordered = Ordered::new(source, 4, WINDOW, |n| n);
        for (handed_out, result) in ordered.enumerate() {
            assert_eq!(result, Ok(handed_out));
            // This one was handed out; more may have begun since, but not more than fit.
            assert!(begun.load(Ordering::SeqCst) <= handed_out + 1 + WINDOW);
        }
        assert_eq!(begun.load(Ordering::SeqCst), 50);
    }

    #[test]
    fn a_panic_is_the_result_of_its_item() {
        for threads in THREADS {
            let work = |n: u32| {
                assert!(n % 3 != 1, "item {n}");
                n
            };
            let found: Vec<_> = Ordered::new(0..8, threads, 4, work).collect();
            let bad = |n| Err(Panicked { message: format!("item {n}") });
            assert_eq!(found, [Ok(0), bad(1), Ok(2), Ok(3), bad(4), Ok(5), Ok(6), bad(7)]);
        }
    }

    #[test]
    fn a_panic_of_the_source_is_the_last_result() {
        for threads in THREADS {
            let source = (0..9).inspect(|&n| assert!(n < 2, "source"));
            let found: Vec<_> = Ordered::new(source, threads, 4, |n| n).collect();
            assert_eq!(found, [Ok(0), Ok(1), Err(Panicked { message: "source".into() })]);
        }
    }

    #[test]
    fn dropping_stops_the_threads() {
        for threads in THREADS {
            for taken in [0, 1, 5] {
                // Each thread and the caller hold the closure: once all are gone so is the token.
                let token = Arc::new(());
                let held = Arc::clone(&token);
                let mut endless = Ordered::new(0u64.., threads, 2, move |n| {
                    let _ = &held;
                    n
                });
                let found: Vec<_> = endless.by_ref().take(taken).map(Result::unwrap).collect();
                assert_eq!(found, (0..taken as u64).collect::<Vec<_>>());
                drop(endless);
                assert_eq!(Arc::strong_count(&token), 1);
            }
        }
    }

    #[test]
    fn there_are_no_more_threads_than_items() {
        assert_eq!(Ordered::new(0..2, 8, 4, |n| n).threads.len(), 2);
        assert_eq!(Ordered::new(std::iter::empty::<u8>(), 8, 4, |n| n).count(), 0);
    }
}
