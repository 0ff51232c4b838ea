//! fuzz_dist checker.
