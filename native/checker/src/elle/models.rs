//! Consistency models, the anomalies that each forbids, and how they imply each other.
//!
//! The names and the relations are Elle's (Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from
//! Experimental Observations", VLDB 2020), which follow Adya ("Weak Consistency", 1999), Cerone, Bernardi
//! and Gotsman ("A Framework for Transactional Consistency Models with Atomic Visibility", 2015), Bailis
//! et al. and Daudjee and Salem. A model has one canonical name, and often a friendlier one.

use std::collections::{BTreeMap, BTreeSet};

use crate::options::did_you_mean;

/// Names in order.
pub type Names = BTreeSet<&'static str>;

/// An anomaly, and those that it is an instance of or trivially shows.
const ANOMALY_IMPLIES: &[(&str, &[&str])] = &[
    ("G0", &["G1c", "G0-process"]),
    ("G0-process", &["G1c-process", "G0-realtime"]),
    ("G0-realtime", &["G1c-realtime"]),
    ("G1a", &["G1"]),
    ("G1b", &["G1"]),
    ("G1c", &["G1", "G1c-process"]),
    ("G1c-process", &["G1c-realtime", "G1-process"]),
    ("G1c-realtime", &["G1-realtime"]),
    ("G1", &["G1-process"]),
    ("G1-process", &["G1-realtime"]),
    ("G-single-item", &["G-single", "G-single-item-process", "G-nonadjacent-item"]),
    (
        "G-single-item-process",
        &["G-single-process", "G-single-item-realtime", "G-nonadjacent-item-process"],
    ),
    ("G-single-item-realtime", &["G-single-realtime", "G-nonadjacent-item-realtime"]),
    ("G-single", &["G-nonadjacent", "GSIb", "G-single-process"]),
    ("G-single-process", &["G-nonadjacent-process", "G-single-realtime"]),
    ("G-single-realtime", &["G-nonadjacent-realtime"]),
    ("G-nonadjacent-item", &["G-nonadjacent", "G2-item", "G-nonadjacent-item-process"]),
    (
        "G-nonadjacent-item-process",
        &["G-nonadjacent-process", "G2-item-process", "G-nonadjacent-item-realtime"],
    ),
    ("G-nonadjacent-item-realtime", &["G2-item-realtime", "G-nonadjacent-realtime"]),
    ("G-nonadjacent", &["G2", "G-nonadjacent-process"]),
    ("G-nonadjacent-process", &["G2-process", "G-nonadjacent-realtime"]),
    ("G-nonadjacent-realtime", &["G2-realtime"]),
    ("G2", &["G2-process"]),
    ("G2-item", &["G2", "G2-item-process"]),
    ("G2-item-process", &["G2-process", "G2-item-realtime"]),
    ("G2-item-realtime", &["G2-realtime"]),
    ("G2-process", &["G2-realtime"]),
    ("GSIa", &["GSI"]),
    ("GSIb", &["GSI"]),
    ("incompatible-order", &["G1a"]),
    ("future-read", &["G1c"]),
    ("dirty-update", &["G1a"]),
    // Not Elle's, which stops there: what nobody wrote was not committed either.
    ("garbage-read", &["G1a"]),
    ("lost-update", &["write-skew", "G2-item"]),
    ("write-skew", &["G2"]),
];

/// Other names of models: friendly, canonical.
const CANONICAL: &[(&str, &str)] = &[
    ("consistent-view", "PL-2+"),
    ("conflict-serializable", "PL-3"),
    ("cursor-stability", "PL-CS"),
    ("forward-consistent-view", "PL-FCV"),
    ("monotonic-snapshot-read", "PL-MSR"),
    ("monotonic-view", "PL-2L"),
    ("read-committed", "PL-2"),
    ("read-uncommitted", "PL-1"),
    ("repeatable-read", "PL-2.99"),
    ("serializable", "PL-3"),
    ("snapshot-isolation", "PL-SI"),
    ("strict-serializable", "PL-SS"),
    ("strong-serializable", "PL-SS"),
    ("update-serializable", "PL-3U"),
    ("strong-session-read-uncommitted", "strong-session-PL-1"),
    ("strong-session-read-committed", "strong-session-PL-2"),
    ("strong-read-uncommitted", "strong-PL-1"),
    ("strong-read-committed", "strong-PL-2"),
];

/// A model and weaker ones that it contains.
const MODEL_IMPLIES: &[(&str, &[&str])] = &[
    ("causal-cerone", &["read-atomic"]),
    ("consistent-view", &["cursor-stability", "monotonic-view"]),
    ("conflict-serializable", &["view-serializable"]),
    ("cursor-stability", &["read-committed"]),
    ("forward-consistent-view", &["consistent-view"]),
    ("PL-2", &["PL-1"]),
    ("PL-3", &["repeatable-read", "update-serializable"]),
    ("update-serializable", &["forward-consistent-view"]),
    ("monotonic-atomic-view", &["read-committed"]),
    ("monotonic-view", &["PL-2"]),
    ("monotonic-snapshot-read", &["PL-2"]),
    ("parallel-snapshot-isolation", &["causal-cerone", "update-atomic"]),
    ("prefix", &["causal-cerone"]),
    ("read-atomic", &["monotonic-atomic-view"]),
    ("repeatable-read", &["cursor-stability", "monotonic-atomic-view"]),
    ("update-atomic", &["read-atomic"]),
    ("serializable", &["repeatable-read", "snapshot-isolation", "view-serializable"]),
    ("session-serializable", &["1SR"]),
    (
        "snapshot-isolation",
        &[
            "forward-consistent-view",
            "monotonic-atomic-view",
            "monotonic-snapshot-read",
            "parallel-snapshot-isolation",
            "prefix",
        ],
    ),
    (
        "strict-serializable",
        &[
            "PL-3",
            "linearizable",
            "snapshot-isolation",
            "strong-snapshot-isolation",
            "strong-session-serializable",
        ],
    ),
    ("strong-session-PL-1", &["PL-1"]),
    ("strong-session-PL-2", &["PL-2", "strong-session-PL-1"]),
    ("strong-PL-1", &["strong-session-PL-1"]),
    ("strong-PL-2", &["strong-session-PL-2", "strong-PL-1"]),
    ("strong-session-serializable", &["serializable", "strong-session-snapshot-isolation"]),
    ("strong-session-snapshot-isolation", &["snapshot-isolation", "strong-session-PL-2"]),
    ("strong-serializable", &["session-serializable"]),
    ("strong-snapshot-isolation", &["strong-session-snapshot-isolation", "strong-PL-2"]),
    ("linearizable", &["sequential"]),
    ("sequential", &["causal"]),
    ("causal", &["writes-follow-reads", "PRAM"]),
    ("PRAM", &["monotonic-reads", "monotonic-writes", "read-your-writes"]),
];

/// A model and the anomalies that it forbids beyond those of the weaker ones.
const FORBIDS: &[(&str, &[&str])] = &[
    ("causal-cerone", &["internal", "G1a"]),
    ("cursor-stability", &["G1", "G-cursor", "lost-update"]),
    ("monotonic-view", &["G1", "G-monotonic"]),
    ("monotonic-snapshot-read", &["G1", "G-MSR"]),
    ("consistent-view", &["G1", "G-single"]),
    ("forward-consistent-view", &["G1", "G-SIb"]),
    ("parallel-snapshot-isolation", &["internal", "G1a"]),
    ("PL-3", &["G1", "G2", "predicate-read-miss"]),
    ("PL-2", &["G1"]),
    ("PL-1", &["G0", "duplicate-elements", "cyclic-versions"]),
    ("prefix", &["internal", "G1a"]),
    ("serializable", &["internal"]),
    ("snapshot-isolation", &["internal", "G1", "G-SI", "G-nonadjacent"]),
    ("read-atomic", &["internal", "G1a", "future-read"]),
    ("repeatable-read", &["G1", "G2-item", "lost-update"]),
    ("update-atomic", &["lost-update"]),
    ("strict-serializable", &["G1", "G1c-realtime", "G2-realtime"]),
    ("strong-session-PL-1", &["G0-process"]),
    ("strong-session-PL-2", &["G1c-process"]),
    ("strong-PL-1", &["G0-realtime"]),
    ("strong-PL-2", &["G1c-realtime"]),
    ("strong-session-snapshot-isolation", &["internal", "G1-process", "G-nonadjacent-process"]),
    ("strong-snapshot-isolation", &["internal", "G1-realtime", "G-nonadjacent-realtime"]),
    ("strong-session-serializable", &["G1-process", "G2-process"]),
    ("update-serializable", &["G1", "G-update"]),
];

/// The canonical name of a model.
fn canonical(model: &'static str) -> &'static str {
    CANONICAL.iter().find(|(name, _)| *name == model).map_or(model, |(_, canonical)| canonical)
}

/// The name for people. Where a model has several, Elle's choice.
pub fn friendly(model: &'static str) -> &'static str {
    match model {
        "PL-3" => "serializable",
        "PL-SS" => "strong-serializable",
        _ => CANONICAL.iter().find(|(_, name)| *name == model).map_or(model, |(name, _)| name),
    }
}

/// A suggestion for an unknown name: the nearest one, the model of which it is a session form, or all of them.
pub fn nearest(name: &str, known: &[&str]) -> String {
    let name = name.trim_start_matches(':');
    let plain = name.strip_prefix("strong-session-").or_else(|| name.strip_prefix("strong-"));
    if let Some(plain) = plain.filter(|plain| known.contains(plain)) {
        return format!("; there is no such form of {plain}, did you mean {plain:?}?");
    }
    match did_you_mean(name, known) {
        hint if hint.is_empty() => format!("; there are {}", known.join(", ")),
        hint => hint,
    }
}

type Edges = BTreeMap<&'static str, Names>;

fn edges(
    pairs: &[(&'static str, &'static [&'static str])],
    from: fn(&'static str) -> &'static str,
    to: fn(&'static str) -> &'static str,
) -> Edges {
    let mut edges = Edges::new();
    for (a, bs) in pairs {
        for b in *bs {
            edges.entry(from(a)).or_default().insert(to(b));
            edges.entry(to(b)).or_default();
        }
    }
    edges
}

fn reversed(edges: &Edges) -> Edges {
    let mut reversed = Edges::new();
    for (a, bs) in edges {
        reversed.entry(a).or_default();
        for b in bs {
            reversed.entry(b).or_default().insert(a);
        }
    }
    reversed
}

/// Everything that can be reached, the start included.
fn reach(edges: &Edges, start: impl IntoIterator<Item = &'static str>) -> Names {
    let mut open: Vec<&'static str> = start.into_iter().collect();
    let mut seen = Names::new();
    while let Some(name) = open.pop() {
        if seen.insert(name) {
            open.extend(edges.get(name).into_iter().flatten());
        }
    }
    seen
}

/// The lattice, ready for questions.
#[derive(Debug, Clone)]
pub struct Lattice {
    anomalies: Edges,
    anomalies_back: Edges,
    models: Edges,
    models_back: Edges,
    forbids: Edges,
    forbidden_by: Edges,
}

/// The models that anomalies rule out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Boundary {
    /// The weakest models that do not hold.
    pub not: Names,
    /// The stronger ones, which therefore do not hold either.
    pub also_not: Names,
}

fn same(name: &'static str) -> &'static str {
    name
}

impl Default for Lattice {
    fn default() -> Lattice {
        Lattice::new()
    }
}

impl Lattice {
    /// Builds it.
    pub fn new() -> Lattice {
        let anomalies = edges(ANOMALY_IMPLIES, same, same);
        let models = edges(MODEL_IMPLIES, canonical, canonical);
        let forbids = edges(FORBIDS, canonical, same);
        Lattice {
            anomalies_back: reversed(&anomalies),
            anomalies,
            models_back: reversed(&models),
            models,
            forbidden_by: reversed(&forbids),
            forbids,
        }
    }

    /// The model of that name, with or without a colon, canonical.
    pub fn model(&self, name: &str) -> Option<&'static str> {
        let name = name.strip_prefix(':').unwrap_or(name);
        self.model_names().into_iter().find(|known| *known == name).map(canonical)
    }

    /// Every name of a model.
    pub fn model_names(&self) -> Names {
        let aliases = CANONICAL.iter().flat_map(|(a, b)| [*a, *b]);
        self.models.keys().copied().chain(aliases).collect()
    }

    /// The anomaly of that name, with or without a colon.
    pub fn anomaly(&self, name: &str) -> Option<&'static str> {
        let name = name.strip_prefix(':').unwrap_or(name);
        self.anomaly_names().into_iter().find(|known| *known == name)
    }

    /// Every name of an anomaly.
    pub fn anomaly_names(&self) -> Names {
        let forbidden = self.forbids.values().flatten();
        self.anomalies.keys().chain(forbidden).copied().collect()
    }

    /// The anomalies that show one of these, themselves included.
    pub fn showing(&self, anomalies: impl IntoIterator<Item = &'static str>) -> Names {
        reach(&self.anomalies_back, anomalies)
    }

    /// The anomalies that one of these shows, themselves included.
    pub fn shown_by(&self, anomalies: impl IntoIterator<Item = &'static str>) -> Names {
        reach(&self.anomalies, anomalies)
    }

    /// What must not be there if all the models (canonical names) are to hold.
    pub fn forbidden(&self, models: impl IntoIterator<Item = &'static str>) -> Names {
        let held = reach(&self.models, models);
        let direct = held.iter().filter_map(|model| self.forbids.get(model)).flatten();
        self.showing(direct.copied().collect::<Names>())
    }

    /// The models that cannot hold where these anomalies are, canonical.
    pub fn impossible(&self, anomalies: impl IntoIterator<Item = &'static str>) -> Names {
        let shown = self.shown_by(anomalies);
        let direct = shown.iter().filter_map(|name| self.forbidden_by.get(name)).flatten();
        reach(&self.models_back, direct.copied().collect::<Names>())
    }

    /// The weakest models that cannot hold where these anomalies are or these (canonical) models are ruled
    /// out, and the stronger ones.
    pub fn boundary(
        &self,
        anomalies: impl IntoIterator<Item = &'static str>,
        ruled_out: &Names,
    ) -> Boundary {
        let mut impossible = self.impossible(anomalies);
        impossible.extend(reach(&self.models_back, ruled_out.iter().copied()));
        let weakest = |model: &&'static str| {
            let weaker = reach(&self.models, [*model]);
            !weaker.iter().any(|name| name != model && impossible.contains(name))
        };
        let (not, also_not): (Names, Names) = impossible.iter().copied().partition(weakest);
        Boundary {
            not: not.into_iter().map(friendly).collect(),
            also_not: also_not.into_iter().map(friendly).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not(anomalies: &[&'static str]) -> Vec<&'static str> {
        Lattice::new().boundary(anomalies.iter().copied(), &Names::new()).not.into_iter().collect()
    }

    #[test]
    fn boundaries_are_those_of_the_literature() {
        assert_eq!(not(&["G0"]), ["read-uncommitted"]);
        assert_eq!(not(&["G1a"]), ["read-committed"]);
        assert_eq!(not(&["internal"]), ["read-atomic"]);
        assert_eq!(not(&["lost-update"]), ["cursor-stability", "update-atomic"]);
        assert_eq!(not(&["G-single-item"]), ["consistent-view", "repeatable-read"]);
        assert_eq!(not(&["G-nonadjacent-item"]), ["repeatable-read", "snapshot-isolation"]);
        assert_eq!(not(&["G2-item"]), ["repeatable-read"]);
        assert_eq!(not(&["G-single-item-realtime"]), ["strong-snapshot-isolation"]);
        assert_eq!(not(&["G2-item-realtime"]), ["strong-serializable"]);
        assert_eq!(not(&["G1c-process"]), ["strong-session-read-committed"]);
    }

    #[test]
    fn a_stronger_model_forbids_more() {
        let lattice = Lattice::new();
        let strict = lattice.forbidden(["PL-SS"]);
        let snapshot = lattice.forbidden(["PL-SI"]);
        assert!(strict.contains("G2-item-realtime") && strict.is_superset(&snapshot));
        assert!(snapshot.contains("G-nonadjacent-item") && !snapshot.contains("G2-item"));
        assert!(!lattice.forbidden(["PL-1"]).contains("G1a"));
    }

    #[test]
    fn names_with_colons_and_aliases_are_known() {
        let lattice = Lattice::new();
        assert_eq!(lattice.model(":strict-serializable"), Some("PL-SS"));
        assert_eq!(lattice.model("PL-2.99"), Some("PL-2.99"));
        assert_eq!(lattice.model("strict"), None);
        assert_eq!(lattice.anomaly(":G1c"), Some("G1c"));
    }

    #[test]
    fn unknown_names_get_one_suggestion() {
        let known: Vec<&str> = Lattice::new().model_names().into_iter().collect();
        let hint = |name| nearest(name, &known);
        assert_eq!(hint("strict-serialisable"), "; did you mean \"strict-serializable\"?");
        assert_eq!(
            hint(":strong-session-consistent-view"),
            "; there is no such form of consistent-view, did you mean \"consistent-view\"?"
        );
        assert!(hint("eventual").contains("; there are 1SR, PL-1"), "{}", hint("eventual"));
    }

    #[test]
    fn nothing_implies_itself_in_a_circle() {
        let lattice = Lattice::new();
        for (graph, name) in [(&lattice.models, "models"), (&lattice.anomalies, "anomalies")] {
            for start in graph.keys() {
                let beyond = reach(graph, graph[start].iter().copied());
                assert!(!beyond.contains(start), "{start} in {name}");
            }
        }
    }
}
