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
    handshake: bool,
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
        let (tick, handshake, ends) = match piece {
            Piece::Tick => (true, false, true),
            Piece::Data { ends, handshake, .. } => (false, handshake, ends),
        };
        self.bytes += bytes.len();
        self.ticks += usize::from(tick);
        self.items.push_back(Item {
            bytes: bytes.to_vec(),
            tick,
            handshake,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::framing::Writer;
    use crate::plane::policy::Delay;
    use fuzz_dist_core::seed::Seed;

    /// What a distribution writes: a handshake, then frames that carry their number, and ticks.
    fn stream(random: &mut Stream) -> Vec<u8> {
        let mut stream = vec![0, 2, b'N', 1, 0, 1, b'r'];
        for number in 0..40u8 {
            let len = random.random_range(1..300u32);
            stream.extend(len.to_be_bytes());
            stream.extend(vec![number; len as usize]);
            for _ in 0..random.random_range(0..3) {
                stream.extend(TICK);
            }
        }
        stream
    }

    /// Frames in order, and the number of ticks; panics when `bytes` are no whole frames.
    fn parse(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let mut framer = Framer::new(Writer::Opener);
        let (mut frames, mut ticks, mut at) = (Vec::new(), 0, 0);
        while at < bytes.len() {
            let piece = framer.next_piece(&bytes[at..]).expect("a whole header");
            match piece {
                Piece::Tick => ticks += 1,
                Piece::Data { len, ends, .. } => {
                    assert!(ends, "a frame is cut");
                    frames.push(bytes[at..at + len].to_vec());
                }
            }
            at += piece.len();
        }
        assert!(!framer.is_raw());
        (frames, ticks)
    }

    fn draw_policy(random: &mut Stream) -> Policy {
        Policy {
            hold: random.random_bool(0.1),
            hold_data: random.random_bool(0.3),
            drop_ticks: random.random_bool(0.1),
            bytes_per_s: random.random_bool(0.2).then_some(1_000_000),
            delay: random.random_bool(0.2).then_some(Delay { latency_ns: 1_000, jitter_ns: 5_000 }),
            refuse: false,
        }
    }

    struct Bench {
        queue: Queue,
        random: Stream,
        output: Vec<u8>,
        dropped: usize,
        now_ns: u64,
    }

    impl Bench {
        /// Passes what may pass, in pieces as small as a kernel may take.
        fn drain(&mut self, policy: &Policy) -> Choice {
            loop {
                match self.queue.choose(policy, self.now_ns) {
                    Choice::DropTick => {
                        self.queue.drop_tick();
                        self.dropped += 1;
                    }
                    Choice::Send { first, count, bytes_max } => {
                        let slices = self.queue.slices(first, count, bytes_max);
                        let offered: Vec<u8> =
                            slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                        assert!(!offered.is_empty());
                        let sent = self.random.random_range(1..=offered.len());
                        self.output.extend(&offered[..sent]);
                        self.queue.sent(first, sent, policy, self.now_ns);
                        if self.random.random_bool(0.3) {
                            return Choice::Empty; // The target was full.
                        }
                    }
                    other => return other,
                }
            }
        }
    }

    #[test]
    fn whatever_the_policies_frames_stay_whole_and_in_order() {
        for round in 0..300 {
            let mut random = Seed(3).stream("queue", round);
            let input = stream(&mut random);
            let (frames, ticks) = parse(&input);
            let queue = Queue::new(Framer::new(Writer::Opener), Seed(4).stream("jitter", round));
            let mut bench = Bench { queue, random, output: Vec::new(), dropped: 0, now_ns: 1 };
            let mut policy = Policy::default();
            let mut pending = Vec::new();
            let mut rest = &input[..];
            while !rest.is_empty() {
                let len = bench.random.random_range(1..=200).min(rest.len());
                pending.extend_from_slice(&rest[..len]);
                rest = &rest[len..];
                let mut pieces = Vec::new();
                let whole = bench.queue.split(&pending, |piece, at| pieces.push((piece, at)));
                for (piece, at) in pieces {
                    bench.queue.push(piece, &pending[at..at + piece.len()], bench.now_ns);
                }
                pending.drain(..whole);
                if bench.random.random_bool(0.3) {
                    policy = draw_policy(&mut bench.random);
                }
                bench.now_ns += bench.random.random_range(0..3_000);
                bench.drain(&policy);
            }
            assert!(pending.is_empty());
            bench.queue.push_end(End::Fin, bench.now_ns);
            while bench.drain(&Policy::default()) != Choice::End(End::Fin) {}
            assert_eq!(bench.queue.bytes(), 0);
            let (passed, passed_ticks) = parse(&bench.output);
            assert!(passed == frames, "round {round}: frames were lost, changed or swapped");
            assert_eq!(passed_ticks + bench.dropped, ticks, "round {round}");
        }
    }

    fn loaded(pieces: &[(Piece, &[u8])]) -> Queue {
        let framer = Framer::new(Writer::Opener);
        let mut queue = Queue::new(framer, Seed(5).stream("jitter", 0));
        for (piece, bytes) in pieces {
            queue.push(*piece, bytes, 1_000);
        }
        queue
    }

    #[test]
    fn a_tick_overtakes_held_data_but_not_a_frame_that_is_half_written() {
        let piece = |ends| Piece::Data { len: 6, ends, handshake: false };
        let data = |ends| (piece(ends), &b"\0\0\0\x02xy"[..]);
        let policy = Policy { hold_data: true, ..Policy::default() };
        let mut queue = loaded(&[data(true), data(true), (Piece::Tick, &TICK)]);
        let send = |first, bytes_max| Choice::Send { first, count: 1, bytes_max };
        assert_eq!(queue.choose(&policy, 2_000), send(2, usize::MAX));
        queue.sent(2, 4, &policy, 2_000);
        assert_eq!(queue.choose(&policy, 2_000), Choice::Held);

        let mut queue = loaded(&[data(true), (Piece::Tick, &TICK)]);
        queue.sent(0, 3, &Policy::default(), 2_000);
        assert_eq!(queue.choose(&policy, 2_000), send(0, usize::MAX), "the frame is completed");
        queue.sent(0, 3, &policy, 2_000);
        assert_eq!(queue.choose(&policy, 2_000), send(0, usize::MAX), "then the tick");
    }

    #[test]
    fn the_end_waits_behind_what_is_held() {
        let mut queue = loaded(&[]);
        queue.push_end(End::Rst, 1_000);
        for policy in [
            Policy { hold: true, ..Policy::default() },
            Policy { hold_data: true, ..Policy::default() },
        ] {
            assert_eq!(queue.choose(&policy, 2_000), Choice::Held);
        }
        let delay = Some(Delay { latency_ns: 5_000, jitter_ns: 0 });
        let policy = Policy { delay, ..Policy::default() };
        assert_eq!(queue.choose(&policy, 2_000), Choice::At(6_000));
        assert_eq!(queue.choose(&Policy::default(), 2_000), Choice::End(End::Rst));
    }
}
