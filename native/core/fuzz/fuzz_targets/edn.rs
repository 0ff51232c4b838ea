//! See `bodies/edn.rs`.
#![no_main]

#[path = "../bodies/edn.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::check(bytes));
