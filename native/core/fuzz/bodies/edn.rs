//! Any bytes as EDN: never a panic, and what was read is read again the same from what is written.

use fuzz_dist_core::interop::{Format, load_bytes, write_edn};

/// Panics where the input shows a fault.
pub fn check(bytes: &[u8]) {
    let Ok(loaded) = load_bytes("fuzz", bytes, Some(Format::Edn)) else { return };
    let mut written = Vec::new();
    write_edn(&loaded.history, &mut written).expect("memory takes everything");
    let again = load_bytes("fuzz", &written, Some(Format::Edn)).expect("what we write is EDN");
    assert_eq!(again.history.ops(), loaded.history.ops());
}
