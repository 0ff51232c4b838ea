//! How a node's life ends from inside, and as whom it begins its next one.
//!
//! `init:stop`, `erlang:halt` and a crash are asked of the node by its agent: no signal does the same. An
//! [`Alias`] is another host part or cookie with which the node is started until it is taken away.

use std::collections::HashMap;
use std::time::Duration;

use fuzz_dist_core::Value;
use fuzz_dist_core::clock;
use fuzz_dist_core::sync::lock;

use super::launch::Place;
use super::{Cluster, Inner};
use crate::agents::message::tagged;
use crate::request::RunError;

/// How long a node may take to answer a question about itself.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

/// As whom a node is started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alias {
    /// The host part of its name; its own when absent.
    pub host: Option<String>,
    /// Its cookie; that of the cluster when absent.
    pub cookie: Option<String>,
}

/// A string as Erlang's older functions want it.
fn charlist(text: &str) -> Value {
    Value::list(text.chars().map(|c| Value::Int(i64::from(u32::from(c)))).collect::<Vec<_>>())
}

impl Cluster {
    /// `init:stop/0`; `CLOCK_MONOTONIC` right after it was asked for.
    pub fn stop_from_inside(&self, node: &str) -> Result<u64, RunError> {
        self.inner.end_by(node, "init", "stop", Vec::new())
    }

    /// `erlang:halt/2`; `CLOCK_MONOTONIC` right after it was asked for.
    pub fn halt(&self, node: &str, flush: bool) -> Result<u64, RunError> {
        let flush = Value::tuple(vec![Value::sym("flush"), Value::Bool(flush)]);
        let arguments = vec![Value::Int(0), Value::list(vec![flush])];
        self.inner.end_by(node, "erlang", "halt", arguments)
    }

    /// Lets the VM crash with this slogan and write its dump, for as long as it takes, to `dump`; a named pipe
    /// makes it wait for a reader.
    pub fn crash(&self, node: &str, slogan: &str, dump: &str) -> Result<u64, RunError> {
        for (variable, value) in [("ERL_CRASH_DUMP", dump), ("ERL_CRASH_DUMP_SECONDS", "-1")] {
            let arguments = vec![charlist(variable), charlist(value)];
            self.inner.ask(node, "os", "putenv", arguments)?;
        }
        self.inner.end_by(node, "erlang", "halt", vec![charlist(slogan)])
    }

    /// The creation of a node: the number that tells its lives apart in pids and references.
    pub fn creation(&self, node: &str) -> Option<i64> {
        let arguments = vec![Value::sym("creation")];
        self.inner.ask(node, "erlang", "system_info", arguments).ok()?.as_int()
    }

    /// As whom the node is started from now on; as itself when absent.
    pub fn set_alias(&self, node: &str, alias: Option<Alias>) {
        let mut aliases: std::sync::MutexGuard<'_, HashMap<String, Alias>> =
            lock(&self.inner.aliases);
        match alias {
            Some(alias) => aliases.insert(node.to_owned(), alias),
            None => aliases.remove(node),
        };
        drop(aliases);
        if let Some(full_name) = self.full_name(node) {
            self.inner.directory.rename(node, &full_name);
        }
    }

    /// Nodes that are started as somebody else.
    pub fn aliased(&self) -> Vec<String> {
        lock(&self.inner.aliases).keys().cloned().collect()
    }

    /// The full name with which a node is started now.
    pub fn full_name(&self, node: &str) -> Option<String> {
        let place = self.inner.place(node).ok()?;
        Some(self.inner.dressed(place).full_name())
    }

    /// As [`Cluster::start`], but a node that is up is left as it is. A node that was asked to end counts as
    /// down.
    pub fn start_if_down(&self, node: &str) -> Result<u64, RunError> {
        let ending = self.inner.vm(node).is_some_and(|vm| vm.ending);
        if self.is_up(node) && !ending {
            return Ok(clock::monotonic_ns());
        }
        self.start(node)
    }
}

impl Inner {
    /// The place with the name and cookie of the node's alias.
    pub(super) fn dressed(&self, place: &Place) -> Place {
        let mut place = place.clone();
        if let Some(alias) = lock(&self.aliases).get(&place.short) {
            place.host = alias.host.clone().unwrap_or(place.host);
            place.cookie.clone_from(&alias.cookie);
        }
        place
    }

    fn ask(
        &self,
        node: &str,
        module: &str,
        function: &str,
        arguments: Vec<Value>,
    ) -> Result<Value, RunError> {
        let agent = self.agent(node).ok_or_else(|| no_agent(node))?;
        let timeout_ms = Value::Int(ASK_TIMEOUT.as_millis() as i64);
        let call = [Value::sym(module), Value::sym(function), Value::list(arguments), timeout_ms];
        agent.ask("call", call, ASK_TIMEOUT).map_err(|error| RunError::Internal(error.to_string()))
    }

    /// Calls what ends the VM, which therefore gives no answer.
    fn end_by(
        &self,
        node: &str,
        module: &str,
        function: &str,
        arguments: Vec<Value>,
    ) -> Result<u64, RunError> {
        let agent = self.agent(node).ok_or_else(|| no_agent(node))?;
        let timeout_ms = Value::Int(ASK_TIMEOUT.as_millis() as i64);
        let arguments = Value::list(arguments);
        let call = [Value::Int(0), Value::sym(module), Value::sym(function), arguments, timeout_ms];
        // Before it is asked: its end may be noticed at once.
        self.set_ending(node, true);
        if !agent.send(tagged("call", call)) {
            self.set_ending(node, false);
            return Err(no_agent(node));
        }
        Ok(clock::monotonic_ns())
    }
}

fn no_agent(node: &str) -> RunError {
    RunError::Internal(format!("{node} has no agent that could be asked: it is down, or starting"))
}
