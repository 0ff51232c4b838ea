//! Histories whose records name their object in a field of its own (`:key`).
//!
//! Checkers of one object read `:value` only, so several objects would be taken for one, and the verdict
//! would be about something that does not exist. Such a history is `unknown`, with what to do.

use fuzz_dist_core::{CheckResult, History, Value, Verdict};

use crate::Checker;
use crate::budget::Meter;
use crate::numbering::Numbering;

/// The field in which records name their object.
const FIELD: &str = "key";

/// A checker of one object, which is asked only about histories of one.
pub(crate) struct OneObject(pub Box<dyn Checker>);

impl Checker for OneObject {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn only_reports(&self) -> bool {
        self.0.only_reports()
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        let Some([first, second]) = two_objects(history) else {
            return self.0.decide(history, meter);
        };
        let text = format!(
            "not checked: records name several objects in their field :{FIELD} ({first}, {second}), and this \
             checker would take them for one; write the value of an operation as [key value] and give \
             --independent"
        );
        CheckResult::new(self.name(), Verdict::Unknown, text)
    }
}

/// Two objects that records of clients name, if they name more than one.
fn two_objects(history: &History) -> Option<[String; 2]> {
    let mut numbers = Numbering::default();
    let mut first: Option<&Value> = None;
    for op in history.client_ops() {
        let Some(key) = op.extra(FIELD).filter(|key| !key.is_nil()) else { continue };
        let first = first.get_or_insert(key);
        if numbers.number(key) > 0 {
            return Some([first.to_string(), key.to_string()]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use fuzz_dist_core::interop::load_bytes;

    use super::*;

    #[test]
    fn several_objects_are_seen_and_one_is_not() {
        let record = |process: i64, key: &str| {
            format!("{{:process {process} :type :invoke :f :read :key {key}}}\n")
        };
        let history = |text: String| load_bytes("h", text.as_bytes(), None).unwrap().history;
        let two = history(record(0, ":a") + &record(1, ":a") + &record(2, ":b"));
        assert_eq!(two_objects(&two), Some([":a".to_owned(), ":b".to_owned()]));
        let one = history(record(0, ":a") + &record(1, "nil") + &record(2, ":a"));
        assert_eq!(two_objects(&one), None);
    }
}
