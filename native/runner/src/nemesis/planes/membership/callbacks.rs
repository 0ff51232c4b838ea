//! The callbacks of `FuzzDist.Membership`, called through the agents: in the node that acts with placement `node`, in
//! the first client VM with placement `client`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::spec::Placement;

use super::System;
use super::machine::{Change, Members, Operation, Outcome};
use crate::agents::{Agents, RequestError, Role};
use crate::directory::NodeDirectory;
use crate::nemesis::planes::Tools;
use crate::observer::short_name;
use crate::request::RunError;
use crate::workers::client_names;

/// The module that calls them and puts what they return into one form.
const MODULE: &str = "Elixir.FuzzDist.Membership";

/// How long a node may take to say who is a member.
const VIEW_TIMEOUT: Duration = Duration::from_secs(6);

/// How long a change may take; then nobody knows what becomes of it.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// How much longer than the agent we wait.
const GRACE: Duration = Duration::from_secs(1);

/// How long the agent that is asked first may take to be there.
const AGENT_PATIENCE: Duration = Duration::from_secs(10);

/// The module of a test.
pub(super) struct Callbacks {
    agents: Arc<Agents>,
    nodes: NodeDirectory,
    /// The VM where all callbacks run, if they do not run in the nodes.
    client: Option<String>,
    module: String,
    changes: Vec<Change>,
}

impl Callbacks {
    /// Asks the module what it can do.
    pub fn open(tools: &Tools) -> Result<Callbacks, RunError> {
        let client = match tools.spec.placement {
            Placement::Node => None,
            Placement::Client => client_names(&tools.spec).into_iter().next(),
        };
        let mut callbacks = Callbacks {
            agents: Arc::clone(&tools.agents),
            nodes: tools.cluster.directory().clone(),
            client,
            module: tools.spec.nemesis.membership.clone(),
            changes: Vec::new(),
        };
        callbacks.changes = callbacks
            .ask_changes()
            .map_err(|reason| RunError::Input(format!("nemesis.membership: {reason}")))?;
        Ok(callbacks)
    }

    fn ask_changes(&self) -> Result<Vec<Change>, String> {
        let first = self.nodes.shorts().into_iter().next().ok_or("there are no nodes")?;
        let vm = self.vm(&first);
        let deadline = Instant::now() + AGENT_PATIENCE;
        drop(self.agents.wait_for(Role::Node, vm, deadline, |_| true));
        let answer = self
            .call(&first, "changes", [], VIEW_TIMEOUT)
            .map_err(|error| format!("{} could not be asked: {error}", self.module))?;
        match answer.items() {
            Some([status, Value::List(names)]) if status.as_text() == Some("ok") => {
                let all = [Change::Join, Change::Leave, Change::Forget];
                let has = |change: &Change| {
                    names.iter().any(|name| name.as_text() == Some(change.name()))
                };
                Ok(all.into_iter().filter(has).collect())
            }
            Some([_, reason]) => {
                Err(reason.as_text().map_or_else(|| reason.to_string(), str::to_owned))
            }
            _ => Err(format!("{} answered {answer}", self.module)),
        }
    }

    /// The VM where a callback about this node runs.
    fn vm<'a>(&'a self, node: &'a str) -> &'a str {
        self.client.as_deref().unwrap_or(node)
    }

    fn full(&self, node: &str) -> Value {
        self.nodes.full(node).map_or_else(|| Value::sym(node), |full| Value::sym(&full))
    }

    fn call(
        &self,
        node: &str,
        function: &str,
        arguments: impl IntoIterator<Item = Value>,
        timeout: Duration,
    ) -> Result<Value, RequestError> {
        let vm = self.vm(node);
        let gone = || RequestError::Gone(vm.to_owned());
        let link = self.agents.get(Role::Node, vm).ok_or_else(gone)?;
        let mut all = vec![Value::str(self.module.as_str())];
        all.extend(arguments);
        let call = [
            Value::sym(MODULE),
            Value::sym(function),
            Value::list(all),
            Value::Int(timeout.as_millis() as i64),
        ];
        link.ask("call", call, timeout + GRACE)
    }
}

impl System for Callbacks {
    fn changes(&self) -> &[Change] {
        &self.changes
    }

    fn members(&self, node: &str) -> Option<Members> {
        let answer = self.call(node, "members", [self.full(node)], VIEW_TIMEOUT).ok()?;
        let [status, Value::List(members)] = answer.items()? else { return None };
        if status.as_text() != Some("ok") {
            return None;
        }
        let names = members.iter().filter_map(Value::as_text).map(short_name);
        let mine = |name: &&str| self.nodes.contains(name);
        Some(names.filter(mine).map(str::to_owned).collect())
    }

    fn change(&self, operation: &Operation) -> Outcome {
        let Operation { change, node, via } = operation;
        let actor = if *change == Change::Forget { via } else { node };
        let vm = self.vm(actor);
        // A node that runs may still be starting. Nobody was asked for anything then.
        if self.agents.get(Role::Node, vm).is_none() {
            return Outcome::Refused(format!("{vm} has no agent yet"));
        }
        let arguments = [Value::sym(change.name()), self.full(node), self.full(via)];
        let answer = match self.call(actor, "change", arguments, CHANGE_TIMEOUT) {
            Ok(answer) => answer,
            Err(error) => return Outcome::Unknown(error.to_string()),
        };
        let Some([kind, reason]) = answer.items() else {
            return Outcome::Unknown(format!("{} answered {answer}", self.module));
        };
        let reason = reason.as_text().unwrap_or_default().to_owned();
        match kind.as_text() {
            Some("ok") => Outcome::Done,
            Some("error") => Outcome::Refused(reason),
            _ => Outcome::Unknown(reason),
        }
    }
}
