//! `lock`: mutual exclusion, and fencing tokens that increase. `mutex`: the plain object.
//!
//! Functions: `acquire` (or `lock`), whose ok value may be a fencing token or a map with `:fence` or
//! `:token` and `:client`; `release` (`unlock`); `renew` (`keepalive`) of a lease. As the models of the
//! Hazelcast tests (owner-aware, reentrant, fenced, and both; semaphores) decide it, but in log-linear time:
//! - no two owners (with `permits=n`, no n + 1) hold it at the same time for certain: `mutual-exclusion`;
//!   [`holds`] says what is certain, and why that decides it exactly;
//! - an owner does not acquire what it holds: `reacquired`, unless `reentrant`;
//! - an owner does not release what it does not hold: `release-not-held`;
//! - a token is greater than those of all holds before it, by real time or since holds exclude each
//!   other: `token-not-increasing` (Kleppmann, "How to do distributed locking", 2016).
//!
//! With a lease a hold is only certain while its lease cannot have run out, so that two who each
//! believe they hold the lock are no anomaly, but their tokens must still increase.
//!
//! **Limits.** Failed operations did nothing, whatever their error says. Exact for owners that are
//! processes and do not reenter; after an indeterminate operation within a reentrant hold, or of a client
//! that comes back under the same name, some violations can be missed, none is made up.
//!
//! `mutex` is `linearizable` with the model mutex, where anybody may release.

mod holds;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fuzz_dist_core::number::Exact;
use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Value, Verdict};

use crate::budget::Meter;
use crate::elements::NONE;
use crate::independent::INDEPENDENT;
use crate::linearizable::{self, Linearizable};
use crate::lock::holds::{Hold, Holds, Misuse, Moment, Rules, names_clients};
use crate::needs::need;
use crate::options::{OptionError, OptionInfo, OptionReader};
use crate::{Checker, CheckerInfo, or_not_checked};

/// What people read about `lock`.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "lock",
    about: "Whether a lock (acquire, release, renew) is held by one owner at a time, released only by its \
            owner, and gives fencing tokens that increase (the ok value of acquire: a number, or a map \
            with :fence or :token). Indeterminate operations may have happened or not.",
    needs: &[need("holds", "no :acquire (or :lock) succeeded")],
    options: &[
        OptionInfo {
            name: "owner",
            default: "auto",
            about: "process; client, which values name as :client; or auto: client if any value names one",
        },
        OptionInfo {
            name: "reentrant",
            default: "false",
            about: "whether an owner may acquire what it holds (true), or how often (a number)",
        },
        OptionInfo {
            name: "permits",
            default: "1",
            about: "how many may hold it at the same time (a semaphore)",
        },
        OptionInfo {
            name: "lease-ms",
            default: "none",
            about: "a hold is only certain for this long after the invocation of its acquire or renew",
        },
        OptionInfo {
            name: "fencing",
            default: "true",
            about: "whether tokens, where there are any, must increase",
        },
        INDEPENDENT,
    ],
};

/// What people read about `mutex`.
pub const MUTEX: CheckerInfo = CheckerInfo {
    name: "mutex",
    about: "Whether acquire and release are those of a linearizable mutex that anybody may release: the \
            same as linearizable with model=mutex. The checker lock knows owners, leases and tokens.",
    needs: &[need("operations-ok", "no :acquire and no :release succeeded")],
    options: &[INDEPENDENT],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;

/// Builds `mutex`.
pub fn build_mutex(options: &Options) -> Result<Mutex, OptionError> {
    OptionReader::new(MUTEX.name, options, MUTEX.options)?;
    let mut options = options.clone();
    options.insert("model".into(), "mutex".into());
    Ok(Mutex(linearizable::build(&options)?))
}

/// The checker `mutex`.
#[derive(Debug)]
pub struct Mutex(Linearizable);

impl Checker for Mutex {
    fn name(&self) -> &'static str {
        MUTEX.name
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        CheckResult { checker: MUTEX.name.into(), ..self.0.decide(history, meter) }
    }
}

/// The checker `lock`.
#[derive(Debug, Clone, Copy)]
pub struct Lock {
    /// `None`: as the values are.
    by_client: Option<bool>,
    depth_max: u64,
    permits: usize,
    lease_ns: Option<i64>,
    fencing: bool,
}

/// Builds `lock`.
pub fn build(options: &Options) -> Result<Lock, OptionError> {
    let reader = OptionReader::new(INFO.name, options, INFO.options)?;
    let by_client = match reader.word("owner", &["auto", "process", "client"], "auto")? {
        "auto" => None,
        owner => Some(owner == "client"),
    };
    let depth_max = match reader.raw("reentrant") {
        Some(given) if reader.bool("reentrant", false).is_err() => {
            let expected = "true, false, or how often (at least 1)";
            let depth = reader.int("reentrant", 1).ok().and_then(|n| u64::try_from(n).ok());
            let depth = depth.filter(|depth| *depth > 0);
            depth.ok_or_else(|| reader.bad("reentrant", given, expected, String::new()))?
        }
        _ if reader.bool("reentrant", false)? => u64::MAX,
        _ => 1,
    };
    let permits = usize::try_from(reader.int("permits", 1)?).unwrap_or(0);
    if let Some(given) =
        reader.raw("permits").filter(|_| permits == 0 || permits > 1 && depth_max > 1)
    {
        let expected = "at least 1, and 1 for a reentrant lock";
        return Err(reader.bad("permits", given, expected, String::new()));
    }
    let lease_ns = match reader.raw("lease-ms") {
        None => None,
        // The bound keeps the sum with any time in range.
        Some(_) => Some((reader.number("lease-ms", 0.0)?.min(1e12) * 1e6) as i64),
    };
    let fencing = reader.bool("fencing", true)?;
    Ok(Lock { by_client, depth_max, permits, lease_ns, fencing })
}

impl Checker for Lock {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn decide(&self, history: &History, _: &Meter) -> CheckResult {
        let rules = Rules {
            depth_max: self.depth_max,
            permits: self.permits,
            lease_ns: self.lease_ns,
            by_client: self.by_client.unwrap_or_else(|| names_clients(history)),
        };
        or_not_checked(INFO.name, Holds::new(history, rules).map(|holds| self.judge(holds)))
    }
}

/// What was found.
#[derive(Default)]
struct Findings {
    anomalies: Vec<Anomaly>,
    count: u64,
}

impl Findings {
    fn add(&mut self, name: &str, owner: &Value, text: String, ops: &[u32]) {
        self.count += 1;
        if self.anomalies.len() < ANOMALIES_MAX {
            self.anomalies.push(Anomaly {
                name: name.into(),
                key: Some(owner.to_string()),
                text,
                ops: ops.iter().filter(|op| **op != NONE).map(|op| u64::from(*op)).collect(),
                ..Anomaly::default()
            });
        }
    }
}

impl Lock {
    fn judge(&self, mut all: Holds) -> CheckResult {
        let mut found = Findings::default();
        all.holds.sort_by_key(|hold| hold.start);
        let max_at_once = exclusion(&all.holds, self.permits, &mut found);
        let cores: Vec<&Hold> = all.holds.iter().filter(|hold| hold.has_core()).collect();
        for moment in all.moments.iter().filter(|_| self.permits == 1) {
            held_by_another(moment, &cores, &mut found);
        }
        for misuse in &all.misuses {
            misused(misuse, self.fencing, &mut found);
        }
        if self.fencing && self.permits == 1 {
            tokens(&all.holds, &mut found);
        }
        let (verdict, reason) = match found.anomalies.first() {
            Some(first) => {
                let more = found.count - 1;
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                (Verdict::Invalid, format!("{}: {}{more}", first.name, first.text))
            }
            None if self.fencing && all.odd_token.is_some() => {
                (Verdict::Unknown, all.odd_token.take().unwrap_or_default())
            }
            None => {
                let text = format!(
                    "{} acquisitions, at most {max_at_once} held at the same time for certain",
                    all.holds.len()
                );
                (Verdict::Valid, text)
            }
        };
        let mut result = CheckResult::new(INFO.name, verdict, reason);
        let tokens = all.holds.iter().filter(|hold| hold.token.is_some()).count();
        let counts = [
            ("holds", all.holds.len() as u64),
            ("held-at-once-max", max_at_once as u64),
            ("tokens", tokens as u64),
            ("anomalies", found.count),
        ];
        result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
        result.anomalies = found.anomalies;
        result
    }
}

fn until(hold: &Hold) -> String {
    match hold.end {
        NONE => "to the end".to_owned(),
        end => format!("to record {end} at least"),
    }
}

/// Finds cores that overlap too often, in order of their beginnings; how many did at most.
fn exclusion(holds: &[Hold], permits: usize, found: &mut Findings) -> usize {
    let mut active: BinaryHeap<Reverse<(u32, usize)>> = BinaryHeap::new();
    let mut max = 0;
    for (i, hold) in holds.iter().enumerate().filter(|(_, hold)| hold.has_core()) {
        while active.peek().is_some_and(|Reverse((end, _))| *end <= hold.start) {
            active.pop();
        }
        max = max.max(active.len() + 1);
        if active.len() >= permits {
            let others: Vec<&Hold> = active
                .iter()
                .take(permits.min(4))
                .map(|Reverse((_, other))| &holds[*other])
                .collect();
            let who: Vec<String> = others
                .iter()
                .map(|other| {
                    format!(
                        "owner {} held the lock from record {} {}",
                        other.owner,
                        other.start,
                        until(other)
                    )
                })
                .collect();
            let text = format!(
                "{}, and owner {} acquired it at record {} and held it {}",
                who.join(", "),
                hold.owner,
                hold.start,
                until(hold)
            );
            let mut ops = vec![hold.invoke, hold.start];
            ops.extend(others.iter().flat_map(|other| [other.invoke, other.start, other.end]));
            ops.push(hold.end);
            found.add("mutual-exclusion", &hold.owner, text, &ops);
        }
        active.push(Reverse((hold.end, i)));
    }
    max
}

/// What can only have been held while somebody else held it.
fn held_by_another(moment: &Moment, cores: &[&Hold], found: &mut Findings) {
    let covers = |hold: &&&Hold| {
        hold.start < moment.invoke && hold.end > moment.ok && hold.owner != moment.owner
    };
    // The last that began before it; earlier ones that still last overlap this one and are told already.
    let before = cores.partition_point(|hold| hold.start < moment.invoke);
    let Some(hold) = cores[..before].last().filter(covers) else { return };
    let text = format!(
        "owner {} had the lock at some moment of records {} to {}, but owner {} held it from record {} {}",
        moment.owner,
        moment.invoke,
        moment.ok,
        hold.owner,
        hold.start,
        until(hold)
    );
    let ops = [moment.acquire, moment.invoke, moment.ok, hold.invoke, hold.start, hold.end];
    found.add("mutual-exclusion", &moment.owner, text, &ops);
}

fn misused(misuse: &Misuse, fencing: bool, found: &mut Findings) {
    match misuse {
        Misuse::Reacquired { owner, first, again, depth } => {
            let times = if *depth > 1 { format!(" {depth} times") } else { String::new() };
            let text = format!(
                "owner {owner} acquired the lock at record {} while it held it{times}, since record {first}",
                again.1
            );
            found.add("reacquired", owner, text, &[*first, again.0, again.1]);
        }
        Misuse::NotHeld { owner, release } => {
            let text = format!(
                "owner {owner} released the lock at records {} to {}, but did not hold it",
                release.0, release.1
            );
            found.add("release-not-held", owner, text, &[release.0, release.1]);
        }
        Misuse::OtherToken { owner, first, again, tokens } if fencing => {
            let text = format!(
                "owner {owner} held the lock with token {} since record {first} and was given token {} for it \
                 at record {}",
                tokens.0, tokens.1, again.1
            );
            found.add("token-not-increasing", owner, text, &[*first, again.0, again.1]);
        }
        Misuse::OtherToken { .. } => {}
    }
}

/// Each token is greater than those of all holds that certainly came before. `holds` are in order of
/// `start`.
fn tokens(holds: &[Hold], found: &mut Findings) {
    let token = |i: usize| holds[i].token.as_ref().map(|token| (token, i));
    // By real time: acquisitions that had succeeded before this one was invoked.
    let mut by_invoke: Vec<usize> = (0..holds.len()).collect();
    by_invoke.sort_by_key(|i| holds[*i].invoke);
    let mut before: Vec<Option<(&Exact, usize)>> = vec![None; holds.len()];
    let (mut done, mut greatest) = (0, None);
    for i in by_invoke {
        while done < holds.len() && holds[done].start < holds[i].invoke {
            greatest = greatest.max(token(done));
            done += 1;
        }
        before[i] = greatest;
    }
    // Since holds exclude each other: those that had ended before this one was certain.
    let mut active: BinaryHeap<Reverse<(u32, usize)>> = BinaryHeap::new();
    let mut greatest = None;
    for (i, hold) in holds.iter().enumerate().filter(|(_, hold)| hold.has_core()) {
        while let Some(Reverse((_, other))) = active.peek().copied().filter(|r| r.0.0 <= hold.start)
        {
            active.pop();
            greatest = greatest.max(token(other));
        }
        before[i] = before[i].max(greatest);
        active.push(Reverse((hold.end, i)));
    }
    for (hold, before) in holds.iter().zip(before) {
        let (Some(token), Some((greatest, other))) = (&hold.token, before) else { continue };
        let other = &holds[other];
        // An indeterminate acquisition may have kept one hold of a reentrant lock, and its token.
        let kept = hold.inner && hold.owner == other.owner && token == greatest;
        if token <= greatest && !kept {
            let text = format!(
                "owner {} acquired the lock at record {} with token {token}, after owner {} had it with token \
                 {greatest} from record {} on",
                hold.owner, hold.start, other.owner, other.start
            );
            let ops = [other.invoke, other.start, hold.invoke, hold.start];
            found.add("token-not-increasing", &hold.owner, text, &ops);
        }
    }
}
