//! Realtime lag: how long a consumer has certainly been behind the end of a key.
//!
//! When a poll is invoked, everything up to some offset is known to be in the log since some completion told
//! an offset as high. The lag of a key is the time from the moment at which the message behind the highest
//! that this process has polled was known to exist, to the invocation of a poll that does not return it: a
//! lower bound, as Jepsen's. Unlike there, sends that may have been aborted, and what a process sent
//! itself, tell nothing.

use fuzz_dist_core::OpType;
use rustc_hash::FxHashMap;

use crate::kafka::ops::{Log, Step, UNKNOWN};
use crate::kafka::versions::Committed;

/// The lag of a key in one poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// When the poll began, in nanoseconds.
    pub time_ns: i64,
    /// Who polled.
    pub process: i64,
    /// The key.
    pub key: u32,
    /// How long, in nanoseconds.
    pub lag_ns: i64,
    /// The operation.
    pub txn: u32,
    /// The highest offset that was polled, -1 for none.
    pub offset: i64,
}

/// When each key was known to reach an offset: offsets and times, both ascending.
struct Known(Vec<Vec<(i64, i64)>>);

impl Known {
    fn new(log: &Log, committed: &Committed, steps: &[Step]) -> Known {
        let mut known: Vec<Vec<(i64, i64)>> = vec![Vec::new(); log.key_count()];
        let mut learn = |key: u32, offset: i64, time_ns: i64| {
            let known = &mut known[key as usize];
            if offset != UNKNOWN && known.last().is_none_or(|(highest, _)| *highest < offset) {
                known.push((offset, time_ns));
            }
        };
        for step in steps {
            let Step::Txn(txn) = *step else { continue };
            if log.outcome(txn) == OpType::Fail {
                continue;
            }
            let time_ns = log.history.ops()[log.record(txn) as usize].time_ns;
            for sent in log.sent_by(txn) {
                if committed.holds(log, txn, sent.message) {
                    learn(log.key_of(sent.message), sent.offset, time_ns);
                }
            }
            for place in log.polled_by(txn) {
                learn(log.key_of(place.message), place.offset, time_ns);
            }
        }
        Known(known)
    }

    /// Since when there was something behind an offset.
    fn behind(&self, key: u32, offset: i64) -> i64 {
        let known = &self.0[key as usize];
        let place = known.partition_point(|(highest, _)| *highest <= offset);
        known.get(place).map_or(i64::MAX, |(_, time_ns)| *time_ns)
    }
}

/// How far a process has polled a key, and since when there was more.
#[derive(Clone, Copy)]
struct Reached {
    offset: i64,
    more_since_ns: i64,
}

/// Tells the lag of every key that a process has, at each of its polls that succeeded. Nothing is told of a
/// history without times.
pub fn each(log: &Log, committed: &Committed, steps: &[Step], mut tell: impl FnMut(Lag)) {
    let ops = log.history.ops();
    if log.txns.iter().any(|txn| ops[txn.invoke as usize].time_ns < 0) {
        return;
    }
    let known = Known::new(log, committed, steps);
    let mut processes: FxHashMap<i64, FxHashMap<u32, Reached>> = FxHashMap::default();
    for step in steps {
        match *step {
            Step::Assignment(number) => {
                let change = &log.assignments[number as usize];
                if change.outcome != OpType::Ok {
                    continue;
                }
                let before = processes.remove(&change.process).unwrap_or_default();
                let mut now = FxHashMap::default();
                // Which partitions of its topics a subscriber gets, only its polls show.
                if !change.is_subscribe {
                    for key in &change.keys {
                        let fresh = Reached { offset: -1, more_since_ns: known.behind(*key, -1) };
                        now.insert(*key, before.get(key).copied().unwrap_or(fresh));
                    }
                }
                processes.insert(change.process, now);
            }
            Step::Txn(txn) => {
                let op = &log.txns[txn as usize];
                if op.outcome != OpType::Ok || !polls(log, txn) {
                    continue;
                }
                let time_ns = ops[op.invoke as usize].time_ns;
                let reached = processes.entry(op.process).or_default();
                for place in log.polled_by(txn).iter().filter(|place| place.offset != UNKNOWN) {
                    let key = log.key_of(place.message);
                    let fresh = Reached { offset: -1, more_since_ns: i64::MAX };
                    let reached = reached.entry(key).or_insert(fresh);
                    if reached.offset < place.offset {
                        let more_since_ns = known.behind(key, place.offset);
                        *reached = Reached { offset: place.offset, more_since_ns };
                    }
                }
                for (key, reached) in reached.iter() {
                    let lag_ns = time_ns.saturating_sub(reached.more_since_ns).max(0);
                    let (key, offset) = (*key, reached.offset);
                    tell(Lag { time_ns, process: op.process, key, lag_ns, txn, offset });
                }
            }
        }
    }
}

/// Whether an operation polls, be it that it got nothing.
fn polls(log: &Log, txn: u32) -> bool {
    let op = &log.history.ops()[log.record(txn) as usize];
    matches!(op.f.as_str(), "poll" | "txn")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz_dist_core::interop;

    #[test]
    fn lags_of_a_consumer_that_is_assigned_and_assigned_again() {
        let line = |time: i64, process: i64, rest: &str| {
            format!("{{:time {time}, :process {process}, {rest}}}\n")
        };
        let mut time = -1;
        let mut text = String::new();
        let mut both = |process: i64, f: &str, argument: &str, result: &str| {
            let kind = if f == "info" { ("info", "send") } else { ("ok", f) };
            time += 1;
            text +=
                &line(time, process, &format!(":type :invoke, :f :{}, :value {argument}", kind.1));
            time += 1;
            let rest = format!(":type :{}, :f :{}, :value {result}", kind.0, kind.1);
            text += &line(time, process, &rest);
        };
        both(0, "assign", "[:x]", "[:x]");
        both(0, "poll", "[[:poll]]", "[[:poll {:x []}]]");
        both(0, "send", "[[:send :x :a]]", "[[:send :x [0 :a]]]");
        both(0, "poll", "[[:poll]]", "[[:poll {:x []}]]");
        both(1, "send", "[[:send :x :c] [:send :x :d]]", "[[:send :x [2 :c]] [:send :x [3 :d]]]");
        both(0, "poll", "[[:poll]]", "[[:poll]]");
        both(0, "poll", "[[:poll]]", "[[:poll {:x [[0 :a] [1 :b]]}]]");
        both(0, "assign", "[:x :y]", "[:x :y]");
        both(0, "poll", "[[:poll]]", "[[:poll {}]]");
        both(0, "assign", "[:y]", "[:y]");
        both(0, "assign", "[:x]", "[:x]");
        both(0, "poll", "[[:poll]]", "[[:poll {}]]");
        let all = "[[:poll {:x [[0 :a] [1 :b]]}] [:poll {:x [[2 :c] [3 :d]]}]]";
        both(0, "poll", "[[:poll] [:poll]]", all);
        both(1, "info", "[[:send :x :b]]", "[[:send :x :b]]");
        let loaded = interop::load_bytes("lags.edn", text.as_bytes(), None).unwrap();
        let log = Log::new(&loaded.history).unwrap();
        let committed = Committed::new(&log, true);
        let mut lags = Vec::new();
        each(&log, &committed, &log.steps(), |lag| {
            lags.push((lag.time_ns, log.key(lag.key).to_string(), lag.lag_ns));
        });
        lags.sort();
        let wanted = [
            (2, ":x", 0),
            (6, ":x", 1),
            (10, ":x", 5),
            (12, ":x", 3),
            (16, ":x", 7),
            (16, ":y", 0),
            (22, ":x", 17),
            (24, ":x", 0),
        ];
        let wanted: Vec<_> = wanted.map(|(time, key, lag)| (time, key.to_owned(), lag)).into();
        assert_eq!(lags, wanted);
    }
}
