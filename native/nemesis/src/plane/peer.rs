//! Who is at the other end of a connection on the loopback: whether it is a process of the run.
//!
//! Every process of the machine can connect to the EPMD of a run. A name that a stranger registered would
//! keep its node from coming back. The kernel says which socket the other end is (`/proc/net/tcp`), and
//! the descriptors of the processes of the run say whether it is theirs.
//!
//! Limits: descriptors of processes that run as another user can be read by root only; without root, such a
//! process of the run is known by its user.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::unix::fs::MetadataExt;

use crate::guard::ProcessTable;

/// Looks at the processes of a run: those below the parent of the plane, the guard.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    root: i32,
}

/// A socket, as the kernel lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    user: u32,
    inode: u64,
}

impl Family {
    /// That of the parent of this process.
    pub fn of_parent() -> Family {
        Family { root: std::os::unix::process::parent_id() as i32 }
    }

    /// Whether the other end of a connection belongs to it.
    pub fn has_peer(&self, stream: &TcpStream) -> bool {
        let ends = (stream.peer_addr(), stream.local_addr());
        let (Ok(SocketAddr::V4(peer)), Ok(SocketAddr::V4(own))) = ends else { return false };
        let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        find(&table, peer, own).is_some_and(|socket| self.owns(socket))
    }

    fn owns(&self, socket: Socket) -> bool {
        let Ok(table) = ProcessTable::read() else { return false };
        let members = table.descendants(&[self.root]).into_iter().map(|process| process.pid);
        let members: Vec<i32> = std::iter::once(self.root).chain(members).collect();
        let user = |pid: &i32| fs::metadata(format!("/proc/{pid}")).map(|found| found.uid()).ok();
        let users: BTreeSet<u32> = members.iter().filter_map(user).collect();
        // Nobody can make us search for the sockets of other users.
        users.contains(&socket.user) && members.iter().any(|pid| holds(*pid, socket))
    }
}

/// Whether a process holds a socket, as far as may be looked.
fn holds(pid: i32, socket: Socket) -> bool {
    let wanted = format!("socket:[{}]", socket.inode);
    match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries.flatten().any(|entry| {
            fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            fs::metadata(format!("/proc/{pid}")).is_ok_and(|found| found.uid() == socket.user)
        }
        Err(_) => false,
    }
}

/// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode …`; addresses as words of the machine.
fn find(table: &str, local: SocketAddrV4, remote: SocketAddrV4) -> Option<Socket> {
    let (local, remote) = (listed(local), listed(remote));
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().take(10).collect();
        let [_, from, to, _, _, _, _, user, _, inode] = fields.as_slice() else { return None };
        (*from == local && *to == remote)
            .then(|| Some(Socket { user: user.parse().ok()?, inode: inode.parse().ok()? }))
            .flatten()
    })
}

fn listed(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_line_of_the_kernel_is_understood() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
                     timeout inode\n   3: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 \
                     00000000  1000        0 4711 1 ffff 20 4 30 10 -1\n";
        let end = |port| SocketAddrV4::new([127, 0, 0, 1].into(), port);
        let found = find(table, end(8080), end(50_000));
        assert_eq!(found, Some(Socket { user: 1000, inode: 4711 }));
        assert_eq!(find(table, end(50_000), end(8080)), None);
    }

    #[test]
    fn a_process_of_another_family_is_a_stranger() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let me = Family { root: std::process::id() as i32 };
        assert!(me.has_peer(&accepted));
        assert!(Family::of_parent().has_peer(&accepted));
        // Some other process, without children.
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!Family { root: child.id() as i32 }.has_peer(&accepted));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
