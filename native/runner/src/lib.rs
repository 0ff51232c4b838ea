//! fuzz_dist runner.
