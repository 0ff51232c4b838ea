//! `report.html` and `timeline.html`: one file each, style, script and data inside, no network.
//!
//! Everything visible is made by the scripts in `priv/assets` from one JSON object, through text nodes
//! only, so no value of a history can become markup. Without scripts, a page says the verdict and where
//! else to look. Lists in the object are bounded here, so that a page stays small.

use fuzz_dist_core::{CheckResult, History, Verdict};
use serde::Serialize;

use crate::ReportError;
use crate::analyse::Summary;
use crate::evidence::{COUNTER_EXAMPLE_COUNT_MAX, CounterExample, counter_examples};
use crate::info::RunInfo;
use crate::sample::Sample;
use crate::text::{clip, markup, script_safe, utc};

const STYLE: &str = include_str!("../../../priv/assets/report.css");
/// In the order in which they are put together.
const SCRIPTS: [&str; 7] = [
    include_str!("../../../priv/assets/dom.js"),
    include_str!("../../../priv/assets/plot.js"),
    include_str!("../../../priv/assets/charts.js"),
    include_str!("../../../priv/assets/clocks.js"),
    include_str!("../../../priv/assets/timeline.js"),
    include_str!("../../../priv/assets/counter_example.js"),
    include_str!("../../../priv/assets/page.js"),
];

/// Parts of a result shown: those that are not valid first.
const PART_COUNT_MAX: usize = 60;
/// Anomalies of a part shown.
const ANOMALY_COUNT_MAX: usize = 20;
/// Longest text of one anomaly, reason or detail.
const TEXT_CHAR_COUNT_MAX: usize = 4_000;
/// Longest spec shown.
const SPEC_CHAR_COUNT_MAX: usize = 60_000;
/// Faults shown.
const FAULT_COUNT_MAX: usize = 1_000;

#[derive(Serialize)]
struct Data<'a> {
    info: RunInfo,
    /// As text: a script cannot hold 64 bits in a number.
    seed: String,
    started: String,
    result: CheckResult,
    summary: Summary,
    faults_omitted: usize,
    counter_examples: Vec<CounterExample>,
    /// One for each of `counter_examples`: an SVG document, where it shows more than operations over time.
    drawings: Vec<Option<String>>,
    sample: &'a Sample,
}

/// The object that both pages show, fit to stand in a script element.
pub fn data(
    info: &RunInfo,
    summary: &Summary,
    history: &History,
    result: &CheckResult,
    sample: &Sample,
) -> Result<String, ReportError> {
    let mut shown = summary.clone();
    // A fault that failed or did nothing must not be the one that is cut.
    shown.faults.sort_by_key(|fault| {
        let plain = fault.status == crate::analyse::FaultStatus::Observed;
        (plain, fault.id)
    });
    shown.faults.truncate(FAULT_COUNT_MAX);
    shown.faults.sort_by_key(|fault| fault.id);
    let data = Data {
        info: RunInfo { spec_toml: clip(&info.spec_toml, SPEC_CHAR_COUNT_MAX), ..info.clone() },
        seed: info.seed.to_string(),
        started: utc(info.started_wall_ns),
        result: prune(result, 0),
        faults_omitted: summary.faults.len() - shown.faults.len(),
        counter_examples: counter_examples(history, result, summary, COUNTER_EXAMPLE_COUNT_MAX),
        drawings: crate::drawing::for_page(history, result, COUNTER_EXAMPLE_COUNT_MAX),
        summary: shown,
        sample,
    };
    let json = serde_json::to_string(&data)
        .map_err(|source| ReportError::Encode { what: "the data of report.html", source })?;
    Ok(script_safe(&json))
}

/// A result with lists and texts cut; a count says how many parts were left out.
fn prune(result: &CheckResult, depth: usize) -> CheckResult {
    let cut = |text: &str| clip(&text, TEXT_CHAR_COUNT_MAX);
    let mut parts: Vec<&CheckResult> = result.parts.iter().collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.verdict));
    if depth == 0 {
        // The checkers themselves keep their order.
        parts = result.parts.iter().collect();
    }
    let omitted = parts.len().saturating_sub(PART_COUNT_MAX);
    let mut counts = result.counts.clone();
    if omitted > 0 {
        counts.insert("parts not shown".to_owned(), omitted as u64);
    }
    let details = match &result.details {
        serde_json::Value::Null => serde_json::Value::Null,
        details if details.to_string().chars().nth(TEXT_CHAR_COUNT_MAX).is_none() => {
            details.clone()
        }
        _ => serde_json::Value::String("too long for this page; see results.json".to_owned()),
    };
    CheckResult {
        checker: cut(&result.checker),
        verdict: result.verdict,
        reason: cut(&result.reason),
        anomalies: result
            .anomalies
            .iter()
            .take(ANOMALY_COUNT_MAX)
            .map(|anomaly| fuzz_dist_core::Anomaly {
                text: cut(&anomaly.text),
                ops: anomaly.ops.iter().take(20).copied().collect(),
                ..anomaly.clone()
            })
            .collect(),
        counts,
        details,
        elapsed_ms: result.elapsed_ms,
        parts: match depth {
            0..3 => parts.iter().take(PART_COUNT_MAX).map(|part| prune(part, depth + 1)).collect(),
            _ => Vec::new(),
        },
    }
}

/// `report.html`.
pub fn report(info: &RunInfo, result: &CheckResult, data: &str) -> String {
    document(info, result, data, "report")
}

/// `timeline.html`: the timeline alone, as large as the window.
pub fn timeline(info: &RunInfo, result: &CheckResult, data: &str) -> String {
    document(info, result, data, "timeline")
}

fn document(info: &RunInfo, result: &CheckResult, data: &str, view: &str) -> String {
    let verdict = result.verdict.as_str();
    let title = format!("{verdict}: {} {}", info.name, info.run_id);
    let icon = match result.verdict {
        Verdict::Valid => "%2316845b",
        Verdict::Unknown => "%23b7791f",
        Verdict::Invalid => "%23c81e5b",
    };
    let mut page = String::with_capacity(data.len() + 120_000);
    page.push_str(&format!(
        "<!doctype html>\n<html lang=\"en\" data-view=\"{view}\" data-verdict=\"{verdict}\">\n<head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n\
         <link rel=\"icon\" href=\"data:image/svg+xml,&lt;svg xmlns='http://www.w3.org/2000/svg' \
         viewBox='0 0 8 8'&gt;&lt;circle cx='4' cy='4' r='4' fill='{icon}'/&gt;&lt;/svg&gt;\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <noscript><h1>{}</h1><p>{}</p><p>The charts of this page need scripts. Without them: \
         <a href=\"results.json\">results.json</a>, <a href=\"latency-raw.svg\">latency-raw.svg</a>, \
         <a href=\"latency-quantiles.svg\">latency-quantiles.svg</a>, \
         <a href=\"rate.svg\">rate.svg</a>.</p></noscript>\n<main id=\"page\"></main>\n",
        markup(&title),
        markup(&title),
        markup(&clip(&result.reason, TEXT_CHAR_COUNT_MAX)),
    ));
    page.push_str("<script type=\"application/json\" id=\"data\">");
    page.push_str(data);
    page.push_str("</script>\n<script>\n\"use strict\";\n(() => {\n");
    for script in SCRIPTS {
        page.push_str(script);
    }
    page.push_str("})();\n</script>\n</body>\n</html>\n");
    page
}
