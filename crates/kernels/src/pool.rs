//! A small thread pool: run `n` tasks, come back when all are done.
//!
//! Kernels cut their output into tasks that write disjoint places, and threads take tasks from one
//! counter, so a slow thread holds nobody up and the result never depends on who did what. The
//! caller works too: a pool of `n` threads starts `n - 1`.
//!
//! Between jobs a worker looks for the next one for a few microseconds (a model runs hundreds of
//! short jobs in a row), then sleeps.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Rounds of the short search for work before a thread sleeps; a round is some 10–50 ns.
const SPIN_ROUNDS: usize = 2_000;

thread_local! {
    /// Whether this thread is inside a task, where a further job runs in place.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// A thread pool for data-parallel loops.
///
/// It may be shared by any number of calling threads: their jobs run one after the other.
/// Dropping it joins its threads.
pub struct Pool {
    shared: Arc<Shared>,
    /// Held by the caller whose job is running.
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when a job is posted and at the end.
    posted: Condvar,
    /// Signalled when the last worker has left a job.
    left: Condvar,
    /// Counts jobs, for the search without the lock.
    epoch: AtomicU64,
    /// Workers inside the current job; changed under the lock, read without.
    inside: AtomicUsize,
    closing: AtomicBool,
}

struct State {
    job: Option<JobPointer>,
}

/// One call of [`Pool::run`]; lives on the caller's stack.
struct Job<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    n_tasks: usize,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy)]
struct JobPointer(*const Job<'static>);

// SAFETY: the pointer is followed only by a worker counted in `Shared::inside`, and `Pool::run`
// does not return before that count is zero and the pointer is withdrawn; a `Job` is `Sync`.
unsafe impl Send for JobPointer {}

impl Pool {
    /// A pool that runs on `threads` threads, the caller's among them; 0 counts as 1.
    ///
    /// Where the system refuses a thread the pool has fewer; see [`Pool::threads`].
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { job: None }),
            posted: Condvar::new(),
            left: Condvar::new(),
            epoch: AtomicU64::new(0),
            inside: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        });
        let mut workers = Vec::new();
        for index in 1..threads {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("altclip-kernels-{index}"));
            match builder.spawn(move || work(&shared)) {
                Ok(worker) => workers.push(worker),
                Err(_) => break,
            }
        }
        Pool { shared, turn: Mutex::new(()), workers }
    }

    /// Threads that work on a job, the caller's among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(0)` … `task(n_tasks - 1)`, each once, on any thread in any order, and comes back
    /// when all have ended.
    ///
    /// Inside a task it runs the inner tasks in place, one after the other. If another thread's
    /// job is running it waits for its turn.
    ///
    /// # Panics
    /// A panic in a task goes on in the caller, after the tasks that had begun have ended; tasks
    /// that had not begun are dropped.
    pub fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || n_tasks <= 1 || IN_TASK.get() {
            (0..n_tasks).for_each(task);
            return;
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let job = Job { task, n_tasks, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        self.shared.post(&job);
        job.work();
        self.shared.withdraw();
        drop(turn);
        let panic = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let _state = self.shared.lock();
            self.shared.closing.store(true, Ordering::Release);
        }
        self.shared.posted.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of tasks, so it ends without one.
            let _ = worker.join();
        }
    }
}

impl Job<'_> {
    /// Takes tasks until none is left.
    fn work(&self) {
        let outer = IN_TASK.replace(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= self.n_tasks {
                    break;
                }
                (self.task)(index);
            }
        }));
        IN_TASK.set(outer);
        if let Err(panic) = result {
            // Nobody begins a further task. (Later `fetch_add`s cannot wrap: one a thread.)
            self.next.store(self.n_tasks, Ordering::Relaxed);
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(panic);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets workers see the job. [`Shared::withdraw`] must follow before the job is dropped.
    fn post(&self, job: &Job<'_>) {
        let pointer = std::ptr::from_ref(job).cast::<Job<'static>>();
        {
            // The count changes under the lock: a worker about to sleep cannot miss it.
            let mut state = self.lock();
            state.job = Some(JobPointer(pointer));
            self.epoch.fetch_add(1, Ordering::Release);
        }
        self.posted.notify_all();
    }

    /// Takes the job away and waits for the workers inside it.
    fn withdraw(&self) {
        self.lock().job = None;
        for _ in 0..SPIN_ROUNDS {
            if self.inside.load(Ordering::Acquire) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        while self.inside.load(Ordering::Acquire) != 0 {
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The life of a worker.
fn work(shared: &Shared) {
    let mut seen = 0;
    loop {
        for _ in 0..SPIN_ROUNDS {
            if shared.epoch.load(Ordering::Acquire) != seen {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = shared.lock();
        let job = loop {
            if shared.closing.load(Ordering::Acquire) {
                return;
            }
            let epoch = shared.epoch.load(Ordering::Acquire);
            if let (true, Some(job)) = (epoch != seen, state.job) {
                seen = epoch;
                break job;
            }
            state = shared.posted.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        shared.inside.fetch_add(1, Ordering::AcqRel);
        drop(state);
        // SAFETY: the job was posted under the lock and this worker was counted as inside under
        // the same lock, so `withdraw` waits for it and the job lives.
        unsafe { &*job.0 }.work();
        let _state = shared.lock();
        if shared.inside.fetch_sub(1, Ordering::AcqRel) == 1 {
            shared.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [0, 1, 2, 3, 8] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for n_tasks in [0, 1, 2, 7, 100, 1000] {
                let counts: Vec<_> = (0..n_tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(n_tasks, &|task| {
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn work_is_shared_between_threads() {
        // Each of the two tasks waits for the other: one thread alone would never end.
        let pool = Pool::new(2);
        let barrier = std::sync::Barrier::new(2);
        for _ in 0..50 {
            pool.run(2, &|_| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn a_job_inside_a_task_runs_in_place() {
        let pool = Pool::new(3);
        let other = Pool::new(3);
        let count = AtomicUsize::new(0);
        pool.run(10, &|_| {
            for inner in [&pool, &other] {
                inner.run(10, &|_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(count.into_inner(), 200);
    }

    #[test]
    fn many_callers_share_a_pool() {
        let pool = Pool::new(3);
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(20, &|_| {
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 8_000);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3);
        for bad in [0, 5, 49] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(50, &|task| assert!(task != bad, "task {bad}"));
            }));
            let message = caught.expect_err("the panic was swallowed");
            assert_eq!(message.downcast_ref::<String>(), Some(&format!("task {bad}")));
        }
        let count = AtomicUsize::new(0);
        pool.run(50, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 50);
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(2);
        let barrier = std::sync::Barrier::new(2);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            pool.run(2, &|_| {
                barrier.wait();
            });
        }
    }
}
