//! Clients of a set and of a counter.

use fuzz_dist_core::{History, Sym, Value};

use super::Recorder;

const CLIENTS: usize = 10;
/// Reads of the whole set in a history, whatever its length.
const READS: usize = 20;

/// Adds, and reads of all elements so far.
pub fn set(operations: usize) -> History {
    let (add, read) = (Sym::new("add"), Sym::new("read"));
    let mut recorder = Recorder::with_capacity(operations);
    let every = (operations / READS).max(1);
    let mut elements: Vec<Value> = Vec::new();
    for n in 0..operations {
        if n % every == every - 1 {
            recorder.done(n % CLIENTS, read, Value::Nil, Value::list(elements.clone()));
        } else {
            let element = Value::Int(n as i64);
            recorder.done(n % CLIENTS, add, element.clone(), element.clone());
            elements.push(element);
        }
    }
    recorder.history()
}

/// Additions and reads by turns.
pub fn counter(operations: usize) -> History {
    let (add, read) = (Sym::new("add"), Sym::new("read"));
    let mut recorder = Recorder::with_capacity(operations);
    let mut value = 0;
    for n in 0..operations {
        if n % 2 == 0 {
            let added = (n % 5) as i64;
            value += added;
            recorder.done(n % CLIENTS, add, Value::Int(added), Value::Int(added));
        } else {
            recorder.done(n % CLIENTS, read, Value::Nil, Value::Int(value));
        }
    }
    recorder.history()
}
