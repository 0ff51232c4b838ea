//! The clusters of the table: spec and schedule of a run in which rows are tried, and the run itself.
//!
//! The specimen is compiled once. Only so many clusters exist at a time as processors can bear: most of a run is
//! waiting, but a BEAM that starts wants a processor.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};

use fuzz_dist_core::fault::{Fault, FaultKind, FaultSchedule, Plane, Subject, Target};
use fuzz_dist_core::spec::{self, FaultSpec, Spec};
use fuzz_dist_core::{Op, Process, Value, history_file};

use super::common::live::{Live, PATIENCE, Stage, client_library, wait_until};
use super::common::{finish, root};
use super::left_behind::Marks;
use super::rows::{Bed, Beside, Row};

/// Clusters of one node that share a run.
const SIDE_BY_SIDE: usize = 8;

/// Between faults on the same node or link.
const GAP_MS: u64 = 500;

/// How much longer a fault lasts under which another one happens, on either side.
const MARGIN_MS: u64 = 300;

/// The same of a change of membership, and of a node that has to be down for one: members have to agree first.
const AGREEMENT_MS: u64 = 2500;

/// A place among the clusters that run at the same time.
pub struct Turn;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    pub fn take() -> Turn {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let mut running = RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *running >= processors * 2 {
            running = RUNNING.1.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        *running += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.1.notify_one();
    }
}

/// Where the compiled specimen is: folders `code` and `second`.
static SPECIMEN: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let systems = root().join("test/systems");
    let own = root().join("native/cli/tests/matrix");
    let compile = |compiler: &str, into: &str, sources: &[std::path::PathBuf]| {
        fs::create_dir_all(folder.path().join(into)).unwrap();
        let mut command = Command::new(compiler);
        command.arg("-pa").arg(client_library()).arg("-o").arg(folder.path().join(into));
        let compiled = finish(command.args(sources), b"");
        assert_eq!(compiled.code, Some(0), "{sources:?}: {compiled:?}");
    };
    let erlang = ["supervised/supervised.erl", "supervised/versioned.erl"];
    compile("erlc", "code", &erlang.map(|file| systems.join(file)));
    compile("erlc", "second", &[systems.join("supervised/second/versioned.erl")]);
    let elixir = ["synced_log/synced_log.ex", "mnesia_register/mnesia_register.ex"];
    let mut elixir = elixir.map(|file| systems.join(file)).to_vec();
    elixir.push(own.join("specimen.ex"));
    compile("elixirc", "code", &elixir);
    folder
});

/// A row with the time and the target that it has in a run.
#[derive(Debug, Clone)]
pub struct Placed {
    pub row: &'static Row,
    pub start_ms: u64,
    pub lasts_ms: u64,
    pub target: Target,
    /// Its number in the schedule.
    pub id: u32,
}

/// What a run is: a spec and a schedule.
#[derive(Debug)]
pub struct Plan {
    pub bed: Bed,
    pub nodes: usize,
    pub faults: Vec<Placed>,
    pub time_limit_ms: u64,
    /// If nodes are asked in the end what they still hold: how long they may take to come back before.
    pub asks_after_s: Option<u64>,
}

fn node(index: usize) -> String {
    format!("n{}", index + 1)
}

/// How many nodes a cluster must have to show the faults of a bed.
fn smallest(bed: Bed) -> usize {
    match bed {
        Bed::Alone | Bed::Stopped => 1,
        Bed::Pair | Bed::Silent | Bed::Carried | Bed::Bridged => 2,
        // Of two members that know only themselves neither is the cluster.
        Bed::Members | Bed::Schema => 3,
    }
}

/// The whole of a cluster of one or two nodes.
fn target(row: &Row, on: usize) -> Target {
    let kind = FaultKind::find(row.kind, Some(row.plane)).unwrap().1;
    match kind.subject {
        Subject::Nodes => Target::Named(vec![node(on)]),
        Subject::Cluster => Target::One,
        Subject::Links => {
            Target::Links(vec![("n1".into(), "n2".into()), ("n2".into(), "n1".into())])
        }
    }
}

impl Plan {
    /// Rows of a bed, each for so many times as long as it needs.
    pub fn of_bed(bed: Bed, rows: &[&'static Row], times: u64) -> Plan {
        let nodes = match bed {
            Bed::Alone => SIDE_BY_SIDE.min(rows.len()),
            Bed::Stopped => rows.len(),
            _ => smallest(bed),
        };
        // Files need something in them, and a cluster a moment to know itself.
        let mut free_ms = vec![if bed == Bed::Stopped { 1500 * times } else { 600 }; nodes];
        let mut faults: Vec<Placed> = Vec::new();
        let mut ended = 0;
        for (i, row) in rows.iter().enumerate() {
            let on = match (bed, row.plane) {
                // One that ends a node is the last that happens to it.
                (Bed::Alone, Plane::Process) if ended < nodes => {
                    if ended == 0 {
                        let last = free_ms.iter().copied().max().unwrap_or_default();
                        free_ms.fill(last);
                    }
                    ended += 1;
                    ended - 1
                }
                (Bed::Alone | Bed::Stopped, _) => i % nodes,
                _ => 0,
            };
            let start_ms = free_ms[on] + margin_ms(row);
            let lasts_ms = row.lasts_ms * times;
            free_ms[on] = start_ms + lasts_ms + margin_ms(row) + GAP_MS * times;
            let id = 2 * i as u32 + 1;
            faults.push(Placed { row, start_ms, lasts_ms, target: target(row, on), id });
        }
        let end_ms = free_ms.into_iter().max().unwrap_or_default();
        Plan { bed, nodes, faults, time_limit_ms: end_ms, asks_after_s: Some(2 * times) }
    }

    /// One row, held for a time, in a cluster as small as can be.
    pub fn held(row: &'static Row, lasts_ms: u64, time_limit_ms: u64) -> Plan {
        let nodes = smallest(row.bed);
        let start_ms = if row.bed == Bed::Stopped { 1000 } else { 300 } + margin_ms(row);
        let target = target(row, 0);
        let placed = Placed { row, start_ms, lasts_ms, target, id: 1 };
        Plan { bed: row.bed, nodes, faults: vec![placed], time_limit_ms, asks_after_s: None }
    }

    /// `spec.toml`.
    pub fn spec(&self) -> String {
        let Plan { bed, nodes, .. } = self;
        let connected = !matches!(bed, Bed::Alone | Bed::Stopped);
        let gossip = matches!(bed, Bed::Pair | Bed::Carried | Bed::Bridged);
        let (limit_s, mnesia) = (self.time_limit_ms as f64 / 1000.0, *bed == Bed::Schema);
        let in_the_end = match self.asks_after_s {
            Some(_) => "final_generator = { each-thread = { once = { f = \"held\" } } }",
            None => "",
        };
        // Final operations wait all of the recovery.
        let recovery_s = self.asks_after_s.unwrap_or(40) as f64;
        let mut spec = format!(
            r#"name = "matrix"
nodes = {nodes}
concurrency = "1n"
rate = {rate}
time_limit_s = {limit_s:?}
op_timeout_ms = 2000
warm_up_s = 0.0
recovery_s = {recovery_s:?}
checkers = [{{ name = "stats" }}]

[roles]
first = ["n1"]
last = ["n{nodes}"]

[cluster]
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
net_ticktime_s = {tick_s}
prevent_overlapping_partitions = false
connect = {connected}
network = "{network}"
ready_timeout_ms = 90000

[client]
module = "Specimen"
options = {{ gossip = {gossip}, mnesia = {mnesia} }}

[workload]
generator = {{ f = "append", value = {{ unique = 0 }} }}
{in_the_end}

[nemesis]
membership = "FuzzDist.Membership.{members}"

"#,
            rate = nodes * 20,
            network = if *bed == Bed::Bridged { "namespaces" } else { "loopback" },
            // Mnesia must not part for good.
            tick_s = if mnesia { 60 } else { 2 },
            members = if mnesia { "Mnesia" } else { "Erlang" },
        );
        for Placed { row, .. } in &self.faults {
            spec.push_str(&row.table());
            if let Beside::Under(other) | Beside::Over(other) = row.beside {
                spec.push_str(other);
            }
        }
        spec
    }

    /// What the spec says, read.
    pub fn parsed(&self) -> Spec {
        spec::parse(&self.spec(), "spec.toml").unwrap_or_else(|error| panic!("{error}"))
    }

    /// `schedule.json`.
    fn schedule(&self) -> FaultSchedule {
        let mut tables = self.parsed().nemesis.faults.into_iter();
        let mut faults = Vec::new();
        for Placed { row, start_ms, lasts_ms, target, id } in &self.faults {
            let table = tables.next().unwrap();
            faults.push(fault(*id, table, target.clone(), *start_ms, *lasts_ms));
            let (start_ms, lasts_ms) = match row.beside {
                Beside::Nothing => continue,
                Beside::Under(_) => (start_ms - margin_ms(row), lasts_ms + 2 * margin_ms(row)),
                Beside::Over(_) => (start_ms + 100, lasts_ms - 200),
            };
            let table = tables.next().unwrap();
            let target = match (table.kind.info().subject, target) {
                (Subject::Nodes, Target::One) => Target::Named(vec![node(self.nodes - 1)]),
                _ => target.clone(),
            };
            faults.push(fault(*id + 1, table, target, start_ms, lasts_ms));
        }
        faults.sort_by_key(|fault| fault.start_ns);
        FaultSchedule {
            version: 1,
            seed: 7,
            nodes: (0..self.nodes).map(node).collect(),
            boundaries: Vec::new(),
            eras: Vec::new(),
            faults,
        }
    }

    /// What specs of these expect beside them.
    pub fn specimen_into(folder: &Path) {
        for name in ["code", "second"] {
            copy_all(&SPECIMEN.path().join(name), &folder.join(name));
        }
    }

    /// Starts it.
    pub fn run(&self) -> Show {
        let stage = Stage::bare("matrix");
        Plan::specimen_into(&stage.path("."));
        fs::write(stage.path("spec.toml"), self.spec()).unwrap();
        let schedule = serde_json::to_vec_pretty(&self.schedule()).unwrap();
        fs::write(stage.path("schedule.json"), schedule).unwrap();
        Show { live: stage.run(), reader: None, ops: Vec::new(), marks: Marks::default() }
    }
}

/// Room for a fault that begins before this one.
fn margin_ms(row: &Row) -> u64 {
    match row.beside {
        Beside::Under(_) if row.plane == Plane::Membership => AGREEMENT_MS,
        Beside::Under(_) => MARGIN_MS,
        _ => 0,
    }
}

fn fault(id: u32, table: FaultSpec, target: Target, start_ms: u64, lasts_ms: u64) -> Fault {
    Fault {
        id,
        kind: table.kind,
        target,
        scope: table.scope,
        one_way: false,
        port: None,
        package: None,
        optional: false,
        after: None,
        part_of: None,
        start_ns: start_ms * 1_000_000,
        duration_ns: lasts_ms * 1_000_000,
        boundary: None,
        resolved: None,
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A run that goes on, its history as far as it is written, and the marks that it leaves on the machine.
pub struct Show {
    pub live: Live,
    reader: Option<history_file::Reader>,
    /// What was read of the history.
    pub ops: Vec<Op>,
    pub marks: Marks,
}

impl Show {
    /// Reads what has been written since.
    pub fn read(&mut self) -> &[Op] {
        let path = self.live.run_dir().join("history.fdh");
        if self.reader.is_none() {
            // It may not have a header yet.
            self.reader = history_file::Reader::follow(path).ok();
        }
        if let Some(reader) = &mut self.reader {
            let torn = reader.poll(&mut self.ops).unwrap();
            assert!(torn.is_none(), "{torn:?}");
        }
        &self.ops
    }

    /// Waits until the history has a record for which this holds, and gives that.
    pub fn await_record(&mut self, what: &str, is_it: impl Fn(&Op) -> bool) -> Op {
        let mut found = None;
        wait_until(what, PATIENCE, || {
            let from = self.ops.len();
            found = self.read()[from..].iter().find(|op| is_it(op)).cloned();
            if found.is_none() {
                self.live.assert_goes_on();
            }
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits for the first operation of the main phase: everybody is there.
    pub fn await_main(&mut self) {
        self.await_record("the main phase", |op| {
            op.f.as_str() == "phase"
                && op.value.get("name").and_then(Value::as_text) == Some("main")
        });
    }

    /// The record of the nemesis about a fault.
    pub fn told(&self, f: &str, id: u32) -> Option<&Op> {
        self.ops.iter().find(|op| is_of(op, f, id))
    }
}

/// Whether this is what the nemesis says of a fault.
pub fn is_of(op: &Op, f: &str, id: u32) -> bool {
    op.process == Process::nemesis()
        && op.f.as_str() == f
        && op.value.get("id") == Some(&Value::Int(i64::from(id)))
}
