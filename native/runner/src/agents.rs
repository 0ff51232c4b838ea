//! The websocket server for agents: accepts, authenticates, and gives each connection a [`Link`].
//!
//! One tokio task reads and one writes for each connection; the rest of the run is threads that
//! call a link's methods. What arrives goes to one of two channels: completions and the coming and
//! going of workers to the interpreter ([`WorkerEvent`]), everything of node agents to the observer
//! ([`NodeEvent`]).

pub(crate) mod link;
pub mod message;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use fuzz_dist_core::sync::lock;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use fuzz_dist_core::{Sym, Value};

pub use link::{Link, RequestError};
use message::{DoneBatch, Outgoing, decode_done, decode_frame, encode_frame, parts, tagged};

/// The largest message that an agent may send.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What may wait for the interpreter, and for the observer. More than that holds up the agents that send it, as TCP does
/// when nobody reads.
pub const EVENTS_MAX: usize = 16_384;

/// What may wait to be sent to one agent. One that does not read so much (its node is paused, or overloaded) has its
/// connection ended: it dials again when it runs again.
const OUTGOING_MAX: usize = 16_384;

/// How long a full channel is left alone before it is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// How long a connection may take until its `hello`.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// What an agent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Observes its VM.
    Node,
    /// Performs operations.
    Worker,
}

impl Role {
    fn parse(name: &str) -> Option<Role> {
        match name {
            "node" => Some(Role::Node),
            "worker" => Some(Role::Worker),
            _ => None,
        }
    }
}

/// What the interpreter hears.
#[derive(Debug)]
pub enum WorkerEvent {
    /// A worker connected; it must be initialised before it gets operations.
    Up(Arc<Link>),
    /// It answered these.
    Done(Arc<Link>, DoneBatch),
    /// It sent this back: for measuring the bare websocket.
    Echo(Arc<Link>, Value),
    /// Its connection ended; whatever it has not answered, it never will.
    Down(Arc<Link>),
}

/// What the observer hears.
#[derive(Debug)]
pub enum NodeEvent {
    /// A node agent connected.
    Up(Arc<Link>),
    /// Its connection ended.
    Down(Arc<Link>),
    /// It reported something.
    Reported {
        /// Short name of the node.
        node: String,
        /// `nodeup`, `busy_dist_port` …
        kind: Sym,
        /// Its map.
        detail: Value,
        /// `CLOCK_MONOTONIC` when it happened.
        monotonic_ns: u64,
        /// Wall clock of the node when it happened.
        wall_ns: i64,
    },
    /// An agent broke the protocol; its connection has been closed.
    Broken {
        /// Short name of the node.
        node: String,
        /// How.
        reason: String,
    },
}

/// The connections of a run.
#[derive(Debug)]
pub struct Agents {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Debug)]
struct Shared {
    token: String,
    run_id: String,
    links: Mutex<HashMap<(Role, String), Arc<Link>>>,
    changed: Condvar,
    workers: SyncSender<WorkerEvent>,
    nodes: SyncSender<NodeEvent>,
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, HashMap<(Role, String), Arc<Link>>> {
        lock(&self.links)
    }
}

impl Agents {
    /// Binds a port of its own on 127.0.0.1 and begins to accept.
    pub fn start(
        token: &str,
        run_id: &str,
        workers: SyncSender<WorkerEvent>,
        nodes: SyncSender<NodeEvent>,
    ) -> std::io::Result<Agents> {
        Agents::start_at(Ipv4Addr::LOCALHOST, token, run_id, workers, nodes)
    }

    /// As [`Agents::start`], at another address of this machine. Nobody gets in without the token of the run.
    pub fn start_at(
        host: Ipv4Addr,
        token: &str,
        run_id: &str,
        workers: SyncSender<WorkerEvent>,
        nodes: SyncSender<NodeEvent>,
    ) -> std::io::Result<Agents> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("agents")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((host, 0)))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            token: token.to_owned(),
            run_id: run_id.to_owned(),
            links: Mutex::default(),
            changed: Condvar::new(),
            workers,
            nodes,
        });
        runtime.spawn(accept_loop(listener, Arc::clone(&shared)));
        Ok(Agents { address, shared, _runtime: runtime })
    }

    /// Where agents dial to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The live connection of that role and short name.
    pub fn get(&self, role: Role, name: &str) -> Option<Arc<Link>> {
        self.shared.links().get(&(role, name.to_owned())).cloned()
    }

    /// Waits until there is one that `accept`s, at most until the deadline.
    pub fn wait_for(
        &self,
        role: Role,
        name: &str,
        deadline: Instant,
        accept: impl Fn(&Link) -> bool,
    ) -> Option<Arc<Link>> {
        let mut links = self.shared.links();
        loop {
            if let Some(link) = links.get(&(role, name.to_owned()))
                && accept(link)
            {
                return Some(Arc::clone(link));
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            links = match self.shared.changed.wait_timeout(links, left) {
                Ok((links, _)) => links,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

async fn accept_loop(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    // A connection that is not one of ours, or ends before its hello, concerns nobody.
                    let _ = serve(stream, shared).await;
                });
            }
            // Out of descriptors: others are about to be closed; do not spin meanwhile.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

async fn handshake(stream: TcpStream, token: &str) -> Option<Socket> {
    stream.set_nodelay(true).ok()?;
    let expected = format!("Bearer {token}");
    // The signature is tungstenite's.
    #[allow(clippy::result_large_err)]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let sent = request.headers().get("authorization").map(|value| value.as_bytes());
        let status = if request.uri().path() != "/agent" {
            StatusCode::NOT_FOUND
        } else if sent != Some(expected.as_bytes()) {
            StatusCode::UNAUTHORIZED
        } else {
            return Ok(response);
        };
        let mut refused = ErrorResponse::new(Some(status.to_string()));
        *refused.status_mut() = status;
        Err(refused)
    };
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES_MAX);
    config.max_frame_size = Some(MESSAGE_BYTES_MAX);
    config.write_buffer_size = 0;
    tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config)).await.ok()
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let hello = async {
        let mut socket = handshake(stream, &shared.token).await?;
        let first = loop {
            match socket.next().await?.ok()? {
                Message::Binary(bytes) => break bytes,
                Message::Ping(_) | Message::Pong(_) => {}
                _ => return None,
            }
        };
        Some((socket, decode_frame(&first).ok()?))
    };
    let (socket, messages) = tokio::time::timeout(HELLO_TIMEOUT, hello).await.ok()??;
    let hello = messages.first()?.items()?.get(1)?;
    let role = Role::parse(hello.get("role")?.as_text()?)?;
    let (sender, outgoing) = tokio::sync::mpsc::channel(OUTGOING_MAX);
    let link = Arc::new(Link::new(role, hello, sender)?);
    let run = Value::map([(Value::sym("run"), Value::str(shared.run_id.as_str()))]);
    link.send(tagged("welcome", [run]));

    let (sink, stream) = socket.split();
    let writer = tokio::spawn(write_loop(outgoing, sink));
    let key = (role, link.name().to_owned());
    let replaced = shared.links().insert(key.clone(), Arc::clone(&link));
    if let Some(old) = replaced {
        old.close();
    }
    match role {
        Role::Worker => give(&shared.workers, WorkerEvent::Up(Arc::clone(&link))).await,
        Role::Node => give(&shared.nodes, NodeEvent::Up(Arc::clone(&link))).await,
    }
    shared.changed.notify_all();

    if let Err(reason) = read_loop(stream, &link, &shared).await {
        let node = link.name().to_owned();
        give(&shared.nodes, NodeEvent::Broken { node, reason: reason.to_string() }).await;
    }
    link.close();
    writer.abort();
    {
        let mut links = shared.links();
        if links.get(&key).is_some_and(|current| Arc::ptr_eq(current, &link)) {
            links.remove(&key);
        }
    }
    match role {
        Role::Worker => give(&shared.workers, WorkerEvent::Down(link)).await,
        Role::Node => give(&shared.nodes, NodeEvent::Down(link)).await,
    }
    shared.changed.notify_all();
    Some(())
}

async fn write_loop(
    mut outgoing: tokio::sync::mpsc::Receiver<Outgoing>,
    mut sink: futures_util::stream::SplitSink<Socket, Message>,
) {
    let mut batch = Vec::new();
    let mut frame = Vec::new();
    while outgoing.recv_many(&mut batch, 1024).await > 0 {
        encode_frame(&batch, &mut frame);
        batch.clear();
        let message = Message::Binary(std::mem::take(&mut frame).into());
        if sink.send(message).await.is_err() {
            // The reader notices the same end and reports it.
            return;
        }
    }
}

async fn read_loop(
    mut stream: futures_util::stream::SplitStream<Socket>,
    link: &Arc<Link>,
    shared: &Shared,
) -> Result<(), message::FrameError> {
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            // By the core: the other end has another connection, or does not read.
            () = link.closed() => None,
        };
        let message = match message {
            Some(Ok(message)) => message,
            // A connection that just ends is told by its end; one of too much is thrown out.
            Some(Err(error @ tungstenite::Error::Capacity(_))) => {
                return Err(message::FrameError::TooLarge(error.to_string()));
            }
            Some(Err(_)) | None => return Ok(()),
        };
        match message {
            Message::Binary(bytes) => {
                for term in decode_frame(&bytes)? {
                    receive(term, link, shared).await?;
                }
            }
            Message::Close(_) => return Ok(()),
            _ => {}
        }
    }
}

/// Hands something on, when there is room for it. Whoever would take it may have ended: then nobody needs it.
async fn give<T>(to: &SyncSender<T>, mut what: T) {
    while let Err(TrySendError::Full(back)) = to.try_send(what) {
        what = back;
        tokio::time::sleep(FULL_PAUSE).await;
    }
}

async fn receive(
    term: Value,
    link: &Arc<Link>,
    shared: &Shared,
) -> Result<(), message::FrameError> {
    let (tag, items) = parts(&term)?;
    match (tag.as_str(), items) {
        ("done", _) => {
            let batch = decode_done(&term)?;
            give(&shared.workers, WorkerEvent::Done(Arc::clone(link), batch)).await;
        }
        ("reply" | "pong" | "clocks" | "nodes", _) => link.answer(&term),
        ("echo", _) => give(&shared.workers, WorkerEvent::Echo(Arc::clone(link), term)).await,
        ("event", [_, kind, detail, monotonic, wall]) => {
            let (Some(kind), Some(monotonic), Some(wall_ns)) =
                (kind.as_sym(), monotonic.as_int(), wall.as_int())
            else {
                return Err(message::unknown(&term));
            };
            let reported = NodeEvent::Reported {
                node: link.name().to_owned(),
                kind,
                detail: detail.clone(),
                monotonic_ns: monotonic.max(0) as u64,
                wall_ns,
            };
            give(&shared.nodes, reported).await;
        }
        _ => return Err(message::unknown(&term)),
    }
    Ok(())
}
