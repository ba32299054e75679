//! Bytes that may be in memory at once: of bodies and answers, and of pictures that are being decoded.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Bytes that are shared by all requests.
#[derive(Clone)]
pub(crate) struct Allowance(Arc<Shared>);

struct Shared {
    bytes: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

impl Allowance {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Shared { bytes, free: Mutex::new(bytes), freed: Condvar::new() }))
    }

    /// Nothing yet, to be grown.
    pub(crate) fn none(&self) -> Held {
        Held { allowance: self.clone(), bytes: 0 }
    }

    /// Waits until so many bytes are free; more than there are count as all of them.
    pub(crate) fn wait(&self, bytes: usize) -> Held {
        let bytes = bytes.min(self.0.bytes);
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free < bytes {
            free = self.0.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= bytes;
        Held { allowance: self.clone(), bytes }
    }

    pub(crate) fn held(&self) -> usize {
        self.0.bytes - *self.0.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There are not so many bytes: not now, or not at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short {
    /// All bytes of who asked, with those that it has.
    pub(crate) needed: usize,
    /// What it could have now.
    pub(crate) free: usize,
    /// What anybody could ever have.
    pub(crate) limit: usize,
}

/// Bytes of an allowance, until they are dropped.
pub(crate) struct Held {
    allowance: Allowance,
    bytes: usize,
}

impl Held {
    /// More bytes, if they are free now.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Short> {
        let mut free = self.allowance.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        if *free < bytes {
            let needed = self.bytes.saturating_add(bytes);
            return Err(Short { needed, free: *free + self.bytes, limit: self.allowance.0.bytes });
        }
        *free -= bytes;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let shared = &self.allowance.0;
        *shared.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        shared.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_there_is() {
        let allowance = Allowance::new(10);
        let mut held = allowance.none();
        held.grow(6).unwrap();
        let short = held.grow(5).unwrap_err();
        assert_eq!((short.needed, short.free, short.limit), (11, 10, 10));
        held.grow(4).unwrap();
        let other = std::thread::spawn({
            let allowance = allowance.clone();
            move || drop(allowance.wait(1000))
        });
        drop(held);
        other.join().unwrap();
        assert_eq!(allowance.held(), 0);
    }
}
