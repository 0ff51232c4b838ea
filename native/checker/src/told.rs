//! Invocation against completion: which of the two says what an operation was asked to do.
//!
//! As in Knossos, a successful completion says it where the invocation has nil (a client that draws the
//! value when it calls). Where both say something and differ, the history does not tell what happened, and
//! nothing is decided about it.

use fuzz_dist_core::{Op, OpType, Value};

/// Two values of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Differs;

/// The argument of an operation, from the values of its invocation and, if it succeeded, its completion.
#[inline]
pub(crate) fn value<'a>(
    argument: &'a Value,
    result: Option<&'a Value>,
) -> Result<&'a Value, Differs> {
    match result {
        None | Some(Value::Nil) => Ok(argument),
        Some(result) if argument.is_nil() => Ok(result),
        Some(result) if argument == result => Ok(argument),
        Some(_) => Err(Differs),
    }
}

/// The argument of an operation whose value is its argument; what is wrong names both records.
pub(crate) fn argument<'a>(invoke: &'a Op, done: Option<&'a Op>) -> Result<&'a Value, String> {
    let ok = done.filter(|done| done.op_type == OpType::Ok);
    value(&invoke.value, ok.map(|done| &done.value)).map_err(|Differs| {
        let done = ok.unwrap_or(invoke);
        format!(
            "record {}: :{} of {} was invoked (record {}) and completes with {}; the two must be the same, \
             or one of them nil, to tell what it did",
            done.index, invoke.f, invoke.value, invoke.index, done.value
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_completion_says_what_the_invocation_does_not() {
        let (one, two) = (Value::Int(1), Value::Int(2));
        assert_eq!(value(&one, None), Ok(&one));
        assert_eq!(value(&one, Some(&Value::Nil)), Ok(&one));
        assert_eq!(value(&Value::Nil, Some(&two)), Ok(&two));
        assert_eq!(value(&Value::Nil, Some(&Value::Nil)), Ok(&Value::Nil));
        assert_eq!(value(&one, Some(&Value::Int(1))), Ok(&one));
        assert_eq!(value(&one, Some(&two)), Err(Differs));
        assert_eq!(value(&one, Some(&Value::Float(1.0))), Err(Differs));
    }
}
