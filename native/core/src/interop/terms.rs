//! Records as terms: lists of maps, as programs hold histories.
//!
//! `%{index: 0, time: 12, process: 0, type: :invoke, f: :read, value: nil}`, then `:error` and `:node` where
//! there are any, and whatever else the record has. What a record may leave out is what a file may.

use std::sync::Arc;

use super::draft::{Draft, Key, NO_F};
use super::error::{LoadError, ShapeError, shown};
use crate::history::History;
use crate::op::{Op, Process};
use crate::sym::Sym;
use crate::value::Value;

/// Pairs the records of a list of maps, whose keys are names or text; `name` stands for the list in
/// messages.
pub fn history_of_terms(name: &str, records: &Value) -> Result<History, LoadError> {
    let items = match records {
        Value::List(items) => items,
        other => {
            let found = shown(other);
            return Err(LoadError::NotAList { name: name.to_owned(), found });
        }
    };
    if items.is_empty() {
        return Err(LoadError::Empty { path: name.to_owned() });
    }
    let mut ops = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        ops.push(op_of_term(item).map_err(|source| LoadError::Record {
            name: name.to_owned(),
            position,
            source,
        })?);
    }
    History::new(ops).map_err(|source| LoadError::History {
        path: name.to_owned(),
        place: None,
        source,
    })
}

fn op_of_term(term: &Value) -> Result<Op, ShapeError> {
    let Value::Map(pairs) = term else { return Err(ShapeError::NotAMap { found: shown(term) }) };
    let mut draft = Draft::default();
    for (key, value) in pairs.iter() {
        let Some(key_text) = key.as_text() else {
            return Err(ShapeError::BadKey { found: shown(key) });
        };
        let key = match Key::known(key_text) {
            Some(key) => key,
            None => Key::Extra(Sym::try_new(key_text)?),
        };
        draft.set(key, value.clone())?;
    }
    draft.finish()
}

/// One record as a map whose keys are names.
pub fn term_of_op(op: &Op) -> Value {
    // Sorted by name, as a map is.
    let mut pairs = Vec::with_capacity(8);
    if !op.error.is_nil() {
        pairs.push((Value::sym("error"), op.error.clone()));
    }
    let f = if op.f == NO_F { Value::Nil } else { Value::Sym(op.f) };
    pairs.push((Value::sym("f"), f));
    pairs.push((Value::sym("index"), Value::Int(op.index as i64)));
    if let Some(node) = op.node {
        pairs.push((Value::sym("node"), Value::str(node.as_str())));
    }
    let process = match op.process {
        Process::Client(number) => Value::Int(number),
        Process::Named(name) => Value::Sym(name),
    };
    pairs.push((Value::sym("process"), process));
    pairs.push((Value::sym("time"), Value::Int(op.time_ns)));
    pairs.push((Value::sym("type"), Value::sym(op.op_type.as_str())));
    pairs.push((Value::sym("value"), op.value.clone()));
    match &op.extra {
        None => Value::Map(Arc::new(pairs)),
        Some(extra) => Value::map(
            pairs
                .into_iter()
                .chain(extra.iter().map(|(name, value)| (Value::Sym(*name), value.clone()))),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::load_bytes;

    fn terms(edn: &str) -> Value {
        super::super::parse_edn_value(edn).unwrap()
    }

    #[test]
    fn records_survive_the_way_to_terms_and_back() {
        let text =
            "{:process 0 :type :invoke :f :cas :value [1 2] :time 5 :node \"n1\" :final? true}
                    {:process 0 :type :fail :f :cas :value [1 2] :time 9 :error :no}
                    {:process :nemesis :type :info :f nil}";
        let history = load_bytes("h", text.as_bytes(), None).unwrap().history;
        let list = Value::list(history.ops().iter().map(term_of_op).collect::<Vec<_>>());
        let back = history_of_terms("list", &list).unwrap();
        assert_eq!(back.ops(), history.ops());
        assert_eq!(back.pair(0), Some(1));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_record() {
        let message =
            |edn: &str| history_of_terms("the list", &terms(edn)).unwrap_err().to_string();
        let good = "{:process 0 :type :invoke :f :read}";
        for (edn, expected) in [
            ("[]".to_owned(), "the list contains no operations"),
            ("{:a 1}".to_owned(), "the list is not a list of operations: it is {:a 1}"),
            (format!("[{good} 7]"), "the list, record 1: expected an operation"),
            (format!("[{good} {{:process 1 :type :okay}}]"), "record 1: unknown :type :okay"),
            ("[{:process 1 :type :ok 3 4}]".to_owned(), "record 0: the keys of an operation"),
            (format!("[{good} {good}]"), "the list: record 1: process 0 invokes :read while"),
            ("[{:process 1 :type :ok \"type\" :ok}]".to_owned(), "has :type twice"),
        ] {
            let message = message(&edn);
            assert!(message.contains(expected), "{edn}: {message}");
        }
    }
}
