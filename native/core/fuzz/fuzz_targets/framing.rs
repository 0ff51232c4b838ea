//! See `bodies/framing.rs`.
#![no_main]

#[path = "../bodies/framing.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::check(bytes));
