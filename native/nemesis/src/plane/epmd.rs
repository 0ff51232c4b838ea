//! The Erlang port mapper: names of nodes and the ports by which each asker is to reach them.
//!
//! `ALIVE2_REQ` (120) registers a name for as long as its connection lives, `PORT_PLEASE2_REQ` (122) asks
//! for a port, `NAMES_REQ` (110) lists. Nothing here can be killed or stopped from outside (107, 115).
//!
//! Source: "Protocol Between Erlang nodes and EPMD" in the ERTS reference manual.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::listeners::Viewer;
use super::protocol::MapperFault;
use super::registry::Plane;

/// A request is no longer than this in any release.
const REQUEST_LEN_MAX: usize = 1_024;
/// A request that has begun must be complete within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A node that is started again may register before the kernel has told us that its predecessor died.
const TAKEN_PATIENCE: Duration = Duration::from_secs(1);
/// How often a registration that is answered late looks whether it is time.
const LATE_LOOK_EVERY: Duration = Duration::from_millis(5);
/// Stack of the thread of a connection.
const STACK_LEN: usize = 128 * 1024;

const ALIVE2_REQ: u8 = 120;
const ALIVE2_RESP: u8 = 121;
const ALIVE2_X_RESP: u8 = 118;
const PORT2_REQ: u8 = 122;
const PORT2_RESP: u8 = 119;
const NAMES_REQ: u8 = 110;

/// Distribution version from which on creations have 32 bits.
const VERSION_WIDE_CREATION: u16 = 6;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub name: String,
    pub port: u16,
    /// 77 for a visible node, 72 for a hidden one.
    pub node_type: u8,
    pub protocol: u8,
    pub version_max: u16,
    pub version_min: u16,
    pub extra: Vec<u8>,
}

/// Registered names.
#[derive(Debug)]
pub struct Names {
    entries: Vec<(u64, Registration)>,
    /// Names about which the mapper is wrong.
    faults: BTreeMap<String, MapperFault>,
    next_id: u64,
    next_creation: u32,
}

impl Default for Names {
    fn default() -> Names {
        // Creations of one run must not repeat those of a run just before on the same ports.
        let start = (fuzz_dist_core::clock::monotonic_ns() / 1_000) as u32;
        Names { entries: Vec::new(), faults: BTreeMap::new(), next_id: 1, next_creation: start }
    }
}

impl Names {
    /// The registration of a name.
    pub fn get(&self, name: &str) -> Option<&Registration> {
        self.iter().find(|registration| registration.name == name)
    }

    /// What whoever asks is told of a name.
    pub fn told(&self, name: &str) -> Option<&Registration> {
        self.get(name).filter(|_| !self.is(name, MapperFault::Forgotten))
    }

    /// Whether the mapper is wrong in this way about a name.
    pub fn is(&self, name: &str, fault: MapperFault) -> bool {
        self.faults.get(name) == Some(&fault)
    }

    /// Makes the mapper wrong about a name, or right again.
    pub fn set_fault(&mut self, name: &str, fault: Option<MapperFault>) {
        match fault {
            Some(fault) => self.faults.insert(name.to_owned(), fault),
            None => self.faults.remove(name),
        };
    }

    /// All registrations.
    pub fn iter(&self) -> impl Iterator<Item = &Registration> {
        self.entries.iter().map(|(_, registration)| registration)
    }

    /// Registers; `None` if the name is taken. Returns an id and a creation of its own.
    pub fn register(&mut self, registration: Registration) -> Option<(u64, u32)> {
        if self.get(&registration.name).is_some() {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.next_creation = self.next_creation.wrapping_add(1);
        if self.next_creation < 4 {
            self.next_creation = 4; // 0 to 3 are creations of the old, narrow kind.
        }
        self.entries.push((id, registration));
        Some((id, self.next_creation))
    }

    /// Ends a registration; returns its name.
    pub fn unregister(&mut self, id: u64) -> Option<String> {
        let index = self.entries.iter().position(|(entry, _)| *entry == id)?;
        Some(self.entries.swap_remove(index).1.name)
    }
}

/// Answers one connection in a thread of its own.
pub fn serve(plane: &Arc<Plane>, viewer: Viewer, stream: TcpStream) {
    let plane = Arc::clone(plane);
    let spawned =
        std::thread::Builder::new().name("epmd".into()).stack_size(STACK_LEN).spawn(move || {
            // Whoever asks badly or leaves early gets no answer, as from epmd.
            let _ = answer(&plane, &viewer, stream);
        });
    if let Err(error) = spawned {
        eprintln!("fuzz_dist plane: no thread for an EPMD connection: {error}");
    }
}

fn answer(plane: &Plane, viewer: &Viewer, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let len = usize::from(u16::from_be_bytes(len));
    if len == 0 || len > REQUEST_LEN_MAX {
        return Ok(());
    }
    let mut request = vec![0; len];
    stream.read_exact(&mut request)?;
    match request[0] {
        ALIVE2_REQ => match parse_alive(&request[1..]) {
            // It would keep the node of that name from coming back.
            Some(registration) if !plane.family().has_peer(&stream) => {
                let name = registration.name;
                eprintln!(
                    "fuzz_dist plane: a process that is not of the run wanted the name {name}"
                );
                stream.write_all(&[ALIVE2_RESP, 1, 0, 0])
            }
            Some(registration) => keep_alive(plane, registration, stream),
            None => stream.write_all(&[ALIVE2_RESP, 1, 0, 0]),
        },
        PORT2_REQ => {
            let name = String::from_utf8_lossy(&request[1..]);
            stream.write_all(&port_answer(plane.look_up(viewer, &name).as_ref()))
        }
        NAMES_REQ => {
            let own_port = stream.local_addr()?.port();
            let mut text = u32::from(own_port).to_be_bytes().to_vec();
            for (name, port) in plane.names(viewer) {
                text.extend(format!("name {name} at port {port}\n").into_bytes());
            }
            stream.write_all(&text)
        }
        _ => Ok(()),
    }
}

/// Registers, answers, and waits for the end of the connection, which ends the registration.
fn keep_alive(plane: &Plane, registration: Registration, mut stream: TcpStream) -> io::Result<()> {
    let wide = registration.version_max >= VERSION_WIDE_CREATION;
    while plane.is_late(&registration.name) {
        std::thread::sleep(LATE_LOOK_EVERY);
    }
    let deadline = Instant::now() + TAKEN_PATIENCE;
    let registered = loop {
        match plane.register(registration.clone()) {
            Some(registered) => break Some(registered),
            None if Instant::now() >= deadline => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let (result, creation) = match registered {
        Some((_, creation)) => (0, creation),
        None => (1, 0),
    };
    let mut reply = vec![if wide { ALIVE2_X_RESP } else { ALIVE2_RESP }, result];
    if wide {
        reply.extend(creation.to_be_bytes());
    } else {
        reply.extend(((creation % 3 + 1) as u16).to_be_bytes());
    }
    let written = stream.write_all(&reply);
    let Some((id, _)) = registered else { return written };
    if written.is_ok() && stream.set_read_timeout(None).is_ok() {
        let mut ignored = [0; 64];
        while !matches!(stream.read(&mut ignored), Ok(0) | Err(_)) {}
    }
    plane.unregister(id);
    written
}

fn parse_alive(body: &[u8]) -> Option<Registration> {
    let short = |at: usize| -> Option<u16> {
        Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?))
    };
    let name_len = usize::from(short(8)?);
    let name = String::from_utf8(body.get(10..10 + name_len)?.to_vec()).ok()?;
    let extra_len = usize::from(short(10 + name_len)?);
    let extra = body.get(12 + name_len..12 + name_len + extra_len)?.to_vec();
    if name.is_empty() {
        return None;
    }
    Some(Registration {
        name,
        port: short(0)?,
        node_type: *body.get(2)?,
        protocol: *body.get(3)?,
        version_max: short(4)?,
        version_min: short(6)?,
        extra,
    })
}

fn port_answer(found: Option<&Registration>) -> Vec<u8> {
    let Some(found) = found else { return vec![PORT2_RESP, 1] };
    let mut answer = vec![PORT2_RESP, 0];
    answer.extend(found.port.to_be_bytes());
    answer.extend([found.node_type, found.protocol]);
    answer.extend(found.version_max.to_be_bytes());
    answer.extend(found.version_min.to_be_bytes());
    answer.extend((found.name.len() as u16).to_be_bytes());
    answer.extend(found.name.as_bytes());
    answer.extend((found.extra.len() as u16).to_be_bytes());
    answer.extend(&found.extra);
    answer
}

/// Short names become part of node names.
pub fn check_short(short: &str) -> Result<(), String> {
    let fits = !short.is_empty()
        && short.len() <= 200
        && short.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if fits {
        Ok(())
    } else {
        Err(format!("{short:?} cannot be a node's short name: letters, digits, - and _ only"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(name: &str) -> Vec<u8> {
        let mut body = 4_000u16.to_be_bytes().to_vec();
        body.extend([77, 0, 0, 6, 0, 5]);
        body.extend((name.len() as u16).to_be_bytes());
        body.extend(name.as_bytes());
        body.extend([0, 2, 9, 9]);
        body
    }

    #[test]
    fn what_a_node_says_of_itself_is_repeated() {
        let registration = parse_alive(&alive("n1")).unwrap();
        assert_eq!((registration.name.as_str(), registration.port), ("n1", 4_000));
        let answer = port_answer(Some(&registration));
        assert_eq!(
            answer,
            [&[119, 0, 15, 160, 77, 0, 0, 6, 0, 5, 0, 2][..], b"n1", &[0, 2, 9, 9]].concat()
        );
        assert_eq!(port_answer(None), [119, 1]);
    }

    #[test]
    fn a_torn_request_is_refused() {
        let whole = alive("n1");
        for len in 0..whole.len() {
            assert_eq!(parse_alive(&whole[..len]), None, "{len} bytes");
        }
        assert_eq!(parse_alive(&alive("")), None);
    }

    #[test]
    fn a_name_is_taken_once_and_creations_differ() {
        let mut names = Names { next_creation: u32::MAX - 1, ..Names::default() };
        let registration = parse_alive(&alive("n1")).unwrap();
        let (first, creation) = names.register(registration.clone()).unwrap();
        assert_eq!(names.register(registration.clone()), None);
        assert_eq!(names.unregister(first).as_deref(), Some("n1"));
        assert_eq!(names.unregister(first), None);
        let (_, next) = names.register(registration).unwrap();
        assert!(next != creation && next >= 4);
    }
}
