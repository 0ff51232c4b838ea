//! What has happened on the connections to one peer since the driver was loaded: how the effect of a fault is seen.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counted by the driver, read by whoever controls it.
#[derive(Debug, Default)]
pub struct Stats {
    pub connections: AtomicU64,
    pub sent_frames: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub received_frames: AtomicU64,
    pub received_bytes: AtomicU64,
    pub held_frames: AtomicU64,
    pub delayed_frames: AtomicU64,
    pub dropped_frames: AtomicU64,
    pub throttled: AtomicU64,
    pub ticks_passed: AtomicU64,
    pub ticks_suppressed: AtomicU64,
    pub ticks_forged: AtomicU64,
    pub closed: AtomicU64,
    pub busy: AtomicU64,
    pub connects_held: AtomicU64,
    pub connects_refused: AtomicU64,
}

/// [`Stats`] at one moment.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// The name of the peer.
    pub peer: String,
    /// Connections that have been made.
    pub connections: u64,
    /// Frames with data that have left.
    pub sent_frames: u64,
    /// Bytes that have left, with headers and ticks.
    pub sent_bytes: u64,
    /// Frames with data that the VM was given.
    pub received_frames: u64,
    /// Bytes that were read, with headers and ticks.
    pub received_bytes: u64,
    /// Times that a frame or what can be read had to wait for a heal.
    pub held_frames: u64,
    /// Frames that were made late.
    pub delayed_frames: u64,
    /// Frames that vanished.
    pub dropped_frames: u64,
    /// Times that bytes had to wait for the rate.
    pub throttled: u64,
    /// Ticks that passed, either way.
    pub ticks_passed: u64,
    /// Ticks that vanished, either way.
    pub ticks_suppressed: u64,
    /// Ticks that the driver made.
    pub ticks_forged: u64,
    /// Connections that a fault closed.
    pub closed: u64,
    /// Times that the port was made busy by a fault.
    pub busy: u64,
    /// Connects that had to wait.
    pub connects_held: u64,
    /// Connects that were refused.
    pub connects_refused: u64,
}

/// Adds to a count.
pub fn add(count: &AtomicU64, amount: u64) {
    count.fetch_add(amount, Ordering::Relaxed);
}

impl Stats {
    /// All counts now.
    pub fn snapshot(&self, peer: &str) -> Snapshot {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            peer: peer.to_owned(),
            connections: get(&self.connections),
            sent_frames: get(&self.sent_frames),
            sent_bytes: get(&self.sent_bytes),
            received_frames: get(&self.received_frames),
            received_bytes: get(&self.received_bytes),
            held_frames: get(&self.held_frames),
            delayed_frames: get(&self.delayed_frames),
            dropped_frames: get(&self.dropped_frames),
            throttled: get(&self.throttled),
            ticks_passed: get(&self.ticks_passed),
            ticks_suppressed: get(&self.ticks_suppressed),
            ticks_forged: get(&self.ticks_forged),
            closed: get(&self.closed),
            busy: get(&self.busy),
            connects_held: get(&self.connects_held),
            connects_refused: get(&self.connects_refused),
        }
    }
}
