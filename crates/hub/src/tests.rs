//! The Hub and the cache against a server of the tests.
