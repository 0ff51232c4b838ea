//! Outcomes that their author may not have meant: a callback that returns `{:error, :mismatch}` says "perhaps", since it
//! has not said that nothing happened; an exception is the same. Each is reported when it first occurs, and counted
//! at the end, with what to return instead.
//!
//! Time-outs and lost connections are what faults do to operations, and no surprise.

use std::collections::{BTreeMap, HashSet};

use fuzz_dist_core::{History, Op, OpType, Value, Verdict};

/// How many errors are listed under a verdict that is no pass.
const ERRORS_MAX: usize = 3;

/// The longest term that is shown.
const TERM_CHARS_MAX: usize = 120;

/// How deep terms are shown.
const TERM_DEPTH_MAX: usize = 6;

/// Reports each kind of surprise once.
#[derive(Debug, Default)]
pub struct Surprises {
    told: HashSet<(String, String)>,
}

impl Surprises {
    /// A line for people, if this is the first of its kind.
    pub fn of(&mut self, op: &Op) -> Option<String> {
        if op.op_type != OpType::Info {
            return None;
        }
        // Cheap for what comes thousands of times: a tag decides.
        let what = Surprise::of(op)?;
        let key = (op.f.as_str().to_owned(), what.key());
        self.told.insert(key).then(|| what.first(op.f.as_str()))
    }
}

/// What a completion says beside its type.
enum Surprise<'a> {
    /// The callback returned something that is no outcome.
    BadReturn(&'a Value),
    /// The callback raised: module, message, place.
    Raised { module: &'a str, message: &'a str, place: Option<&'a str> },
    /// A function that does not exist was called, in a form that does not say which.
    Undefined,
}

impl<'a> Surprise<'a> {
    fn of(op: &'a Op) -> Option<Surprise<'a>> {
        if op.error.as_text() == Some("undef") {
            return Some(Surprise::Undefined);
        }
        match op.error.items()? {
            [tag, returned] if tag.as_text() == Some("bad_return") => {
                Some(Surprise::BadReturn(returned))
            }
            [tag, module, message, rest @ ..] if tag.as_text() == Some("exception") => {
                let place = rest.first().and_then(Value::as_text);
                Some(Surprise::Raised {
                    module: module.as_text()?,
                    message: message.as_text()?,
                    place,
                })
            }
            _ => None,
        }
    }

    /// What tells it from others of the same function.
    fn key(&self) -> String {
        match self {
            // Values differ; that it is a bare one is what matters.
            Surprise::BadReturn(returned) if returned.items().is_none() => "a bare value".into(),
            Surprise::BadReturn(returned) => format!("returned {}", term(returned)),
            Surprise::Raised { module, place, .. } => format!("raised {module} {place:?}"),
            Surprise::Undefined => "undefined".into(),
        }
    }

    fn words(&self, f: &str) -> String {
        match self {
            Surprise::BadReturn(returned) => format!("{f} returned {}", term(returned)),
            Surprise::Raised { module, message, place } => {
                let place = place.map_or_else(String::new, |place| format!(" ({place})"));
                let message = message.lines().next().unwrap_or_default();
                format!("{f} raised {module}: {}{place}", cut(message.to_owned()))
            }
            Surprise::Undefined => format!("{f} called a function that does not exist (undef)"),
        }
    }

    /// What to do instead.
    fn remedy(&self) -> String {
        match self {
            Surprise::BadReturn(returned) => match returned.items() {
                Some([tag, reason]) if tag.as_text() == Some("error") => {
                    let reason = term(reason);
                    format!("if it certainly did not happen, return {{:fail, {reason}}}")
                }
                _ => {
                    "return {:ok, value}, or {:fail, reason} if it certainly did not happen".into()
                }
            },
            Surprise::Raised { .. } => {
                "if it certainly did not happen, catch it and return {:fail, reason}".into()
            }
            Surprise::Undefined => "is the module compiled and in the code path?".into(),
        }
    }

    fn first(&self, f: &str) -> String {
        format!(
            "{}, which counts as `info` (it may have happened); {}",
            self.words(f),
            self.remedy()
        )
    }
}

/// Lines about a whole history: surprises with their counts, and under a verdict that is no pass its most frequent
/// other errors.
pub fn notes(history: &History, verdict: Verdict) -> Vec<String> {
    let mut surprises: BTreeMap<(String, String), (u64, &Op)> = BTreeMap::new();
    let mut others: BTreeMap<(String, String), u64> = BTreeMap::new();
    for op in history.client_ops().filter(|op| matches!(op.op_type, OpType::Info | OpType::Fail)) {
        let f = op.f.as_str().to_owned();
        match Surprise::of(op) {
            Some(what) if op.op_type == OpType::Info => {
                surprises.entry((f, what.key())).or_insert((0, op)).0 += 1;
            }
            Some(what) => *others.entry((f.clone(), what.words(&f))).or_default() += 1,
            None if op.error != Value::Nil && verdict != Verdict::Valid => {
                let text = format!("{f} {}: {}", type_name(op.op_type), term(&op.error));
                *others.entry((f, text)).or_default() += 1;
            }
            None => {}
        }
    }
    let mut surprises: Vec<(u64, &Op)> = surprises.into_values().collect();
    surprises.sort_by_key(|(count, op)| (std::cmp::Reverse(*count), op.index));
    let more = surprises.len().saturating_sub(ERRORS_MAX);
    let mut notes: Vec<String> = surprises
        .iter()
        .take(ERRORS_MAX)
        .filter_map(|(count, op)| {
            let what = Surprise::of(op)?;
            let words = what.words(op.f.as_str());
            Some(format!("{count} × {words}, counted as `info`; {}", what.remedy()))
        })
        .collect();
    if more > 0 {
        notes.push(format!("and {more} more kinds of such outcomes"));
    }
    if verdict != Verdict::Valid {
        let mut others: Vec<(u64, String)> =
            others.into_iter().map(|((_, text), count)| (count, text)).collect();
        others.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let room = ERRORS_MAX.saturating_sub(notes.len());
        notes.extend(others.iter().take(room).map(|(count, text)| format!("{count} × {text}")));
    }
    notes
}

fn type_name(op_type: OpType) -> &'static str {
    if op_type == OpType::Fail { "fail" } else { "info" }
}

/// A term as Elixir writes it, cut.
fn term(value: &Value) -> String {
    let mut text = String::new();
    write_term(value, 0, &mut text);
    cut(text)
}

fn cut(text: String) -> String {
    if text.chars().count() <= TERM_CHARS_MAX {
        return text;
    }
    text.chars().take(TERM_CHARS_MAX).chain(['…']).collect()
}

fn write_term(value: &Value, depth: usize, out: &mut String) {
    if depth > TERM_DEPTH_MAX || out.len() > TERM_CHARS_MAX * 4 {
        out.push('…');
        return;
    }
    let list = |open: &str, items: &[Value], close: char, out: &mut String| {
        out.push_str(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            write_term(item, depth + 1, out);
        }
        out.push(close);
    };
    match value {
        Value::Nil => out.push_str("nil"),
        Value::Sym(name) => {
            let name = name.as_str();
            match name.strip_prefix("Elixir.") {
                Some(module) => out.push_str(module),
                None => {
                    out.push(':');
                    out.push_str(name);
                }
            }
        }
        Value::Str(text) => out.push_str(&format!("{text:?}")),
        Value::List(items) => list("[", items, ']', out),
        Value::Tuple(items) => list("{", items, '}', out),
        Value::Map(entries) => {
            out.push_str("%{");
            for (i, (key, value)) in entries.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_term(key, depth + 1, out);
                out.push_str(" => ");
                write_term(value, depth + 1, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use fuzz_dist_core::{Process, Sym};

    fn op(f: &str, op_type: OpType, error: Value) -> Op {
        let mut op = Op::new(0, Process::Client(1), op_type, Sym::new(f), Value::Nil);
        op.error = error;
        op
    }

    fn tuple(items: &[Value]) -> Value {
        Value::tuple(items.to_vec())
    }

    fn bad_return(value: Value) -> Value {
        tuple(&[Value::sym("bad_return"), value])
    }

    fn mismatch() -> Value {
        bad_return(tuple(&[Value::sym("error"), Value::sym("mismatch")]))
    }

    fn raised(message: &str) -> Value {
        let text = |text: &str| Value::str(text);
        tuple(&[
            Value::sym("exception"),
            text("RuntimeError"),
            text(message),
            text("lib/kv.ex:9: Kv.put/2"),
        ])
    }

    fn history(ops: &[(&str, OpType, Value)]) -> History {
        let mut all = Vec::new();
        for (i, (f, op_type, error)) in ops.iter().enumerate() {
            let process = Process::Client(i as i64);
            all.push(Op::new(0, process, OpType::Invoke, Sym::new(f), Value::Nil));
            let mut done = op(f, *op_type, error.clone());
            done.process = process;
            all.push(done);
        }
        for (index, op) in all.iter_mut().enumerate() {
            op.index = index as u64;
        }
        History::new(all).unwrap()
    }

    #[test]
    fn the_first_of_each_kind_is_reported_with_what_to_return() {
        let mut surprises = Surprises::default();
        let mut first = |f: &str, error: Value| surprises.of(&op(f, OpType::Info, error));
        assert_eq!(
            first("cas", mismatch()).unwrap(),
            "cas returned {:error, :mismatch}, which counts as `info` (it may have happened); if it certainly \
             did not happen, return {:fail, :mismatch}"
        );
        assert_eq!(first("cas", mismatch()), None);
        assert!(first("write", mismatch()).is_some(), "another function");
        assert!(first("read", bad_return(Value::Int(4))).unwrap().contains("read returned 4"));
        assert_eq!(first("read", bad_return(Value::Int(5))), None, "another bare value");
        let text = first("write", raised("boom\nat night")).unwrap();
        assert!(
            text.starts_with("write raised RuntimeError: boom (lib/kv.ex:9: Kv.put/2)"),
            "{text}"
        );
        assert!(first("write", Value::sym("undef")).is_some());
        // What faults do.
        let lost = tuple(&[Value::sym("agent_lost"), Value::str("n1")]);
        for error in [Value::sym("timeout"), lost, Value::Nil] {
            assert_eq!(first("write", error), None);
        }
        assert_eq!(surprises.of(&op("x", OpType::Fail, mismatch())), None);
    }

    #[test]
    fn surprises_are_counted_also_under_a_pass_and_other_errors_are_not() {
        let timeout = Value::sym("timeout");
        let ops = [
            ("cas", OpType::Info, mismatch()),
            ("cas", OpType::Info, mismatch()),
            ("cas", OpType::Info, timeout.clone()),
            ("read", OpType::Fail, raised("boom")),
        ];
        let told = notes(&history(&ops), Verdict::Valid);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("2 × cas returned {:error, :mismatch}, counted as `info`"),
            "{told:?}"
        );
        let told = notes(&history(&ops), Verdict::Unknown);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[1..].contains(&"1 × cas info: :timeout".to_owned()), "{told:?}");
        let raised = "1 × read raised RuntimeError: boom (lib/kv.ex:9: Kv.put/2)";
        assert!(told[1..].contains(&raised.to_owned()), "{told:?}");
    }

    #[test]
    fn terms_are_written_as_in_elixir_and_cut() {
        let value = tuple(&[
            Value::sym("Elixir.Kv.Store"),
            Value::list(vec![Value::Int(1), Value::Nil, Value::str("a\"b")]),
            Value::map([(Value::sym("k"), Value::Bool(true))]),
        ]);
        assert_eq!(term(&value), r#"{Kv.Store, [1, nil, "a\"b"], %{:k => true}}"#);
        let long = Value::str("x".repeat(100_000));
        assert!(term(&long).chars().count() <= TERM_CHARS_MAX + 1);
        let deep = (0..100).fold(Value::Nil, |inner, _| tuple(&[inner]));
        assert!(term(&deep).contains('…'));
    }
}
