//! Any bytes as the frames of a `history.fdh`. A checksum keeps random bytes out of what is behind it, so
//! the input is taken for payloads, each with its length before it, and framed rightly here; a first byte of
//! zero leaves it as it is.

use fuzz_dist_core::history_file::Reader;
use fuzz_dist_core::interop::{Format, load_bytes};

const MAGIC: &[u8] = b"\x89fdh\r\n\x1a\x01";
const HEADER: &[u8] = br#"{"run":"r","test":"t","seed":1,"clock":{"start_monotonic_ns":0,"start_wall_ns":0},"spec":""}"#;

fn frame(kind: u8, payload: &[u8], file: &mut Vec<u8>) {
    let length = (payload.len() as u32 + 1).to_le_bytes();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    crc.update(&[kind]);
    crc.update(payload);
    file.extend(length);
    file.extend(crc.finalize().to_le_bytes());
    file.push(kind);
    file.extend(payload);
}

/// Panics where the input shows a fault.
pub fn check(bytes: &[u8]) {
    let Some((&kind, mut rest)) = bytes.split_first() else { return };
    let mut file = MAGIC.to_vec();
    if kind == 0 {
        file.extend(rest);
    } else {
        frame(1, HEADER, &mut file);
        while let Some((&length, behind)) = rest.split_first() {
            // Small and large frames, both from one byte.
            let length = usize::from(length) * if length & 1 == 0 { 1 } else { 16 };
            let (payload, behind) = behind.split_at(length.min(behind.len()));
            frame(2, payload, &mut file);
            rest = behind;
        }
    }
    let _ = Reader::open_bytes("fuzz", file.clone());
    let _ = load_bytes("fuzz", &file, Some(Format::Fdh));
}
