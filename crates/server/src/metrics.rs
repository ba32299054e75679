//! Counters, gauges and histograms in the text form of Prometheus.

use crate::queue::Kind;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the buckets of times, in seconds.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// The same of batches, in items.
const ITEMS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0];

/// Counts up.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// To a number that is counted elsewhere.
    pub(crate) fn raise_to(&self, number: u64) {
        self.0.fetch_max(number, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How values are spread.
pub(crate) struct Histogram {
    ends: &'static [f64],
    state: Mutex<(Vec<u64>, u64, f64)>,
}

impl Histogram {
    fn new(ends: &'static [f64]) -> Self {
        Self { ends, state: Mutex::new((vec![0; ends.len()], 0, 0.0)) }
    }

    pub(crate) fn observe(&self, value: f64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (buckets, count, sum) = &mut *state;
        let places = self.ends.iter().zip(buckets).filter(|(end, _)| value <= **end);
        places.for_each(|(_, bucket)| *bucket += 1);
        *count += 1;
        *sum += value;
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (buckets, count, sum) = &*state;
        let comma = if labels.is_empty() { "" } else { "," };
        for (end, bucket) in self.ends.iter().zip(buckets) {
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{end}\"}} {bucket}");
        }
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(out, "{name}_sum{braces} {sum}\n{name}_count{braces} {count}");
    }
}

/// A number that is looked up when it is asked for.
pub(crate) struct Gauge {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// Values with their labels.
    pub(crate) values: Vec<(String, f64)>,
}

/// What the server counts.
pub(crate) struct Metrics {
    /// By route, modality and status.
    requests: Mutex<BTreeMap<(&'static str, &'static str, u16), u64>>,
    pub(crate) request_seconds: Histogram,
    pub(crate) queue_seconds: Histogram,
    pub(crate) preprocess_seconds: Histogram,
    inference_seconds: [Histogram; 2],
    batch_size: [Histogram; 2],
    pub(crate) panics: Counter,
    pub(crate) refused_connections: Counter,
    pub(crate) closed_slow: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) log_dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new(&SECONDS);
        let items = || Histogram::new(&ITEMS);
        Self {
            requests: Mutex::default(),
            request_seconds: seconds(),
            queue_seconds: seconds(),
            preprocess_seconds: seconds(),
            inference_seconds: [seconds(), seconds()],
            batch_size: [items(), items()],
            panics: Counter::default(),
            refused_connections: Counter::default(),
            closed_slow: Counter::default(),
            cancelled: Counter::default(),
            log_dropped: Counter::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn request(&self, route: &'static str, modality: &'static str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, modality, status)).or_default() += 1;
    }

    pub(crate) fn batch(&self, kind: Kind, items: usize, time: Duration) {
        self.batch_size[kind as usize].observe(items as f64);
        self.inference_seconds[kind as usize].observe(time.as_secs_f64());
    }

    /// Everything in the text form, with gauges that are known outside.
    pub(crate) fn text(&self, gauges: &[Gauge]) -> String {
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let name = "altclip_requests_total";
        head(&mut out, name, "counter", "Requests that were answered.");
        for ((route, modality, code), count) in
            &*self.requests.lock().unwrap_or_else(PoisonError::into_inner)
        {
            let labels = format!("route=\"{route}\",modality=\"{modality}\",code=\"{code}\"");
            let _ = writeln!(out, "{name}{{{labels}}} {count}");
        }
        for (name, help, counter) in [
            ("altclip_worker_panics_total", "Panics that were one item's fault.", &self.panics),
            (
                "altclip_connections_refused_total",
                "Connections beyond the limit.",
                &self.refused_connections,
            ),
            (
                "altclip_connections_slow_total",
                "Connections closed because nothing moved.",
                &self.closed_slow,
            ),
            (
                "altclip_requests_abandoned_total",
                "Requests whose client went away first.",
                &self.cancelled,
            ),
            (
                "altclip_log_lines_dropped_total",
                "Lines of the log that nobody read in time.",
                &self.log_dropped,
            ),
        ] {
            head(&mut out, name, "counter", help);
            let _ = writeln!(out, "{name} {}", counter.get());
        }
        for (name, help, histogram) in [
            (
                "altclip_request_duration_seconds",
                "From the head of a request to its answer.",
                &self.request_seconds,
            ),
            (
                "altclip_queue_duration_seconds",
                "How long an item waited for the engine.",
                &self.queue_seconds,
            ),
            (
                "altclip_preprocess_duration_seconds",
                "Tokenizing or decoding for one request.",
                &self.preprocess_seconds,
            ),
        ] {
            head(&mut out, name, "histogram", help);
            histogram.write(&mut out, name, "");
        }
        for (name, help, histograms) in [
            (
                "altclip_inference_duration_seconds",
                "The engine's time for a batch.",
                &self.inference_seconds,
            ),
            ("altclip_batch_size", "Items of a batch.", &self.batch_size),
        ] {
            head(&mut out, name, "histogram", help);
            for kind in Kind::ALL {
                let labels = format!("modality=\"{}\"", kind.name());
                histograms[kind as usize].write(&mut out, name, &labels);
            }
        }
        for gauge in gauges {
            head(&mut out, gauge.name, "gauge", gauge.help);
            for (labels, value) in &gauge.values {
                let braces =
                    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
                let _ = writeln!(out, "{}{braces} {value}", gauge.name);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form() {
        let metrics = Metrics::default();
        metrics.request("/embed", "text", 200);
        metrics.batch(Kind::Picture, 3, Duration::from_millis(7));
        let values = vec![(String::new(), 4.0)];
        let text = metrics.text(&[Gauge { name: "altclip_index_vectors", help: "Rows.", values }]);
        for line in [
            "altclip_requests_total{route=\"/embed\",modality=\"text\",code=\"200\"} 1",
            "altclip_batch_size_bucket{modality=\"image\",le=\"2\"} 0",
            "altclip_batch_size_bucket{modality=\"image\",le=\"4\"} 1",
            "altclip_inference_duration_seconds_count{modality=\"image\"} 1",
            "altclip_index_vectors 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let mut distinct = types.clone();
        distinct.dedup();
        assert_eq!(types, distinct);
    }
}
