//! Records of a history as a term, and back.

use std::collections::HashSet;

use fuzz_dist_core::{History, Op, Process, Sym, Value, etf, interop};

use crate::{Answer, decode};

/// Keys that every record has, and `node` and `error`.
const OWN_ATOM_COUNT: usize = 16;

/// Pairs the records of a term: a list of maps.
pub fn from_terms(records: &[u8]) -> Answer<History> {
    const NAME: &str = "the list";
    let records = decode(records).map_err(|error| format!("{NAME}: {error}"))?;
    interop::history_of_terms(NAME, &records).map_err(|error| error.to_string())
}

/// `count` records from position `first`, as a term: a list of maps.
pub fn to_terms(history: &History, first: usize, count: usize) -> Vec<u8> {
    let ops = history.ops();
    let first = first.min(ops.len());
    let end = first.saturating_add(count).min(ops.len());
    let terms: Vec<Value> = ops[first..end].iter().map(interop::term_of_op).collect();
    let mut bytes = Vec::new();
    etf::encode(&Value::list(terms), &mut bytes);
    bytes
}

/// An upper bound of how many different atoms the records are as terms. Names that are in the VM already
/// count as well; terms that were kept verbatim count as if they were nothing but atoms.
pub fn atom_count_max(history: &History) -> usize {
    let mut atoms = Atoms::default();
    for op in history.ops() {
        atoms.see_op(op);
    }
    OWN_ATOM_COUNT + atoms.names.len() + atoms.verbatim_count
}

#[derive(Default)]
struct Atoms {
    names: HashSet<Sym>,
    verbatim_count: usize,
}

impl Atoms {
    fn see_op(&mut self, op: &Op) {
        self.names.insert(op.f);
        if let Process::Named(name) = op.process {
            self.names.insert(name);
        }
        self.see(&op.value);
        self.see(&op.error);
        for (name, value) in op.extra.iter().flat_map(|extra| extra.iter()) {
            self.names.insert(*name);
            self.see(value);
        }
    }

    fn see(&mut self, value: &Value) {
        match value {
            Value::Sym(name) => {
                self.names.insert(*name);
            }
            // A tag, a length and one letter.
            Value::Etf(bytes) => self.verbatim_count += bytes.len() / 3,
            Value::List(items) | Value::Tuple(items) | Value::Set(items) => {
                items.iter().for_each(|item| self.see(item));
            }
            Value::Map(pairs) => pairs.iter().for_each(|(key, value)| {
                self.see(key);
                self.see(value);
            }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(edn: &str) -> History {
        interop::load_bytes("h", edn.as_bytes(), None).unwrap().history
    }

    #[test]
    fn atoms_are_counted_wherever_they_are() {
        let plain = history("{:process 0 :type :invoke :f :read :value 1}");
        let many = history(
            "{:process 0 :type :invoke :f :read :value {:a [:b #{:c}] :b 1} :error [:d :d] :e :f}
             {:process :nemesis :type :info :f :read :value #etf \"836c0000000161016102\"}",
        );
        assert_eq!(atom_count_max(&plain), OWN_ATOM_COUNT + 1);
        // read, a to f, nemesis; and whatever ten bytes could say.
        assert_eq!(atom_count_max(&many), OWN_ATOM_COUNT + 8 + 3);
    }

    #[test]
    fn records_come_back_as_they_went() {
        let whole = history(
            "{:process 0 :type :invoke :f :cas :value [1 \"a\"] :node \"n1\"}
             {:process 0 :type :info :f :cas :value [1 \"a\"] :error {:why :timeout} :time 7}",
        );
        let back = from_terms(&to_terms(&whole, 0, 2)).unwrap();
        assert_eq!(back.ops(), whole.ops());
        let error = from_terms(&[131, 108]).unwrap_err();
        assert!(error.starts_with("the list: the term is cut off"), "{error}");
    }

    #[test]
    fn parts_of_a_history_are_within_it() {
        let history = history(
            "{:process 0 :type :invoke :f :read} {:process 1 :type :invoke :f :read}
             {:process 2 :type :invoke :f :read}",
        );
        let positions = |first, count| -> Vec<i64> {
            let list = decode(&to_terms(&history, first, count)).unwrap();
            let items = list.items().unwrap().iter();
            items.map(|item| item.get("index").unwrap().as_int().unwrap()).collect()
        };
        assert_eq!(positions(0, 2), [0, 1]);
        assert_eq!(positions(2, usize::MAX), [2]);
        assert_eq!(positions(9, 1), [0; 0]);
    }
}
