//! What has happened on the connections to one peer since the driver was loaded, by direction: how the effect of a
//! fault is seen.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::policy::Direction;

/// Of one peer.
#[derive(Debug, Default)]
pub struct Stats {
    /// Of what this node sends.
    pub out: Counts,
    /// Of what it receives.
    pub inbound: Counts,
}

/// Counted by the driver, read by whoever controls it.
#[derive(Debug, Default)]
pub struct Counts {
    pub connections: AtomicU64,
    pub frames: AtomicU64,
    pub bytes: AtomicU64,
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

/// [`Counts`] at one moment.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// The name of the peer.
    pub peer: String,
    /// `out` or `in`.
    pub direction: Direction,
    /// Connections that have been made.
    pub connections: u64,
    /// Frames with data that have left, or that the VM was given.
    pub frames: u64,
    /// Bytes that have left or were read, with headers and ticks.
    pub bytes: u64,
    /// Bytes that could be read now if a fault did not forbid it.
    pub waiting_bytes: u64,
    /// Frames and ticks that had to wait for a heal.
    pub held_frames: u64,
    /// Frames that were made late.
    pub delayed_frames: u64,
    /// Frames that vanished.
    pub dropped_frames: u64,
    /// Times that bytes had to wait for the rate.
    pub throttled: u64,
    /// Ticks that passed.
    pub ticks_passed: u64,
    /// Ticks that vanished.
    pub ticks_suppressed: u64,
    /// Ticks that the driver made.
    pub ticks_forged: u64,
    /// Connections that a fault closed.
    pub closed: u64,
    /// Times that the port became busy, and who sends had to wait.
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
    /// All counts now, with what waits to be read.
    pub fn snapshots(&self, peer: &str, waiting_bytes: u64) -> [Snapshot; 2] {
        let inbound = self.inbound.snapshot(peer, Direction::In);
        [self.out.snapshot(peer, Direction::Out), Snapshot { waiting_bytes, ..inbound }]
    }

    /// Of one direction.
    pub fn of(&self, direction: Direction) -> &Counts {
        if direction == Direction::In { &self.inbound } else { &self.out }
    }
}

impl Counts {
    fn snapshot(&self, peer: &str, direction: Direction) -> Snapshot {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            peer: peer.to_owned(),
            direction,
            connections: get(&self.connections),
            frames: get(&self.frames),
            bytes: get(&self.bytes),
            waiting_bytes: 0,
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
