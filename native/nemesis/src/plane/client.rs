//! The core's side of the plane: blocking calls, from as many threads as one likes.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use fuzz_dist_core::clock::monotonic_ns;
use fuzz_dist_core::fault::{Link, LinkFault};
use fuzz_dist_core::sync::lock;

use super::protocol::{
    Answer, Applied, Command, FaultId, Hello, Line, LinkObservation, LinkStats, MapperFault,
    Options, PlaneEvent, Request, parse_line, to_line,
};
use super::reception;

/// How long the plane may take to say hello after it has dialled.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the plane may take to answer, beyond the time at which it is to act.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a call to the plane failed.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// The process is gone, and every link with it.
    #[error("the link plane has died ({0}): every link is cut")]
    Dead(String),
    /// It refused the request.
    #[error("the link plane refused: {0}")]
    Refused(String),
    /// It did not answer in time.
    #[error("the link plane did not answer {request} within {waited_s} s")]
    Silent {
        /// What was asked.
        request: String,
        /// For how long.
        waited_s: u64,
    },
    /// Whoever dialled is not our plane.
    #[error("control connection: {0}")]
    Handshake(String),
    /// The connection failed.
    #[error("control connection: {0}")]
    Io(#[from] io::Error),
}

type Reply = Result<Answer, String>;

#[derive(Default)]
struct Shared {
    /// Who waits for which reply; `None` once the plane is dead.
    waiting: Mutex<Option<HashMap<u64, mpsc::SyncSender<Reply>>>>,
    subscribers: Mutex<Vec<mpsc::Sender<PlaneEvent>>>,
    death: Mutex<Option<String>>,
}

/// The plane, as the core sees it.
pub struct PlaneClient {
    shared: Arc<Shared>,
    writer: Mutex<TcpStream>,
    next_id: AtomicU64,
    os_pid: u32,
}

impl std::fmt::Debug for PlaneClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlaneClient(process {})", self.os_pid)
    }
}

impl Drop for PlaneClient {
    /// The plane ends when its connection does.
    fn drop(&mut self) {
        let _ = lock(&self.writer).shutdown(std::net::Shutdown::Both);
    }
}

impl PlaneClient {
    /// Takes the connection that the plane has dialled, and checks its token.
    ///
    /// # Errors
    /// When it says no proper hello within 10 s, or has another token.
    pub fn new(stream: TcpStream, token: &str) -> Result<PlaneClient, PlaneError> {
        stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
        let (stream, hello) = reception::greet(stream, token).map_err(PlaneError::Handshake)?;
        PlaneClient::begin(stream, hello)
    }

    /// Waits for the plane to dial, up to the deadline. Whoever dials without the token is passed over.
    /// `over` says why no plane can come any more, if so.
    ///
    /// # Errors
    /// When it does not dial in time, or cannot any more.
    pub fn accept(
        listener: &TcpListener,
        token: &str,
        deadline: Instant,
        over: &dyn Fn() -> Option<String>,
    ) -> Result<PlaneClient, PlaneError> {
        let (stream, hello) =
            reception::receive(listener, token, deadline, over).map_err(PlaneError::Handshake)?;
        PlaneClient::begin(stream, hello)
    }

    fn begin(stream: TcpStream, hello: Hello) -> Result<PlaneClient, PlaneError> {
        stream.set_read_timeout(None)?;
        stream.set_nodelay(true)?;
        let reader = BufReader::new(stream.try_clone()?);
        let shared = Arc::new(Shared::default());
        *lock(&shared.waiting) = Some(HashMap::new());
        let for_reader = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("plane client".into())
            .spawn(move || for_reader.read_for_ever(reader))?;
        Ok(PlaneClient {
            shared,
            writer: Mutex::new(stream),
            next_id: AtomicU64::new(1),
            os_pid: hello.os_pid,
        })
    }

    /// The plane's process id.
    pub fn os_pid(&self) -> u32 {
        self.os_pid
    }

    /// Why the plane is dead, if it is.
    pub fn death(&self) -> Option<String> {
        lock(&self.shared.death).clone()
    }

    /// Says what the run wants of all connections; before there are nodes.
    ///
    /// # Errors
    /// A file that cannot be written, or nodes that are there already.
    pub fn configure(&self, options: Options) -> Result<(), PlaneError> {
        match self.call(Command::Configure(options), None)? {
            Answer::Configured => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Adds a node; returns the port for its `ERL_EPMD_PORT`.
    ///
    /// # Errors
    /// A name that is taken or not a short name.
    pub fn add_node(&self, short: &str) -> Result<u16, PlaneError> {
        match self.call(Command::AddNode { short: short.into() }, None)? {
            Answer::EpmdPort(port) => Ok(port),
            other => Err(unexpected(&other)),
        }
    }

    /// An EPMD port for client VMs, hidden nodes and tools: it answers with real ports.
    ///
    /// # Errors
    /// Those of the plane's sockets.
    pub fn add_tool(&self) -> Result<u16, PlaneError> {
        match self.call(Command::AddTool, None)? {
            Answer::EpmdPort(port) => Ok(port),
            other => Err(unexpected(&other)),
        }
    }

    /// The real distribution port of a node (or client VM) that is registered now.
    ///
    /// # Errors
    /// A dead plane.
    pub fn registered(&self, short: &str) -> Result<Option<u16>, PlaneError> {
        match self.call(Command::Registered { short: short.into() }, None)? {
            Answer::Registered(port) => Ok(port),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes the port mapper wrong about a node's name, or right again when `fault` is absent.
    ///
    /// # Errors
    /// A dead plane.
    pub fn set_mapper_fault(
        &self,
        short: &str,
        fault: Option<MapperFault>,
    ) -> Result<(), PlaneError> {
        match self.call(Command::Mapper { short: short.into(), fault }, None)? {
            Answer::Registered(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Puts the TCP port `real_port` of `target` behind the plane under `name`. Returns for each node the
    /// port at which it is to reach it; for `target` itself the real port. Add all nodes first.
    ///
    /// # Errors
    /// An unknown node.
    pub fn add_port(
        &self,
        target: &str,
        name: &str,
        real_port: u16,
    ) -> Result<HashMap<String, u16>, PlaneError> {
        let command = Command::AddPort { target: target.into(), name: name.into(), real_port };
        match self.call(command, None)? {
            Answer::Ports(ports) => Ok(BTreeMap::into_iter(ports).collect()),
            other => Err(unexpected(&other)),
        }
    }

    /// Begins a fault on these directed links: of the distribution, or of the named port. With `at` it
    /// begins at that time of `CLOCK_MONOTONIC`, and the call returns then.
    ///
    /// # Errors
    /// An unknown node, link or port, a fault of another plane, an id that is active, or a heal that came
    /// before `at`. Then nothing was changed.
    pub fn apply(
        &self,
        fault: FaultId,
        links: &[Link],
        port: Option<&str>,
        kind: &LinkFault,
        at: Option<u64>,
    ) -> Result<Applied, PlaneError> {
        let command = Command::Apply {
            fault,
            links: links.to_vec(),
            port: port.map(str::to_owned),
            what: kind.clone(),
            at_monotonic_ns: at,
        };
        self.call_applied(command, at)
    }

    /// Ends a fault, at `at` if given; nothing happens if it is not active.
    ///
    /// # Errors
    /// A dead plane, or a listener that could not be opened again.
    pub fn heal(&self, fault: FaultId, at: Option<u64>) -> Result<Applied, PlaneError> {
        self.call_applied(Command::Heal { fault, at_monotonic_ns: at }, at)
    }

    /// Ends every fault and calls off those that have not begun.
    ///
    /// # Errors
    /// As [`PlaneClient::heal`].
    pub fn heal_all(&self) -> Result<Applied, PlaneError> {
        self.call_applied(Command::HealAll, None)
    }

    /// Counters of every channel of every directed link.
    ///
    /// # Errors
    /// A dead plane.
    pub fn stats(&self) -> Result<Vec<LinkStats>, PlaneError> {
        match self.call(Command::Stats, None)? {
            Answer::Stats(stats) => Ok(stats),
            other => Err(unexpected(&other)),
        }
    }

    /// What an active fault has done so far, for each of its links.
    ///
    /// # Errors
    /// A fault that is not active.
    pub fn observe(&self, fault: FaultId) -> Result<Vec<LinkObservation>, PlaneError> {
        match self.call(Command::Observe { fault }, None)? {
            Answer::Observed(observations) => Ok(observations),
            other => Err(unexpected(&other)),
        }
    }

    /// Events from now on. The channel closes when the plane dies.
    pub fn events(&self) -> mpsc::Receiver<PlaneEvent> {
        let (sender, receiver) = mpsc::channel();
        let dead = lock(&self.shared.death);
        if dead.is_none() {
            lock(&self.shared.subscribers).push(sender);
        }
        receiver
    }

    fn call_applied(&self, command: Command, at: Option<u64>) -> Result<Applied, PlaneError> {
        match self.call(command, at)? {
            Answer::Applied(applied) => Ok(applied),
            other => Err(unexpected(&other)),
        }
    }

    fn call(&self, command: Command, at: Option<u64>) -> Result<Answer, PlaneError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = Request { id, command };
        let line = to_line(&request).map_err(io::Error::from)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        match lock(&self.shared.waiting).as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(self.dead()),
        };
        if lock(&self.writer).write_all(line.as_bytes()).is_err() {
            return Err(self.dead());
        }
        let early_ns = at.map_or(0, |at_ns| at_ns.saturating_sub(monotonic_ns()));
        let patience = ANSWER_TIMEOUT + Duration::from_nanos(early_ns);
        match receiver.recv_timeout(patience) {
            Ok(reply) => reply.map_err(PlaneError::Refused),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(self.dead()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Some(waiting) = lock(&self.shared.waiting).as_mut() {
                    waiting.remove(&id);
                }
                let request = format!("{:?}", request.command);
                Err(PlaneError::Silent { request, waited_s: patience.as_secs() })
            }
        }
    }

    fn dead(&self) -> PlaneError {
        PlaneError::Dead(self.death().unwrap_or_else(|| "its connection is broken".into()))
    }
}

impl Shared {
    fn read_for_ever(&self, mut reader: BufReader<TcpStream>) {
        let mut line = String::new();
        let cause = loop {
            line.clear();
            match reader.read_line(&mut line) {
                Ok(0) => break "it closed its connection".to_owned(),
                Ok(_) => {}
                Err(error) => break error.to_string(),
            }
            match parse_line::<Line>("plane", &line) {
                Ok(Line::Reply { id, result }) => {
                    let waiting = lock(&self.waiting).as_mut().and_then(|all| all.remove(&id));
                    if let Some(waiting) = waiting {
                        // Whoever asked may have lost patience.
                        let _ = waiting.send(result);
                    }
                }
                Ok(Line::Event(event)) => {
                    lock(&self.subscribers).retain(|sender| sender.send(event.clone()).is_ok());
                }
                Err(error) => break error,
            }
        };
        let mut death = lock(&self.death);
        *death = Some(cause);
        // Dropping the senders wakes whoever waits.
        *lock(&self.waiting) = None;
        lock(&self.subscribers).clear();
    }
}

fn unexpected(answer: &Answer) -> PlaneError {
    PlaneError::Handshake(format!("the plane answered something else: {answer:?}"))
}
