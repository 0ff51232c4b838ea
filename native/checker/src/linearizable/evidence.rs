//! Shows people why calls on an object cannot be linearized, and programs the same as data.

use fuzz_dist_core::{Anomaly, Value, clip};
use serde_json::{Value as Json, json};

use crate::budget::Meter;
use crate::linearizable::minimise::minimise;
use crate::linearizable::search::{LastConfig, NEVER};
use crate::linearizable::subject::{Proof, Subject};

/// How many calls a text shows.
const SHOWN_MAX: usize = 40;
/// How wide the drawn intervals are at most, in characters.
const WIDTH_MAX: usize = 64;
/// How much of an operation or a state a text shows: values are as long as a system under test likes.
const NAME_CHAR_COUNT_MAX: usize = 100;
/// How much of them there is in data.
const DATA_CHAR_COUNT_MAX: usize = 10_000;

/// What is shown of one object.
pub struct Evidence {
    /// For people, with the records concerned.
    pub anomaly: Anomaly,
    /// The last configurations as data; the shape is told in [`super`].
    pub details: Json,
}

/// The evidence of calls among which those of `start` cannot be linearized. `stuck` is the call that
/// cannot take effect before it returns.
pub fn evidence(
    subject: &dyn Subject,
    start: Vec<usize>,
    stuck: usize,
    meter: &Meter,
    words: &Meter,
) -> Evidence {
    let kept = minimise(subject, start, stuck, meter);
    let proof = subject.proof(&kept, words, true);
    let stuck = proof.as_ref().map_or(stuck, |proof| kept[proof.stuck.blamed()]);
    let text = text(subject, &kept, stuck, proof.as_ref());
    let spans = subject.spans();
    let mut ops = vec![u64::from(spans[stuck].invoke), u64::from(spans[stuck].ret)];
    let mut others: Vec<u64> = kept
        .iter()
        .filter(|i| **i != stuck)
        .flat_map(|&i| [spans[i].invoke, spans[i].ret])
        .filter(|position| *position != NEVER)
        .map(u64::from)
        .collect();
    others.sort_unstable();
    ops.extend(others);
    ops.retain(|position| *position != u64::from(NEVER));
    let invoke = |call: &usize| u64::from(spans[kept[*call]].invoke);
    let longest = proof.iter().flat_map(|proof| &proof.longest);
    let anomaly = Anomaly {
        name: "nonlinearizable".into(),
        key: subject.key().map(Value::to_string),
        text,
        ops,
        longest_order: longest.map(invoke).collect(),
        ..Anomaly::default()
    };
    let details = json!({
        "key": anomaly.key,
        "op": spans[stuck].invoke,
        "operation": clip(&subject.describe(stuck), DATA_CHAR_COUNT_MAX),
        "operations": kept.iter().map(|&call| spans[call].invoke).collect::<Vec<_>>(),
        "configuration_count": proof.as_ref().map_or(0, |proof| proof.stuck.config_count),
        "configurations": proof.as_ref().map_or_else(Vec::new, |proof| configurations(&invoke, proof)),
    });
    Evidence { anomaly, details }
}

fn configurations(invoke: &dyn Fn(&usize) -> u64, proof: &Proof) -> Vec<Json> {
    let configs = proof.stuck.configs.iter().zip(&proof.states);
    configs
        .map(|(config, state)| {
            json!({
                "state": clip(state, DATA_CHAR_COUNT_MAX),
                "in_effect": config.done.iter().map(invoke).collect::<Vec<_>>(),
                "not_in_effect": config.needed.iter().map(invoke).collect::<Vec<_>>(),
            })
        })
        .collect()
}

/// A call in words, as far as a line has room.
pub fn name(subject: &dyn Subject, call: usize) -> String {
    clip(&subject.describe(call), NAME_CHAR_COUNT_MAX)
}

fn process(subject: &dyn Subject, call: usize) -> String {
    let op = &subject.history().ops()[subject.spans()[call].invoke as usize];
    match op.node {
        Some(node) => format!("process {} on {node}", op.process),
        None => format!("process {}", op.process),
    }
}

fn text(subject: &dyn Subject, kept: &[usize], stuck: usize, proof: Option<&Proof>) -> String {
    let span = subject.spans()[stuck];
    let key = subject.key().map(|key| format!(" on key {key}")).unwrap_or_default();
    let mut text = format!(
        "{} ({}, records {} to {}){key} cannot have taken effect at any moment between its invocation \
         and its return.\n",
        name(subject, stuck),
        process(subject, stuck),
        span.invoke,
        span.ret,
    );
    text.push_str(&format!(
        "These {} operations, taken alone, are already not linearizable:\n",
        kept.len()
    ));
    text.push_str(&drawing(subject, kept, stuck));
    if let Some(proof) = proof {
        text.push_str(&configs(subject, kept, proof));
        let names: Vec<String> = proof.longest.iter().map(|&i| name(subject, kept[i])).collect();
        if !names.is_empty() {
            text.push_str(&format!(
                "The longest order that respects real time has {} of them: {}\n",
                names.len(),
                names.join(", ")
            ));
        }
    }
    text
}

/// One line for each call, with its interval drawn to the order of the events.
fn drawing(subject: &dyn Subject, kept: &[usize], stuck: usize) -> String {
    let spans = subject.spans();
    let shown = &kept[kept.len().saturating_sub(SHOWN_MAX)..];
    let mut moments: Vec<u32> =
        shown.iter().flat_map(|&i| [spans[i].invoke, spans[i].ret]).collect();
    moments.sort_unstable();
    moments.dedup();
    let width = (moments.len() * 3).min(WIDTH_MAX);
    let column =
        |moment: u32| moments.partition_point(|m| *m < moment) * width / moments.len().max(1);
    let names: Vec<String> = shown.iter().map(|&i| name(subject, i)).collect();
    let name_width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    if shown.len() < kept.len() {
        out.push_str(&format!("  ({} earlier ones not shown)\n", kept.len() - shown.len()));
    }
    for (&i, name) in shown.iter().zip(&names) {
        let span = spans[i];
        let (from, to) = (column(span.invoke), column(span.ret));
        let mut bar = " ".repeat(from);
        bar.push('|');
        bar.push_str(&"-".repeat(to.saturating_sub(from + 1)));
        bar.push(if span.ret == NEVER { '>' } else { '|' });
        let mark = if i == stuck { "*" } else { " " };
        let end = match span.ret {
            NEVER => "never completed".to_owned(),
            ret => format!("to {ret}"),
        };
        out.push_str(&format!(
            "{mark} {name:name_width$}  {bar:bar_width$}  {}, record {} {end}\n",
            process(subject, i),
            span.invoke,
            bar_width = width + 2,
        ));
    }
    out
}

fn configs(subject: &dyn Subject, kept: &[usize], proof: &Proof) -> String {
    let stuck = &proof.stuck;
    let count = match stuck.config_count {
        1 => "only this".to_owned(),
        count => format!("{count} things"),
    };
    let shown = match stuck.config_count > stuck.configs.len() {
        true => format!(" (first {} shown)", stuck.configs.len()),
        false => String::new(),
    };
    let before = match stuck.unmet {
        None => "it".to_owned(),
        Some(_) => name(subject, kept[stuck.call]),
    };
    let mut out = format!("Just before {before} returned, {count} could be the case{shown}:\n");
    let names = |calls: &[usize]| {
        let names: Vec<String> = calls.iter().map(|&i| name(subject, kept[i])).collect();
        names.join(", ")
    };
    for (LastConfig { done, needed, .. }, state) in stuck.configs.iter().zip(&proof.states) {
        out.push_str(&format!("  value {}", clip(state, NAME_CHAR_COUNT_MAX)));
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
