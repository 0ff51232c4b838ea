//! Writes a spec as TOML that reads back as the same spec.

use serde_json::Value as Json;

use super::{Options, Spec};

/// The spec as TOML, every key with its resolved value.
///
/// TOML has no null: in free-form options a null value is left out, as absent. [`super::validate()`]
/// refuses such a spec, so that one which passed it is written without loss.
pub fn to_toml(spec: &Spec) -> String {
    let mut spec = spec.clone();
    let mut options = vec![&mut spec.client.options, &mut spec.workload.options];
    options.extend(spec.checkers.iter_mut().flatten().map(|checker| &mut checker.options));
    for table in options {
        drop_nulls(table);
    }
    for generator in [&mut spec.workload.generator, &mut spec.workload.final_generator] {
        match generator {
            Some(Json::Null) => *generator = None,
            Some(value) => drop_inner_nulls(value),
            None => {}
        }
    }
    #[expect(clippy::expect_used, reason = "the only value that TOML cannot hold is gone")]
    toml::to_string(&spec).expect("a spec without null is TOML")
}

/// Whether a null hides anywhere in a free-form value.
pub(super) fn has_null(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(items) => items.iter().any(has_null),
        Json::Object(table) => table.values().any(has_null),
        _ => false,
    }
}

fn drop_nulls(table: &mut Options) {
    table.retain(|_, value| !value.is_null());
    table.values_mut().for_each(drop_inner_nulls);
}

fn drop_inner_nulls(value: &mut Json) {
    match value {
        Json::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(drop_inner_nulls);
        }
        Json::Object(table) => {
            table.retain(|_, value| !value.is_null());
            table.values_mut().for_each(drop_inner_nulls);
        }
        _ => {}
    }
}
