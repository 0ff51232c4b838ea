//! `registry`: names are registered from every node and looked up; at most one live owner for each, and
//! exactly one after healing.
//!
//! A name is taken once and stays taken, so that a conflict needs a name that is new while nodes are apart:
//! groups of threads, by default one thread for each node, go from name to name through the main phase.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `names` | one for each group in 2 s | how many names in total; they fill the main phase |
//! | `ops_per_name` | 100 | operations with each name at most, spread over its time without a `rate` |
//! | `threads_per_name` | one for each node | how many threads try for a name together |

use serde_json::json;

use super::options::Reader;
use super::{
    Parts, Setting, WorkloadError, checker, final_of_each_key, group_count, threads_per_key_default,
};

const NAME_TIME_S: f64 = 2.0;

pub(super) fn parts(options: &mut Reader<'_>, setting: &Setting) -> Result<Parts, WorkloadError> {
    let names = options.whole("names", 1, 1_000_000)?;
    let ops_per_name = options.whole("ops_per_name", 1, 1_000_000_000)?.unwrap_or(100);
    let threads_per_name = options
        .whole("threads_per_name", 1, u64::from(setting.threads))?
        .map_or_else(|| threads_per_key_default(setting), |count| count as u32);
    let groups = group_count(setting.threads, threads_per_name, names);
    let names = names.unwrap_or_else(|| {
        let rounds = (setting.time_limit_s / NAME_TIME_S).ceil().max(1.0);
        groups.saturating_mul(rounds as u64)
    });
    let name_time_s = setting.time_limit_s / names.div_ceil(groups) as f64;
    let operations = json!({
        "mix": [{"f": "register"}, {"f": "whereis"}],
        "weights": [1, 2],
    });
    let paced = match setting.rate {
        Some(_) => operations,
        None => json!({"stagger": [name_time_s / ops_per_name as f64, operations]}),
    };
    // Time comes after the limit: a group whose operations are used up waits for the next name's turn,
    // so that new names appear throughout the run.
    let turn = json!([{"limit": [ops_per_name, paced]}, {"sleep": name_time_s}]);
    Ok(Parts {
        generator: json!({"independent": {
            "keys": names,
            "threads-per-key": threads_per_name,
            "key-time": name_time_s,
            "generator": turn,
        }}),
        // A name that is taken is an answer.
        recovery_generator: Some(json!({"mix": [
            {"f": "register", "value": {"tuple": [0, null]}},
            {"f": "whereis", "value": {"tuple": [0, null]}},
        ]})),
        final_generator: Some(final_of_each_key(
            names,
            json!({"f": "whereis", "extra": {"final?": true}}),
        )),
        checkers: vec![checker("registry", json!({}))],
    })
}
