//! What samples cannot teach, found before a run.
