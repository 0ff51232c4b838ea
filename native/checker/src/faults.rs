//! Stretches of a history in which a fault was, or may have been, in effect.

use fuzz_dist_core::{FaultLog, History};

/// One fault.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FaultSpan {
    /// `#3 halt`, as reports name it.
    pub name: String,
    /// Position and time of its first record.
    pub begun: (u64, i64),
    /// And of its last; the greatest there are while it lasts.
    pub ended: (u64, i64),
}

/// All of them, in the order in which they began. A fault that failed before it was applied is none.
pub(crate) fn spans(history: &History) -> Vec<FaultSpan> {
    let log = FaultLog::of(history);
    let spans = log.intervals().iter().filter(|fault| fault.window().is_some());
    let spans = spans.filter_map(|fault| {
        let begun = fault.begun?;
        let ended = fault.ended.map_or((u64::MAX, i64::MAX), |end| (end.index, end.time_ns));
        let name = match fault.is_jepsen {
            true => fault.kind.clone(),
            false => format!("#{} {}", fault.id, fault.kind),
        };
        Some(FaultSpan { name, begun: (begun.index, begun.time_ns), ended })
    });
    spans.collect()
}
