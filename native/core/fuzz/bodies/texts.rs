//! Any bytes as each text that is read as a whole, and as whatever they are recognised as, packed or not: the
//! first byte chooses.

use fuzz_dist_core::interop::{Format, load_bytes};

/// Panics where the input shows a fault.
pub fn check(bytes: &[u8]) {
    let Some((&choice, text)) = bytes.split_first() else { return };
    let format = match choice % 5 {
        0 => None,
        1 => Some(Format::JepsenLog),
        2 => Some(Format::Plume),
        3 => Some(Format::Awdit),
        _ => Some(Format::Dbcop),
    };
    let Ok(loaded) = load_bytes("fuzz", text, format) else { return };
    // Every session does one thing at a time.
    assert!(loaded.history.client_pairs().count() <= loaded.history.len());
}
