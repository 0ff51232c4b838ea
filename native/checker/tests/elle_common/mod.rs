//! Long histories without an anomaly, and small ones that are planted into them.

#![allow(dead_code)]

use super::common::{Builder, Random, int};
use fuzz_dist_core::interop::{add_invocations, read_records};
use fuzz_dist_core::{History, Op, Process, Value};

/// Processes of what is planted have numbers from here on.
pub const PLANTED: i64 = 1_000;

/// How many transactions surround what is planted: `FUZZ_DIST_PLANTED_SIZE`, else a few.
pub fn size(default: usize) -> usize {
    let given = std::env::var("FUZZ_DIST_PLANTED_SIZE").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(default)
}

/// Transactions of eight processes on a store that applies each at once when it completes, and so is strictly
/// serializable. Some fail without effect; some end with info, with an effect or without.
pub fn background(txn_count: usize, lists: bool) -> Vec<Op> {
    let mut random = Random(11);
    let mut builder = Builder::default();
    let mut state: Vec<Vec<Value>> = vec![Vec::new()];
    let mut next_value: Vec<i64> = vec![1];
    // The position of the invocation, and which of the reads and writes are writes.
    let mut open: Vec<Option<(usize, Vec<bool>)>> = vec![None; 8];
    let mut names: Vec<i64> = (0..8).collect();
    let (mut begun, mut done) = (0, 0);
    while done < txn_count {
        let process = random.below(8);
        if let Some((invoked, shape)) = open[process].take() {
            let fate = random.below(20);
            let happens = fate > 1;
            let (mut asked, mut told) = (Vec::new(), Vec::new());
            for write in shape {
                let first_key = state.len().saturating_sub(5);
                let key = first_key + random.below(state.len() - first_key);
                let name = int(key as i64);
                if write {
                    let value = int(next_value[key]);
                    next_value[key] += 1;
                    if happens {
                        state[key].push(value.clone());
                    }
                    let f = Value::sym(if lists { "append" } else { "w" });
                    asked.push(Value::list(vec![f, name, value]));
                    told.push(asked[asked.len() - 1].clone());
                } else {
                    let value = match lists {
                        true => Value::list(state[key].clone()),
                        false => state[key].last().cloned().unwrap_or_default(),
                    };
                    asked.push(Value::list(vec![Value::sym("r"), name.clone(), Value::Nil]));
                    told.push(Value::list(vec![Value::sym("r"), name, value]));
                }
                if state[key].len() >= 20 {
                    state.push(Vec::new());
                    next_value.push(1);
                }
            }
            let asked = Value::list(asked);
            builder.ops[invoked].value = asked.clone();
            match fate {
                0 => builder.fail(names[process], "txn", asked),
                1 | 2 => {
                    builder.info(names[process], "txn", asked);
                    names[process] += 8;
                    &mut builder.ops[0]
                }
                _ => builder.ok(names[process], "txn", Value::list(told)),
            };
            done += 1;
        } else if begun < txn_count {
            begun += 1;
            let shape = (0..1 + random.below(3)).map(|_| random.chance(50)).collect();
            open[process] = Some((builder.ops.len(), shape));
            builder.invoke(names[process], "txn", Value::Nil);
        }
    }
    for op in &mut builder.ops {
        // Names of processes that crashed many times must not reach those of the planted ones.
        op.process = Process::Client(-1 - op.process.client().unwrap());
    }
    builder.ops
}

/// Records `process type [mops]`, one a line; an invocation that is not there comes as early as it can.
/// Processes get numbers that no one else has.
pub fn planted(text: &str) -> Vec<Op> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let edn: Vec<String> = lines
        .map(|line| {
            let mut parts = line.splitn(3, ' ');
            let (process, op_type) = (parts.next().unwrap(), parts.next().unwrap());
            let value = parts.next().unwrap();
            format!("{{:process {process} :type :{op_type} :f :txn :value {value}}}")
        })
        .collect();
    let mut ops =
        add_invocations(read_records("planted", edn.join("\n").as_bytes(), None).unwrap());
    for op in &mut ops {
        op.process = Process::Client(op.process.client().unwrap() + PLANTED);
    }
    ops
}

/// Puts what is planted into a history, in its order but far apart; with the new positions of its records.
pub fn spread(random: &mut Random, background: &[Op], planted: &[Op]) -> (History, Vec<usize>) {
    let mut places: Vec<usize> =
        planted.iter().map(|_| random.below(background.len() + 1)).collect();
    places.sort_unstable();
    let mut ops: Vec<Op> = Vec::with_capacity(background.len() + planted.len());
    let mut positions = Vec::new();
    let mut left = background;
    for (op, place) in planted.iter().zip(places) {
        let (now, later) = left.split_at(place - (background.len() - left.len()));
        ops.extend_from_slice(now);
        positions.push(ops.len());
        ops.push(op.clone());
        left = later;
    }
    ops.extend_from_slice(left);
    for (position, op) in ops.iter_mut().enumerate() {
        op.time_ns = position as i64 * 1_000;
    }
    (History::new(ops).unwrap(), positions)
}
