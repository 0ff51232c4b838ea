//! Any bytes as a frame of an agent or worker: refused or understood, never a panic, and what was understood is
//! the same after it was encoded again.

use fuzz_dist_core::etf;
use fuzz_dist_runner::agents::message::{decode_done, decode_frame, parts, unknown};

/// Panics where the input shows a fault.
pub fn check(bytes: &[u8]) {
    let Ok(messages) = decode_frame(bytes) else { return };
    for message in &messages {
        let _ = (parts(message).is_ok(), unknown(message).to_string());
        if let Ok(batch) = decode_done(message) {
            for done in batch.all {
                let mut again = Vec::new();
                etf::encode(&done.value, &mut again);
                let read = etf::decode(&again, &etf::Limits::default());
                assert_eq!(read.expect("what we write is a term"), done.value);
            }
        }
    }
}
