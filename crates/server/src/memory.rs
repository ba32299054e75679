//! How much memory the server may need at most, and whether there is so much.

use crate::Error;
use crate::engine::About;
use crate::limits::Limits;
use serde_json::{Value, json};
use std::fs;

const MIB: u64 = 1 << 20;
/// Of a connection: its buffers and its task.
const CONNECTION_BYTES: u64 = 24 << 10;
/// Activations of a batch for each of its tokens, and for each of its pictures: those of the largest
/// published shape.
const TOKEN_BYTES: u64 = 64 << 10;
const PICTURE_BYTES: u64 = 32 << 20;
/// Whatever is not named.
const REST_BYTES: u64 = 64 * MIB;

/// What the memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// Measured: the program with its weights and its index.
    base: u64,
    decode: u64,
    in_flight: u64,
    queue: u64,
    batch: u64,
    connections: u64,
}

impl Bound {
    /// For a process whose weights and index are loaded.
    pub(crate) fn now(limits: &Limits, about: &About) -> Self {
        let (height, width) = about.picture;
        let picture = (3 * height * width * size_of::<f32>()) as u64;
        Self {
            base: resident().unwrap_or(0),
            decode: limits.decode_bytes as u64,
            in_flight: limits.in_flight_bytes as u64,
            queue: 4 * limits.queue_tokens as u64 + picture * limits.queue_pictures as u64,
            batch: TOKEN_BYTES * limits.batch_tokens as u64
                + PICTURE_BYTES * limits.batch_pictures as u64,
            connections: CONNECTION_BYTES * limits.connections as u64,
        }
    }

    pub(crate) fn total(&self) -> u64 {
        let Self { base, decode, in_flight, queue, batch, connections } = self;
        base + decode + in_flight + queue + batch + connections + REST_BYTES
    }

    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        match limit() {
            Some(limit) if self.total() > limit => {
                Err(Error::Memory { bound: self.total(), limit })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn as_json(&self) -> Value {
        json!({
            "model_index_and_program": self.base,
            "decoding": self.decode,
            "in_flight": self.in_flight,
            "queue": self.queue,
            "batch": self.batch,
            "connections": self.connections,
            "rest": REST_BYTES,
        })
    }
}

/// Bytes of this process in memory, where the system says so.
pub(crate) fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    kib(&status, "VmRSS:")
}

/// Bytes that this process may have: those of the machine, or fewer by its control group.
fn limit() -> Option<u64> {
    let machine = kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    let group = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let groups =
        ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"].map(group);
    Some(groups.into_iter().flatten().fold(machine, u64::min))
}

/// A line of the form `Name:  123 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_system() {
        assert_eq!(kib("A:\t1 kB\nVmRSS:\t  20 kB\n", "VmRSS:"), Some(20 << 10));
        assert_eq!(kib("", "VmRSS:"), None);
    }

    #[test]
    fn a_bound_over_everything_is_refused() {
        let limits = Limits { in_flight_bytes: 1 << 50, ..Limits::default() };
        let about = crate::StubEngine::new(8, std::time::Duration::ZERO);
        let bound = Bound::now(&limits, crate::Engine::about(&about));
        let refused = matches!(bound.check(), Err(Error::Memory { .. }));
        assert!(refused || limit().is_none());
    }
}
