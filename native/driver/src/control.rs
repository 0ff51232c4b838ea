//! How faults are asked for: JSON lines over a Unix socket, answered by a thread of the driver's own, so that it
//! works while every scheduler of the VM stands still.
//!
//! The socket is at the path in `FUZZ_DIST_CARRIER_SOCKET`, or of the abstract name behind an `@`, which needs no file
//! and goes with the VM; without that there is no thread and there are no faults. Only the user of the VM, and root,
//! are listened to.
//! What a connection has asked for heals when it ends, however it ends.
//!
//! ```text
//! {"op":"apply","id":1,"peer":"b@host","direction":"out","fault":{"kind":"hold"},"at_ns":5,"until_ns":9}
//! {"op":"heal","id":1}      {"op":"heal-all"}      {"op":"stats"}
//! ```
//!
//! The answer to `stats` has two entries for each peer, `out` and `in`.
//!
//! `peer` absent means every peer, `direction` is `both` without a word; times are those of the monotonic clock of
//! the system. Answers: `{"id":1,"monotonic_ns":…}`, `{"peers":[…],"connected":[…]}`, `{"error":"…"}`.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde::Deserialize;
use serde_json::json;

use crate::policy::{Direction, Fault, Kind};
use crate::registry::Registry;
use crate::sys;

/// The longest line that is read.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// How long before its time a fault is waited for without sleep, which is only so exact.
const SPIN_NS: u64 = 60_000;
/// How long no connection is accepted after one could not be.
const ACCEPT_PAUSE_NS: u64 = 100_000_000;

/// One request.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
enum Request {
    Apply {
        id: u64,
        #[serde(default)]
        peer: Option<String>,
        #[serde(default)]
        direction: Direction,
        fault: Kind,
        #[serde(default)]
        at_ns: Option<u64>,
        #[serde(default)]
        until_ns: Option<u64>,
    },
    Heal {
        id: u64,
    },
    HealAll,
    Stats,
}

/// Whoever asks.
#[derive(Debug)]
struct Client {
    number: u64,
    stream: UnixStream,
    received: Vec<u8>,
}

/// A fault whose time has not come.
#[derive(Debug)]
struct Pending {
    at_ns: u64,
    fault: Fault,
}

/// The thread, until it is stopped.
#[derive(Debug)]
pub struct Control {
    thread: JoinHandle<()>,
    stopping: Arc<AtomicBool>,
    registry: Arc<Registry>,
    path: PathBuf,
}

impl Control {
    /// Listens at a path.
    pub fn start(path: &Path, registry: Arc<Registry>) -> std::io::Result<Control> {
        let listener = bind(path)?;
        listener.set_nonblocking(true)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let mut serving = Serving {
            registry: registry.clone(),
            stopping: stopping.clone(),
            listener,
            clients: Vec::new(),
            pending: Vec::new(),
            next_client: 0,
            accept_from_ns: 0,
        };
        let mask = sys::block_signals();
        let thread = std::thread::Builder::new()
            .name("fuzz_dist_carrier".into())
            .spawn(move || serving.run());
        sys::restore_signals(&mask);
        Ok(Control { thread: thread?, stopping, registry, path: path.to_owned() })
    }

    /// Ends the thread and waits for it.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        sys::signal(self.registry.wake_fd());
        let _ = self.thread.join();
        let _ = std::fs::remove_file(&self.path);
    }
}

#[derive(Debug)]
struct Serving {
    registry: Arc<Registry>,
    stopping: Arc<AtomicBool>,
    listener: UnixListener,
    clients: Vec<Client>,
    pending: Vec<Pending>,
    next_client: u64,
    /// No connection is accepted before: the VM has run out of descriptors.
    accept_from_ns: u64,
}

impl Serving {
    fn run(&mut self) {
        while !self.stopping.load(Ordering::SeqCst) {
            let limit_ns = self.on_time();
            let wake_ns = self.registry.attend(limit_ns);
            self.sleep(wake_ns);
        }
    }

    /// Begins and ends what is due; returns when the next is.
    fn on_time(&mut self) -> u64 {
        let now_ns = sys::monotonic_ns();
        if self.registry.next_end_ns() <= now_ns {
            self.registry.heal(|fault| fault.until_ns.is_some_and(|until_ns| until_ns <= now_ns));
        }
        let mut at = 0;
        while at < self.pending.len() {
            if self.pending[at].at_ns > now_ns + SPIN_NS {
                at += 1;
                continue;
            }
            let pending = self.pending.swap_remove(at);
            while sys::monotonic_ns() < pending.at_ns {
                std::hint::spin_loop();
            }
            self.apply(pending.fault);
        }
        let starts = self.pending.iter().map(|one| one.at_ns.saturating_sub(SPIN_NS));
        starts.fold(self.registry.next_end_ns(), u64::min)
    }

    fn apply(&mut self, fault: Fault) {
        let (id, owner) = (fault.id, fault.owner);
        let applied_ns = self.registry.apply(fault);
        self.answer(owner, &json!({ "id": id, "monotonic_ns": applied_ns }));
    }

    fn sleep(&mut self, wake_ns: u64) {
        let now_ns = sys::monotonic_ns();
        let accepts = self.accept_from_ns <= now_ns;
        let wake_ns = if accepts { wake_ns } else { wake_ns.min(self.accept_from_ns) };
        let wait_ns = wake_ns.saturating_sub(now_ns);
        // The kernel passes over a negative descriptor.
        let listener = if accepts { self.listener.as_raw_fd() } else { -1 };
        let mut watched = vec![self.registry.wake_fd(), listener];
        watched.extend(self.clients.iter().map(|client| client.stream.as_raw_fd()));
        let ready = poll(&watched, wait_ns);
        if ready[0] {
            sys::take_signal(self.registry.wake_fd());
        }
        for at in (0..self.clients.len()).rev() {
            if ready[at + 2] && !self.serve(at) {
                let client = self.clients.swap_remove(at);
                self.pending.retain(|pending| pending.fault.owner != client.number);
                self.registry.heal(|fault| fault.owner == client.number);
            }
        }
        if ready[1] {
            self.accept();
        }
    }

    fn accept(&mut self) {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            // The connection stays in the queue and would be reported at once, again and again.
            Err(_) => {
                self.accept_from_ns = sys::monotonic_ns() + ACCEPT_PAUSE_NS;
                return;
            }
        };
        if sys::is_ours(stream.as_raw_fd()) && stream.set_nonblocking(true).is_ok() {
            self.next_client += 1;
            self.clients.push(Client { number: self.next_client, stream, received: Vec::new() });
        }
    }

    /// Answers what a client has asked. False when it is gone.
    fn serve(&mut self, at: usize) -> bool {
        let mut bytes = [0u8; 4096];
        let client = &mut self.clients[at];
        match client.stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(count) => client.received.extend_from_slice(&bytes[..count]),
            Err(error) => return sys::would_block(&error),
        }
        let number = client.number;
        while let Some(end) = self.clients[at].received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.clients[at].received.drain(..=end).collect();
            if let Some(answer) = self.request(&line[..end], number) {
                self.answer(number, &answer);
            }
        }
        self.clients[at].received.len() <= LINE_BYTES_MAX
    }

    /// Does what a line asks; the answer to a fault that is for later comes later.
    fn request(&mut self, line: &[u8], owner: u64) -> Option<serde_json::Value> {
        let request = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => return Some(json!({ "error": format!("not understood: {error}") })),
        };
        match request {
            Request::Apply { id, peer, direction, fault: kind, at_ns, until_ns } => {
                if let Some(problem) = kind.problem() {
                    return Some(json!({ "id": id, "error": problem }));
                }
                let fault = Fault { id, peer, direction, kind, owner, until_ns };
                match at_ns {
                    Some(at_ns) => self.pending.push(Pending { at_ns, fault }),
                    None => self.apply(fault),
                }
                None
            }
            Request::Heal { id } => {
                let mine = |fault: &Fault| (fault.owner, fault.id) == (owner, id);
                self.pending.retain(|pending| !mine(&pending.fault));
                let (healed_ns, _) = self.registry.heal(mine);
                Some(json!({ "id": id, "monotonic_ns": healed_ns }))
            }
            Request::HealAll => {
                self.pending.retain(|pending| pending.fault.owner != owner);
                let (healed_ns, count) = self.registry.heal(|fault| fault.owner == owner);
                Some(json!({ "monotonic_ns": healed_ns, "healed": count }))
            }
            Request::Stats => {
                let (peers, connected) = self.registry.snapshot();
                Some(json!({ "peers": peers, "connected": connected }))
            }
        }
    }

    /// Answers a client that is still there. One that does not read its answers is disconnected, which heals
    /// its faults: what follows the first part of an answer could not be understood.
    fn answer(&mut self, number: u64, answer: &serde_json::Value) {
        let line = format!("{answer}\n");
        if let Some(client) = self.clients.iter_mut().find(|client| client.number == number)
            && client.stream.write_all(line.as_bytes()).is_err()
        {
            let _ = client.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Listens at a path, or at an abstract name.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(name) = path.as_os_str().as_bytes().strip_prefix(b"@") {
        return UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?);
    }
    // What an earlier VM has left: it listens no more, or this one could not have been started in its place.
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path)
}

/// Waits for one of them, at most so long. Which are ready.
fn poll(watched: &[RawFd], wait_ns: u64) -> Vec<bool> {
    let mut polled: Vec<libc::pollfd> = watched
        .iter()
        .map(|fd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 })
        .collect();
    let timeout = libc::timespec {
        tv_sec: (wait_ns / 1_000_000_000).min(3600) as _,
        tv_nsec: (wait_ns % 1_000_000_000) as _,
    };
    // SAFETY: both point to memory of that size which lives during the call.
    unsafe { libc::ppoll(polled.as_mut_ptr(), polled.len() as _, &timeout, std::ptr::null()) };
    polled.iter().map(|one| one.revents != 0).collect()
}
