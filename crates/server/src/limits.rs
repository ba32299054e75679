//! Every limit of the server, with its default, in one place.

use crate::model::DECODE_TIME;
use serde_json::{Value, json};
use std::time::Duration;

const MIB: usize = 1 << 20;

/// What a request, a connection and the whole server may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Longest body of a request in bytes.
    pub body_bytes: usize,
    /// Longest text in bytes.
    pub text_bytes: usize,
    /// Most texts of a request.
    pub texts: usize,
    /// Most pictures of a request.
    pub pictures: usize,
    /// Most results of a search.
    pub results: usize,
    /// Most connections; what is beyond them is closed at once.
    pub connections: usize,
    /// For the head of a request.
    pub head_time: Duration,
    /// For a body or an answer, beyond what [`Limits::least_rate`] gives it.
    pub body_time: Duration,
    /// Slowest body or reader, in bytes a second.
    pub least_rate: u64,
    /// For a connection on which nothing is asked.
    pub idle_time: Duration,
    /// For a request, from its head to its answer.
    pub request_time: Duration,
    /// For requests that were accepted when the server is told to stop.
    pub drain_time: Duration,
    /// How long a server that stops says so to whoever asks, even if it has nothing else to do.
    pub drain_grace: Duration,
    /// Tokens of a batch.
    pub batch_tokens: usize,
    /// Pictures of a batch.
    pub batch_pictures: usize,
    /// Most tokens that wait or are on their way to wait.
    pub queue_tokens: usize,
    /// Most pictures likewise.
    pub queue_pictures: usize,
    /// Requests are refused where they would wait longer than this for the encoder.
    pub admission: Duration,
    /// Bytes of bodies and answers in memory.
    pub in_flight_bytes: usize,
    /// Bytes of pictures that are being decoded.
    pub decode_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 32 * MIB,
            text_bytes: 64 << 10,
            texts: 2048,
            pictures: 64,
            results: 1000,
            connections: 4096,
            head_time: Duration::from_secs(5),
            body_time: Duration::from_secs(10),
            least_rate: 4 << 10,
            idle_time: Duration::from_secs(60),
            request_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(30),
            drain_grace: Duration::from_secs(1),
            batch_tokens: 2048,
            batch_pictures: 4,
            queue_tokens: 2 * 2048 * 77,
            queue_pictures: 128,
            admission: Duration::from_millis(500),
            in_flight_bytes: 256 * MIB,
            decode_bytes: 512 * MIB,
        }
    }
}

impl Limits {
    /// The limits as `/v1/limits` and the log show them.
    pub fn as_json(&self) -> Value {
        json!({
            "body_bytes": self.body_bytes,
            "text_bytes": self.text_bytes,
            "texts_per_request": self.texts,
            "pictures_per_request": self.pictures,
            "results": self.results,
            "connections": self.connections,
            "head_seconds": self.head_time.as_secs_f64(),
            "body_seconds": self.body_time.as_secs_f64(),
            "least_bytes_per_second": self.least_rate,
            "idle_seconds": self.idle_time.as_secs_f64(),
            "request_seconds": self.request_time.as_secs_f64(),
            "drain_seconds": self.drain_time.as_secs_f64(),
            "drain_grace_seconds": self.drain_grace.as_secs_f64(),
            "batch_tokens": self.batch_tokens,
            "batch_pictures": self.batch_pictures,
            "queue_tokens": self.queue_tokens,
            "queue_pictures": self.queue_pictures,
            "admission_seconds": self.admission.as_secs_f64(),
            "in_flight_bytes": self.in_flight_bytes,
            "decode_bytes": self.decode_bytes,
            "decode_seconds": DECODE_TIME.as_secs_f64(),
        })
    }
}
