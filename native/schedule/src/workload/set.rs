//! `set`: unique elements are added, and whatever was acknowledged must be read in the end.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `elements` | 10,000, or no limit with a `rate` | adds in total, spread over the main phase without a `rate` |
//! | `read_interval_s` | 1 | mean time between reads during the main phase; a read returns the whole set |

use serde_json::json;

use super::options::Reader;
use super::{Parts, RECOVERY_UNIQUE, Setting, WorkloadError, checker, final_on_each_node};

const ELEMENTS: u64 = 10_000;

pub(super) fn parts(options: &mut Reader<'_>, setting: &Setting) -> Result<Parts, WorkloadError> {
    let elements = options.whole("elements", 1, 1_000_000_000)?;
    let read_interval_s = options.seconds("read_interval_s")?.unwrap_or(1.0);
    let add = json!({"f": "add", "value": {"unique": 0}});
    let adds = match (setting.rate, elements) {
        (Some(_), None) => add,
        (Some(_), Some(elements)) => json!({"limit": [elements, add]}),
        (None, elements) => {
            let elements = elements.unwrap_or(ELEMENTS);
            let gap_s = setting.time_limit_s / elements as f64;
            json!({"limit": [elements, {"stagger": [gap_s, add]}]})
        }
    };
    let reads = json!({"stagger": [read_interval_s, {"f": "read"}]});
    Ok(Parts {
        generator: json!({"any": [reads, adds]}),
        // A read holds the whole set.
        recovery_generator: Some(json!({
            "mix": [{"f": "add", "value": {"unique": RECOVERY_UNIQUE}}, {"f": "read"}],
            "weights": [3, 1],
        })),
        final_generator: Some(final_on_each_node(json!({"f": "read", "extra": {"final?": true}}))),
        checkers: vec![checker("set-full", json!({})), checker("final-reads", json!({}))],
    })
}
