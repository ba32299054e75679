//! What a run did: its logs gathered, and `report.html` drawn from them.

mod page;

pub use page::write;

use crate::state::{Error, disk};
use crate::stop::StopReason;
use altclip_durable::Vfs;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

/// Values by step, ascending.
pub type Points = Vec<(u64, f64)>;

/// The numbers of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Every number of `metrics.jsonl` by its name (`loss`, `lr`, `grad_norm`, `eval/…`); those that
    /// are not finite are left out.
    pub metrics: BTreeMap<String, Points>,
    /// Samples a second of each step.
    pub speed: Points,
    /// Samples used, those of steps done again counted once.
    pub samples: u64,
    /// Time of the steps in seconds, those done again counted once.
    pub seconds: f64,
    /// Lines that were no JSON object: at most the last one, which a kill cut.
    pub unreadable_lines: u64,
}

/// What the report says beside the numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// The heading.
    pub title: String,
    /// Why the run ended.
    pub reason: StopReason,
    /// Names and values of the configuration.
    pub configuration: Vec<(String, String)>,
    /// Names and values of the environment: version, processor, threads, instruction set.
    pub environment: Vec<(String, String)>,
}

impl Series {
    /// Gathers `metrics.jsonl` and `timings.jsonl` of a run; a file that is missing holds nothing.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn gather(vfs: &dyn Vfs, out: &Path) -> Result<Self, Error> {
        let mut series = Self::default();
        let bad = each_object(vfs, &out.join("metrics.jsonl"), |step, fields| {
            for (name, value) in fields {
                if let (true, Some(value)) = (name != "step", value.as_f64()) {
                    series.metrics.entry(name).or_default().push((step, value));
                }
            }
        })?;
        // A step that was done again is timed again; the last time counts.
        let mut timings = BTreeMap::new();
        let worse = each_object(vfs, &out.join("timings.jsonl"), |step, fields| {
            let samples = fields.get("samples").and_then(Value::as_u64);
            let seconds = fields.get("seconds").and_then(Value::as_f64);
            timings.extend(samples.zip(seconds).map(|timing| (step, timing)));
        })?;
        series.unreadable_lines = bad + worse;
        for (step, (samples, seconds)) in timings {
            series.samples += samples;
            series.seconds += seconds;
            if seconds > 0.0 {
                series.speed.push((step, samples as f64 / seconds));
            }
        }
        Ok(series)
    }

    /// The names under a prefix, for example `eval/`, with their points.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Points)> {
        let under = move |(name, points): (&'a String, &'a Points)| {
            name.strip_prefix(prefix).map(|rest| (rest, points))
        };
        self.metrics.iter().filter_map(under)
    }
}

/// Hands each line of a log to `take`; gives the number of lines that are no object with a step.
fn each_object(
    vfs: &dyn Vfs,
    path: &Path,
    mut take: impl FnMut(u64, serde_json::Map<String, Value>),
) -> Result<u64, Error> {
    let file = match vfs.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        file => file.map_err(disk("read", path))?,
    };
    let mut bad = 0;
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(disk("read", path))?;
        if line.is_empty() {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(Value::Object(fields)) => match fields.get("step").and_then(Value::as_u64) {
                Some(step) => take(step, fields),
                None => bad += 1,
            },
            _ => bad += 1,
        }
    }
    Ok(bad)
}

/// The exponential moving average that TensorBoard draws: `weight` from 0 (nothing) to below 1, with
/// the bias of the first values taken out.
pub fn smooth(points: &[(u64, f64)], weight: f64) -> Points {
    let (mut mean, mut bias) = (0.0, 1.0);
    let one = |&(step, value): &(u64, f64)| {
        mean = mean * weight + (1.0 - weight) * value;
        bias *= weight;
        (step, mean / (1.0 - bias))
    };
    points.iter().map(one).collect()
}

/// At most about `most` points for a drawing: of each stretch the lowest and the highest, so that no
/// spike is lost.
pub fn thin(points: &[(u64, f64)], most: usize) -> Points {
    if points.len() <= most {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil((most / 2).max(1));
    let ends = |stretch: &[(u64, f64)]| {
        let by_value = |a: &&(u64, f64), b: &&(u64, f64)| a.1.total_cmp(&b.1);
        let low = stretch.iter().min_by(by_value).copied();
        let high = stretch.iter().max_by(by_value).copied();
        let mut ends: Points = low.into_iter().chain(high).collect();
        ends.sort_by_key(|point| point.0);
        ends.dedup();
        ends
    };
    points.chunks(stretch).flat_map(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::StepRecord;
    use crate::progress::Timings;
    use altclip_durable::{SimFs, replace};
    use std::time::Duration;

    #[test]
    fn the_series_of_a_run_are_gathered() {
        let disk = SimFs::new();
        let metrics = |out: &mut dyn io::Write| {
            for step in 1..=4u64 {
                let mut record = StepRecord { step, loss: step as f64, ..StepRecord::default() };
                record.grad_norm = if step == 2 { f64::NAN } else { 1.0 };
                if step == 4 {
                    record.extra.push(("eval/en/image_retrieval_recall@1".into(), 0.5));
                }
                out.write_all(record.line().as_bytes())?;
            }
            out.write_all(b"{\"step\":5,\"lo")
        };
        replace(&disk, "metrics.jsonl".as_ref(), metrics).unwrap();
        for (step, seconds) in [(1, 1), (2, 50), (2, 2)] {
            let mut timings = Timings::open(&disk, "timings.jsonl".as_ref()).unwrap();
            timings.step(step, 64, Duration::from_secs(seconds)).unwrap();
        }
        let series = Series::gather(&disk, "".as_ref()).unwrap();
        assert_eq!(series.metrics["loss"], [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]);
        assert_eq!(series.metrics["grad_norm"].len(), 3);
        let found: Vec<_> = series.under("eval/").collect();
        assert_eq!(found, [("en/image_retrieval_recall@1", &vec![(4, 0.5)])]);
        assert_eq!(series.speed, [(1, 64.0), (2, 32.0)]);
        assert_eq!((series.samples, series.seconds), (128, 3.0));
        assert_eq!(series.unreadable_lines, 1);
        assert_eq!(Series::gather(&SimFs::new(), "".as_ref()).unwrap(), Series::default());
    }

    #[test]
    fn smoothing_keeps_a_constant_and_thinning_keeps_a_spike() {
        let flat: Points = (0..10).map(|step| (step, 3.0)).collect();
        assert!(smooth(&flat, 0.9).iter().all(|(_, value)| (value - 3.0).abs() < 1e-12));
        let found = smooth(&[(1, 0.0), (2, 1.0)], 0.5);
        assert!((found[1].1 - 2.0 / 3.0).abs() < 1e-12);
        let mut long: Points = (0..10_000).map(|step| (step, 0.0)).collect();
        long[7777].1 = 9.0;
        let thinned = thin(&long, 500);
        assert!(thinned.len() <= 500 && thinned.contains(&(7777, 9.0)));
        assert!(thinned.is_sorted_by_key(|point| point.0));
        assert_eq!(thin(&flat, 500), flat);
    }
}
