//! Batches of prepared samples: read, decoded and tokenised by other threads, a little ahead of the towers.

use crate::{Error, Result};
use altclip::Ordered;
use altclip_data::{
    Arrival, Batch, Batches, BatchesOptions, Cursor, EpochEnd, Fault, Order, Place, Reason, Tally,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Makes a sample of its epoch and number.
pub type Prepare<T> = dyn Fn(u64, u64) -> std::result::Result<T, Fault> + Send + Sync;

/// Compares the files of a dataset with what they were.
pub type Unchanged = dyn Fn() -> std::result::Result<(), altclip_data::Error> + Send + Sync;

/// What there is to train on, before it is put into an order.
pub struct Samples<T> {
    /// Makes a sample.
    pub prepare: Arc<Prepare<T>>,
    /// How many there are in an epoch.
    pub len: u64,
    /// Asked when an epoch begins.
    pub unchanged: Arc<Unchanged>,
}

impl<T> Samples<T> {
    /// `len` samples that come of no file.
    pub fn made(len: u64, prepare: Arc<Prepare<T>>) -> Self {
        Self { prepare, len, unchanged: Arc::new(|| Ok(())) }
    }
}

/// How long one sample may take. A disk that wakes up or a share that is mounted again is faster.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

type Arrivals<T> = Box<dyn Iterator<Item = Arrival<T>>>;

/// The samples of a run, batch after batch, without end.
pub struct Feed<T> {
    prepare: Arc<Prepare<T>>,
    longest_wait: Duration,
    order: Order,
    batch_size: usize,
    threads: usize,
    batches: Batches<Arrivals<T>>,
    cursor: Cursor,
}

impl<T: Send + 'static> Feed<T> {
    /// Batches in this order from `cursor` on; `tally` is new, or that of the run that goes on.
    ///
    /// # Errors
    /// No batch can ever be filled.
    pub fn new(
        prepare: Arc<Prepare<T>>,
        order: Order,
        batch_size: usize,
        threads: usize,
        (cursor, tally): (Cursor, Tally),
    ) -> Result<Self> {
        Self::waiting(prepare, order, (batch_size, threads), (cursor, tally), LONGEST_WAIT)
    }

    fn waiting(
        prepare: Arc<Prepare<T>>,
        order: Order,
        (batch_size, threads): (usize, usize),
        (cursor, tally): (Cursor, Tally),
        longest_wait: Duration,
    ) -> Result<Self> {
        let arrivals = arrivals(&prepare, order, (batch_size, threads), cursor, longest_wait);
        let batches = in_batches(arrivals, order, batch_size, tally)?;
        Ok(Self { prepare, longest_wait, order, batch_size, threads, batches, cursor })
    }

    /// The next batch.
    ///
    /// # Errors
    /// More samples are bad than allowed, or the data cannot be read any more.
    pub fn next_batch(&mut self) -> Result<Batch<T>> {
        match self.batches.next() {
            Some(batch) => {
                let batch = batch?;
                self.cursor = batch.after;
                Ok(batch)
            }
            None => Err(Error::NoMoreData),
        }
    }

    /// Goes on `count` batches further, without looking at what is passed over.
    ///
    /// # Errors
    /// As [`Feed::new`].
    pub fn skip(&mut self, count: u64) -> Result<()> {
        let samples = count.saturating_mul(self.batch_size as u64);
        self.go_to(advanced(self.cursor, samples, self.order.len()), self.tally().clone())
    }

    /// Goes on at another place.
    ///
    /// # Errors
    /// As [`Feed::new`].
    pub fn go_to(&mut self, cursor: Cursor, tally: Tally) -> Result<()> {
        let sizes = (self.batch_size, self.threads);
        let arrivals = arrivals(&self.prepare, self.order, sizes, cursor, self.longest_wait);
        self.batches = in_batches(arrivals, self.order, self.batch_size, tally)?;
        self.cursor = cursor;
        Ok(())
    }

    /// The next sample to be read.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Good and bad samples so far.
    pub fn tally(&self) -> &Tally {
        self.batches.tally()
    }
}

fn advanced(cursor: Cursor, samples: u64, len: u64) -> Cursor {
    let len = len.max(1);
    let position = cursor.position.saturating_add(samples);
    Cursor { epoch: cursor.epoch + position / len, position: position % len }
}

fn in_batches<T>(
    arrivals: Arrivals<T>,
    order: Order,
    batch_size: usize,
    tally: Tally,
) -> Result<Batches<Arrivals<T>>> {
    let options = BatchesOptions { batch_size, epoch_end: EpochEnd::Continue };
    Ok(Batches::new(arrivals, order.len(), options, tally)?)
}

/// Samples in order from `cursor` on, made by other threads. A thread that panics tries its sample once more; one
/// that panics again or does not end ends the run.
fn arrivals<T: Send + 'static>(
    prepare: &Arc<Prepare<T>>,
    order: Order,
    (batch_size, threads): (usize, usize),
    cursor: Cursor,
    longest_wait: Duration,
) -> Arrivals<T> {
    let window = (2 * batch_size).clamp(4, 512);
    let work = {
        let prepare = Arc::clone(prepare);
        move |(epoch, _, number): (u64, u64, u64)| {
            // A sample is made of what is only read, so a second try sees nothing half-done.
            catch_unwind(AssertUnwindSafe(|| prepare(epoch, number)))
                .unwrap_or_else(|_| prepare(epoch, number))
        }
    };
    let threads = if threads < 2 { 0 } else { threads };
    let mut places = order.walk(cursor.epoch, cursor.position);
    let results = Ordered::new(order.walk(cursor.epoch, cursor.position), threads, window, work);
    let mut results = Some(results);
    Box::new(std::iter::from_fn(move || {
        let at = places.next()?;
        if !results.as_ref()?.wait_ready(longest_wait) {
            // Its threads never end, so nobody may wait for them.
            std::mem::forget(results.take());
            let waited = format!("nothing for {} seconds", longest_wait.as_secs());
            return Some((at, Err(failed(Reason::WorkerHangs, at.2, waited))));
        }
        let result = results
            .as_mut()?
            .next()?
            .unwrap_or_else(|panic| Err(failed(Reason::WorkerPanicked, at.2, panic.message)));
        Some((at, result))
    }))
}

fn failed(reason: Reason, number: u64, detail: String) -> Fault {
    let place =
        Place { file: "dataset".into(), line: None, byte: None, key: Some(number.to_string()) };
    Fault::new(reason, place, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use altclip_data::MaxBad;

    fn feed(threads: usize, cursor: Cursor) -> Feed<u64> {
        let prepare: Arc<Prepare<u64>> = Arc::new(|epoch, number| Ok(1000 * epoch + number));
        let tally = Tally::new(MaxBad::default(), 10);
        Feed::new(prepare, Order::new(10, 3, true), 4, threads, (cursor, tally)).unwrap()
    }

    #[test]
    fn batches_do_not_depend_on_threads_or_interruptions() {
        let all = |threads| {
            let mut feed = feed(threads, Cursor::default());
            (0..7).map(|_| feed.next_batch().unwrap().samples).collect::<Vec<_>>()
        };
        let expected = all(1);
        assert_eq!(all(3), expected);
        let mut first = feed(2, Cursor::default());
        for batch in &expected[..3] {
            assert_eq!(&first.next_batch().unwrap().samples, batch);
        }
        let mut second = feed(2, first.cursor());
        for batch in &expected[3..] {
            assert_eq!(&second.next_batch().unwrap().samples, batch);
        }
    }

    fn fatal<T: Send + 'static>(prepare: Arc<Prepare<T>>, threads: usize) -> altclip_data::Error {
        let from = (Cursor::default(), Tally::new(MaxBad::default(), 10));
        let wait = Duration::from_millis(200);
        let feed = Feed::waiting(prepare, Order::new(10, 3, true), (4, threads), from, wait);
        let mut feed = feed.unwrap();
        loop {
            match feed.next_batch() {
                Ok(_) => {}
                Err(Error::Data(error)) => return error,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_panic_is_tried_again_and_a_second_one_ends_the_run() {
        let panics = |times: u32| -> Arc<Prepare<u64>> {
            let left = std::sync::atomic::AtomicU32::new(times);
            Arc::new(move |_, number| {
                use std::sync::atomic::Ordering::SeqCst;
                let panics = |left: u32| left.checked_sub(1);
                if number == 7 && left.fetch_update(SeqCst, SeqCst, panics).is_ok() {
                    panic!("injected");
                }
                Ok(number)
            })
        };
        for threads in [1, 2] {
            let error = fatal(panics(2), threads);
            assert_eq!(error.code(), altclip_report::Code::E6006);
            assert!(error.to_string().contains("injected"), "{error}");
            let from = (Cursor::default(), Tally::new(MaxBad::default(), 10));
            let mut once = Feed::new(panics(1), Order::new(10, 3, true), 5, threads, from).unwrap();
            let numbers: Vec<u64> =
                (0..2).flat_map(|_| once.next_batch().unwrap().samples).collect();
            assert_eq!(numbers.len(), 10);
            assert_eq!(once.tally().bad_samples(), 0);
        }
    }

    #[test]
    fn a_worker_that_hangs_ends_the_run() {
        let hangs: Arc<Prepare<u64>> = Arc::new(|_, number| {
            if number == 7 {
                loop {
                    std::thread::park();
                }
            }
            Ok(number)
        });
        assert_eq!(fatal(hangs, 2).code(), altclip_report::Code::E6006);
    }

    #[test]
    fn skipping_goes_as_far_as_reading() {
        let (mut read, mut skipped) = (feed(1, Cursor::default()), feed(1, Cursor::default()));
        for _ in 0..6 {
            read.next_batch().unwrap();
        }
        skipped.skip(6).unwrap();
        assert_eq!(skipped.next_batch().unwrap().samples, read.next_batch().unwrap().samples);
    }
}
