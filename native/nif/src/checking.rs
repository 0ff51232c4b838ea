//! One check: from the checkers as a term to the answer as a term.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fuzz_dist_checker::{self as checker, Budget};
use fuzz_dist_core::spec::{CheckerSpec, Options};
use fuzz_dist_core::{Anomaly, CheckResult, History, Value, etf};
use serde_json::Value as Json;

use crate::{Answer, decode};

/// What a check may use; `None` is without limit.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time of each checker.
    pub time_ms: Option<u64>,
    /// Memory of all checkers together, beyond the history.
    pub memory_mib: Option<u64>,
}

/// Checks the history with `checkers`, a term `[{name, %{option => value}}]`. Several are composed.
pub fn check(
    history: &History,
    checkers: &[u8],
    limits: Limits,
    cancel: Arc<AtomicBool>,
) -> Answer<Vec<u8>> {
    let specs = specs(&decode(checkers)?)?;
    // A wrong name or option is an error of the caller, not a verdict.
    for spec in &specs {
        checker::build(spec).map_err(|error| error.to_string())?;
    }
    let budget = Budget {
        time: limits.time_ms.map(Duration::from_millis),
        memory_bytes: limits.memory_mib.map(|mib| mib.saturating_mul(1 << 20)),
        cancel: Some(cancel),
    };
    // Composed for its handling of panics; of one checker, the part says all.
    let result = checker::sole(checker::check_all(history, &specs, &budget));
    Ok(encoded(&result))
}

/// A result as a term.
pub fn encoded(result: &CheckResult) -> Vec<u8> {
    let mut bytes = Vec::new();
    etf::encode(&term_of_result(result), &mut bytes);
    bytes
}

fn specs(term: &Value) -> Answer<Vec<CheckerSpec>> {
    const SHAPE: &str = "checkers are a list of {name, options}";
    let items = term.items().ok_or(SHAPE)?;
    items
        .iter()
        .map(|item| {
            let (name, options) = item.key_and_value().ok_or(SHAPE)?;
            let name = name.as_text().ok_or(SHAPE)?.to_owned();
            let Value::Map(pairs) = options else { return Err(SHAPE.to_owned()) };
            let options: Answer<Options> = pairs
                .iter()
                .map(|(key, value)| {
                    let key = key.as_text().ok_or(SHAPE)?;
                    let json = json_of(value).ok_or_else(|| {
                        format!("option {key:?} of checker {name:?} cannot be {value}")
                    })?;
                    Ok((key.to_owned(), json))
                })
                .collect();
            Ok(CheckerSpec { options: options?, name })
        })
        .collect()
}

/// An option as a spec would have it. Atoms are written as there, with a colon.
fn json_of(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Nil => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(n) => Json::from(*n),
        Value::Float(x) => Json::Number(serde_json::Number::from_f64(*x)?),
        Value::Sym(name) => Json::String(format!(":{name}")),
        Value::Str(text) => Json::String(text.to_string()),
        Value::List(items) | Value::Tuple(items) => {
            Json::Array(items.iter().map(json_of).collect::<Option<_>>()?)
        }
        Value::Map(pairs) => {
            let pairs =
                pairs.iter().map(|(key, value)| Some((key.as_text()?.to_owned(), json_of(value)?)));
            Json::Object(pairs.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// Keys of our own are atoms, whatever a checker named is text.
fn term_of_result(result: &CheckResult) -> Value {
    let counts = result.counts.iter().map(|(name, count)| {
        (Value::str(name.as_str()), Value::Int(i64::try_from(*count).unwrap_or(i64::MAX)))
    });
    atom_map([
        ("checker", Value::str(result.checker.as_str())),
        ("verdict", Value::sym(result.verdict.as_str())),
        ("reason", Value::str(result.reason.as_str())),
        (
            "anomalies",
            Value::list(result.anomalies.iter().map(term_of_anomaly).collect::<Vec<_>>()),
        ),
        ("counts", Value::map(counts)),
        ("details", term_of_json(&result.details)),
        ("elapsed_ms", Value::Float(result.elapsed_ms)),
        ("parts", Value::list(result.parts.iter().map(term_of_result).collect::<Vec<_>>())),
    ])
}

fn term_of_anomaly(anomaly: &Anomaly) -> Value {
    let edges = anomaly.edges.iter().map(|edge| {
        atom_map([
            ("from", position(edge.from)),
            ("to", position(edge.to)),
            ("kind", Value::str(edge.kind.as_str())),
            ("why", Value::str(edge.why.as_str())),
        ])
    });
    atom_map([
        ("name", Value::str(anomaly.name.as_str())),
        ("key", anomaly.key.as_deref().map_or(Value::Nil, Value::str)),
        ("text", Value::str(anomaly.text.as_str())),
        ("ops", positions(&anomaly.ops)),
        ("edges", Value::list(edges.collect::<Vec<_>>())),
        ("longest_order", positions(&anomaly.longest_order)),
    ])
}

fn positions(of: &[u64]) -> Value {
    Value::list(of.iter().map(|&op| position(op)).collect::<Vec<_>>())
}

fn position(of: u64) -> Value {
    Value::Int(i64::try_from(of).unwrap_or(i64::MAX))
}

fn atom_map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::map(pairs.map(|(name, value)| (Value::sym(name), value)))
}

fn term_of_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match n.as_i64() {
            Some(n) => Value::Int(n),
            None => Value::Float(n.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::str(text.as_str()),
        Json::Array(items) => Value::list(items.iter().map(term_of_json).collect::<Vec<_>>()),
        Json::Object(pairs) => Value::map(
            pairs.iter().map(|(key, value)| (Value::str(key.as_str()), term_of_json(value))),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(edn: &str) -> Value {
        fuzz_dist_core::interop::parse_edn_value(edn).unwrap()
    }

    fn encoded(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        etf::encode(value, &mut bytes);
        bytes
    }

    fn run(checkers: &str) -> Answer<Value> {
        let text = "{:process 0 :type :invoke :f :write :value 1}
                    {:process 0 :type :ok :f :write :value 1}
                    {:process 1 :type :invoke :f :read :value nil}
                    {:process 1 :type :ok :f :read :value 2}";
        let history = fuzz_dist_core::interop::load_bytes("h", text.as_bytes(), None).unwrap();
        let cancel = Arc::new(AtomicBool::new(false));
        let limits = Limits { time_ms: None, memory_mib: None };
        let bytes = check(&history.history, &encoded(&term(checkers)), limits, cancel)?;
        decode(&bytes)
    }

    #[test]
    fn one_checker_answers_for_itself_and_several_together() {
        let one = run("[[\"linearizable\" {}]]").unwrap();
        assert_eq!(one.get("verdict"), Some(&Value::sym("invalid")));
        assert_eq!(one.get("checker"), Some(&Value::str("linearizable")));
        let anomaly = &one.get("anomalies").unwrap().items().unwrap()[0];
        assert!(!anomaly.get("ops").unwrap().items().unwrap().is_empty());
        let both = run("[[\"stats\" {}] [\"linearizable\" {\"model\" :register}]]").unwrap();
        assert_eq!(both.get("verdict"), Some(&Value::sym("invalid")));
        assert_eq!(both.get("parts").unwrap().items().unwrap().len(), 2);
    }

    #[test]
    fn edges_and_orders_come_along() {
        let edge = fuzz_dist_core::Edge { from: 1, to: 3, kind: "ww".into(), why: "so".into() };
        let anomaly = Anomaly { edges: vec![edge], longest_order: vec![2], ..Anomaly::default() };
        let term = term_of_anomaly(&anomaly);
        let expected = "{:from 1 :to 3 :kind \"ww\" :why \"so\"}";
        assert_eq!(term.get("edges"), Some(&Value::list(vec![self::term(expected)])));
        assert_eq!(term.get("longest_order"), Some(&Value::list(vec![Value::Int(2)])));
        assert_eq!(term.get("key"), Some(&Value::Nil));
    }

    #[test]
    fn wrong_names_and_options_are_errors() {
        for (checkers, expected) in [
            ("[[\"linearisable\" {}]]", "did you mean \"linearizable\""),
            ("[[\"linearizable\" {\"modle\" 1}]]", "did you mean \"model\""),
            ("[[\"linearizable\" {\"model\" #etf \"836c0000000161016102\"}]]", "cannot be"),
            ("[[\"linearizable\" {\"independent\" :maybe}]]", "must be true or false"),
            ("[:linearizable]", "checkers are a list"),
            ("7", "checkers are a list"),
        ] {
            let error = run(checkers).unwrap_err();
            assert!(error.contains(expected), "{checkers}: {error}");
        }
    }

    #[test]
    fn a_cancelled_search_is_unknown() {
        // Writes and swaps that may happen at any time: every order of them is possible.
        let mut text = String::new();
        for i in 0..64 {
            let (f, value) = match i % 2 {
                0 => ("write", format!("{}", i % 7)),
                _ => ("cas", format!("[{} {}]", i % 7, i * 3 % 7)),
            };
            text += &format!("{{:process {i} :type :invoke :f :{f} :value {value}}}\n");
        }
        for i in 0..400 {
            text += &format!(
                "{{:process 99 :type :invoke :f :read}}{{:process 99 :type :ok :f :read :value {}}}\n",
                i % 7
            );
        }
        let history = fuzz_dist_core::interop::load_bytes("h", text.as_bytes(), None).unwrap();
        let checkers = encoded(&term("[[\"linearizable\" {}]]"));
        // Ends the test if the flag does nothing.
        let limits = Limits { time_ms: Some(60_000), memory_mib: Some(256) };
        let cancel = Arc::new(AtomicBool::new(true));
        let bytes = check(&history.history, &checkers, limits, cancel).unwrap();
        let reason = decode(&bytes).unwrap().get("reason").unwrap().to_string();
        assert!(reason.contains("the check was cancelled"), "{reason}");
    }
}
