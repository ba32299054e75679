//! Training: losses, optimisers, schedules, runs that resume exactly.

#![forbid(unsafe_code)]

pub mod metrics;
pub mod progress;
pub mod report;
pub mod state;
pub mod stop;
pub mod tensorboard;
