//! Starts the worker in a node that does not start it itself, where operations run inside the nodes.
//!
//! A node whose command names `fuzz_dist_boot` starts it last, after its applications. In any other (plain `erl`, a
//! release) the core asks for the same over the node agent, as soon as the node has booted. What our code and the
//! code paths of the run hold is loaded there if the node runs in embedded mode.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fuzz_dist_core::Value;
use fuzz_dist_core::spec::Placement;
use fuzz_dist_core::sync::lock;

use super::launch::BOOT_MODULE;
use super::{Cluster, Inner, code_path};
use crate::agents::Link;
use crate::nemesis::planes::vm;
use crate::request::RunError;

impl Cluster {
    /// An error that says why the worker of a node could not be started, if one could not.
    pub fn check_workers(&self) -> Result<(), RunError> {
        match lock(&self.inner.worker_problems).iter().next() {
            None => Ok(()),
            Some((node, reason)) => Err(RunError::Input(format!(
                "the worker of {node} could not be started: {reason}; see nodes/{node}/output.log in the run's \
                 folder. Operations run inside the nodes (placement = \"node\"), which need Elixir for it; with \
                 placement = \"client\" they run in VMs beside the nodes"
            ))),
        }
    }
}

/// Has the worker started in the background. How it went is known to [`Cluster::check_workers`].
pub(super) fn start(cluster: &Arc<Inner>, node: &str) {
    let spec = &cluster.launcher.spec;
    let names_boot = |text: &String| text.contains(BOOT_MODULE);
    let boots = spec.cluster.command.iter().chain(spec.cluster.env.values()).any(names_boot);
    if spec.placement != Placement::Node || boots {
        return;
    }
    let Some(link) = cluster.agent(node) else { return };
    let (cluster, node) = (Arc::clone(cluster), node.to_owned());
    std::thread::spawn(move || {
        let outcome = start_in(&link, &cluster);
        let mut problems = lock(&cluster.worker_problems);
        match outcome {
            Ok(()) => drop(problems.remove(&node)),
            // The next start of the node tries again.
            Err(_) if !link.is_alive() => {}
            Err(reason) => drop(problems.insert(node, reason)),
        }
    });
}

fn start_in(link: &Link, cluster: &Inner) -> Result<(), String> {
    let launcher = &cluster.launcher;
    vm::load(link, BOOT_MODULE, &launcher.ebin)?;
    let folders = code_path::expand(&launcher.spec.cluster.code_paths);
    let folders = std::iter::once(&launcher.ebin).chain(&folders);
    let folders: Vec<Value> = folders.map(|folder| text(folder)).collect();
    let timeout_ms = launcher.spec.cluster.ready_timeout_ms;
    let call = [
        Value::sym(BOOT_MODULE),
        Value::sym("start_worker"),
        Value::list(vec![Value::list(folders)]),
        Value::Int(i64::try_from(timeout_ms).unwrap_or(i64::MAX)),
    ];
    let answer =
        link.ask("call", call, Duration::from_millis(timeout_ms)).map_err(|e| e.to_string())?;
    match answer.items() {
        Some([_, reason]) => {
            Err(reason.as_text().map_or_else(|| reason.to_string(), str::to_owned))
        }
        _ => Ok(()),
    }
}

fn text(folder: &Path) -> Value {
    Value::str(folder.display().to_string())
}
