//! As much of JSON Schema as `results.schema.json` uses; a keyword that it does not know is an error.

#![allow(clippy::unwrap_used)]

use serde_json::Value;

/// What is wrong, with JSON pointers.
pub fn violations(schema: &Value, instance: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, instance, "", &mut found);
    found
}

fn check(root: &Value, schema: &Value, instance: &Value, at: &str, found: &mut Vec<String>) {
    let Some(keywords) = schema.as_object() else { return };
    for (keyword, expected) in keywords {
        match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let pointer = expected.as_str().unwrap().trim_start_matches('#');
                let target = root.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
                check(root, target, instance, at, found);
            }
            "type" => {
                let one = std::slice::from_ref(expected);
                let names = expected.as_array().map_or(one, Vec::as_slice);
                if !names.iter().any(|name| is(instance, name.as_str().unwrap())) {
                    found.push(format!("{at}: {instance} is no {expected}"));
                }
            }
            "enum" => {
                if !expected.as_array().unwrap().contains(instance) {
                    found.push(format!("{at}: {instance} is none of {expected}"));
                }
            }
            "const" => {
                if expected != instance {
                    found.push(format!("{at}: {instance} is not {expected}"));
                }
            }
            "minimum" => {
                if instance.as_f64().is_some_and(|n| n < expected.as_f64().unwrap()) {
                    found.push(format!("{at}: {instance} is less than {expected}"));
                }
            }
            "required" => {
                for name in expected.as_array().unwrap() {
                    if instance.is_object() && instance.get(name.as_str().unwrap()).is_none() {
                        found.push(format!("{at}: no {name}"));
                    }
                }
            }
            "properties" => {
                for (name, inner) in expected.as_object().unwrap() {
                    if let Some(value) = instance.get(name) {
                        check(root, inner, value, &format!("{at}/{name}"), found);
                    }
                }
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                for (name, value) in instance.as_object().into_iter().flatten() {
                    if known.is_some_and(|known| known.contains_key(name)) {
                        continue;
                    }
                    match expected {
                        Value::Bool(false) => found.push(format!("{at}: {name} is not known")),
                        inner => check(root, inner, value, &format!("{at}/{name}"), found),
                    }
                }
            }
            "items" => {
                for (i, value) in instance.as_array().into_iter().flatten().enumerate() {
                    check(root, expected, value, &format!("{at}/{i}"), found);
                }
            }
            "minItems" | "maxItems" => {
                let length = instance.as_array().map_or(0, Vec::len) as u64;
                let bound = expected.as_u64().unwrap();
                if (keyword == "minItems" && length < bound)
                    || (keyword == "maxItems" && length > bound)
                {
                    found.push(format!("{at}: {length} items against {keyword} {bound}"));
                }
            }
            other => panic!("this checker does not know the keyword {other}"),
        }
    }
}

fn is(instance: &Value, name: &str) -> bool {
    match name {
        "null" => instance.is_null(),
        "boolean" => instance.is_boolean(),
        "integer" => instance.is_i64() || instance.is_u64(),
        "number" => instance.is_number(),
        "string" => instance.is_string(),
        "array" => instance.is_array(),
        "object" => instance.is_object(),
        other => panic!("no type {other}"),
    }
}
