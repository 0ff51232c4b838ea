//! What the VM sends: straight to the socket when nothing is to happen to it, else through a queue of frames.
//!
//! A frame is four bytes of length and as many bytes; a frame of length 0 is a tick. A frame that has begun to
//! leave is always finished, so that a tick can be put between two frames at any moment, by any thread.

use std::collections::VecDeque;
use std::io::Result;
use std::os::fd::RawFd;
use std::sync::Arc;

use crate::binary::Shared;
use crate::policy::{Chance, Policy};
use crate::stats::{Stats, add};
use crate::sys;

/// Vectors of one write.
const VECTORS_MAX: usize = 64;
/// Bytes that wait here before the VM is to keep what it has: enough to fill a socket again, no more.
const BUSY_BYTES: usize = 128 * 1024;
/// The same while frames are late on purpose, which needs as many of them as the link would hold.
const BUSY_LATE_BYTES: usize = 8 * 1024 * 1024;
/// How long a throttled link may save up: bursts are no longer than that.
const BURST_NS: u64 = 20_000_000;
/// A burst is at least about one packet.
const BURST_BYTES_MIN: u64 = 1500;

/// A part of a frame.
#[derive(Debug)]
pub enum Part {
    /// Of a binary that the VM knows as well.
    Shared(Shared),
    /// Copied.
    Own(Vec<u8>),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Shared(shared) => shared.bytes(),
            Part::Own(bytes) => bytes,
        }
    }
}

/// A frame that waits.
#[derive(Debug)]
struct Frame {
    header: [u8; 4],
    parts: Vec<Part>,
    /// With the header.
    size: usize,
    due_ns: u64,
    /// Passes whatever the policy says.
    forced: bool,
}

impl Frame {
    fn tick(due_ns: u64, forced: bool) -> Frame {
        Frame { header: [0; 4], parts: Vec::new(), size: 4, due_ns, forced }
    }

    fn is_tick(&self) -> bool {
        self.size == 4
    }
}

/// The sending half of a connection.
#[derive(Debug)]
pub struct Outbound {
    /// The socket.
    pub fd: RawFd,
    policy: Policy,
    queue: VecDeque<Frame>,
    /// Bytes of the first frame that have left.
    front_written: usize,
    /// Bytes in the queue that have not left.
    queued_bytes: usize,
    /// The socket takes no more.
    pub blocked: bool,
    last_due_ns: u64,
    /// When the link was last known to be idle enough, for the rate.
    free_ns: u64,
    next_forged_ns: u64,
    chance: Chance,
    stats: Arc<Stats>,
}

impl Outbound {
    /// Of a socket.
    pub fn new(fd: RawFd, stats: Arc<Stats>) -> Outbound {
        Outbound {
            fd,
            policy: Policy::default(),
            queue: VecDeque::new(),
            front_written: 0,
            queued_bytes: 0,
            blocked: false,
            last_due_ns: 0,
            free_ns: 0,
            next_forged_ns: u64::MAX,
            chance: Chance::new(0),
            stats,
        }
    }

    /// What happens to frames from now on. What waits goes out under the new policy.
    pub fn set_policy(&mut self, policy: Policy, now_ns: u64) {
        if policy.forged_tick_ns == 0 {
            self.next_forged_ns = u64::MAX;
        } else if policy.forged_tick_ns != self.policy.forged_tick_ns {
            self.next_forged_ns = now_ns;
        }
        if policy.latency_ns < self.policy.latency_ns || policy.jitter_ns < self.policy.jitter_ns {
            // A link that is no longer late lets go of what it had.
            self.last_due_ns = now_ns;
            for frame in &mut self.queue {
                frame.due_ns = frame.due_ns.min(now_ns);
            }
        }
        if policy.seed != self.policy.seed {
            self.chance = Chance::new(policy.seed);
        }
        self.policy = policy;
    }

    /// Nothing leaves, not even that the connection has ended.
    pub fn is_silent(&self) -> bool {
        self.policy.is_silent()
    }

    /// Whether who sends should wait; one who waits already does so until most has left.
    pub fn wants_busy(&self, is_busy: bool) -> bool {
        let late = self.policy.latency_ns > 0 || self.policy.jitter_ns > 0;
        let limit = if late { BUSY_LATE_BYTES } else { BUSY_BYTES };
        self.policy.busy || self.queued_bytes > if is_busy { limit / 4 } else { limit }
    }

    /// What the VM is told to be waiting. It sends no tick while anything waits, as on a network whose buffers are
    /// full: what only a fault keeps does not count before it would fill them.
    pub fn pending_bytes(&self) -> usize {
        let is_full = self.queued_bytes > BUSY_BYTES && !self.policy.ticks_pass;
        if self.blocked || is_full { self.queued_bytes } else { 0 }
    }

    /// Whether a frame can be written without a queue.
    pub fn is_direct(&self) -> bool {
        self.queue.is_empty() && self.policy.is_clear()
    }

    /// Writes a frame at once: `vectors[0]` is its header. Returns how many bytes have left.
    pub fn write_direct(&mut self, vectors: &[libc::iovec]) -> Result<usize> {
        match sys::writev(self.fd, vectors) {
            Ok(count) => {
                add(&self.stats.out.bytes, count as u64);
                Ok(count)
            }
            Err(error) if sys::would_block(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Keeps the rest of a frame of which `written` bytes have left already.
    pub fn keep_rest(&mut self, header: [u8; 4], parts: Vec<Part>, size: usize, written: usize) {
        self.queue.push_back(Frame { header, parts, size, due_ns: 0, forced: false });
        self.front_written = written;
        self.queued_bytes += size - written;
        self.blocked = true;
    }

    /// Whether the next frame vanishes, counted.
    pub fn loses(&mut self, is_tick: bool) -> bool {
        if is_tick {
            if self.policy.no_ticks {
                add(&self.stats.out.ticks_suppressed, 1);
            }
            return self.policy.no_ticks;
        }
        let rate = u64::from(self.policy.drop_per_mille);
        let lost = rate > 0 && self.chance.below(1000) < rate;
        if lost {
            add(&self.stats.out.dropped_frames, 1);
        }
        lost
    }

    /// Puts a frame behind those that wait.
    pub fn enqueue(&mut self, header: [u8; 4], parts: Vec<Part>, size: usize, now_ns: u64) {
        let is_tick = size == 4;
        if is_tick && self.policy.ticks_pass {
            self.push_between(Frame::tick(0, true));
            return;
        }
        let mut due_ns = 0;
        if self.policy.latency_ns > 0 || self.policy.jitter_ns > 0 {
            add(&self.stats.out.delayed_frames, 1);
            let late_ns = self.policy.latency_ns + self.chance.below(self.policy.jitter_ns + 1);
            due_ns = now_ns.saturating_add(late_ns).max(self.last_due_ns);
            self.last_due_ns = due_ns;
        }
        if self.policy.hold {
            add(&self.stats.out.held_frames, 1);
        }
        self.queued_bytes += size;
        self.queue.push_back(Frame { header, parts, size, due_ns, forced: false });
    }

    /// Puts a frame before all that have not begun to leave.
    fn push_between(&mut self, frame: Frame) {
        self.queued_bytes += frame.size;
        let place = usize::from(self.front_written > 0);
        self.queue.insert(place, frame);
    }

    fn may_pass(&self, frame: &Frame, now_ns: u64) -> bool {
        frame.forced || (!self.policy.hold && frame.due_ns <= now_ns)
    }

    /// Writes what may leave now.
    pub fn pump(&mut self, now_ns: u64) -> Result<()> {
        if self.next_forged_ns <= now_ns {
            self.next_forged_ns = now_ns.saturating_add(self.policy.forged_tick_ns);
            // One that waits already says as much as two.
            if !self.queue.iter().take(2).any(|frame| frame.forced) {
                add(&self.stats.out.ticks_forged, 1);
                self.push_between(Frame::tick(0, true));
            }
        }
        self.blocked = false;
        loop {
            let vectors = self.vectors(now_ns);
            if vectors.is_empty() {
                if self.policy.bytes_per_s > 0 && !self.queue.is_empty() && !self.policy.hold {
                    add(&self.stats.out.throttled, 1);
                }
                return Ok(());
            }
            let asked: usize = vectors.iter().map(|vector| vector.iov_len).sum();
            match sys::writev(self.fd, &vectors) {
                Ok(count) => {
                    self.left(count, now_ns);
                    if count < asked {
                        self.blocked = true;
                        return Ok(());
                    }
                }
                Err(error) if sys::would_block(&error) => {
                    self.blocked = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What may leave now, as far as one write takes it.
    fn vectors(&self, now_ns: u64) -> Vec<libc::iovec> {
        let mut vectors = Vec::new();
        let mut allowed = self.allowed_bytes(now_ns);
        let mut skip = self.front_written;
        for (i, frame) in self.queue.iter().enumerate() {
            let begun = i == 0 && skip > 0;
            if !begun && !self.may_pass(frame, now_ns) {
                break;
            }
            let header = std::iter::once(&frame.header[..]);
            for bytes in header.chain(frame.parts.iter().map(Part::bytes)) {
                let rest = &bytes[skip.min(bytes.len())..];
                skip -= bytes.len() - rest.len();
                let rest = &rest[..rest.len().min(allowed)];
                if rest.is_empty() {
                    continue;
                }
                allowed -= rest.len();
                vectors.push(sys::vector(rest));
                if vectors.len() == VECTORS_MAX {
                    return vectors;
                }
            }
            if allowed == 0 {
                break;
            }
        }
        vectors
    }

    /// How many bytes the rate allows now.
    fn allowed_bytes(&self, now_ns: u64) -> usize {
        let rate = self.policy.bytes_per_s;
        if rate == 0 {
            return usize::MAX;
        }
        let saved_ns = now_ns.saturating_sub(self.free_ns).min(BURST_NS.max(burst_ns(rate)));
        (u128::from(saved_ns) * u128::from(rate) / 1_000_000_000) as usize
    }

    /// So many bytes have left.
    fn left(&mut self, count: usize, now_ns: u64) {
        add(&self.stats.out.bytes, count as u64);
        self.queued_bytes -= count;
        if self.policy.bytes_per_s > 0 {
            let rate = self.policy.bytes_per_s;
            let cost_ns = (count as u128 * 1_000_000_000 / u128::from(rate)) as u64;
            let saved_from = now_ns.saturating_sub(BURST_NS.max(burst_ns(rate)));
            self.free_ns = self.free_ns.max(saved_from).saturating_add(cost_ns);
        }
        let mut written = self.front_written + count;
        while let Some(frame) = self.queue.front() {
            if written < frame.size {
                break;
            }
            written -= frame.size;
            let count =
                if frame.is_tick() { &self.stats.out.ticks_passed } else { &self.stats.out.frames };
            add(count, 1);
            self.queue.pop_front();
        }
        self.front_written = written;
    }

    /// When [`Outbound::pump`] has something to do of itself; never if `u64::MAX`.
    pub fn wake_ns(&self, now_ns: u64) -> u64 {
        let mut wake_ns = self.next_forged_ns;
        let Some(front) = self.queue.front() else { return wake_ns };
        let begun = self.front_written > 0;
        if self.blocked || (!begun && self.policy.hold && !front.forced) {
            return wake_ns;
        }
        if !begun && !self.may_pass(front, now_ns) {
            wake_ns = wake_ns.min(front.due_ns);
        } else if self.policy.bytes_per_s > 0 {
            let packet_ns = burst_ns(self.policy.bytes_per_s);
            wake_ns = wake_ns.min(self.free_ns.saturating_add(packet_ns));
        }
        wake_ns
    }
}

/// How long about one packet takes.
fn burst_ns(bytes_per_s: u64) -> u64 {
    (BURST_BYTES_MIN * 1_000_000_000).div_ceil(bytes_per_s)
}
