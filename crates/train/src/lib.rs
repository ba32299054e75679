//! Training: losses, optimisers, schedules, runs that resume exactly.

#![forbid(unsafe_code)]

mod elementary;
pub mod guard;
pub mod interpolate;
pub mod lora;
pub mod loss;
pub mod optimizer;
mod parallel;
pub mod random;
pub mod schedule;
