//! Consistency models as the sets of anomalies that they forbid.
//!
//! After Adya ("Weak consistency", 1999), Cerone et al. ("A framework for transactional consistency
//! models", 2015) and Elle's table of models. Models that order the transactions of a session, or all
//! transactions in real time, forbid the same anomalies with `-process` or `-realtime` edges too.

use std::collections::BTreeSet;

/// Anomalies, by name.
pub type Names = BTreeSet<String>;

/// What read uncommitted forbids; every other model includes it.
const READ_UNCOMMITTED: &[&str] = &["G0", "duplicate-elements", "internal", "garbage-read"];
const READ_COMMITTED: &[&str] =
    &["G1a", "G1b", "G1c", "dirty-update", "future-read", "incompatible-order"];
const CURSOR_STABILITY: &[&str] = &["lost-update", "G-cursor"];
const UPDATE_ATOMIC: &[&str] = &["lost-update", "fractured-update"];
const CONSISTENT_VIEW: &[&str] = &["G-single", "G-single-item"];
const REPEATABLE_READ: &[&str] =
    &["lost-update", "G-cursor", "G-single-item", "G-nonadjacent-item", "G2-item"];
const SNAPSHOT_ISOLATION: &[&str] = &[
    "lost-update",
    "G-cursor",
    "fractured-update",
    "G-single",
    "G-single-item",
    "G-nonadjacent-item",
];

/// The models with what they forbid beyond read committed.
const MODELS: &[(&str, &[&[&str]])] = &[
    ("read-uncommitted", &[]),
    ("read-committed", &[READ_COMMITTED]),
    ("cursor-stability", &[READ_COMMITTED, CURSOR_STABILITY]),
    ("update-atomic", &[READ_COMMITTED, UPDATE_ATOMIC]),
    ("consistent-view", &[READ_COMMITTED, CONSISTENT_VIEW]),
    ("repeatable-read", &[READ_COMMITTED, REPEATABLE_READ]),
    ("snapshot-isolation", &[READ_COMMITTED, SNAPSHOT_ISOLATION]),
    ("serializable", &[READ_COMMITTED, REPEATABLE_READ, SNAPSHOT_ISOLATION]),
];

/// Which of them exist with orders of sessions and of real time.
const ORDERED: &[&str] =
    &["read-uncommitted", "read-committed", "snapshot-isolation", "serializable"];

/// Other names.
const ALIASES: &[(&str, &str)] = &[
    ("PL-1", "read-uncommitted"),
    ("PL-2", "read-committed"),
    ("PL-CS", "cursor-stability"),
    ("PL-2+", "consistent-view"),
    ("PL-2.99", "repeatable-read"),
    ("PL-SI", "snapshot-isolation"),
    ("PL-3", "serializable"),
    ("strong-session-PL-1", "strong-session-read-uncommitted"),
    ("strong-session-PL-2", "strong-session-read-committed"),
    ("strong-session-PL-SI", "strong-session-snapshot-isolation"),
    ("strong-session-PL-3", "strong-session-serializable"),
    ("strong-PL-1", "strong-read-uncommitted"),
    ("strong-PL-2", "strong-read-committed"),
    ("strong-PL-SI", "strong-snapshot-isolation"),
    ("PL-SS", "strict-serializable"),
    ("strong-serializable", "strict-serializable"),
    ("strong-PL-3", "strict-serializable"),
];

/// Every model with what it forbids.
pub fn models() -> Vec<(String, Names)> {
    let mut models = Vec::new();
    for (name, parts) in MODELS {
        let base: Names = READ_UNCOMMITTED
            .iter()
            .chain(parts.iter().copied().flatten())
            .map(|anomaly| (*anomaly).to_owned())
            .collect();
        if ORDERED.contains(name) {
            let session = with_suffix(&base, "-process");
            let strong = with_suffix(&session, "-realtime");
            let strong_name = match *name {
                "serializable" => "strict-serializable".to_owned(),
                name => format!("strong-{name}"),
            };
            models.push((format!("strong-session-{name}"), session));
            models.push((strong_name, strong));
        }
        models.push(((*name).to_owned(), base));
    }
    models
}

/// The set with the variants of its cycles.
fn with_suffix(names: &Names, suffix: &str) -> Names {
    let cycles = names.iter().filter(|name| name.starts_with('G') && !name.contains("-process"));
    let cycles = cycles.filter(|name| !matches!(name.as_str(), "G1a" | "G1b" | "G-cursor"));
    let variants: Vec<String> = cycles.map(|name| format!("{name}{suffix}")).collect();
    names.iter().cloned().chain(variants).collect()
}

/// All names that [`forbidden_by`] takes.
pub fn known() -> Vec<String> {
    let mut known: Vec<String> = models().into_iter().map(|(name, _)| name).collect();
    known.extend(ALIASES.iter().map(|(alias, _)| (*alias).to_owned()));
    known
}

/// What a model forbids.
pub fn forbidden_by(model: &str) -> Option<Names> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == model).map_or(model, |(_, name)| name);
    models().into_iter().find(|(known, _)| known == name).map(|(_, names)| names)
}

/// An anomaly asked for by name, with those that are special cases of it.
pub fn implied_by(anomaly: &str) -> Names {
    let list: &[&str] = match anomaly {
        "G1" => &["G0", "G1a", "G1b", "G1c", "incompatible-order"],
        "G1c" => &["G0", "G1c"],
        "G-single" | "G-single-item" => &["G-single-item"],
        "G-nonadjacent" | "G-nonadjacent-item" => &["G-single-item", "G-nonadjacent-item"],
        "G2" | "G2-item" => &["G-single-item", "G-nonadjacent-item", "G2-item"],
        other => &[other],
    };
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// The weakest models that the anomalies rule out, and all the others that are ruled out with them.
pub fn ruled_out(found: &Names) -> (Vec<String>, Vec<String>) {
    let violated: Vec<(String, Names)> =
        models().into_iter().filter(|(_, names)| !names.is_disjoint(found)).collect();
    let weakest = |(name, names): &&(String, Names)| {
        !violated
            .iter()
            .any(|(other, theirs)| other != name && theirs.is_subset(names) && theirs != names)
    };
    let mut not: Vec<String> = violated.iter().filter(weakest).map(|(n, _)| n.clone()).collect();
    let mut also: Vec<String> =
        violated.iter().filter(|m| !weakest(m)).map(|(n, _)| n.clone()).collect();
    not.sort();
    also.sort();
    (not, also)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Names {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_weakest_models_are_named() {
        let not = |list: &[&str]| ruled_out(&names(list)).0;
        assert_eq!(not(&["G0"]), ["read-uncommitted"]);
        assert_eq!(not(&["G-single-item"]), ["consistent-view", "repeatable-read"]);
        assert_eq!(not(&["G-nonadjacent-item"]), ["repeatable-read", "snapshot-isolation"]);
        assert_eq!(not(&["lost-update", "G2-item"]), ["cursor-stability", "update-atomic"]);
        assert_eq!(not(&["G1c-process"]), ["strong-session-read-committed"]);
        assert_eq!(not(&["G-single-item-realtime"]), ["strong-snapshot-isolation"]);
    }

    #[test]
    fn stronger_models_forbid_more() {
        let of = |name: &str| forbidden_by(name).expect(name);
        assert!(of("serializable").is_subset(&of("strict-serializable")));
        assert!(of("strong-session-serializable").is_subset(&of("PL-SS")));
    }
}
