//! `set-full`: what became of every element of a set, over all reads.
//!
//! As Jepsen's `set-full`. For each element: *known* is the moment from which it must be there (its
//! add's ok, or the first read that saw it, whichever is earlier); *last present* and *last absent* are
//! the reads, latest by invocation, that saw it and that missed it (reads that returned before its add
//! was invoked do not count). It is *stable* if seen by a later read than it was missed by; *lost* if
//! missed by a read later than every read that saw it, and invoked after it was known; else *never
//! read*. A stable element that was missed after it was known is *stale*; with `linearizable` that is
//! an anomaly too.
//!
//! **Final reads** (see `finals`) are judged node by node: an element whose add had succeeded before the
//! last final read of a node was invoked, and which that read lacks, is lost on that node for good,
//! whatever other nodes read later. Members that were removed are left out. A node whose final reads all
//! failed leaves the question open: `unknown`.
//!
//! Differences from the original: duplicates are really counted (there the test can never be true);
//! elements that nobody added, or only later, are anomalies (there they are ignored), and so are those
//! whose every add failed (option `failed-adds`). Staleness is decided by the order of records, so that
//! it does not depend on the clock's resolution.
//!
//! **Cost**: linear in the records and the total size of the reads, not elements times reads: reads are
//! walked by invocation, and each element keeps only the unbroken run of reads that end with the last
//! one that saw it; the read before the run is the last that missed it.

use std::cell::LazyCell;

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, FaultLog, History, Value, Verdict};
use serde_json::json;

use crate::budget::{Exhausted, Meter};
use crate::elements::{Added, NONE, SetHistory, about, intervals, read_elements, some};
use crate::finals::{LastReads, Reader};
use crate::independent::INDEPENDENT;
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::set::FAILED_ADDS;
use crate::{Checker, CheckerInfo};

/// What people read about it.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "set-full",
    about: "What became of every element added to a set, over all reads: stable, lost (seen or \
            acknowledged, then missed for good, or missed by the last final read of a node), never \
            read, stale (missed for a while); also elements read twice in one read, and elements that \
            nobody added. Invalid if any is lost, duplicated or unexpected, unknown if none is stable or \
            no final read of a node succeeded.",
    needs: &[
        need("read-count", "no :read succeeded"),
        need("stable-count", "no element that was added was seen to stay"),
    ],
    options: &[
        OptionInfo {
            name: "linearizable",
            default: "false",
            about: "also invalid if an element was missed after it was known (stale)",
        },
        FAILED_ADDS,
        INDEPENDENT,
    ],
};

/// How many anomalies of a kind are told.
const ANOMALIES_MAX: usize = 8;
/// How many reads between two looks at the clock.
const READS_PER_LOOK: usize = 256;

/// The checker.
#[derive(Debug, Clone, Copy)]
pub struct SetFull {
    linearizable: bool,
    forbid_failed: bool,
}

/// Builds it.
pub fn build(options: &Options) -> Result<SetFull, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    Ok(SetFull {
        linearizable: reader.bool("linearizable", false)?,
        forbid_failed: reader.word("failed-adds", &["forbid", "allow"], "forbid")? == "forbid",
    })
}

impl Checker for SetFull {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        self.check_one(history, meter)
    }
}

/// What the reads say of one element. Reads are meant by their rank in order of invocation.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Last read that saw it.
    last: u32,
    /// First of the unbroken run of reads that saw it and ends with `last`.
    run: u32,
    /// Position of the earliest completion of a read that saw it.
    first_completion: u32,
    /// Rank of a read that saw it twice.
    twice_in: u32,
    /// Position of a read that saw it before its add was invoked.
    too_early: u32,
}

const UNSEEN: Seen =
    Seen { last: NONE, run: NONE, first_completion: NONE, twice_in: NONE, too_early: NONE };

/// What became of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stable,
    Lost,
    NeverRead,
}

/// An element's fate with the records that decide it.
#[derive(Debug, Clone, Copy)]
struct Story {
    element: u32,
    fate: Fate,
    known: u32,
    /// Ranks of reads.
    present: u32,
    absent: u32,
    stale: bool,
    latency_ns: i64,
    /// The reader whose last final read lacks it, if that is why it is lost.
    stuck_on: Option<Reader>,
}

/// Elements that had been acknowledged before the read was invoked, and that it lacks. `held_by` is the
/// last of these reads that held each element.
fn lacking(history: &History, set: &SetHistory, rank: u32, held_by: &mut [u32]) -> Vec<u32> {
    let (invoke, completion) = set.reads[rank as usize];
    // Shapes were looked at when the history was read.
    let read = read_elements(&history.ops()[completion as usize]).unwrap_or_default();
    for number in read.iter().filter_map(|element| set.elements.get(element)) {
        if let Some(held_by) = held_by.get_mut(number as usize) {
            *held_by = rank;
        }
    }
    let acknowledged = (0..).zip(&set.added).filter(|(_, added)| added.ok < invoke);
    acknowledged.map(|(number, _)| number).filter(|n| held_by[*n as usize] != rank).collect()
}

/// What the last final read of each node says.
struct AtTheEnd {
    /// For each element a reader that lacks it, with the rank of its last final read.
    lacking: Vec<Option<(Reader, u32)>>,
    /// How many acknowledged elements each reader lacks.
    counts: Vec<(Reader, usize)>,
    /// Nodes whose final reads all failed.
    silent: Vec<String>,
}

impl AtTheEnd {
    fn new(history: &History, set: &SetHistory) -> AtTheEnd {
        let last = LastReads::new(history, &set.reads);
        // Faults are looked at only where they matter: a history may be one of many keys.
        let log = LazyCell::new(|| FaultLog::of(history));
        let mut end = AtTheEnd {
            lacking: vec![None; set.added.len()],
            counts: Vec::new(),
            silent: Vec::new(),
        };
        let mut held_by = vec![NONE; set.added.len()];
        for (&reader, &rank) in &last.by_reader {
            match (rank, reader) {
                (None, Reader::Node(node)) if !log.lasting().contains(node) => {
                    end.silent.push(node.to_owned());
                }
                (None, _) => {}
                (Some(rank), _) => {
                    let lacks = lacking(history, set, rank, &mut held_by);
                    let is_removed = |node: &str| log.removed_members().contains(node);
                    if !lacks.is_empty() && !reader.is_node_that(is_removed) {
                        end.take(reader, rank, &lacks);
                    }
                }
            }
        }
        end
    }

    fn take(&mut self, reader: Reader, rank: u32, lacks: &[u32]) {
        for number in lacks {
            self.lacking[*number as usize].get_or_insert((reader, rank));
        }
        self.counts.push((reader, lacks.len()));
    }

    /// An element that a node lacks at the end is lost, whatever became of it elsewhere.
    fn correct(&self, history: &History, walked: &Walked, story: Story) -> Story {
        match self.lacking.get(story.element as usize) {
            Some(&Some((reader, rank))) if story.fate != Fate::Lost => {
                let time = |position: u32| history.ops()[position as usize].time_ns;
                let until = time(walked.set.reads[rank as usize].0);
                let latency_ns = until.saturating_sub(time(story.known)).max(0);
                let (fate, stuck_on) = (Fate::Lost, Some(reader));
                Story { fate, absent: rank, stale: false, latency_ns, stuck_on, ..story }
            }
            _ => story,
        }
    }

    /// `; at the end n1 lacks 724 and n3 lacks 2`, or nothing.
    fn summary(&self) -> String {
        const SHOWN: usize = 4;
        let lacks = |(reader, count): &(Reader, usize)| format!("{reader} lacks {count}");
        let shown: Vec<String> = self.counts.iter().take(SHOWN).map(lacks).collect();
        match (self.counts.len(), self.counts.len().saturating_sub(SHOWN)) {
            (0, _) => String::new(),
            (_, 0) => format!(" (at the end {})", shown.join(", ")),
            (_, more) => format!(" (at the end {}, and {more} more nodes)", shown.join(", ")),
        }
    }

    fn details(&self) -> serde_json::Value {
        let rows = self.counts.iter().map(|(reader, count)| (reader.to_string(), json!(count)));
        rows.collect::<serde_json::Map<_, _>>().into()
    }
}

/// Reads with what they say.
struct Walked {
    set: SetHistory,
    seen: Vec<Seen>,
    /// Greatest completion among the reads up to each rank.
    completion_max: Vec<u32>,
    duplicates: u64,
}

impl SetFull {
    fn check_one(&self, history: &History, meter: &Meter) -> CheckResult {
        let set = match SetHistory::new(history) {
            Ok(set) => set,
            Err(reason) => return CheckResult::new(INFO.name, Verdict::Unknown, reason),
        };
        let read_count = set.reads.len();
        match walk(history, set, meter) {
            Ok(walked) => self.judge(history, &walked),
            Err((why, done)) => CheckResult::new(
                INFO.name,
                Verdict::Unknown,
                format!("{why} after {done} of {read_count} reads; a larger budget would help"),
            ),
        }
    }

    fn judge(&self, history: &History, walked: &Walked) -> CheckResult {
        let set = &walked.set;
        let finals = AtTheEnd::new(history, set);
        let stories: Vec<Story> = (0..set.added.len() as u32)
            .filter(|n| set.added[*n as usize].invoke != NONE)
            .map(|n| finals.correct(history, walked, story(history, walked, n)))
            .collect();
        let of = |fate| stories.iter().filter(move |s| s.fate == fate);
        // A failed add leaves nothing to lose; an element that is there all the same is unexpected.
        let lost: Vec<&Story> = of(Fate::Lost).collect();
        let stale: Vec<&Story> = stories.iter().filter(|s| s.stale).collect();
        let unexpected: Vec<u32> = (0..set.added.len() as u32)
            .filter(|n| self.is_unexpected(set.added[*n as usize], walked.seen[*n as usize]))
            .collect();
        let twice: Vec<u32> = (0..set.added.len() as u32)
            .filter(|n| walked.seen[*n as usize].twice_in != NONE)
            .collect();
        let stable_count = of(Fate::Stable).count();
        let element = |n: u32| set.elements.value(n);
        let list = |what: &str, numbers: Vec<u32>| {
            let values: Vec<&Value> = numbers.iter().map(|n| element(*n)).collect();
            format!("{} {what}: {}", values.len(), some(values.into_iter()))
        };
        let mut bad = Vec::new();
        if !lost.is_empty() {
            let lost = list("elements lost", lost.iter().map(|s| s.element).collect());
            bad.push(lost + &finals.summary());
        }
        if !twice.is_empty() {
            bad.push(list("read twice in one read", twice.clone()));
        }
        if !unexpected.is_empty() {
            bad.push(list("unexpected", unexpected.clone()));
        }
        if self.linearizable && !stale.is_empty() {
            bad.push(list("stale", stale.iter().map(|s| s.element).collect()));
        }
        let (verdict, reason) = if !bad.is_empty() {
            (Verdict::Invalid, bad.join("; "))
        } else if stable_count == 0 {
            let why = if set.reads.is_empty() {
                "the set was never read"
            } else {
                "no element is stable"
            };
            (Verdict::Unknown, format!("{why}: {} elements were tried", stories.len()))
        } else if !finals.silent.is_empty() {
            (Verdict::Unknown, format!("no final read succeeded on {}", finals.silent.join(", ")))
        } else {
            (
                Verdict::Valid,
                format!("{stable_count} of {} elements are stable, none lost", stories.len()),
            )
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        let counts = [
            ("attempt-count", stories.len() as u64),
            ("acknowledged-count", set.added.iter().filter(|a| a.ok != NONE).count() as u64),
            ("read-count", set.reads.len() as u64),
            ("stable-count", stable_count as u64),
            ("lost-count", lost.len() as u64),
            ("never-read-count", of(Fate::NeverRead).count() as u64),
            ("stale-count", stale.len() as u64),
            ("duplicated-count", twice.len() as u64),
            ("duplicate-reads", walked.duplicates),
            ("unexpected-count", unexpected.len() as u64),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
        let listed = |numbers: &mut dyn Iterator<Item = u32>| {
            intervals(numbers.map(element).collect::<Vec<_>>().into_iter())
        };
        result.details = json!({
            "lost": listed(&mut lost.iter().map(|s| s.element)),
            "never-read": listed(&mut of(Fate::NeverRead).map(|s| s.element)),
            "stale": listed(&mut stale.iter().map(|s| s.element)),
            "duplicated": listed(&mut twice.iter().copied()),
            "unexpected": listed(&mut unexpected.iter().copied()),
            "missing-at-the-end": finals.details(),
            "stable-latencies-ms": quantiles(of(Fate::Stable).map(|s| s.latency_ns)),
            "lost-latencies-ms": quantiles(of(Fate::Lost).map(|s| s.latency_ns)),
        });
        result.anomalies = self.anomalies(walked, &lost, &twice, &unexpected, &stale);
        result
    }

    fn is_unexpected(&self, added: Added, seen: Seen) -> bool {
        let read = seen.last != NONE;
        read && (added.invoke == NONE
            || seen.too_early != NONE
            || self.forbid_failed && added.failed)
    }

    fn anomalies(
        &self,
        walked: &Walked,
        lost: &[&Story],
        twice: &[u32],
        unexpected: &[u32],
        stale: &[&Story],
    ) -> Vec<Anomaly> {
        let set = &walked.set;
        let value = |n: u32| set.elements.value(n);
        let read = |rank: u32| set.reads[rank as usize];
        let mut anomalies = Vec::new();
        for s in lost.iter().take(ANOMALIES_MAX) {
            let (added, (absent, absent_end)) = (set.added[s.element as usize], read(s.absent));
            let last = match s.present {
                NONE => "no read ever saw it".to_owned(),
                rank => format!("the last read that saw it is at record {}", read(rank).0),
            };
            let what = match s.stuck_on {
                Some(reader) => format!("the last final read on {reader}"),
                None => "the read".to_owned(),
            };
            let text = format!(
                "{} was known from record {} on, {last}, and {what} at records {absent} to \
                 {absent_end} missed it for good",
                value(s.element),
                s.known
            );
            let present = if s.present == NONE { NONE } else { read(s.present).1 };
            let ops = [added.invoke, s.known, present, absent, absent_end];
            anomalies.push(about("lost", value(s.element), text, &ops));
        }
        for &n in twice.iter().take(ANOMALIES_MAX) {
            let (from, to) = read(walked.seen[n as usize].twice_in);
            let text = format!("the read at records {from} to {to} holds {} twice", value(n));
            anomalies.push(about("duplicate", value(n), text, &[from, to]));
        }
        for &n in unexpected.iter().take(ANOMALIES_MAX) {
            let (added, seen) = (set.added[n as usize], walked.seen[n as usize]);
            let (at, why) = match (added.invoke, seen.too_early) {
                (NONE, _) => (read(seen.last).1, "nobody ever added it".to_owned()),
                (invoke, NONE) => {
                    (read(seen.last).1, format!("its add (record {invoke}) certainly failed"))
                }
                (invoke, early) => (early, format!("its add was invoked later (record {invoke})")),
            };
            let text = format!("{} was read at record {at}, but {why}", value(n));
            anomalies.push(about("unexpected", value(n), text, &[at, added.invoke]));
        }
        for s in stale.iter().take(if self.linearizable { ANOMALIES_MAX } else { 0 }) {
            let (absent, absent_end) = read(s.absent);
            let text = format!(
                "{} was known from record {} on, but the read at records {absent} to {absent_end} \
                 missed it ({:.1} ms later), before it was seen again",
                value(s.element),
                s.known,
                s.latency_ns as f64 / 1e6
            );
            let ops = [set.added[s.element as usize].invoke, s.known, absent, absent_end];
            anomalies.push(about("stale", value(s.element), text, &ops));
        }
        anomalies
    }
}

/// Walks the reads in order of invocation.
fn walk(
    history: &History,
    mut set: SetHistory,
    meter: &Meter,
) -> Result<Walked, (Exhausted, usize)> {
    let reads = std::mem::take(&mut set.reads);
    let mut seen = vec![UNSEEN; set.added.len()];
    let mut completion_max = Vec::with_capacity(reads.len());
    let (mut max, mut duplicates) = (0, 0);
    for (rank, &(_, completion)) in reads.iter().enumerate() {
        if rank % READS_PER_LOOK == 0 {
            meter.check_time().map_err(|why| (why, rank))?;
        }
        let rank = rank as u32;
        max = completion.max(max);
        completion_max.push(max);
        // Shapes were looked at when the history was read.
        for element in read_elements(&history.ops()[completion as usize]).unwrap_or_default() {
            let number = set.element(element) as usize;
            if number == seen.len() {
                seen.push(UNSEEN);
            }
            let (seen, added) = (&mut seen[number], &set.added[number]);
            if seen.last == rank {
                seen.twice_in = rank;
                duplicates += 1;
                continue;
            }
            if seen.last == NONE || seen.last + 1 != rank {
                seen.run = rank;
            }
            seen.last = rank;
            seen.first_completion = seen.first_completion.min(completion);
            if added.invoke != NONE && completion < added.invoke {
                seen.too_early = completion;
            }
        }
    }
    set.reads = reads;
    Ok(Walked { set, seen, completion_max, duplicates })
}

fn story(history: &History, walked: &Walked, element: u32) -> Story {
    let (added, seen) = (walked.set.added[element as usize], walked.seen[element as usize]);
    let reads = &walked.set.reads;
    // NONE is greater than every position.
    let known = added.ok.min(seen.first_completion);
    let absent = last_absent(history, walked, element);
    // Positions of invocations, -1 for none.
    let at = |rank: u32| if rank == NONE { -1 } else { i64::from(reads[rank as usize].0) };
    let (present_at, absent_at) = (at(seen.last), at(absent));
    let missed_after_known = absent != NONE && known != NONE && i64::from(known) < absent_at;
    let fate = if seen.last != NONE && absent_at < present_at {
        Fate::Stable
    } else if missed_after_known && present_at < absent_at {
        Fate::Lost
    } else {
        Fate::NeverRead
    };
    let time = |position: u32| history.ops()[position as usize].time_ns;
    let until = match (fate, absent, seen.last) {
        (Fate::Stable, rank, _) | (Fate::Lost, _, rank) if rank != NONE => {
            time(reads[rank as usize].0).saturating_add(1)
        }
        _ => 0,
    };
    let latency_ns = if known == NONE { 0 } else { until.saturating_sub(time(known)).max(0) };
    let stale = fate == Fate::Stable && missed_after_known;
    let stuck_on = None;
    Story { element, fate, known, present: seen.last, absent, stale, latency_ns, stuck_on }
}

/// Rank of the last read that missed the element and did not return before its add was invoked.
fn last_absent(history: &History, walked: &Walked, element: u32) -> u32 {
    let (added, seen) = (walked.set.added[element as usize], walked.seen[element as usize]);
    let reads = &walked.set.reads;
    let last_rank = reads.len().wrapping_sub(1);
    let from = if reads.is_empty() {
        return NONE;
    } else if seen.last as usize == last_rank {
        match seen.run.checked_sub(1) {
            Some(rank) => rank as usize,
            None => return NONE,
        }
    } else {
        last_rank
    };
    // Only reads that were open when the add was invoked can be skipped on the way down: few.
    for rank in (0..=from).rev() {
        if walked.completion_max[rank] < added.invoke {
            return NONE;
        }
        if reads[rank].1 > added.invoke && misses(history, walked, element, rank) {
            return rank as u32;
        }
    }
    NONE
}

fn misses(history: &History, walked: &Walked, element: u32, rank: usize) -> bool {
    let seen = walked.seen[element as usize];
    let rank_number = rank as u32;
    // Outside the run and after it, what the walk kept is enough.
    if seen.last == NONE || rank_number > seen.last || rank_number + 1 == seen.run {
        return true;
    }
    if rank_number >= seen.run {
        return false;
    }
    let value = walked.set.elements.value(element);
    let completion = &history.ops()[walked.set.reads[rank].1 as usize];
    !read_elements(completion).unwrap_or_default().contains(value)
}

/// Quantiles 0, .5, .95, .99 and 1 in milliseconds; null without values.
fn quantiles(latencies_ns: impl Iterator<Item = i64>) -> serde_json::Value {
    let mut sorted: Vec<i64> = latencies_ns.collect();
    if sorted.is_empty() {
        return serde_json::Value::Null;
    }
    sorted.sort_unstable();
    let at = |q: f64| {
        let place = ((sorted.len() as f64 * q) as usize).min(sorted.len() - 1);
        sorted[place] as f64 / 1e6
    };
    json!({"0": at(0.0), "0.5": at(0.5), "0.95": at(0.95), "0.99": at(0.99), "1": at(1.0)})
}
