//! Every listening socket of the plane, accepted from by one thread.
//!
//! A refused link needs connects that fail as they do where nothing listens. The kernel does that at
//! once when a listening socket is shut down, resets what waits to be accepted, and keeps the port
//! reserved as long as the socket was bound to that port by number; `listen` opens it again.
//!
//! A link that swallows new connections needs connects that nobody answers. The kernel ignores the first
//! packet of a connection while the queue of those that wait to be accepted is full; its length is set to
//! nothing, which leaves room for one, and we connect that one ourselves. Who connected just before may hold
//! that room instead, and hears as little.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fuzz_dist_core::sync::lock;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::epmd;
use super::policy::Access;
use super::registry::{ChannelKey, Plane};

/// Connections that the kernel keeps for us until we accept them.
const BACKLOG: i32 = 1024;

/// Who asks at an EPMD listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Viewer {
    /// A node under test: it is told proxy ports.
    Node(String),
    /// A tool: it is told real ports.
    Tool,
}

/// What a listener is for.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// EPMD.
    Epmd(Viewer),
    /// Connections of the source of a channel to its target.
    Proxy(ChannelKey),
}

/// One listening socket.
#[derive(Debug, Clone)]
pub struct Listener {
    token: u64,
    port: u16,
    socket: Arc<Socket>,
    /// Connections of our own that fill the queue while the listener is silent, with the ports that they
    /// came from: they are none of the nodes', also when they are accepted later.
    fillers: Arc<Mutex<Vec<(u16, Socket)>>>,
}

impl Listener {
    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether a connection from there is one of our own; it is forgotten with that.
    fn is_filler(&self, peer: &SockAddr) -> bool {
        let port = peer.as_socket().map(|address| address.port());
        let mut fillers = lock(&self.fillers);
        let found = fillers.iter().position(|(own, _)| Some(*own) == port);
        found.map(|index| fillers.swap_remove(index)).is_some()
    }
}

/// All of them.
#[derive(Debug)]
pub struct Listeners {
    epoll: Epoll,
    by_token: Mutex<HashMap<u64, (Listener, Endpoint)>>,
    next_token: AtomicU64,
}

impl Listeners {
    /// None.
    ///
    /// # Errors
    /// When the kernel refuses an epoll instance.
    pub fn new() -> io::Result<Listeners> {
        Ok(Listeners {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            by_token: Mutex::default(),
            next_token: AtomicU64::new(1),
        })
    }

    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn add(&self, endpoint: Endpoint) -> io::Result<Listener> {
        let socket = bind_by_number()?;
        socket.listen(BACKLOG)?;
        let port = port_of(&socket)?;
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let listener = Listener { token, port, socket: Arc::new(socket), fillers: Arc::default() };
        lock(&self.by_token).insert(token, (listener.clone(), endpoint));
        self.watch(&listener)?;
        Ok(listener)
    }

    fn watch(&self, listener: &Listener) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, listener.token);
        Ok(self.epoll.add(&*listener.socket, event)?)
    }

    /// From now on who connects is treated like this; before as `was`.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn change(&self, listener: &Listener, was: Access, access: Access) -> io::Result<()> {
        if was == Access::Open && access != Access::Open {
            self.epoll.delete(&*listener.socket)?;
        }
        match access {
            Access::Open => {
                listener.socket.listen(BACKLOG)?;
                // Closed first, so that they are at their end when they are accepted.
                for (_, filler) in lock(&listener.fillers).iter() {
                    // One that was never let in has nothing to shut down.
                    let _ = filler.shutdown(Shutdown::Both);
                }
                self.watch(listener)
            }
            Access::Refused => {
                listener.socket.shutdown(Shutdown::Both)?;
                lock(&listener.fillers).clear();
                Ok(())
            }
            Access::Silent => {
                listener.socket.listen(0)?;
                let filler = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
                filler.set_nonblocking(true)?;
                filler.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
                let port = port_of(&filler)?;
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.port));
                match filler.connect(&address.into()) {
                    Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {
                        return Err(error);
                    }
                    _ => lock(&listener.fillers).push((port, filler)),
                }
                Ok(())
            }
        }
    }

    /// Accepts for ever. Returns only when the epoll instance is broken.
    pub fn accept_for_ever(&self, plane: &Arc<Plane>) -> io::Error {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => return error.into(),
            };
            for event in &events[..count] {
                let found = lock(&self.by_token).get(&event.data()).cloned();
                if let Some((listener, endpoint)) = found {
                    accept_all(plane, &listener, &endpoint);
                }
            }
        }
    }
}

fn accept_all(plane: &Arc<Plane>, listener: &Listener, endpoint: &Endpoint) {
    loop {
        match listener.socket.accept() {
            Ok((_, peer)) if listener.is_filler(&peer) => {}
            Ok((socket, _)) => match endpoint {
                Endpoint::Epmd(viewer) => epmd::serve(plane, viewer.clone(), socket.into()),
                Endpoint::Proxy(key) => plane.accepted(key, TcpStream::from(socket)),
            },
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                    eprintln!("fuzz_dist plane: cannot accept: {error}");
                    // The listener stays readable: without a pause this would spin.
                    std::thread::sleep(Duration::from_millis(10));
                    return;
                }
                Some(Errno::ECONNABORTED | Errno::EINTR) => {}
                // Nothing is left, or the listener was shut down meanwhile.
                _ => return,
            },
        }
    }
}

/// A socket that is bound to a free port *by its number*: only then does the kernel keep the port while
/// the socket does not listen. A first socket finds the number.
fn bind_by_number() -> io::Result<Socket> {
    let open = |port: u16| -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        Ok(socket)
    };
    let finder = open(0)?;
    open(port_of(&finder)?)
}

fn port_of(socket: &Socket) -> io::Result<u16> {
    Ok(socket.local_addr()?.as_socket().map_or(0, |address| address.port()))
}
