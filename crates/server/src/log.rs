//! Structured log lines, handed to whoever writes them: this crate prints nothing.
//!
//! A reader of the log that stalls must not hold up who asks: lines wait in a short queue for one thread that
//! writes them, and are dropped and counted where that is full.

use crate::metrics::Counter;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Most lines that wait to be written.
const LINES: usize = 1024;
const LOOK: Duration = Duration::from_millis(2);

/// Where log lines go.
#[derive(Clone, Default)]
pub struct Log(Option<Arc<Lines>>);

struct Lines {
    queue: SyncSender<Value>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Lines that are not written yet.
    waiting: AtomicUsize,
    dropped: Counter,
}

impl Log {
    /// Calls `write` with each line, an object, on a thread of its own. It may take its time: where too many
    /// lines wait for it, more are dropped, and a line says how many.
    pub fn new(write: impl Fn(&Value) + Send + 'static) -> Self {
        let (queue, lines) = sync_channel(LINES);
        let state = Arc::<State>::default();
        let of_writer = Arc::clone(&state);
        // Where there is no thread nobody receives, and every line counts as dropped.
        let _ = std::thread::Builder::new()
            .name("altclip-log".into())
            .spawn(move || of_writer.write(&lines, write));
        Self(Some(Arc::new(Lines { queue, state })))
    }

    /// One event with its fields, and the time.
    pub(crate) fn line(&self, level: &str, event: &str, fields: Value) {
        let Some(Lines { queue, state }) = self.0.as_deref() else { return };
        state.waiting.fetch_add(1, Ordering::AcqRel);
        if queue.try_send(line(level, event, fields)).is_err() {
            state.waiting.fetch_sub(1, Ordering::AcqRel);
            state.dropped.add(1);
        }
    }

    /// Lines that nobody will see.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.as_deref().map_or(0, |lines| lines.state.dropped.get())
    }

    /// Waits until everything is written, and no longer than this.
    pub(crate) fn flush(&self, most: Duration) {
        let Some(lines) = self.0.as_deref() else { return };
        let until = Instant::now() + most;
        while lines.state.waiting.load(Ordering::Acquire) > 0 && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
    }
}

impl State {
    fn write(&self, lines: &Receiver<Value>, write: impl Fn(&Value)) {
        let mut told = 0;
        for next in lines {
            let dropped = self.dropped.get();
            if dropped > told {
                let count = dropped - told;
                let message = format!("{count} lines dropped");
                let fields = json!({ "lines": count, "message": message });
                write(&line("warn", "log_dropped", fields));
                told = dropped;
            }
            write(&next);
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn line(level: &str, event: &str, fields: Value) -> Value {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = json!({ "time": since.as_secs_f64(), "level": level, "event": event });
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
        line.extend(fields);
    }
    line
}
