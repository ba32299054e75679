//! Training: losses, optimisers, schedules, runs that resume exactly.

#![forbid(unsafe_code)]

mod elementary;
pub mod guard;
pub mod interpolate;
pub mod lora;
pub mod loss;
pub mod metrics;
pub mod optimizer;
mod parallel;
pub mod progress;
pub mod random;
pub mod report;
pub mod schedule;
pub mod state;
pub mod stop;
pub mod tensorboard;
