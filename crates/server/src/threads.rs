//! Threads for work that would hold up the sockets: tokenizing, decoding, looking into an index.
//!
//! Work whose asker has gone is not begun. A panic is the answer of its own work.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce() + Send>;

/// A few threads and a bounded line of work.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    bound: usize,
}

struct Shared {
    state: Mutex<State>,
    posted: Condvar,
}

#[derive(Default)]
struct State {
    line: VecDeque<Work>,
    closed: bool,
}

/// The line is as long as it may be.
#[derive(Debug)]
pub(crate) struct Busy;

impl Threads {
    /// # Errors
    /// The system gives no thread at all.
    pub(crate) fn new(name: &str, threads: usize, bound: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), posted: Condvar::new() });
        for n in 0..threads.max(1) {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("altclip-{name}-{n}"));
            match builder.spawn(move || shared.work()) {
                Ok(_) => {}
                // Fewer threads do.
                Err(_) if n > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Self { shared, bound })
    }

    /// Does the work on some thread.
    ///
    /// # Errors
    /// [`Busy`]. What is awaited fails where the work panicked.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Busy> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.line.len() >= self.bound {
            return Err(Busy);
        }
        state.line.push_back(Box::new(move || {
            if !sender.is_closed() {
                let _ = sender.send(work());
            }
        }));
        drop(state);
        self.shared.posted.notify_one();
        Ok(receiver)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.posted.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        loop {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let work = loop {
                match state.line.pop_front() {
                    Some(work) => break work,
                    None if state.closed => return,
                    None => state = self.posted.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(state);
            // The sender was dropped by the panic, which says it all.
            let _ = catch_unwind(AssertUnwindSafe(work));
        }
    }
}
