//! `pn_counter`: counters that are incremented and decremented, read all along and once more in the end.
//!
//! Amounts are unique and sparse (each of (v, 2v] once in random order, then of (2v, 3v]), so that the
//! difference between a final read and what was acknowledged names the operation that was lost or counted
//! twice. A counter has one of three strategies: `grow` (increments only; reads must not fall), `swing`
//! (increments for a while, then decrements), `rand` (either, by chance).
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `keys` | number of nodes | how many counters |
//! | `strategy` | `mixed` | `grow`, `swing`, `rand`, or `mixed`: one after the other |
//! | `amount` | 10,000 | v |
//! | `swing_s` | a quarter of the main phase, at most 10 | how long a counter swings one way |
//!
//! Without a `rate` there are 8 operations a second for each counter and node, at least 100 in total: the
//! sums that are possible multiply with every indeterminate operation, and more operations find no more.

use serde_json::{Value as Json, json};

use super::options::Reader;
use super::{Parts, Setting, WorkloadError, checker, final_of_each_key};

pub(super) fn parts(options: &mut Reader<'_>, setting: &Setting) -> Result<Parts, WorkloadError> {
    let keys = options.whole("keys", 1, 10_000)?.unwrap_or(setting.nodes.len() as u64);
    let strategies = ["mixed", "grow", "swing", "rand"];
    let strategy = options.one_of("strategy", &strategies)?.unwrap_or("mixed");
    let amount = options.whole("amount", 1, 1 << 40)?.unwrap_or(10_000);
    let swing_s = options.seconds("swing_s")?.unwrap_or((setting.time_limit_s / 4.0).min(10.0));
    let counters: Vec<Json> = (0..keys)
        .map(|key| {
            let strategy = match strategy {
                "mixed" => ["grow", "swing", "rand"][(key % 3) as usize],
                chosen => chosen,
            };
            counter(key, strategy, amount, swing_s)
        })
        .collect();
    let all = json!({ "mix": counters });
    let generator = match setting.rate {
        Some(_) => all,
        None => {
            let rate = (keys * setting.nodes.len() as u64 * 8).max(100);
            json!({"stagger": [1.0 / rate as f64, all]})
        }
    };
    // Amounts of the main phase are less, so that each still names its operation.
    let again: Vec<Json> =
        (0..keys).map(|key| counter_again(key, strategy, amount * RECOVERY_FACTOR)).collect();
    let last_reads = final_of_each_key(keys, json!({"f": "read", "extra": {"final?": true}}));
    let options = json!({"independent": true, "monotonic": strategy == "grow"});
    Ok(Parts {
        generator,
        recovery_generator: Some(json!({ "mix": again })),
        final_generator: Some(last_reads),
        checkers: vec![checker("pn-counter", options)],
    })
}

/// How much larger amounts are after the last heal.
const RECOVERY_FACTOR: u64 = 1_000;

/// Every function of a counter, by chance.
fn counter_again(key: u64, strategy: &str, amount: u64) -> Json {
    let grows = strategy == "grow" || strategy == "mixed" && key.is_multiple_of(3);
    let read = json!({"f": "read", "value": {"tuple": [key, null]}});
    let change = |f: &str| json!({"f": f, "value": {"tuple": [key, {"sparse": amount}]}});
    match grows {
        true => json!({"mix": [change("increment"), read]}),
        false => json!({"mix": [change("increment"), change("decrement"), read]}),
    }
}

fn counter(key: u64, strategy: &str, amount: u64, swing_s: f64) -> Json {
    let read = json!({"f": "read", "value": {"tuple": [key, null]}});
    let value = json!({"tuple": [key, {"sparse": amount}]});
    let up = json!({"f": "increment", "value": value});
    let down = json!({"f": "decrement", "value": value});
    let changes = match strategy {
        "grow" => up,
        "swing" => json!({"cycle-times": [swing_s, up, swing_s, down]}),
        _ => json!({"mix": [up, down]}),
    };
    json!({"mix": [changes, read]})
}
