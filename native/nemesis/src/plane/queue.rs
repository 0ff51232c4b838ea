//! Bytes that were read from one end of a connection and have not passed to the other yet.
//!
//! They are kept as pieces of frames, so that ticks can overtake held data, and so that a fault which
//! lets ticks pass waits for the end of the frame that is half written: a tick in the middle of a frame
//! would corrupt the stream. Nothing else ever changes places.

use std::collections::VecDeque;
use std::io::IoSlice;

use rand::RngExt;

use fuzz_dist_core::seed::Stream;

use super::framing::{Framer, Piece, TICK};
use super::policy::Policy;

/// Bytes kept under every policy but those below; then the source is not read any more, and TCP slows
/// its sender.
const BYTES_MAX: usize = 256 * 1024;
/// Bytes kept while ticks must be found behind held data, and while bytes are on their way for long.
const BYTES_MAX_WIDE: usize = 16 * 1024 * 1024;
/// Pieces handed to the kernel at once.
const PIECES_PER_SEND: usize = 64;
/// A throttled link sends this long a stretch at once, so that short waits do not cost its rate.
const THROTTLE_QUANTUM_NS: u64 = 5_000_000;

#[derive(Debug)]
struct Item {
    bytes: Vec<u8>,
    tick: bool,
    /// Whether a frame ends with it.
    ends: bool,
    came_ns: u64,
    /// The part of the jitter that is added, 0 to 1.
    jitter: f64,
    counted_postponed: bool,
}

/// How the source ended its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Orderly.
    Fin,
    /// By a reset or another error of the socket.
    Rst,
}

/// What may be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nothing is here.
    Empty,
    /// Nothing may pass until the policy changes.
    Held,
    /// Nothing may pass before this time.
    At(u64),
    /// The pieces from `first`, `count` of them, at most `bytes_max` bytes.
    Send { first: usize, count: usize, bytes_max: usize },
    /// The tick at the front is to be dropped.
    DropTick,
    /// All has passed; now the end.
    End(End),
}

/// What a send has passed, for the counters.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub frames: u64,
    pub ticks: u64,
    pub data: bool,
}

/// The queue of one direction of one connection.
#[derive(Debug)]
pub struct Queue {
    framer: Framer,
    items: VecDeque<Item>,
    /// Bytes of the front item that have passed.
    front_sent: usize,
    bytes: usize,
    ticks: usize,
    /// Whether the last byte that passed was not the last of its frame.
    mid_frame: bool,
    end: Option<(End, u64)>,
    next_free_ns: u64,
    random: Stream,
}

impl Queue {
    /// For a stream that `framer` understands; `random` draws the jitter.
    pub fn new(framer: Framer, random: Stream) -> Queue {
        Queue {
            framer,
            items: VecDeque::new(),
            front_sent: 0,
            bytes: 0,
            ticks: 0,
            mid_frame: false,
            end: None,
            next_free_ns: 0,
            random,
        }
    }

    /// Bytes in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is in it, not even the end of the stream.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.end.is_none()
    }

    /// Whether the stream has ended.
    pub fn ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether more may be read from the source under this policy.
    pub fn has_room(&self, policy: &Policy) -> bool {
        let wide = policy.hold_data || policy.delay.is_some();
        self.bytes < if wide { BYTES_MAX_WIDE } else { BYTES_MAX }
    }

    /// Whether the stream has no frames that are known.
    pub fn is_raw(&self) -> bool {
        self.framer.is_raw()
    }

    /// Splits `chunk` into pieces, hands each to `each`, and returns how many bytes belong to pieces; the
    /// rest (fewer than four bytes) must be presented again with what follows.
    pub fn split(&mut self, chunk: &[u8], mut each: impl FnMut(Piece, usize)) -> usize {
        let mut at = 0;
        while let Some(piece) = self.framer.next_piece(&chunk[at..]) {
            each(piece, at);
            at += piece.len();
        }
        at
    }

    /// Appends one piece.
    pub fn push(&mut self, piece: Piece, bytes: &[u8], now_ns: u64) {
        let (tick, ends) = match piece {
            Piece::Tick => (true, true),
            Piece::Data { ends, .. } => (false, ends),
        };
        self.bytes += bytes.len();
        self.ticks += usize::from(tick);
        self.items.push_back(Item {
            bytes: bytes.to_vec(),
            tick,
            ends,
            came_ns: now_ns,
            jitter: self.random.random(),
            counted_postponed: false,
        });
    }

    /// Notes that bytes passed without having been in the queue, up to a piece that ends its frame or not.
    pub fn passed_by(&mut self, last_ends: bool) {
        self.mid_frame = !last_ends;
    }

    /// Marks the end of the stream; it passes after all bytes.
    pub fn push_end(&mut self, end: End, now_ns: u64) {
        self.end.get_or_insert((end, now_ns));
    }

    /// Discards all bytes; returns how many.
    pub fn discard(&mut self) -> usize {
        self.items.clear();
        self.front_sent = 0;
        self.ticks = 0;
        std::mem::take(&mut self.bytes)
    }

    /// What may be done now.
    pub fn choose(&self, policy: &Policy, now_ns: u64) -> Choice {
        if self.is_empty() {
            return Choice::Empty;
        }
        if policy.hold {
            return Choice::Held;
        }
        let Some(front) = self.items.front() else { return self.choose_end(policy, now_ns) };
        if policy.drop_ticks && front.tick && self.front_sent == 0 {
            return Choice::DropTick;
        }
        let (first, item) = if policy.hold_data && !front.tick && !self.mid_frame {
            match self.first_tick(policy) {
                Some(found) => found,
                None => return Choice::Held,
            }
        } else {
            (0, front)
        };
        let free_ns = if policy.bytes_per_s.is_some() { self.next_free_ns } else { 0 };
        let due_ns = free_ns.max(due(policy, item.came_ns, item.jitter));
        if due_ns > now_ns {
            return Choice::At(due_ns);
        }
        let bytes_max = match policy.bytes_per_s {
            // A tick is never split where it overtakes: it goes whole.
            Some(rate) => (rate.saturating_mul(THROTTLE_QUANTUM_NS) / 1_000_000_000)
                .max(TICK.len() as u64) as usize,
            None => usize::MAX,
        };
        let count = if policy.passes() { PIECES_PER_SEND.min(self.items.len()) } else { 1 };
        Choice::Send { first, count, bytes_max }
    }

    fn choose_end(&self, policy: &Policy, now_ns: u64) -> Choice {
        match self.end {
            None => Choice::Empty,
            Some(_) if policy.hold_data => Choice::Held,
            Some((end, came_ns)) => match due(policy, came_ns, 0.0) {
                due_ns if due_ns > now_ns => Choice::At(due_ns),
                _ => Choice::End(end),
            },
        }
    }

    fn first_tick(&self, policy: &Policy) -> Option<(usize, &Item)> {
        if self.ticks == 0 || policy.drop_ticks {
            return None;
        }
        self.items.iter().enumerate().find(|(_, item)| item.tick)
    }

    /// The bytes of a [`Choice::Send`].
    pub fn slices(&self, first: usize, count: usize, bytes_max: usize) -> Vec<IoSlice<'_>> {
        let mut left = bytes_max;
        let mut slices = Vec::with_capacity(count);
        for (index, item) in self.items.iter().enumerate().skip(first).take(count) {
            let from = if index == 0 { self.front_sent } else { 0 };
            let len = (item.bytes.len() - from).min(left);
            if len == 0 {
                break;
            }
            slices.push(IoSlice::new(&item.bytes[from..from + len]));
            left -= len;
        }
        slices
    }

    /// Notes that the first `sent` bytes of a [`Choice::Send`] have passed.
    pub fn sent(&mut self, first: usize, mut sent: usize, policy: &Policy, now_ns: u64) -> Passed {
        let mut passed = Passed::default();
        self.bytes -= sent;
        if let Some(rate) = policy.bytes_per_s {
            let cost_ns = (sent as u64).saturating_mul(1_000_000_000) / rate;
            self.next_free_ns = self.next_free_ns.max(now_ns).saturating_add(cost_ns);
        }
        while sent > 0 {
            let Some(item) = self.items.get_mut(first) else { break };
            let already = if first == 0 { self.front_sent } else { 0 };
            let left = item.bytes.len() - already;
            passed.data |= !item.tick;
            if sent < left {
                if first == 0 {
                    self.front_sent += sent;
                } else {
                    // A tick that overtook and was split by the kernel: its rest goes next.
                    item.bytes.drain(..sent);
                    if let Some(rest) = self.items.remove(first) {
                        self.items.push_front(rest);
                    }
                }
                self.mid_frame = true;
                break;
            }
            sent -= left;
            self.mid_frame = !item.ends;
            passed.frames += u64::from(item.ends && !item.tick && !self.framer.is_raw());
            passed.ticks += u64::from(item.tick);
            self.ticks -= usize::from(item.tick);
            self.items.remove(first);
            if first == 0 {
                self.front_sent = 0;
            }
        }
        passed
    }

    /// Drops the tick at the front.
    pub fn drop_tick(&mut self) {
        if let Some(item) = self.items.pop_front() {
            self.bytes -= item.bytes.len();
            self.ticks -= usize::from(item.tick);
        }
    }

    /// Whether the front item waits for its time for the first time.
    pub fn postpone_front(&mut self) -> bool {
        self.items
            .front_mut()
            .is_some_and(|item| !std::mem::replace(&mut item.counted_postponed, true))
    }
}

fn due(policy: &Policy, came_ns: u64, jitter: f64) -> u64 {
    match policy.delay {
        None => 0,
        Some(delay) => came_ns
            .saturating_add(delay.latency_ns)
            .saturating_add((delay.jitter_ns as f64 * jitter) as u64),
    }
}
