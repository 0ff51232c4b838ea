//! Faults inside a node outlive nothing: after SIGKILL of the core that applied them the node, which lives on, is as
//! it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod stock;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use erl_dist::term::{FixInteger, Term};
use fuzz_dist_runner::cluster::bootstrap::{
    AgentArguments, BootstrapError, Visit, atom, call, load_agent,
};
use serde_json::{Value as Json, json};
use stock::{COOKIE, PATIENCE, StockNode};
use tempfile::TempDir;

/// Of the node while its cookie is changed.
const OTHER_COOKIE: &str = "another";

/// How long a process that does not answer is waited for.
const ASK_MS: i32 = 400;

/// What may pass until everything is healed; the time is printed. Measured without load: a few milliseconds.
const HEALED_MAX: Duration = Duration::from_secs(5);

/// A process that applies faults to a stock node and is then killed.
struct Core {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    node: StockNode,
    _ebin: TempDir,
}

impl Core {
    fn start(short: &str, faults: &[Json]) -> Core {
        let ebin = TempDir::new().unwrap();
        let modules =
            ["fuzz_dist_agent", "fuzz_dist_selector", "fuzz_dist_vm", "fuzz_dist_vm_faults"];
        stock::compile(&modules, ebin.path());
        let node = StockNode::start(short, 60);
        let mut process = Command::new(env!("CARGO_BIN_EXE_fuzz_dist_runner_test"))
            .args([
                "vm-core",
                ebin.path().to_str().unwrap(),
                &node.name,
                &json!(faults).to_string(),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let arguments = AgentArguments {
            core: lines.next().unwrap().unwrap(),
            token: "secret".into(),
            node: "n1".into(),
            run: "r".into(),
            // The node must outlive the core, so that somebody can look at it.
            lifeline: false,
        };
        let beam = std::fs::read(ebin.path().join("fuzz_dist_agent.beam")).unwrap();
        load_agent(node.port, &node.name, COOKIE, &beam, &arguments, PATIENCE).unwrap();
        Core { process, lines, node, _ebin: ebin }
    }

    /// Waits until every fault was seen.
    fn await_all(&mut self) {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            println!("{line}");
            assert!(!line.starts_with("error"), "{line}");
            if line == "all" {
                return;
            }
        }
    }

    /// SIGKILL; when.
    fn kill(&mut self) -> Instant {
        self.process.kill().unwrap();
        let now = Instant::now();
        self.process.wait().unwrap();
        now
    }

    fn try_call(
        &self,
        cookie: &str,
        (module, function, arguments): (&str, &str, Vec<Term>),
    ) -> Result<Term, BootstrapError> {
        let function = (module, function, arguments);
        call(self.node.port, &self.node.name, cookie, function, PATIENCE)
    }

    /// Whether a supervisor of this name answers.
    fn answers(&self, cookie: &str, supervisor: &str) -> bool {
        let arguments = vec![atom(supervisor), atom("which_children"), int(ASK_MS)];
        match self.try_call(cookie, ("gen_server", "call", arguments)) {
            Ok(Term::List(_)) => true,
            Err(BootstrapError::Call { reason, .. }) if reason.contains("timeout") => false,
            other => panic!("{supervisor}: {other:?}"),
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn int(number: i32) -> Term {
    Term::from(FixInteger::from(number))
}

/// A fault that lasts ten minutes unless somebody heals it.
fn fault(id: u32, parameters: Json) -> Json {
    let mut fault =
        json!({"id": id, "target": "all", "start_ns": 0, "duration_ns": 600_000_000_000_u64});
    fault.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
    fault
}

fn registered(name: &str) -> Json {
    json!({"registered": name})
}

#[test]
fn a_core_that_is_killed_leaves_a_healed_node() {
    let mut core = Core::start(
        "vm_lease",
        &[
            fault(1, json!({"kind": "suspend", "process": registered("kernel_safe_sup")})),
            fault(2, json!({"kind": "sys-suspend", "process": registered("logger_sup")})),
            fault(3, json!({"kind": "garbage", "megabytes": 8})),
            fault(
                4,
                json!({"kind": "flood", "process": registered("standard_error"), "messages_per_s": 2000}),
            ),
            fault(5, json!({"kind": "dirty-block"})),
            fault(6, json!({"kind": "set-cookie", "cookie": OTHER_COOKIE})),
        ],
    );
    core.await_all();
    let wrong = Visit::open(core.node.port, &core.node.name, COOKIE, PATIENCE);
    assert!(matches!(wrong, Err(BootstrapError::Cookie(_))), "{wrong:?}");
    for supervisor in ["kernel_safe_sup", "logger_sup"] {
        assert!(!core.answers(OTHER_COOKIE, supervisor), "{supervisor} answers");
    }

    let killed = core.kill();
    let restored = loop {
        match Visit::open(core.node.port, &core.node.name, COOKIE, PATIENCE) {
            Ok(_) => break killed.elapsed(),
            Err(BootstrapError::Cookie(_)) => {
                assert!(killed.elapsed() < PATIENCE, "the cookie stays changed");
            }
            Err(other) => panic!("{other}"),
        }
    };
    for supervisor in ["kernel_safe_sup", "logger_sup"] {
        assert!(core.answers(COOKIE, supervisor), "{supervisor} does not answer");
    }
    let healed = killed.elapsed();
    println!("cookie restored within {restored:?}, processes answer within {healed:?} of the kill");
    assert!(healed < HEALED_MAX, "{healed:?}");
    // No process of a fault is left: none runs, or waits, in its module.
    let ours = core.try_call(COOKIE, ("erlang", "whereis", vec![atom("fuzz_dist_agent")])).unwrap();
    println!("agent: {ours}");
    for module in ["fuzz_dist_vm_faults", "fuzz_dist_vm"] {
        let arguments = vec![atom(module)];
        core.try_call(COOKIE, ("code", "delete", arguments.clone())).unwrap();
        let nobody = core.try_call(COOKIE, ("code", "soft_purge", arguments)).unwrap();
        assert_eq!(nobody, atom("true"), "a process is left in {module}");
    }
}
