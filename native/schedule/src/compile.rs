//! From an expression to a generator that runs: threads assigned, copies made, streams derived.
//!
//! **Streams.** Each place that draws has a stream of its own, named after the branches that lead to it
//! (`mix.1`, `sequence.0` …), its kind and, for copies, the copy's number. Wrapping something in `limit`
//! or `stagger`, or changing one branch of a `mix`, leaves the draws of everything else as they were.

mod sources;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fuzz_dist_core::Sym;
use fuzz_dist_core::seed::{Seed, Stream};
use fuzz_dist_core::spec::suggest;

use crate::expr::{Expr, ExprError, Node, OpTest, Operation, ThreadTest};
use crate::generator::change::{FMap, Filter, Map, Test};
use crate::generator::choice::{Any, First, Mix};
use crate::generator::each::Each;
use crate::generator::independent::{Independent, Keys};
use crate::generator::leaf::{ExtraSource, Leaf, Log, Sleep};
use crate::generator::limit::{ConcurrencyLimit, Limit, ProcessLimit, TimeLimit};
use crate::generator::order::{Cycle, FlipFlop, Repeat, Sequence, Synchronize};
use crate::generator::pace::{CycleTimes, Delay, Stagger};
use crate::generator::until::{PAUSE_NS, UntilOk};
use crate::generator::{BoxGenerator, ThreadSet};
use crate::template::{Counter, Template};

/// How many generators an expression may become once copied for threads and groups: each has a stream
/// of some 300 bytes.
const GENERATORS_MAX: usize = 300_000;
/// How many client threads a run may have: copies for each thread hold sets of threads.
pub const THREADS_MAX: u32 = 10_000;

/// What a generator is compiled for.
#[derive(Debug, Clone)]
pub struct Env {
    /// Client threads.
    pub threads: u32,
    /// Short names of the nodes; thread t talks to node t modulo their number.
    pub nodes: Vec<String>,
    /// The seed of the run.
    pub seed: Seed,
    /// Names the streams: two generators of one run must not draw the same.
    pub purpose: &'static str,
}

impl Env {
    /// For the main generator of a run.
    pub fn new(threads: u32, nodes: &[String], seed: Seed) -> Env {
        Env { threads, nodes: nodes.to_vec(), seed, purpose: "generator" }
    }

    /// For the generator of a run that asks everything again after the last heal.
    pub fn for_recovery(threads: u32, nodes: &[String], seed: Seed) -> Env {
        Env { purpose: "recovery-generator", ..Env::new(threads, nodes, seed) }
    }

    /// For the final generator of a run.
    pub fn for_final(threads: u32, nodes: &[String], seed: Seed) -> Env {
        Env { purpose: "final-generator", ..Env::new(threads, nodes, seed) }
    }
}

/// Makes the generator of an expression.
pub fn compile(expr: &Expr, env: &Env) -> Result<BoxGenerator, ExprError> {
    if env.threads == 0 || env.threads > THREADS_MAX {
        let problem = format!("{} client threads; needs from 1 to {THREADS_MAX}", env.threads);
        return Err(ExprError::new("", problem));
    }
    let bound = env.threads + 1;
    let scope = Scope {
        threads: Arc::new(ThreadSet::of(bound, 0..env.threads)),
        waits_for: Arc::new(ThreadSet::of(bound, 0..bound)),
    };
    let nodes: Result<Vec<Sym>, _> = env.nodes.iter().map(|node| Sym::try_new(node)).collect();
    let nodes = nodes.map_err(|full| ExprError::new("", full.to_string()))?;
    let mut compiler = Compiler {
        env,
        bound,
        nodes: nodes.into(),
        counters: HashMap::new(),
        branch: String::new(),
        sparse_count: HashMap::new(),
        tables: HashMap::new(),
        made: 0,
    };
    compiler.expr(expr, &scope, &Place::default())
}

/// The threads that an expression may use, and those that `synchronize` waits for.
#[derive(Debug, Clone)]
struct Scope {
    threads: Arc<ThreadSet>,
    waits_for: Arc<ThreadSet>,
}

impl Scope {
    fn of(threads: ThreadSet) -> Scope {
        let threads = Arc::new(threads);
        Scope { waits_for: threads.clone(), threads }
    }
}

/// Where in the expression we are, as far as streams are concerned.
#[derive(Debug, Clone, Default)]
struct Place {
    branch: String,
    copy: u64,
    kinds: BTreeMap<&'static str, u32>,
}

impl Place {
    fn branch(&self, kind: &str, at: usize) -> Place {
        let branch = format!("{}/{kind}.{at}", self.branch);
        Place { branch, copy: self.copy, kinds: BTreeMap::new() }
    }

    fn copy(&self, number: u64) -> Place {
        // Injective for fewer than a million copies on each level, which is more than there can be.
        Place { copy: self.copy.wrapping_mul(1_000_003).wrapping_add(number + 1), ..self.clone() }
    }
}

struct Compiler<'a> {
    env: &'a Env,
    bound: u32,
    nodes: Arc<[Sym]>,
    counters: HashMap<String, Counter>,
    /// Where the templates belong that are being bound.
    branch: String,
    sparse_count: HashMap<String, u32>,
    tables: HashMap<(usize, u64), Arc<Vec<f64>>>,
    made: usize,
}

impl Compiler<'_> {
    /// The next stream of that kind at this place.
    fn stream(&self, place: &mut Place, kind: &'static str) -> Stream {
        let number = place.kinds.entry(kind).or_insert(0);
        let purpose = format!("{}{}:{kind}.{number}", self.env.purpose, place.branch);
        *number += 1;
        self.env.seed.stream(&purpose, place.copy)
    }

    fn sym(&self, name: &str, path: &str) -> Result<Sym, ExprError> {
        Sym::try_new(name).map_err(|full| ExprError::new(path, full.to_string()))
    }

    fn expr(
        &mut self,
        expr: &Expr,
        scope: &Scope,
        place: &Place,
    ) -> Result<BoxGenerator, ExprError> {
        self.made += 1;
        if self.made > GENERATORS_MAX {
            let problem =
                format!("becomes more than {GENERATORS_MAX} generators once it is copied");
            return Err(ExprError::new(&expr.path, problem));
        }
        let mut place = place.clone();
        Ok(match &expr.node {
            Node::Op(operation) => Box::new(self.leaf(operation, &expr.path, scope, &mut place)?),
            Node::Log(text) => Box::new(Log { text: text.as_str().into(), written: false }),
            Node::Sleep(duration_ns) => {
                Box::new(Sleep { duration_ns: *duration_ns, until_ns: None })
            }
            Node::Sequence(_)
            | Node::Phases(_)
            | Node::FlipFlop(_)
            | Node::Synchronize(_)
            | Node::Repeat(..)
            | Node::Cycle(..) => self.ordered(expr, scope, &place)?,
            Node::Mix(..) | Node::Any(..) | Node::Reserve(..) | Node::CycleTimes(_) => {
                self.chosen(expr, scope, &mut place)?
            }
            Node::Limit(..)
            | Node::TimeLimit(..)
            | Node::ProcessLimit(..)
            | Node::ConcurrencyLimit(..)
            | Node::UntilOk(_) => self.limited(expr, scope, &place)?,
            Node::Stagger(mean_ns, inner) => {
                let stream = self.stream(&mut place, "stagger");
                let inner = self.expr(inner, scope, &place)?;
                Box::new(Stagger { mean_ns: *mean_ns, next_ns: None, stream, inner })
            }
            Node::Delay(gap_ns, inner) => {
                let inner = self.expr(inner, scope, &place)?;
                Box::new(Delay { gap_ns: *gap_ns, next_ns: None, inner })
            }
            Node::EachThread(inner) => self.each(inner, scope, &place, false)?,
            Node::EachProcess(inner) => self.each(inner, scope, &place, true)?,
            Node::OnThreads(..) | Node::Clients(_) | Node::Nemesis(_) => {
                self.scoped(expr, scope, &place)?
            }
            Node::Map { .. } | Node::FMap(..) | Node::Filter(..) => {
                self.changed(expr, scope, &mut place)?
            }
            Node::Independent(keys, threads, inner) => {
                self.independent(keys, *threads, inner, scope, &place)?
            }
        })
    }

    fn all(
        &mut self,
        items: &[Expr],
        kind: &str,
        scope: &Scope,
        place: &Place,
    ) -> Result<Vec<BoxGenerator>, ExprError> {
        let branches = items.iter().enumerate();
        branches.map(|(at, item)| self.expr(item, scope, &place.branch(kind, at))).collect()
    }

    fn leaf(
        &mut self,
        operation: &Operation,
        path: &str,
        scope: &Scope,
        place: &mut Place,
    ) -> Result<Leaf, ExprError> {
        self.branch.clone_from(&place.branch);
        Ok(Leaf {
            f: self.sym(&operation.f, path)?,
            value: self.source(&operation.value),
            extra: self.extra(&operation.extra, path)?,
            threads: scope.threads.clone(),
            nodes: self.nodes.clone(),
            stream: self.stream(place, "op"),
        })
    }

    fn extra(
        &mut self,
        templates: &[(String, Template)],
        path: &str,
    ) -> Result<ExtraSource, ExprError> {
        if templates.is_empty() {
            return Ok(ExtraSource::None);
        }
        let mut sources = Vec::new();
        for (key, template) in templates {
            sources.push((self.sym(key, path)?, self.source(template)));
        }
        let fixed: Option<Vec<_>> =
            sources.iter().map(|(key, source)| Some((*key, source.fixed()?.clone()))).collect();
        Ok(match fixed {
            Some(fixed) => ExtraSource::Fixed(Arc::new(fixed)),
            None => ExtraSource::Drawn(sources),
        })
    }

    fn ordered(
        &mut self,
        expr: &Expr,
        scope: &Scope,
        place: &Place,
    ) -> Result<BoxGenerator, ExprError> {
        Ok(match &expr.node {
            Node::Sequence(items) => {
                let items = self.all(items, "sequence", scope, place)?;
                let forward = items.iter().any(|item| item.wants_updates());
                Box::new(Sequence { items, at: 0, forward })
            }
            Node::Phases(items) => {
                let items = self.all(items, "sequence", scope, place)?;
                let forward = items.iter().any(|item| item.wants_updates());
                let items = items
                    .into_iter()
                    .map(|inner| -> BoxGenerator {
                        let threads = scope.waits_for.clone();
                        Box::new(Synchronize { threads, begun: false, inner })
                    })
                    .collect();
                Box::new(Sequence { items, at: 0, forward })
            }
            Node::FlipFlop(items) => {
                let items = self.all(items, "flip-flop", scope, place)?;
                let forward = items.iter().any(|item| item.wants_updates());
                Box::new(FlipFlop { items, at: 0, ended: false, forward })
            }
            Node::Synchronize(inner) => {
                let inner = self.expr(inner, scope, place)?;
                Box::new(Synchronize { threads: scope.waits_for.clone(), begun: false, inner })
            }
            Node::Repeat(count, inner) => {
                let inner = self.expr(inner, scope, place)?;
                Box::new(Repeat { count: *count, made: 0, inner })
            }
            Node::Cycle(count, inner) => {
                let inner = self.expr(inner, scope, place)?;
                let count = *count;
                Box::new(Cycle { count, rounds: 0, progress: false, ended: false, inner })
            }
            _ => return Err(misplaced(expr)),
        })
    }

    fn chosen(
        &mut self,
        expr: &Expr,
        scope: &Scope,
        place: &mut Place,
    ) -> Result<BoxGenerator, ExprError> {
        Ok(match &expr.node {
            Node::Mix(items, weights) => {
                let stream = self.stream(place, "mix");
                let items = self.all(items, "mix", scope, place)?;
                Box::new(Mix::new(items, weights.clone(), stream))
            }
            Node::Any(items, shortest) => {
                let first = First::Drawn(Box::new(self.stream(place, "any")));
                Box::new(Any::new(self.all(items, "any", scope, place)?, first, *shortest))
            }
            Node::Reserve(ranges, rest) => {
                self.reserve(expr, ranges, rest.as_deref(), scope, place)?
            }
            Node::CycleTimes(windows) => {
                let mut end_ns = 0u64;
                let mut compiled = Vec::new();
                for (at, (time_ns, item)) in windows.iter().enumerate() {
                    end_ns = end_ns.saturating_add(*time_ns);
                    let place = place.branch("cycle-times", at);
                    compiled.push((end_ns, self.expr(item, scope, &place)?));
                }
                let forward = compiled.iter().any(|(_, item)| item.wants_updates());
                let (start_ns, ended) = (None, false);
                Box::new(CycleTimes { windows: compiled, start_ns, ended, forward })
            }
            _ => return Err(misplaced(expr)),
        })
    }

    /// The ranges count from the first thread of the scope, so that they nest.
    fn reserve(
        &mut self,
        expr: &Expr,
        ranges: &[(u32, Expr)],
        rest: Option<&Expr>,
        scope: &Scope,
        place: &Place,
    ) -> Result<BoxGenerator, ExprError> {
        let threads: Vec<u32> = scope.threads.iter().collect();
        let wanted: u64 = ranges.iter().map(|(count, _)| u64::from(*count)).sum();
        if wanted + u64::from(rest.is_some()) > threads.len() as u64 {
            let problem = format!(
                "reserves {wanted} threads{}, but there are {}",
                if rest.is_some() { " and needs at least one for the rest" } else { "" },
                threads.len()
            );
            return Err(ExprError::new(&expr.path, problem));
        }
        let mut items = Vec::new();
        let mut from = 0;
        for (at, (count, item)) in ranges.iter().enumerate() {
            let to = from + *count as usize;
            let scope = Scope::of(ThreadSet::of(self.bound, threads[from..to].iter().copied()));
            items.push(self.expr(item, &scope, &place.branch("reserve", at))?);
            from = to;
        }
        if let Some(item) = rest {
            let scope = Scope::of(ThreadSet::of(self.bound, threads[from..].iter().copied()));
            items.push(self.expr(item, &scope, &place.branch("reserve", ranges.len()))?);
        }
        Ok(Box::new(Any::new(items, First::Turn, false)))
    }

    fn limited(
        &mut self,
        expr: &Expr,
        scope: &Scope,
        place: &Place,
    ) -> Result<BoxGenerator, ExprError> {
        Ok(match &expr.node {
            Node::Limit(count, inner) => {
                let inner = self.expr(inner, scope, place)?;
                Box::new(Limit { count: *count, left: *count, inner })
            }
            Node::TimeLimit(duration_ns, inner) => {
                let inner = self.expr(inner, scope, place)?;
                Box::new(TimeLimit { duration_ns: *duration_ns, end_ns: None, inner })
            }
            Node::ProcessLimit(count, inner) => {
                let inner = self.expr(inner, scope, place)?;
                Box::new(ProcessLimit {
                    count: *count,
                    seen: vec![None; scope.threads.len() as usize],
                    threads: scope.threads.clone(),
                    used: 0,
                    seen_changes: None,
                    inner,
                })
            }
            Node::ConcurrencyLimit(count, inner) => {
                let inner = self.expr(inner, scope, place)?;
                let threads = scope.threads.clone();
                Box::new(ConcurrencyLimit { count: *count, threads, inner })
            }
            Node::UntilOk(inner) => {
                let pause_ns = if inner.has_pace() { 0 } else { PAUSE_NS };
                let inner = self.expr(inner, scope, place)?;
                let active = ThreadSet::empty(self.bound);
                Box::new(UntilOk { active, succeeded: false, pause_ns, rests_until_ns: 0, inner })
            }
            _ => return Err(misplaced(expr)),
        })
    }

    fn each(
        &mut self,
        inner: &Expr,
        scope: &Scope,
        place: &Place,
        by_process: bool,
    ) -> Result<BoxGenerator, ExprError> {
        let threads: Vec<u32> = scope.threads.iter().collect();
        let mut copies = Vec::new();
        for thread in threads {
            let scope = Scope::of(ThreadSet::of(self.bound, [thread]));
            copies.push((thread, self.expr(inner, &scope, &place.copy(u64::from(thread)))?));
        }
        Ok(Box::new(Each::new(copies, self.bound, by_process)))
    }

    fn scoped(
        &mut self,
        expr: &Expr,
        scope: &Scope,
        place: &Place,
    ) -> Result<BoxGenerator, ExprError> {
        let (threads, inner) = match &expr.node {
            Node::OnThreads(test, inner) => {
                let chosen = self.thread_test(test, &expr.path)?;
                let threads: Vec<u32> =
                    scope.threads.iter().filter(|thread| chosen.contains(*thread)).collect();
                if threads.is_empty() {
                    let problem = format!(
                        "names none of the {} threads that there are here",
                        scope.threads.len()
                    );
                    return Err(ExprError::new(&expr.path, problem));
                }
                (ThreadSet::of(self.bound, threads), inner)
            }
            Node::Clients(inner) => {
                let clients = scope.threads.iter().filter(|thread| *thread < self.env.threads);
                let clients = ThreadSet::of(self.bound, clients);
                if clients.is_empty() {
                    return Err(ExprError::new(&expr.path, "there are no client threads here"));
                }
                (clients, inner)
            }
            Node::Nemesis(inner) => (ThreadSet::of(self.bound, [self.env.threads]), inner),
            _ => return Err(misplaced(expr)),
        };
        self.expr(inner, &Scope::of(threads), place)
    }

    fn changed(
        &mut self,
        expr: &Expr,
        scope: &Scope,
        place: &mut Place,
    ) -> Result<BoxGenerator, ExprError> {
        Ok(match &expr.node {
            Node::Map { f, value, extra, inner } => {
                let stream = self.stream(place, "map");
                self.branch.clone_from(&place.branch);
                let f = f.as_deref().map(|f| self.sym(f, &expr.path)).transpose()?;
                let value = value.as_ref().map(|value| self.source(value));
                let extra =
                    extra.as_ref().map(|extra| self.extra(extra, &expr.path)).transpose()?;
                let inner = self.expr(inner, scope, place)?;
                Box::new(Map { f, value, extra, nodes: self.nodes.clone(), stream, inner })
            }
            Node::FMap(names, inner) => {
                let mut renamed = Vec::new();
                for (from, to) in names {
                    renamed.push((self.sym(from, &expr.path)?, self.sym(to, &expr.path)?));
                }
                Box::new(FMap { names: renamed, inner: self.expr(inner, scope, place)? })
            }
            Node::Filter(test, inner) => {
                let test = self.op_test(test, &expr.path)?;
                let inner = self.expr(inner, scope, place)?;
                Box::new(Filter { test, path: expr.path.as_str().into(), gave_up: false, inner })
            }
            _ => return Err(misplaced(expr)),
        })
    }

    fn op_test(&self, test: &OpTest, path: &str) -> Result<Test, ExprError> {
        let all = |tests: &[OpTest]| -> Result<Vec<Test>, ExprError> {
            tests.iter().map(|test| self.op_test(test, path)).collect()
        };
        Ok(match test {
            OpTest::F(names) => {
                Test::F(names.iter().map(|name| self.sym(name, path)).collect::<Result<_, _>>()?)
            }
            OpTest::Value(values) => Test::Value(values.clone()),
            OpTest::Thread(threads) => Test::Thread(self.thread_test(threads, path)?),
            OpTest::All(tests) => Test::All(all(tests)?),
            OpTest::Some(tests) => Test::Some(all(tests)?),
            OpTest::Not(test) => Test::Not(Box::new(self.op_test(test, path)?)),
        })
    }

    fn thread_test(&self, test: &ThreadTest, path: &str) -> Result<ThreadSet, ExprError> {
        let count = self.env.threads;
        let of = |passes: &dyn Fn(u32) -> bool| {
            ThreadSet::of(self.bound, (0..count).filter(|thread| passes(*thread)))
        };
        Ok(match test {
            ThreadTest::Listed(listed) => {
                if let Some(thread) = listed.iter().find(|thread| **thread >= count) {
                    let problem = format!("there is no thread {thread}; the last is {}", count - 1);
                    return Err(ExprError::new(path, problem));
                }
                of(&|thread| listed.contains(&thread))
            }
            ThreadTest::Range(first, end) => of(&|thread| (*first..*end).contains(&thread)),
            ThreadTest::Parity(even) => of(&|thread| (thread % 2 == 0) == *even),
            ThreadTest::OnePerNode => of(&|thread| (thread as usize) < self.nodes.len().max(1)),
            ThreadTest::Nodes(names) => {
                let known = &self.env.nodes;
                if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
                    let hint = suggest::clause(unknown, known.iter().map(String::as_str));
                    return Err(ExprError::new(path, format!("unknown node `{unknown}`{hint}")));
                }
                of(&|thread| names.contains(&known[thread as usize % known.len()]))
            }
            ThreadTest::Not(inner) => {
                let inner = self.thread_test(inner, path)?;
                of(&|thread| !inner.contains(thread))
            }
        })
    }

    fn independent(
        &mut self,
        keys: &Keys,
        threads_per_key: u32,
        inner: &Expr,
        scope: &Scope,
        place: &Place,
    ) -> Result<BoxGenerator, ExprError> {
        let threads: Vec<u32> = scope.threads.iter().collect();
        let mut count = (threads.len() / threads_per_key as usize).max(1);
        if let Some(keys) = keys.count() {
            count = count.min(usize::try_from(keys).unwrap_or(usize::MAX)).max(1);
        }
        let mut groups = Vec::new();
        let mut from = 0;
        for group in 0..count {
            // Sizes differ by at most one; the larger groups come first.
            let size = threads.len() / count + usize::from(group < threads.len() % count);
            let members = threads[from..from + size].to_vec();
            from += size;
            let scope = Scope::of(ThreadSet::of(self.bound, members.iter().copied()));
            let copy = self.expr(inner, &scope, &place.copy(group as u64))?;
            groups.push((members, copy));
        }
        Ok(Box::new(Independent::new(keys.clone(), groups, self.bound)))
    }
}

/// A kind of node in the wrong function of this file: unreachable, but not worth a panic.
fn misplaced(expr: &Expr) -> ExprError {
    ExprError::new(&expr.path, "cannot be compiled (a defect of fuzz_dist, please report it)")
}
