//! One connection between two nodes through the plane, and what faults do to it.
//!
//! A connection exists from the moment its opener is accepted. While the link from the opener to the
//! target is held, the target hears nothing of it (as if the first packet were lost); when the link
//! passes, the plane connects to the target and starts the two pumps.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fuzz_dist_core::clock::monotonic_ns;
use fuzz_dist_core::sync::lock;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::time::{TimeSpec, TimeValLike};
use socket2::SockRef;

use super::DIST_CHANNEL;
use super::capture::{self as tap, Capture, Tap};
use super::counters::Counters;
use super::framing::Writer;
use super::gate::{Flow, Gate};
use super::policy::Policy;
use super::protocol::FaultId;
use super::pump::{CHUNK_LEN, Pump};
use super::queue::{End, FORGE_EVERY_NS, next_attempt_ns};
use super::registry::Plane;

/// How long the target may take to accept; on loopback the kernel answers at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A pump that waits for bytes of a silent source looks that often whether it is to forge ticks.
const READ_TIMEOUT: Duration = Duration::from_nanos(FORGE_EVERY_NS / 2);
/// After this time TCP sends the first packet of a connection again; then after twice that.
const SYN_RETRANSMIT_NS: u64 = 1_000_000_000;
/// Stack of the threads of a connection; their buffers are on the heap.
const STACK_LEN: usize = 256 * 1024;

/// What all connections have in common.
#[derive(Debug, Clone, Default)]
pub struct Tapping {
    /// Whether nodes are kept from using atom cache and fragments.
    pub plain_messages: bool,
    /// Where what crosses links is written to.
    pub capture: Option<Arc<Capture>>,
}

/// Which way bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From who opened the connection.
    Forward,
    /// Towards who opened it.
    Backward,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// Its number.
    pub id: u64,
    /// Who opened it.
    pub source: String,
    /// To whom.
    pub target: String,
    /// `dist` or the name of a port.
    pub channel: String,
    /// Whether its ends are kept from using atom cache and fragments.
    pub plain_messages: bool,
    /// Where what crosses it is written to.
    pub capture: Option<Arc<Capture>>,
    /// How many bytes of the two directions are in the capture.
    captured: [Arc<AtomicU32>; 2],
    opener: TcpStream,
    acceptor: OnceLock<TcpStream>,
    forward: Gate,
    backward: Gate,
    /// Who closed it first, and how.
    first: OnceLock<(String, String)>,
    by_fault: AtomicBool,
    /// Faults that closed only one end, with the end (a short name) that is to be closed at the heal.
    half_open: Mutex<Vec<(FaultId, String)>>,
    /// Set under the lock of `half_open`, when the target has accepted.
    served: AtomicBool,
    pumps: AtomicU8,
}

impl Connection {
    /// A connection that its opener has just made, under the policies of its two directions.
    ///
    /// # Errors
    /// When file descriptors run out.
    pub fn new(
        id: u64,
        key: (&str, &str, &str),
        opener: TcpStream,
        policies: (Policy, Policy),
        options: &Tapping,
    ) -> io::Result<Connection> {
        opener.set_nodelay(true)?;
        opener.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(Connection {
            id,
            source: key.0.to_owned(),
            target: key.1.to_owned(),
            channel: key.2.to_owned(),
            plain_messages: options.plain_messages && key.2 == DIST_CHANNEL,
            capture: options.capture.clone(),
            captured: Default::default(),
            opener,
            acceptor: OnceLock::new(),
            forward: Gate::new(policies.0)?,
            backward: Gate::new(policies.1)?,
            first: OnceLock::new(),
            by_fault: AtomicBool::new(false),
            half_open: Mutex::new(Vec::new()),
            served: AtomicBool::new(false),
            pumps: AtomicU8::new(2),
        })
    }

    /// The gate of a direction.
    pub fn gate(&self, direction: Direction) -> &Gate {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Backward => &self.backward,
        }
    }

    /// Where bytes of a direction come from.
    pub fn source_socket(&self, direction: Direction) -> Option<&TcpStream> {
        match direction {
            Direction::Forward => Some(&self.opener),
            Direction::Backward => self.acceptor.get(),
        }
    }

    /// Where bytes of a direction go.
    pub fn target_socket(&self, direction: Direction) -> Option<&TcpStream> {
        match direction {
            Direction::Forward => self.acceptor.get(),
            Direction::Backward => Some(&self.opener),
        }
    }

    /// What writes a direction into the capture, if there is one; both ends must exist.
    pub fn tap(&self, direction: Direction, writer: Writer) -> Option<Tap> {
        let capture = self.capture.as_ref()?;
        let port = |socket: &TcpStream| socket.peer_addr().map_or(0, |address| address.port());
        let opener = tap::End { node: &self.source, port: port(&self.opener) };
        let acceptor = tap::End { node: &self.target, port: port(self.acceptor.get()?) };
        let [forward, backward] = self.captured.clone();
        let (ends, positions) = match direction {
            Direction::Forward => ((opener, acceptor), [forward, backward]),
            Direction::Backward => ((acceptor, opener), [backward, forward]),
        };
        Some(Tap::new(capture, ends, &self.channel, writer, positions))
    }

    /// Whether its pumps run, or are about to.
    fn is_served(&self) -> bool {
        self.served.load(Ordering::SeqCst)
    }

    /// Whether a fault closed it.
    pub fn closed_by_fault(&self) -> bool {
        self.by_fault.load(Ordering::Relaxed)
    }

    /// Who closed it first, and how.
    pub fn first(&self) -> (String, String) {
        self.first.get().cloned().unwrap_or_else(|| ("plane".into(), "end".into()))
    }

    fn node_at(&self, direction: Direction) -> &str {
        match direction {
            Direction::Forward => &self.source,
            Direction::Backward => &self.target,
        }
    }

    fn note_first(&self, who: &str, cause: String) -> bool {
        self.first.set((who.to_owned(), cause)).is_ok()
    }

    /// Notes that the node from which a direction comes has closed.
    pub fn note_source_end(&self, direction: Direction, end: End) {
        let cause = match end {
            End::Fin => "fin",
            End::Rst => "rst",
        };
        self.note_first(self.node_at(direction), cause.to_owned());
    }

    /// Passes the end of a direction on to its target.
    pub fn pass_end(&self, direction: Direction, end: End) {
        let Some(target) = self.target_socket(direction) else { return };
        match end {
            // The target may have closed already; then there is nobody to tell.
            End::Fin => drop(target.shutdown(Shutdown::Write)),
            End::Rst => self.reset(),
        }
    }

    /// Both ends see an orderly close; what is under way is discarded.
    pub fn close(&self, fault: FaultId) {
        if self.note_first("plane", format!("fault {fault} (fin)")) {
            self.by_fault.store(true, Ordering::Relaxed);
        }
        for direction in [Direction::Forward, Direction::Backward] {
            self.set_flow(direction, Flow::Swallow);
            if let Some(socket) = self.source_socket(direction) {
                drop(socket.shutdown(Shutdown::Write));
            }
        }
    }

    /// Both ends see a reset.
    pub fn abort(&self, fault: FaultId) {
        if self.note_first("plane", format!("fault {fault} (rst)")) {
            self.by_fault.store(true, Ordering::Relaxed);
        }
        self.reset();
    }

    /// Ends the connection with a reset to whoever is still there. The kernel sends it when the last
    /// pump lets go of the sockets, which the shut-down of their reading side makes them do at once.
    fn reset(&self) {
        for direction in [Direction::Forward, Direction::Backward] {
            if let Some(socket) = self.source_socket(direction) {
                drop(SockRef::from(socket).set_linger(Some(Duration::ZERO)));
            }
            self.set_flow(direction, Flow::Stopped);
            if let Some(socket) = self.source_socket(direction) {
                drop(socket.shutdown(Shutdown::Read));
            }
        }
    }

    /// `end` sees a close; the other end silence, until [`Connection::heal_half_open`]. False if the
    /// target is only being connected: then [`Connection::resume_half_open`] finishes it.
    pub fn half_open(&self, fault: FaultId, end: &str) -> bool {
        let (near, other) = if end == self.source {
            (Direction::Forward, &self.target)
        } else {
            (Direction::Backward, &self.source)
        };
        if self.note_first("plane", format!("fault {fault} (half-open)")) {
            self.by_fault.store(true, Ordering::Relaxed);
        }
        // Before the flows change, so that whoever sees them changed finds the reason.
        let mut ends = lock(&self.half_open);
        ends.push((fault, other.clone()));
        for direction in [Direction::Forward, Direction::Backward] {
            self.set_flow(direction, Flow::Swallow);
        }
        if let Some(socket) = self.source_socket(near) {
            drop(socket.shutdown(Shutdown::Write));
        }
        self.is_served()
    }

    /// Half-open faults that came while the target was being connected: closes their near ends, now that
    /// both exist, and gives the directions whose source they are.
    fn resume_half_open(&self) -> Vec<Direction> {
        let ends = lock(&self.half_open);
        self.served.store(true, Ordering::SeqCst);
        let near = ends.iter().map(|(_, other)| match *other == self.source {
            true => Direction::Backward,
            false => Direction::Forward,
        });
        near.inspect(|near| {
            if let Some(socket) = self.source_socket(*near) {
                drop(socket.shutdown(Shutdown::Write));
            }
        })
        .collect()
    }

    /// Closes the end that a half-open fault left in silence; false if this fault left none.
    pub fn heal_half_open(&self, fault: FaultId) -> bool {
        let mut ends = lock(&self.half_open);
        let before = ends.len();
        for (_, end) in ends.iter().filter(|(id, _)| *id == fault) {
            let direction =
                if *end == self.source { Direction::Forward } else { Direction::Backward };
            if let Some(socket) = self.source_socket(direction) {
                drop(socket.shutdown(Shutdown::Write));
            }
        }
        ends.retain(|(id, _)| *id != fault);
        ends.len() < before
    }

    fn set_flow(&self, direction: Direction, flow: Flow) {
        self.gate(direction).change(|orders| {
            if orders.flow != Flow::Stopped {
                orders.flow = flow;
            }
        });
    }

    /// Waits until the link to the target passes. Returns what the opener has sent meanwhile, or `None`
    /// when it has given up or a fault has closed it.
    fn wait_for_link(&self) -> Option<Vec<u8>> {
        let mut early = Vec::new();
        let mut chunk = vec![0; CHUNK_LEN];
        let came_ns = monotonic_ns();
        let (mut lags, mut until_ns) = (false, None);
        loop {
            let orders = *self.forward.enter();
            match orders.flow {
                Flow::Forward if orders.policy.hold || orders.policy.hold_data => {
                    lags |= orders.policy.heal_lag;
                    until_ns = None;
                }
                Flow::Forward if !lags => return Some(early),
                Flow::Forward => {
                    let now_ns = monotonic_ns();
                    let attempt = || next_attempt_ns(came_ns, now_ns, SYN_RETRANSMIT_NS);
                    if *until_ns.get_or_insert_with(attempt) <= now_ns {
                        return Some(early);
                    }
                }
                Flow::Swallow | Flow::Stopped => return None,
            }
            let mut fds = vec![PollFd::new(self.forward.wake_fd(), PollFlags::POLLIN)];
            if early.len() < CHUNK_LEN {
                fds.push(PollFd::new(self.opener.as_fd(), PollFlags::POLLIN));
            }
            let timeout = until_ns.map(|until_ns| {
                let left_ns = until_ns.saturating_sub(monotonic_ns());
                TimeSpec::nanoseconds(i64::try_from(left_ns).unwrap_or(i64::MAX))
            });
            if ppoll(&mut fds, timeout, None).is_err() {
                continue;
            }
            let is_ready = |index: usize| fds.get(index).is_some_and(|fd| fd.any() == Some(true));
            let (woken, readable) = (is_ready(0), is_ready(1));
            if woken {
                self.forward.clear_wake();
            }
            if readable {
                match recv(self.opener.as_raw_fd(), &mut chunk, MsgFlags::MSG_DONTWAIT) {
                    Ok(0) => {
                        self.note_source_end(Direction::Forward, End::Fin);
                        return None;
                    }
                    Ok(len) => early.extend_from_slice(&chunk[..len]),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(_) => {
                        self.note_source_end(Direction::Forward, End::Rst);
                        return None;
                    }
                }
            }
        }
    }

    fn connect(&self, plane: &Plane) -> Result<(), String> {
        let port = plane
            .real_port(&self.target, &self.channel)
            .ok_or_else(|| format!("{} has no {} port now", self.target, self.channel))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .and_then(|stream| stream.set_read_timeout(Some(READ_TIMEOUT)).map(|()| stream))
            .map_err(|error| error.to_string())?;
        // Nobody else connects this connection.
        let _ = self.acceptor.set(stream);
        Ok(())
    }
}

/// Counters of the two directions of a connection.
#[derive(Debug, Clone)]
pub struct BothCounters {
    pub forward: Arc<Counters>,
    pub backward: Arc<Counters>,
}

/// Serves a connection that was just registered, in threads of its own.
pub fn serve(plane: &Arc<Plane>, connection: Arc<Connection>, counters: BothCounters) {
    let id = connection.id;
    let shared = Arc::clone(plane);
    let spawned = std::thread::Builder::new()
        .name(format!("connection {id}"))
        .stack_size(STACK_LEN)
        .spawn(move || serve_here(&shared, &connection, &counters));
    if let Err(error) = spawned {
        eprintln!("fuzz_dist plane: no thread for connection {id}: {error}");
        plane.forget(id);
    }
}

fn serve_here(plane: &Arc<Plane>, connection: &Arc<Connection>, counters: &BothCounters) {
    counters.forward.attempts_waiting.add(1);
    let early = connection.wait_for_link();
    counters.forward.attempts_waiting.take(1);
    let Some(early) = early else { return plane.attempt_ended(connection, counters) };
    if let Err(error) = connection.connect(plane) {
        connection.note_first("plane", format!("connect-failed: {error}"));
        counters.forward.connect_failed.add(1);
        // A real target would have answered the first packet with a reset.
        connection.reset();
        return plane.attempt_ended(connection, counters);
    }
    // A fault may have come between the two: one that closed everything, or one end.
    let half_opened = connection.resume_half_open();
    for near in &half_opened {
        match near {
            Direction::Forward => counters.forward.half_opened.add(1),
            Direction::Backward => counters.backward.half_opened.add(1),
        }
    }
    if half_opened.is_empty() && connection.forward.enter().flow != Flow::Forward {
        return plane.attempt_ended(connection, counters);
    }
    plane.connected(connection, counters);
    let backward = {
        let (plane, connection, counters) =
            (Arc::clone(plane), Arc::clone(connection), counters.clone());
        move || {
            let counter = Arc::clone(&counters.backward);
            Pump::new(Arc::clone(&connection), Direction::Backward, counter).run(&[]);
            pump_ended(&plane, &connection, &counters);
        }
    };
    let name = format!("connection {}", connection.id);
    if let Err(error) = std::thread::Builder::new().name(name).stack_size(STACK_LEN).spawn(backward)
    {
        eprintln!("fuzz_dist plane: no thread for connection {}: {error}", connection.id);
        connection.reset();
        pump_ended(plane, connection, counters);
    }
    let counter = Arc::clone(&counters.forward);
    Pump::new(Arc::clone(connection), Direction::Forward, counter).run(&early);
    pump_ended(plane, connection, counters);
}

fn pump_ended(plane: &Plane, connection: &Connection, counters: &BothCounters) {
    if connection.pumps.fetch_sub(1, Ordering::SeqCst) == 1 {
        plane.disconnected(connection, counters);
    }
}
