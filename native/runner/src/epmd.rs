//! Asks a port mapper of Erlang (EPMD) where a node listens.
//!
//! Format: Erlang/OTP, "Distribution Protocol", ERTS User's Guide.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The request for the port of a name, and its answer.
const PORT_PLEASE2_REQ: u8 = 122;
const PORT2_RESP: u8 = 119;

/// The port at which the node with this short name listens; `None` if the mapper does not know it.
pub(crate) fn dist_port(mapper: SocketAddr, short: &str) -> io::Result<Option<u16>> {
    let mut stream = TcpStream::connect_timeout(&mapper, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(short.len() + 1)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the name is too long"))?;
    let mut request = length.to_be_bytes().to_vec();
    request.push(PORT_PLEASE2_REQ);
    request.extend(short.bytes());
    stream.write_all(&request)?;
    let mut answer = Vec::new();
    // It closes after its answer.
    stream.take(1024).read_to_end(&mut answer)?;
    Ok(match answer.as_slice() {
        [PORT2_RESP, 0, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    })
}
