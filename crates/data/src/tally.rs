//! Bad samples counted, per reason and per file, and the bound at which a run stops.
//!
//! The bound holds for every window of [`WINDOW`] samples in a row: a damaged shard stops a run while it is read,
//! however long the run was good before.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Fault, Reason};

/// Samples that are looked at together; all of them in a smaller dataset.
pub const WINDOW: u64 = 10_000;

/// The share of bad samples that is allowed, from 0 to 1; 1 % if nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaxBad(f64);

impl MaxBad {
    /// A share from 0 to 1; nothing else.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    /// The share, from 0 to 1.
    pub fn share(self) -> f64 {
        self.0
    }
}

impl Default for MaxBad {
    fn default() -> Self {
        Self(0.01)
    }
}

/// `1%` or `0.01`.
impl FromStr for MaxBad {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|share| share / 100.0),
            None => text.trim().parse(),
        };
        share.ok().and_then(Self::new).ok_or("a share such as 1% or 0.01, from 0 to 1")
    }
}

/// Which samples were bad. It is part of a run's state: saved with it, a resumed run stops where the whole one would.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    max_bad: MaxBad,
    window: u64,
    seen: u64,
    bad: u64,
    /// The bad ones of the last `window` samples, as the number of samples seen before; at most one more than allowed.
    recent: VecDeque<u64>,
    reasons: BTreeMap<Reason, u64>,
    files: BTreeMap<String, u64>,
    /// Where the first bad samples are.
    #[serde(default)]
    first: Vec<String>,
}

/// Bad samples that are named at the end of a run.
const NAMED: usize = 8;

impl Tally {
    /// Nothing counted yet, for a dataset of `len` samples.
    pub fn new(max_bad: MaxBad, len: u64) -> Self {
        Self {
            max_bad,
            window: WINDOW.min(len),
            seen: 0,
            bad: 0,
            recent: VecDeque::new(),
            reasons: BTreeMap::new(),
            files: BTreeMap::new(),
            first: Vec::new(),
        }
    }

    /// Bad samples that a window may hold.
    pub fn allowed(&self) -> u64 {
        // The share is at most 1, so the product is at most `window`.
        (self.max_bad.0 * self.window as f64) as u64
    }

    /// Counts a good sample.
    pub fn good(&mut self) {
        self.seen += 1;
    }

    /// Counts a bad sample.
    ///
    /// # Errors
    /// [`Error::Fatal`] where the fault is; [`Error::TooManyBad`] over the bound.
    pub fn bad(&mut self, fault: &Fault) -> Result<(), Error> {
        if fault.is_fatal() {
            return Err(Error::Fatal(fault.clone()));
        }
        while self.recent.front().is_some_and(|&first| first + self.window <= self.seen) {
            self.recent.pop_front();
        }
        self.recent.push_back(self.seen);
        self.seen += 1;
        self.bad += 1;
        *self.reasons.entry(fault.reason).or_default() += 1;
        if self.first.len() < NAMED {
            self.first.push(fault.place.to_string());
        }
        *self.files.entry(fault.place.file.to_string()).or_default() += 1;
        if self.recent.len() as u64 > self.allowed() { Err(self.too_many(fault)) } else { Ok(()) }
    }

    /// The error that names the worst file, whether or not the bound was passed.
    pub(crate) fn too_many(&self, last: &Fault) -> Error {
        let worst = self.files.iter().max_by_key(|&(_, count)| *count);
        let (worst, worst_bad) =
            worst.map_or((last.place.file.to_string(), 0), |(file, &n)| (file.clone(), n));
        Error::TooManyBad {
            bad: self.recent.len() as u64,
            allowed: self.allowed(),
            window: self.window.min(self.seen),
            worst,
            worst_bad,
            reasons: Error::table_of(&self.reasons),
            last: last.clone(),
        }
    }

    /// Samples counted.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Bad samples counted.
    pub fn bad_samples(&self) -> u64 {
        self.bad
    }

    /// Bad samples per reason.
    pub fn reasons(&self) -> &BTreeMap<Reason, u64> {
        &self.reasons
    }

    /// Bad samples per file or shard; files without one are not listed.
    pub fn files(&self) -> &BTreeMap<String, u64> {
        &self.files
    }
}

/// `3 of 1000 samples were bad (2 no text, 1 broken line): a.tsv, line 3; …`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} samples were bad", self.bad, self.seen)?;
        if self.bad > 0 {
            write!(f, " ({}): {}", Error::table_of(&self.reasons), self.first.join("; "))?;
            if self.bad > self.first.len() as u64 {
                f.write_str("; …")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Place;

    fn fault(file: &str) -> Fault {
        Fault::new(Reason::NoText, Place::line(&file.into(), 1), "x")
    }

    #[test]
    fn a_share_is_read() {
        assert_eq!("1%".parse(), Ok(MaxBad(0.01)));
        assert_eq!("0.5".parse(), Ok(MaxBad(0.5)));
        for wrong in ["", "-1", "101%", "NaN", "2"] {
            assert!(wrong.parse::<MaxBad>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_window_slides() {
        // 2 of 100 are allowed. Bad ones 50 samples apart are, three within 100 are not.
        let mut tally = Tally::new(MaxBad(0.02), 100);
        for n in 0..1000 {
            if n % 50 == 0 { tally.bad(&fault("a")).unwrap() } else { tally.good() }
        }
        assert_eq!((tally.seen(), tally.bad_samples()), (1000, 20));
        tally.bad(&fault("a")).unwrap();
        let stopped = tally.bad(&fault("b")).unwrap_err();
        assert!(matches!(stopped, Error::TooManyBad { bad: 3, allowed: 2, .. }), "{stopped:?}");
    }

    #[test]
    fn the_worst_file_is_named_and_a_copy_goes_on_alike() {
        let mut tally = Tally::new(MaxBad(0.05), 100);
        for file in ["a", "b", "b"] {
            tally.bad(&fault(file)).unwrap();
        }
        let saved = serde_json::to_string(&tally).unwrap();
        let mut resumed: Tally = serde_json::from_str(&saved).unwrap();
        assert_eq!(resumed, tally);
        for tally in [&mut tally, &mut resumed] {
            tally.bad(&fault("c")).unwrap();
            tally.bad(&fault("c")).unwrap();
            let Error::TooManyBad { worst, worst_bad, reasons, .. } =
                tally.bad(&fault("b")).unwrap_err()
            else {
                panic!()
            };
            assert_eq!((worst.as_str(), worst_bad, reasons.as_str()), ("b", 3, "6 no text"));
        }
    }
}
