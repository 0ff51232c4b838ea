//! Moves the bytes of one direction of one connection, in a thread of its own.
//!
//! While nothing is queued the pump blocks in `recv` and passes what it reads straight on: two system
//! calls a chunk. Otherwise it waits with `ppoll` (whose time-outs are in nanoseconds, unlike the
//! milliseconds of most event loops) for more bytes, for room at the target, for a change of policy, or
//! for the time at which the next bytes are due.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use fuzz_dist_core::clock::monotonic_ns;
use fuzz_dist_core::seed::Seed;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{MsgFlags, recv, send, sendmsg};
use nix::sys::time::{TimeSpec, TimeValLike};

use super::DIST_CHANNEL;
use super::capture::Tap;
use super::connection::{Connection, Direction};
use super::counters::Counters;
use super::framing::{Framer, KEPT_BACK_MAX, Piece, Writer, without_headers};
use super::gate::{Flow, Gate, Orders};
use super::queue::{Choice, End, Queue};

/// Bytes read at once.
pub const CHUNK_LEN: usize = 64 * 1024;

/// One direction of one connection.
pub struct Pump {
    connection: Arc<Connection>,
    direction: Direction,
    counters: Arc<Counters>,
    queue: Queue,
    /// Bytes of an incomplete header at the start, then room for a chunk.
    buffer: Vec<u8>,
    kept_back: usize,
    /// Pieces of the chunk at hand; kept for its memory.
    pieces: Vec<(Piece, usize)>,
    /// What the queue contributes to `bytes_held` now.
    held: usize,
    tap: Option<Tap>,
}

/// Why the pump waits.
enum Wait {
    /// Nothing is queued.
    Read,
    /// The target's socket is full.
    Room,
    /// The policy holds what is queued.
    Change,
    /// What is queued is due at this time.
    Until(u64),
    /// It does not: the direction is done.
    Done,
}

impl Pump {
    /// For one direction of `connection`.
    pub fn new(connection: Arc<Connection>, direction: Direction, counters: Arc<Counters>) -> Pump {
        let writer = match direction {
            _ if connection.channel != DIST_CHANNEL => Writer::Raw,
            Direction::Forward => Writer::Opener,
            Direction::Backward => Writer::Acceptor,
        };
        // Jitter needs no seed of the run: chunks are not the same from run to run anyway.
        let random = Seed(connection.id).stream("jitter", u64::from(writer == Writer::Acceptor));
        let mut tap = connection.tap(direction, writer);
        if let Some(tap) = &mut tap {
            tap.began(direction == Direction::Forward);
        }
        Pump {
            tap,
            connection,
            direction,
            counters,
            queue: Queue::new(Framer::new(writer), random),
            buffer: vec![0; KEPT_BACK_MAX + CHUNK_LEN],
            kept_back: 0,
            pieces: Vec::new(),
            held: 0,
        }
    }

    /// Moves bytes until the direction is done; `early` was read from the source before.
    pub fn run(mut self, early: &[u8]) {
        for chunk in early.chunks(CHUNK_LEN) {
            self.buffer[self.kept_back..self.kept_back + chunk.len()].copy_from_slice(chunk);
            self.take(chunk.len(), false);
        }
        while self.turn() {}
        let left = self.queue.discard();
        self.counters.bytes_discarded.add(left as u64);
        self.account();
    }

    fn gate(&self) -> &Gate {
        self.connection.gate(self.direction)
    }

    /// One turn; false when the direction is done.
    fn turn(&mut self) -> bool {
        let wait = self.drain();
        self.account();
        match wait {
            Wait::Done => false,
            Wait::Read => {
                self.read(MsgFlags::empty());
                true
            }
            Wait::Room => {
                self.wait(true, None);
                true
            }
            Wait::Change => {
                self.wait(false, None);
                true
            }
            Wait::Until(due_ns) => {
                self.wait(false, Some(due_ns));
                true
            }
        }
    }

    /// Passes what may pass now.
    fn drain(&mut self) -> Wait {
        let connection = Arc::clone(&self.connection);
        let Some(target) = connection.target_socket(self.direction) else { return Wait::Done };
        loop {
            let orders = connection.gate(self.direction).enter();
            match orders.flow {
                Flow::Stopped => return Wait::Done,
                Flow::Swallow if self.queue.ended() => return Wait::Done,
                Flow::Swallow => {
                    self.counters.bytes_discarded.add(self.queue.discard() as u64);
                    return Wait::Read;
                }
                Flow::Forward if self.queue.is_empty() && !orders.policy.forge_ticks => {
                    return Wait::Read;
                }
                Flow::Forward => {}
            }
            let now_ns = monotonic_ns();
            let sorted = self.queue.prepare(&orders.policy, now_ns);
            self.counters.messages_dropped.add(sorted.dropped);
            self.counters.messages_delayed.add(sorted.delayed);
            match self.queue.choose(&orders.policy, now_ns) {
                Choice::Empty => return Wait::Read,
                Choice::Held => return Wait::Change,
                Choice::At(due_ns) => {
                    if self.queue.postpone_front() {
                        self.counters.postponed.add(1);
                    }
                    return Wait::Until(due_ns);
                }
                Choice::DropTick => {
                    self.queue.drop_tick();
                    self.counters.ticks_dropped.add(1);
                }
                Choice::Forge => {
                    self.queue.forge_tick(now_ns);
                    self.counters.ticks_forged.add(1);
                }
                Choice::End(end) => {
                    drop(orders);
                    if let Some(tap) = &mut self.tap {
                        tap.ended(end == End::Fin);
                    }
                    connection.pass_end(self.direction, end);
                    return Wait::Done;
                }
                Choice::Send { first, count, bytes_max } => {
                    let slices = self.queue.slices(first, count, bytes_max);
                    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                    match sendmsg::<()>(target.as_raw_fd(), &slices, &[], flags, None) {
                        Ok(sent) => {
                            if let Some(tap) = &mut self.tap {
                                tap.passed(&slices, sent, now_ns);
                            }
                            self.count_sent(first, sent, &orders, now_ns);
                        }
                        Err(Errno::EAGAIN) => return Wait::Room,
                        Err(Errno::EINTR) => {}
                        Err(_) => {
                            drop(orders);
                            self.target_is_gone();
                        }
                    }
                }
            }
        }
    }

    fn count_sent(&mut self, first: usize, sent: usize, orders: &Orders, now_ns: u64) {
        let passed = self.queue.sent(first, sent, &orders.policy, now_ns);
        let counters = &self.counters;
        counters.bytes_passed.add(sent as u64);
        counters.frames_passed.add(passed.frames);
        counters.ticks_passed.add(passed.ticks);
        if passed.data {
            counters.last_data_monotonic_ns.set(now_ns);
        }
        if passed.ticks > 0 {
            counters.last_tick_monotonic_ns.set(now_ns);
        }
    }

    /// The target does not take bytes any more. Its own close passes in the other direction, as that
    /// direction's policy says; until then this side must not learn of it, so its bytes vanish.
    fn target_is_gone(&mut self) {
        self.gate().change(|orders| {
            if orders.flow == Flow::Forward {
                orders.flow = Flow::Swallow;
            }
        });
    }

    /// Waits until something can be done, and reads if there is something to read.
    fn wait(&mut self, for_room: bool, until_ns: Option<u64>) {
        let connection = Arc::clone(&self.connection);
        let gate = connection.gate(self.direction);
        let (Some(source), Some(target)) =
            (connection.source_socket(self.direction), connection.target_socket(self.direction))
        else {
            return;
        };
        let policy = gate.enter().policy;
        let mut fds = vec![PollFd::new(gate.wake_fd(), PollFlags::POLLIN)];
        let reads = !self.queue.ended() && self.queue.has_room(&policy);
        if reads {
            fds.push(PollFd::new(source.as_fd(), PollFlags::POLLIN));
        }
        if for_room {
            fds.push(PollFd::new(target.as_fd(), PollFlags::POLLOUT));
        }
        let timeout = until_ns.map(|until_ns| {
            let left_ns = until_ns.saturating_sub(monotonic_ns());
            TimeSpec::nanoseconds(i64::try_from(left_ns).unwrap_or(i64::MAX))
        });
        if ppoll(&mut fds, timeout, None).is_err() {
            return; // Interrupted: the next turn looks again.
        }
        let is_ready = |index: usize| fds.get(index).is_some_and(|fd| fd.any() == Some(true));
        let (woken, readable) = (is_ready(0), reads && is_ready(1));
        if woken {
            gate.clear_wake();
        }
        if readable {
            self.read(MsgFlags::MSG_DONTWAIT);
        }
    }

    /// Reads one chunk and passes or queues it.
    fn read(&mut self, flags: MsgFlags) {
        let connection = Arc::clone(&self.connection);
        let Some(source) = connection.source_socket(self.direction) else { return };
        let room = &mut self.buffer[self.kept_back..self.kept_back + CHUNK_LEN];
        match recv(source.as_raw_fd(), room, flags) {
            Ok(0) => self.source_ended(End::Fin),
            Ok(len) => self.take(len, true),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.source_ended(End::Rst),
        }
    }

    fn source_ended(&mut self, end: End) {
        let now_ns = monotonic_ns();
        if self.kept_back > 0 {
            let len = std::mem::take(&mut self.kept_back);
            let rest = self.buffer[..len].to_vec();
            let piece = Piece::Data { len, ends: true, handshake: false, operation: None };
            self.queue.push(piece, &rest, now_ns);
        }
        self.connection.note_source_end(self.direction, end);
        self.queue.push_end(end, now_ns);
    }

    /// Takes `len` new bytes of the buffer, which follow those kept back.
    fn take(&mut self, len: usize, may_pass: bool) {
        self.counters.bytes_in.add(len as u64);
        let chunk_len = self.kept_back + len;
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.clear();
        let mut buffer = std::mem::take(&mut self.buffer);
        let whole = self.queue.split(&buffer[..chunk_len], |piece, at| pieces.push((piece, at)));
        if self.connection.plain_messages {
            for &(piece, at) in &pieces {
                if let Piece::Data { len, handshake: true, .. } = piece {
                    without_headers(&mut buffer[at..at + len]);
                }
            }
        }
        let now_ns = monotonic_ns();
        let passed = if may_pass && self.queue.may_be_bypassed() {
            self.pass_now(&buffer[..whole], &pieces, now_ns)
        } else {
            0
        };
        for &(piece, at) in &pieces {
            let end = at + piece.len();
            if end > passed {
                let piece = if at < passed { piece.without_beginning() } else { piece };
                self.queue.push(piece, &buffer[at.max(passed)..end], now_ns);
            }
        }
        self.pieces = pieces;
        self.buffer = buffer;
        self.buffer.copy_within(whole..chunk_len, 0);
        self.kept_back = chunk_len - whole;
    }

    /// Passes bytes that came while nothing was queued, when the policy lets all pass; returns how many
    /// the kernel took.
    fn pass_now(&mut self, bytes: &[u8], pieces: &[(Piece, usize)], now_ns: u64) -> usize {
        let connection = Arc::clone(&self.connection);
        let Some(target) = connection.target_socket(self.direction) else { return 0 };
        let orders = connection.gate(self.direction).enter();
        if bytes.is_empty() || orders.flow != Flow::Forward || !orders.policy.passes() {
            return 0;
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // Whatever is wrong with the target, the next turn meets it again and deals with it.
        let Ok(sent) = send(target.as_raw_fd(), bytes, flags) else { return 0 };
        if let Some(tap) = &mut self.tap {
            tap.passed(&[IoSlice::new(bytes)], sent, now_ns);
        }
        let (mut frames, mut ticks, mut last_ends) = (0, 0, true);
        for &(piece, at) in pieces {
            let complete = at + piece.len() <= sent;
            match piece {
                Piece::Tick if complete => ticks += 1,
                Piece::Data { ends: true, .. } if complete => frames += 1,
                _ => {}
            }
            if at < sent {
                last_ends = complete && !matches!(piece, Piece::Data { ends: false, .. });
            }
        }
        self.queue.passed_by(last_ends);
        let counters = &self.counters;
        counters.bytes_passed.add(sent as u64);
        counters.ticks_passed.add(ticks);
        counters.frames_passed.add(if self.queue.is_raw() { 0 } else { frames });
        if ticks > 0 {
            counters.last_tick_monotonic_ns.set(now_ns);
        }
        if sent as u64 > ticks * 4 {
            counters.last_data_monotonic_ns.set(now_ns);
        }
        sent
    }

    /// Brings `bytes_held` up to date.
    fn account(&mut self) {
        let held = self.queue.bytes();
        match held.checked_sub(self.held) {
            Some(more) => self.counters.bytes_held.add(more as u64),
            None => self.counters.bytes_held.take((self.held - held) as u64),
        }
        self.held = held;
    }
}
