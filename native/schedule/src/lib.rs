//! fuzz_dist schedule.
