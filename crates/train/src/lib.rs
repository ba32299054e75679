//! Training: losses, optimisers, schedules, runs that resume exactly.

#![forbid(unsafe_code)]
