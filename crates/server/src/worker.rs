//! The thread that runs the engine: takes a batch, computes it, answers; whatever fails is one item's fault.
//!
//! A batch that fails is halved until the item that it fails over stands alone. A panic is caught there and
//! is that item's answer; the others have theirs. If even the loop itself fails, it is begun again.

use crate::engine::Engine;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::queue::{Batch, Item, Job, Kind, Queue};
use crate::reply::Outcome;
use crate::row::Row;
use altclip_report::{Code, Report};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// What a worker works with.
pub(crate) struct Worker {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Worker {
    /// Starts the thread. It ends once the queue is closed and empty.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn spawn(self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("altclip-engine".into()).spawn(move || {
            // The jobs of a batch that is lost with the loop answer for themselves.
            while catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
                self.health.panicked();
            }
            self.health.ended();
        })
    }

    fn work(&self) {
        while let Some(batch) = self.queue.next() {
            self.health.begun();
            self.run(&batch);
            self.health.idle();
        }
    }

    fn run(&self, batch: &Batch) {
        let Batch { kind, cost, jobs } = batch;
        let begun = Instant::now();
        for job in jobs {
            self.metrics.queue_seconds.observe(job.waited.as_secs_f64());
        }
        let mut panicked = false;
        let rows = self.compute(*kind, jobs, &mut panicked);
        let time = begun.elapsed();
        self.queue.took(*kind, *cost, time);
        self.metrics.batch(*kind, jobs.len(), time);
        if panicked {
            self.metrics.panics.add(1);
            self.health.panicked();
        }
        let faulty = |outcome: &Outcome<Row>| matches!(outcome, Outcome::Failed(_));
        match rows.iter().all(faulty) {
            true => self.health.failed(),
            false => self.health.succeeded(),
        }
        jobs.iter().zip(rows).for_each(|(job, row)| job.answer(row));
    }

    /// One outcome for each job.
    fn compute(&self, kind: Kind, jobs: &[Job], panicked: &mut bool) -> Vec<Outcome<Row>> {
        let attempt = catch_unwind(AssertUnwindSafe(|| encode(&*self.engine, kind, jobs)));
        let report = match attempt {
            Ok(Ok(rows)) => return rows,
            Ok(Err(report)) => report,
            Err(_) => {
                *panicked = true;
                failed_over_it()
            }
        };
        match jobs.split_at(jobs.len() / 2) {
            ([], [_]) => vec![Outcome::Failed(report)],
            (first, second) if !first.is_empty() => {
                let mut rows = self.compute(kind, first, panicked);
                rows.extend(self.compute(kind, second, panicked));
                rows
            }
            _ => Vec::new(),
        }
    }
}

pub(crate) fn failed_over_it() -> Report {
    Report::new(Code::E8201, "server", "the worker failed over this item")
        .got("a panic")
        .expected("a row")
        .help("please report it with the x-request-id of this answer; other items are not affected")
}

/// The rows of a batch, each checked. The batch fails whole, or where a single row is not finite.
fn encode(engine: &dyn Engine, kind: Kind, jobs: &[Job]) -> Result<Vec<Outcome<Row>>, Report> {
    let width = engine.about().width;
    let raw = match kind {
        Kind::Text => {
            let ids = jobs.iter().filter_map(|job| match &job.item {
                Item::Ids(ids) => Some(ids.as_slice()),
                Item::Pixels(_) => None,
            });
            engine.encode_ids(&ids.collect::<Vec<_>>())?
        }
        Kind::Picture => {
            let pixels = jobs.iter().filter_map(|job| match &job.item {
                Item::Pixels(pixels) => Some(pixels.as_slice()),
                Item::Ids(_) => None,
            });
            engine.encode_pixels(&pixels.collect::<Vec<_>>().concat(), jobs.len())?
        }
    };
    let some_raw = jobs.iter().any(Job::wants_raw);
    let kept = if some_raw { raw.clone() } else { Vec::new() };
    let normalized = match jobs.iter().all(Job::wants_raw) {
        true => Vec::new(),
        false => engine.normalize(raw)?,
    };
    let row = |(place, job): (usize, &Job)| {
        let rows = if job.wants_raw() { &kept } else { &normalized };
        let numbers = rows.get(place * width..(place + 1) * width);
        let numbers = numbers.ok_or_else(|| {
            Report::new(Code::E9001, "server", "the engine gave fewer rows than it was asked for")
                .help("please report this")
        });
        match numbers.and_then(|numbers| Row::new(numbers.to_vec())) {
            Ok(row) => Outcome::Done(row),
            Err(report) => Outcome::Failed(report),
        }
    };
    let rows: Vec<Outcome<Row>> = jobs.iter().enumerate().map(row).collect();
    Ok(rows)
}
