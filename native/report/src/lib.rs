//! fuzz_dist report.
