//! What a model tells while it is loaded or used.

use altclip_report::Report;
use std::fmt;
use std::sync::Arc;

/// Something worth showing.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A long step goes on.
    Progress {
        /// Its name: `packing` (numbers) or `writing` (bytes).
        stage: &'static str,
        /// How much is done.
        done: u64,
        /// How much there is.
        total: u64,
    },
    /// A warning that comes after the model was loaded, or from its cache.
    Notice(&'a Report),
}

type Show = dyn Fn(&Event<'_>) + Send + Sync;

/// Is told of every [`Event`].
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Show>>);

impl Observer {
    /// Calls `show` from whichever thread is at work.
    pub fn new(show: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(show)))
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        if let Some(show) = &self.0 {
            show(event);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer(set)" } else { "Observer(none)" })
    }
}
