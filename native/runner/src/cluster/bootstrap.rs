//! Loads the node agent into a node that does not contain it, over a hidden connection.
//!
//! The core connects as a hidden node (it does not appear in `nodes()` and `global` ignores it),
//! straight to the node's own port and not through the link plane, calls functions through `rex` as
//! `rpc` does, and leaves. Handshake and messages are those of `erl_dist`; the frames are ours, since
//! its channel needs a stream that can be cloned and writes each message in three pieces.
//!
//! No atom cache and no fragments are announced, so every frame is `112, Control, Message` in plain
//! external term format. A frame of length 0 is a tick and is answered with one: a node with a short
//! `net_ticktime` would drop us otherwise.
//!
//! Limits: distribution over plain TCP (no TLS), as a visitor of a few calls.
//!
//! Format: Erlang/OTP, "Distribution Protocol", ERTS User's Guide.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use erl_dist::handshake::{ClientSideHandshake, HandshakeError, HandshakeStatus};
use erl_dist::message::{Message, RegSend};
use erl_dist::node::{Creation, LocalNode, NodeName};
use erl_dist::term::{Atom, Binary, FixInteger, List, Map, Pid, Reference, Term, Tuple};
use futures_util::FutureExt;
use futures_util::io::AllowStdIo;

/// The module that is loaded.
pub const AGENT_MODULE: &str = "fuzz_dist_agent";

/// How the names of our hidden nodes begin; nodes report them as they come and go.
pub const HIDDEN_NODE_PREFIX: &str = "fuzz_dist_core_";

/// The largest frame that a node may send us; answers of what is called here are small.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// What stands before a message that has no distribution header.
const PASS_THROUGH: u8 = 112;

/// Why a node could not be visited.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// Nobody listens there.
    #[error("{node} does not listen at {address}: {reason}")]
    Absent {
        /// Full name.
        node: String,
        /// Where it was expected.
        address: SocketAddr,
        /// What the connection attempt said.
        reason: io::Error,
    },
    /// Our cookie is not that of the node.
    #[error("{0} refused the connection: it has another cookie than the run")]
    Cookie(String),
    /// Its distribution is TLS, which the core does not speak.
    #[error(
        "{0} answered with TLS, which the core does not speak: let the node start its agent itself, with \
         `-s {AGENT_MODULE}` on the command line of erl, or `:{AGENT_MODULE}.start()` in its code"
    )]
    Tls(String),
    /// The node does not want us.
    #[error("{node} refused the connection: {reason}")]
    Refused {
        /// Full name.
        node: String,
        /// Its answer.
        reason: String,
    },
    /// Somebody else answered.
    #[error("the node at {address} is {found}, not {node}")]
    OtherNode {
        /// Full name that was wanted.
        node: String,
        /// Where.
        address: SocketAddr,
        /// Full name that answered.
        found: String,
    },
    /// It stopped talking to us.
    #[error("the hidden connection to {node} broke: {reason}")]
    Broken {
        /// Full name.
        node: String,
        /// How.
        reason: String,
    },
    /// It did not answer.
    #[error("{node} did not answer {what} within {timeout_ms} ms")]
    Timeout {
        /// Full name.
        node: String,
        /// The call or `the handshake`.
        what: String,
        /// How long was waited.
        timeout_ms: u128,
    },
    /// A call failed in the node.
    #[error("{call} failed on {node}: {reason}")]
    Call {
        /// Full name.
        node: String,
        /// `module:function`.
        call: String,
        /// The error term.
        reason: String,
    },
    /// The node did not accept the agent.
    #[error("{node} does not load {AGENT_MODULE}: {reason}")]
    Load {
        /// Full name.
        node: String,
        /// The reason of `code:load_binary/3`.
        reason: String,
    },
}

/// What the agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentArguments {
    /// `ADDRESS:PORT` of the core.
    pub core: String,
    /// The token of the run.
    pub token: String,
    /// Short name of the node.
    pub node: String,
    /// The id of the run.
    pub run: String,
    /// Whether the agent halts its VM when the core is gone.
    pub lifeline: bool,
}

impl AgentArguments {
    fn to_term(&self) -> Term {
        let binary = |text: &str| Term::from(Binary::from(text.as_bytes().to_vec()));
        let pairs = [
            (atom("core"), binary(&self.core)),
            (atom("token"), binary(&self.token)),
            (atom("node"), binary(&self.node)),
            (atom("run"), binary(&self.run)),
            (atom("lifeline"), atom(if self.lifeline { "true" } else { "false" })),
        ];
        Term::from(Map::from(pairs.into_iter().collect::<std::collections::HashMap<_, _>>()))
    }
}

/// An atom as a term.
pub fn atom(name: &str) -> Term {
    Term::from(Atom::from(name))
}

fn tuple(elements: Vec<Term>) -> Term {
    Term::from(Tuple::from(elements))
}

fn string(text: &str) -> Term {
    let characters = text.chars().map(|c| Term::from(FixInteger::from(c as i32)));
    Term::from(List::from(characters.collect::<Vec<_>>()))
}

/// Connects to the node's own distribution port, loads the agent's code and starts it.
pub fn load_agent(
    real_dist_port: u16,
    full_name: &str,
    cookie: &str,
    agent_beam: &[u8],
    arguments: &AgentArguments,
    timeout: Duration,
) -> Result<(), BootstrapError> {
    let mut visit = Visit::open(real_dist_port, full_name, cookie, timeout)?;
    visit.load_agent(agent_beam)?;
    visit.start_agent(arguments)
}

/// Connects, calls one function through `rex`, and leaves.
pub fn call(
    real_dist_port: u16,
    full_name: &str,
    cookie: &str,
    (module, function, arguments): (&str, &str, Vec<Term>),
    timeout: Duration,
) -> Result<Term, BootstrapError> {
    Visit::open(real_dist_port, full_name, cookie, timeout)?.call(module, function, arguments)
}

/// A hidden connection to a node. Every step of it ends by the same deadline.
#[derive(Debug)]
pub struct Visit {
    node: String,
    stream: DeadlineStream,
    timeout: Duration,
    us: Pid,
    next_reference: u32,
}

impl Visit {
    /// Connects as a hidden node to one at 127.0.0.1; everything that follows must end within `timeout`.
    pub fn open(
        real_dist_port: u16,
        full_name: &str,
        cookie: &str,
        timeout: Duration,
    ) -> Result<Visit, BootstrapError> {
        Visit::open_at((Ipv4Addr::LOCALHOST, real_dist_port).into(), full_name, cookie, timeout)
    }

    /// As [`Visit::open`], to a node with another address.
    pub fn open_at(
        address: SocketAddr,
        full_name: &str,
        cookie: &str,
        timeout: Duration,
    ) -> Result<Visit, BootstrapError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let node = full_name.to_owned();
        let deadline = Instant::now() + timeout;
        let stream = TcpStream::connect_timeout(&address, timeout)
            .map_err(|reason| BootstrapError::Absent { node: node.clone(), address, reason })?;
        let broken = |e: &dyn std::fmt::Display| BootstrapError::Broken {
            node: node.clone(),
            reason: e.to_string(),
        };
        stream.set_nodelay(true).map_err(|e| broken(&e))?;

        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let our_name = format!("{HIDDEN_NODE_PREFIX}{}_{count}", std::process::id());
        let name = NodeName::new(&our_name, "127.0.0.1").map_err(|e| broken(&e))?;
        let our_name = name.to_string();
        // Never 0, which means "any".
        let creation = Creation::new(Creation::random().get() | 1);
        let stream = DeadlineStream { stream, deadline };
        let shaken = handshake(stream, LocalNode::new(name, creation), cookie);
        let (stream, found) =
            shaken.map_err(|error| handshake_error(&node, timeout, deadline, error))?;
        if found != full_name {
            return Err(BootstrapError::OtherNode { node, address, found });
        }
        let us = Pid { node: Atom::from(our_name), id: 1, serial: 0, creation: creation.get() };
        Ok(Visit { node, stream, timeout, us, next_reference: 1 })
    }

    /// Calls a function in the node, in a process of its own, and gives what it returned.
    pub fn call(
        &mut self,
        module: &str,
        function: &str,
        arguments: Vec<Term>,
    ) -> Result<Term, BootstrapError> {
        let call = format!("{module}:{function}");
        let reference = Term::from(Reference {
            node: self.us.node.clone(),
            id: vec![self.next_reference, 0, 0],
            creation: self.us.creation,
        });
        self.next_reference += 1;
        let request = tuple(vec![
            atom("call"),
            atom(module),
            atom(function),
            Term::from(List::from(arguments)),
            // Its output goes to the node's own `user`, not to us.
            atom("user"),
        ]);
        let from = tuple(vec![Term::from(self.us.clone()), reference.clone()]);
        let message = Message::RegSend(RegSend {
            from_pid: self.us.clone(),
            to_name: Atom::from("rex"),
            message: tuple(vec![atom("$gen_call"), from, request]),
        });
        let answer = self.write(message).and_then(|()| self.read_answer(&reference));
        let answer = answer.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => BootstrapError::Timeout {
                node: self.node.clone(),
                what: call.clone(),
                timeout_ms: self.timeout.as_millis(),
            },
            _ => BootstrapError::Broken { node: self.node.clone(), reason: error.to_string() },
        })?;
        match answer {
            Term::Tuple(tuple) if tuple.elements.first() == Some(&atom("badrpc")) => {
                let reason = tuple.elements.get(1).map(Term::to_string).unwrap_or_default();
                Err(BootstrapError::Call { node: self.node.clone(), call, reason })
            }
            answer => Ok(answer),
        }
    }

    /// Whether the node can find the agent's module in its own code path.
    pub fn contains_agent(&mut self) -> Result<bool, BootstrapError> {
        let which = self.call("code", "which", vec![atom(AGENT_MODULE)])?;
        Ok(which != atom("non_existing"))
    }

    /// Whether the agent's code is loaded. A release runs in embedded mode and loads nothing from its code path.
    pub fn has_loaded_agent(&mut self) -> Result<bool, BootstrapError> {
        Ok(self.call("erlang", "module_loaded", vec![atom(AGENT_MODULE)])? == atom("true"))
    }

    /// Loads the agent's code.
    pub fn load_agent(&mut self, beam: &[u8]) -> Result<(), BootstrapError> {
        let file = string(&format!("{AGENT_MODULE}.beam"));
        let binary = Term::from(Binary::from(beam.to_vec()));
        match self.call("code", "load_binary", vec![atom(AGENT_MODULE), file, binary])? {
            Term::Tuple(answer) if answer.elements.first() == Some(&atom("module")) => Ok(()),
            refused => Err(BootstrapError::Load {
                node: self.node.clone(),
                reason: match refused {
                    Term::Tuple(error) if error.elements.len() == 2 => {
                        error.elements[1].to_string()
                    }
                    other => other.to_string(),
                },
            }),
        }
    }

    /// Starts the agent, whose code the node has.
    pub fn start_agent(&mut self, arguments: &AgentArguments) -> Result<(), BootstrapError> {
        match self.call(AGENT_MODULE, "start", vec![arguments.to_term()])? {
            Term::Tuple(answer) if answer.elements.first() == Some(&atom("ok")) => Ok(()),
            other => Err(BootstrapError::Call {
                node: self.node.clone(),
                call: format!("{AGENT_MODULE}:start"),
                reason: other.to_string(),
            }),
        }
    }

    fn write(&mut self, message: Message) -> io::Result<()> {
        let mut frame = vec![0, 0, 0, 0, PASS_THROUGH];
        message.write_into(&mut frame).map_err(io::Error::other)?;
        let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame)
    }

    fn read_answer(&mut self, reference: &Term) -> io::Result<Term> {
        loop {
            let frame = self.read_frame()?;
            let Some((&PASS_THROUGH, mut body)) = frame.split_first() else {
                return Err(io::Error::other("the node sent a frame with a distribution header"));
            };
            let message = match Message::read_from(&mut body).map_err(io::Error::other)? {
                Message::Send(send) => send.message,
                Message::SendSender(send) => send.message,
                _ => continue,
            };
            if let Term::Tuple(mut answer) = message
                && answer.elements.len() == 2
                && answer.elements[0] == *reference
            {
                return Ok(answer.elements.swap_remove(1));
            }
        }
    }

    /// The next frame that is not a tick.
    fn read_frame(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length)?;
            let length = u32::from_be_bytes(length) as usize;
            if length == 0 {
                self.stream.write_all(&[0; 4])?;
                continue;
            }
            if length > FRAME_BYTES_MAX {
                return Err(io::Error::other(format!("the node sent a frame of {length} bytes")));
            }
            let mut frame = vec![0; length];
            self.stream.read_exact(&mut frame)?;
            return Ok(frame);
        }
    }
}

/// The stream after it, and the full name that the node says it has.
fn handshake(
    stream: DeadlineStream,
    us: LocalNode,
    cookie: &str,
) -> Result<(DeadlineStream, String), HandshakeFailure> {
    let mut handshake = ClientSideHandshake::new(AllowStdIo::new(stream), us, cookie);
    let status =
        at_once(handshake.execute_send_name(erl_dist::LOWEST_DISTRIBUTION_PROTOCOL_VERSION))
            .map_err(HandshakeFailure::Name)?;
    if matches!(status, HandshakeStatus::Nok | HandshakeStatus::NotAllowed) {
        return Err(HandshakeFailure::Status(format!("{status:?}")));
    }
    let (stream, peer) =
        at_once(handshake.execute_rest(true)).map_err(HandshakeFailure::Challenge)?;
    Ok((stream.into_inner(), peer.name.to_string()))
}

/// Our streams block, so these futures are ready when they are first asked.
fn at_once<T>(
    future: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    let pending = || Err(HandshakeError::Io(io::Error::other("a blocking stream was not ready")));
    future.now_or_never().unwrap_or_else(pending)
}

enum HandshakeFailure {
    Name(HandshakeError),
    Status(String),
    Challenge(HandshakeError),
}

fn handshake_error(
    node: &str,
    timeout: Duration,
    deadline: Instant,
    failure: HandshakeFailure,
) -> BootstrapError {
    let node = node.to_owned();
    match failure {
        HandshakeFailure::Status(reason) => BootstrapError::Refused { node, reason },
        HandshakeFailure::Name(_) | HandshakeFailure::Challenge(_)
            if Instant::now() >= deadline =>
        {
            let timeout_ms = timeout.as_millis();
            BootstrapError::Timeout { node, what: "the handshake".into(), timeout_ms }
        }
        // An alert begins with its type 21 and version 3.x: read as the length of a frame, and the tag in it.
        HandshakeFailure::Name(HandshakeError::UnexpectedTag { tag: 3, .. }) => {
            BootstrapError::Tls(node)
        }
        // A node closes the connection without a word when our digest does not match its cookie.
        HandshakeFailure::Challenge(HandshakeError::CookieMismatch) => BootstrapError::Cookie(node),
        HandshakeFailure::Challenge(HandshakeError::Io(error))
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
            ) =>
        {
            BootstrapError::Cookie(node)
        }
        HandshakeFailure::Name(error) | HandshakeFailure::Challenge(error) => {
            BootstrapError::Broken { node, reason: error.to_string() }
        }
    }
}

/// A blocking stream on which nothing lasts beyond the deadline.
#[derive(Debug)]
struct DeadlineStream {
    stream: TcpStream,
    deadline: Instant,
}

impl DeadlineStream {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for DeadlineStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for DeadlineStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
