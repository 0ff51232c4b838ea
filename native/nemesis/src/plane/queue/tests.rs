//! The queue under policies that change, and what each of its faults does to pieces.

use super::*;
use crate::plane::framing::Writer;
use crate::plane::policy::Delay;
use fuzz_dist_core::fault::{Distribution, LinkFault};
use fuzz_dist_core::seed::Seed;
use rand::RngExt;

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

fn draw_delay(random: &mut Stream) -> Delay {
    let distribution = match random.random_range(0..3) {
        0 => Distribution::Uniform,
        1 => Distribution::Normal,
        _ => Distribution::Pareto,
    };
    Delay { latency_ns: 1_000, jitter_ns: 5_000, distribution }
}

fn draw_policy(random: &mut Stream) -> Policy {
    Policy {
        hold: random.random_bool(0.1),
        hold_data: random.random_bool(0.3),
        drop_ticks: random.random_bool(0.1),
        bytes_per_s: random.random_bool(0.2).then_some(1_000_000),
        forge_ticks: random.random_bool(0.3),
        heal_lag: random.random_bool(0.3),
        delay: random.random_bool(0.2).then_some(draw_delay(random)),
        ..Policy::default()
    }
}

struct Bench {
    queue: Queue,
    random: Stream,
    output: Vec<u8>,
    dropped: usize,
    forged: usize,
    now_ns: u64,
}

impl Bench {
    /// Passes what may pass, in pieces as small as a kernel may take.
    fn drain(&mut self, policy: &Policy) -> Choice {
        loop {
            let sorted = self.queue.prepare(policy, self.now_ns);
            assert_eq!(sorted, Sorted::default());
            match self.queue.choose(policy, self.now_ns) {
                Choice::Forge => {
                    self.queue.forge_tick(self.now_ns);
                    self.forged += 1;
                }
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
        let mut bench =
            Bench { queue, random, output: Vec::new(), dropped: 0, forged: 0, now_ns: 1 };
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
        while bench.drain(&Policy::default()) != Choice::End(End::Fin) {
            bench.now_ns += 1_000_000_000; // A hold may have left a back-off behind.
        }
        assert_eq!(bench.queue.bytes(), 0);
        let (passed, passed_ticks) = parse(&bench.output);
        assert!(passed == frames, "round {round}: frames were lost, changed or swapped");
        assert_eq!(passed_ticks + bench.dropped, ticks + bench.forged, "round {round}");
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
    let piece = |ends| Piece::Data { len: 6, ends, handshake: false, operation: None };
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
    let distribution = Distribution::Uniform;
    let delay = Some(Delay { latency_ns: 5_000, jitter_ns: 0, distribution });
    let policy = Policy { delay, ..Policy::default() };
    assert_eq!(queue.choose(&policy, 2_000), Choice::At(6_000));
    assert_eq!(queue.choose(&Policy::default(), 2_000), Choice::End(End::Rst));
}

const MS: u64 = 1_000_000;

#[test]
fn what_a_hold_kept_waits_as_long_as_retransmissions_would() {
    assert_eq!(next_attempt_ns(1_000 * MS, 1_000 * MS, RETRANSMIT_NS), 1_200 * MS);
    assert_eq!(next_attempt_ns(1_000 * MS, 1_200 * MS, RETRANSMIT_NS), 1_600 * MS);
    assert_eq!(next_attempt_ns(1_000 * MS, 2_399 * MS, RETRANSMIT_NS), 2_400 * MS);
    assert_eq!(
        next_attempt_ns(0, 600_000 * MS, RETRANSMIT_NS),
        684_600 * MS,
        "at most 120 s apart"
    );

    let hold = Policy::of(&[LinkFault::Hold { heal_lag: true }]);
    let open = Policy::default();
    let data = Piece::Data { len: 6, ends: true, handshake: false, operation: None };
    let mut queue = loaded(&[(data, b"\0\0\0\x02xy")]);
    let mut at = |policy: &Policy, ms: u64| {
        queue.prepare(policy, ms * MS);
        queue.choose(policy, ms * MS)
    };
    assert_eq!(at(&hold, 1_000), Choice::Held);
    assert_eq!(at(&hold, 1_900), Choice::Held);
    // Tried at 1.2, 1.6, 2.4 s, in vain until the heal at 1.9 s.
    assert_eq!(at(&open, 1_900), Choice::At(2_400 * MS));
    // Another hold before that: the next attempt is at 4.0 s, whatever kind of hold it is.
    assert_eq!(at(&Policy::of(&[LinkFault::HOLD]), 2_300), Choice::Held);
    assert_eq!(at(&open, 2_500), Choice::At(4_000 * MS));
    let send = Choice::Send { first: 0, count: 1, bytes_max: usize::MAX };
    assert_eq!(at(&open, 4_000), send);
    // Progress: the next loss begins with 200 ms again.
    assert_eq!(at(&hold, 5_000), Choice::Held);
    assert_eq!(at(&open, 5_050), Choice::At(5_200 * MS));
}

/// A frame that carries its number behind the operation.
fn message(operation: u8, number: u8, len: usize) -> Vec<u8> {
    let mut body = vec![112, 131, 104, 2, 97, operation, number];
    body.resize(len.max(7), number);
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// Messages of random operations and lengths come in random chunks, under faults of messages that come and go:
/// those of other operations keep their order, none is cut, and what is missing was dropped.
#[test]
fn single_messages_vanish_or_come_late_and_the_others_keep_their_order() {
    const DROPPED: u8 = 2;
    const DELAYED: u8 = 6;
    const KEPT: u8 = 19;
    let drop = LinkFault::DropMessages { operations: vec!["SEND".into()], probability: 0.5 };
    let delay = LinkFault::DelayMessages { operations: vec!["REG_SEND".into()], latency_ms: 1 };
    let policies = [
        Policy::default(),
        Policy::of(std::slice::from_ref(&drop)),
        Policy::of(std::slice::from_ref(&delay)),
        Policy::of(&[drop, delay]),
        Policy { hold: true, ..Policy::default() },
    ];
    let (mut dropped_of_all, mut overtaken) = (0, 0);
    for round in 0..300 {
        let mut random = Seed(7).stream("messages", round);
        let mut input = vec![0, 2, b'N', 1, 0, 1, b'r'];
        let mut sent = Vec::new();
        for number in 0..60u8 {
            let operation = [DROPPED, DELAYED, KEPT][random.random_range(0..3)];
            input.extend(message(operation, number, random.random_range(1..200)));
            sent.push((operation, number));
            if random.random_bool(0.2) {
                input.extend(TICK);
            }
        }
        let mut queue = Queue::new(Framer::new(Writer::Opener), Seed(8).stream("jitter", round));
        let (mut output, mut pending, mut policy, mut now_ns) =
            (Vec::new(), Vec::new(), policies[0], 1);
        let mut sorted = Sorted::default();
        let mut rest = &input[..];
        let mut patience = 10_000;
        loop {
            patience -= 1;
            assert!(patience > 0, "round {round}: the queue is stuck");
            let len = random.random_range(0..=150).min(rest.len());
            pending.extend_from_slice(&rest[..len]);
            rest = &rest[len..];
            let mut pieces = Vec::new();
            let whole = queue.split(&pending, |piece, at| pieces.push((piece, at)));
            for (piece, at) in pieces {
                queue.push(piece, &pending[at..at + piece.len()], now_ns);
            }
            pending.drain(..whole);
            if random.random_bool(0.3) {
                policy = policies[random.random_range(0..policies.len())];
            }
            now_ns += random.random_range(0..MS);
            loop {
                let more = queue.prepare(&policy, now_ns);
                sorted.dropped += more.dropped;
                sorted.delayed += more.delayed;
                let Choice::Send { first, count, bytes_max } = queue.choose(&policy, now_ns) else {
                    break;
                };
                let offered: Vec<u8> = queue
                    .slices(first, count, bytes_max)
                    .iter()
                    .flat_map(|slice| slice.iter().copied())
                    .collect();
                let taken = random.random_range(1..=offered.len());
                output.extend(&offered[..taken]);
                queue.sent(first, taken, &policy, now_ns);
            }
            if rest.is_empty() && queue.is_empty() {
                break;
            }
        }
        assert!(queue.may_be_bypassed() && queue.bytes() == 0 && pending.is_empty());
        let (frames, _) = parse(&output);
        let passed: Vec<(u8, u8)> = frames[2..].iter().map(|frame| (frame[9], frame[10])).collect();
        for (frame, (operation, number)) in frames[2..].iter().zip(&passed) {
            assert_eq!(*frame, message(*operation, *number, frame.len() - 4), "it was changed");
        }
        let of = |all: &[(u8, u8)], wanted: u8| -> Vec<u8> {
            all.iter().filter(|(of, _)| *of == wanted).map(|(_, number)| *number).collect()
        };
        assert_eq!(
            of(&passed, KEPT),
            of(&sent, KEPT),
            "round {round}: the others kept their order"
        );
        let mut late = of(&passed, DELAYED);
        overtaken += usize::from(!passed.is_sorted_by_key(|(_, number)| *number));
        late.sort_unstable();
        assert_eq!(late, of(&sent, DELAYED), "round {round}: what is late comes all the same");
        let dropped = of(&sent, DROPPED).len() - of(&passed, DROPPED).len();
        assert!(of(&passed, DROPPED).is_sorted());
        assert_eq!(dropped as u64, sorted.dropped, "round {round}");
        dropped_of_all += dropped;
    }
    assert!(dropped_of_all > 300 && overtaken > 100, "{dropped_of_all} {overtaken}");
}
