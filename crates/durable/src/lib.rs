//! Files that a crash leaves whole.

#![forbid(unsafe_code)]
