//! From records to calls: what each operation on a register did, by key, with values as numbers.
//!
//! A failed operation did not happen and is left out (a failed cas may be kept as the observation that
//! the value was another one, when asked for). An operation without completion, or with an `info` one,
//! may take effect at any time from its invocation on, or never; such a read says nothing and is left
//! out. A cas whose two values are equal is a read that also proves itself.

use crate::linearizable::model::RegisterCall;
use crate::linearizable::search::NEVER;
use crate::numbering::Numbering;
use fuzz_dist_core::{History, Op, OpType, Value};

/// How a history of registers is to be read.
#[derive(Debug, Clone)]
pub struct RegisterOptions {
    /// Whether `cas` is allowed.
    pub cas: bool,
    /// Whether values are `[key value]`.
    pub independent: bool,
    /// Whether a failed cas proves that the value was another one.
    pub failed_cas_observes: bool,
    /// Whether a read of nil says nothing, as in Knossos, instead of that the register holds nil.
    pub nil_reads_are_unknown: bool,
    /// Value of each key at the start.
    pub initial: Value,
}

/// Why a history cannot be read as one of registers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCalls {
    /// A function that the model does not have.
    #[error("record {index}: the model has no operation :{f}; it has {known}")]
    UnknownFunction {
        /// Position of the invocation.
        index: u64,
        /// The function.
        f: String,
        /// The functions of the model.
        known: &'static str,
    },
    /// A value that is not `[key value]`.
    #[error("record {index}: the value {value} is not [key value], as independent keys need it")]
    NotKeyed {
        /// Position of the record.
        index: u64,
        /// The value.
        value: String,
    },
    /// Invocation and completion name two arguments.
    #[error(
        "record {index}: :{f} of {argument} was invoked (record {invoke}) and completes with {result}; the \
         two must be the same, or one of them nil, to tell what it did"
    )]
    Differs {
        /// Position of the completion.
        index: u64,
        /// The function.
        f: String,
        /// Position of the invocation.
        invoke: u64,
        /// The value of the invocation.
        argument: String,
        /// The value of the completion.
        result: String,
    },
    /// The model cannot tell what these calls did.
    #[error("{0}")]
    Undecidable(&'static str),
    /// An argument or result of another shape.
    #[error("record {index}: :{f} needs {expected}, but its value is {value}")]
    BadValue {
        /// Position of the record.
        index: u64,
        /// The function.
        f: String,
        /// What fits.
        expected: &'static str,
        /// What is there.
        value: String,
    },
}

/// A call on one register; values are numbered over the whole history, the initial one is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedCall {
    /// What it did.
    pub call: RegisterCall,
    /// Position of the invocation.
    pub invoke: u32,
    /// Position of the completion, [`NEVER`] if it may still take effect.
    pub ret: u32,
}

/// The calls on one key, in order of invocation.
#[derive(Debug, Clone, Default)]
pub struct KeyCalls {
    /// The key; nil when keys are not independent.
    pub key: Value,
    /// The calls.
    pub calls: Vec<KeyedCall>,
}

/// All calls of a history.
#[derive(Debug, Default)]
pub struct RegisterCalls {
    /// By key, in order of first invocation.
    pub keys: Vec<KeyCalls>,
    /// The values by number.
    pub values: Vec<Value>,
}

/// Reads the calls of a history on registers.
pub fn register_calls(
    history: &History,
    options: &RegisterOptions,
) -> Result<RegisterCalls, NotCalls> {
    let mut values = Numbering::default();
    values.number(&options.initial);
    let mut keys: Vec<KeyCalls> = Vec::new();
    let mut key_numbers = Numbering::default();
    if !options.independent {
        keys.push(KeyCalls::default());
    }
    let names = Names::new();
    for (position, op) in crate::budget::ops(history).enumerate() {
        if !op.is_client() || op.op_type != OpType::Invoke {
            continue;
        }
        let pair = history.pair(position);
        let completion = pair.map(|pair| &history.ops()[pair]);
        let key = if options.independent {
            let (key, _) = split(op)?;
            let number = key_numbers.number(key) as usize;
            if number == keys.len() {
                keys.push(KeyCalls { key: key.clone(), calls: Vec::new() });
            }
            number
        } else {
            0
        };
        let Some(call) = names.call(op, completion, options, &mut values)? else { continue };
        let done = completion.is_some_and(|c| c.op_type != OpType::Info);
        let ret = if done { pair.map_or(NEVER, |pair| pair as u32) } else { NEVER };
        keys[key].calls.push(KeyedCall { call, invoke: position as u32, ret });
    }
    Ok(RegisterCalls { keys, values: values.into_values() })
}

fn split(op: &Op) -> Result<(&Value, &Value), NotCalls> {
    op.value
        .key_and_value()
        .ok_or_else(|| NotCalls::NotKeyed { index: op.index, value: op.value.to_string() })
}

/// The argument of a write or cas, without its key.
fn told<'a>(
    op: &'a Op,
    completion: Option<&'a Op>,
    options: &RegisterOptions,
) -> Result<&'a Value, NotCalls> {
    let done = completion.filter(|done| done.op_type == OpType::Ok);
    let (argument, result) = match (options.independent, done) {
        (false, done) => (&op.value, done.map(|done| &done.value)),
        (true, done) => {
            let (key, argument) = split(op)?;
            // Some clients complete with the bare value.
            let result = done.map(|done| match done.value.key_and_value() {
                Some((again, result)) if again == key => result,
                _ => &done.value,
            });
            (argument, result)
        }
    };
    crate::told::value(argument, result).map_err(|_| {
        let done = done.unwrap_or(op);
        NotCalls::Differs {
            index: done.index,
            f: op.f.to_string(),
            invoke: op.index,
            argument: op.value.to_string(),
            result: done.value.to_string(),
        }
    })
}

/// The functions, interned once.
struct Names {
    read: fuzz_dist_core::Sym,
    write: fuzz_dist_core::Sym,
    cas: fuzz_dist_core::Sym,
}

impl Names {
    fn new() -> Names {
        let sym = fuzz_dist_core::Sym::new;
        Names { read: sym("read"), write: sym("write"), cas: sym("cas") }
    }

    fn call(
        &self,
        op: &Op,
        completion: Option<&Op>,
        options: &RegisterOptions,
        values: &mut Numbering,
    ) -> Result<Option<RegisterCall>, NotCalls> {
        let outcome = completion.map_or(OpType::Info, |c| c.op_type);
        let argument = |op: &'_ Op| -> Result<Value, NotCalls> {
            Ok(if options.independent { split(op)?.1.clone() } else { op.value.clone() })
        };
        if op.f == self.read {
            return match completion {
                Some(done) if outcome == OpType::Ok => {
                    let value = argument(done)?;
                    let is_told = !(options.nil_reads_are_unknown && value.is_nil());
                    Ok(is_told.then(|| RegisterCall::Read(values.number(&value))))
                }
                _ => Ok(None),
            };
        }
        if op.f == self.write {
            return match outcome {
                OpType::Fail => Ok(None),
                _ => {
                    let told = told(op, completion, options)?;
                    Ok(Some(RegisterCall::Write(values.number(told))))
                }
            };
        }
        if op.f != self.cas || !options.cas {
            if outcome == OpType::Fail {
                return Ok(None);
            }
            let known =
                if options.cas { "read, write and cas" } else { "read and write (not cas)" };
            return Err(NotCalls::UnknownFunction { index: op.index, f: op.f.to_string(), known });
        }
        let argument = told(op, completion, options)?;
        let Some((from, to)) = argument.key_and_value() else {
            return Err(NotCalls::BadValue {
                index: op.index,
                f: "cas".into(),
                expected: "[old new]",
                value: argument.to_string(),
            });
        };
        Ok(match outcome {
            OpType::Fail if options.failed_cas_observes => {
                Some(RegisterCall::Differs(values.number(from)))
            }
            OpType::Fail => None,
            OpType::Info if from == to => None,
            _ => Some(RegisterCall::Cas(values.number(from), values.number(to))),
        })
    }
}
