//! The callbacks of a test that are not operations: initialise, set up, ready, primaries, tear down.
//!
//! With placement `node` each node's worker answers for its node; with placement `client` the client VMs
//! share the nodes between them. `setup` runs for every node in order at the start, and again for a
//! node that was started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::spec::{Placement, Spec};

use crate::agents::{Agents, Link, RequestError, Role};
use crate::directory::NodeDirectory;
use crate::nemesis::Primaries;
use crate::operations::Placing;
use crate::request::{Check, RunError};
use crate::stop::Stop;

/// How long nodes may take to say who is the primary; a fault waits for it.
const PRIMARY_TIMEOUT: Duration = Duration::from_millis(1000);

/// How long `teardown` may take for each node.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long handlers of telemetry may take at the end of a run.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How often `ready` is asked.
const READY_EVERY: Duration = Duration::from_millis(50);

/// How much longer than the agent the core waits.
const GRACE: Duration = Duration::from_secs(1);

/// The workers of a run. Clones share everything.
#[derive(Debug, Clone)]
pub struct Workers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    agents: Arc<Agents>,
    stop: Stop,
    /// What a worker is told, but for the names of the nodes.
    init: Vec<(&'static str, Value)>,
    directory: NodeDirectory,
    placement: Placement,
    /// Short names.
    nodes: Vec<String>,
    workers: Vec<String>,
    timeout: Duration,
    /// Whether every node has been set up once: from then on a worker that comes is that of a node that
    /// was started again.
    set_up: AtomicBool,
}

impl Workers {
    /// For the nodes of a run.
    pub fn new(
        spec: &Spec,
        seed: u64,
        agents: Arc<Agents>,
        directory: &NodeDirectory,
        stop: Stop,
    ) -> Workers {
        let shorts = directory.shorts();
        let workers = match spec.placement {
            Placement::Node => shorts.clone(),
            Placement::Client => client_names(spec),
        };
        let inner = Inner {
            agents,
            stop,
            init: init_message(spec, seed),
            directory: directory.clone(),
            placement: spec.placement,
            nodes: shorts,
            workers,
            timeout: Duration::from_millis(spec.cluster.ready_timeout_ms),
            set_up: AtomicBool::new(false),
        };
        Workers { inner: Arc::new(inner) }
    }

    /// For the interpreter.
    pub fn placing(&self) -> Placing {
        let workers = self.clone();
        Placing {
            workers: self.inner.workers.clone(),
            nodes: self.inner.nodes.clone(),
            initialise: Arc::new(move |link: &Link| workers.initialise(link)),
        }
    }

    fn initialise(&self, link: &Link) -> Result<(), String> {
        let inner = &self.inner;
        // As they are now: a node may have been started under another name.
        let nodes =
            inner.directory.all().into_iter().map(|(short, full)| {
                Value::tuple(vec![Value::str(short.as_str()), Value::sym(&full)])
            });
        let nodes = ("nodes", Value::list(nodes.collect::<Vec<_>>()));
        let entries = inner.init.iter().cloned().chain([nodes]);
        let init = Value::map(entries.map(|(key, value)| (Value::sym(key), value)));
        link.ask("init", [init], inner.timeout).map_err(|e| e.to_string())?;
        if inner.placement == Placement::Node && inner.set_up.load(Ordering::Acquire) {
            call(link, "setup", link.name(), inner.timeout, &|| true)?;
        }
        Ok(())
    }

    fn worker_of(&self, node: usize) -> Result<Arc<Link>, String> {
        let name = &self.inner.workers[node % self.inner.workers.len()];
        self.inner
            .agents
            .get(Role::Worker, name)
            .ok_or_else(|| format!("the worker in {name} is not connected"))
    }

    fn callback(&self, name: &str, node: usize, timeout: Duration) -> Result<Value, String> {
        call(&*self.worker_of(node)?, name, &self.inner.nodes[node], timeout, &|| true)
    }

    /// As `callback`; ends with the error of `check` as soon as it has one.
    fn callback_while(
        &self,
        name: &str,
        node: usize,
        timeout: Duration,
        check: Check<'_>,
    ) -> Result<Value, RunError> {
        let hope = || check().is_ok();
        let answer = self
            .worker_of(node)
            .and_then(|worker| call(&worker, name, &self.inner.nodes[node], timeout, &hope));
        answer.map_err(|reason| {
            let node = &self.inner.nodes[node];
            check().err().unwrap_or_else(|| RunError::Input(format!("{name} of {node}: {reason}")))
        })
    }

    /// Sets up every node, in order; ends with the error of `check` as soon as it has one.
    pub fn set_up_all(&self, check: Check<'_>) -> Result<(), RunError> {
        for node in 0..self.inner.nodes.len() {
            if self.inner.stop.is_set() {
                return Ok(());
            }
            self.callback_while("setup", node, self.inner.timeout, check)?;
        }
        self.inner.set_up.store(true, Ordering::Release);
        Ok(())
    }

    /// Sets up a node that was started again, when its own worker does not.
    pub fn set_up_again(&self, node: &str) -> Result<(), String> {
        let position = self.inner.nodes.iter().position(|short| short == node);
        match (self.inner.placement, position) {
            (Placement::Client, Some(position)) => {
                self.callback("setup", position, self.inner.timeout).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Asks every node whether it is ready until all are, the deadline has passed, or `check` has an error.
    pub fn await_ready(&self, check: Check<'_>) -> Result<(), RunError> {
        let deadline = Instant::now() + self.inner.timeout;
        for (node, short) in self.inner.nodes.iter().enumerate() {
            loop {
                if self.inner.stop.is_set() {
                    return Ok(());
                }
                let left = deadline.saturating_duration_since(Instant::now());
                let answer = self.callback_while("ready", node, left.max(READY_EVERY), check)?;
                if answer != Value::Bool(false) {
                    break;
                }
                check()?;
                if left.is_zero() {
                    return Err(RunError::Input(format!(
                        "{short} did not become ready within {} ms (cluster.ready_timeout_ms): its \
                         `ready` callback kept answering false",
                        self.inner.timeout.as_millis()
                    )));
                }
                self.inner.stop.wait(READY_EVERY);
            }
        }
        Ok(())
    }

    /// Who leads, as the nodes say; nodes that do not answer name nobody.
    pub fn primaries(&self) -> Primaries {
        let workers = self.clone();
        Arc::new(move || {
            let answers: Vec<Value> = std::thread::scope(|scope| {
                let asked: Vec<_> = (0..workers.inner.nodes.len())
                    .map(|node| {
                        let workers = &workers;
                        scope.spawn(move || workers.callback("primary", node, PRIMARY_TIMEOUT))
                    })
                    .collect();
                asked.into_iter().filter_map(|handle| handle.join().ok()?.ok()).collect()
            });
            let mut names: Vec<String> = answers
                .iter()
                .flat_map(|answer| answer.items().unwrap_or_default())
                .filter_map(|name| name.as_text().map(str::to_owned))
                .collect();
            names.sort();
            names.dedup();
            names
        })
    }

    /// Waits until every worker has executed the telemetry that it was sent, each at most for a while: at the end
    /// of a run their VMs are about to be stopped.
    pub fn flush_telemetry(&self) {
        std::thread::scope(|scope| {
            for name in &self.inner.workers {
                if let Some(link) = self.inner.agents.get(Role::Worker, name) {
                    // One that does not answer is not waited for any longer.
                    scope.spawn(move || drop(link.ask("flush_telemetry", [], FLUSH_TIMEOUT)));
                }
            }
        });
    }

    /// Tears every node down; what fails is told and changes nothing.
    pub fn tear_down_all(&self) -> Vec<String> {
        (0..self.inner.nodes.len())
            .filter_map(|node| {
                let failed = self.callback("teardown", node, TEARDOWN_TIMEOUT).err()?;
                Some(format!("teardown of {}: {failed}", self.inner.nodes[node]))
            })
            .collect()
    }
}

/// Short names of the client VMs.
pub fn client_names(spec: &Spec) -> Vec<String> {
    (1..=spec.client.count.max(1)).map(|i| format!("c{i}")).collect()
}

fn call(
    link: &Link,
    name: &str,
    node: &str,
    timeout: Duration,
    hope: &dyn Fn() -> bool,
) -> Result<Value, String> {
    let arguments = [Value::sym(name), Value::str(node), Value::Int(timeout.as_millis() as i64)];
    link.ask_while("callback", arguments, timeout + GRACE, hope).map_err(|error| match error {
        RequestError::Refused(text) => text,
        other => other.to_string(),
    })
}

fn init_message(spec: &Spec, seed: u64) -> Vec<(&'static str, Value)> {
    let options =
        spec.client.options.iter().map(|(key, value)| (Value::sym(key), from_json(value)));
    vec![
        ("module", Value::str(&*spec.client.module)),
        ("options", Value::map(options)),
        (
            "placement",
            Value::sym(match spec.placement {
                Placement::Node => "node",
                Placement::Client => "client",
            }),
        ),
        ("seed", i64::try_from(seed).map_or_else(|_| Value::str(seed.to_string()), Value::Int)),
        ("op_timeout_ms", Value::Int(spec.op_timeout_ms as i64)),
        ("workload", Value::str(&*spec.workload.name)),
        ("test", Value::str(&*spec.name)),
    ]
}

/// Options as the BEAM gets them: keys are atoms, strings binaries.
fn from_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::Number(n) => {
            n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or(f64::NAN)), Value::Int)
        }
        serde_json::Value::String(text) => Value::str(&**text),
        serde_json::Value::Array(items) => {
            Value::list(items.iter().map(from_json).collect::<Vec<_>>())
        }
        serde_json::Value::Object(pairs) => {
            Value::map(pairs.iter().map(|(key, value)| (Value::sym(key), from_json(value))))
        }
    }
}
