//! `junit.xml`: one test case for each checker, for build servers that know nothing else.
//!
//! `invalid` is a failure, `unknown` an error (JUnit has no third outcome, and green would be a lie).

use std::fmt::Write;

use fuzz_dist_core::{CheckResult, Verdict};

use crate::evidence::visit;
use crate::info::RunInfo;
use crate::text::{clip, markup, utc};

/// Longest body of a failure.
const BODY_CHAR_COUNT_MAX: usize = 20_000;

/// The whole file.
pub fn to_xml(info: &RunInfo, result: &CheckResult) -> String {
    let mut cases: Vec<(String, &CheckResult)> = Vec::new();
    visit(result, &mut |path, part| {
        // Parts split by key are evidence of one checker, not checkers of their own.
        let depth = path.matches(" / ").count();
        let composition = std::ptr::eq(part, result) && !result.parts.is_empty();
        if depth == 0 && !composition {
            cases.push((path.to_owned(), part));
        }
    });
    let all_say = cases.iter().fold(Verdict::Valid, |all, (_, part)| all.and(part.verdict));
    if all_say != result.verdict {
        // What only the composition knows (an interrupted run) must not turn green here.
        cases.push(("verdict".to_owned(), result));
    }
    let count = |verdict| cases.iter().filter(|(_, part)| part.verdict == verdict).count();
    let seconds = info.duration_ns as f64 / 1e9;
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let totals = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{seconds:.3}\"",
        cases.len(),
        count(Verdict::Invalid),
        count(Verdict::Unknown)
    );
    // Writing to a String cannot fail.
    let _ = writeln!(out, "<testsuites name=\"fuzz_dist\" {totals}>");
    let _ = writeln!(
        out,
        "  <testsuite name=\"{}\" {totals} timestamp=\"{}\">",
        markup(&info.name),
        utc(info.started_wall_ns).trim_end_matches('Z')
    );
    let _ = writeln!(out, "    <properties>");
    for (name, value) in [
        ("run", info.run_id.as_str()),
        ("seed", &info.seed.to_string()),
        ("verdict", result.verdict.as_str()),
        ("replay", &info.replay_command),
    ] {
        let _ = writeln!(out, "      <property name=\"{name}\" value=\"{}\"/>", markup(value));
    }
    let _ = writeln!(out, "    </properties>");
    for (name, part) in &cases {
        write_case(&mut out, info, name, part);
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn write_case(out: &mut String, info: &RunInfo, name: &str, part: &CheckResult) {
    let _ = write!(
        out,
        "    <testcase classname=\"fuzz_dist.{}\" name=\"{}\" time=\"{:.3}\"",
        markup(&info.name),
        markup(name),
        part.elapsed_ms / 1000.0
    );
    let element = match part.verdict {
        Verdict::Valid => {
            out.push_str("/>\n");
            return;
        }
        Verdict::Invalid => "failure",
        Verdict::Unknown => "error",
    };
    let mut body = String::new();
    for anomaly in &part.anomalies {
        let key = anomaly.key.as_ref().map(|key| format!(" ({key})")).unwrap_or_default();
        let _ = writeln!(body, "{}{key}: {}", anomaly.name, anomaly.text);
    }
    let _ = writeln!(body, "replay: {}", info.replay_command);
    let _ = writeln!(
        out,
        ">\n      <{element} type=\"{}\" message=\"{}\">{}</{element}>\n    </testcase>",
        part.verdict.as_str(),
        markup(&part.reason),
        markup(&clip(&body, BODY_CHAR_COUNT_MAX))
    );
}
