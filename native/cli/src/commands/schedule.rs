//! `fuzz_dist schedule`: what a run would do, without a cluster, in virtual time.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use fuzz_dist_core::Op;
use fuzz_dist_core::fault::{Availability, FaultKind, FaultSchedule};
use fuzz_dist_core::interop::write_jsonl_op;
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::Spec;
use fuzz_dist_runner::nemesis::planes;
use fuzz_dist_runner::{default_nemesis, mined};
use fuzz_dist_schedule::SimulateOptions;
use fuzz_dist_schedule::simulate::{draw_from_spec, simulate_into};
use serde_json::{Value as Json, json};

use crate::args::ScheduleArgs;
use crate::commands::{run, schedule_file};
use crate::output::{self, CliError};

/// Prints operations and faults by time, or the faults alone.
pub fn run(args: &ScheduleArgs) -> Result<u8, CliError> {
    let mut spec = run::load(&args.spec, &args.overrides)?;
    let seed = Seed(spec.seed.unwrap_or_default());
    let given = spec.nemesis.schedule.take();
    let given = given.map(|file| schedule_file::load(Path::new(&file), &spec)).transpose()?;
    let mined = mined::edges(&spec, given.as_ref())?;
    let default = default_nemesis::settle(&mut spec, given.as_ref(), &mined)?;
    let default = default.map(|notice| notice.text);
    if let Some(notice) = &default {
        output::tell(&format!("note: {notice}"));
    }
    if args.faults_only {
        let schedule = match given {
            Some(schedule) => schedule,
            None => draw_from_spec(&spec, seed, &mined, &available)
                .map_err(|error| refused(args, error))?,
        };
        output::json(&schedule)?;
        return Ok(0);
    }
    let options = SimulateOptions {
        records_max: args.limit,
        mined,
        schedule: given,
        available,
        ..SimulateOptions::default()
    };
    if args.json {
        as_json(args, &spec, seed, &options, default)
    } else {
        as_text(args, &spec, seed, &options)
    }
}

/// As a run on this machine would see it.
fn available(kind: &FaultKind) -> Availability {
    planes::availability(kind, None)
}

fn refused(args: &ScheduleArgs, error: impl ToString) -> CliError {
    CliError::Input(format!("{}: {}", args.spec.display(), error.to_string()))
}

/// A line for each record, written as it is drawn, so that a long test can be looked at from its start.
fn as_text(
    args: &ScheduleArgs,
    spec: &Spec,
    seed: Seed,
    options: &SimulateOptions,
) -> Result<u8, CliError> {
    output::tell(&format!("test {}, seed {}", spec.name, seed.0));
    let mut count = 0;
    let mut cut = false;
    let mut outcome = None;
    output::to_stdout(|out| {
        let mut failed: io::Result<()> = Ok(());
        outcome = Some(simulate_into(spec, seed, options, &mut |op| {
            if options.records_max.is_some_and(|max| count >= max) {
                cut = true;
                return ControlFlow::Break(());
            }
            count += 1;
            failed = line(&op, out);
            if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }));
        failed
    })?;
    match outcome {
        Some(Ok((plan, schedule))) => {
            for note in &plan.notes {
                output::tell(&format!("note: {note}"));
            }
            let faults = schedule.faults.len();
            let more = if cut { ", and more (--limit)" } else { "" };
            output::tell(&format!("{count} records{more}; {faults} faults in all"));
            Ok(0)
        }
        Some(Err(error)) => Err(refused(args, error)),
        None => Err(CliError::Internal("the simulation did not run".into())),
    }
}

/// Seconds, process, node, type, function, value.
fn line(op: &Op, out: &mut dyn Write) -> io::Result<()> {
    let node = op.node.map(|node| node.to_string()).unwrap_or_default();
    writeln!(
        out,
        "{:>11.6}  {:<9} {:<4} {:<7} :{} {}",
        op.time_ns as f64 / 1e9,
        op.process.to_string(),
        node,
        op.op_type.as_str(),
        op.f,
        op.value
    )
}

fn as_json(
    args: &ScheduleArgs,
    spec: &Spec,
    seed: Seed,
    options: &SimulateOptions,
    default: Option<String>,
) -> Result<u8, CliError> {
    let simulation =
        fuzz_dist_schedule::simulate(spec, seed, options).map_err(|error| refused(args, error))?;
    let mut records = Vec::with_capacity(simulation.records.len());
    let mut text = Vec::new();
    for op in &simulation.records {
        text.clear();
        write_jsonl_op(op, &mut text);
        let record: Json = serde_json::from_slice(&text)
            .map_err(|error| CliError::Internal(format!("a record is no JSON: {error}")))?;
        records.push(record);
    }
    let schedule: &FaultSchedule = &simulation.schedule;
    let notes: Vec<String> = default.into_iter().chain(simulation.plan.notes).collect();
    output::json(&json!({
        "test": spec.name,
        "seed": seed.0,
        "truncated": simulation.truncated,
        "notes": notes,
        "checkers": simulation.plan.checkers,
        "schedule": schedule,
        "records": records,
    }))?;
    Ok(0)
}
