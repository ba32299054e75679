//! Batches of a fixed size from samples that arrive in order; a bad one is replaced by the next.
//!
//! What a batch holds is a function of the order and of the data alone: neither threads nor how far ahead they read
//! nor where a run was interrupted change it. So the state of a run's data is a [`Cursor`] and a [`Tally`].

use serde::{Deserialize, Serialize};

use crate::{Error, Fault, Tally};

/// What happens to the samples at the end of an epoch that do not fill a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochEnd {
    /// The batch is filled from the next epoch, so each sample is used exactly once an epoch.
    Continue,
    /// They are left out; a batch never holds samples of two epochs.
    Drop,
}

/// The next sample to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Position in the order of the epoch, from 0; at most the number of samples.
    pub position: u64,
}

/// How batches are made.
#[derive(Clone, Copy, Debug)]
pub struct BatchesOptions {
    /// Samples a batch.
    pub batch_size: usize,
    /// What happens at the end of an epoch.
    pub epoch_end: EpochEnd,
}

/// One sample as it arrives: `(epoch, position, number)` of [`crate::Order::walk`], and what was read.
pub type Arrival<T> = ((u64, u64, u64), Result<T, Fault>);

/// A batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch<T> {
    /// The samples, in order.
    pub samples: Vec<T>,
    /// Their numbers in the dataset.
    pub numbers: Vec<u64>,
    /// Where reading goes on.
    pub after: Cursor,
}

/// The batches of samples that arrive in order, without end while samples arrive.
///
/// # Example
/// ```
/// use altclip_data::{Batches, BatchesOptions, EpochEnd, MaxBad, Order, Tally};
/// let order = Order::new(5, 1, false);
/// let arrivals = order.walk(0, 0).map(|at| (at, Ok(at.2)));
/// let options = BatchesOptions { batch_size: 2, epoch_end: EpochEnd::Continue };
/// let batches = Batches::new(arrivals, 5, options, Tally::new(MaxBad::default(), 5))?;
/// let numbers: Vec<_> = batches.take(3).map(|batch| batch.unwrap().numbers).collect();
/// assert_eq!(numbers, [[0, 1], [2, 3], [4, 0]]);
/// # Ok::<(), altclip_data::Error>(())
/// ```
pub struct Batches<I> {
    arrivals: I,
    len: u64,
    options: BatchesOptions,
    tally: Tally,
    stopped: bool,
}

impl<I> Batches<I> {
    /// Batches of the samples of a dataset of `len`; `tally` is new, or the one of the run that goes on.
    ///
    /// # Errors
    /// [`Error::List`] if no batch can ever be filled.
    pub fn new(
        arrivals: I,
        len: u64,
        options: BatchesOptions,
        tally: Tally,
    ) -> Result<Self, Error> {
        let size = options.batch_size as u64;
        let drops = options.epoch_end == EpochEnd::Drop;
        if len == 0 || size == 0 || (drops && size > len) {
            return Err(Error::List {
                path: "dataset".into(),
                what: format!("a batch of {size} cannot be filled from {len} samples"),
                help: "use a smaller batch, more data, or batches that go on in the next epoch",
            });
        }
        Ok(Self { arrivals, len, options, tally, stopped: false })
    }

    /// Good and bad samples so far, up to the batch that was handed out last.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The next batch; `None` once no sample arrives, an unfilled batch is left out then.
    fn batch<T>(&mut self) -> Result<Option<Batch<T>>, Error>
    where
        I: Iterator<Item = Arrival<T>>,
    {
        let mut samples = Vec::new();
        let mut numbers = Vec::new();
        let (mut first_epoch, mut epochs_dropped, mut bad_in_a_row, mut last_fault) =
            (None, 0, 0, None);
        for ((epoch, position, number), result) in self.arrivals.by_ref() {
            if self.options.epoch_end == EpochEnd::Drop && first_epoch.is_some_and(|e| e != epoch) {
                samples.clear();
                numbers.clear();
                epochs_dropped += 1;
            }
            first_epoch = Some(epoch);
            match result {
                Ok(sample) => {
                    self.tally.good();
                    bad_in_a_row = 0;
                    samples.push(sample);
                    numbers.push(number);
                }
                Err(fault) => {
                    self.tally.bad(&fault)?;
                    bad_in_a_row += 1;
                    last_fault = Some(fault);
                }
            }
            if samples.len() == self.options.batch_size {
                let after = Cursor { epoch, position: position + 1 };
                return Ok(Some(Batch { samples, numbers, after }));
            }
            // With all faults allowed, this must still end.
            if let Some(fault) = &last_fault
                && (bad_in_a_row >= self.len || epochs_dropped > 1)
            {
                return Err(self.tally.too_many(fault));
            }
        }
        Ok(None)
    }
}

impl<T, I: Iterator<Item = Arrival<T>>> Iterator for Batches<I> {
    type Item = Result<Batch<T>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stopped {
            return None;
        }
        let batch = self.batch().transpose();
        self.stopped = !matches!(batch, Some(Ok(_)));
        batch
    }
}
