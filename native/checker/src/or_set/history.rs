//! Adds, removes and reads of a history.

use std::collections::{BTreeSet, HashMap};

use fuzz_dist_core::{History, Op, OpType, Sym, Value};

use crate::elements::{NONE, read_elements};
use crate::numbering::Numbering;
use crate::or_set::rules::Call;

/// A read that succeeded.
#[derive(Debug)]
pub(super) struct Read {
    pub process: i64,
    pub node: Option<Sym>,
    pub invoke: u32,
    pub ret: u32,
    pub elements: Vec<u32>,
    /// An element that it holds twice.
    pub twice: Option<u32>,
    pub is_final: bool,
}

impl Read {
    pub fn place(&self) -> String {
        let which = if self.is_final { "final read" } else { "read" };
        let on = match self.node {
            Some(node) => format!("on {node}"),
            None => format!("of process {}", self.process),
        };
        format!("the {which} {on} (records {} to {})", self.invoke, self.ret)
    }
}

/// All that was done.
#[derive(Debug, Default)]
pub(super) struct Updates {
    pub elements: Numbering,
    /// By element, in order of invocation; those that failed are left out.
    pub adds: Vec<Vec<Call>>,
    pub removes: Vec<Vec<Call>>,
    failed_add: Vec<bool>,
    /// Elements that each process added with success.
    pub own: HashMap<i64, BTreeSet<u32>>,
    pub reads: Vec<Read>,
    pub nodes: BTreeSet<Sym>,
    /// Position of the last answer to an update.
    pub last_answer: Option<u32>,
}

impl Updates {
    pub fn new(history: &History) -> Result<Updates, String> {
        let mut updates = Updates::default();
        for (invoke, completion) in history.client_pairs() {
            let node = completion.and_then(|done| done.node).or(invoke.node);
            updates.nodes.extend(node);
            let outcome = completion.map_or(OpType::Info, |done| done.op_type);
            match invoke.f.as_str() {
                "add" | "join" => updates.update(invoke, completion, true),
                "remove" | "leave" => updates.update(invoke, completion, false),
                "read" | "members" | "final-read" => {
                    if let Some(done) = completion.filter(|_| outcome == OpType::Ok) {
                        updates.read(invoke, done)?;
                    }
                }
                _ if outcome == OpType::Fail => {}
                other => {
                    return Err(format!(
                        "record {}: an or-set has :add or :join, :remove or :leave, :read or :members, \
                         not :{other} (option only leaves functions out)",
                        invoke.index
                    ));
                }
            }
        }
        Ok(updates)
    }

    pub fn count(&self) -> u32 {
        self.adds.len() as u32
    }

    /// Adds and removes of an element.
    pub fn of(&self, element: u32) -> (&[Call], &[Call]) {
        (&self.adds[element as usize], &self.removes[element as usize])
    }

    pub fn has_failed_add(&self, element: u32) -> bool {
        self.failed_add[element as usize]
    }

    fn number(&mut self, value: &Value) -> u32 {
        let number = self.elements.number(value);
        if number as usize == self.adds.len() {
            self.adds.push(Vec::new());
            self.removes.push(Vec::new());
            self.failed_add.push(false);
        }
        number
    }

    fn update(&mut self, invoke: &Op, completion: Option<&Op>, is_add: bool) {
        let outcome = completion.map_or(OpType::Info, |done| done.op_type);
        let is_ok = outcome == OpType::Ok;
        // What the operation was about may only be known when it has succeeded.
        let value = match completion {
            Some(done) if is_ok && invoke.value.is_nil() => &done.value,
            _ => &invoke.value,
        };
        let element = self.number(value);
        if let Some(done) = completion {
            self.last_answer = self.last_answer.max(Some(done.index as u32));
        }
        if outcome == OpType::Fail {
            self.failed_add[element as usize] |= is_add;
            return;
        }
        let process = invoke.process.client().unwrap_or_default();
        let ret = completion.filter(|_| is_ok).map_or(NONE, |done| done.index as u32);
        let call = Call { process, invoke: invoke.index as u32, ret, is_ok };
        let calls = if is_add { &mut self.adds } else { &mut self.removes };
        calls[element as usize].push(call);
        if is_add && is_ok {
            self.own.entry(process).or_default().insert(element);
        }
    }

    fn read(&mut self, invoke: &Op, done: &Op) -> Result<(), String> {
        let values = read_elements(done).map_err(|e| e.replace("not checked: ", ""))?;
        let elements: Vec<u32> = values.iter().map(|value| self.number(value)).collect();
        let mut sorted = elements.clone();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        let marked = |op: &Op| op.extra("final?") == Some(&Value::Bool(true));
        self.reads.push(Read {
            process: invoke.process.client().unwrap_or_default(),
            node: done.node.or(invoke.node),
            invoke: invoke.index as u32,
            ret: done.index as u32,
            elements,
            twice,
            is_final: invoke.f == "final-read" || marked(invoke) || marked(done),
        });
        Ok(())
    }
}
