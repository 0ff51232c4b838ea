//! Whether a fault has had its effect on a link, judged by what was counted since it was applied.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use fuzz_dist_core::fault::LinkFault;

use super::protocol::LinkCounts;

/// On loopback a refusal comes at once.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Whether the effect of `kind` shows between two readings of the counters, and in which words.
/// `proxy_port` is where the source of the link connects.
pub fn judge(
    kind: &LinkFault,
    before: &LinkCounts,
    now: &LinkCounts,
    proxy_port: u16,
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
            let (refused, text) = probe(proxy_port);
            let lookups = now.lookups_refused - before.lookups_refused;
            (refused, format!("{text}; the source asked for the port {lookups} times since"))
        }
        LinkFault::ForgedTicks
        | LinkFault::BlackholeConnect
        | LinkFault::DropMessages { .. }
        | LinkFault::DelayMessages { .. } => (false, "not built".into()),
    }
}

fn probe(port: u16) -> (bool, String) {
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
        let judge = |now: LinkCounts| judge(&LinkFault::HOLD, &before, &now, 0).0;
        assert!(judge(LinkCounts { bytes_held: 4, ..before }));
        assert!(!judge(LinkCounts { bytes_passed: 11, ..before }), "a byte passed");
        assert!(!judge(LinkCounts { open: 0, ..before }), "there was nothing to stop");
        assert!(judge(LinkCounts { open: 0, attempts_waiting: 1, ..before }));
    }

    #[test]
    fn ticks_tell_the_gray_faults_apart() {
        let before = LinkCounts { open: 1, ..LinkCounts::default() };
        let ticks = LinkCounts { ticks_passed: 2, ..before };
        assert!(judge(&LinkFault::TicksOnly, &before, &ticks, 0).0);
        assert!(!judge(&LinkFault::NoTicks, &before, &ticks, 0).0);
        let dropped = LinkCounts { ticks_dropped: 2, frames_passed: 9, ..before };
        assert!(!judge(&LinkFault::TicksOnly, &before, &dropped, 0).0);
        assert!(judge(&LinkFault::NoTicks, &before, &dropped, 0).0);
    }
}
