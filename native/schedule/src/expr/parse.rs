//! From JSON to [`Expr`]: one table of combinators, one small parser for each shape of argument.

use fuzz_dist_core::spec::suggest;
use serde_json::{Map, Value as Json};

use super::operation::{self, describe};
use super::{Expr, ExprError, Node, OpTest, ThreadTest};
use crate::generator::independent::Keys;

/// How deep expressions may nest: parsing and asking recurse.
const DEPTH_MAX: usize = 100;
/// A year: more is a slip of units.
const SECONDS_MAX: f64 = 31_536_000.0;

/// The names of all combinators, besides `f` for operations.
pub const COMBINATORS: [&str; 33] = [
    "any",
    "clients",
    "concat",
    "concurrency-limit",
    "cycle",
    "cycle-times",
    "delay",
    "each-process",
    "each-thread",
    "f-map",
    "filter",
    "flip-flop",
    "independent",
    "limit",
    "log",
    "map",
    "mix",
    "nemesis",
    "on",
    "on-threads",
    "once",
    "phases",
    "process-limit",
    "repeat",
    "reserve",
    "sequence",
    "shortest-any",
    "sleep",
    "stagger",
    "synchronize",
    "then",
    "time-limit",
    "until-ok",
];

type Result<T> = std::result::Result<T, ExprError>;

pub(super) fn expr(json: &Json, path: &str, depth: usize) -> Result<Expr> {
    if depth > DEPTH_MAX {
        return Err(ExprError::new(path, format!("nested deeper than {DEPTH_MAX}")));
    }
    let node = match json {
        Json::Null => Node::Sequence(Vec::new()),
        Json::Array(_) => Node::Sequence(sequence(json, path, depth)?),
        Json::Object(object) if object.contains_key("f") => {
            Node::Op(operation::operation(object, path)?)
        }
        Json::Object(object) => combinator(object, path, depth)?,
        other => {
            let problem =
                format!("expected a generator (an object or an array), found {}", describe(other));
            return Err(ExprError::new(path, problem));
        }
    };
    Ok(Expr { path: path.to_owned(), node })
}

fn combinator(object: &Map<String, Json>, path: &str, depth: usize) -> Result<Node> {
    let (weights, keys): (Vec<_>, Vec<_>) =
        object.iter().partition(|(key, _)| key.as_str() == "weights");
    let [(given, argument)] = keys.as_slice() else {
        let names: Vec<&str> = object.keys().map(String::as_str).collect();
        let problem = if names.is_empty() {
            "an empty object; expected `f` or one combinator".to_owned()
        } else {
            format!("expected one combinator, found the keys {}", names.join(", "))
        };
        return Err(ExprError::new(path, problem));
    };
    let name = given.replace('_', "-");
    let here = format!("{path}/{given}");
    if !weights.is_empty() && name != "mix" {
        return Err(ExprError::new(&here, "`weights` belongs to `mix` only"));
    }
    let weights = weights.first().map(|(_, weights)| *weights);
    Reader { argument, path: &here, depth: depth + 1 }.node(&name, path, weights)
}

/// One combinator's argument, where it stands.
struct Reader<'a> {
    argument: &'a Json,
    path: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn node(&self, name: &str, parent: &str, weights: Option<&Json>) -> Result<Node> {
        Ok(match name {
            "log" => Node::Log(self.text()?),
            "sleep" => Node::Sleep(seconds(self.argument, self.path)?),
            "sequence" | "concat" => {
                Node::Sequence(sequence(self.argument, self.path, self.depth)?)
            }
            "phases" => Node::Phases(sequence(self.argument, self.path, self.depth)?),
            "then" => self.then()?,
            "mix" => {
                let items = self.items(1)?;
                let weights = self.weights(weights, items.len(), parent)?;
                Node::Mix(items, weights)
            }
            "any" => Node::Any(self.items(1)?, false),
            "shortest-any" => Node::Any(self.items(1)?, true),
            "flip-flop" => Node::FlipFlop(self.items(2)?),
            "reserve" => self.reserve()?,
            "cycle-times" => self.cycle_times()?,
            "repeat" => {
                let (count, inner) = self.maybe_counted()?;
                Node::Repeat(count, inner)
            }
            "cycle" => {
                let (count, inner) = self.maybe_counted()?;
                Node::Cycle(count, inner)
            }
            "once" => Node::Limit(1, self.inner()?),
            "limit" => self.counted().map(|(count, inner)| Node::Limit(count, inner))?,
            "process-limit" => {
                self.counted().map(|(count, inner)| Node::ProcessLimit(count, inner))?
            }
            "concurrency-limit" => self.concurrency_limit()?,
            "time-limit" => self.timed().map(|(time, inner)| Node::TimeLimit(time, inner))?,
            "stagger" => self.timed().map(|(time, inner)| Node::Stagger(time, inner))?,
            "delay" => self.timed().map(|(time, inner)| Node::Delay(time, inner))?,
            "synchronize" => Node::Synchronize(self.inner()?),
            "each-thread" => Node::EachThread(self.inner()?),
            "each-process" => Node::EachProcess(self.inner()?),
            "clients" => Node::Clients(self.inner()?),
            "nemesis" => Node::Nemesis(self.inner()?),
            "until-ok" => Node::UntilOk(self.inner()?),
            "on-threads" | "on" => {
                let [test, inner] = self.pair("[threads, generator]")?;
                let test = thread_test(test, &format!("{}/0", self.path))?;
                Node::OnThreads(test, self.at(inner, 1)?)
            }
            "filter" => {
                let [test, inner] = self.pair("[test, generator]")?;
                let test = op_test(test, &format!("{}/0", self.path))?;
                Node::Filter(test, self.at(inner, 1)?)
            }
            "f-map" => self.f_map()?,
            "map" => self.map()?,
            "independent" => self.independent()?,
            unknown => {
                let names = COMBINATORS.into_iter().chain(["f"]);
                let problem =
                    format!("unknown combinator `{unknown}`{}", suggest::clause(unknown, names));
                return Err(ExprError::new(parent, problem));
            }
        })
    }

    fn error<T>(&self, problem: impl Into<String>) -> Result<T> {
        Err(ExprError::new(self.path, problem))
    }

    fn text(&self) -> Result<String> {
        match self.argument {
            Json::String(text) => Ok(text.clone()),
            other => self.error(format!("expected text, found {}", describe(other))),
        }
    }

    fn inner(&self) -> Result<Box<Expr>> {
        Ok(Box::new(expr(self.argument, self.path, self.depth)?))
    }

    fn at(&self, json: &Json, place: usize) -> Result<Box<Expr>> {
        Ok(Box::new(expr(json, &format!("{}/{place}", self.path), self.depth)?))
    }

    fn array(&self) -> Result<&[Json]> {
        match self.argument {
            Json::Array(items) => Ok(items),
            other => self.error(format!("expected an array, found {}", describe(other))),
        }
    }

    fn items(&self, count_min: usize) -> Result<Vec<Expr>> {
        let items = self.array()?;
        if items.len() < count_min {
            return self.error(format!("needs at least {count_min}, has {}", items.len()));
        }
        (0..items.len()).map(|i| self.at(&items[i], i).map(|boxed| *boxed)).collect()
    }

    fn pair(&self, shape: &str) -> Result<[&Json; 2]> {
        match self.argument {
            Json::Array(items) if items.len() == 2 => Ok([&items[0], &items[1]]),
            other => self.error(format!("expected {shape}, found {}", describe(other))),
        }
    }

    fn counted(&self) -> Result<(u64, Box<Expr>)> {
        let [number, inner] = self.pair("[number, generator]")?;
        Ok((count(number, &format!("{}/0", self.path))?, self.at(inner, 1)?))
    }

    fn timed(&self) -> Result<(u64, Box<Expr>)> {
        let [time, inner] = self.pair("[seconds, generator]")?;
        Ok((seconds(time, &format!("{}/0", self.path))?, self.at(inner, 1)?))
    }

    /// `G` or `[n, G]`: an array of two whose first is a number is the latter.
    fn maybe_counted(&self) -> Result<(Option<u64>, Box<Expr>)> {
        match self.argument {
            Json::Array(items) if items.first().is_some_and(Json::is_number) => {
                let (count, inner) = self.counted()?;
                Ok((Some(count), inner))
            }
            _ => Ok((None, self.inner()?)),
        }
    }

    fn then(&self) -> Result<Node> {
        if self.array()?.len() != 2 {
            return self.error("expected [first, second]");
        }
        let mut items = sequence(self.argument, self.path, self.depth)?;
        let second = items.pop();
        items.extend(second.map(|second| Expr {
            path: second.path.clone(),
            node: Node::Synchronize(Box::new(second)),
        }));
        Ok(Node::Sequence(items))
    }

    fn weights(&self, weights: Option<&Json>, len: usize, parent: &str) -> Result<Vec<u64>> {
        let path = format!("{parent}/weights");
        let Some(weights) = weights else { return Ok(vec![1; len]) };
        let Json::Array(items) = weights else {
            return Err(ExprError::new(&path, "expected an array of whole numbers"));
        };
        if items.len() != len {
            let problem = format!("{} weights for {len} generators", items.len());
            return Err(ExprError::new(&path, problem));
        }
        let weights = items
            .iter()
            .enumerate()
            .map(|(i, item)| count(item, &format!("{path}/{i}")))
            .collect::<Result<Vec<u64>>>()?;
        if weights.iter().all(|&weight| weight == 0) {
            return Err(ExprError::new(&path, "all weights are 0"));
        }
        Ok(weights)
    }

    fn concurrency_limit(&self) -> Result<Node> {
        let (count, inner) = self.counted()?;
        match u32::try_from(count) {
            Ok(0) => self.error("a limit of 0 would wait for ever"),
            Ok(count) => Ok(Node::ConcurrencyLimit(count, inner)),
            Err(_) => self.error(format!("{count} is too large")),
        }
    }

    fn reserve(&self) -> Result<Node> {
        let items = self.array()?;
        let mut ranges = Vec::new();
        for (i, pair) in items.chunks_exact(2).enumerate() {
            let threads = count(&pair[0], &format!("{}/{}", self.path, 2 * i))?;
            match u32::try_from(threads) {
                Ok(threads) if threads > 0 => {
                    ranges.push((threads, *self.at(&pair[1], 2 * i + 1)?))
                }
                _ => return self.error(format!("cannot reserve {threads} threads")),
            }
        }
        let rest = match items.chunks_exact(2).remainder() {
            [rest] => Some(self.at(rest, items.len() - 1)?),
            _ => None,
        };
        if ranges.is_empty() {
            return self.error("expected [threads, generator, …, generator for the rest]");
        }
        Ok(Node::Reserve(ranges, rest))
    }

    fn cycle_times(&self) -> Result<Node> {
        let items = self.array()?;
        if items.is_empty() || items.len() % 2 != 0 {
            return self.error("expected [seconds, generator, seconds, generator, …]");
        }
        let mut windows = Vec::new();
        for (i, pair) in items.chunks_exact(2).enumerate() {
            let time = seconds(&pair[0], &format!("{}/{}", self.path, 2 * i))?;
            if time == 0 {
                return self.error("a window must last longer than 0 s");
            }
            windows.push((time, *self.at(&pair[1], 2 * i + 1)?));
        }
        Ok(Node::CycleTimes(windows))
    }

    fn f_map(&self) -> Result<Node> {
        let [names, inner] = self.pair("[{old: new, …}, generator]")?;
        let Json::Object(names) = names else {
            return self.error(format!("expected {{old: new, …}}, found {}", describe(names)));
        };
        let mut renamed = Vec::new();
        for (from, to) in names {
            let path = format!("{}/0/{from}", self.path);
            renamed.push((from.clone(), operation::f_name(to, &path)?));
        }
        Ok(Node::FMap(renamed, self.at(inner, 1)?))
    }

    fn map(&self) -> Result<Node> {
        let [changes, inner] = self.pair("[{f, value, extra}, generator]")?;
        let path = format!("{}/0", self.path);
        let Json::Object(changes) = changes else {
            return self
                .error(format!("expected {{f, value, extra}}, found {}", describe(changes)));
        };
        operation::only_keys(changes, &["f", "value", "extra"], &path)?;
        let f = changes.get("f").map(|f| operation::f_name(f, &format!("{path}/f"))).transpose()?;
        let value = changes
            .get("value")
            .map(|value| operation::template(value, &format!("{path}/value"), true))
            .transpose()?;
        let extra =
            changes.get("extra").map(|extra| operation::extra(extra, &path, true)).transpose()?;
        Ok(Node::Map { f, value, extra, inner: self.at(inner, 1)? })
    }

    fn independent(&self) -> Result<Node> {
        let Json::Object(object) = self.argument else {
            return self.error(format!(
                "expected {{keys, threads-per-key, ops-per-key, key-time, generator}}, found {}",
                describe(self.argument)
            ));
        };
        let known = ["keys", "threads-per-key", "ops-per-key", "key-time", "generator"];
        let fields = operation::normalised(object, &known, self.path)?;
        let field =
            |name: &str| fields.get(name).map(|json| (*json, format!("{}/{name}", self.path)));
        let Some((generator, path)) = field("generator") else {
            return self.error("`generator` is missing");
        };
        let mut inner = expr(generator, &path, self.depth)?;
        if let Some((time, path)) = field("key-time") {
            let node = Node::TimeLimit(seconds(time, &path)?, Box::new(inner));
            inner = Expr { path, node };
        }
        if let Some((limit, path)) = field("ops-per-key") {
            inner = Expr { node: Node::Limit(count(limit, &path)?, Box::new(inner)), path };
        }
        let threads = match field("threads-per-key") {
            None => 1,
            Some((threads, path)) => match u32::try_from(count(threads, &path)?) {
                Ok(threads) if threads > 0 => threads,
                _ => return Err(ExprError::new(&path, "must be from 1 to 2^32 - 1")),
            },
        };
        let keys = match field("keys") {
            None => Keys::Counted(None),
            Some((Json::Array(keys), path)) => Keys::Listed(
                keys.iter().map(|key| operation::fixed(key, &path)).collect::<Result<Vec<_>>>()?,
            ),
            Some((keys, path)) => Keys::Counted(Some(count(keys, &path)?)),
        };
        Ok(Node::Independent(keys, threads, Box::new(inner)))
    }
}

/// Elements of a sequence; all but the last must be able to end.
fn sequence(json: &Json, path: &str, depth: usize) -> Result<Vec<Expr>> {
    let items = Reader { argument: json, path, depth: depth + 1 }.items(0)?;
    let count = items.len();
    if let Some(endless) = items.iter().take(count.saturating_sub(1)).find(|item| !item.ends()) {
        let problem = "never ends, so that what follows is never reached; wrap it in `once`, `limit`, \
                       `time-limit` or `until-ok`";
        return Err(ExprError::new(&endless.path, problem));
    }
    Ok(items)
}

pub(super) fn count(json: &Json, path: &str) -> Result<u64> {
    json.as_u64().ok_or_else(|| {
        ExprError::new(path, format!("expected a whole number from 0, found {}", describe(json)))
    })
}

fn seconds(json: &Json, path: &str) -> Result<u64> {
    match json.as_f64() {
        Some(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => {
            Ok((seconds * 1e9).round() as u64)
        }
        Some(seconds) => Err(ExprError::new(
            path,
            format!("{seconds} s is out of range (0 to {SECONDS_MAX} s, a year)"),
        )),
        None => Err(ExprError::new(path, format!("expected seconds, found {}", describe(json)))),
    }
}

fn thread_number(json: &Json, path: &str) -> Result<u32> {
    u32::try_from(count(json, path)?)
        .map_err(|_| ExprError::new(path, "no thread has such a number"))
}

fn thread_test(json: &Json, path: &str) -> Result<ThreadTest> {
    match json {
        Json::Number(_) => Ok(ThreadTest::Listed(vec![thread_number(json, path)?])),
        Json::Array(items) => Ok(ThreadTest::Listed(
            items.iter().map(|item| thread_number(item, path)).collect::<Result<_>>()?,
        )),
        Json::String(text) => match text.replace('_', "-").as_str() {
            "even" => Ok(ThreadTest::Parity(true)),
            "odd" => Ok(ThreadTest::Parity(false)),
            "one-per-node" => Ok(ThreadTest::OnePerNode),
            other => {
                let hint = suggest::clause(other, ["even", "odd", "one-per-node"]);
                Err(ExprError::new(path, format!("unknown set of threads `{other}`{hint}")))
            }
        },
        Json::Object(object) => match operation::single(object, path)? {
            ("range", Json::Array(ends)) if ends.len() == 2 => Ok(ThreadTest::Range(
                thread_number(&ends[0], path)?,
                thread_number(&ends[1], path)?,
            )),
            ("range", _) => Err(ExprError::new(path, "expected {\"range\": [first, end]}")),
            ("not", inner) => {
                Ok(ThreadTest::Not(Box::new(thread_test(inner, &format!("{path}/not"))?)))
            }
            ("node", nodes) => Ok(ThreadTest::Nodes(operation::names(nodes, path)?)),
            (other, _) => {
                let hint = suggest::clause(other, ["range", "node", "not"]);
                Err(ExprError::new(path, format!("unknown set of threads `{other}`{hint}")))
            }
        },
        other => Err(ExprError::new(path, format!("expected threads, found {}", describe(other)))),
    }
}

fn op_test(json: &Json, path: &str) -> Result<OpTest> {
    let Json::Object(object) = json else {
        return Err(ExprError::new(path, format!("expected a test, found {}", describe(json))));
    };
    let tests = |inner: &Json, name: &str| -> Result<Vec<OpTest>> {
        let path = format!("{path}/{name}");
        let Json::Array(items) = inner else {
            return Err(ExprError::new(&path, "expected an array of tests"));
        };
        items.iter().enumerate().map(|(i, t)| op_test(t, &format!("{path}/{i}"))).collect()
    };
    match operation::single(object, path)? {
        ("f", names) => Ok(OpTest::F(operation::names(names, path)?)),
        ("value", value) => Ok(OpTest::Value(vec![operation::fixed(value, path)?])),
        ("value-in", Json::Array(values)) => Ok(OpTest::Value(
            values.iter().map(|value| operation::fixed(value, path)).collect::<Result<_>>()?,
        )),
        ("threads", threads) => {
            Ok(OpTest::Thread(thread_test(threads, &format!("{path}/threads"))?))
        }
        ("all", inner) => Ok(OpTest::All(tests(inner, "all")?)),
        ("some", inner) => Ok(OpTest::Some(tests(inner, "some")?)),
        ("not", inner) => Ok(OpTest::Not(Box::new(op_test(inner, &format!("{path}/not"))?))),
        (other, _) => {
            let known = ["f", "value", "value-in", "threads", "all", "some", "not"];
            let hint = suggest::clause(other, known);
            Err(ExprError::new(path, format!("unknown test `{other}`{hint}")))
        }
    }
}
