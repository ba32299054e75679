//! One-file HTML pages with plots and pictures, readable offline.

#![forbid(unsafe_code)]
