//! `register`: read, write and compare-and-set of independent registers; linearizable.
//!
//! Each key belongs to a group of threads, by default one for each node, for 30 s or the main phase if
//! shorter: long enough to span faults, and bounded, since every operation that times out stays open for
//! the rest of its key and makes checking it harder.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `keys` | as many as there is time for | how many keys in total |
//! | `ops_per_key` | no limit | operations until a group takes the next key |
//! | `key_time_s` | 30, or the main phase shared out to `keys` | time until it does |
//! | `threads_per_key` | one for each node | how many threads work on a key together |
//! | `value_max` | 4 | values are from 0 to this |
//! | `unique_writes` | false | every write its own value instead (checked faster, finds less with cas) |
//! | `cas` | true, false with `unique_writes` | whether there are compare-and-sets, `[old new]` |

use serde_json::{Value as Json, json};

use super::options::Reader;
use super::{
    Parts, RECOVERY_UNIQUE, Setting, WorkloadError, checker, group_count, threads_per_key_default,
};

const KEY_TIME_S: f64 = 30.0;

pub(super) fn parts(options: &mut Reader<'_>, setting: &Setting) -> Result<Parts, WorkloadError> {
    let keys = options.whole("keys", 1, 1_000_000_000)?;
    let ops_per_key = options.whole("ops_per_key", 1, 1_000_000_000_000)?;
    let key_time_s = options.seconds("key_time_s")?;
    let threads_per_key = options.whole("threads_per_key", 1, u64::from(setting.threads))?;
    let value_max = options.whole("value_max", 0, i64::MAX as u64)?;
    let unique_writes = options.flag("unique_writes")?.unwrap_or(false);
    let cas = options.flag("cas")?;
    if unique_writes && cas == Some(true) {
        return options
            .bad("cas", "with `unique_writes` no compare-and-set would ever guess right");
    }
    if unique_writes && value_max.is_some() {
        return options.bad("value_max", "with `unique_writes` values have no maximum");
    }
    let cas = cas.unwrap_or(!unique_writes);
    let threads_per_key =
        threads_per_key.map_or_else(|| threads_per_key_default(setting), |count| count as u32);
    let key_time_s = key_time_s.or_else(|| key_time(setting, keys, ops_per_key, threads_per_key));
    let mut independent = json!({
        "threads-per-key": threads_per_key,
        "generator": operations(unique_writes, cas, value_max.unwrap_or(4)),
    });
    let optional = [
        ("keys", json!(keys)),
        ("ops-per-key", json!(ops_per_key)),
        ("key-time", json!(key_time_s)),
    ];
    for (name, value) in optional.into_iter().filter(|(_, value)| !value.is_null()) {
        independent[name] = value;
    }
    let model = if cas { "cas-register" } else { "register" };
    Ok(Parts {
        generator: json!({ "independent": independent }),
        recovery_generator: Some(asked_again(unique_writes, cas, value_max.unwrap_or(4))),
        final_generator: None,
        checkers: vec![checker("linearizable", json!({"model": model, "independent": true}))],
    })
}

/// A given number of keys fills the main phase, unless their length is said otherwise.
fn key_time(
    setting: &Setting,
    keys: Option<u64>,
    ops_per_key: Option<u64>,
    threads_per_key: u32,
) -> Option<f64> {
    match (keys, ops_per_key) {
        (_, Some(_)) => None,
        (None, None) => Some(KEY_TIME_S),
        (Some(keys), None) => {
            let rounds = keys.div_ceil(group_count(setting.threads, threads_per_key, Some(keys)));
            Some(setting.time_limit_s / rounds as f64)
        }
    }
}

/// Operations on the first key, which is there in every run.
fn asked_again(unique_writes: bool, cas: bool, value_max: u64) -> Json {
    let of_key = |value: Json| json!({"tuple": [0, value]});
    let value = match unique_writes {
        true => json!({"unique": RECOVERY_UNIQUE}),
        false => json!({"int": [0, value_max]}),
    };
    let mut all = vec![
        json!({"f": "read", "value": of_key(Json::Null)}),
        json!({"f": "write", "value": of_key(value.clone())}),
    ];
    if cas {
        all.push(json!({"f": "cas", "value": of_key(json!([value, value]))}));
    }
    json!({ "mix": all })
}

fn operations(unique_writes: bool, cas: bool, value_max: u64) -> Json {
    let value = if unique_writes { json!({"unique": 1}) } else { json!({"int": [0, value_max]}) };
    let read = json!({"f": "read"});
    let write = json!({"f": "write", "value": value});
    if cas {
        let cas = json!({"f": "cas", "value": [value, value]});
        json!({"mix": [read, write, cas], "weights": [2, 1, 1]})
    } else {
        json!({"mix": [read, write], "weights": [1, 1]})
    }
}
