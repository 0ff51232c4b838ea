//! A run whose history is whole gets its verdict, whatever the disk that it lies on has room for.
//!
//! The run is copied onto file systems of growing size (tmpfs in a mount namespace of its own, which needs root
//! or user namespaces) and analysed there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::process::{Command, Output};

use fuzz_dist_core::clock::RunClock;
use fuzz_dist_core::history_file::{Header, Writer};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::{ClientSpec, Spec, WorkloadSpec};
use fuzz_dist_core::store::RunDir;
use fuzz_dist_core::{Op, OpType, Process, Sym, Value};

/// Writes a run of the workload `set` on one node that went through all its phases.
fn write_run(dir: &Path) {
    let files = RunDir::at(dir);
    let workload = WorkloadSpec { name: "set".into(), ..WorkloadSpec::default() };
    let client = ClientSpec { module: "Test".into(), ..ClientSpec::default() };
    let spec = Spec { name: "full".into(), workload, client, ..Spec::default() };
    let spec_toml = fuzz_dist_core::spec::to_toml(&spec);
    std::fs::write(files.spec(), &spec_toml).unwrap();
    let header = Header {
        run: "r".into(),
        test: spec.name,
        seed: Seed(1),
        clock: RunClock::start(),
        spec: spec_toml,
    };
    let mut writer = Writer::create(files.history(), &header).unwrap();
    let mut time_ns = 0;
    let mut record = |process: Process, op_type, f: &str, value: Value| {
        time_ns += 1_000_000;
        let mut op = Op::new(time_ns, process, op_type, Sym::new(f), value);
        op.node = process.client().map(|_| Sym::new("n1"));
        writer.append(&mut op).unwrap();
    };
    let phase = |name: &str| Value::map([(Value::sym("name"), Value::sym(name))]);
    let observer = Process::observer();
    record(observer, OpType::Info, "phase", phase("main"));
    let client = Process::Client(0);
    for n in 0..200 {
        record(client, OpType::Invoke, "add", Value::Int(n));
        record(client, OpType::Ok, "add", Value::Int(n));
    }
    record(observer, OpType::Info, "phase", phase("final"));
    record(client, OpType::Invoke, "read", Value::Nil);
    let all = Value::list((0..200).map(Value::Int).collect::<Vec<_>>());
    record(client, OpType::Ok, "read", all);
    record(observer, OpType::Info, "phase", phase("teardown"));
    writer.commit().unwrap();
}

/// Analyses a copy of the run on a file system of that size, and lists what is left there.
fn analyse_on(run: &Path, size_kib: u64) -> Output {
    let script = format!(
        "set -e; d=$(mktemp -d); mount -t tmpfs -o size={size_kib}k tmpfs $d; cp {run}/* $d; \
         set +e; {bin} analyze $d; status=$?; \
         ls $d; [ ! -e $d/results.json ] || tail -c 3 $d/results.json | grep -q '}}' || status=99; \
         umount $d; rmdir $d; exit $status",
        run = run.display(),
        bin = env!("CARGO_BIN_EXE_fuzz_dist"),
    );
    Command::new("unshare").args(["--map-root-user", "-m", "bash", "-c", &script]).output().unwrap()
}

#[test]
fn a_full_disk_costs_no_verdict() {
    let run = tempfile::tempdir().unwrap();
    write_run(run.path());
    let can = Command::new("unshare").args(["--map-root-user", "-m", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        assert!(std::env::var("CI").is_err(), "no mount namespaces: this test cannot run");
        eprintln!("skipped: no mount namespaces here (unshare -m)");
        return;
    }
    let (mut with_warnings, mut without) = (0, 0);
    for size_kib in [32, 48, 64, 96, 128, 192, 256, 384, 512, 1_024, 4_096] {
        let output = analyse_on(run.path(), size_kib);
        let said = String::from_utf8_lossy(&output.stderr);
        let left = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{size_kib} KiB: {said}\n{left}");
        assert!(said.contains("verdict  valid"), "{size_kib} KiB: {said}");
        assert!(!left.contains(".part"), "{size_kib} KiB leaves halves: {left}");
        match said.contains("warning: ") {
            true => with_warnings += 1,
            false => without += 1,
        }
    }
    assert!(with_warnings > 2 && without > 0, "{with_warnings} full, {without} not");
}
