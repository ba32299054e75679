//! Batches of prepared samples: read, decoded and tokenised by other threads, a little ahead of the towers.

use crate::{Error, Result};
use altclip::Ordered;
use altclip_data::{
    Arrival, Batch, Batches, BatchesOptions, Cursor, EpochEnd, Fault, Order, Place, Reason, Tally,
};
use std::sync::Arc;

/// Makes a sample of its epoch and number.
pub type Prepare<T> = dyn Fn(u64, u64) -> std::result::Result<T, Fault> + Send + Sync;

type Arrivals<T> = Box<dyn Iterator<Item = Arrival<T>>>;

/// The samples of a run, batch after batch, without end.
pub struct Feed<T> {
    prepare: Arc<Prepare<T>>,
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
        let batches = batches(&prepare, order, batch_size, threads, cursor, tally)?;
        Ok(Self { prepare, order, batch_size, threads, batches, cursor })
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
        self.batches =
            batches(&self.prepare, self.order, self.batch_size, self.threads, cursor, tally)?;
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

fn batches<T: Send + 'static>(
    prepare: &Arc<Prepare<T>>,
    order: Order,
    batch_size: usize,
    threads: usize,
    cursor: Cursor,
    tally: Tally,
) -> Result<Batches<Arrivals<T>>> {
    let options = BatchesOptions { batch_size, epoch_end: EpochEnd::Continue };
    let window = (2 * batch_size).clamp(4, 512);
    let work = {
        let prepare = Arc::clone(prepare);
        move |(epoch, _, number): (u64, u64, u64)| prepare(epoch, number)
    };
    let places = order.walk(cursor.epoch, cursor.position);
    let threads = if threads < 2 { 0 } else { threads };
    let results = Ordered::new(order.walk(cursor.epoch, cursor.position), threads, window, work);
    let arrivals = places.zip(results).map(|(at, result)| {
        let panicked = |panic: altclip::Panicked| {
            let file: Arc<str> = "dataset".into();
            let place = Place { file, line: None, byte: None, key: Some(at.2.to_string()) };
            Fault::new(Reason::BadPicture, place, panic.message)
        };
        (at, result.map_err(panicked).and_then(|sample| sample))
    });
    let arrivals: Arrivals<T> = Box::new(arrivals);
    Ok(Batches::new(arrivals, order.len(), options, tally)?)
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
