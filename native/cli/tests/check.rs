//! `fuzz_dist check`: what it takes, and what people and programs read of each verdict of each checker.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "../../report/tests/schema/mod.rs"]
mod schema;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Ended, Scene, assert_refused, root};
use serde_json::{Value as Json, json};

const REGISTER: &str = "{:process 0, :type :invoke, :f :write, :value 1}
{:process 0, :type :ok, :f :write, :value 1}
{:process 1, :type :invoke, :f :read, :value nil}
{:process 1, :type :ok, :f :read, :value 2}
";

fn object(ended: &Ended) -> Json {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error} in {ended:?}"))
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn published_schema() -> Json {
    let path = root().join("priv/schemas/check.schema.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// `--option key=value` for each option that a golden history names.
fn golden_options(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(";; options:"));
    let options: Json = line.map_or(json!({}), |line| serde_json::from_str(line).unwrap());
    let pairs = options.as_object().unwrap().iter();
    pairs
        .flat_map(|(key, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            ["--option".to_owned(), format!("{key}={value}")]
        })
        .collect()
}

/// Checks one golden history as a person with `--json` and `--svg` would.
fn check_golden(scene: &Scene, checker: &str, file: &Path) -> (Ended, Json) {
    let folder = format!("{checker}-{}", name(file));
    let options = golden_options(file);
    let mut arguments = vec!["check", "--checker", checker, "--json", "--svg", &folder];
    arguments.extend(options.iter().map(String::as_str));
    arguments.push(file.to_str().unwrap());
    let ended = scene.run(&arguments);
    let object = object(&ended);
    (ended, object)
}

#[test]
fn every_verdict_of_every_checker_reads_well() {
    let scene = Scene::new();
    let schema = published_schema();
    let mut seen = 0;
    for checker in children(&root().join("test/histories")).iter().filter(|path| path.is_dir()) {
        for verdict in children(checker) {
            for file in children(&verdict) {
                let (ended, object) = check_golden(&scene, &name(checker), &file);
                let place = file.display();
                let wrong = schema::violations(&schema, &object);
                assert!(wrong.is_empty(), "{place}: {}", wrong.join("\n"));
                let (code, valid) = match name(&verdict).as_str() {
                    "valid" => (0, json!(true)),
                    "invalid" => (1, json!(false)),
                    _ => (2, json!("unknown")),
                };
                assert_eq!((ended.code, &object["valid"]), (Some(code), &valid), "{place}");
                assert_eq!(object["exit_code"], code);
                assert_eq!(object["verdict"], name(&verdict).as_str());
                assert_screen(&ended.stderr, &place.to_string());
                if code == 1 {
                    assert_evidence(&scene, &object, &place.to_string());
                } else {
                    assert_eq!(object["drawings"], json!([]), "{place}");
                }
                seen += 1;
            }
        }
    }
    assert!(seen >= 50, "only {seen} golden histories were found");
}

fn assert_screen(text: &str, place: &str) {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("note: ")).collect();
    assert!(lines.len() <= 24, "{place}: {} lines\n{text}", lines.len());
    let wide = lines.iter().find(|line| line.chars().count() > 100);
    // A path is as long as it is.
    assert!(wide.is_none_or(|line| line.starts_with("drawing")), "{place}: too wide\n{text}");
}

/// What proves an anomaly stands in the object, and is drawn.
fn assert_evidence(scene: &Scene, object: &Json, place: &str) {
    let first = &object["anomalies"][0];
    let records = object["evidence"].as_array().unwrap();
    for position in first["ops"].as_array().unwrap() {
        assert!(records.iter().any(|record| record["index"] == *position), "{place}: {position}");
    }
    let drawings = object["drawings"].as_array().unwrap();
    let drawable = object["anomalies"].as_array().unwrap().iter();
    let drawable = drawable.filter(|anomaly| anomaly["ops"] != json!([])).count();
    assert_eq!(drawings.is_empty(), drawable == 0, "{place}");
    for drawing in drawings {
        let svg = fs::read_to_string(scene.path(drawing.as_str().unwrap())).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{place}");
    }
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    let scene = Scene::new();
    scene.write("h.edn", REGISTER);
    let ended = scene.run(&["check", "--checker", "linearizable", "--json", "h.edn"]);
    let object = object(&ended);
    let schema = published_schema();
    assert_eq!(schema::violations(&schema, &object), Vec::<String>::new());
    for (pointer, wrong) in [
        ("/valid", json!("no")),
        ("/verdict", json!("perhaps")),
        ("/anomalies/0/ops/0", json!(-1)),
        ("/counts/operations", json!("many")),
        ("/evidence/0/type", json!("began")),
        ("/history/ops", json!(null)),
        ("/peak_bytes", json!(1.5)),
    ] {
        let mut broken = object.clone();
        *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = wrong;
        assert!(!schema::violations(&schema, &broken).is_empty(), "{pointer} was accepted");
    }
    let mut unknown = object.clone();
    unknown["surprise"] = json!(1);
    assert!(!schema::violations(&schema, &unknown).is_empty());
    assert!(object["peak_bytes"].as_u64().unwrap() > 1 << 20, "{}", object["peak_bytes"]);
}

#[test]
fn the_object_says_what_was_compared_with_what() {
    let scene = Scene::new();
    scene.write("h.edn", REGISTER);
    let model = |arguments: &[&str]| {
        let all = [&["check", "--json", "h.edn"][..], arguments].concat();
        object(&scene.run(&all))["model"].clone()
    };
    assert_eq!(model(&["--checker", "linearizable"]), "cas-register");
    assert_eq!(model(&["--checker", "linearizable", "--model", "register"]), "register");
    assert_eq!(model(&["--checker", "list-append"]), "strict-serializable");
    assert_eq!(
        model(&["--checker", "list-append", "--consistency-model", "serializable"]),
        "serializable"
    );
    assert_eq!(model(&["--checker", "stats"]), json!(null));
    assert_eq!(
        model(&["--checker", "stats", "--checker", "linearizable"]),
        json!({"stats": null, "linearizable": "cas-register"})
    );
}

#[test]
fn several_checkers_share_one_history() {
    let scene = Scene::new();
    scene.write("h.edn", REGISTER);
    let check = |arguments: &[&str]| scene.run(&[&["check", "h.edn"], arguments].concat());
    let both = check(&["--checker", "stats", "--checker", "linearizable", "--json"]);
    assert_eq!(both.code, Some(1), "{both:?}");
    let found = object(&both);
    assert_eq!(schema::violations(&published_schema(), &found), Vec::<String>::new());
    assert_eq!(found["parts"][0]["valid"], true);
    assert_eq!(found["parts"][1]["valid"], false);
    assert_eq!(found["evidence"].as_array().unwrap().len(), 2);
    assert_eq!(check(&["--checker", "stats,linearizable"]).code, Some(1));
    // An option goes to whoever has it, or to the one that is named.
    for option in ["model=mutex", "linearizable.model=mutex"] {
        let ended = check(&["--checker", "stats,linearizable", "--option", option]);
        assert_ne!(ended.code, Some(254), "{ended:?}");
    }
    assert_refused(
        &check(&["--checker", "stats,linearizable", "--option", "modle=mutex"]),
        &["modle", "stats, linearizable", "\"model\""],
    );
    assert_refused(
        &check(&["--checker", "stats,linearizable", "--option", "stats.model=mutex"]),
        &["\"stats\"", "\"model\""],
    );
    assert_refused(&check(&["--checker", "stats,stats"]), &["stats is given twice"]);
    assert_refused(&check(&["--checker", "stats,linearisable"]), &["linearizable"]);
}

#[test]
fn the_format_can_be_named() {
    let scene = Scene::new();
    scene.write("h.txt", REGISTER);
    let check = |arguments: &[&str]| {
        scene.run(&[&["check", "--checker", "linearizable", "--json"], arguments].concat())
    };
    let named = check(&["--format", "edn", "h.txt"]);
    assert_eq!(named.code, Some(1), "{named:?}");
    assert_eq!(object(&named)["history"]["format"], "edn");
    assert_eq!(object(&named)["history"]["ops"], 4);
    let arguments = ["check", "--checker", "linearizable", "--format", "edn", "-"];
    assert_eq!(scene.run_with_input(&arguments, REGISTER.as_bytes()).code, Some(1));
    assert_refused(&check(&["--format", "json", "h.txt"]), &["h.txt:1:"]);
    assert_refused(
        &check(&["--format", "jsnol", "h.txt"]),
        &["--format jsnol", "jsonl", "edn", "fdh"],
    );
}

#[test]
fn anomalies_can_be_asked_for_by_name() {
    let scene = Scene::new();
    let skew = root().join("test/histories/list-append/invalid/write-skew.edn");
    let check = |arguments: &[&str]| {
        let all = ["check", "--checker", "list-append", skew.to_str().unwrap()];
        scene.run(&[&all[..], arguments].concat())
    };
    assert_eq!(check(&["--consistency-model", "snapshot-isolation"]).code, Some(0));
    assert_eq!(check(&["--consistency-model", "none", "--anomalies", "G0,G1a"]).code, Some(0));
    let asked = check(&["--consistency-model", "none", "--anomalies", "G0,G2-item"]);
    assert_eq!(asked.code, Some(1), "{asked:?}");
    assert_refused(&check(&["--anomalies", "G2-itme"]), &["G2-itme", "G2-item"]);
    let register = scene.run(&["check", "--checker", "set", "--anomalies", "G0", "h.edn"]);
    assert_refused(&register, &["\"set\"", "\"anomalies\""]);
}

#[test]
fn drawings_go_where_they_are_wanted() {
    let scene = Scene::new();
    scene.write("h.edn", REGISTER);
    scene.write("file", "");
    let check =
        |folder: &str| scene.run(&["check", "--checker", "linearizable", "--svg", folder, "h.edn"]);
    let ended = check("new/folder");
    let drawing = "new/folder/01-linearizable-nonlinearizable.svg";
    assert!(ended.stderr.contains(&format!("drawing  {drawing}")), "{}", ended.stderr);
    let svg = fs::read_to_string(scene.path(drawing)).unwrap();
    assert!(svg.contains("read → 2"));
    // Once more over the first, and nothing else left.
    check("new/folder");
    assert_eq!(fs::read_dir(scene.path("new/folder")).unwrap().count(), 1);
    assert_refused(&check("file/folder"), &["--svg file/folder", "cannot make this folder"]);
    scene.write("valid.edn", REGISTER.replace(":value 2", ":value 1"));
    let valid = scene.run(&["check", "--checker", "linearizable", "--svg", "d", "valid.edn"]);
    assert!(valid.stderr.contains("no drawing"), "{}", valid.stderr);
}

#[test]
fn long_evidence_is_cut_to_a_screen_and_says_where_the_rest_is() {
    let scene = Scene::new();
    // Forty writes at once, none of which any of forty reads can have seen in this order.
    let mut text = String::new();
    for i in 0..40 {
        text += &format!("{{:process {i} :type :invoke :f :write :value {i}}}\n");
    }
    for i in 0..40 {
        text += &format!("{{:process {i} :type :ok :f :write :value {i}}}\n");
    }
    for value in [1, 2, 1] {
        text += "{:process 50 :type :invoke :f :read :value nil}\n";
        text += &format!("{{:process 50 :type :ok :f :read :value {value}}}\n");
    }
    scene.write("h.edn", text);
    let ended = scene.run(&["check", "--checker", "linearizable", "h.edn"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_screen(&ended.stderr, "h.edn");
    // An element of a set that nobody added, many times.
    let reads: String = (0..300)
        .map(|i| {
            format!(
                "{{:process 0 :type :invoke :f :read}}{{:process 0 :type :ok :f :read :value [{i}]}}"
            )
        })
        .collect();
    scene.write("set.edn", reads);
    let ended = scene.run(&["check", "--checker", "set-full", "set.edn"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_screen(&ended.stderr, "set.edn");
    assert!(ended.stderr.contains("the rest: --json prints it, --svg FOLDER draws it"));
}

#[test]
fn a_value_without_measure_is_cut_in_the_evidence() {
    let scene = Scene::new();
    let many: String = (0..60_000).map(|i| format!("{i} ")).collect();
    let text = format!(
        "{{:process 0 :type :invoke :f :read}}{{:process 0 :type :ok :f :read :value [{many}]}}"
    );
    scene.write("set.edn", text);
    let ended = scene.run(&["check", "--checker", "set-full", "--json", "set.edn"]);
    assert_eq!(ended.code, Some(1));
    let found = object(&ended);
    assert_eq!(schema::violations(&published_schema(), &found), Vec::<String>::new());
    assert!(ended.stdout.len() < 200_000, "{} bytes", ended.stdout.len());
    let value = found["evidence"][1]["value"].as_str().unwrap();
    assert!(value.starts_with("[0 1 2 3") && value.ends_with('…'), "{value}");
}

#[test]
fn nothing_of_a_history_steers_the_terminal() {
    let scene = Scene::new();
    let hostile = REGISTER.replace(":value 2", ":value \"\\u001b[2J\\u202e\"");
    scene.write("h.edn", hostile);
    let ended = scene.run(&["check", "--checker", "linearizable", "h.edn"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(!ended.stderr.contains(['\u{1b}', '\u{202e}']), "{}", ended.stderr);
}

#[test]
fn the_list_explains_everything() {
    let scene = Scene::new();
    let list = scene.run(&["check", "--list"]);
    assert_eq!(list.code, Some(0), "{list:?}");
    assert!(list.stdout.lines().all(|line| line.chars().count() <= 100));
    let found = object(&scene.run(&["check", "--list", "--json"]));
    let checkers = found["checkers"].as_array().unwrap();
    for checker in checkers {
        let name = checker["name"].as_str().unwrap();
        assert!(list.stdout.lines().any(|line| line == name), "{name} is not listed");
        for option in checker["options"].as_array().unwrap() {
            let head = format!("    {} (default", option["name"].as_str().unwrap());
            assert!(list.stdout.contains(&head), "{name}: {option} is not listed");
            assert!(!option["about"].as_str().unwrap().is_empty(), "{name}: {option}");
        }
    }
    for golden in children(&root().join("test/histories")).iter().filter(|path| path.is_dir()) {
        let known = checkers.iter().any(|checker| checker["name"] == name(golden).as_str());
        assert!(known, "{} has golden histories and is not listed", golden.display());
    }
    assert!(found["formats"].as_array().unwrap().contains(&json!("edn")));
    for model in ["cas-register", "fifo-queue", "strict-serializable", "snapshot-isolation"] {
        assert!(list.stdout.contains(model), "{model} is not explained");
    }
    let one = scene.run(&["check", "--list", "--checker", "counter"]);
    assert!(one.stdout.starts_with("counter\n") && !one.stdout.contains("bank"), "{}", one.stdout);
    assert_refused(&scene.run(&["check", "--list", "--checker", "conuter"]), &["counter"]);
}
