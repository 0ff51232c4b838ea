//! The lock between whoever changes the policy of a direction and the pump that moves its bytes.
//!
//! A pump holds the lock from reading the policy until the kernel has taken the bytes (a non-blocking
//! send), so once a change has returned, no byte passes that the new policy forbids. That is what makes
//! the time of an application exact.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use fuzz_dist_core::sync::lock;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::policy::Policy;

/// What a pump does with its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Passes them, as the policy says.
    Forward,
    /// Reads and discards them until the source closes.
    Swallow,
    /// Stops at once.
    Stopped,
}

/// What the gate guards.
#[derive(Debug, Clone, Copy)]
pub struct Orders {
    pub policy: Policy,
    pub flow: Flow,
}

/// The gate of one direction of one connection.
#[derive(Debug)]
pub struct Gate {
    orders: Mutex<Orders>,
    /// Changes that wait for the lock: the pump lets them go first, since the lock is not fair.
    changes_waiting: AtomicU32,
    wake: EventFd,
}

impl Gate {
    /// A gate with this policy.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new(policy: Policy) -> io::Result<Gate> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Gate {
            orders: Mutex::new(Orders { policy, flow: Flow::Forward }),
            changes_waiting: AtomicU32::new(0),
            wake: EventFd::from_flags(flags)?,
        })
    }

    /// Changes the orders; they are in force when this returns.
    pub fn change(&self, change: impl FnOnce(&mut Orders)) {
        self.changes_waiting.fetch_add(1, Ordering::SeqCst);
        change(&mut lock(&self.orders));
        self.changes_waiting.fetch_sub(1, Ordering::SeqCst);
        // Fails only when the counter is full, and then the pump is awake anyway.
        let _ = self.wake.write(1);
    }

    /// For the pump: the orders, unchanged for as long as the guard lives.
    pub fn enter(&self) -> MutexGuard<'_, Orders> {
        while self.changes_waiting.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
        lock(&self.orders)
    }

    /// Becomes readable when the orders change.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.wake.as_fd()
    }

    /// Makes [`Gate::wake_fd`] unreadable until the next change.
    pub fn clear_wake(&self) {
        let _ = self.wake.read();
    }
}
