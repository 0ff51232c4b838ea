//! Clients of registers that take effect at a random moment between invocation and return.

use fuzz_dist_core::{History, OpType, Sym, Value};

use super::{Random, Recorder};

/// Values of writes that are not unique.
const VALUE_COUNT: u64 = 5;

/// What clients do to registers.
#[derive(Debug, Clone, Copy)]
pub struct Registers {
    /// One after the other, as in Jepsen's independent generators.
    pub keys: usize,
    pub clients: usize,
    /// Every write writes a value of its own, and there is no cas.
    pub unique: bool,
    /// The last read returns what was there before the last write.
    pub invalid: bool,
    /// How many of ten thousand operations take effect and never answer.
    pub info_per_10k: u64,
}

/// A register of one key on which ten clients read, write and compare-and-set.
pub const CAS: Registers =
    Registers { keys: 1, clients: 10, unique: false, invalid: false, info_per_10k: 0 };

struct Call {
    f: usize,
    key: usize,
    argument: (i64, i64),
    outcome: Option<(OpType, Value)>,
}

/// A history of so many operations.
pub fn history(shape: Registers, operations: usize) -> History {
    let functions = [Sym::new("read"), Sym::new("write"), Sym::new("cas")];
    let mut random = Random(42);
    let mut recorder = Recorder::with_capacity(operations);
    let mut values = vec![Value::Nil; shape.keys];
    let mut open: Vec<Option<Call>> = (0..shape.clients).map(|_| None).collect();
    let mut processes: Vec<usize> = (0..shape.clients).collect();
    let (mut begun, mut ended) = (0, 0);
    while ended < operations {
        let client = random.below(shape.clients as u64) as usize;
        match open[client].take() {
            None if begun < operations => {
                let call = Call {
                    f: random.below(if shape.unique { 2 } else { 3 }) as usize,
                    key: begun * shape.keys / operations,
                    argument: match shape.unique {
                        true => (begun as i64 + 1, 0),
                        false => {
                            (random.below(VALUE_COUNT) as i64, random.below(VALUE_COUNT) as i64)
                        }
                    },
                    outcome: None,
                };
                begun += 1;
                let value = keyed(shape, call.key, argument(&call));
                recorder.push(processes[client], OpType::Invoke, functions[call.f], value);
                open[client] = Some(call);
            }
            None => {}
            Some(Call { outcome: Some((op_type, result)), f, key, .. }) => {
                ended += 1;
                let result = keyed(shape, key, result);
                recorder.push(processes[client], op_type, functions[f], result);
            }
            Some(mut call) => {
                call.outcome = Some(take_effect(&call, &mut values[call.key]));
                if shape.info_per_10k > 0 && random.below(10_000) < shape.info_per_10k {
                    ended += 1;
                    let value = keyed(shape, call.key, argument(&call));
                    recorder.push(processes[client], OpType::Info, functions[call.f], value);
                    // Who does not know how its operation ended never acts again.
                    processes[client] += shape.clients;
                } else {
                    open[client] = Some(call);
                }
            }
        }
    }
    if shape.invalid {
        // With nothing open any more: written, and read as if it had not been.
        let old = values[0].clone();
        let new = match shape.unique {
            true => operations as i64 + 1,
            false => (old.as_int().unwrap_or(0) + 1) % VALUE_COUNT as i64,
        };
        let process = processes[0];
        let asked = |value: i64| keyed(shape, 0, Value::Int(value));
        recorder.done(process, functions[1], asked(new), asked(new));
        recorder.done(process, functions[0], keyed(shape, 0, Value::Nil), keyed(shape, 0, old));
    }
    recorder.history()
}

fn argument(call: &Call) -> Value {
    match call.f {
        0 => Value::Nil,
        1 => Value::Int(call.argument.0),
        _ => Value::list(vec![Value::Int(call.argument.0), Value::Int(call.argument.1)]),
    }
}

fn take_effect(call: &Call, value: &mut Value) -> (OpType, Value) {
    match call.f {
        0 => (OpType::Ok, value.clone()),
        1 => {
            *value = Value::Int(call.argument.0);
            (OpType::Ok, argument(call))
        }
        _ if *value == Value::Int(call.argument.0) => {
            *value = Value::Int(call.argument.1);
            (OpType::Ok, argument(call))
        }
        _ => (OpType::Fail, argument(call)),
    }
}

fn keyed(shape: Registers, key: usize, value: Value) -> Value {
    match shape.keys {
        1 => value,
        _ => Value::tuple(vec![Value::Int(key as i64), value]),
    }
}
