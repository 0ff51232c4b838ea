//! Which worker performs the operations of which thread, and what waits to be sent to it.
//!
//! A worker is initialised in a thread of its own (it may have to start an application), so that a node
//! that comes back from the dead does not hold up the others.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use fuzz_dist_core::sync::lock;
use fuzz_dist_core::{Sym, Value};

use crate::agents::Link;
use crate::agents::message::WireOp;

/// Initialises a worker that has just connected; `Err` says why it cannot be used.
pub type Initialise = Arc<dyn Fn(&Link) -> Result<(), String> + Send + Sync>;

/// Which threads belong to which workers and nodes.
pub struct Placing {
    /// Names of the workers: nodes, or client VMs.
    pub workers: Vec<String>,
    /// Short names of the nodes; thread t performs its operations on node t mod count.
    pub nodes: Vec<String>,
    /// Makes a worker ready for operations.
    pub initialise: Initialise,
}

impl std::fmt::Debug for Placing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Placing")
            .field("workers", &self.workers)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

/// A worker's name, and whether it can be used.
pub type WorkerReady = (String, Result<(), String>);

/// A connection, and how its initialisation ended.
type Initialised = (Arc<Link>, Result<(), String>);

/// One worker.
#[derive(Debug)]
pub(super) struct Slot {
    name: String,
    link: Option<Arc<Link>>,
    controls: Vec<Value>,
    operations: Vec<WireOp>,
}

impl Slot {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Tells connections of the same worker apart; `None` when there is none.
    pub(super) fn connection(&self) -> Option<usize> {
        self.link.as_ref().map(|link| Arc::as_ptr(link) as usize)
    }

    /// A message that goes before the operations given after it.
    pub(super) fn control(&mut self, message: Value) {
        self.controls.push(message);
    }

    pub(super) fn operation(&mut self, op: WireOp) {
        self.operations.push(op);
    }

    /// All controls of a turn go first: a `kill` or `open` never concerns an operation of the same
    /// turn that was given earlier, since a thread has one operation at a time.
    fn flush(&mut self) {
        let Some(link) = &self.link else {
            self.controls.clear();
            self.operations.clear();
            return;
        };
        for message in self.controls.drain(..) {
            link.send(message);
        }
        if !self.operations.is_empty() {
            let capacity = self.operations.len();
            let batch = std::mem::replace(&mut self.operations, Vec::with_capacity(capacity));
            link.send_ops(batch);
        }
    }
}

/// All workers.
#[derive(Debug)]
pub(super) struct Slots {
    placing: Placing,
    node_syms: Vec<Sym>,
    slots: Vec<Slot>,
    ready: (Sender<Initialised>, Receiver<Initialised>),
    live: Arc<Mutex<Vec<Arc<Link>>>>,
}

impl Slots {
    pub(super) fn new(placing: Placing) -> Slots {
        let slots = placing
            .workers
            .iter()
            .map(|name| Slot {
                name: name.clone(),
                link: None,
                controls: Vec::new(),
                operations: Vec::new(),
            })
            .collect();
        let node_syms = placing.nodes.iter().map(|name| Sym::new(name)).collect();
        Slots { placing, node_syms, slots, ready: channel(), live: Arc::default() }
    }

    pub(super) fn node_of(&self, thread: u32) -> Sym {
        self.node_syms[thread as usize % self.node_syms.len()]
    }

    /// The node in which a worker is; none of a client VM.
    pub(super) fn node_named(&self, worker: &str) -> Option<Sym> {
        self.node_syms.iter().find(|node| node.as_str() == worker).copied()
    }

    pub(super) fn of_thread(&mut self, thread: u32) -> &mut Slot {
        let count = self.slots.len();
        &mut self.slots[thread as usize % count]
    }

    /// Whether this is the connection that performs the operations of a thread.
    pub(super) fn is_of(&self, thread: u32, link: &Arc<Link>) -> bool {
        let slot = self.slots.get(thread as usize % self.slots.len());
        let current = slot.and_then(|slot| slot.link.as_ref());
        current.is_some_and(|current| Arc::ptr_eq(current, link))
    }

    /// The threads of the worker of that name.
    pub(super) fn threads_of(&self, name: &str, thread_count: usize) -> Vec<u32> {
        let count = self.slots.len();
        match self.slots.iter().position(|slot| slot.name == name) {
            Some(first) => (first..thread_count).step_by(count).map(|t| t as u32).collect(),
            None => Vec::new(),
        }
    }

    /// The connection in use of the worker that has just come over another one: it has lost that one, whose end may
    /// be told later.
    pub(super) fn replaced_by(&self, link: &Arc<Link>) -> Option<Arc<Link>> {
        let slot = self.slots.iter().find(|slot| slot.name == link.name())?;
        slot.link.clone().filter(|current| !Arc::ptr_eq(current, link))
    }

    /// Workers without an initialised connection.
    pub(super) fn missing(&self) -> Vec<String> {
        self.slots.iter().filter(|slot| slot.link.is_none()).map(|s| s.name.clone()).collect()
    }

    pub(super) fn initialise(&self, link: &Arc<Link>) {
        let (link, done) = (Arc::clone(link), self.ready.0.clone());
        let initialise = Arc::clone(&self.placing.initialise);
        std::thread::spawn(move || {
            let outcome = initialise(&link);
            // The run may have ended meanwhile.
            drop(done.send((link, outcome)));
        });
    }

    /// Takes the workers whose initialisation has ended into use.
    pub(super) fn take_ready(&mut self) -> Vec<WorkerReady> {
        let mut ended = Vec::new();
        while let Ok((link, outcome)) = self.ready.1.try_recv() {
            let name = link.name().to_owned();
            if !link.is_alive() {
                continue;
            }
            if outcome.is_ok()
                && let Some(slot) = self.slots.iter_mut().find(|slot| slot.name == name)
            {
                slot.link = Some(Arc::clone(&link));
                self.live().push(link);
            }
            ended.push((name, outcome));
        }
        ended
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Link>>> {
        lock(&self.live)
    }

    /// Forgets a connection that has ended; false if it was not in use.
    pub(super) fn down(&mut self, link: &Arc<Link>) -> bool {
        self.live().retain(|other| !Arc::ptr_eq(other, link));
        match self
            .slots
            .iter_mut()
            .find(|slot| slot.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)))
        {
            Some(slot) => {
                slot.link = None;
                slot.controls.clear();
                slot.operations.clear();
                true
            }
            None => false,
        }
    }

    pub(super) fn flush(&mut self) {
        for slot in &mut self.slots {
            slot.flush();
        }
    }

    pub(super) fn broadcaster(&self) -> Broadcaster {
        Broadcaster { live: Arc::clone(&self.live) }
    }
}

/// Sends to every worker in use, from any thread.
#[derive(Debug, Clone)]
pub struct Broadcaster {
    live: Arc<Mutex<Vec<Arc<Link>>>>,
}

impl Broadcaster {
    /// Sends to every worker in use.
    pub fn send(&self, message: &Value) {
        for link in lock(&self.live).iter() {
            link.send(message.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::agents::link::tests::link;
    use std::time::{Duration, Instant};

    #[test]
    fn a_worker_that_comes_over_another_connection_has_lost_the_first() {
        let name = || vec!["n1".to_owned()];
        let placing = Placing { workers: name(), nodes: name(), initialise: Arc::new(|_| Ok(())) };
        let mut slots = Slots::new(placing);
        let ((first, _a), (second, _b)) = (link("n1", 8), link("n1", 8));
        let (first, second) = (Arc::new(first), Arc::new(second));
        let take_into_use = |slots: &mut Slots, link: &Arc<Link>| {
            slots.initialise(link);
            let deadline = Instant::now() + Duration::from_secs(60);
            while slots.take_ready().is_empty() {
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            }
        };
        assert!(slots.replaced_by(&first).is_none());
        take_into_use(&mut slots, &first);
        assert!(slots.replaced_by(&first).is_none(), "it is the same");
        // The second comes before the end of the first is told.
        let lost = slots.replaced_by(&second).unwrap();
        assert!(Arc::ptr_eq(&lost, &first) && slots.down(&lost));
        assert_eq!(slots.missing(), ["n1"]);
        take_into_use(&mut slots, &second);
        assert!(!slots.down(&first), "the end of the first concerns nobody any more");
        assert!(slots.missing().is_empty());
    }
}
