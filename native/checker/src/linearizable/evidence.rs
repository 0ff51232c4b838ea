//! Shows people why calls on a register cannot be linearized.

use fuzz_dist_core::{Anomaly, History, Value};

use crate::budget::Meter;
use crate::linearizable::calls::KeyedCall;
use crate::linearizable::minimise::{minimise, problem};
use crate::linearizable::model::{Machine, Register, RegisterCall};
use crate::linearizable::search::{Call, LastConfig, NEVER, Outcome, Stuck, search};

/// What is needed to talk about the calls of one key.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The history that was checked.
    pub history: &'a History,
    /// The key, when keys are independent.
    pub key: Option<&'a Value>,
    /// The calls, with the key's own numbers of values.
    pub calls: &'a [KeyedCall],
    /// The value of each number.
    pub values: &'a [&'a Value],
}

/// How many calls a text shows.
const SHOWN_MAX: usize = 40;
/// How wide the drawn intervals are at most, in characters.
const WIDTH_MAX: usize = 64;
/// How many steps the search for the longest order may take.
const LONGEST_STEPS_MAX: u32 = 200_000;

impl Context<'_> {
    /// What a call did, in words.
    pub fn describe(&self, call: RegisterCall) -> String {
        let value = |number: u32| self.values[number as usize];
        match call {
            RegisterCall::Read(v) => format!("read {}", value(v)),
            RegisterCall::Write(v) => format!("write {}", value(v)),
            RegisterCall::Cas(a, b) => format!("cas {} -> {}", value(a), value(b)),
            RegisterCall::Differs(a) => format!("cas from {} failed", value(a)),
        }
    }

    fn process(&self, call: &KeyedCall) -> String {
        let op = &self.history.ops()[call.invoke as usize];
        match op.node {
            Some(node) => format!("process {} on {node}", op.process),
            None => format!("process {}", op.process),
        }
    }
}

/// The anomaly of calls among which those of `start` cannot be linearized. `stuck` is the call that
/// cannot take effect before it returns.
pub fn anomaly(context: &Context, start: Vec<usize>, stuck: usize, meter: &Meter) -> Anomaly {
    let kept = minimise(context.calls, start, stuck, context.values.len(), meter);
    let small = problem(context.calls, kept.iter().copied());
    let mut register = Register { classes: &small.classes, value_count: context.values.len() };
    let (stuck, last) = match search(&mut register, &small.calls, meter) {
        Outcome::Stuck(found) => (kept[found.call], Some(found)),
        _ => (stuck, None),
    };
    let text = text(context, &kept, stuck, last.as_deref(), &small.calls, &mut register);
    let call = &context.calls[stuck];
    let mut ops = vec![u64::from(call.invoke), u64::from(call.ret)];
    let mut others: Vec<u64> = kept
        .iter()
        .filter(|i| **i != stuck)
        .map(|&i| &context.calls[i])
        .flat_map(|call| [call.invoke, call.ret])
        .filter(|position| *position != NEVER)
        .map(u64::from)
        .collect();
    others.sort_unstable();
    ops.extend(others);
    Anomaly { name: "nonlinearizable".into(), key: context.key.map(Value::to_string), text, ops }
}

fn text(
    context: &Context,
    kept: &[usize],
    stuck: usize,
    last: Option<&Stuck>,
    small: &[Call],
    register: &mut Register,
) -> String {
    let call = &context.calls[stuck];
    let key = context.key.map(|key| format!(" on key {key}")).unwrap_or_default();
    let mut text = format!(
        "{} ({}, records {} to {}){key} cannot have taken effect at any moment between its invocation \
         and its return.\n",
        context.describe(call.call),
        context.process(call),
        call.invoke,
        call.ret,
    );
    text.push_str(&format!(
        "These {} operations, taken alone, are already not linearizable:\n",
        kept.len()
    ));
    text.push_str(&drawing(context, kept, stuck));
    if let Some(last) = last {
        text.push_str(&configs(context, kept, last));
        let longest = longest_order(register, small);
        let names: Vec<String> =
            longest.iter().map(|&i| context.describe(context.calls[kept[i]].call)).collect();
        text.push_str(&format!(
            "The longest order that respects real time has {} of them: {}\n",
            names.len(),
            if names.is_empty() { "none".into() } else { names.join(", ") },
        ));
    }
    text
}

/// One line for each call, with its interval drawn to the order of the events.
fn drawing(context: &Context, kept: &[usize], stuck: usize) -> String {
    let shown = &kept[kept.len().saturating_sub(SHOWN_MAX)..];
    let mut moments: Vec<u32> =
        shown.iter().flat_map(|&i| [context.calls[i].invoke, context.calls[i].ret]).collect();
    moments.sort_unstable();
    moments.dedup();
    let step = if moments.len() * 3 <= WIDTH_MAX { 3 } else { 1 };
    let column = |moment: u32| {
        let rank = moments.partition_point(|m| *m < moment);
        (rank * step * WIDTH_MAX.min(moments.len() * step)) / (moments.len() * step).max(1)
    };
    let names: Vec<String> =
        shown.iter().map(|&i| context.describe(context.calls[i].call)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    if shown.len() < kept.len() {
        out.push_str(&format!("  ({} earlier ones not shown)\n", kept.len() - shown.len()));
    }
    for (&i, name) in shown.iter().zip(&names) {
        let call = &context.calls[i];
        let (from, to) = (column(call.invoke), column(call.ret));
        let mut bar = " ".repeat(from);
        bar.push('|');
        bar.push_str(&"-".repeat(to.saturating_sub(from + 1)));
        bar.push(if call.ret == NEVER { '>' } else { '|' });
        let mark = if i == stuck { "*" } else { " " };
        let end = match call.ret {
            NEVER => "never completed".to_owned(),
            ret => format!("to {ret}"),
        };
        out.push_str(&format!(
            "{mark} {name:width$}  {bar:bar_width$}  {}, record {} {end}\n",
            context.process(call),
            call.invoke,
            bar_width = WIDTH_MAX.min(moments.len() * step) + 2,
        ));
    }
    out
}

fn configs(context: &Context, kept: &[usize], last: &Stuck) -> String {
    let mut out = format!(
        "Just before it returned, {} could be the case{}:\n",
        match last.config_count {
            1 => "only this".to_owned(),
            count => format!("{count} things"),
        },
        if last.config_count > last.configs.len() {
            format!(" (first {} shown)", last.configs.len())
        } else {
            String::new()
        },
    );
    let names = |calls: &[usize]| {
        let names: Vec<String> =
            calls.iter().map(|&i| context.describe(context.calls[kept[i]].call)).collect();
        names.join(", ")
    };
    for LastConfig { state, done, needed } in &last.configs {
        out.push_str(&format!("  value {}", context.values[*state as usize]));
        if !done.is_empty() {
            out.push_str(&format!("; open but already in effect: {}", names(done)));
        }
        if !needed.is_empty() {
            out.push_str(&format!("; not yet in effect: {}", names(needed)));
        }
        out.push('\n');
    }
    out
}

/// The longest order of some of the calls that respects real time and the register: depth-first, as
/// far as the bound on steps allows.
fn longest_order<M: Machine>(machine: &mut M, calls: &[Call]) -> Vec<usize> {
    struct Walk<'a, M> {
        machine: &'a mut M,
        calls: &'a [Call],
        done: Vec<bool>,
        order: Vec<usize>,
        best: Vec<usize>,
        seen: std::collections::HashSet<(u32, Vec<bool>)>,
        steps: u32,
    }
    fn go<M: Machine>(walk: &mut Walk<M>, state: u32) {
        if walk.order.len() > walk.best.len() {
            walk.best.clone_from(&walk.order);
        }
        if walk.steps >= LONGEST_STEPS_MAX || !walk.seen.insert((state, walk.done.clone())) {
            return;
        }
        let first_return = (0..walk.calls.len())
            .filter(|&i| !walk.done[i])
            .map(|i| walk.calls[i].ret)
            .min()
            .unwrap_or(NEVER);
        for i in 0..walk.calls.len() {
            if walk.done[i] || walk.calls[i].invoke > first_return {
                continue;
            }
            walk.steps += 1;
            let next = walk.machine.step(state, walk.calls[i].class);
            if next == crate::linearizable::model::IMPOSSIBLE {
                continue;
            }
            walk.done[i] = true;
            walk.order.push(i);
            go(walk, next);
            walk.order.pop();
            walk.done[i] = false;
        }
    }
    // Deep recursion is bounded by the number of calls, so only small examples are walked.
    if calls.len() > 200 {
        return Vec::new();
    }
    let initial = machine.initial();
    let mut walk = Walk {
        machine,
        calls,
        done: vec![false; calls.len()],
        order: Vec::new(),
        best: Vec::new(),
        seen: Default::default(),
        steps: 0,
    };
    go(&mut walk, initial);
    walk.best
}
