//! The table of keys against the types and `doc/spec.md`, emission, and what wrong specs are told.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::keys::{self, Key, Shape};
use super::*;
use crate::fault::{After, Event, FaultKind, LinkFault, Pattern, Plane, Selector, Subject};

const SMALLEST: &str = "[client]\nmodule = \"M\"\n[workload]\nname = \"register\"\n";

fn fault(kind: impl Into<FaultKind>) -> FaultSpec {
    FaultSpec {
        scope: Some("storage".into()),
        port: Some("amqp".into()),
        boundary: Some("net-tick".into()),
        zones: vec![Zone::Inside],
        duration_ms: Some(1),
        pattern: Some(Pattern::Flap),
        after: Some(after()),
        ..FaultSpec::new(kind)
    }
}

fn after() -> After {
    let text = || Some("n1".to_owned());
    After {
        event: Event::Nodedown,
        of: text(),
        process: Some(Selector::Registered("p".into())),
        seen_by: text(),
        delay_ms: 1,
        seen_ns: None,
    }
}

/// A spec in which every key has a value.
fn full() -> Spec {
    let some = Some(Json::from(1));
    let options = || Options::from([("k".to_owned(), Json::from(1))]);
    Spec {
        seed: Some(1),
        rate: Some(1.0),
        roles: Roles::from([("storage".to_owned(), vec!["n1".to_owned(), "n2".to_owned()])]),
        cluster: ClusterSpec {
            cookie: Some("c".into()),
            ports: vec![PortSpec { name: "amqp".into() }],
            carrier: Some(vec!["n1".into()]),
            time_warp: Some(TimeWarp::MultiTimeWarp),
            ..ClusterSpec::default()
        },
        client: ClientSpec { module: "M".into(), options: options(), ..ClientSpec::default() },
        workload: WorkloadSpec {
            name: "set".into(),
            options: options(),
            generator: some.clone(),
            final_generator: some,
        },
        nemesis: NemesisSpec {
            faults: vec![fault(LinkFault::HOLD)],
            packages: Some(vec!["kill".into()]),
            schedule: Some("s".into()),
            ..NemesisSpec::default()
        },
        checkers: Some(vec![CheckerSpec { name: "set".into(), options: options() }]),
        ..Spec::default()
    }
}

fn names_of_json(value: &Json) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn names_of(keys: &[&[Key]]) -> BTreeSet<&'static str> {
    keys.iter().flat_map(|keys| keys.iter()).map(|key| key.name).collect()
}

#[test]
fn a_cookie_is_refused_where_everybody_reads_it() {
    for toml in [
        "[cluster]\ncommand = [\"erl\", \"-setcookie\", \"{cookie}\"]\n",
        "[cluster.env]\nERL_AFLAGS = \"-setcookie {cookie}\"\n",
    ] {
        let problems = problems_of(&format!("{SMALLEST}{toml}"));
        assert!(problems.iter().any(|problem| problem.contains("{cookie_file}")), "{problems:?}");
    }
    let fine =
        "[cluster]\ncommand = [\"sh\", \"-c\", \"${cookie}\"]\nenv = { COOKIE = \"{cookie}\" }\n";
    assert_eq!(parse(&format!("{SMALLEST}{fine}"), "t").unwrap().cluster.env.len(), 1);
}

#[test]
fn the_table_has_the_keys_of_the_types() {
    let spec = serde_json::to_value(full()).unwrap();
    assert_eq!(names_of_json(&spec), names_of(&[keys::SPEC]));
    assert_eq!(names_of_json(&spec["cluster"]), names_of(&[keys::CLUSTER]));
    assert_eq!(names_of_json(&spec["cluster"]["ports"][0]), names_of(&[keys::PORT]));
    assert_eq!(names_of_json(&spec["client"]), names_of(&[keys::CLIENT]));
    assert_eq!(names_of_json(&spec["workload"]), names_of(&[keys::WORKLOAD]));
    assert_eq!(names_of_json(&spec["nemesis"]), names_of(&[keys::NEMESIS]));
    let after = &spec["nemesis"]["faults"][0]["after"];
    assert_eq!(names_of_json(after), names_of(&[keys::AFTER]));
    assert_eq!(names_of_json(&spec["checkers"][0]), names_of(&[keys::CHECKER]));
    for kind in FaultKind::samples() {
        let json = serde_json::to_value(fault(kind.clone())).unwrap();
        let mut known = names_of(&[keys::FAULT, kind.info().keys]);
        // Written only where the name alone would mean another plane.
        if json.get("plane").is_none() {
            known.remove("plane");
        }
        assert_eq!(names_of_json(&json), known, "{}", kind.name());
    }
}

#[test]
fn the_table_has_the_defaults_of_the_types() {
    let spec = serde_json::to_value(Spec::default()).unwrap();
    let port = fault(LinkFault::HOLD);
    let tables: [(&[Key], &Json); 5] = [
        (keys::SPEC, &spec),
        (keys::CLUSTER, &spec["cluster"]),
        (keys::CLIENT, &spec["client"]),
        (keys::WORKLOAD, &spec["workload"]),
        (keys::NEMESIS, &spec["nemesis"]),
    ];
    let mut compared = 0;
    for (keys, defaults) in tables {
        for key in keys {
            let default = &defaults[key.name];
            match serde_json::from_str::<Json>(key.default) {
                Ok(documented) => {
                    assert_eq!(&documented, default, "{}", key.name);
                    compared += 1;
                }
                // Words stand for "nothing", for a whole table, or for what the user must give.
                Err(_) => assert!(
                    default.is_null() || default.is_object() || key.required(),
                    "{} has a default, {default}, and should show it",
                    key.name
                ),
            }
        }
    }
    assert!(compared > 20, "only {compared} defaults are written as values");
    let text = format!("{SMALLEST}[[nemesis.faults]]\nkind = \"delay\"\nlatency_ms = 1\n");
    let fault = parse(&text, "t").unwrap().nemesis.faults.remove(0);
    assert_eq!(fault.targets, [Target::One]);
    assert_eq!((fault.one_way, fault.weight), (false, port.weight));
    assert_eq!(fault.kind, LinkFault::delay(1, 0).into());
}

/// The rows that `doc/spec.md` must have, by table.
fn rows() -> Vec<String> {
    let tables: [&[Key]; 9] = [
        keys::SPEC,
        keys::CLUSTER,
        keys::PORT,
        keys::CLIENT,
        keys::WORKLOAD,
        keys::NEMESIS,
        keys::FAULT,
        keys::AFTER,
        keys::CHECKER,
    ];
    let of_kinds = Plane::ALL.iter().flat_map(|plane| plane.kinds()).flat_map(|kind| kind.keys);
    tables.iter().flat_map(|keys| keys.iter()).chain(of_kinds).map(row).collect()
}

/// The rows that explain the kinds of a plane.
fn kind_rows() -> Vec<String> {
    let kinds = Plane::ALL.iter().flat_map(|plane| plane.kinds());
    kinds.map(|kind| format!("| `{}` | {} |", kind.name, kind.meaning)).collect()
}

fn row(key: &Key) -> String {
    let literal = serde_json::from_str::<Json>(key.default).is_ok();
    let default = if literal { format!("`{}`", key.default) } else { key.default.to_owned() };
    let shape = match key.shape {
        Shape::Choice(choices) if choices.len() <= 3 => {
            choices.iter().map(|choice| format!("`\"{choice}\"`")).collect::<Vec<_>>().join(", ")
        }
        shape => shape.words().to_owned(),
    };
    format!("| `{}` | {shape} | {default} | {} |", key.name, key.meaning)
}

#[test]
fn the_documentation_has_every_key_and_no_other() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../doc/spec.md");
    let text = std::fs::read_to_string(path).unwrap();
    let documented: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let rows = rows();
    for row in &rows {
        assert!(documented.contains(&row.as_str()), "doc/spec.md lacks the row\n{row}");
    }
    let kind_rows = kind_rows();
    for row in &kind_rows {
        assert!(documented.contains(&row.as_str()), "doc/spec.md lacks the row\n{row}");
    }
    let known = |line: &&str| rows.iter().chain(&kind_rows).any(|row| row == line);
    for line in documented.iter().filter(|line| !known(line)) {
        let name = line.trim_start_matches("| `").split('`').next().unwrap();
        let target = keys::TARGETS.contains(&name);
        assert!(target, "doc/spec.md has a row for nothing that exists\n{line}");
    }
    for name in keys::TARGETS {
        let row = format!("| `{name}` |");
        assert!(text.contains(&row), "doc/spec.md does not explain `{name}`");
    }
}

#[test]
fn the_examples_of_the_documentation_are_specs() {
    for (document, count) in [("doc/spec.md", 2), ("README.md", 1)] {
        let path = format!("{}/../../{document}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let examples: Vec<&str> =
            text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(examples.len() >= count, "{document}");
        for example in examples {
            if let Err(error) = parse(example, document) {
                panic!("{error}\n{example}");
            }
        }
    }
}

fn problems_of(text: &str) -> Vec<String> {
    match parse(text, "t.toml") {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

/// Each wrong spec with its first message, or a part of it.
#[test]
fn every_problem_names_line_column_and_key() {
    let fault = |lines: &str| format!("{SMALLEST}[[nemesis.faults]]\n{lines}\n");
    let top = |line: &str| format!("{line}\n{SMALLEST}");
    let cases: Vec<(String, &str)> = vec![
        (top("nodse = 3"), "t.toml:1:1: nodse: unknown key; did you mean `nodes`?"),
        (top("nodes = 0"), "t.toml:1:9: nodes: 0 nodes: must be 1 to 100"),
        (top("nodes = 101"), "t.toml:1:9: nodes: 101 nodes: must be 1 to 100"),
        (top("nodes = -1"), "t.toml:1:9: nodes: -1 is out of range"),
        (top("nodes = \"3\""), "t.toml:1:9: nodes: must be a number of nodes"),
        (top("nodes = []"), "t.toml:1:9: nodes: 0 nodes"),
        (top("nodes = [\"a\", \"A-1\"]"), "t.toml:1:15: nodes[1]: node name \"A-1\""),
        (top("nodes = [\"a\", \"a\"]"), "nodes[1]: node name \"a\" is given twice"),
        (top("placement = \"client\"\nnodes = [\"c1\"]"), "is that of a client VM"),
        (top("time_limit_s = 0"), "t.toml:1:16: time_limit_s: 0 s: must be more than 0"),
        (top("time_limit_s = -1.5"), "time_limit_s: -1.5 s"),
        (top("time_limit_s = nan"), "time_limit_s: must be a finite number"),
        (top("time_limit_s = 1e300"), "at most a year"),
        (top("time_limit_s = true"), "time_limit_s: must be a number, not true"),
        (top("rate = 0"), "t.toml:1:8: rate: 0 operations a second"),
        (top("concurrency = 0"), "t.toml:1:15: concurrency: 0 processes"),
        (top("concurrency = \"0n\""), "concurrency: 0 processes"),
        (top("concurrency = \"n2\""), "t.toml:1:15: concurrency: \"n2\": must be a number"),
        (top("concurrency = 4294967296"), "concurrency: 4294967296 is out of range"),
        (top("op_timeout_ms = 0"), "op_timeout_ms: 0 ms"),
        (top("name = \"a/b\""), "t.toml:1:8: name: \"a/b\" names a folder"),
        (top("placement = \"clinet\""), "unknown placement `clinet`; did you mean `client`?"),
        (top("net_ticktime_s = 4"), "unknown key here; it belongs into [cluster]"),
        (top("seed = 18446744073709551616"), "seed: 18446744073709551616 is out of range"),
        (format!("{SMALLEST}nodes = 3"), "it belongs to the top level"),
        (format!("{SMALLEST}[cluster]\nnet_ticktime_s = 0"), "t.toml:6:18: cluster.net_ticktime_s"),
        (format!("{SMALLEST}[cluster]\nnet_tickintensity = 3"), "3: the kernel takes 4 to 1000"),
        (format!("{SMALLEST}[cluster]\ncommand = []"), "cluster.command: is empty"),
        (format!("{SMALLEST}[[cluster.ports]]\nname = \"P\""), "cluster.ports[0].name: port name"),
        (format!("{SMALLEST}[[cluster.ports]]"), "t.toml:5:1: cluster.ports[0].name: is missing"),
        ("[workload]\nname = \"set\"".into(), "t.toml: client.module: is missing"),
        (
            "[client]\nmodule = \"\"\n[workload]\nname = \"set\"".into(),
            "t.toml:2:10: client.module",
        ),
        ("[client]\nmodule = \"a b\"\n[workload]\nname = \"set\"".into(), "not a module name"),
        ("[client]\nmodule = \"M\"".into(), "workload.name: is missing"),
        (
            fault("kind = \"hodl\""),
            "t.toml:6:8: nemesis.faults[0].kind: unknown kind `hodl`; did you mean `hold`?",
        ),
        (
            fault("knid = \"hold\""),
            "t.toml:6:1: nemesis.faults[0].knid: unknown key; did you mean `kind`?",
        ),
        (fault("targets = [\"one\"]"), "t.toml:5:1: nemesis.faults[0].kind: is missing"),
        (
            fault("kind = \"hold\"\nlatency_ms = 3"),
            "t.toml:7:1: nemesis.faults[0].latency_ms: unknown key",
        ),
        (fault("kind = \"delay\""), "nemesis.faults[0].latency_ms: is missing"),
        (fault("kind = \"delay\"\nlatency_ms = 1\njiter_ms = 3"), "did you mean `jitter_ms`?"),
        (
            fault("kind = \"hold\"\ntargets = [\"halfs\"]"),
            "t.toml:7:12: nemesis.faults[0].targets[0]: unknown target `halfs`; did you mean `halves`?",
        ),
        (
            fault("kind = \"hold\"\ntargets = \"one\""),
            "targets: must be a list: [ … ], not the string \"one\"",
        ),
        (fault("kind = \"hold\"\ntargets = []"), "targets: is empty"),
        (
            fault("kind = \"hold\"\ntargets = [{ named = [\"n9\"] }]"),
            "t.toml:7:23: nemesis.faults[0].targets[0].named[0]: unknown node `n9`",
        ),
        (fault("kind = \"hold\"\ntargets = [{ links = [[\"n1\"]] }]"), "a link is two nodes"),
        (
            fault("kind = \"hold\"\ntargets = [{ links = [[\"n1\", \"n1\"]] }]"),
            "`n1` has no link to itself",
        ),
        (
            fault("kind = \"kill\"\ntargets = [{ links = [[\"n1\", \"n2\"]] }]"),
            "`kill` happens to nodes",
        ),
        (
            fault("kind = \"hold\"\nzones = [\"certainly-bellow\"]"),
            "did you mean `certainly-below`?",
        ),
        (fault("kind = \"hold\"\nboundary = \"nettick\""), "did you mean `net-tick`?"),
        (fault("kind = \"hold\"\nport = \"amqp\""), "[[cluster.ports]] defines none"),
        (fault("kind = \"kill\"\none_way = true"), "which have no direction"),
        (fault("kind = \"hold\"\nplane = \"carier\""), "t.toml:7:9: nemesis.faults[0].plane"),
        (
            fault("kind = \"fin\"\nplane = \"carrier\""),
            "t.toml:6:8: nemesis.faults[0].kind: the carrier plane has no kind `fin`",
        ),
        (fault("kind = \"hold\"\nscope = \"db\""), "unknown role `db`: [roles] defines none"),
        (format!("{SMALLEST}[roles]\ndb = [\"n9\"]"), "t.toml:6:7: roles.db[0]: unknown node `n9`"),
        (
            format!("{SMALLEST}[cluster]\ncarrier = [\"n9\"]"),
            "t.toml:6:12: cluster.carrier[0]: unknown node `n9`",
        ),
        (
            fault("kind = \"forged-ticks\"\nplane = \"carrier\"\nevery_ms = 0"),
            "nemesis.faults[0].every_ms: has to be at least 1",
        ),
        (
            fault("kind = \"kill-process\"\nprocess = { registerd = \"x\" }"),
            "t.toml:7:13: nemesis.faults[0].process.registerd: unknown key; did you mean `registered`?",
        ),
        (
            fault("kind = \"kill-process\"\nprocess = \"x\""),
            "must be a table with one of registered",
        ),
        (
            fault("kind = \"suspend\"\nprocess = { position = [\"s\", \"x\"] }"),
            "nemesis.faults[0].process: must be the name of a supervisor",
        ),
        (fault("kind = \"kill-process\""), "nemesis.faults[0].process: is missing"),
        (fault("kind = \"clock-jump\"\noffset_ms = 0"), "a jump of 0 ms is none"),
        (fault("kind = \"clock-drift\"\nppm = 99999999999999999999"), "is out of range"),
        (
            fault("kind = \"disk-eio\"\nfiles = [\"../x\"]"),
            "is not below the data folder of the node",
        ),
        (fault("kind = \"netem\"\nloss_percent = 101"), "loss_percent: 101: must be from 0 to 100"),
        (
            fault("kind = \"net-drop\"\ntcp_port = 65536"),
            "tcp_port: 65536: TCP ports are 1 to 65535",
        ),
        (fault("kind = \"net-drop\"\ntcp_port = -1"), "nemesis.faults[0].tcp_port: "),
        (fault("kind = \"net-rate\"\nbytes_per_s = -5"), "nemesis.faults[0].bytes_per_s: "),
        (
            fault("kind = \"net-reject\"\ntcp_port = 1\ndirection = \"to_port\""),
            "unknown direction `to_port`; did you mean `to-port`?",
        ),
        (fault("kind = \"net-drop\"\ndirection = \"to-port\""), "of which there is none"),
        (
            format!("{SMALLEST}[cluster]\nnetwork = \"namespace\""),
            "t.toml:6:11: cluster.network: unknown network `namespace`; did you mean `namespaces`?",
        ),
        (
            format!("{SMALLEST}[cluster]\nnetwork = \"namespaces\"\n[nemesis]\ncapture = true"),
            "t.toml:8:11: nemesis.capture: nodes in namespaces",
        ),
        (
            fault("kind = \"drop-messages\"\noperations = [\"SENT\"]"),
            "unknown operation `SENT`; did you mean `SEND`?",
        ),
        (
            fault("kind = \"hold\"\nduration_ms = 5\nzones = [\"inside\"]"),
            "a fixed duration is not drawn",
        ),
        (fault("kind = \"hold\"\nweight = 0"), "weight: 0 would never be drawn"),
        (
            format!("{SMALLEST}[nemesis.boundaries]\nx = -5"),
            "t.toml:6:5: nemesis.boundaries.x: -5 ms",
        ),
        (format!("{SMALLEST}[nemesis.boundaries]\nnet-tick = 5"), "is a boundary of the BEAM"),
        (format!("{SMALLEST}[nemesis.boundaries]\nmined-5 = 5"), "a boundary that is mined"),
        (format!("{SMALLEST}[nemesis.boundaries]\nmined = 5"), "or a list of folders"),
        (format!("{SMALLEST}[nemesis]\nboundaries = \"mind\""), "or \"mined\", not the string"),
        (
            format!("{SMALLEST}[[nemesis.faults]]\nkind = \"hold\"\nboundary = \"mined\""),
            "unknown boundary `mined`",
        ),
        (
            format!("{SMALLEST}[[nemesis.faults]]\nkind = \"kill\"\nafter = {{ of = \"n1\" }}"),
            "nemesis.faults[0].after.event: is missing",
        ),
        (
            format!(
                "{SMALLEST}[[nemesis.faults]]\nkind = \"kill\"\nafter = {{ event = \"nodedwn\" }}"
            ),
            "unknown event `nodedwn`; did you mean `nodedown`?",
        ),
        (
            format!(
                "{SMALLEST}[[nemesis.faults]]\nkind = \"kill\"\nafter = {{ event = \"nodeup\", of = \"n9\" }}"
            ),
            "nemesis.faults[0].after.of: unknown node `n9`",
        ),
        (
            format!(
                "{SMALLEST}[[nemesis.faults]]\nkind = \"kill\"\nafter = {{ event = \"telemetry\" }}"
            ),
            "nemesis.faults[0].after.of: is missing",
        ),
        (
            format!("{SMALLEST}[[nemesis.faults]]\nkind = \"fin\"\npattern = \"flap\""),
            "nemesis.faults[0].pattern: `fin` is an instant",
        ),
        (format!("{SMALLEST}[nemesis]\ninterval_s = -5"), "nemesis.interval_s: -5 s"),
        (format!("{SMALLEST}[client.options]\nd = 2020-01-01"), "is a date"),
        (
            format!("{SMALLEST}[[checkers]]\nnmae = \"set\""),
            "checkers[0].nmae: unknown key; did you mean `name`?",
        ),
        ("nodes = ".into(), "t.toml:1:9: "),
        ("nodes = 3\nnodes = 4".into(), "t.toml:2:1: duplicate key"),
        ("{\"nodes\": 3}".into(), "t.toml:1:1: "),
    ];
    for (text, wanted) in cases {
        let problems = problems_of(&text);
        assert!(
            problems.iter().any(|problem| problem.contains(wanted)),
            "wanted {wanted:?} for\n{text}\ngot\n{}",
            problems.join("\n")
        );
    }
}

#[test]
fn every_problem_is_told_at_once_in_order() {
    let problems = problems_of("nodse = 3\nrat = 1\n[clinet]\nmodule = \"M\"\n");
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].starts_with("t.toml:1:1: nodse"));
    assert!(problems[1].starts_with("t.toml:2:1: rat"));
    assert!(problems[2].starts_with("t.toml:3:2: clinet"), "{}", problems[2]);
}

#[test]
fn a_column_counts_characters() {
    let problems = problems_of("store = \"ä\"\nname = \"ü\" \nä = 1");
    assert!(problems[0].starts_with("t.toml:3:1: "), "{problems:?}");
}

#[test]
fn files_that_are_no_spec_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let message = |name: &str| load(&path(name)).unwrap_err().to_string();
    std::fs::write(path("register.toml"), SMALLEST).unwrap();
    std::fs::write(path("latin.toml"), b"name = \"a\"\nstore = \"\xe4\"\n").unwrap();
    assert!(load(&path("register.toml")).is_ok());
    assert!(message("registr.toml").contains("register.toml`?"), "{}", message("registr.toml"));
    assert!(message("none/x.toml").contains("no folder"), "{}", message("none/x.toml"));
    assert!(message(".").contains("is a directory"));
    assert!(message("latin.toml").contains("latin.toml:2:10: is not UTF-8: byte 0xe4"));
}

#[test]
fn every_profile_is_one_and_fits_a_spec() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/nemesis");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut spec = parse(SMALLEST, "t").unwrap();
        spec.nemesis = load_profile(&path).unwrap();
        assert!(!spec.nemesis.is_empty(), "{path:?}");
        if let Err(error) = validate(&spec) {
            panic!("{path:?}: {error}");
        }
        count += 1;
    }
    assert!(count >= 4, "{count} profiles");
}

#[test]
fn what_is_no_profile_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.toml");
    for (text, wanted) in [
        ("nodes = 3\n[nemesis]\n", "p.toml:1:1: nodes: a profile of faults holds only [nemesis]"),
        ("", "holds no [nemesis]"),
        ("[nemesis]\nintervall_s = 3", "p.toml:2:1: nemesis.intervall_s: unknown key"),
    ] {
        std::fs::write(&path, text).unwrap();
        let message = load_profile(&path).unwrap_err().to_string();
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn paths_are_relative_to_the_spec() {
    let folder = tempfile::tempdir().unwrap();
    let root = std::fs::canonicalize(folder.path()).unwrap();
    std::fs::create_dir(root.join("specs")).unwrap();
    let text = format!(
        "{SMALLEST}[cluster]\ncommand = [\"../rel/bin/app\", \"./foreground\"]\n\
         code_paths = [\"../ebin\", \"/abs\"]\n[nemesis]\nschedule = \"./s.json\"\n"
    );
    std::fs::write(root.join("specs/a.toml"), text).unwrap();
    let spec = load(&root.join("specs/a.toml")).unwrap().spec;
    let path = |name: &str| root.join(name).to_str().unwrap().to_owned();
    assert_eq!(spec.cluster.command, [path("rel/bin/app"), "./foreground".into()]);
    assert_eq!(spec.cluster.code_paths, [path("ebin"), "/abs".into()]);
    assert_eq!(spec.nemesis.schedule, Some(path("specs/s.json")));
    assert_eq!(load(&root.join("specs/a.toml")).unwrap().spec.store, "store");
}

#[test]
fn a_spec_with_everything_is_written_and_read() {
    let mut spec = full();
    spec.nemesis.faults[0].duration_ms = None;
    spec.nemesis.faults[0].pattern = None;
    // A place belongs to elections, and those have nothing else.
    spec.nemesis.faults[0].after = Some(After { event: Event::Elected, of: None, ..after() });
    assert_eq!(parse(&to_toml(&spec), "t").map_err(|e| e.to_string()), Ok(spec));
}

#[test]
fn nulls_are_refused_and_never_written() {
    let mut spec = full();
    spec.nemesis.faults.clear();
    spec.client.options.insert("none".into(), serde_json::json!([{ "a": null }]));
    let error = validate(&spec).unwrap_err();
    assert!(error.to_string().contains("client.options.none: holds a null"), "{error}");
    assert!(parse(&to_toml(&spec), "t").is_ok());
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (-1e9..1e9f64).prop_map(Json::from),
        ".{0,8}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

fn options() -> impl Strategy<Value = Options> {
    prop::collection::btree_map(".{0,6}", json(), 0..4)
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Halves),
        Just(Target::Primaries),
        Just(Target::Named(vec!["n1".into()])),
        Just(Target::Links(vec![("n1".into(), "n2".into())])),
    ]
}

fn faults() -> impl Strategy<Value = Vec<FaultSpec>> {
    let one = (
        prop::sample::select(FaultKind::samples()),
        prop::collection::vec(target(), 1..3),
        any::<bool>(),
        prop::option::of(1..10_000u64),
        1..9u32,
    );
    prop::collection::vec(
        one.prop_map(|(kind, targets, one_way, duration_ms, weight)| {
            let link = kind.info().subject == Subject::Links;
            let targets =
                targets.into_iter().filter(|t| link || !matches!(t, Target::Links(_))).collect();
            FaultSpec {
                targets,
                one_way: one_way && link,
                boundary: duration_ms.is_none().then(|| "op-timeout".into()),
                zones: if duration_ms.is_none() { vec![Zone::Inside] } else { Vec::new() },
                duration_ms,
                weight,
                optional: one_way,
                ..FaultSpec::new(kind)
            }
        })
        .prop_filter("a target is left", |fault| !fault.targets.is_empty()),
        0..4,
    )
}

prop_compose! {
    fn specs()(
        seed in prop::option::of(any::<u64>()),
        nodes in 2..9u32,
        time_limit_s in 2.0..1e6f64,
        rate in prop::option::of(0.001..1e9f64),
        module in "[A-Z][a-z]{1,5}(\\.[A-Z][a-z]{1,5}){0,2}",
        client_options in options(),
        workload_options in options(),
        generator in prop::option::of(json()),
        env in prop::collection::btree_map("[A-Z_]{1,8}", "[^\0]{0,12}", 0..3),
        arguments in prop::collection::vec("[^\0]{0,12}", 0..3),
        faults in faults(),
        checkers in prop::option::of(prop::collection::vec(("[a-z-]{1,9}", options()), 0..3)),
        boundaries in prop::collection::btree_map("[^\0]{1,9}", 0.1..1e6f64, 0..3),
    ) -> Spec {
        let mut spec = Spec {
            seed,
            nodes: Nodes::Count(nodes),
            time_limit_s,
            rate,
            checkers: checkers.map(|checkers| {
                checkers.into_iter().map(|(name, options)| CheckerSpec { name, options }).collect()
            }),
            ..Spec::default()
        };
        spec.client = ClientSpec { module, options: client_options, ..ClientSpec::default() };
        spec.workload.name = "register".into();
        spec.workload.options = workload_options;
        spec.workload.generator = generator;
        spec.cluster.env = env;
        spec.cluster.command.extend(arguments);
        let mined = seed.is_some_and(|seed| seed % 2 == 0);
        let mined_from = if mined { vec!["/a".into(); time_limit_s as usize % 3] } else { vec![] };
        let boundaries = UserBoundaries { own: boundaries, mined, mined_from };
        spec.nemesis = NemesisSpec { faults, boundaries, ..NemesisSpec::default() };
        spec
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(spec in specs()) {
        let text = to_toml(&spec);
        match parse(&text, "t") {
            Ok(read) => prop_assert_eq!(read, spec),
            Err(error) => prop_assert!(false, "{error}\n{text}"),
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "(.{0,80}|[a-z_]{1,9} = [\\[{\"a-z0-9]{0,9}\n){0,4}") {
        let _ = parse(&text, "t");
    }

    /// A spec with a few bytes changed is read or refused, and a refusal says something.
    #[test]
    fn damage_is_refused_with_words(
        spec in specs(),
        at in any::<prop::sample::Index>(),
        with in "[\\[\\]{}=\",a-z0-9\n]{0,3}",
    ) {
        let text = to_toml(&spec);
        let mut at = at.index(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let damaged = format!("{}{with}{}", &text[..at], &text[at..]);
        if let Err(error) = parse(&damaged, "t") {
            prop_assert!(!error.problems().is_empty());
            prop_assert!(error.problems().iter().all(|problem| !problem.message.is_empty()));
        }
    }
}
