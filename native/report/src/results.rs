//! `results.json`: everything the report knows, for machines. The schema is `priv/schemas/results.schema.json`.
//!
//! Fields are only ever added within a version; a changed meaning or a removed field raises it.

use fuzz_dist_core::{CheckResult, History, Verdict};
use serde::Serialize;

use crate::ReportError;
use crate::analyse::Summary;
use crate::evidence::{CounterExample, counter_examples};
use crate::info::RunInfo;

/// Version of the format.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct Results<'a> {
    version: u32,
    verdict: Verdict,
    reason: &'a str,
    run: &'a RunInfo,
    result: &'a CheckResult,
    counter_example: Option<CounterExample>,
    summary: &'a Summary,
}

/// The whole file.
pub fn to_json(
    info: &RunInfo,
    summary: &Summary,
    history: &History,
    result: &CheckResult,
) -> Result<String, ReportError> {
    let results = Results {
        version: VERSION,
        verdict: result.verdict,
        reason: &result.reason,
        run: info,
        result,
        counter_example: counter_examples(history, result, summary, 1).pop(),
        summary,
    };
    let mut json = serde_json::to_string_pretty(&results)
        .map_err(|source| ReportError::Encode { what: "results.json", source })?;
    json.push('\n');
    Ok(json)
}
