//! fuzz_dist nemesis.
