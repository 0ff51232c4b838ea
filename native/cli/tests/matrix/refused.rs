//! What is wrong with a fault is told before anything starts: exit code 254, and a line with file, line, column, key,
//! cause and what would be right.
//!
//! Every kind of the table gets the same mistakes, made mechanically of its parameters, all of a sort in one spec:
//! each is told. A parameter of a shape that is not known here fails these tests.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use fuzz_dist_core::fault::{FaultKind, Kind, Plane};
use fuzz_dist_core::spec::keys::{Key, Shape};

use super::bed::{Plan, Turn};
use super::common::live::client_library;
use super::common::{Ended, Scene, assert_refused, finish};
use super::rows::{ROWS, Row};

const HEAD: &str = r#"nodes = 2

[client]
module = "M"

[workload]
name = "register"
"#;

/// A spec of faults with a mistake each, and where each must be told: line and key.
struct Mistakes {
    text: String,
    count: usize,
    wanted: Vec<(usize, String)>,
}

impl Mistakes {
    fn new() -> Mistakes {
        Mistakes { text: HEAD.into(), count: 0, wanted: Vec::new() }
    }

    /// The fault with a key changed or added; `at` is the key of the mistake, which may be deeper.
    fn add(&mut self, row: &Row, key: &str, value: &str, at: &str) {
        self.text.push_str(without(row, key).trim_end());
        self.text.push_str(&format!("\n{key} = {value}\n"));
        self.want(at);
    }

    /// The fault without a key.
    fn omit(&mut self, row: &Row, key: &str) {
        // Where the table begins.
        let line = self.text.lines().count() + 1;
        self.text.push_str(&without(row, key));
        self.wanted.push((line, format!("nemesis.faults[{}].{key}: ", self.count)));
        self.count += 1;
    }

    fn want(&mut self, at: &str) {
        let line = self.text.lines().count();
        self.wanted.push((line, format!("nemesis.faults[{}].{at}: ", self.count)));
        self.count += 1;
    }

    /// Each is told with its line, its key and some cause, and nothing is begun.
    fn assert_told(&self, scene: &Scene, row: &Row) {
        scene.write("t.toml", &self.text);
        let ended = scene.run(&["run", "t.toml"]);
        assert_refused(&ended, &[]);
        for (line, key) in &self.wanted {
            let place = format!("t.toml:{line}:");
            let told =
                ended.stderr.lines().find(|told| told.contains(&place) && told.contains(key));
            let told = told.unwrap_or_else(|| {
                panic!("{}: not told: {place} {key}\n{}\n{}", row.name(), ended.stderr, self.text)
            });
            let (_, cause) = told.split_once(key.as_str()).unwrap();
            assert!(cause.len() > 10, "no cause: {told}");
        }
        assert_quiet(&ended);
        assert!(!scene.path("store").exists(), "{}: a run was begun", row.name());
    }
}

/// The table of a row without a key.
fn without(row: &Row, key: &str) -> String {
    let is_of = |line: &&str| line.split('=').next().is_some_and(|name| name.trim() == key);
    let own: Vec<&str> = row.toml.lines().filter(|line| !is_of(line)).collect();
    super::rows::table(row.plane, row.kind, &own.join("\n"))
}

fn assert_quiet(ended: &Ended) {
    for word in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
        assert!(!ended.stderr.contains(word), "{}", ended.stderr);
    }
}

fn kind(row: &Row) -> &'static Kind {
    FaultKind::find(row.kind, Some(row.plane)).unwrap().1
}

/// Something of another shape.
fn misshapen(key: &Key) -> &'static str {
    match key.shape {
        Shape::Text | Shape::Texts | Shape::OneOf(_) => "7",
        Shape::Choice(_) => "\"nonsense\"",
        Shape::Boolean | Shape::Integer | Shape::Signed | Shape::Number => "\"many\"",
        other => panic!("say what is no {other:?} ({})", key.name),
    }
}

/// Something of the shape that makes no sense for any fault, if there is such a thing; with whether it can be seen
/// without knowing the kind.
fn senseless(key: &Key) -> Option<(&'static str, bool)> {
    match key.shape {
        Shape::Integer => Some(("-1", true)),
        Shape::Signed => Some(("0", false)),
        Shape::Number => Some(("-1.0", false)),
        Shape::Text => Some(("\"\"", false)),
        Shape::Texts => Some(("[]", false)),
        Shape::OneOf(_) => Some(("{ registered = \"\" }", false)),
        Shape::Boolean | Shape::Choice(_) => None,
        other => panic!("say what of {other:?} makes no sense ({})", key.name),
    }
}

#[test]
fn mistakes_in_the_form_of_every_fault_are_told() {
    let scene = Scene::new();
    for row in ROWS {
        let mut mistakes = Mistakes::new();
        mistakes.add(row, "targets", "[\"nobody\"]", "targets[0]");
        mistakes.add(row, "duration_ms", "-1", "duration_ms");
        mistakes.add(row, "no_such_key", "1", "no_such_key");
        mistakes.add(row, "optional", "\"perhaps\"", "optional");
        for key in kind(row).keys {
            mistakes.add(row, key.name, misshapen(key), key.name);
            if let Some((value, true)) = senseless(key) {
                mistakes.add(row, key.name, value, key.name);
            }
            if key.required() {
                mistakes.omit(row, key.name);
            }
        }
        mistakes.assert_told(&scene, row);
    }
}

#[test]
fn mistakes_in_the_meaning_of_every_fault_are_told() {
    let scene = Scene::new();
    for row in ROWS {
        let mut mistakes = Mistakes::new();
        mistakes.add(row, "targets", "[{ named = [\"n9\"] }]", "targets[0].named[0]");
        mistakes.add(row, "targets", "[]", "targets");
        mistakes.add(row, "duration_ms", "0", "duration_ms");
        mistakes.add(row, "scope", "\"nowhere\"", "scope");
        mistakes.add(row, "weight", "0", "weight");
        mistakes.add(row, "port", "\"nowhere\"", "port");
        for key in kind(row).keys {
            if let Some((value, false)) = senseless(key) {
                mistakes.add(row, key.name, value, key.name);
            }
        }
        mistakes.assert_told(&scene, row);
    }
}

#[test]
fn a_role_without_nodes_is_told() {
    let scene = Scene::new();
    for row in ROWS {
        let roles = "[roles]\nempty = []";
        let spec = format!("{HEAD}{roles}\n{}scope = \"empty\"\n", without(row, "scope"));
        scene.write("t.toml", &spec);
        let ended = scene.run(&["run", "t.toml"]);
        assert_refused(&ended, &["t.toml:9:9", "roles.empty", "names no node"]);
        assert_quiet(&ended);
    }
}

/// One that wants the preloaded library, which is not there; and where its fault stands.
fn without_library(scene: &Scene, optional: bool) -> (Ended, String) {
    let row = ROWS.iter().find(|row| row.kind == "clock-jump").unwrap();
    let mut spec = Plan::held(row, 1000, 3000).spec();
    spec.push_str(&format!("duration_ms = 500\noptional = {optional}\n"));
    scene.write("t.toml", &spec);
    let line = spec.lines().position(|line| line == "[[nemesis.faults]]").unwrap() + 1;
    let mut command = Command::new(env!("CARGO_BIN_EXE_fuzz_dist"));
    command
        .env("FUZZ_DIST_SHIM_LIBRARY", "/nowhere/libfuzz_dist_shim.so")
        .env("FUZZ_DIST_EBIN", client_library())
        .current_dir(scene.path("."));
    (finish(command.args(["run", "t.toml"]), b""), format!("t.toml:{line}:1: nemesis.faults[0]: "))
}

#[test]
fn what_cannot_be_had_stops_a_run_before_it_starts_unless_it_is_optional() {
    let scene = Scene::new();
    let (refused, place) = without_library(&scene, false);
    assert_refused(
        &refused,
        &[
            &place,
            "clock-jump",
            "FUZZ_DIST_SHIM_LIBRARY names /nowhere/libfuzz_dist_shim.so",
            "optional",
        ],
    );
    assert_quiet(&refused);
    assert!(!scene.path("store").exists());
    let _turn = Turn::take();
    Plan::specimen_into(&scene.path("."));
    let (optional, _) = without_library(&scene, true);
    // Nothing was injected, so that a pass means little; but it went on.
    assert!(matches!(optional.code, Some(0 | 2)), "{optional:?}");
    assert!(optional.stderr.contains("is left out"), "{}", optional.stderr);
    assert!(optional.stderr.contains("/nowhere/libfuzz_dist_shim.so"), "{}", optional.stderr);
    assert_quiet(&optional);
}

/// As somebody who may do nothing special; `None` where that cannot be tried.
fn as_nobody(scene: &Scene, arguments: &[&str]) -> Option<Ended> {
    const NOBODY: &str = "65534";
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(scene.path("."), open).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    let can = is_root && {
        let mut try_it = Command::new("setpriv");
        try_it.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        try_it.arg(env!("CARGO_BIN_EXE_fuzz_dist")).arg("--version");
        try_it.output().is_ok_and(|output| output.status.success())
    };
    if !can {
        println!("skipped: cannot run as another user here");
        return None;
    }
    command.arg(env!("CARGO_BIN_EXE_fuzz_dist")).args(arguments);
    command.env("FUZZ_DIST_EBIN", client_library()).current_dir(scene.path("."));
    Some(finish(&mut command, b""))
}

#[test]
fn a_fault_that_needs_root_says_so_to_others() {
    let scene = Scene::new();
    for row in ROWS.iter().filter(|row| row.plane == Plane::Net) {
        scene.write("t.toml", Plan::held(row, 1000, 3000).spec());
        let Some(ended) = as_nobody(&scene, &["run", "t.toml"]) else { return };
        // Already its network cannot be had.
        assert_refused(&ended, &["t.toml:", "cluster.network", "needs root", "run as root"]);
        assert_quiet(&ended);
        assert!(!scene.path("store").exists(), "{}: a run was begun", row.name());
    }
}
