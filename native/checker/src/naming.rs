//! Records in texts, by the numbers that people know them by.
//!
//! Checkers name records by their positions. Of a history of which only the completions were
//! recorded, half of those are invocations that were added: there texts get the numbers of the
//! records as they were read.

use std::sync::LazyLock;

use fuzz_dist_core::{CheckResult, History};
use regex::{Captures, Regex};

/// "record 4", "records 4, 5 and 7".
static NAMED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\b(records? )(\d+(?:(?:, | and )\d+)*)").ok());
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\d+").ok());

/// The result with records as they were read, if that is not how they are numbered.
pub fn as_read(mut result: CheckResult, history: &History) -> CheckResult {
    let (Some(numbers), Some(named), Some(number)) = (history.read_numbers(), &*NAMED, &*NUMBER)
    else {
        return result;
    };
    let read = |text: &Captures| {
        let position = text[0].parse::<usize>().ok();
        let known = position.and_then(|position| numbers.get(position));
        known.map_or_else(|| text[0].to_owned(), u64::to_string)
    };
    let rename = |text: &mut String| {
        let replace =
            |found: &Captures| format!("{}{}", &found[1], number.replace_all(&found[2], read));
        *text = named.replace_all(text, replace).into_owned();
    };
    rename_all(&mut result, &rename);
    result
}

fn rename_all(result: &mut CheckResult, rename: &impl Fn(&mut String)) {
    rename(&mut result.reason);
    for anomaly in &mut result.anomalies {
        rename(&mut anomaly.text);
        anomaly.edges.iter_mut().for_each(|edge| rename(&mut edge.why));
    }
    result.parts.iter_mut().for_each(|part| rename_all(part, rename));
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz_dist_core::{Op, OpType, Process, Sym, Value, Verdict};

    #[test]
    fn texts_name_records_as_they_were_read() {
        let op = |process, op_type| {
            Op::new(0, Process::Client(process), op_type, Sym::new("read"), Value::Nil)
        };
        use OpType::{Invoke, Ok};
        let ops = vec![op(0, Invoke), op(1, Invoke), op(1, Ok), op(0, Ok)];
        let history = History::new(ops).unwrap();
        let text = "records 2, 3 and 0: record 1, record 17, value 2";
        let result = CheckResult::new("x", Verdict::Invalid, text);
        assert_eq!(as_read(result.clone(), &history).reason, text);
        let result = as_read(result, &history.with_added_invocations());
        assert_eq!(result.reason, "records 0, 1 and 1: record 0, record 17, value 2");
    }
}
