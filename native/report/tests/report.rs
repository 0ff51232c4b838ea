//! The files of a report, for a run that looks real, for an empty one and for a hostile one.
//!
//! Golden files are in `tests/golden`; `FUZZ_DIST_GOLDEN=write cargo test -p fuzz_dist_report` rewrites them.

#![allow(clippy::unwrap_used)]

mod schema;
mod support;

use std::path::Path;

use fuzz_dist_core::{Anomaly, CheckResult, History, OpType, Process, Value, Verdict};
use fuzz_dist_report::analyse::FaultStatus;
use fuzz_dist_report::{RunInfo, analyse, explain, write};
use support::{HOSTILE, Run, SECOND, client, empty_schedule, hostile};

fn files(run: &Run) -> (tempfile::TempDir, Vec<(String, String)>) {
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), &run.info, &run.history, &run.schedule, &run.result).unwrap();
    let files = written
        .files
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    (dir, files)
}

fn file<'a>(files: &'a [(String, String)], name: &str) -> &'a str {
    &files.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name}")).1
}

/// The object inside a page.
fn embedded(page: &str) -> serde_json::Value {
    let start = "<script type=\"application/json\" id=\"data\">";
    let from = page.find(start).unwrap() + start.len();
    let to = from + page[from..].find("</script>").unwrap();
    serde_json::from_str(&page[from..to]).unwrap()
}

#[test]
fn every_file_is_written_and_nothing_else() {
    let (dir, files) = files(&support::run(400));
    let mut names: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "junit.xml",
        "latency-quantiles.svg",
        "latency-raw.svg",
        "rate.svg",
        "report.html",
        "results.json",
        "timeline.html",
    ];
    assert_eq!(names, expected);
    assert_eq!(files.len(), expected.len());
}

#[test]
fn a_report_is_the_same_each_time() {
    let run = support::run(300);
    assert_eq!(files(&run).1, files(&run).1);
}

#[test]
fn files_that_cannot_be_written_are_named_and_none_is_claimed() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    let run = support::run(10);
    let written = write(&gone, &run.info, &run.history, &run.schedule, &run.result).unwrap();
    assert!(written.files.is_empty() && !gone.exists());
    let names = |file: &str| written.failed.iter().any(|failed| failed.contains(file));
    assert!(names("gone/results.json") && names("gone/report.html"), "{:?}", written.failed);
}

#[test]
fn operations_are_counted_by_function_and_outcome() {
    let history = History::new(vec![
        client(0, 0, OpType::Invoke, "read", Value::Nil),
        client(SECOND, 1, OpType::Invoke, "write", Value::Int(1)),
        client(SECOND + 5_000_000, 0, OpType::Ok, "read", Value::Int(0)),
        client(2 * SECOND, 0, OpType::Invoke, "read", Value::Nil),
        client(2 * SECOND + 15_000_000, 0, OpType::Ok, "read", Value::Int(0)),
        client(3 * SECOND, 1, OpType::Info, "write", Value::Int(1)),
        client(3 * SECOND, 0, OpType::Invoke, "write", Value::Int(2)),
    ])
    .unwrap();
    let summary = analyse(&history, &empty_schedule());
    let all = summary.outcomes;
    assert_eq!((all.ok, all.fail, all.info, all.open, all.total()), (2, 0, 1, 1, 4));
    let read = summary.functions.iter().find(|function| function.f == "read").unwrap();
    let latency = read.latency.unwrap();
    assert!((latency.max_ms - 1005.0).abs() < 2.0, "{latency:?}");
    assert!((latency.p50_ms - 15.0).abs() < 0.1, "{latency:?}");
    let write = summary.functions.iter().find(|function| function.f == "write").unwrap();
    assert_eq!((write.outcomes.info, write.outcomes.open, write.latency), (1, 1, None));
    let windows = &summary.series[0].windows;
    assert_eq!(windows.iter().map(|window| window.outcomes.total()).sum::<u64>(), 4);
    let at_2_s = windows[(2 * SECOND / summary.window_ns) as usize].latency_ms.unwrap();
    assert!((at_2_s[0] - 15.0).abs() < 0.2, "{at_2_s:?}");
    assert_eq!(summary.errors[0].error, "none given");
}

#[test]
fn faults_tell_what_was_asked_applied_seen_and_healed() {
    let run = support::run(200);
    let summary = analyse(&run.history, &run.schedule);
    let status: Vec<FaultStatus> = summary.faults.iter().map(|fault| fault.status).collect();
    use FaultStatus::{Failed, NoEffect, NotReached, Observed};
    assert_eq!(status, [Observed, Observed, Observed, NoEffect, Observed, Failed, NotReached]);
    let partition = &summary.faults[2];
    assert_eq!(partition.scope, "n1 | n2 n3");
    assert_eq!(partition.boundary.as_deref(), Some("net-tick certainly-above"));
    assert_eq!(partition.requested_start_ns, Some(14_200_000_000));
    assert_eq!(partition.late_us, Some(310));
    assert_eq!(partition.span(summary.end_ns), Some((14_200_310_000, 21_030_000_000)));
    assert_eq!(partition.connectivity[0].requested.len(), 4);
    let in_it: Vec<u32> =
        summary.faults_in(19 * SECOND, 20 * SECOND).map(|fault| fault.id).collect();
    assert_eq!(in_it, [3]);
    assert_eq!(summary.faults_without_effect().count(), 2);
}

#[test]
fn a_fault_that_no_schedule_has_is_shown_from_its_records() {
    let fields = |more: Vec<(&str, Value)>| {
        let mut all = vec![("id", Value::Int(9)), ("kind", Value::sym("hold"))];
        all.extend(more);
        support::map(all)
    };
    let link = Value::list(vec![Value::str("a"), Value::str("b")]);
    let nemesis = Process::nemesis();
    let history = History::new(vec![
        support::record(
            SECOND,
            nemesis,
            "fault-start",
            fields(vec![
                ("target", Value::sym("links")),
                ("links", Value::list(vec![link])),
                ("duration-ms", Value::Float(1500.0)),
            ]),
        ),
        support::record(SECOND, nemesis, "fault-applied", fields(vec![])),
    ])
    .unwrap();
    let summary = analyse(&history, &empty_schedule());
    let fault = &summary.faults[0];
    assert_eq!((fault.id, fault.title().as_str()), (9, "#9 hold a → b"));
    assert_eq!(fault.requested_duration_ns, 1_500_000_000);
    assert_eq!(fault.status, FaultStatus::Applied);
    assert_eq!(fault.span(5 * SECOND), Some((SECOND, 5 * SECOND)));
}

#[test]
fn node_events_say_who_saw_whom_and_for_how_long() {
    let run = support::run(200);
    let summary = analyse(&run.history, &run.schedule);
    let down = summary.node_events.iter().find(|event| event.event == "nodedown").unwrap();
    assert_eq!((down.node.as_str(), down.peer.as_deref()), ("n1", Some("n2")));
    assert_eq!(down.reason.as_deref(), Some("net_tick_timeout"));
    assert_eq!(down.until_ns, Some(21_020_000_000));
    let exit = summary.node_events.iter().find(|event| event.event == "node-exited").unwrap();
    assert_eq!(exit.reason.as_deref(), Some("signal 9"));
    let busy = &summary.observations[0];
    assert_eq!((busy.node.as_str(), busy.counts["busy-dist-port"]), ("n1", 2));
    let phases: Vec<&str> = summary.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(phases, ["setup", "main", "heal", "recovery", "final"]);
    assert_eq!(summary.phases[0].end_ns, summary.phases[1].start_ns);
}

fn schema_of_results() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../priv/schemas/results.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn results_follow_the_schema() {
    let (_dir, files) = files(&support::run(2_000));
    let results: serde_json::Value = serde_json::from_str(file(&files, "results.json")).unwrap();
    let schema = schema_of_results();
    assert_eq!(schema::violations(&schema, &results), Vec::<String>::new());
    assert_eq!(results["verdict"], "invalid");
    assert_eq!(results["counter_example"]["name"], "nonlinearizable");

    // The schema must be able to refuse, or the test above says nothing.
    for (pointer, wrong) in [
        ("/verdict", serde_json::json!("perhaps")),
        ("/summary/outcomes/ok", serde_json::json!("many")),
        ("/summary/faults/0/status", serde_json::json!("fine")),
        ("/result/parts/0/checker", serde_json::json!(7)),
        ("/counter_example/ops/0/start_ns", serde_json::json!(-1)),
    ] {
        let mut broken = results.clone();
        *broken.pointer_mut(pointer).unwrap() = wrong;
        assert!(!schema::violations(&schema, &broken).is_empty(), "{pointer} was accepted");
    }
    let mut unknown_key = results.clone();
    unknown_key["surprise"] = serde_json::json!(1);
    assert!(!schema::violations(&schema, &unknown_key).is_empty());
}

#[test]
fn what_a_valid_part_noticed_is_no_counter_example() {
    let mut run = support::run(2_000);
    let noticed = Anomaly { name: "noticed".into(), ops: vec![40], ..Anomaly::default() };
    let mut part = CheckResult::new("unhandled-exceptions", Verdict::Valid, "told only");
    part.anomalies.push(noticed.clone());
    run.result.parts.push(part);
    // A composition repeats the anomalies of its parts, and is invalid because of another one.
    run.result.anomalies = vec![noticed, run.result.parts[0].anomalies[0].clone()];
    let summary = analyse(&run.history, &run.schedule);
    let found =
        fuzz_dist_report::evidence::counter_examples(&run.history, &run.result, &summary, 10);
    let named: Vec<(&str, &str)> =
        found.iter().map(|found| (found.checker.as_str(), found.name.as_str())).collect();
    assert_eq!(named, [("linearizable", "nonlinearizable")]);
}

#[test]
fn junit_counts_what_is_not_valid() {
    let mut run = support::run(2_000);
    let xml = fuzz_dist_report::junit::to_xml(&run.info, &run.result);
    assert!(
        xml.contains("<testsuite name=\"mnesia-register\" tests=\"3\" failures=\"1\" errors=\"0\"")
    );
    assert!(xml.contains("<failure type=\"invalid\" message=\"key 2 has no linearization"));
    assert!(xml.contains("value=\"8214565720323785205\""));

    run.result = CheckResult {
        parts: vec![CheckResult::new("stats", Verdict::Valid, "fine")],
        ..CheckResult::new("all", Verdict::Unknown, "interrupted \u{1b}by <Ctrl-C>")
    };
    let xml = fuzz_dist_report::junit::to_xml(&run.info, &run.result);
    assert!(xml.contains("tests=\"2\" failures=\"0\" errors=\"1\""), "{xml}");
    assert!(xml.contains("interrupted \u{FFFD}by &lt;Ctrl-C&gt;"), "{xml}");
}

#[test]
fn an_empty_history_has_a_report() {
    let run = Run {
        info: RunInfo { name: "empty".into(), ..RunInfo::default() },
        history: History::new(vec![]).unwrap(),
        schedule: empty_schedule(),
        result: CheckResult::new("stats", Verdict::Unknown, "no operations"),
    };
    let (_dir, files) = files(&run);
    let data = embedded(file(&files, "report.html"));
    assert_eq!(data["sample"]["operation_count"], 0);
    assert!(!file(&files, "rate.svg").contains("NaN"));
    let summary = analyse(&run.history, &run.schedule);
    let text = explain(&run.info, &summary, &run.history, &run.result, false);
    assert!(text.starts_with("UNKNOWN: no operations\n0 operations"), "{text}");
}

#[test]
fn hostile_text_stays_text() {
    let run = hostile();
    let (_dir, files) = files(&run);
    for (name, content) in &files {
        if name != "results.json" {
            assert!(!content.contains("<img"), "{name} lets markup through");
            assert!(!content.contains('\u{1b}'), "{name} lets an escape sequence through");
        }
    }
    for name in ["report.html", "timeline.html"] {
        let page = file(&files, name);
        // Ours: the data and the program.
        assert_eq!(page.matches("</script").count(), 2, "{name}");
        assert_eq!(page.matches("<!--").count(), 0, "{name}");
        let data = embedded(page);
        assert_eq!(data["info"]["name"], HOSTILE);
        assert_eq!(data["counter_examples"][0]["ops"][0]["f"], HOSTILE);
    }
    let summary = analyse(&run.history, &run.schedule);
    let text = explain(&run.info, &summary, &run.history, &run.result, false);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{2028}'), "{text:?}");
}

#[test]
fn a_page_of_many_distinct_values_stays_small() {
    let operation_count = 120_000i64;
    let long = "x".repeat(60);
    let mut ops = Vec::new();
    for i in 0..operation_count {
        let value = Value::str(format!("{long}{i}"));
        let time_ns = i as u64 * 100_000;
        ops.push(client(time_ns, i % 7, OpType::Invoke, "write", value.clone()));
        ops.push(client(time_ns + 50_000, i % 7, OpType::Ok, "write", value));
    }
    let run = Run {
        info: RunInfo::default(),
        history: History::new(ops).unwrap(),
        schedule: empty_schedule(),
        result: CheckResult::new("stats", Verdict::Valid, "fine"),
    };
    let (_dir, files) = files(&run);
    let page = file(&files, "report.html");
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
    let sample = &embedded(page)["sample"];
    assert_eq!(sample["operation_count"], operation_count);
    assert_eq!(sample["values_cut"], true);
    let kept = sample["kept"]["ok"].as_u64().unwrap();
    assert!((48_000..52_000).contains(&kept), "{kept}");
    assert_eq!(sample["process"].as_array().unwrap().len() as u64, kept);
    assert_eq!(sample["outcome"].as_str().unwrap().len() as u64, kept);
}

#[test]
fn a_sample_keeps_what_faults_make_and_proportions() {
    let mut ops = Vec::new();
    for i in 0..200_000u64 {
        let op_type = match i % 1_000 {
            0 => OpType::Info,
            1..=200 => OpType::Fail,
            _ => OpType::Ok,
        };
        ops.push(client(i * 1_000, i as i64, OpType::Invoke, "read", Value::Nil));
        ops.push(client(i * 1_000 + 500, i as i64, op_type, "read", Value::Nil));
    }
    let history = History::new(ops).unwrap();
    let result = CheckResult::new("stats", Verdict::Valid, "fine");
    let sample = fuzz_dist_report::sample::take(&history, &result);
    assert_eq!((sample.whole.info, sample.whole.fail, sample.whole.ok), (200, 40_000, 159_800));
    assert_eq!(sample.kept.info, 200);
    assert!((48_000..52_000).contains(&sample.kept.total()), "{:?}", sample.kept);
    let ratio = sample.kept.ok as f64 / sample.kept.fail as f64;
    assert!((3.7..4.4).contains(&ratio), "{:?}", sample.kept);
}

#[test]
fn the_last_words_fit_a_screen_and_name_the_cause() {
    let run = support::run(5_000);
    let summary = analyse(&run.history, &run.schedule);
    let text = explain(&run.info, &summary, &run.history, &run.result, false);
    assert!(text.lines().count() <= 36, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    for part in [
        "INVALID: linearizable: key",
        "Smallest counter-example: nonlinearizable, key",
        "#3 hold n1 | n2 n3, 14.200–21.030 s (net-tick certainly-above)",
        "n1 saw n2 go down at 18.120 s (net_tick_timeout), up again after 2.90 s",
        "#4 throttle n1 ↔ n2",
        "no node n9 in this cluster",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
    let coloured = explain(&run.info, &summary, &run.history, &run.result, true);
    assert!(coloured.starts_with("\u{1b}[1;31mINVALID"));
}

#[test]
fn clocks_that_were_off_are_told_and_drawn() {
    let mut run = support::clocks::run_with_clocks(40);
    run.info.name = "small <& golden>".into();
    let (_dir, files) = files(&run);
    let results: serde_json::Value = serde_json::from_str(file(&files, "results.json")).unwrap();
    let clocks = &results["summary"]["clocks"];
    let told = |field: &str| -> Vec<i64> {
        let nodes = clocks["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node[field].as_i64().unwrap()).collect()
    };
    let second = SECOND as i64;
    assert_eq!(told("skew_ns_max"), [3600 * second, 5 * second, second / 5 - 1_000_000]);
    assert_eq!(told("offset_ns_last"), [0, 0, 0]);
    assert_eq!(told("time_offset_change_count"), [2, 0, 0]);
    assert_eq!(clocks["nodes"][0]["time_warp_mode"], "multi_time_warp");
    assert_eq!(clocks["apart_ns_max"], 3600 * second);
    let windows = clocks["nodes"][0]["windows"].as_array().unwrap().len();
    assert!(windows < 20, "{windows} windows tell of four steps");
    assert_eq!(schema::violations(&schema_of_results(), &results), Vec::<String>::new());
    // Every page has them too.
    assert_eq!(&embedded(file(&files, "report.html"))["summary"]["clocks"], clocks);
    compare_golden("clock-skew.svg", file(&files, "clock-skew.svg"));
}

/// A small history whose charts are compared byte by byte.
fn small() -> Run {
    let mut run = support::run(40);
    run.info.name = "small <& golden>".into();
    run
}

#[test]
fn charts_are_as_they_were() {
    let (_dir, files) = files(&small());
    for name in ["latency-raw.svg", "latency-quantiles.svg", "rate.svg"] {
        compare_golden(name, file(&files, name));
    }
}

fn compare_golden(name: &str, drawn: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("FUZZ_DIST_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, drawn).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(drawn, expected, "{name} changed");
}
