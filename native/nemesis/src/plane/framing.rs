//! Where the frames of the Erlang distribution begin and end in a stream of bytes.
//!
//! During the handshake a frame has a length of two bytes, afterwards of four; a frame of length 0 is a
//! tick. The side that opened the connection changes after its `r` (challenge reply), the other side
//! after its `a` (challenge acknowledgement). Frames of the handshake come whole; later ones are never
//! gathered: a frame of any size is known by how much of it is still to come. A stream that does not begin
//! like a handshake (TLS) is raw: its bytes belong to no frame, and each chunk of them counts as whole.
//!
//! Which operation a frame carries can be told only where both sides have neither atom cache nor
//! fragments: then it is `112, Control, Message` in plain external terms, and `Control` a small tuple
//! that begins with a small integer. [`without_headers`] takes the two out of what the sides announce, which
//! the digest of the handshake does not cover.
//!
//! Source: "Distribution Protocol" in the ERTS reference manual.

/// Which side of a connection wrote the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// The side that opened the connection.
    Opener,
    /// The side that accepted it.
    Acceptor,
    /// A stream that is not a distribution.
    Raw,
}

/// A stretch of bytes that belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of one frame that is not a tick; `ends` when they are the last of it.
    Data {
        /// How many.
        len: usize,
        /// Whether the frame is complete with them.
        ends: bool,
        /// Whether the frame belongs to the handshake, which nothing may overtake.
        handshake: bool,
        /// The number of the operation, of a plain message that begins here.
        operation: Option<u8>,
    },
    /// A whole tick: four bytes.
    Tick,
}

impl Piece {
    /// How many bytes it has.
    pub fn len(self) -> usize {
        match self {
            Piece::Data { len, .. } => len,
            Piece::Tick => TICK.len(),
        }
    }

    /// What is left of it when its first bytes have passed already.
    pub fn without_beginning(self) -> Piece {
        match self {
            Piece::Data { len, ends, handshake, .. } => {
                Piece::Data { len, ends, handshake, operation: None }
            }
            Piece::Tick => Piece::Tick,
        }
    }

    /// Whether it has no bytes; never.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A tick on the wire.
pub const TICK: [u8; 4] = [0; 4];

/// No handshake message of any release is longer than this; a longer one is not a handshake.
const HANDSHAKE_LEN_MAX: usize = 2_048;

/// Bytes of a plain message up to the end of its operation: length, `p`, version, a small tuple with
/// its arity, a small integer with its value.
const OPERATION_LEN: usize = 10;

/// Bytes that may have to be presented again with what follows.
pub const KEPT_BACK_MAX: usize = 2 + HANDSHAKE_LEN_MAX;

/// `DFLAG_DIST_HDR_ATOM_CACHE` and `DFLAG_FRAGMENTS`.
const HEADER_FLAGS: u32 = 0x80_2000;

/// Clears the flags that make messages travel with headers of their own, in a whole frame of the handshake
/// that announces flags: `N` of either side, and `n` of releases before 23.
pub fn without_headers(frame: &mut [u8]) {
    // Behind length and tag: 64 bits of flags, or a version of 16 bits and 32 bits of flags.
    let low_word = match frame.get(2) {
        Some(b'N') => 7..11,
        Some(b'n') => 5..9,
        _ => return,
    };
    if let Some(word) = frame.get_mut(low_word)
        && let Ok(flags) = <[u8; 4]>::try_from(&*word)
    {
        let flags = u32::from_be_bytes(flags) & !HEADER_FLAGS;
        word.copy_from_slice(&flags.to_be_bytes());
    }
}

/// The operation of a frame that begins with these bytes, if it is a plain message.
fn operation(frame: &[u8]) -> Option<u8> {
    match frame.get(4..OPERATION_LEN)? {
        [112, 131, 104, _, 97, operation] => Some(*operation),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    FirstHandshake,
    Handshake,
    Distribution,
    Raw,
}

/// Splits a stream into pieces.
#[derive(Debug, Clone)]
pub struct Framer {
    writer: Writer,
    phase: Phase,
    /// Whether the current frame belongs to the handshake.
    handshake: bool,
    /// Bytes of the current frame that have not come yet.
    remaining: u64,
}

impl Framer {
    /// For the stream that `writer` writes, from its first byte.
    pub fn new(writer: Writer) -> Framer {
        let phase = if writer == Writer::Raw { Phase::Raw } else { Phase::FirstHandshake };
        Framer { writer, phase, handshake: false, remaining: 0 }
    }

    /// Whether the stream turned out not to be a distribution.
    pub fn is_raw(&self) -> bool {
        self.phase == Phase::Raw
    }

    /// Whether the next frame of the stream is behind the handshake.
    pub fn is_past_handshake(&self) -> bool {
        self.phase == Phase::Distribution
    }

    /// The next piece at the start of `bytes`, or `None` when more bytes are needed to know it: a whole
    /// frame of the handshake, or what comes before the contents of a later one. The caller presents those
    /// again; they are at most [`KEPT_BACK_MAX`].
    pub fn next_piece(&mut self, bytes: &[u8]) -> Option<Piece> {
        if bytes.is_empty() {
            return None;
        }
        if self.phase == Phase::Raw {
            let len = bytes.len();
            return Some(Piece::Data { len, ends: true, handshake: false, operation: None });
        }
        if self.remaining > 0 {
            return Some(self.body(0, bytes.len()));
        }
        match self.phase {
            Phase::Distribution => {
                let header: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
                match u32::from_be_bytes(header) {
                    0 => Some(Piece::Tick),
                    len => {
                        let whole = usize::try_from(len).unwrap_or(usize::MAX).saturating_add(4);
                        if bytes.len() < whole.min(OPERATION_LEN) {
                            return None;
                        }
                        self.remaining = u64::from(len);
                        self.handshake = false;
                        let mut piece = self.body(4, bytes.len());
                        if let Piece::Data { operation: found, len, .. } = &mut piece {
                            *found = operation(&bytes[..*len]);
                        }
                        Some(piece)
                    }
                }
            }
            _ => self.handshake_frame(bytes),
        }
    }

    /// Header of `header_len` bytes followed by what is there of the body.
    fn body(&mut self, header_len: usize, available: usize) -> Piece {
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let taken = wanted.min(available - header_len);
        self.remaining -= taken as u64;
        let ends = self.remaining == 0;
        let len = header_len + taken;
        Piece::Data { len, ends, handshake: self.handshake, operation: None }
    }

    fn handshake_frame(&mut self, bytes: &[u8]) -> Option<Piece> {
        if bytes.len() < 3 {
            return None;
        }
        let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let tag = bytes[2];
        let plausible = match (self.phase, self.writer) {
            (Phase::FirstHandshake, Writer::Opener) => matches!(tag, b'n' | b'N'),
            (Phase::FirstHandshake, _) => tag == b's',
            _ => tag.is_ascii_alphabetic(),
        };
        if len == 0 || len > HANDSHAKE_LEN_MAX || !plausible {
            self.phase = Phase::Raw;
            return self.next_piece(bytes);
        }
        if bytes.len() < 2 + len {
            return None;
        }
        self.phase = match (self.writer, tag) {
            (Writer::Opener, b'r') | (Writer::Acceptor, b'a') => Phase::Distribution,
            _ => Phase::Handshake,
        };
        self.remaining = len as u64;
        self.handshake = true;
        Some(self.body(2, bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, RngExt};

    fn handshake_frame(body: &[u8]) -> Vec<u8> {
        let mut frame = (body.len() as u16).to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        frame
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = (body.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        frame
    }

    /// Presents `stream` in chunks as they might be read; returns (frames, ticks, bytes).
    fn feed(
        writer: Writer,
        stream: &[u8],
        mut chunk_len: impl FnMut() -> usize,
    ) -> (u64, u64, u64) {
        let mut framer = Framer::new(writer);
        let (mut frames, mut ticks, mut bytes) = (0, 0, 0);
        let mut pending = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at(chunk_len().clamp(1, rest.len()));
            rest = tail;
            pending.extend_from_slice(chunk);
            while let Some(piece) = framer.next_piece(&pending) {
                match piece {
                    Piece::Tick => ticks += 1,
                    Piece::Data { ends, .. } => frames += u64::from(ends),
                }
                bytes += piece.len() as u64;
                pending.drain(..piece.len());
            }
            assert!(
                pending.len() < KEPT_BACK_MAX,
                "more than a frame of the handshake was kept back"
            );
        }
        (frames, ticks, bytes + pending.len() as u64)
    }

    #[test]
    fn frames_and_ticks_are_found_however_the_bytes_come() {
        let mut opener = [handshake_frame(b"Nname"), handshake_frame(b"r0123")].concat();
        for body in [&b"p"[..], &[0; 70_000], b"xyz"] {
            opener.extend(frame(body));
            opener.extend(TICK);
        }
        opener.extend(TICK);
        let mut acceptor = [handshake_frame(b"sok"), handshake_frame(b"Nchallenge")].concat();
        acceptor.extend(handshake_frame(b"a0123456789abcdef"));
        acceptor.extend(TICK);
        acceptor.extend(frame(b"q"));

        let mut random = fuzz_dist_core::seed::Seed(1).stream("framing", 0);
        for chunk_len_max in [1usize, 3, 7, 64, 4_096, 1 << 20] {
            let mut draw = || random.random_range(1..=chunk_len_max);
            let total = opener.len() as u64;
            assert_eq!(feed(Writer::Opener, &opener, &mut draw), (5, 4, total));
            let total = acceptor.len() as u64;
            assert_eq!(feed(Writer::Acceptor, &acceptor, &mut draw), (4, 1, total));
        }
    }

    #[test]
    fn the_operation_of_a_plain_message_is_told() {
        let mut framer = Framer::new(Writer::Opener);
        for first in [handshake_frame(b"N"), handshake_frame(b"r0")] {
            framer.next_piece(&first).unwrap();
        }
        let mut of = |bytes: &[u8]| match framer.next_piece(bytes) {
            Some(Piece::Data { operation, ends: true, .. }) => operation,
            other => panic!("{other:?}"),
        };
        assert_eq!(of(&frame(&[112, 131, 104, 4, 97, 6, 1, 2, 3])), Some(6));
        assert_eq!(of(&frame(&[131, 68, 0, 104, 4, 97, 6, 1, 2])), None, "with a header");
        assert_eq!(of(&frame(&[112, 131])), None, "torn");
    }

    #[test]
    fn announced_flags_lose_cache_and_fragments_and_nothing_else() {
        let mut name = handshake_frame(b"N\0\0\0\x0d\x07\xdf\x7f\xbd\0\0\0\x01\0\x01a");
        let before = name.clone();
        without_headers(&mut name);
        assert_eq!(name[7..11], [0x07, 0x5f, 0x5f, 0xbd]);
        assert_eq!((&name[..7], &name[11..]), (&before[..7], &before[11..]));
        let mut old = handshake_frame(b"n\0\x05\x07\xdf\x7f\xbda@b");
        without_headers(&mut old);
        assert_eq!(old[5..9], [0x07, 0x5f, 0x5f, 0xbd]);
        for other in [&b"sok"[..], b"r0123456789abcdef01234567890", b"N\0"] {
            let mut frame = handshake_frame(other);
            without_headers(&mut frame);
            assert_eq!(frame[2..], *other);
        }
    }

    #[test]
    fn what_is_no_handshake_is_raw() {
        let tls = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00];
        for stream in [&tls[..], b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0\0\0"] {
            for writer in [Writer::Opener, Writer::Acceptor, Writer::Raw] {
                let mut framer = Framer::new(writer);
                let piece = framer.next_piece(stream).unwrap();
                let len = stream.len();
                let whole = Piece::Data { len, ends: true, handshake: false, operation: None };
                assert_eq!(piece, whole);
                assert!(framer.is_raw());
            }
        }
    }

    #[test]
    fn no_bytes_break_it() {
        let mut random = fuzz_dist_core::seed::Seed(2).stream("framing", 1);
        for round in 0..200 {
            let mut noise = vec![0; 300];
            random.fill_bytes(&mut noise);
            if round % 2 == 0 {
                noise[..3].copy_from_slice(&[0, 2, b'N']);
            }
            let (_, _, bytes) = feed(Writer::Opener, &noise, || 5);
            assert_eq!(bytes, 300);
        }
    }
}
