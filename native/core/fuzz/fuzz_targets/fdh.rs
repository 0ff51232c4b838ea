//! See `bodies/fdh.rs`.
#![no_main]

#[path = "../bodies/fdh.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::check(bytes));
