//! Which functions have answered again since the last heal, thread by thread.
//!
//! A thread always performs its operations on the same node, so what it was answered is what that node
//! answers. What an answer is, and how many asks are enough, is as in the checker `recovery`.

use std::collections::BTreeSet;

use fuzz_dist_checker::recovery::{ASKS_MIN, SPAN_MIN_NS, is_answer};
use fuzz_dist_core::{Op, OpType, Sym};

/// How long after the first ask silence is long enough, with some time for what is under way.
const SPAN_NS: u64 = SPAN_MIN_NS as u64 + 1_000_000_000;

/// One function as a thread knows it.
#[derive(Debug, Clone, Copy)]
struct Function {
    f: Sym,
    has_succeeded: bool,
    has_answered: bool,
    asks: u64,
}

/// What a thread knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers {
    functions: Vec<Function>,
    since_ns: Option<u64>,
}

impl Answers {
    fn function(&mut self, f: Sym) -> &mut Function {
        let position = match self.functions.iter().position(|function| function.f == f) {
            Some(position) => position,
            None => {
                let new = Function { f, has_succeeded: false, has_answered: false, asks: 0 };
                self.functions.push(new);
                self.functions.len() - 1
            }
        };
        &mut self.functions[position]
    }

    /// An operation begins.
    pub(super) fn asked(&mut self, f: Sym) {
        if self.since_ns.is_some() {
            self.function(f).asks += 1;
        }
    }

    /// An operation has ended.
    pub(super) fn completed(&mut self, op: &Op) {
        let is_counting = self.since_ns.is_some();
        let function = self.function(op.f);
        function.has_succeeded |= op.op_type == OpType::Ok;
        function.has_answered |= is_counting && is_answer(Some(op));
    }

    /// From now on it counts.
    pub(super) fn ask_again(&mut self, now_ns: u64) {
        self.since_ns = Some(now_ns);
        for function in &mut self.functions {
            (function.has_answered, function.asks) = (false, 0);
        }
    }
}

/// What succeeded on a node once, and whether it has answered since, with how often it was asked.
fn by_place<'a>(
    all: impl Iterator<Item = (Sym, &'a Answers)>,
) -> std::collections::BTreeMap<(&'static str, &'static str), (bool, bool, u64)> {
    let mut places = std::collections::BTreeMap::new();
    for (node, answers) in all {
        for function in &answers.functions {
            let place = (function.f.as_str(), node.as_str());
            let known: &mut (bool, bool, u64) = places.entry(place).or_default();
            known.0 |= function.has_succeeded;
            known.1 |= function.has_answered;
            known.2 += function.asks;
        }
    }
    places
}

/// What worked and has not answered since.
pub(super) fn unanswered<'a>(all: impl Iterator<Item = (Sym, &'a Answers)>) -> Vec<String> {
    let silent = by_place(all).into_iter().filter(|(_, (ok, answered, _))| *ok && !answered);
    silent
        .map(|((f, node), _)| format!("{f} on {node}"))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// Whether everything that worked has answered again, or was asked often enough.
pub(super) fn is_enough<'a>(all: impl Iterator<Item = (Sym, &'a Answers)>, now_ns: u64) -> bool {
    let all: Vec<(Sym, &Answers)> = all.collect();
    let since_ns = all.iter().filter_map(|(_, answers)| answers.since_ns).min().unwrap_or(now_ns);
    let is_long = now_ns.saturating_sub(since_ns) >= SPAN_NS;
    by_place(all.into_iter())
        .values()
        .all(|(ok, answered, asks)| !ok || *answered || is_long && *asks >= ASKS_MIN)
}
