//! One connection to an agent: messages out, and requests that wait for their answer.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use fuzz_dist_core::Value;
use fuzz_dist_core::sync::lock;
use tokio::sync::mpsc::UnboundedSender;

use super::Role;
use super::message::{Outgoing, WireOp, tagged};

/// Why a request has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// The connection ended first.
    #[error("the connection to {0} ended")]
    Gone(String),
    /// It took too long.
    #[error("{name} did not answer within {timeout_ms} ms")]
    Timeout {
        /// Which agent.
        name: String,
        /// How long was waited.
        timeout_ms: u128,
    },
    /// The agent answered that it failed.
    #[error("{0}")]
    Refused(String),
}

/// A connection to an agent. Methods may be called from any thread; none blocks but `request`.
#[derive(Debug)]
pub struct Link {
    role: Role,
    name: String,
    hello: Value,
    outgoing: Mutex<Option<UnboundedSender<Outgoing>>>,
    alive: AtomicBool,
    next_id: AtomicU64,
    waiting: Mutex<HashMap<i64, SyncSender<Value>>>,
}

impl Link {
    pub(super) fn new(
        role: Role,
        hello: &Value,
        outgoing: UnboundedSender<Outgoing>,
    ) -> Option<Link> {
        Some(Link {
            role,
            name: hello.get("name")?.as_text()?.to_owned(),
            hello: hello.clone(),
            outgoing: Mutex::new(Some(outgoing)),
            alive: AtomicBool::new(true),
            next_id: AtomicU64::new(1),
            waiting: Mutex::default(),
        })
    }

    /// Short name of the node or client VM.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The full name of its node, as the VM says.
    pub fn node(&self) -> Option<&str> {
        self.hello.get("node")?.as_text()
    }

    /// The process id of its VM, as the VM says.
    pub fn os_pid(&self) -> Option<u32> {
        u32::try_from(self.hello.get("os_pid")?.as_int()?).ok()
    }

    /// Whether the connection stands.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    fn push(&self, message: Outgoing) -> bool {
        match &*lock(&self.outgoing) {
            Some(sender) => sender.send(message).is_ok(),
            None => false,
        }
    }

    /// Sends a message; false if the connection has ended.
    pub fn send(&self, message: Value) -> bool {
        self.push(Outgoing::Term(message))
    }

    /// Sends a batch of invocations; false if the connection has ended.
    pub fn send_ops(&self, ops: Vec<WireOp>) -> bool {
        self.push(Outgoing::Ops(ops))
    }

    /// Sends `{tag, Id, …}` and waits for the answer with that id; gives its elements after the id.
    pub fn request(
        &self,
        tag: &str,
        arguments: impl IntoIterator<Item = Value>,
        timeout: Duration,
    ) -> Result<Vec<Value>, RequestError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) as i64;
        let (sender, receiver) = sync_channel(1);
        lock(&self.waiting).insert(id, sender);
        let sent = self.send(tagged(tag, std::iter::once(Value::Int(id)).chain(arguments)));
        let answer = if sent && self.is_alive() {
            receiver.recv_timeout(timeout)
        } else {
            Err(RecvTimeoutError::Disconnected)
        };
        lock(&self.waiting).remove(&id);
        match answer {
            Ok(answer) => Ok(answer.items().map(|items| items[2..].to_vec()).unwrap_or_default()),
            Err(RecvTimeoutError::Timeout) => Err(RequestError::Timeout {
                name: self.name.clone(),
                timeout_ms: timeout.as_millis(),
            }),
            Err(RecvTimeoutError::Disconnected) => Err(RequestError::Gone(self.name.clone())),
        }
    }

    /// As [`Link::request`] for answers of the form `{reply, Id, {ok, Value} | {error, Term}}`.
    pub fn ask(
        &self,
        tag: &str,
        arguments: impl IntoIterator<Item = Value>,
        timeout: Duration,
    ) -> Result<Value, RequestError> {
        let answer = self.request(tag, arguments, timeout)?;
        let outcome = answer.first().and_then(Value::items);
        match outcome {
            Some([status, value]) if status.as_text() == Some("ok") => Ok(value.clone()),
            Some([_, Value::Str(text)]) => Err(RequestError::Refused(text.to_string())),
            Some([_, reason]) => Err(RequestError::Refused(reason.to_string())),
            _ => Err(RequestError::Refused("an answer without ok or error".into())),
        }
    }

    /// Hands an answer to whoever waits for it; late answers are dropped.
    pub(super) fn answer(&self, message: &Value) {
        let id = message.items().and_then(|items| items.get(1)).and_then(Value::as_int);
        if let Some(id) = id
            && message.items().is_some_and(|items| items.len() >= 2)
            && let Some(waiting) = lock(&self.waiting).remove(&id)
        {
            // The one who asked may have given up in this moment.
            drop(waiting.try_send(message.clone()));
        }
    }

    /// Ends it: nothing more is sent, and requests under way fail.
    pub fn close(&self) {
        self.alive.store(false, Ordering::Release);
        lock(&self.outgoing).take();
        lock(&self.waiting).clear();
    }
}
