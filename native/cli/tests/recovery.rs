//! The core is killed in the middle of a run under full load: the history that it leaves has every invocation that
//! any worker executed and every completion that the core had counted, and `analyze` gives its verdict.
//!
//! What was executed is known from the clients themselves, which write each value to a file before they answer;
//! what was counted from the status lines. These need the compiled client library (`mix compile` in
//! `elixir_client`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::time::Instant;

use common::live::{Live, PATIENCE, Play, Stage, code, wait_until};
use fuzz_dist_core::history_file::{Reader, Recovered};
use fuzz_dist_core::{OpType, Value};
use nix::sys::signal::Signal;

/// Answers at once, but first writes down the value, with one system call.
const SOURCE: &str = r#"
defmodule Noting do
  @behaviour FuzzDist.Client

  @impl true
  def open(_node, context) do
    name = "executed-#{context.short}-#{context.process}"
    :file.open(Path.join(context.options.folder, name), [:append, :raw, :binary])
  end

  @impl true
  def invoke({:note, value}, file, _context) do
    :ok = :file.write(file, [Integer.to_string(value), "\n"])
    {:ok, value}
  end

  @impl true
  def close(file, _context), do: :file.close(file)
end
"#;

/// No rate: as fast as it goes.
const SPEC: &str = r#"
concurrency = 50
time_limit_s = 600.0
op_timeout_ms = 5000
warm_up_s = 0.0
checkers = [{ name = "stats" }]

[workload]
generator = { f = "note", value = { unique = 0 } }

[nemesis]
packages = "none"
"#;

/// So many completions must have been counted before the core is killed.
const COUNTED_MIN: usize = 20_000;

/// `ok 12,345` of the last status line.
fn counted(said: &str) -> usize {
    // The output may be read in pieces: only whole lines.
    let whole = said.rfind('\n').map_or("", |end| &said[..end]);
    let Some((_, text)) = whole.rsplit_once("  ok ") else { return 0 };
    let digits = text.chars().take_while(|c| c.is_ascii_digit() || *c == ',');
    digits.filter(|c| *c != ',').collect::<String>().parse().unwrap()
}

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        other => panic!("{other:?} is no number"),
    }
}

/// The values that clients have executed. A last line that was cut by the death of its node does not count.
fn executed(live: &Live) -> HashSet<i64> {
    let mut values = HashSet::new();
    for entry in fs::read_dir(live.stage.path(".")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().starts_with("executed-") {
            let text = fs::read_to_string(entry.path()).unwrap();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            values.extend(whole.lines().map(|line| line.parse::<i64>().unwrap()));
        }
    }
    values
}

fn recover(live: &Live) -> Recovered {
    Reader::open(live.run_dir().join("history.fdh")).unwrap()
}

/// Values of records of this type, each once.
fn values(recovered: &Recovered, op_type: OpType) -> HashSet<i64> {
    let mut all = HashMap::<i64, usize>::new();
    let fits = |op: &&fuzz_dist_core::Op| op.is_client() && op.op_type == op_type;
    for op in recovered.ops.iter().filter(fits) {
        *all.entry(int(&op.value)).or_default() += 1;
    }
    assert!(all.values().all(|count| *count == 1), "a value was {op_type:?} twice");
    all.into_keys().collect()
}

#[test]
fn kill_9_under_load_loses_nothing_that_was_acknowledged() {
    let play = Play { name: "load", module: "Noting", source: SOURCE, spec: SPEC, schedule: None };
    let mut live = Stage::set(&play).run();
    wait_until("completions are counted", PATIENCE, || {
        live.assert_goes_on();
        counted(&live.said()) >= COUNTED_MIN
    });
    let cast = live.cast();
    let began = Instant::now();
    live.kill(live.core_pid(), Signal::SIGKILL);
    live.until_clean(&cast, began);
    let (status, said) = live.end();
    assert_eq!(code(status), Err(Some(Signal::SIGKILL as i32)), "{said}");

    let (counted, executed, recovered) = (counted(&said), executed(&live), recover(&live));
    let (invoked, ok) = (values(&recovered, OpType::Invoke), values(&recovered, OpType::Ok));
    println!(
        "counted {counted}, executed {}, recovered {} invocations and {} completions, torn: {:?}",
        executed.len(),
        invoked.len(),
        ok.len(),
        recovered.torn
    );
    assert!(ok.len() >= counted, "{} completions recovered, {counted} counted", ok.len());
    let lost: Vec<&i64> = executed.difference(&invoked).collect();
    assert!(lost.is_empty(), "executed and not in the history: {lost:?}");
    let invented: Vec<&i64> = ok.difference(&executed).collect();
    assert!(invented.is_empty(), "completed and never executed: {invented:?}");

    let analysed = live.assert_analysable();
    assert_eq!(analysed.code, Some(2), "a run that was killed does not pass: {analysed:?}");
    assert!(analysed.stderr.contains("the run was killed"), "{analysed:?}");
    assert!(analysed.stderr.contains("did not reach its end"), "{analysed:?}");

    truncate(&live, 7);
    let torn = recover(&live);
    assert!(torn.torn.is_some(), "the end is torn");
    assert!(torn.ops.len() < recovered.ops.len());
    assert_eq!(torn.ops[..], recovered.ops[..torn.ops.len()], "what was whole is kept");
    let analysed = live.assert_analysable();
    assert!(analysed.stderr.contains("torn"), "{analysed:?}");
}

/// Cuts bytes off the end of the history, as a machine that dies may.
fn truncate(live: &Live, bytes: u64) {
    let file = OpenOptions::new().write(true).open(live.run_dir().join("history.fdh")).unwrap();
    // From the end of the last whole frame, so that something that was whole is torn.
    let whole = file.metadata().unwrap().len() - recover(live).torn.map_or(0, |tail| tail.bytes);
    file.set_len(whole - bytes).unwrap();
}
