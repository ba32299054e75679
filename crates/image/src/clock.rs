//! How long a picture may take: processor time of the thread that decodes it, so that a busy machine refuses no more
//! than an idle one. Decoders look between rows; one row is never long.

use std::time::Duration;

use crate::error::Error;
use crate::sniff::Format;

/// Since when a picture is being decoded, and how long it may be.
pub(crate) struct Clock {
    limit: Option<Duration>,
    begun: Duration,
}

impl Clock {
    pub(crate) fn start(limit: Option<Duration>) -> Self {
        Self { limit, begun: limit.map_or(Duration::ZERO, |_| used()) }
    }

    /// Whether there is time left.
    pub(crate) fn check(&self, format: Format, (width, height): (u32, u32)) -> Result<(), Error> {
        let Some(limit) = self.limit else { return Ok(()) };
        let found = used().saturating_sub(self.begun);
        if found < limit {
            return Ok(());
        }
        Err(Error::OverLimit {
            format,
            what: "ms of processor time",
            size: (u64::from(width), u64::from(height)),
            found: found.as_millis() as u64,
            limit: limit.as_millis() as u64,
        })
    }
}

/// Processor time of this thread.
#[cfg(unix)]
fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Where a thread's time is not known, that of the clock on the wall.
#[cfg(not(unix))]
fn used() -> Duration {
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGUN.get_or_init(std::time::Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_limit_is_ever_over() {
        let size = (3, 2);
        let later = |limit| {
            let clock = Clock::start(limit);
            // Some work that cannot be left out.
            let mut sum = 0u64;
            while sum < 100_000 {
                sum = std::hint::black_box(sum + 1);
            }
            clock.check(Format::Png, size)
        };
        assert!(later(None).is_ok() && later(Some(Duration::from_secs(3600))).is_ok());
        let error = later(Some(Duration::ZERO)).unwrap_err();
        assert!(matches!(error, Error::OverLimit { size: (3, 2), limit: 0, .. }), "{error}");
    }
}
