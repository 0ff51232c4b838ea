//! All connections and active faults of the VM that has loaded this driver.

use std::collections::HashMap;
use std::io::Result;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::connection::{Connection, lock};
use crate::policy::{Direction, Fault, Kind, Policy};
use crate::stats::{Snapshot, Stats, add};
use crate::sys;

/// Connections whose end is kept from the peer; a fault that lasts for ever must not use up all descriptors.
const UNTOLD_MAX: usize = 64;

/// Whether a connection may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Open,
    /// Not yet.
    Held,
    /// No.
    Refused,
}

/// Shared by ports and the controlling thread.
#[derive(Debug)]
pub struct Registry {
    state: Mutex<State>,
    /// Signalled to have the thread look again.
    wake: RawFd,
    /// Until when the thread sleeps.
    sleep_until_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    faults: Vec<Fault>,
    connections: HashMap<u64, Arc<Connection>>,
    /// Connections that have ended under a fault which keeps the peer from learning of it: the peer and a
    /// descriptor that keeps the end from being told.
    untold: Vec<(String, RawFd)>,
    stats: HashMap<String, Arc<Stats>>,
}

impl State {
    fn policy(&self, peer: &str, direction: Direction) -> Policy {
        Policy::of(self.faults.iter(), peer, direction)
    }

    fn stats(&mut self, peer: &str) -> Arc<Stats> {
        self.stats.entry(peer.to_owned()).or_default().clone()
    }

    /// The faults have changed.
    fn changed(&mut self, now_ns: u64) {
        self.connections.values().for_each(|one| self.set_policies(one, now_ns));
        for (peer, fd) in std::mem::take(&mut self.untold) {
            match self.policy(&peer, Direction::Out).is_silent() {
                true => self.untold.push((peer, fd)),
                false => sys::close(fd),
            }
        }
    }

    fn set_policies(&self, connection: &Connection, now_ns: u64) {
        let outbound = self.policy(&connection.peer, Direction::Out);
        let inbound = self.policy(&connection.peer, Direction::In);
        connection.set_policies(outbound, inbound, now_ns);
    }
}

impl Registry {
    /// Without connections or faults.
    pub fn new() -> Result<Registry> {
        Ok(Registry {
            state: Mutex::default(),
            wake: sys::event()?,
            sleep_until_ns: AtomicU64::new(u64::MAX),
        })
    }

    /// What wakes the thread.
    pub fn wake_fd(&self) -> RawFd {
        self.wake
    }

    /// Has the thread look again if it would sleep past that moment.
    pub fn wake_before(&self, wake_ns: u64) {
        if wake_ns < self.sleep_until_ns.load(Ordering::SeqCst) {
            sys::signal(self.wake);
        }
    }

    /// A new connection, under the faults of the moment.
    pub fn connect(&self, peer: &str, fd: RawFd, event: RawFd) -> Arc<Connection> {
        let mut state = lock(&self.state);
        state.next_id += 1;
        let id = state.next_id;
        let stats = state.stats(peer);
        add(&stats.out.connections, 1);
        add(&stats.inbound.connections, 1);
        let connection = Arc::new(Connection::new(id, peer.to_owned(), fd, event, stats));
        state.connections.insert(id, connection.clone());
        state.set_policies(&connection, sys::monotonic_ns());
        connection
    }

    /// Its port goes. Under a fault that holds everything the peer is told at the heal, as from a network that is
    /// cut.
    pub fn disconnect(&self, connection: &Connection) {
        let mut state = lock(&self.state);
        state.connections.remove(&connection.id);
        // Always closed first: the VM reuses the number of the descriptor, and a thread that still has
        // the connection must not write to what it then belongs to.
        let Some(fd) = connection.close() else { return };
        if state.untold.len() < UNTOLD_MAX {
            state.untold.push((connection.peer.clone(), fd));
        } else {
            sys::close(fd);
        }
    }

    /// Whether a message of the handshake with that node may pass in a direction. `initiator` is `Out` when this
    /// node connects, `In` when the other does; `asked_again` after it had to wait.
    pub fn gate(
        &self,
        peer: &str,
        direction: Direction,
        initiator: Direction,
        asked_again: bool,
    ) -> Gate {
        let mut state = lock(&self.state);
        if state.faults.is_empty() {
            return Gate::Open;
        }
        let refuses = state.policy(peer, initiator).refuse;
        let holds = state.policy(peer, direction).hold;
        let stats = state.stats(peer);
        if refuses {
            add(&stats.of(initiator).connects_refused, 1);
            Gate::Refused
        } else if holds {
            add(&stats.of(direction).connects_held, u64::from(!asked_again));
            Gate::Held
        } else {
            Gate::Open
        }
    }

    /// Begins a fault. One of the same number and owner is replaced.
    pub fn apply(&self, fault: Fault) -> u64 {
        let mut state = lock(&self.state);
        let now_ns = sys::monotonic_ns();
        if matches!(fault.kind, Kind::Close {}) {
            let peers = state.connections.values();
            for connection in
                peers.filter(|one| fault.peer.as_ref().is_none_or(|peer| *peer == one.peer))
            {
                connection.shutdown();
            }
            return now_ns;
        }
        state.faults.retain(|other| (other.owner, other.id) != (fault.owner, fault.id));
        state.faults.push(fault);
        state.changed(now_ns);
        now_ns
    }

    /// Ends the faults that are meant. Returns when, and how many there were.
    pub fn heal(&self, which: impl Fn(&Fault) -> bool) -> (u64, usize) {
        let mut state = lock(&self.state);
        let before = state.faults.len();
        state.faults.retain(|fault| !which(fault));
        let count = before - state.faults.len();
        let now_ns = sys::monotonic_ns();
        if count > 0 {
            state.changed(now_ns);
        }
        (now_ns, count)
    }

    /// When the next fault heals by itself.
    pub fn next_end_ns(&self) -> u64 {
        let state = lock(&self.state);
        state.faults.iter().filter_map(|fault| fault.until_ns).min().unwrap_or(u64::MAX)
    }

    /// Does what is due on every connection; `limit_ns` or earlier is when to come again.
    pub fn attend(&self, limit_ns: u64) -> u64 {
        // Whoever has something to do while this looks wakes us, since we could have looked there already.
        self.sleep_until_ns.store(u64::MAX, Ordering::SeqCst);
        let now_ns = sys::monotonic_ns();
        let connections: Vec<Arc<Connection>> =
            lock(&self.state).connections.values().cloned().collect();
        let wake_ns = connections.iter().map(|one| one.attend(now_ns)).fold(limit_ns, u64::min);
        self.sleep_until_ns.store(wake_ns, Ordering::SeqCst);
        wake_ns
    }

    /// What has happened, by peer and direction, and which peers are connected.
    pub fn snapshot(&self) -> (Vec<Snapshot>, Vec<String>) {
        let state = lock(&self.state);
        let waiting = |peer: &String| -> u64 {
            let of_peer = state.connections.values().filter(|one| one.peer == *peer);
            of_peer.map(|one| one.waiting_bytes()).sum()
        };
        let both = state.stats.iter().map(|(peer, stats)| stats.snapshots(peer, waiting(peer)));
        let mut peers: Vec<Snapshot> = both.flatten().collect();
        peers.sort_by(|a, b| a.peer.cmp(&b.peer));
        let mut connected: Vec<String> =
            state.connections.values().map(|one| one.peer.clone()).collect();
        connected.sort();
        (peers, connected)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        for (_, fd) in std::mem::take(&mut lock(&self.state).untold) {
            sys::close(fd);
        }
        sys::close(self.wake);
    }
}
