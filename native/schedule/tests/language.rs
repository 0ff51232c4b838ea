//! Expressions that are wrong say where and what would be right.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use fuzz_dist_core::seed::Seed;
use fuzz_dist_schedule::{Env, Expr, compile};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn refused(json: Json) -> String {
    let nodes = vec!["n1".to_owned(), "n2".to_owned()];
    let result = Expr::parse(&json)
        .and_then(|expr| compile(&expr, &Env::new(4, &nodes, Seed(1))).map(|_| ()));
    result.expect_err(&format!("accepted: {json}")).to_string()
}

fn read() -> Json {
    json!({"f": "read"})
}

#[test]
fn every_mistake_names_its_place() {
    for (json, place, reason) in [
        (json!({"mix": [read(), {"stager": [1, read()]}]}), "at /mix/1:", "did you mean `stagger`"),
        (json!({"mix": []}), "at /mix:", "at least 1"),
        (json!({"mix": [read()], "weights": [1, 2]}), "at /weights:", "2 weights for 1"),
        (json!({"mix": [read()], "weights": [0]}), "at /weights:", "all weights are 0"),
        (json!({"any": [read()], "weights": [1]}), "at /any:", "`mix` only"),
        (json!({"limit": [-1, read()]}), "at /limit/0:", "whole number from 0"),
        (json!({"limit": read()}), "at /limit:", "[number, generator]"),
        (json!({"stagger": ["1s", read()]}), "at /stagger/0:", "expected seconds"),
        (json!({"time-limit": [1e12, read()]}), "at /time-limit/0:", "out of range"),
        (json!([read(), {"log": "x"}]), "at /0:", "never ends"),
        (json!({"phases": [{"cycle": read()}, read()]}), "at /phases/0:", "never ends"),
        (json!({"then": [read()]}), "at /then:", "[first, second]"),
        (json!({"f": "write", "value": {"itn": [0, 1]}}), "at /value:", "did you mean `int`"),
        (json!({"f": "write", "value": {"int": [4, 0]}}), "at /value/int:", "empty"),
        (json!({"f": "write", "value": {"the": "value"}}), "at /value/the:", "only within `map`"),
        (json!({"f": "write", "value": {"choose": []}}), "at /value/choose:", "nothing to choose"),
        (
            json!({"f": "write", "value": {"unique": {"step": 0}}}),
            "at /value/unique:",
            "`step` of 0",
        ),
        (json!({"f": "write", "value": {"zipf": [0, 1]}}), "at /value/zipf:", "count"),
        (json!({"f": "write", "vaule": 1}), "generator:", "did you mean `value`"),
        (json!({"f": 3}), "at /f:", "name of a function"),
        (json!(17), "generator:", "the number 17"),
        (json!({}), "generator:", "an empty object"),
        (json!({"limit": [1, read()], "once": read()}), "generator:", "found the keys limit, once"),
        (json!({"reserve": [4, read(), read()]}), "generator:", "at least one for the rest"),
        (json!({"reserve": [5, read()]}), "generator:", "reserves 5 threads"),
        (json!({"reserve": [0, read()]}), "at /reserve:", "cannot reserve 0"),
        (json!({"on-threads": [[4], read()]}), "generator:", "there is no thread 4; the last is 3"),
        (json!({"on-threads": [{"node": "n3"}, read()]}), "generator:", "unknown node `n3`"),
        (json!({"on-threads": ["evn", read()]}), "at /on-threads/0:", "did you mean `even`"),
        (json!({"on-threads": [{"range": [2, 2]}, read()]}), "generator:", "names none"),
        (json!({"nemesis": {"clients": read()}}), "at /nemesis:", "no client threads"),
        (json!({"filter": [{"g": "read"}, read()]}), "at /filter/0:", "unknown test `g`"),
        (json!({"concurrency-limit": [0, read()]}), "at /concurrency-limit:", "wait for ever"),
        (json!({"cycle-times": [0, read()]}), "at /cycle-times:", "longer than 0"),
        (
            json!({"independent": {"generator": read(), "kyes": 3}}),
            "at /independent:",
            "did you mean `keys`",
        ),
        (json!({"independent": {"keys": 3}}), "at /independent:", "`generator` is missing"),
        (
            json!({"independent": {"keys": [{"int": [0, 1]}], "generator": read()}}),
            "keys:",
            "fixed value",
        ),
        (
            json!({"map": [{"value": {"the": "valeu"}}, read()]}),
            "at /map/0/value/the:",
            "did you mean `value`",
        ),
    ] {
        let error = refused(json.clone());
        assert!(error.contains(place) && error.contains(reason), "{json}\n  gives: {error}");
    }
}

#[test]
fn depth_and_size_are_bounded() {
    let mut deep = read();
    for _ in 0..200 {
        deep = json!({ "once": deep });
    }
    assert!(refused(deep).contains("nested deeper"));
    let mut many = read();
    for _ in 0..8 {
        many = json!({"mix": [many.clone(), many]});
    }
    let nodes = vec!["n1".to_owned()];
    let copied = Expr::parse(&json!({ "each-thread": many })).unwrap();
    let error = compile(&copied, &Env::new(10_000, &nodes, Seed(1))).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("once it is copied"), "{error}");
}

#[test]
fn underscores_are_hyphens() {
    for json in [
        json!({"each_thread": {"until_ok": read()}}),
        json!({"independent": {"threads_per_key": 2, "ops_per_key": 3, "generator": read()}}),
        json!({"f_map": [{"read": "get"}, read()]}),
    ] {
        Expr::parse(&json).unwrap();
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let names = fuzz_dist_schedule::expr::COMBINATORS.to_vec();
    let draws = fuzz_dist_schedule::expr::TEMPLATE_NAMES.to_vec();
    let keys = prop_oneof![
        prop::sample::select(names),
        prop::sample::select(draws),
        prop::sample::select(vec!["f", "value", "extra", "weights", "keys", "generator"]),
    ];
    let scalar = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[:a-z]{0,4}".prop_map(Json::from),
        Just(json!({"f": "read"})),
    ];
    scalar.prop_recursive(4, 30, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 1..3)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn no_input_panics(json in any_json()) {
        let nodes = vec!["n1".to_owned()];
        if let Ok(expr) = Expr::parse(&json) {
            let _ = compile(&expr, &Env::new(3, &nodes, Seed(1)));
            let _ = (expr.functions(), expr.uses_nemesis(), expr.ends());
        }
    }
}
