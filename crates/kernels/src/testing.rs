//! Shared cases of the kernel tests (being written).
