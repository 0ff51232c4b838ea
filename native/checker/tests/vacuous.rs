//! No checker says `valid` about something that it did not see once: all checkers on histories of all kinds,
//! on the same under other function names, and on operations that nobody answered.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use common::{Builder, Random, cases, int, pair, show, spec};
use fuzz_dist_checker::{Budget, catalogue, check_all, sole};
use fuzz_dist_core::{CheckResult, History, Op, OpType, Sym, Value, Verdict};
use serde_json::json;

/// The verdict that a user gets who asks for this checker alone.
fn alone(name: &str, options: serde_json::Value, history: &History) -> CheckResult {
    sole(check_all(history, &[spec(name, options)], &Budget::UNLIMITED))
}

/// Makes one operation of a kind, as its object answers.
type Make = fn(&mut Builder, &mut Random, &mut State);

/// What the objects hold.
#[derive(Default)]
struct State {
    next: i64,
    elements: Vec<Value>,
    number: i64,
    register: Value,
    holder: Option<i64>,
}

impl State {
    fn fresh(&mut self) -> i64 {
        self.next += 1;
        self.next
    }
}

fn kw(name: &str) -> Value {
    Value::sym(name)
}

fn mop(f: &str, key: i64, value: Value) -> Value {
    Value::list(vec![kw(f), int(key), value])
}

/// A kind of history, the checkers that have something to say about it, and its operations.
struct Kind {
    name: &'static str,
    checkers: &'static [&'static str],
    make: Make,
}

const KINDS: &[Kind] = &[
    Kind { name: "register", checkers: &["linearizable", "causal", "monotonic"], make: register },
    Kind {
        name: "numbers that grow",
        checkers: &["linearizable", "causal", "monotonic"],
        make: growing,
    },
    Kind { name: "set", checkers: &["set", "set-full", "final-reads", "monotonic"], make: set },
    Kind { name: "counter", checkers: &["counter"], make: counter },
    Kind { name: "pn-counter", checkers: &["pn-counter", "monotonic"], make: pn_counter },
    Kind { name: "queue", checkers: &["queue", "total-queue"], make: queue },
    Kind { name: "ids", checkers: &["unique-ids"], make: ids },
    Kind { name: "bank", checkers: &["bank", "monotonic"], make: bank },
    Kind { name: "lock", checkers: &["lock", "mutex"], make: lock },
    Kind { name: "adya", checkers: &["adya"], make: adya },
    Kind { name: "list-append", checkers: &["list-append"], make: list_append },
    Kind {
        name: "rw-register",
        checkers: &["rw-register", "causal", "long-fork"],
        make: rw_register,
    },
    Kind { name: "all values", checkers: &["causal-reverse", "comments"], make: all_values },
    Kind { name: "sequential", checkers: &["sequential"], make: sequential },
    Kind { name: "kafka", checkers: &["kafka"], make: kafka },
    Kind { name: "registry", checkers: &["registry"], make: registry },
    Kind { name: "delivery", checkers: &["delivery"], make: delivery },
];

/// Those that look at whether and when operations succeed, whatever they are.
const OF_ANY_KIND: &[&str] = &["stats", "latency"];

fn register(b: &mut Builder, random: &mut Random, state: &mut State) {
    if random.chance(50) {
        state.register = int(state.fresh());
        b.done(0, "write", state.register.clone(), state.register.clone());
    } else {
        b.done(1, "read", Value::Nil, state.register.clone());
    }
}

fn growing(b: &mut Builder, _: &mut Random, state: &mut State) {
    state.register = int(state.fresh());
    b.done(0, "write", state.register.clone(), state.register.clone());
    b.done(1, "read", Value::Nil, state.register.clone());
}

fn set(b: &mut Builder, _: &mut Random, state: &mut State) {
    let element = int(state.fresh());
    state.elements.push(element.clone());
    b.done(0, "add", element.clone(), element);
    b.invoke(1, "read", Value::Nil).extra_final();
    b.ok(1, "read", Value::list(state.elements.clone())).extra_final();
}

fn counter(b: &mut Builder, random: &mut Random, state: &mut State) {
    let amount = random.below(5) as i64;
    state.number += amount;
    b.done(0, "add", int(amount), int(amount));
    b.done(1, "read", Value::Nil, int(state.number));
}

fn pn_counter(b: &mut Builder, random: &mut Random, state: &mut State) {
    if state.next == 0 {
        state.number = 3;
        b.done(0, "increment", int(3), int(3));
    }
    state.next += 1;
    if random.chance(30) {
        b.done(1, "read", Value::Nil, int(state.number));
    }
    b.invoke(1, "read", Value::Nil).extra_final();
    b.ok(1, "read", int(state.number)).extra_final();
}

fn queue(b: &mut Builder, _: &mut Random, state: &mut State) {
    let element = int(state.fresh());
    b.done(0, "enqueue", element.clone(), element.clone());
    b.done(1, "dequeue", Value::Nil, element);
}

fn ids(b: &mut Builder, _: &mut Random, state: &mut State) {
    b.done(0, "generate", Value::Nil, int(state.fresh()));
}

fn bank(b: &mut Builder, random: &mut Random, state: &mut State) {
    state.number += random.below(3) as i64;
    let balances = [(int(0), int(state.number)), (int(1), int(100 - state.number))];
    b.done(0, "transfer", Value::Nil, Value::Nil);
    b.done(1, "read", Value::Nil, Value::map(balances));
}

fn lock(b: &mut Builder, random: &mut Random, state: &mut State) {
    let owner = random.below(3) as i64;
    match state.holder.take() {
        Some(holder) => b.done(holder, "release", Value::Nil, Value::Nil),
        None => {
            state.holder = Some(owner);
            b.done(owner, "acquire", Value::Nil, Value::Nil);
        }
    }
}

fn adya(b: &mut Builder, _: &mut Random, state: &mut State) {
    let (key, a) = (state.fresh(), state.fresh());
    let value = pair(int(key), pair(int(a), Value::Nil));
    b.done(0, "insert", value.clone(), value);
}

fn list_append(b: &mut Builder, _: &mut Random, state: &mut State) {
    let element = int(state.fresh());
    state.elements.push(element.clone());
    let append = Value::list(vec![mop("append", 1, element)]);
    b.done(0, "txn", append.clone(), append);
    let seen = Value::list(vec![mop("r", 1, Value::list(state.elements.clone()))]);
    b.done(1, "txn", Value::list(vec![mop("r", 1, Value::Nil)]), seen);
}

fn rw_register(b: &mut Builder, _: &mut Random, state: &mut State) {
    let (key, value) = (state.fresh(), int(state.fresh()));
    let write = Value::list(vec![mop("w", key, value.clone())]);
    b.done(0, "txn", write.clone(), write);
    let asked = vec![mop("r", key, Value::Nil), mop("r", key + 1, Value::Nil)];
    let seen = vec![mop("r", key, value), mop("r", key + 1, Value::Nil)];
    b.done(1, "txn", Value::list(asked), Value::list(seen));
}

fn all_values(b: &mut Builder, _: &mut Random, state: &mut State) {
    let value = int(state.fresh());
    state.elements.push(value.clone());
    b.done(0, "write", value.clone(), value);
    b.done(1, "read", Value::Nil, Value::list(state.elements.clone()));
}

fn sequential(b: &mut Builder, _: &mut Random, state: &mut State) {
    let key = int(state.fresh());
    b.done(0, "write", key.clone(), key.clone());
    let subkeys = Value::list(vec![Value::Nil, Value::str("k_0")]);
    b.done(1, "read", key.clone(), pair(key, subkeys));
}

fn kafka(b: &mut Builder, _: &mut Random, state: &mut State) {
    let offset = state.fresh();
    let value = int(offset);
    let send = |value: Value| Value::list(vec![Value::list(vec![kw("send"), int(1), value])]);
    b.done(0, "send", send(value.clone()), send(pair(int(offset), value.clone())));
    let poll = |seen: Value| Value::list(vec![Value::list(vec![kw("poll"), seen])]);
    let seen = Value::map([(int(1), Value::list(vec![pair(int(offset), value)]))]);
    b.done(1, "poll", Value::list(vec![Value::list(vec![kw("poll")])]), poll(seen));
}

fn registry(b: &mut Builder, _: &mut Random, state: &mut State) {
    let name = Value::str(format!("name-{}", state.fresh()));
    let owned = pair(name.clone(), pair(Value::str("n1"), int(1)));
    let asked = pair(name, Value::Nil);
    let from = b.ops.len();
    b.done(0, "register", asked.clone(), owned.clone());
    b.invoke(1, "whereis", asked).extra_final();
    b.ok(1, "whereis", owned).extra_final();
    b.ops[from..].iter_mut().for_each(|op| op.node = Some(Sym::new("n1")));
}

fn delivery(b: &mut Builder, _: &mut Random, state: &mut State) {
    let id = int(state.fresh());
    let message = |id: Value| Value::map([(kw("queue"), int(1)), (kw("id"), id)]);
    b.done(0, "publish", message(id.clone()), message(id.clone()));
    b.done(1, "get", Value::Nil, message(id.clone()));
    b.done(1, "ack", message(id.clone()), message(id));
}

trait Final {
    fn extra_final(&mut self);
}

impl Final for Op {
    fn extra_final(&mut self) {
        self.extra = Some(Arc::new(vec![(Sym::new("final?"), Value::Bool(true))]));
    }
}

fn draw(kind: &Kind, random: &mut Random) -> Builder {
    let (mut builder, mut state) = (Builder::default(), State::default());
    for _ in 0..1 + random.below(6) {
        (kind.make)(&mut builder, random, &mut state);
    }
    builder
}

/// With and without the options that change what a checker takes.
fn asked(name: &str) -> Vec<serde_json::Value> {
    match name {
        "availability" => vec![json!({}), json!({"availability": 0.5})],
        "bank" => vec![json!({}), json!({"accounts": [0, 1], "total-amount": 100})],
        "latency" => vec![json!({"within-ms": 1e9})],
        "linearizable" => ["cas-register", "set", "fifo-queue", "mutex", "map", "multi-register"]
            .map(|model| json!({"model": model}))
            .into(),
        "pn-counter" => vec![json!({}), json!({"monotonic": true})],
        _ => vec![json!({})],
    }
}

/// Checks with every checker; none may call it valid but those that `may` names, and whoever cannot judge
/// names the functions.
fn nothing_is_valid(what: &str, history: &History, may: &dyn Fn(&str) -> bool) {
    let mut wrong = Vec::new();
    for info in catalogue() {
        for options in asked(info.name) {
            let result = alone(info.name, options.clone(), history);
            let names_functions =
                history.client_ops().all(|op| result.reason.contains(&format!(":{}", op.f)));
            let lacks = result.reason.contains("nothing to judge by: no :");
            if result.verdict == Verdict::Valid && !may(info.name) || lacks && !names_functions {
                wrong.push(format!("{} {options}: {}", info.name, result.reason));
            }
        }
    }
    assert!(wrong.is_empty(), "{what}:\n{}\n{}", wrong.join("\n"), show(history));
}

#[test]
fn a_checker_of_another_kind_is_never_valid() {
    for seed in 0..cases(6) {
        let mut random = Random(seed);
        for kind in KINDS {
            let history = draw(kind, &mut random).history();
            // Whether a fraction of operations succeeded can be judged of any kind.
            nothing_is_valid(kind.name, &history, &|name| {
                kind.checkers.contains(&name)
                    || OF_ANY_KIND.contains(&name)
                    || ["availability", "linearizable", "agreement"].contains(&name)
                    // It takes the same functions, and knows nothing of acknowledgements here.
                    || (kind.name, name) == ("queue", "delivery")
            });
        }
    }
}

#[test]
fn a_checker_of_its_own_kind_decides() {
    for kind in KINDS {
        let mut random = Random(7);
        let mut builder = draw(kind, &mut random);
        while builder.ops.len() < 12 {
            builder = draw(kind, &mut random);
        }
        let history = builder.history();
        for name in kind.checkers {
            let verdicts: Vec<_> =
                asked(name).into_iter().map(|options| alone(name, options, &history)).collect();
            let decides = verdicts.iter().any(|result| result.verdict != Verdict::Unknown);
            assert!(decides, "{name} of {}: {verdicts:?}\n{}", kind.name, show(&history));
        }
    }
}

#[test]
fn functions_of_other_names_are_nothing_to_judge_by() {
    for seed in 0..cases(6) {
        let mut random = Random(seed);
        for kind in KINDS {
            let mut builder = draw(kind, &mut random);
            for op in &mut builder.ops {
                op.f = Sym::new(&format!("other-{}", op.f));
            }
            let history = builder.history();
            nothing_is_valid(kind.name, &history, &|name| {
                // Transactions are told by their values.
                let by_value = ["list-append", "rw-register", "long-fork", "causal", "kafka"];
                OF_ANY_KIND.contains(&name)
                    || name == "availability"
                    || by_value.contains(&name) && kind.checkers.contains(&name)
            });
        }
    }
}

#[test]
fn operations_that_nobody_answered_are_nothing_to_judge_by() {
    let unanswered = [None, Some(OpType::Fail), Some(OpType::Info)];
    for seed in 0..cases(3) {
        let mut random = Random(seed);
        for kind in KINDS {
            let drawn = draw(kind, &mut random);
            for outcome in unanswered {
                let mut builder = Builder::default();
                let invocations = drawn.ops.iter().filter(|op| op.op_type == OpType::Invoke);
                for (process, op) in invocations.enumerate() {
                    builder.invoke(process as i64, op.f.as_str(), op.value.clone()).extra =
                        op.extra.clone();
                    if let Some(outcome) = outcome {
                        let value = op.value.clone();
                        builder.push(process as i64, outcome, op.f.as_str(), value);
                    }
                }
                let what = format!("{} with {outcome:?}", kind.name);
                // A failure is an answer, and in time.
                nothing_is_valid(&what, &builder.history(), &|name| {
                    name == "latency" && outcome.is_some()
                });
            }
        }
    }
}

#[test]
fn no_operation_at_all_is_nothing_to_judge_by() {
    let mut builder = Builder::default();
    nothing_is_valid("nothing", &builder.history(), &|_| false);
    builder.fault("fault-start", 1, "hold");
    builder.fault("fault-observed", 1, "hold");
    builder.fault("fault-stop", 1, "hold");
    nothing_is_valid("records of the nemesis", &builder.history(), &|_| false);
}

#[test]
fn checkers_that_only_report_make_no_pass() {
    let mut builder = Builder::default();
    builder.done(0, "generate", Value::Nil, int(1));
    let history = builder.history();
    let reporting = ["unhandled-exceptions", "availability"];
    let specs: Vec<_> = reporting.iter().map(|name| spec(name, json!({}))).collect();
    let all = check_all(&history, &specs, &Budget::UNLIMITED);
    assert_eq!(all.verdict, Verdict::Unknown, "{all:?}");
    assert!(all.reason.contains("nothing was decided"), "{}", all.reason);
    // Beside one that decides, they take nothing away.
    let specs: Vec<_> = ["unhandled-exceptions", "availability", "unique-ids"]
        .iter()
        .map(|name| spec(name, json!({})))
        .collect();
    assert_eq!(check_all(&history, &specs, &Budget::UNLIMITED).verdict, Verdict::Valid);
}

#[test]
fn only_some_functions_are_judged() {
    let mut builder = Builder::default();
    builder.done(0, "add", int(1), int(1));
    builder.done(0, "purge", Value::Nil, Value::Nil);
    builder.done(1, "read", Value::Nil, Value::list(vec![int(1)]));
    builder.done(0, "add", int(2), int(2));
    builder.done(1, "read", Value::Nil, Value::list(vec![int(1)]));
    let history = builder.history();
    assert_eq!(alone("set", json!({}), &history).verdict, Verdict::Unknown);
    for only in [json!(["add", "read"]), json!("add,read"), json!([":add", ":read"])] {
        let result = alone("set", json!({"only": only}), &history);
        assert_eq!(result.verdict, Verdict::Invalid, "{result:?}");
        // Records are those of the whole history.
        assert_eq!(result.anomalies[0].ops, [6, 7, 8, 9], "{result:?}");
        assert!(result.anomalies[0].text.contains("record 7"), "{result:?}");
    }
    let result = alone("set", json!({"only": ["add"]}), &history);
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains(":purge (1 of 1 succeeded)"), "{}", result.reason);
    let refused = fuzz_dist_checker::build(&spec("set", json!({"only": 3}))).err().unwrap();
    assert!(refused.to_string().contains("words, as a list"), "{refused}");
}
