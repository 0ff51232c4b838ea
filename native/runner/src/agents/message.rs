//! The messages of `doc/protocol.md` as the core writes and reads them.
//!
//! Operations are the hot path: they are written into the frame directly and their completions are
//! taken apart without a copy. Everything else goes through [`Value`].

use fuzz_dist_core::etf;
use fuzz_dist_core::{OpType, Sym, Value};

use crate::clock_offsets::ClockStamp;

/// An invocation on its way to a worker.
#[derive(Debug, Clone)]
pub struct WireOp {
    /// Chosen by the core; comes back with the completion.
    pub id: u64,
    /// The logical process.
    pub process: i64,
    /// The function.
    pub f: Sym,
    /// Its argument.
    pub value: Value,
}

/// A completion as a worker sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct WireDone {
    /// Of the invocation.
    pub id: u64,
    /// `Ok`, `Fail` or `Info`.
    pub op_type: OpType,
    /// The result.
    pub value: Value,
    /// Why it failed or is indeterminate.
    pub error: Value,
}

/// Completions that came together.
#[derive(Debug, Clone, PartialEq)]
pub struct DoneBatch {
    /// They.
    pub all: Vec<WireDone>,
    /// The clocks of the VM when it sent them, if it told.
    pub stamp: Option<ClockStamp>,
}

/// What the core sends.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// Any message but operations.
    Term(Value),
    /// A batch of invocations.
    Ops(Vec<WireOp>),
}

/// `{name, …}`.
pub fn tagged(name: &str, rest: impl IntoIterator<Item = Value>) -> Value {
    let mut items = vec![Value::sym(name)];
    items.extend(rest);
    Value::tuple(items)
}

/// Writes one frame: the list of `messages`.
pub fn encode_frame(messages: &[Outgoing], out: &mut Vec<u8>) {
    out.clear();
    out.push(131);
    list_header(messages.len(), out);
    for message in messages {
        match message {
            Outgoing::Term(term) => etf::encode_bare(term, out),
            Outgoing::Ops(ops) => encode_ops(ops, out),
        }
    }
    out.push(NIL);
}

const LIST: u8 = 108;
const NIL: u8 = 106;
const SMALL_TUPLE: u8 = 104;

fn list_header(len: usize, out: &mut Vec<u8>) {
    if len > 0 {
        out.push(LIST);
        // A frame holds at most a batch for each thread: far below 2^32.
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

fn encode_ops(ops: &[WireOp], out: &mut Vec<u8>) {
    out.extend_from_slice(&[SMALL_TUPLE, 2]);
    etf::encode_bare(&Value::Sym(Sym::new("ops")), out);
    list_header(ops.len(), out);
    for op in ops {
        out.extend_from_slice(&[SMALL_TUPLE, 4]);
        etf::encode_bare(&Value::Int(op.id as i64), out);
        etf::encode_bare(&Value::Int(op.process), out);
        etf::encode_bare(&Value::Sym(op.f), out);
        etf::encode_bare(&op.value, out);
    }
    out.push(NIL);
}

/// Why a frame of an agent cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not the external term format, or past the limits.
    #[error("a frame that is no Erlang term: {0}")]
    Etf(#[from] etf::EtfError),
    /// More than is read at once.
    #[error("a message that is too large: {0}")]
    TooLarge(String),
    /// A term that the protocol does not know.
    #[error("a message that the protocol (doc/protocol.md) does not know: {0}")]
    Unknown(String),
}

/// Takes a frame apart into its messages.
pub fn decode_frame(bytes: &[u8]) -> Result<Vec<Value>, FrameError> {
    let limits = etf::Limits::default();
    match etf::decode(bytes, &limits)? {
        Value::List(items) => Ok(items.to_vec()),
        other => Err(unknown(&other)),
    }
}

/// The completions of a `{done, […]}` or `{done, […], MonoNs, WallNs}` message.
pub fn decode_done(message: &Value) -> Result<DoneBatch, FrameError> {
    let (items, stamp) = match message.items() {
        Some([_, Value::List(items)]) => (items, None),
        Some([_, Value::List(items), Value::Int(monotonic_ns), Value::Int(wall_ns)]) => {
            (items, Some(ClockStamp { monotonic_ns: *monotonic_ns, wall_ns: *wall_ns }))
        }
        _ => return Err(unknown(message)),
    };
    let one = |item| decode_one_done(item).ok_or_else(|| unknown(item));
    Ok(DoneBatch { all: items.iter().map(one).collect::<Result<_, _>>()?, stamp })
}

fn decode_one_done(item: &Value) -> Option<WireDone> {
    let (id, op_type, value, error) = match item.items()? {
        [id, op_type, value] => (id, op_type, value, Value::Nil),
        [id, op_type, value, error] => (id, op_type, value, error.clone()),
        _ => return None,
    };
    let op_type = OpType::parse(op_type.as_sym()?.as_str()).filter(|t| *t != OpType::Invoke)?;
    let id = u64::try_from(id.as_int()?).ok()?;
    Some(WireDone { id, op_type, value: value.clone(), error })
}

/// The tag of a message, and its elements with the tag first.
pub fn parts(message: &Value) -> Result<(Sym, &[Value]), FrameError> {
    let items = match message {
        Value::Tuple(items) => items.as_slice(),
        other => return Err(unknown(other)),
    };
    match items.first().and_then(Value::as_sym) {
        Some(tag) => Ok((tag, items)),
        None => Err(unknown(message)),
    }
}

/// The error for a message that fits no pattern, shortened for people.
pub fn unknown(message: &Value) -> FrameError {
    let text = message.to_string();
    FrameError::Unknown(match text.char_indices().nth(200) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_operations_is_the_term_of_the_protocol() {
        let ops = vec![
            WireOp { id: 300, process: 4, f: Sym::new("read"), value: Value::Nil },
            WireOp { id: 7, process: 5, f: Sym::new("write"), value: Value::Int(3) },
        ];
        let mut bytes = Vec::new();
        let frame = [Outgoing::Term(tagged("close", [Value::Int(3)])), Outgoing::Ops(ops)];
        encode_frame(&frame, &mut bytes);
        let messages = decode_frame(&bytes).unwrap();
        assert_eq!(
            Value::list(messages).to_string(),
            "[[:close 3] [:ops [[300 4 :read nil] [7 5 :write 3]]]]"
        );
    }

    #[test]
    fn completions_with_and_without_error() {
        let done = tagged(
            "done",
            [Value::list(vec![
                Value::tuple(vec![Value::Int(1), Value::sym("ok"), Value::Int(9)]),
                Value::tuple(vec![
                    Value::Int(2),
                    Value::sym("info"),
                    Value::Nil,
                    Value::sym("timeout"),
                ]),
            ])],
        );
        let batch = decode_done(&done).unwrap();
        assert_eq!(batch.all[0].op_type, OpType::Ok);
        assert_eq!(batch.all[1].error, Value::sym("timeout"));
        assert_eq!(batch.stamp, None);
    }

    #[test]
    fn completions_with_the_clocks_of_their_node() {
        let clocks = [Value::Int(12), Value::Int(-5)];
        let stamped = |clocks: &[Value]| {
            let list = Value::list(Vec::new());
            decode_done(&tagged("done", std::iter::once(list).chain(clocks.iter().cloned())))
        };
        let stamp = stamped(&clocks).unwrap().stamp;
        assert_eq!(stamp, Some(ClockStamp { monotonic_ns: 12, wall_ns: -5 }));
        assert!(stamped(&clocks[..1]).is_err());
        assert!(stamped(&[Value::Int(12), Value::Nil]).is_err());
    }

    #[test]
    fn a_completion_that_is_an_invocation_is_refused() {
        let wrong = Value::tuple(vec![Value::Int(1), Value::sym("invoke"), Value::Nil]);
        assert!(decode_done(&tagged("done", [Value::list(vec![wrong])])).is_err());
    }
}
