//! Generators as data: the expression that a spec or an Elixir module gives, parsed.
//!
//! An expression is JSON (TOML and Elixir terms arrive as the same structure): an object with one key, the
//! name of a combinator, an array (run in sequence), or an operation, an object with `f`. Every
//! combinator is described in `doc/generators.md`. Parsing checks shapes, names and ranges; what
//! depends on threads and nodes is checked by [`crate::compile()`].

mod operation;
mod parse;

use serde_json::Value as Json;

use crate::generator::independent::Keys;
use crate::template::Template;

pub use operation::TEMPLATE_NAMES;
pub use parse::COMBINATORS;

/// Why an expression is not a generator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("generator{}: {problem}", at(.path))]
pub struct ExprError {
    /// Where, as a JSON pointer: `/mix/1/value`; empty at the top.
    pub path: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" at {path}") }
}

impl ExprError {
    pub(crate) fn new(path: &str, problem: impl Into<String>) -> ExprError {
        ExprError { path: path.to_owned(), problem: problem.into() }
    }
}

/// A parsed generator expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// Where it stands in the whole expression, as a JSON pointer.
    pub path: String,
    /// What it is.
    pub node: Node,
}

/// A function with its value and extras.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// The function.
    pub f: String,
    /// Its value.
    pub value: Template,
    /// Further keys.
    pub extra: Vec<(String, Template)>,
}

/// Which threads.
#[derive(Debug, Clone, PartialEq)]
pub enum ThreadTest {
    /// These numbers.
    Listed(Vec<u32>),
    /// From the first (included) to the second (excluded).
    Range(u32, u32),
    /// Even numbers, or odd ones.
    Parity(bool),
    /// Those that talk to these nodes.
    Nodes(Vec<String>),
    /// The first thread of each node.
    OnePerNode,
    /// All but those.
    Not(Box<ThreadTest>),
}

/// Which operations pass a filter.
#[derive(Debug, Clone, PartialEq)]
pub enum OpTest {
    /// The function is one of these.
    F(Vec<String>),
    /// The value is one of these.
    Value(Vec<fuzz_dist_core::Value>),
    /// The thread is one of those.
    Thread(ThreadTest),
    /// All hold.
    All(Vec<OpTest>),
    /// At least one holds.
    Some(Vec<OpTest>),
    /// It does not hold.
    Not(Box<OpTest>),
}

/// The kinds of expressions. Times are nanoseconds.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// An operation, again and again.
    Op(Operation),
    /// A line of log.
    Log(String),
    /// A pause.
    Sleep(u64),
    /// One after the other.
    Sequence(Vec<Expr>),
    /// One after the other, all threads free between.
    Phases(Vec<Expr>),
    /// When all threads are free.
    Synchronize(Box<Expr>),
    /// One of each in turn.
    FlipFlop(Vec<Expr>),
    /// The first operation, so often or for ever.
    Repeat(Option<u64>, Box<Expr>),
    /// The whole, so often or for ever.
    Cycle(Option<u64>, Box<Expr>),
    /// By chance, with weights.
    Mix(Vec<Expr>, Vec<u64>),
    /// Whichever is ready; `true`: until the first ends.
    Any(Vec<Expr>, bool),
    /// So many threads each, the rest to the last if there is one without number.
    Reserve(Vec<(u32, Expr)>, Option<Box<Expr>>),
    /// At most so many operations.
    Limit(u64, Box<Expr>),
    /// Only so long.
    TimeLimit(u64, Box<Expr>),
    /// At most so many processes.
    ProcessLimit(u64, Box<Expr>),
    /// At most so many threads busy.
    ConcurrencyLimit(u32, Box<Expr>),
    /// Random gaps of that mean.
    Stagger(u64, Box<Expr>),
    /// Fixed gaps.
    Delay(u64, Box<Expr>),
    /// Windows of time in turn.
    CycleTimes(Vec<(u64, Expr)>),
    /// A copy for each thread.
    EachThread(Box<Expr>),
    /// A copy for each process.
    EachProcess(Box<Expr>),
    /// Only on those threads.
    OnThreads(ThreadTest, Box<Expr>),
    /// Only on client threads.
    Clients(Box<Expr>),
    /// On the nemesis thread.
    Nemesis(Box<Expr>),
    /// Function, value and extras replaced.
    Map {
        /// The new function.
        f: Option<String>,
        /// The new value.
        value: Option<Template>,
        /// The new extras.
        extra: Option<Vec<(String, Template)>>,
        /// Whose operations.
        inner: Box<Expr>,
    },
    /// Functions renamed.
    FMap(Vec<(String, String)>, Box<Expr>),
    /// Only operations that pass.
    Filter(OpTest, Box<Expr>),
    /// Until one of its own was ok.
    UntilOk(Box<Expr>),
    /// Keys, threads a key, and what to do with each key.
    Independent(Keys, u32, Box<Expr>),
}

impl Expr {
    /// Parses an expression.
    pub fn parse(json: &Json) -> Result<Expr, ExprError> {
        parse::expr(json, "", 0)
    }

    /// Whether some operation belongs to the nemesis thread.
    pub fn uses_nemesis(&self) -> bool {
        matches!(self.node, Node::Nemesis(_)) || self.children().iter().any(|e| e.uses_nemesis())
    }

    /// Whether something in it decides when: then it is as fast as its author wants it.
    pub fn has_pace(&self) -> bool {
        let paces = matches!(
            self.node,
            Node::Stagger(..) | Node::Delay(..) | Node::Sleep(_) | Node::CycleTimes(_)
        );
        paces || self.children().iter().any(|e| e.has_pace())
    }

    /// The names of all functions that it can invoke, sorted, before any renaming by `map` and `f-map`,
    /// together with the new names.
    pub fn functions(&self) -> std::collections::BTreeSet<String> {
        let mut names = std::collections::BTreeSet::new();
        self.collect_functions(&mut names);
        names
    }

    fn collect_functions(&self, names: &mut std::collections::BTreeSet<String>) {
        match &self.node {
            Node::Op(operation) => drop(names.insert(operation.f.clone())),
            Node::Map { f: Some(f), .. } => drop(names.insert(f.clone())),
            Node::FMap(renamed, _) => names.extend(renamed.iter().map(|(_, to)| to.clone())),
            _ => {}
        }
        self.children().iter().for_each(|child| child.collect_functions(names));
    }

    /// The expressions directly inside.
    pub fn children(&self) -> Vec<&Expr> {
        match &self.node {
            Node::Op(_) | Node::Log(_) | Node::Sleep(_) => Vec::new(),
            Node::Sequence(items)
            | Node::Phases(items)
            | Node::FlipFlop(items)
            | Node::Mix(items, _)
            | Node::Any(items, _) => items.iter().collect(),
            Node::Reserve(ranges, rest) => {
                ranges.iter().map(|(_, item)| item).chain(rest.as_deref()).collect()
            }
            Node::CycleTimes(windows) => windows.iter().map(|(_, item)| item).collect(),
            Node::Synchronize(inner)
            | Node::Repeat(_, inner)
            | Node::Cycle(_, inner)
            | Node::Limit(_, inner)
            | Node::TimeLimit(_, inner)
            | Node::ProcessLimit(_, inner)
            | Node::ConcurrencyLimit(_, inner)
            | Node::Stagger(_, inner)
            | Node::Delay(_, inner)
            | Node::EachThread(inner)
            | Node::EachProcess(inner)
            | Node::OnThreads(_, inner)
            | Node::Clients(inner)
            | Node::Nemesis(inner)
            | Node::Map { inner, .. }
            | Node::FMap(_, inner)
            | Node::Filter(_, inner)
            | Node::UntilOk(inner)
            | Node::Independent(_, _, inner) => vec![inner],
        }
    }

    /// Whether it can come to an end: an operation alone never does.
    pub fn ends(&self) -> bool {
        match &self.node {
            Node::Op(_) => false,
            Node::Log(_) | Node::Sleep(_) => true,
            Node::Limit(..) | Node::TimeLimit(..) | Node::ProcessLimit(..) => true,
            Node::UntilOk(_) => true,
            Node::Repeat(count, inner) => count.is_some() || inner.ends_empty(),
            Node::Cycle(count, inner) => inner.ends_empty() || (count.is_some() && inner.ends()),
            Node::FlipFlop(items) | Node::Any(items, true) => {
                items.is_empty() || items.iter().any(Expr::ends)
            }
            Node::CycleTimes(windows) => windows.iter().any(|(_, item)| item.ends()),
            Node::Independent(keys, _, inner) => {
                inner.ends_empty() || (keys.count().is_some() && inner.ends())
            }
            _ => self.children().into_iter().all(Expr::ends),
        }
    }

    /// Whether it has nothing in it at all.
    fn ends_empty(&self) -> bool {
        matches!(&self.node, Node::Sequence(items) if items.is_empty())
    }
}
