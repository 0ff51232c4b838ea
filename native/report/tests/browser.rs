//! The pages in a real browser: everything is drawn, nothing complains, nothing hostile comes alive.
//!
//! Needs Chromium, so it runs only when asked:
//! `FUZZ_DIST_BROWSER=chromium cargo test -p fuzz_dist_report --test browser -- --ignored`.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fuzz_dist_core::{CheckResult, History, Verdict};
use fuzz_dist_report::RunInfo;
use support::Run;

const DEADLINE: Duration = Duration::from_secs(120);

/// The document after its scripts have run, and what the console said.
fn open(run: &Run, name: &str) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    fuzz_dist_report::write(dir.path(), &run.info, &run.history, &run.schedule, &run.result)
        .unwrap();
    let browser = std::env::var("FUZZ_DIST_BROWSER").unwrap_or_else(|_| "chromium".into());
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .arg(format!("file://{}", dir.path().join(name).display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let read = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            from.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
        })
    };
    let document = read(Box::new(child.stdout.take().unwrap()));
    let log = read(Box::new(child.stderr.take().unwrap()));
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > DEADLINE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{name}: the browser did not end within {DEADLINE:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = log.join().unwrap().unwrap();
    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    (document.join().unwrap().unwrap(), console.join("\n"))
}

#[test]
#[ignore = "needs a browser"]
fn a_report_is_drawn() {
    let mut run = support::run(3_000);
    let anomaly = &mut run.result.parts[0].anomalies[0];
    anomaly.longest_order = anomaly.ops.clone();
    let (document, console) = open(&run, "report.html");
    assert_eq!(console, "");
    for part in [
        "<img class=\"drawing\" src=\"data:image/svg+xml;charset=utf-8,%3Csvg",
        "<h2>Counter-example</h2>",
        "<h2>Checkers</h2>",
        "<h2>Faults</h2>",
        "class=\"op own\"",
        "▼ n1 lost n2 · net_tick_timeout",
        "nodes/n1/output.log",
        "All 3,000 operations.",
    ] {
        assert!(document.contains(part), "no {part}");
    }
    let (document, console) = open(&run, "timeline.html");
    assert_eq!(console, "");
    assert!(document.contains("operations of each process over time"));
}

#[test]
#[ignore = "needs a browser"]
fn clocks_are_drawn() {
    let (document, console) = open(&support::clocks::run_with_clocks(300), "report.html");
    assert_eq!(console, "");
    for part in
        ["<b>Clocks</b>", "at most n1 ±3600.000 s, n2 ±5.000 s, n3 ±199.0 ms", "clock-skew.svg"]
    {
        assert!(document.contains(part), "no {part}");
    }
}

#[test]
#[ignore = "needs a browser"]
fn hostile_text_stays_dead() {
    let (document, console) = open(&support::hostile(), "report.html");
    assert_eq!(console, "");
    assert!(document.contains("<h2>Faults</h2>"));
    assert!(document.contains("&lt;img src=x onerror=alert(1)&gt;"));
    assert!(!document.contains("<img"));
}

#[test]
#[ignore = "needs a browser"]
fn an_empty_run_is_drawn() {
    let run = Run {
        info: RunInfo::default(),
        history: History::new(vec![]).unwrap(),
        schedule: support::empty_schedule(),
        result: CheckResult::new("stats", Verdict::Unknown, "no operations"),
    };
    let (document, console) = open(&run, "report.html");
    assert_eq!(console, "");
    assert!(document.contains("No faults were part of this run."));
}
