//! Bytes that were read from one end of a connection and have not passed to the other yet.
//!
//! They are kept as pieces of frames, so that ticks can overtake held data, and so that a fault which
//! lets ticks pass waits for the end of the frame that is half written: a tick in the middle of a frame
//! would corrupt the stream. Nothing else changes places, but messages that a fault of single messages picks
//! out: those are dropped or taken aside here as whole frames.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuzz_dist_core::seed::Stream;

use super::framing::{Framer, Piece, TICK};
use super::policy::{Draw, Policy};

/// Bytes kept under every policy but those below; then the source is not read any more, and TCP slows
/// its sender.
const BYTES_MAX: usize = 256 * 1024;
/// Bytes kept while ticks must be found behind held data, and while bytes are on their way for long.
const BYTES_MAX_WIDE: usize = 16 * 1024 * 1024;
/// Bytes kept in all wide queues together; past it a queue keeps no more than any other.
const BYTES_MAX_TOGETHER: usize = 256 * 1024 * 1024;
/// Pieces handed to the kernel at once.
const PIECES_PER_SEND: usize = 64;
/// A throttled link sends this long a stretch at once, so that short waits do not cost its rate.
const THROTTLE_QUANTUM_NS: u64 = 5_000_000;
/// Between two forged ticks: less than any tick interval, which is at least a quarter of a second longer.
pub const FORGE_EVERY_NS: u64 = 500_000_000;
/// After this time TCP sends again for the first time what was not acknowledged; then after twice that.
const RETRANSMIT_NS: u64 = 200_000_000;
/// TCP waits no longer than this between two attempts.
const RETRANSMIT_NS_MAX: u64 = 120_000_000_000;

#[derive(Debug)]
struct Item {
    bytes: Vec<u8>,
    tick: bool,
    handshake: bool,
    /// Whether a frame ends with it.
    ends: bool,
    came_ns: u64,
    /// Decides its jitter and its fate.
    draw: Draw,
    /// Of a plain message that begins with it.
    operation: Option<u8>,
    /// Whether it was decided that the message that begins with it passes.
    settled: bool,
    counted_postponed: bool,
}

/// A message that was taken aside.
#[derive(Debug)]
struct Late {
    due_ns: u64,
    operation: u8,
    items: Vec<Item>,
}

/// What became of messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    pub dropped: u64,
    pub delayed: u64,
}

/// When TCP would try again, after now, what it first sent at `first_ns` to nobody.
pub fn next_attempt_ns(first_ns: u64, now_ns: u64, initial_ns: u64) -> u64 {
    let (mut at_ns, mut step_ns) = (first_ns, initial_ns.max(1));
    while at_ns <= now_ns {
        at_ns = at_ns.saturating_add(step_ns);
        step_ns = step_ns.saturating_mul(2).min(RETRANSMIT_NS_MAX);
    }
    at_ns
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
    /// A tick is to be made up.
    Forge,
    /// All has passed; now the end.
    End(End),
}

/// Bytes in all queues of this process.
static TOGETHER: AtomicUsize = AtomicUsize::new(0);

/// How many bytes a queue holds, counted among those of all.
#[derive(Debug, Default)]
struct Held(usize);

impl Held {
    fn add(&mut self, bytes: usize) {
        self.0 += bytes;
        TOGETHER.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&mut self, bytes: usize) {
        self.0 -= bytes;
        TOGETHER.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn take(&mut self) -> usize {
        let bytes = self.0;
        self.remove(bytes);
        bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.take();
    }
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
    bytes: Held,
    ticks: usize,
    /// Whether the last byte that passed was not the last of its frame.
    mid_frame: bool,
    end: Option<(End, u64)>,
    next_free_ns: u64,
    next_forge_ns: u64,
    /// Since when a hold with `heal_lag` has kept what is here.
    stalled_since_ns: Option<u64>,
    /// Until when that still waits, after the hold.
    lag_until_ns: Option<u64>,
    late: Vec<Late>,
    /// Whether the rest of a message is to be dropped when it comes.
    dropping: bool,
    /// Whether the front waits for the rest of its message, to be taken aside whole.
    gathering: bool,
    random: Stream,
}

impl Queue {
    /// For a stream that `framer` understands; `random` draws the jitter.
    pub fn new(framer: Framer, random: Stream) -> Queue {
        Queue {
            framer,
            items: VecDeque::new(),
            front_sent: 0,
            bytes: Held::default(),
            ticks: 0,
            mid_frame: false,
            end: None,
            next_free_ns: 0,
            next_forge_ns: 0,
            stalled_since_ns: None,
            lag_until_ns: None,
            late: Vec::new(),
            dropping: false,
            gathering: false,
            random,
        }
    }

    /// Bytes in it.
    pub fn bytes(&self) -> usize {
        self.bytes.0
    }

    /// Whether nothing is in it, not even the end of the stream.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.late.is_empty() && self.end.is_none()
    }

    /// Whether bytes that come may pass without having been in it.
    pub fn may_be_bypassed(&self) -> bool {
        self.is_empty() && !self.dropping
    }

    /// Whether the stream has ended.
    pub fn ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether more may be read from the source under this policy.
    pub fn has_room(&self, policy: &Policy) -> bool {
        let wide = policy.hold_data || policy.delay.is_some() || policy.messages.is_some();
        let may_be_wide = TOGETHER.load(Ordering::Relaxed) < BYTES_MAX_TOGETHER;
        self.bytes.0 < if wide && may_be_wide { BYTES_MAX_WIDE } else { BYTES_MAX }
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
        let (tick, handshake, ends, operation) = match piece {
            Piece::Tick => (true, false, true, None),
            Piece::Data { ends, handshake, operation, .. } => (false, handshake, ends, operation),
        };
        if self.dropping {
            self.dropping = !ends;
            return;
        }
        self.bytes.add(bytes.len());
        self.ticks += usize::from(tick);
        self.items.push_back(Item {
            bytes: bytes.to_vec(),
            tick,
            handshake,
            ends,
            came_ns: now_ns,
            draw: Draw::next(&mut self.random),
            operation,
            settled: false,
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
        self.late.clear();
        self.front_sent = 0;
        self.ticks = 0;
        self.stalled_since_ns = None;
        self.lag_until_ns = None;
        self.bytes.take()
    }

    /// Brings what depends on the time up to it, before [`Queue::choose`]: what a hold leaves behind, and
    /// messages that are dropped, taken aside, or come back.
    pub fn prepare(&mut self, policy: &Policy, now_ns: u64) -> Sorted {
        self.follow_back_off(policy, now_ns);
        let mut sorted = Sorted::default();
        if self.late.is_empty() && policy.messages.is_none() {
            self.gathering = false;
            return sorted;
        }
        while !self.mid_frame {
            self.gathering = false;
            self.take_back(policy, now_ns);
            let Some(front) = self.items.front() else { break };
            let (Some(messages), Some(operation), false) =
                (policy.messages, front.operation, front.settled)
            else {
                break;
            };
            let delay_ns = messages.delay_ns(operation);
            if front.draw.is_under_ppm(messages.drop_ppm(operation)) {
                let (items, ends) = self.take_front_message();
                self.bytes.remove(items.iter().map(|item| item.bytes.len()).sum::<usize>());
                self.dropping = !ends;
                sorted.dropped += 1;
            } else if delay_ns == 0 {
                self.settle_front();
            } else if self.items.iter().any(|item| item.ends) {
                let due_ns = now_ns.saturating_add(delay_ns);
                let (items, _) = self.take_front_message();
                self.late.push(Late { due_ns, operation, items });
                sorted.delayed += 1;
            } else if self.ended() || !self.has_room(policy) {
                // It will never be whole, or is too big to be taken aside.
                self.settle_front();
            } else {
                self.gathering = true;
                break;
            }
        }
        sorted
    }

    fn settle_front(&mut self) {
        if let Some(front) = self.items.front_mut() {
            front.settled = true;
        }
    }

    /// The message at the front, as far as it has come, and whether it is whole.
    fn take_front_message(&mut self) -> (Vec<Item>, bool) {
        let mut taken = Vec::new();
        while let Some(item) = self.items.pop_front() {
            let ends = item.ends;
            taken.push(item);
            if ends {
                return (taken, true);
            }
        }
        (taken, false)
    }

    /// Puts messages in front whose time has come or whose fault is over, the earliest first.
    fn take_back(&mut self, policy: &Policy, now_ns: u64) {
        let is_over = |operation| policy.messages.is_none_or(|all| all.delay_ns(operation) == 0);
        let ready = |late: &mut Late| late.due_ns <= now_ns || is_over(late.operation);
        let mut back: Vec<Late> = self.late.extract_if(.., ready).collect();
        back.sort_by_key(|late| late.due_ns);
        for late in back.into_iter().rev() {
            for mut item in late.items.into_iter().rev() {
                item.settled = true;
                self.items.push_front(item);
            }
        }
    }

    fn follow_back_off(&mut self, policy: &Policy, now_ns: u64) {
        if policy.hold {
            if policy.heal_lag && !self.is_empty() {
                self.stalled_since_ns.get_or_insert(now_ns);
            }
            self.lag_until_ns = None;
        } else if let Some(since_ns) = self.stalled_since_ns {
            let until_ns = *self
                .lag_until_ns
                .get_or_insert_with(|| next_attempt_ns(since_ns, now_ns, RETRANSMIT_NS));
            if until_ns <= now_ns {
                // Progress: the next loss begins anew.
                self.stalled_since_ns = None;
                self.lag_until_ns = None;
            }
        }
    }

    /// Makes up a tick, which passes next.
    pub fn forge_tick(&mut self, now_ns: u64) {
        self.push(Piece::Tick, &TICK, now_ns);
        if let Some(tick) = self.items.pop_back() {
            self.items.push_front(tick);
        }
        self.next_forge_ns = now_ns + FORGE_EVERY_NS;
    }

    /// While all is held: the rest of a frame, without which no tick may follow, and ticks.
    fn choose_forged(&self, now_ns: u64) -> Choice {
        let front = self.items.front();
        let in_handshake =
            !self.framer.is_past_handshake() || front.is_some_and(|front| front.handshake);
        match front {
            _ if in_handshake => Choice::Held,
            Some(front) if front.tick || self.mid_frame => {
                Choice::Send { first: 0, count: 1, bytes_max: usize::MAX }
            }
            None if self.mid_frame => Choice::Held,
            _ if self.next_forge_ns > now_ns => Choice::At(self.next_forge_ns),
            _ => Choice::Forge,
        }
    }

    /// What may be done now; to be asked after [`Queue::prepare`].
    pub fn choose(&self, policy: &Policy, now_ns: u64) -> Choice {
        if policy.hold && policy.forge_ticks {
            return self.choose_forged(now_ns);
        }
        if self.is_empty() {
            return Choice::Empty;
        }
        if policy.hold {
            return Choice::Held;
        }
        if let Some(until_ns) = self.lag_until_ns {
            return Choice::At(until_ns);
        }
        if self.gathering || (self.items.is_empty() && !self.late.is_empty()) {
            let due_ns = self.late.iter().map(|late| late.due_ns).min();
            return due_ns.map_or(Choice::Held, Choice::At);
        }
        let Some(front) = self.items.front() else { return self.choose_end(policy, now_ns) };
        if policy.drop_ticks && front.tick && !self.mid_frame {
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
        let due_ns = free_ns.max(due(policy, item.came_ns, Some(item.draw)));
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
            Some((end, came_ns)) => match due(policy, came_ns, None) {
                due_ns if due_ns > now_ns => Choice::At(due_ns),
                _ => Choice::End(end),
            },
        }
    }

    fn first_tick(&self, policy: &Policy) -> Option<(usize, &Item)> {
        // The handshake comes before all ticks, so a look at the front tells whether any of it is here.
        let in_handshake = self.items.front().is_some_and(|front| front.handshake);
        if self.ticks == 0 || policy.drop_ticks || in_handshake {
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
        self.bytes.remove(sent);
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
            self.bytes.remove(item.bytes.len());
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

/// When what came then passes; without a draw there is no jitter.
fn due(policy: &Policy, came_ns: u64, draw: Option<Draw>) -> u64 {
    match policy.delay {
        None => 0,
        Some(delay) => {
            let wait_ns = draw.map_or(delay.latency_ns, |draw| delay.total_ns(draw));
            came_ns.saturating_add(wait_ns)
        }
    }
}

#[cfg(test)]
mod tests;
