//! Sessions that run transactions against a store in which each takes effect at once, at its end.

use fuzz_dist_core::{History, OpType, Sym, Value};

use super::{Random, Recorder};

/// What is stored under a key, and what a read returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// `[:append k v]`; a read returns everything appended.
    Lists,
    /// `[:w k v]`; a read returns the last value.
    Registers,
}

/// What sessions do.
#[derive(Debug, Clone, Copy)]
pub struct Transactions {
    pub store: Store,
    pub sessions: usize,
    /// Keys in use at a time, each twice as likely as the one before; at most 60.
    pub keys: u64,
    /// A key is replaced by a fresh one after so many writes.
    pub writes_per_key: i64,
    /// Micro-operations of a transaction: 1 to this.
    pub length_max: u64,
}

/// Twenty sessions that append to lists and read them.
pub const LISTS: Transactions = Transactions {
    store: Store::Lists,
    sessions: 20,
    keys: 10,
    writes_per_key: 100,
    length_max: 4,
};

/// Every key that ever was, and those in use.
struct Keys {
    /// What was written to each: all of a list, the last of a register.
    written: Vec<Vec<Value>>,
    /// How many writes of each have begun.
    begun: Vec<i64>,
    active: Vec<usize>,
}

impl Keys {
    /// The key in use at this place, replaced by a fresh one when it was written often enough.
    fn at(&mut self, shape: Transactions, place: usize) -> usize {
        if self.begun[self.active[place]] >= shape.writes_per_key {
            self.active[place] = self.begun.len();
            self.begun.push(0);
            self.written.push(Vec::new());
        }
        self.active[place]
    }
}

/// Its key, and what is written.
type Mop = (usize, Option<i64>);

/// A history of so many transactions.
pub fn history(shape: Transactions, transactions: usize) -> History {
    let f = Sym::new("txn");
    let mut random = Random(7);
    let mut recorder = Recorder::with_capacity(transactions);
    let count = shape.keys as usize;
    let mut keys = Keys {
        written: vec![Vec::new(); count],
        begun: vec![0; count],
        active: (0..count).collect(),
    };
    let mut open: Vec<Option<Vec<Mop>>> = vec![None; shape.sessions];
    let (mut begun, mut ended) = (0, 0);
    while ended < transactions {
        let session = random.below(shape.sessions as u64) as usize;
        if let Some(mops) = open[session].take() {
            ended += 1;
            let done = mops.iter().map(|mop| perform(shape.store, &mut keys, *mop));
            let done: Vec<Value> = done.collect();
            recorder.push(session, OpType::Ok, f, Value::list(done));
        } else if begun < transactions {
            begun += 1;
            let length = 1 + random.below(shape.length_max);
            let mops: Vec<Mop> = (0..length).map(|_| draw(shape, &mut keys, &mut random)).collect();
            let asked = mops.iter().map(|&(key, write)| {
                value(shape.store, write.is_some(), key, write.map_or(Value::Nil, Value::Int))
            });
            let asked: Vec<Value> = asked.collect();
            recorder.push(session, OpType::Invoke, f, Value::list(asked));
            open[session] = Some(mops);
        }
    }
    recorder.history()
}

fn draw(shape: Transactions, keys: &mut Keys, random: &mut Random) -> Mop {
    let place = (random.below((1 << shape.keys) - 1) + 1).ilog2() as usize;
    let key = keys.at(shape, place);
    let writes = random.below(2) == 0;
    keys.begun[key] += i64::from(writes);
    (key, writes.then_some(keys.begun[key]))
}

fn value(store: Store, writes: bool, key: usize, value: Value) -> Value {
    let name = match (writes, store) {
        (false, _) => "r",
        (true, Store::Lists) => "append",
        (true, Store::Registers) => "w",
    };
    Value::list(vec![Value::sym(name), Value::Int(key as i64), value])
}

/// Takes effect: a write, or a read of what is there.
fn perform(store: Store, keys: &mut Keys, (key, write): Mop) -> Value {
    let written = &mut keys.written[key];
    let result = match (write, store) {
        (Some(value), Store::Lists) => {
            written.push(Value::Int(value));
            Value::Int(value)
        }
        (Some(value), Store::Registers) => {
            *written = vec![Value::Int(value)];
            Value::Int(value)
        }
        (None, Store::Lists) => Value::list(written.clone()),
        (None, Store::Registers) => written.first().cloned().unwrap_or(Value::Nil),
    };
    value(store, write.is_some(), key, result)
}
