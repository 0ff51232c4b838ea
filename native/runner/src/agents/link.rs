//! One connection to an agent: messages out, and requests that wait for their answer.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::sync::lock;
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

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

/// How often a wait for an answer looks whether there is still hope for one.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A connection to an agent. Methods may be called from any thread; none blocks but `request`.
#[derive(Debug)]
pub struct Link {
    role: Role,
    name: String,
    hello: Value,
    outgoing: Mutex<Option<Sender<Outgoing>>>,
    alive: AtomicBool,
    closed: Notify,
    next_id: AtomicU64,
    waiting: Mutex<HashMap<i64, SyncSender<Value>>>,
}

impl Link {
    pub(super) fn new(role: Role, hello: &Value, outgoing: Sender<Outgoing>) -> Option<Link> {
        Some(Link {
            role,
            name: hello.get("name")?.as_text()?.to_owned(),
            hello: hello.clone(),
            outgoing: Mutex::new(Some(outgoing)),
            alive: AtomicBool::new(true),
            closed: Notify::new(),
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
        let sent = match &*lock(&self.outgoing) {
            Some(sender) => sender.try_send(message),
            None => return false,
        };
        if matches!(sent, Err(TrySendError::Full(_))) {
            // It does not read. What waits for its answers is told at once.
            self.close();
        }
        sent.is_ok()
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
        self.request_while(tag, arguments, timeout, &|| true)
    }

    /// As [`Link::request`], but the connection counts as ended once `hope` is false.
    fn request_while(
        &self,
        tag: &str,
        arguments: impl IntoIterator<Item = Value>,
        timeout: Duration,
        hope: &dyn Fn() -> bool,
    ) -> Result<Vec<Value>, RequestError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) as i64;
        let (sender, receiver) = sync_channel(1);
        lock(&self.waiting).insert(id, sender);
        let sent = self.send(tagged(tag, std::iter::once(Value::Int(id)).chain(arguments)));
        let answer = if sent && self.is_alive() {
            receive_while(&receiver, timeout, hope)
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
        self.ask_while(tag, arguments, timeout, &|| true)
    }

    /// As [`Link::ask`], but the connection counts as ended once `hope` is false: what is asked may wait for
    /// something that cannot happen any more.
    pub fn ask_while(
        &self,
        tag: &str,
        arguments: impl IntoIterator<Item = Value>,
        timeout: Duration,
        hope: &dyn Fn() -> bool,
    ) -> Result<Value, RequestError> {
        let answer = self.request_while(tag, arguments, timeout, hope)?;
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

    /// Waits until it is closed.
    pub(super) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Ends it: nothing more is sent, and requests under way fail.
    pub fn close(&self) {
        self.alive.store(false, Ordering::Release);
        self.closed.notify_one();
        lock(&self.outgoing).take();
        lock(&self.waiting).clear();
    }
}

/// The answer, unless time or hope runs out before it comes.
fn receive_while(
    receiver: &Receiver<Value>,
    timeout: Duration,
    hope: &dyn Fn() -> bool,
) -> Result<Value, RecvTimeoutError> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left.min(LOOK_EVERY)) {
            Err(RecvTimeoutError::Timeout) if left <= LOOK_EVERY => {
                return Err(RecvTimeoutError::Timeout);
            }
            Err(RecvTimeoutError::Timeout) if !hope() => {
                return Err(RecvTimeoutError::Disconnected);
            }
            Err(RecvTimeoutError::Timeout) => {}
            received => return received,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use tokio::sync::mpsc::channel;

    /// A connection of a worker to nobody that takes so many messages.
    pub(crate) fn link(
        name: &str,
        capacity: usize,
    ) -> (Link, tokio::sync::mpsc::Receiver<Outgoing>) {
        let (sender, outgoing) = channel(capacity);
        let hello = Value::map([(Value::sym("name"), Value::str(name))]);
        (Link::new(Role::Worker, &hello, sender).unwrap(), outgoing)
    }

    #[test]
    fn an_agent_that_does_not_read_is_cut_off_and_keeps_nothing_waiting() {
        let (link, _outgoing) = link("n1", 3);
        assert!((0..3).all(|_| link.send(Value::Nil)) && link.is_alive());
        assert!(!link.send(Value::Nil));
        assert!(!link.is_alive());
        let asked = Instant::now();
        let answer = link.request("ping", [], Duration::from_secs(60));
        assert!(matches!(answer, Err(RequestError::Gone(_))), "{answer:?}");
        assert!(asked.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_request_ends_when_there_is_no_hope_for_an_answer() {
        let (link, _outgoing) = link("n1", 3);
        let asked = Instant::now();
        let hopeless = link.ask_while("callback", [], Duration::from_secs(60), &|| false);
        assert!(matches!(hopeless, Err(RequestError::Gone(_))), "{hopeless:?}");
        assert!(asked.elapsed() < Duration::from_secs(30));
        let late = link.request("ping", [], Duration::from_millis(1));
        assert!(matches!(late, Err(RequestError::Timeout { .. })), "{late:?}");
    }
}
