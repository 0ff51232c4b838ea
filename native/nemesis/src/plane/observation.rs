//! Whether a fault has had its effect on a link, judged by what was counted since it was applied.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use fuzz_dist_core::fault::LinkFault;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::protocol::{LinkCounts, LinkObservation};
use super::registry::ChannelKey;

/// On loopback a refusal comes at once.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// What of a fault is seen on its channels, each with the counters at its application and now, and with the port
/// where the source connects.
pub fn observe(
    kind: &LinkFault,
    applied_ns: u64,
    channels: Vec<(ChannelKey, LinkCounts, LinkCounts, u16)>,
) -> Vec<LinkObservation> {
    let mut probes = Vec::new();
    if matches!(kind, LinkFault::BlackholeConnect) {
        let ports: Vec<u16> = channels.iter().map(|channel| channel.3).collect();
        probes = probe_silence(&ports);
    }
    let channels = channels.into_iter().enumerate();
    let observations = channels.map(|(i, (key, before, now, proxy_port))| {
        let (seen, effect) = judge(kind, &before, &now, proxy_port, probes.get(i));
        LinkObservation {
            link: key.link(),
            channel: key.channel,
            seen,
            effect,
            applied_monotonic_ns: applied_ns,
            before,
            now,
        }
    });
    observations.collect()
}

/// Whether the effect of `kind` shows between two readings of the counters, and in which words.
/// `proxy_port` is where the source of the link connects, `probe` what became of a connect there, of links that
/// should be silent.
fn judge(
    kind: &LinkFault,
    before: &LinkCounts,
    now: &LinkCounts,
    proxy_port: u16,
    probe: Option<&Probe>,
) -> (bool, String) {
    let passed = now.bytes_passed - before.bytes_passed;
    let frames = now.frames_passed - before.frames_passed;
    let ticks = now.ticks_passed - before.ticks_passed;
    let closed = now.closed_by_fault - before.closed_by_fault;
    let postponed = now.postponed - before.postponed;
    match kind {
        LinkFault::Hold { .. } => {
            let stopped = now.open > 0 || now.attempts_waiting > 0;
            let text = format!(
                "{passed} bytes passed, {} held, {} connections open, {} attempts waiting",
                now.bytes_held, now.open, now.attempts_waiting
            );
            (passed == 0 && stopped, text)
        }
        LinkFault::TicksOnly => {
            // A frame that was half written when the fault began is completed.
            let text =
                format!("{ticks} ticks and {frames} frames passed, {} bytes held", now.bytes_held);
            (frames <= 1 && now.open > 0 && (ticks > 0 || now.bytes_held > 0), text)
        }
        LinkFault::NoTicks => {
            let dropped = now.ticks_dropped - before.ticks_dropped;
            let text = format!("{dropped} ticks dropped, {ticks} passed, {frames} frames passed");
            (dropped > 0 && ticks == 0, text)
        }
        LinkFault::Delay { .. } => (postponed > 0, format!("{postponed} pieces delayed")),
        LinkFault::Throttle { .. } => {
            (postponed > 0, format!("{postponed} waits, {passed} bytes passed"))
        }
        LinkFault::Fin | LinkFault::Rst => (closed > 0, format!("{closed} connections closed")),
        LinkFault::HalfOpen => {
            let silent = now.bytes_discarded - before.bytes_discarded;
            let ends = now.half_opened - before.half_opened;
            let text = format!("{ends} connections closed at one end, {silent} bytes vanished");
            (ends > 0, text)
        }
        LinkFault::RefuseConnect => {
            let (refused, text) = probe_refusal(proxy_port);
            let lookups = now.lookups_refused - before.lookups_refused;
            (refused, format!("{text}; the source asked for the port {lookups} times since"))
        }
        LinkFault::BlackholeConnect => match probe {
            Some(Probe::Unanswered) => (true, "a connect was not answered".into()),
            Some(Probe::Answered(how)) => (false, format!("a connect {how}")),
            None => (false, "no connect was tried".into()),
        },
        LinkFault::ForgedTicks => {
            let forged = now.ticks_forged - before.ticks_forged;
            let text = format!(
                "{forged} ticks forged and {frames} frames passed, {} bytes held",
                now.bytes_held
            );
            (frames <= 1 && forged > 0, text)
        }
        LinkFault::DropMessages { .. } => {
            let dropped = now.messages_dropped - before.messages_dropped;
            (dropped > 0, format!("{dropped} messages dropped, {frames} frames passed"))
        }
        LinkFault::DelayMessages { .. } => {
            let delayed = now.messages_delayed - before.messages_delayed;
            (delayed > 0, format!("{delayed} messages delayed, {frames} frames passed"))
        }
    }
}

/// What became of a connect to a link that should not answer any.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Probe {
    /// Nothing, for as long as we waited.
    Unanswered,
    /// Something, in words.
    Answered(String),
}

/// How long a connect that should not be answered is watched; on loopback an answer takes microseconds.
const SILENCE: Duration = Duration::from_millis(100);

/// Connects to all of these ports at once and watches them for a while.
fn probe_silence(ports: &[u16]) -> Vec<Probe> {
    let tried: Vec<io::Result<Socket>> = ports.iter().map(|port| begin_connect(*port)).collect();
    std::thread::sleep(SILENCE);
    tried.into_iter().map(judge_silence).collect()
}

fn begin_connect(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()) {
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => Ok(socket),
        Err(error) => Err(error),
        Ok(()) => Ok(socket),
    }
}

fn judge_silence(tried: io::Result<Socket>) -> Probe {
    let outcome = tried.and_then(|socket| match socket.take_error()? {
        Some(error) => Err(error),
        None => Ok(socket.peer_addr().is_ok()),
    });
    match outcome {
        Ok(false) => Probe::Unanswered,
        Ok(true) => Probe::Answered("succeeded".into()),
        Err(error) => Probe::Answered(format!("failed: {error}")),
    }
}

fn probe_refusal(port: u16) -> (bool, String) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpStream::connect_timeout(&address, PROBE_TIMEOUT) {
        Ok(_) => (false, "a connect succeeded".into()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            (true, "a connect was refused".into())
        }
        Err(error) => (false, format!("a connect failed otherwise: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_seen_when_something_was_stopped() {
        let before = LinkCounts { bytes_passed: 10, open: 1, ..LinkCounts::default() };
        let judge = |now: LinkCounts| judge(&LinkFault::HOLD, &before, &now, 0, None).0;
        assert!(judge(LinkCounts { bytes_held: 4, ..before }));
        assert!(!judge(LinkCounts { bytes_passed: 11, ..before }), "a byte passed");
        assert!(!judge(LinkCounts { open: 0, ..before }), "there was nothing to stop");
        assert!(judge(LinkCounts { open: 0, attempts_waiting: 1, ..before }));
    }

    #[test]
    fn ticks_tell_the_gray_faults_apart() {
        let before = LinkCounts { open: 1, ..LinkCounts::default() };
        let ticks = LinkCounts { ticks_passed: 2, ..before };
        assert!(judge(&LinkFault::TicksOnly, &before, &ticks, 0, None).0);
        assert!(!judge(&LinkFault::NoTicks, &before, &ticks, 0, None).0);
        let dropped = LinkCounts { ticks_dropped: 2, frames_passed: 9, ..before };
        assert!(!judge(&LinkFault::TicksOnly, &before, &dropped, 0, None).0);
        assert!(judge(&LinkFault::NoTicks, &before, &dropped, 0, None).0);
    }
}
