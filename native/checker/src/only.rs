//! `only`: any checker, restricted to some functions.
//!
//! A history often has functions that a checker does not know: a set that is also counted, a lock around a
//! register. With `only = ["add", "read"]` the records of all other functions become records of no client,
//! which every checker passes over. They keep their places, so that the evidence names records of the whole
//! history.

use std::collections::BTreeSet;

use fuzz_dist_core::{CheckResult, History, Op, OpType, Process, Sym, Value, Verdict};

use crate::Checker;
use crate::budget::Meter;
use crate::options::OptionInfo;

/// The option, which every checker has.
pub(crate) const ONLY: OptionInfo = OptionInfo {
    name: "only",
    default: "all functions",
    about: "functions, as a list or with commas: operations of all others are left out",
};

/// What stands in the place of a record that is left out.
const LEFT_OUT: &str = "left-out";

/// A checker of some functions.
pub(crate) struct Only {
    pub checker: Box<dyn Checker>,
    pub functions: BTreeSet<String>,
}

impl Checker for Only {
    fn name(&self) -> &'static str {
        self.checker.name()
    }

    fn only_reports(&self) -> bool {
        self.checker.only_reports()
    }

    fn decide(&self, history: &History, meter: &Meter) -> CheckResult {
        let left_out = Sym::new(LEFT_OUT);
        let ops = history.ops().iter().enumerate().map(|(position, op)| {
            // The function of an operation is that of its invocation.
            let pair = history.pair(position).filter(|_| op.op_type != OpType::Invoke);
            let f = pair.map_or(op.f, |invoke| history.ops()[invoke].f);
            if !op.is_client() || self.functions.contains(f.as_str()) {
                return op.clone();
            }
            let nobody = Process::Named(left_out);
            Op::new(op.time_ns, nobody, OpType::Info, left_out, Value::Nil)
        });
        match History::new(ops.collect()) {
            Ok(part) if history.has_real_time() => self.checker.decide(&part, meter),
            Ok(part) => self.checker.decide(&part.without_real_time(), meter),
            Err(error) => {
                let reason = format!("not checked: {error}");
                CheckResult::new(self.name(), Verdict::Unknown, reason)
            }
        }
    }
}
