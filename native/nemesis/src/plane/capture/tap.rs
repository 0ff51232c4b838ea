//! One direction of one connection on its way into the capture.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fuzz_dist_core::clock::monotonic_ns;

use super::{Capture, describe};
use crate::plane::framing::{Framer, Piece, Writer};

/// Bytes in one packet: with the headers less than what the length of an IP packet can say.
const PACKET_LEN_MAX: usize = 32 * 1024;
/// So many frames are told in the comment of a packet; of the others the number.
const FRAMES_TOLD: usize = 8;

const HEADERS_LEN: usize = 40;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PUSH: u8 = 8;
const ACK: u8 = 16;

/// Writes what passes in one direction.
#[derive(Debug)]
pub struct Tap {
    capture: Arc<Capture>,
    interface: u32,
    /// Address and port of both ends, as they stand in the headers.
    ends: [u8; 12],
    /// How far the own and the other direction have come.
    positions: [Arc<AtomicU32>; 2],
    writer: Writer,
    framer: Framer,
    /// The beginning of a frame that cannot be told yet.
    pending: Vec<u8>,
    /// Whether the next piece belongs to a frame that was told.
    in_frame: bool,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Short name.
    pub node: &'a str,
    pub port: u16,
}

impl Tap {
    /// For what `writer` sends from one end to the other on a channel; `positions` are those of this
    /// direction and of the other.
    pub fn new(
        capture: &Arc<Capture>,
        (from, to): (End<'_>, End<'_>),
        channel: &str,
        writer: Writer,
        positions: [Arc<AtomicU32>; 2],
    ) -> Tap {
        let mut ends = [0; 12];
        ends[..4].copy_from_slice(&capture.address(from.node).octets());
        ends[4..8].copy_from_slice(&capture.address(to.node).octets());
        ends[8..10].copy_from_slice(&from.port.to_be_bytes());
        ends[10..].copy_from_slice(&to.port.to_be_bytes());
        let name = format!("{} -> {} ({channel})", from.node, to.node);
        let interface = capture.interface(&name);
        let (capture, framer) = (Arc::clone(capture), Framer::new(writer));
        Tap {
            capture,
            interface,
            ends,
            positions,
            writer,
            framer,
            pending: Vec::new(),
            in_frame: false,
        }
    }

    /// The connection begins; `opens` in the direction of who opened it.
    pub fn began(&mut self, opens: bool) {
        let flags = if opens { SYN } else { SYN | ACK };
        self.write(flags, &[], "", monotonic_ns());
        self.positions[0].fetch_add(1, Ordering::Relaxed);
    }

    /// The first `sent` bytes of these have passed.
    pub fn passed(&mut self, slices: &[IoSlice<'_>], sent: usize, now_ns: u64) {
        let mut left = sent;
        for slice in slices {
            let len = slice.len().min(left);
            left -= len;
            for chunk in slice[..len].chunks(PACKET_LEN_MAX) {
                let comment = self.describe(chunk);
                self.write(PUSH | ACK, chunk, &comment, now_ns);
                self.positions[0].fetch_add(chunk.len() as u32, Ordering::Relaxed);
            }
        }
    }

    /// The direction has ended, in order or not.
    pub fn ended(&mut self, in_order: bool) {
        self.write(if in_order { FIN | ACK } else { RST | ACK }, &[], "", monotonic_ns());
    }

    fn write(&self, flags: u8, bytes: &[u8], comment: &str, now_ns: u64) {
        let position = |index: usize| self.positions[index].load(Ordering::Relaxed).to_be_bytes();
        let acknowledged = if flags & ACK == 0 { [0; 4] } else { position(1) };
        let len = (HEADERS_LEN + bytes.len()) as u16;
        let mut packet = Vec::with_capacity(usize::from(len));
        packet.extend([0x45, 0]); // IPv4, five words.
        packet.extend(len.to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]); // Not to be fragmented; TCP.
        packet.extend(&self.ends);
        packet.extend(position(0));
        packet.extend(acknowledged);
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]); // Five words; a wide window.
        packet.extend(bytes);
        self.capture.packet(self.interface, now_ns, &packet, comment);
    }

    /// What begins in these bytes.
    fn describe(&mut self, chunk: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.pending);
        bytes.extend_from_slice(chunk);
        let (mut at, mut told, mut untold) = (0, Vec::new(), 0);
        while let Some(piece) = self.framer.next_piece(&bytes[at..]) {
            if let Some(text) = self.describe_piece(piece, &bytes[at..at + piece.len()]) {
                if told.len() < FRAMES_TOLD {
                    told.push(text);
                } else {
                    untold += 1;
                }
            }
            at += piece.len();
        }
        self.pending = bytes.split_off(at);
        if untold > 0 {
            told.push(format!("and {untold} more"));
        }
        told.join("\n")
    }

    fn describe_piece(&mut self, piece: Piece, bytes: &[u8]) -> Option<String> {
        let begins = !self.in_frame;
        self.in_frame = matches!(piece, Piece::Data { ends: false, .. });
        match piece {
            Piece::Tick => Some("tick".into()),
            Piece::Data { .. } if self.framer.is_raw() => None,
            Piece::Data { handshake: true, .. } => {
                Some(describe::handshake(self.writer, bytes.get(2..)?))
            }
            Piece::Data { .. } if !begins => None,
            Piece::Data { .. } => {
                let len = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
                Some(describe::frame(bytes.get(4..)?, len))
            }
        }
    }
}
