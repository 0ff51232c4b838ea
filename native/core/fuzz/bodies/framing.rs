//! Any bytes as the stream of a distribution connection: the frames that the link proxy finds do not depend on
//! how the bytes arrive, no byte is lost or doubled, and never more is kept back than a frame of the handshake.
//! The first byte chooses who writes, the second the sizes of the chunks.

use fuzz_dist_nemesis::plane::framing::{Framer, KEPT_BACK_MAX, Piece, Writer, without_headers};

/// What there is in a stream, with the parts of one frame put together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    frames: Vec<(usize, bool, Option<u8>)>,
    ticks: usize,
    unfinished: usize,
    raw: bool,
}

fn read(writer: Writer, stream: &[u8], chunk_bytes: usize) -> Found {
    let mut framer = Framer::new(writer);
    let mut found = Found::default();
    let (mut pending, mut frame, mut operation_of_frame) = (Vec::new(), 0, None);
    let mut taken = 0;
    for chunk in stream.chunks(chunk_bytes) {
        pending.extend_from_slice(chunk);
        while let Some(piece) = framer.next_piece(&pending) {
            assert!(!piece.is_empty() && piece.len() <= pending.len());
            taken += piece.len();
            match piece {
                Piece::Tick => found.ticks += 1,
                Piece::Data { len, ends, handshake, operation } => {
                    operation_of_frame = operation_of_frame.or(operation);
                    frame += len;
                    if ends && !framer.is_raw() {
                        found.frames.push((frame, handshake, operation_of_frame.take()));
                        frame = 0;
                    }
                }
            }
            if handshake(piece) {
                without_headers(&mut pending[..piece.len()]);
            }
            pending.drain(..piece.len());
        }
        assert!(pending.len() <= KEPT_BACK_MAX, "{} bytes are kept back", pending.len());
    }
    assert_eq!(taken + pending.len(), stream.len());
    found.raw = framer.is_raw();
    found.unfinished = frame + pending.len();
    found
}

fn handshake(piece: Piece) -> bool {
    matches!(piece, Piece::Data { handshake: true, .. })
}

/// Panics where the input shows a fault.
pub fn check(bytes: &[u8]) {
    let [choice, size, stream @ ..] = bytes else { return };
    let writer = match choice % 3 {
        0 => Writer::Opener,
        1 => Writer::Acceptor,
        _ => Writer::Raw,
    };
    let whole = read(writer, stream, stream.len().max(1));
    assert_eq!(read(writer, stream, usize::from(*size).max(1)), whole);
}
