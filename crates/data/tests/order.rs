//! Goal D2: whatever the threads, how far ahead they read and where a run is interrupted, the batches are the same and
//! each sample occurs exactly once an epoch.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use altclip_data::{
    Arrival, Batch, Batches, BatchesOptions, Cursor, EpochEnd, Error, Fault, MaxBad, Order, Place,
    Reason, Tally, philox2x64,
};

/// The samples of a dataset whose number decides whether they are bad.
fn load(number: u64, one_in: u64) -> Result<u64, Fault> {
    let place = Place { file: Arc::from("shard"), line: Some(number), byte: None, key: None };
    let bad = one_in > 0 && philox2x64([number, 0], 9)[0].is_multiple_of(one_in);
    if bad { Err(Fault::new(Reason::BadPicture, place, "x")) } else { Ok(number) }
}

/// Threads that take turns, each `ahead` samples before the reader.
fn threads(
    order: Order,
    from: Cursor,
    threads: usize,
    ahead: usize,
    one_in: u64,
) -> impl Iterator<Item = Arrival<u64>> {
    let channels: Vec<Receiver<Arrival<u64>>> = (0..threads)
        .map(|thread| {
            let (send, receive) = sync_channel(ahead);
            let walk = order.walk(from.epoch, from.position).skip(thread).step_by(threads);
            std::thread::spawn(move || {
                for at in walk {
                    if send.send((at, load(at.2, one_in))).is_err() {
                        break;
                    }
                }
            });
            receive
        })
        .collect();
    let mut turn = 0;
    std::iter::from_fn(move || {
        let arrival = channels[turn % channels.len()].recv().ok();
        turn += 1;
        arrival
    })
}

#[derive(Debug)]
struct Case {
    len: u64,
    seed: u64,
    shuffle: bool,
    options: BatchesOptions,
    one_in: u64,
    steps: usize,
}

impl Case {
    fn order(&self) -> Order {
        Order::new(self.len, self.seed, self.shuffle)
    }

    fn tally(&self) -> Tally {
        Tally::new(MaxBad::new(1.0).unwrap(), self.len)
    }

    fn whole(&self) -> (Vec<Batch<u64>>, Tally) {
        let arrivals = self.order().walk(0, 0).map(|at| (at, load(at.2, self.one_in)));
        let mut batches = Batches::new(arrivals, self.len, self.options, self.tally()).unwrap();
        let found = batches.by_ref().take(self.steps).collect::<Result<_, Error>>().unwrap();
        (found, batches.tally().clone())
    }
}

#[test]
fn a_thousand_runs_have_one_order() {
    for case_number in 0..1000u64 {
        let mut draws = (0..).map(|n| philox2x64([case_number, n], 1)[0]);
        let mut below = |n: u64| draws.next().unwrap() % n;
        let batch_size = below(9) as usize + 1;
        let epoch_end = [EpochEnd::Continue, EpochEnd::Drop][below(2) as usize];
        let len = below(60) + 20;
        let options = BatchesOptions { batch_size, epoch_end };
        let case = Case {
            len,
            seed: below(1 << 60),
            shuffle: below(4) > 0,
            options,
            one_in: [0, 3, 20][below(3) as usize],
            steps: below(25) as usize + 5,
        };
        let (whole, whole_tally) = case.whole();
        // Interrupted at random, by kills that lose what was read ahead; state is what was saved with a batch.
        let (mut cursor, mut tally, mut found) = (Cursor::default(), case.tally(), Vec::new());
        while found.len() < case.steps {
            let until_kill = below(10) as usize;
            let (workers, ahead) = ([1, 2, 3, 8][below(4) as usize], below(6) as usize);
            let arrivals = threads(case.order(), cursor, workers, ahead, case.one_in);
            let mut batches = Batches::new(arrivals, len, options, tally.clone()).unwrap();
            for batch in batches.by_ref().take(until_kill.min(case.steps - found.len())) {
                let batch = batch.unwrap();
                cursor = batch.after;
                found.push(batch);
            }
            let saved = serde_json::to_string(batches.tally()).unwrap();
            tally = serde_json::from_str(&saved).unwrap();
        }
        assert_eq!(found, whole, "{case:?}");
        assert_eq!(tally, whole_tally, "{case:?}");
        each_good_sample_once(&case, &whole);
    }
}

/// Of the epochs that are complete in these batches.
fn each_good_sample_once(case: &Case, batches: &[Batch<u64>]) {
    let good: Vec<u64> = (0..case.len).filter(|&n| load(n, case.one_in).is_ok()).collect();
    let numbers: Vec<u64> = batches.iter().flat_map(|batch| batch.numbers.clone()).collect();
    let used = match case.options.epoch_end {
        EpochEnd::Continue => good.len(),
        EpochEnd::Drop => good.len() / case.options.batch_size * case.options.batch_size,
    };
    for epoch in numbers.chunks_exact(used.max(1)) {
        let mut epoch = epoch.to_vec();
        epoch.sort_unstable();
        let before = epoch.len();
        epoch.dedup();
        assert_eq!(epoch.len(), before, "a sample twice in an epoch: {case:?}");
        assert!(epoch.iter().all(|number| good.binary_search(number).is_ok()));
        if case.options.epoch_end == EpochEnd::Continue {
            assert_eq!(epoch, good, "{case:?}");
        }
    }
}

#[test]
fn a_run_of_bad_samples_ends() {
    for epoch_end in [EpochEnd::Continue, EpochEnd::Drop] {
        let arrivals = Order::new(50, 1, true).walk(0, 0).map(|at| (at, load(at.2, 1)));
        let options = BatchesOptions { batch_size: 4, epoch_end };
        let tally = Tally::new(MaxBad::new(1.0).unwrap(), 50);
        let found: Vec<_> = Batches::new(arrivals, 50, options, tally).unwrap().collect();
        assert!(matches!(found[..], [Err(Error::TooManyBad { .. })]), "{found:?}");
    }
    // Good ones, but never enough of one epoch for a batch.
    let one_good = |at: (u64, u64, u64)| (at, if at.2 == 7 { Ok(7) } else { load(at.2, 1) });
    let options = BatchesOptions { batch_size: 4, epoch_end: EpochEnd::Drop };
    let tally = Tally::new(MaxBad::new(1.0).unwrap(), 50);
    let arrivals = Order::new(50, 1, true).walk(0, 0).map(one_good);
    let found: Vec<_> = Batches::new(arrivals, 50, options, tally).unwrap().collect();
    assert!(matches!(found[..], [Err(Error::TooManyBad { .. })]), "{found:?}");
}

#[test]
fn a_batch_that_cannot_be_filled_is_refused() {
    let new = |len, batch_size, epoch_end| {
        let tally = Tally::new(MaxBad::default(), len);
        let none = std::iter::empty::<Arrival<u64>>();
        Batches::new(none, len, BatchesOptions { batch_size, epoch_end }, tally).is_ok()
    };
    let found: BTreeMap<_, _> = [(0, 1), (5, 0), (5, 6), (5, 5)]
        .map(|(len, size)| {
            ((len, size), [EpochEnd::Continue, EpochEnd::Drop].map(|end| new(len, size, end)))
        })
        .into();
    assert_eq!(found[&(0, 1)], [false, false]);
    assert_eq!(found[&(5, 0)], [false, false]);
    assert_eq!(found[&(5, 6)], [true, false]);
    assert_eq!(found[&(5, 5)], [true, true]);
}
