//! What the distribution says of its frames, in words.
//!
//! Source: "Distribution Protocol" and "External Term Format" (distribution header) in the ERTS reference
//! manual. Bytes come from nodes and may be anything: what cannot be read is named by its tag.

use fuzz_dist_core::fault::OPERATIONS;

use crate::plane::framing::Writer;

/// A message of the handshake, from its tag on.
pub fn handshake(writer: Writer, message: &[u8]) -> String {
    let by_opener = writer == Writer::Opener;
    let text = |from: usize| String::from_utf8_lossy(message.get(from..).unwrap_or_default());
    match message.first() {
        Some(b'N') => {
            let flags = message.get(1..9).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
            let flags = flags.map_or(0, u64::from_be_bytes);
            let (what, name_at) = if by_opener { ("name", 15) } else { ("challenge", 19) };
            format!("handshake: {what} of {}, flags {flags:#x}", text(name_at))
        }
        Some(b'n') => {
            let (what, name_at) = if by_opener { ("name", 7) } else { ("challenge", 11) };
            format!("handshake: {what} of {}, old form", text(name_at))
        }
        Some(b's') => format!("handshake: status {}", text(1)),
        Some(b'c') => "handshake: complement".into(),
        Some(b'r') => "handshake: challenge reply".into(),
        Some(b'a') => "handshake: challenge acknowledgement".into(),
        Some(tag) => format!("handshake: tag {tag}"),
        None => "handshake: empty".into(),
    }
}

/// A frame after the handshake, of which `bytes` is what there is of the contents and `len` their length.
pub fn frame(bytes: &[u8], len: u32) -> String {
    let what = match bytes {
        [112, 131, control @ ..] => operation(control),
        [131, 68, rest @ ..] => behind_atoms(rest),
        [131, 69, rest @ ..] => {
            let (sequence, fragment) = (number(rest, 0), number(rest, 8));
            let inner = behind_atoms(rest.get(16..).unwrap_or_default());
            format!("{inner}, first of {fragment} fragments of {sequence:#x}")
        }
        [131, 70, rest @ ..] => {
            let (sequence, fragment) = (number(rest, 0), number(rest, 8));
            format!("fragment of {sequence:#x}, {} to come", fragment.saturating_sub(1))
        }
        [tag, ..] => format!("tag {tag}"),
        [] => "a message".into(),
    };
    format!("{what}, {len} bytes")
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..at + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    found.map_or(0, u64::from_be_bytes)
}

/// The operation of a control tuple.
fn operation(control: &[u8]) -> String {
    let [104, _, 97, number, ..] = control else { return "a message".into() };
    let known = OPERATIONS.iter().find(|(known, _)| known == number);
    known.map_or_else(|| format!("operation {number}"), |(_, name)| (*name).to_owned())
}

/// The operation behind references to the atom cache, with the atoms that are new to it.
fn behind_atoms(bytes: &[u8]) -> String {
    match skip_atoms(bytes) {
        Some((control, new)) if new.is_empty() => operation(control),
        Some((control, new)) => format!("{} (new atoms: {})", operation(control), new.join(" ")),
        None => "a message".into(),
    }
}

fn skip_atoms(bytes: &[u8]) -> Option<(&[u8], Vec<String>)> {
    let (&count, mut rest) = bytes.split_first()?;
    let count = usize::from(count);
    let mut new = Vec::new();
    if count == 0 {
        return Some((rest, new));
    }
    // Half a byte for each atom, and one more that says how long their lengths are.
    let flags = rest.get(..count / 2 + 1)?;
    rest = rest.get(count / 2 + 1..)?;
    let flag = |index: usize| {
        let byte = flags[index / 2];
        if index.is_multiple_of(2) { byte & 0x0f } else { byte >> 4 }
    };
    let long = flag(count) & 1 == 1;
    for index in 0..count {
        rest = rest.get(1..)?;
        if flag(index) & 8 == 0 {
            continue;
        }
        let (len, header_len) = match (long, rest) {
            (false, [len, ..]) => (usize::from(*len), 1),
            (true, [high, low, ..]) => (usize::from(u16::from_be_bytes([*high, *low])), 2),
            _ => return None,
        };
        let atom = rest.get(header_len..header_len + len)?;
        new.push(String::from_utf8_lossy(atom).into_owned());
        rest = rest.get(header_len + len..)?;
    }
    Some((rest, new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_with_their_operation() {
        assert_eq!(frame(&[112, 131, 104, 4, 97, 6, 0], 7), "REG_SEND, 7 bytes");
        assert_eq!(frame(&[131, 68, 0, 104, 3, 97, 2], 9), "SEND, 9 bytes");
        // Two atoms, the first of them new.
        let cached = [131, 68, 2, 0x08, 0, 5, 3, b'r', b'e', b'x', 7, 104, 4, 97, 6];
        assert_eq!(frame(&cached, 15), "REG_SEND (new atoms: rex), 15 bytes");
        let first = [&[131, 69][..], &[0; 7], &[9], &[0; 7], &[3], &[0, 104, 3, 97, 2]].concat();
        assert_eq!(frame(&first, 50), "SEND, first of 3 fragments of 0x9, 50 bytes");
        let next = [&[131, 70][..], &[0; 7], &[9], &[0; 7], &[1]].concat();
        assert_eq!(frame(&next, 50), "fragment of 0x9, 0 to come, 50 bytes");
        for len in 0..cached.len() {
            assert!(frame(&cached[..len], 15).ends_with("15 bytes"), "torn at {len}");
        }
    }

    #[test]
    fn the_handshake_is_told() {
        let name = b"N\0\0\0\x0d\x07\xdf\x7f\xbd\0\0\0\x01\0\x03a@b";
        let told = handshake(Writer::Opener, name);
        assert_eq!(told, "handshake: name of a@b, flags 0xd07df7fbd");
        assert_eq!(handshake(Writer::Acceptor, b"sok"), "handshake: status ok");
        for len in 0..name.len() {
            assert!(handshake(Writer::Acceptor, &name[..len]).starts_with("handshake: "));
        }
    }
}
