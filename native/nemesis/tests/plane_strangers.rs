//! Processes of the machine that are not of the run, at the ports of the plane.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "plane/support.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Instant;

use fuzz_dist_nemesis::plane::PlaneClient;

use support::{Node, PATIENCE, TestPlane, eventually, spawn_plane};

/// `ALIVE2_REQ` for a visible node with this name, with its length.
fn alive(name: &str) -> Vec<u8> {
    let mut body = vec![120, 0x0f, 0xa0, 77, 0, 0, 6, 0, 5];
    body.extend((name.len() as u16).to_be_bytes());
    body.extend(name.as_bytes());
    body.extend([0, 0]);
    let mut request = (body.len() as u16).to_be_bytes().to_vec();
    request.extend(body);
    request
}

/// What a process of no run is answered, which asks until the end of the test. It leaves its parents, since
/// otherwise it would be one of this test's own.
fn stranger(port: u16, user: Option<u32>, file: &std::path::Path) -> Vec<u8> {
    let request: String = alive("n1").iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let ask = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; printf '{request}' >&3; head -c 2 <&3 > {0}.part; \
         chmod 644 {0}.part; mv {0}.part {0}; sleep 20",
        file.display()
    );
    let drop_rights = user
        .map_or(String::new(), |id| format!("setpriv --reuid {id} --regid {id} --clear-groups "));
    let script = format!("({drop_rights}setsid bash -c \"$0\" > /dev/null 2>&1 &)");
    assert!(Command::new("sh").args(["-c", &script, &ask]).status().unwrap().success());
    eventually("the stranger is answered", || {
        std::fs::read(file).ok().filter(|answer| answer.len() == 2)
    })
}

#[test]
fn a_name_is_registered_by_processes_of_the_run_only() {
    let plane = TestPlane::start();
    let port = plane.client.add_node("n1").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), everybody).unwrap();
    let answer = stranger(port, None, &folder.path().join("same_user"));
    assert_eq!(answer[1], 1, "a process of the same user: {answer:?}");
    if nix::unistd::geteuid().is_root() {
        let answer = stranger(port, Some(65_534), &folder.path().join("other_user"));
        assert_eq!(answer[1], 1, "a process of another user: {answer:?}");
    }
    assert_eq!(plane.client.registered("n1").unwrap(), None);
    // This test is what the guard is in a run.
    let mut own = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    own.write_all(&alive("n1")).unwrap();
    let mut answer = [9; 2];
    own.read_exact(&mut answer).unwrap();
    assert_eq!(answer[1], 0);
    assert_eq!(plane.client.registered("n1").unwrap(), Some(4_000));
    drop(own);
    eventually("the name is free", || {
        plane.client.registered("n1").unwrap().is_none().then_some(())
    });
    let _node = Node::start("n1", port);
    assert!(plane.client.registered("n1").unwrap().is_some());
}

#[test]
fn the_plane_is_let_in_among_strangers() {
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = control.local_addr().unwrap();
    let mut strangers = Vec::new();
    for said in ["{\"nope\": 1}\n", "", "GET / HTTP/1.1\r\n\r\n"] {
        let mut stranger = TcpStream::connect(address).unwrap();
        stranger.write_all(said.as_bytes()).unwrap();
        strangers.push(stranger);
    }
    let flood = thread::spawn(move || {
        // One that never ends its line.
        let mut stranger = TcpStream::connect(address).unwrap();
        while stranger.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let mut process = spawn_plane(&control, "secret");
    let deadline = Instant::now() + PATIENCE;
    let client = PlaneClient::accept(&control, "secret", deadline, &|| None).unwrap();
    assert_eq!(client.os_pid(), process.id());
    client.add_node("n1").unwrap();
    flood.join().unwrap();
    drop(client);
    let ended = eventually("the plane ends", || process.try_wait().unwrap());
    assert!(ended.success() || ended.code().is_none(), "{ended}");
}
