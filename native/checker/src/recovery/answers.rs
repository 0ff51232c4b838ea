//! Whether a completion is an answer of the system under test.
//!
//! A definite answer shows that the system works, whether or not the operation took place: `:taken` and
//! `:mismatch` are answers. A `:fail` that says that nobody was there to answer is none, nor is one
//! without an error, nor an operation whose outcome is unknown.

use fuzz_dist_core::{Op, OpType, Value};

/// Leading words of errors that say that the service, its node, or the way to it was not there.
const ABSENT: [&str; 46] = [
    "agent_lost",
    "badrpc",
    "calling_self",
    "closed",
    "connect-failed",
    "connection-closed",
    "connection-refused",
    "connection_closed",
    "connection_refused",
    "disconnected",
    "econnaborted",
    "econnrefused",
    "econnreset",
    "ehostdown",
    "ehostunreach",
    "enetdown",
    "enetunreach",
    "enotconn",
    "epipe",
    "erpc",
    "etimedout",
    "exception",
    "killed",
    "nil",
    "no_client",
    "no_connection",
    "no_exists",
    "no_table",
    "nocatch",
    "noconnection",
    "node_down",
    "node_not_running",
    "nodedown",
    "noproc",
    "normal",
    "not_connected",
    "not_running",
    "not_started",
    "shutdown",
    "socket-closed",
    "thrown",
    "timed-out",
    "timeout",
    "unavailable",
    "undef",
    "unreachable",
];

/// Words around an error that say nothing about it.
const WRAPPERS: [&str; 6] = ["EXIT", "aborted", "error", "exit", "fail", "throw"];

/// Parts of texts that say the same as [`ABSENT`].
const ABSENT_TEXTS: [&str; 8] = [
    "connection closed",
    "connection refused",
    "connection reset",
    "no connection",
    "no route",
    "not running",
    "timed out",
    "unavailable",
];

/// How deep errors are looked into.
const DEPTH_MAX: usize = 8;

/// Whether the completion of an operation, if there is one, is an answer.
pub fn is_answer(completion: Option<&Op>) -> bool {
    completion.is_some_and(|done| match done.op_type {
        OpType::Ok => true,
        OpType::Fail => is_definite(&done.error, DEPTH_MAX),
        OpType::Info | OpType::Invoke => false,
    })
}

/// Whether an error comes from the domain of the system, not from its absence.
fn is_definite(error: &Value, depth: usize) -> bool {
    if let Some(text) = error.as_text() {
        let word = text.strip_prefix(':').unwrap_or(text);
        let lower = word.to_ascii_lowercase();
        return !ABSENT.contains(&word) && !ABSENT_TEXTS.iter().any(|part| lower.contains(part));
    }
    if error.is_nil() || depth == 0 {
        return false;
    }
    let Some(items) = error.items() else { return true };
    let is_wrapper = |item: &Value| item.as_text().is_some_and(|text| WRAPPERS.contains(&text));
    // `{:error, {:no_exists, …}}` is about `:no_exists`, `{{:nodedown, …}, "call"}` about `:nodedown`.
    match items.iter().find(|item| !is_wrapper(item)) {
        Some(first) => is_definite(first, depth - 1),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz_dist_core::{Process, Sym};

    fn tuple(items: &[Value]) -> Value {
        Value::tuple(items.to_vec())
    }

    fn answers(op_type: OpType, error: Value) -> bool {
        let mut op = Op::new(0, Process::Client(0), op_type, Sym::new("read"), Value::Nil);
        op.error = error;
        is_answer(Some(&op))
    }

    #[test]
    fn errors_of_the_domain_are_answers() {
        let (sym, text) = (Value::sym, |text: &str| Value::str(text));
        let domain = [
            sym("taken"),
            text("mismatch"),
            tuple(&[sym("error"), sym("conflict")]),
            tuple(&[sym("aborted"), tuple(&[sym("insufficient_funds"), Value::Int(3)])]),
            Value::Int(409),
        ];
        for error in domain {
            assert!(answers(OpType::Fail, error.clone()), "{error}");
            assert!(!answers(OpType::Info, error.clone()), "{error}");
        }
        assert!(answers(OpType::Ok, Value::Nil));
        assert!(!is_answer(None));
    }

    #[test]
    fn errors_of_absence_are_none() {
        let (sym, text) = (Value::sym, |text: &str| Value::str(text));
        let absent = [
            Value::Nil,
            sym("timeout"),
            sym("no_table"),
            tuple(&[sym("agent_lost"), text("n1")]),
            tuple(&[sym("timeout"), text("GenServer.call Cache")]),
            tuple(&[tuple(&[sym("nodedown"), sym("n1@127.0.0.1")]), text("GenServer.call")]),
            tuple(&[sym("error"), sym("econnrefused")]),
            tuple(&[sym("aborted"), tuple(&[sym("no_exists"), sym("t")])]),
            tuple(&[sym("exception"), text("UndefinedFunctionError"), text("…")]),
            text("indeterminate: Read timed out"),
            text("Connection refused (os error 111)"),
        ];
        for error in absent {
            assert!(!answers(OpType::Fail, error.clone()), "{error}");
        }
    }
}
