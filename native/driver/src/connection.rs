//! A connection as the port, which belongs to the VM, and the thread of the driver share it.

use std::io::Result;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::outbound::Outbound;
use crate::policy::Policy;
use crate::stats::{Stats, add};
use crate::sys;

/// What a thread can do to a connection while the VM stands still: write, and leave word for the port.
#[derive(Debug)]
pub struct Connection {
    /// Its number among all of this driver.
    pub id: u64,
    /// The name of the node at the other end.
    pub peer: String,
    /// What has happened to it.
    pub stats: Arc<Stats>,
    out: Mutex<Half>,
    inbound_policy: Mutex<Policy>,
    inbound_wake_ns: AtomicU64,
    is_busy: AtomicBool,
}

/// The sending half, as long as the port has its descriptors.
#[derive(Debug)]
pub struct Half {
    /// What is sent.
    pub outbound: Outbound,
    /// Signalled to have a callback of the port run.
    event: RawFd,
    /// The port is gone, and the descriptors may be those of others.
    is_closed: bool,
}

/// A lock whose holder cannot have left it half changed: none of them runs code that panics.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Over a socket, with the event that its port listens to.
    pub fn new(id: u64, peer: String, fd: RawFd, event: RawFd, stats: Arc<Stats>) -> Connection {
        let outbound = Outbound::new(fd, stats.clone());
        Connection {
            id,
            peer,
            stats,
            out: Mutex::new(Half { outbound, event, is_closed: false }),
            inbound_policy: Mutex::new(Policy::default()),
            inbound_wake_ns: AtomicU64::new(u64::MAX),
            is_busy: AtomicBool::new(false),
        }
    }

    /// The sending half.
    pub fn out(&self) -> MutexGuard<'_, Half> {
        lock(&self.out)
    }

    /// What the port was last told of being busy.
    pub fn is_busy(&self) -> &AtomicBool {
        &self.is_busy
    }

    /// What happens to what is received.
    pub fn inbound_policy(&self) -> Policy {
        *lock(&self.inbound_policy)
    }

    /// The port goes: nobody uses the descriptors any more. If the peer must not learn of it yet, this returns one
    /// that keeps the connection open.
    pub fn close(&self) -> Option<RawFd> {
        let mut half = self.out();
        half.is_closed = true;
        match half.outbound.is_silent() {
            true => sys::duplicate(half.outbound.fd).ok(),
            false => None,
        }
    }

    /// What happens to bytes from now on. Writes what may leave, and has the port look.
    pub fn set_policies(&self, outbound: Policy, inbound: Policy, now_ns: u64) {
        *lock(&self.inbound_policy) = inbound;
        let mut half = self.out();
        if half.is_closed {
            return;
        }
        half.outbound.set_policy(outbound, now_ns);
        // If the socket has failed, the port will find out.
        let _ = half.outbound.pump(now_ns);
        sys::signal(half.event);
    }

    /// Both ends see a close.
    pub fn shutdown(&self) {
        let half = self.out();
        if !half.is_closed {
            add(&self.stats.out.closed, 1);
            add(&self.stats.inbound.closed, 1);
            sys::shutdown(half.outbound.fd);
        }
    }

    /// Bytes that could be read if a fault did not forbid it.
    pub fn waiting_bytes(&self) -> u64 {
        if !self.inbound_policy().is_silent() {
            return 0;
        }
        let half = self.out();
        if half.is_closed { 0 } else { sys::readable_bytes(half.outbound.fd) }
    }

    /// The port says when what it has received is to be looked at.
    pub fn set_inbound_wake_ns(&self, wake_ns: u64) {
        self.inbound_wake_ns.store(wake_ns, Ordering::Relaxed);
    }

    /// Does what is due, and says when there is something again.
    pub fn attend(&self, now_ns: u64) -> u64 {
        let mut half = self.out();
        if half.is_closed {
            return u64::MAX;
        }
        let mut inbound_ns = self.inbound_wake_ns.load(Ordering::Relaxed);
        if inbound_ns <= now_ns {
            inbound_ns = u64::MAX;
            self.inbound_wake_ns.store(u64::MAX, Ordering::Relaxed);
            sys::signal(half.event);
        }
        if half.outbound.wake_ns(now_ns) <= now_ns {
            let _ = half.outbound.pump(now_ns);
            let is_busy = self.is_busy.load(Ordering::Relaxed);
            if half.outbound.blocked || half.outbound.wants_busy(is_busy) != is_busy {
                sys::signal(half.event);
            }
        }
        half.outbound.wake_ns(now_ns).min(inbound_ns)
    }
}

impl Half {
    /// Writes what may leave now.
    pub fn pump(&mut self, now_ns: u64) -> Result<()> {
        self.outbound.pump(now_ns)
    }
}
