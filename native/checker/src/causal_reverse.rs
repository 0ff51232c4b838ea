//! `causal-reverse` and `comments`: a later write is visible, and an earlier one is not.
//!
//! As `jepsen.tests.causal-reverse` and the `comments` test of CockroachDB and elle-cli, which are the
//! same check. Unique values are written blindly (`write v`) and read all at once (`read`, a
//! collection). Strict serializability forbids a read that holds a value and misses another whose
//! write had succeeded before the first one's was invoked. What a read misses without holding anything
//! later, a stale read, is allowed here.
//!
//! **Method.** What a read must hold are the writes that succeeded before the latest invocation among
//! the values it does hold. Writes are kept in order of their completion, so that a read is decided by
//! two counts: linear in the total size of the reads, with one binary search each. The original builds
//! a set for each write. A value that was written twice counts from its first invocation and its first
//! success, which excuses most.

use fuzz_dist_core::spec::Options;
use fuzz_dist_core::{Anomaly, CheckResult, History, Op, OpType, Value, Verdict};
use serde_json::json;

use crate::budget::Meter;
use crate::elements::{NONE, read_elements, some};
use crate::independent::INDEPENDENT;
use crate::needs::{Need, need};
use crate::numbering::Numbering;
use crate::options::{OptionError, OptionReader};
use crate::{Checker, CheckerInfo, or_not_checked};

/// What a pass of either stands on.
const NEEDS: &[Need] = &[
    need("writes-ok", "no :write succeeded"),
    need("reads-with-values", "no :read that succeeded holds values that :write wrote"),
];

/// What people read about `causal-reverse`.
pub const INFO: CheckerInfo = CheckerInfo {
    name: "causal-reverse",
    about: "Whether any read of all values (write v, each once; read, a collection) holds a value and \
            misses one whose write had succeeded before that value's write was invoked: T2 visible \
            without T1, which strict serializability forbids.",
    needs: NEEDS,
    options: &[INDEPENDENT],
};

/// What people read about `comments`.
pub const COMMENTS: CheckerInfo = CheckerInfo {
    name: "comments",
    about: "The same as causal-reverse, under its name in elle-cli and the CockroachDB tests: a comment \
            is read, and one that was certainly posted before it is missing.",
    needs: NEEDS,
    options: &[INDEPENDENT],
};

/// How many anomalies are told.
const ANOMALIES_MAX: usize = 16;
/// How many reads between two looks at the clock.
const READS_PER_LOOK: u64 = 256;

/// The checker, under either name.
#[derive(Debug, Clone, Copy)]
pub struct CausalReverse {
    name: &'static str,
}

/// Builds `causal-reverse`.
pub fn build(options: &Options) -> Result<CausalReverse, OptionError> {
    OptionReader::new(INFO.name, options, INFO.options)?;
    Ok(CausalReverse { name: INFO.name })
}

/// Builds `comments`.
pub fn build_comments(options: &Options) -> Result<CausalReverse, OptionError> {
    OptionReader::new(COMMENTS.name, options, COMMENTS.options)?;
    Ok(CausalReverse { name: COMMENTS.name })
}

impl Checker for CausalReverse {
    fn name(&self) -> &'static str {
        self.name
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        or_not_checked(self.name, check_reads(self.name, history, meter))
    }
}

/// Positions of the first invocation and the first success of a value's writes.
#[derive(Debug, Clone, Copy)]
struct Written {
    invoke: u32,
    ok: u32,
}

/// All writes.
#[derive(Default)]
struct Writes {
    values: Numbering,
    written: Vec<Written>,
    /// Numbers of the values whose write succeeded, by that success.
    succeeded: Vec<u32>,
}

impl Writes {
    fn new(history: &History) -> Writes {
        let mut writes = Writes::default();
        for (invoke, completion) in
            crate::budget::client_pairs(history).filter(|(op, _)| op.f == "write")
        {
            let number = writes.number(&invoke.value) as usize;
            let written = &mut writes.written[number];
            written.invoke = written.invoke.min(invoke.index as u32);
            if let Some(done) = completion.filter(|done| done.op_type == OpType::Ok) {
                written.ok = written.ok.min(done.index as u32);
            }
        }
        writes.succeeded =
            (0..writes.written.len() as u32).filter(|n| writes.of(*n).ok != NONE).collect();
        let mut succeeded = std::mem::take(&mut writes.succeeded);
        succeeded.sort_unstable_by_key(|n| writes.of(*n).ok);
        writes.succeeded = succeeded;
        writes
    }

    fn number(&mut self, value: &Value) -> u32 {
        let number = self.values.number(value);
        if number as usize == self.written.len() {
            self.written.push(Written { invoke: NONE, ok: NONE });
        }
        number
    }

    fn of(&self, number: u32) -> Written {
        self.written[number as usize]
    }

    /// How many writes had succeeded before the record at `position`.
    fn succeeded_before(&self, position: u32) -> usize {
        self.succeeded.partition_point(|n| self.of(*n).ok < position)
    }
}

fn check_reads(name: &str, history: &History, meter: &Meter) -> Result<CheckResult, String> {
    let mut writes = Writes::new(history);
    let (mut reads, mut with_values, mut wrong) = (0u64, 0u64, 0u64);
    let mut anomalies = Vec::new();
    let mut errors = Vec::new();
    // The last read that held each value, so that one that is listed twice counts once.
    let mut seen_in: Vec<u64> = Vec::new();
    for op in history.client_ops().filter(|op| op.f == "read" && op.op_type == OpType::Ok) {
        reads += 1;
        if reads.is_multiple_of(READS_PER_LOOK) {
            meter
                .check_time()
                .map_err(|why| format!("{why} after {reads} reads; a larger budget would help"))?;
        }
        let (mut seen, mut is_of_writes) = (Vec::new(), true);
        for value in read_elements(op).map_err(|e| e.replace("not checked: ", ""))? {
            let number = writes.number(value);
            seen_in.resize(writes.written.len(), 0);
            is_of_writes &= writes.of(number).invoke != NONE;
            if seen_in[number as usize] != reads && writes.of(number).invoke != NONE {
                seen_in[number as usize] = reads;
                seen.push(number);
            }
        }
        // A read of something else may hold by chance what was written.
        with_values += u64::from(!seen.is_empty() && is_of_writes);
        let Some(&latest) = seen.iter().max_by_key(|n| writes.of(**n).invoke) else { continue };
        let at = writes.of(latest).invoke;
        let expected = writes.succeeded_before(at);
        if seen.iter().filter(|n| writes.of(**n).ok < at).count() == expected {
            continue;
        }
        wrong += 1;
        if anomalies.len() < ANOMALIES_MAX {
            let missing: Vec<u32> = writes.succeeded[..expected]
                .iter()
                .copied()
                .filter(|n| seen_in[*n as usize] != reads)
                .collect();
            errors.push(json!({
                "index": op.index,
                "missing": missing.iter().take(64).map(|n| writes.values.value(*n).to_string())
                    .collect::<Vec<_>>(),
                "missing-count": missing.len(),
                "expected-count": expected,
            }));
            anomalies.push(anomaly(history, &writes, op, latest, &missing));
        }
    }
    let (verdict, reason) = match anomalies.first() {
        Some(first) => {
            (Verdict::Invalid, format!("{wrong} of {reads} reads are wrong: {}", first.text))
        }
        None => (
            Verdict::Valid,
            format!("none of {reads} reads holds a value without all that had succeeded before it"),
        ),
    };
    let mut result = CheckResult::new(name, verdict, reason);
    let counts = [
        ("writes", writes.written.iter().filter(|w| w.invoke != NONE).count() as u64),
        ("writes-ok", writes.succeeded.len() as u64),
        ("reads", reads),
        ("reads-with-values", with_values),
        ("errors", wrong),
    ];
    result.counts = counts.into_iter().map(|(name, n)| (name.into(), n)).collect();
    result.details = json!({"errors": errors});
    result.anomalies = anomalies;
    Ok(result)
}

fn anomaly(history: &History, writes: &Writes, read: &Op, latest: u32, missing: &[u32]) -> Anomaly {
    let (first, later) = (writes.of(missing[0]), writes.of(latest));
    let values: Vec<&Value> = missing.iter().map(|n| writes.values.value(*n)).collect();
    let text = format!(
        "the read of process {} at record {} holds {}, but misses {}: the write of {} had succeeded at \
         record {}, before that of {} was invoked at record {}",
        read.process,
        read.index,
        writes.values.value(latest),
        some(values.iter().copied()),
        values[0],
        first.ok,
        writes.values.value(latest),
        later.invoke
    );
    let invoke = history.pair(read.index as usize).map(|position| position as u64);
    let write = [first.invoke, first.ok, later.invoke].map(u64::from);
    let ops = write.into_iter().chain(invoke).chain([read.index]).collect();
    Anomaly {
        name: "causal-reverse".into(),
        key: Some(values[0].to_string()),
        text,
        ops,
        ..Anomaly::default()
    }
}
