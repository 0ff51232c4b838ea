//! `or_set`: elements are added and removed again, and what is there in the end must be what was left there.
//!
//! Few elements, so that an element is often added and removed at the same time, from different nodes.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `elements` | 10 for each node | how many different elements |
//! | `wins` | `add` | `add` or `remove`: what becomes of an element that is added and removed at the same time |
//! | `sees` | `acknowledged` | `session` for a set that spreads in the background even without faults |
//! | `read_interval_s` | 0.5 | mean time between reads during the main phase |
//!
//! Without a `rate` there are 10 operations a second for each node.

use serde_json::json;

use super::options::Reader;
use super::{Parts, Setting, WorkloadError, checker, final_on_each_node};

pub(super) fn parts(options: &mut Reader<'_>, setting: &Setting) -> Result<Parts, WorkloadError> {
    let nodes = setting.nodes.len() as u64;
    let elements = options.whole("elements", 1, 1_000_000)?.unwrap_or(10 * nodes);
    let wins = options.one_of("wins", &["add", "remove"])?.unwrap_or("add");
    let sees = options.one_of("sees", &["acknowledged", "session"])?.unwrap_or("acknowledged");
    let read_interval_s = options.seconds("read_interval_s")?.unwrap_or(0.5);
    let element = json!({"int": [0, elements - 1]});
    let add = json!({"f": "add", "value": element});
    let remove = json!({"f": "remove", "value": element});
    let again = json!({"mix": [add, remove, {"f": "read"}]});
    let changes = json!({"mix": [add, remove], "weights": [3, 2]});
    let changes = match setting.rate {
        Some(_) => changes,
        None => json!({"stagger": [1.0 / (10 * nodes) as f64, changes]}),
    };
    let reads = json!({"stagger": [read_interval_s, {"f": "read"}]});
    let last_reads = final_on_each_node(json!({"f": "read", "extra": {"final?": true}}));
    Ok(Parts {
        generator: json!({"any": [reads, changes]}),
        recovery_generator: Some(again),
        final_generator: Some(last_reads),
        checkers: vec![checker("or-set", json!({"wins": wins, "sees": sees}))],
    })
}
