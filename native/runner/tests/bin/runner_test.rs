//! The parts of a run that are processes of their own, for the tests of this crate: `guard`, `plane`, and a core
//! that does nothing but apply faults inside one node (`vm-core`), for tests that kill it.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use fuzz_dist_core::fault::{Fault, Resolved};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_runner::agents::{Agents, EVENTS_MAX, Link, Role};
use fuzz_dist_runner::directory::NodeDirectory;
use fuzz_dist_runner::nemesis::planes::vm::VmPlane;
use fuzz_dist_runner::nemesis::planes::{FaultPlane, Order};

/// How long the node may take to dial.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["guard", ..] => fuzz_dist_nemesis::guard::main(),
        ["plane", ..] => fuzz_dist_nemesis::plane::main(),
        ["vm-core", ebin, node, faults] => match vm_core(ebin, node, faults) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("error: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: guard | plane | vm-core EBIN NODE FAULTS");
            ExitCode::from(254)
        }
    }
}

/// Prints its address, applies the faults (JSON) to the node `n1` when its agent has dialled, prints what is seen of
/// each, and stays.
fn vm_core(ebin: &str, node: &str, faults: &str) -> Result<(), Box<dyn Error>> {
    let ((workers, _inbox), (nodes, _observer)) =
        (sync_channel(EVENTS_MAX), sync_channel(EVENTS_MAX));
    let agents = Arc::new(Agents::start("secret", "r", workers, nodes)?);
    println!("{}", agents.address());
    let deadline = Instant::now() + PATIENCE;
    agents.wait_for(Role::Node, "n1", deadline, Link::is_alive).ok_or("no agent has dialled")?;
    let names = vec![("n1".to_owned(), node.to_owned())];
    let plane =
        VmPlane::new(agents, NodeDirectory::new(names), PathBuf::from(ebin), Seed(1), false);
    for fault in serde_json::from_str::<Vec<Fault>>(faults)? {
        let kind = fault.kind.name();
        let resolved = Resolved { nodes: vec!["n1".into()], links: Vec::new() };
        let applied = plane.apply(&Order { fault, resolved, at_ns: 0 })?;
        let seen = loop {
            if let Some(seen) = applied.fault.observe(0) {
                break seen;
            }
            if Instant::now() > deadline {
                return Err(format!("{kind}: {}", applied.fault.why_not()).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        println!("seen {kind}: {}", seen.text);
    }
    println!("all");
    loop {
        std::thread::park();
    }
}
