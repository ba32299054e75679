//! Metrics of retrieval and classification.

#![forbid(unsafe_code)]
