//! Structured log lines, handed to whoever writes them: this crate prints nothing.

use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

type Write = dyn Fn(&Value) + Send + Sync;

/// Where log lines go.
#[derive(Clone)]
pub struct Log(Arc<Write>);

impl Default for Log {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl Log {
    /// Calls `write` with each line, an object.
    pub fn new(write: impl Fn(&Value) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// One event with its fields, and the time.
    pub(crate) fn line(&self, level: &str, event: &str, fields: Value) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = json!({ "time": since.as_secs_f64(), "level": level, "event": event });
        if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
            line.extend(fields);
        }
        (self.0)(&line);
    }
}
