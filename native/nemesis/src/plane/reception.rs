//! Waits for the plane to dial the core, among strangers who may dial first.
//!
//! The control port is on the loopback, where every process of the machine can connect. Whoever does not
//! say the token of the run is dropped, and the wait goes on. Nobody can make it wait for another: all
//! connections are read side by side, each up to the length of a greeting.

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::protocol::{Hello, PROTOCOL, parse_line};

/// The longest greeting.
const HELLO_BYTES_MAX: usize = 4096;

/// How many connections are listened to at once; the oldest stranger makes room.
const PENDING_MAX: usize = 64;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A connection that has not said all of its greeting.
struct Pending {
    stream: TcpStream,
    said: Vec<u8>,
}

/// The connection of the plane, and its greeting. `over` says why nobody can come any more.
pub(super) fn receive(
    listener: &TcpListener,
    token: &str,
    deadline: Instant,
    over: &dyn Fn() -> Option<String>,
) -> Result<(TcpStream, Hello), String> {
    listener.set_nonblocking(true).map_err(|e| e.to_string())?;
    let mut pending: Vec<Pending> = Vec::new();
    let mut last_refusal = None;
    loop {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true).map_err(|e| e.to_string())?;
                    if pending.len() >= PENDING_MAX {
                        pending.remove(0);
                    }
                    pending.push(Pending { stream, said: Vec::new() });
                }
                Err(error) if is_temporary(&error) => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        let mut i = 0;
        while i < pending.len() {
            match pending[i].read() {
                Ok(None) => i += 1,
                Ok(Some(line)) => {
                    let stream = pending.swap_remove(i).stream;
                    match check(&line, token) {
                        Ok(hello) => {
                            stream.set_nonblocking(false).map_err(|e| e.to_string())?;
                            return Ok((stream, hello));
                        }
                        Err(reason) => last_refusal = Some(reason),
                    }
                }
                Err(_) => drop(pending.swap_remove(i)),
            }
        }
        if let Some(reason) = over() {
            return Err(reason);
        }
        if Instant::now() > deadline {
            let who = last_refusal.map(|why| format!("; somebody else did ({why})"));
            return Err(format!("it did not dial back{}", who.unwrap_or_default()));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The greeting of a connection that is there already, whose reads have a time limit.
pub(super) fn greet(stream: TcpStream, token: &str) -> Result<(TcpStream, Hello), String> {
    let mut pending = Pending { stream, said: Vec::new() };
    match pending.read().map_err(|e| e.to_string())? {
        Some(line) => check(&line, token).map(|hello| (pending.stream, hello)),
        None => Err("it says nothing".into()),
    }
}

/// Nobody is there, or somebody who was there left again.
fn is_temporary(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted)
}

impl Pending {
    /// The line, once it is there. It is read byte by byte, so that nothing behind it is lost.
    fn read(&mut self) -> io::Result<Option<String>> {
        let mut byte = [0];
        loop {
            match self.stream.read(&mut byte) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if byte[0] == b'\n' => {
                    return Ok(Some(String::from_utf8_lossy(&self.said).into_owned()));
                }
                Ok(_) if self.said.len() >= HELLO_BYTES_MAX => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Ok(_) => self.said.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn check(line: &str, token: &str) -> Result<Hello, String> {
    let hello: Hello = parse_line("plane", line)?;
    if hello.role != "plane" || hello.protocol != PROTOCOL {
        let (role, protocol) = (hello.role, hello.protocol);
        return Err(format!(
            "a {role:?} of protocol {protocol} dialled; this is a plane's port, protocol {PROTOCOL}"
        ));
    }
    if hello.token != token {
        return Err("the plane has the token of another run".into());
    }
    Ok(hello)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::plane::protocol::to_line;
    use std::io::Write;

    fn hello(token: &str) -> String {
        let role = "plane".to_owned();
        to_line(&Hello { role, protocol: PROTOCOL, token: token.into(), os_pid: 7 }).unwrap()
    }

    #[test]
    fn strangers_who_come_first_are_passed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dial = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _silent: Vec<TcpStream> = (0..PENDING_MAX + 10).map(|_| dial()).collect();
        let mut strangers = Vec::new();
        for said in ["{\"nope\": 1}\n".to_owned(), hello("wrong"), "x".repeat(3 * HELLO_BYTES_MAX)]
        {
            let mut stranger = dial();
            stranger.write_all(said.as_bytes()).unwrap();
            strangers.push(stranger);
        }
        drop(dial());
        let mut plane = dial();
        plane.write_all(hello("right").as_bytes()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let (_, hello) = receive(&listener, "right", deadline, &|| None).unwrap();
        assert_eq!(hello.os_pid, 7);
    }

    #[test]
    fn the_end_of_the_plane_and_of_the_time_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stranger = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stranger.write_all(hello("wrong").as_bytes()).unwrap();
        let late = Instant::now() + Duration::from_millis(200);
        let told = receive(&listener, "right", late, &|| None).unwrap_err();
        assert!(told.contains("token of another run"), "{told}");
        let ended = receive(&listener, "right", late, &|| Some("it ended".into())).unwrap_err();
        assert_eq!(ended, "it ended");
    }
}
