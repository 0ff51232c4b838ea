//! The capture of the link plane, read by a reader of its own and, where there is one, by Wireshark's.

// Helpers are outside of test functions, which clippy.toml excepts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "plane/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use fuzz_dist_core::fault::LinkFault;
use fuzz_dist_nemesis::plane::Options;

use support::{TestPlane, both, connected_pair_of, eventually};

/// What stands in one packet of a capture.
#[derive(Debug)]
struct Packet {
    interface: String,
    at_ns: u64,
    position: u32,
    syn: bool,
    contents: Vec<u8>,
    comment: String,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Options by code.
fn options(mut bytes: &[u8]) -> BTreeMap<u16, Vec<u8>> {
    let mut found = BTreeMap::new();
    while bytes.len() >= 4 {
        let code = u16::from_le_bytes([bytes[0], bytes[1]]);
        let len = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
        if code != 0 {
            found.insert(code, bytes[4..4 + len].to_vec());
        }
        bytes = &bytes[4 + len.next_multiple_of(4)..];
    }
    assert!(bytes.is_empty(), "options do not fill their block");
    found
}

/// Packets of a capture and the names that it gives to addresses.
fn read(path: &Path) -> (Vec<Packet>, BTreeMap<String, [u8; 4]>) {
    let bytes = std::fs::read(path).unwrap();
    let (mut packets, mut names, mut interfaces) = (Vec::new(), BTreeMap::new(), Vec::new());
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (kind, len) = (word(rest, 0), word(rest, 4) as usize);
        assert!(len.is_multiple_of(4) && word(rest, len - 4) as usize == len, "both lengths");
        let body = &rest[8..len - 4];
        match kind {
            0x0a0d_0d0a => {
                assert_eq!((word(body, 0), rest.len()), (0x1a2b_3c4d, bytes.len()), "first, once");
            }
            1 => {
                assert_eq!(word(body, 0), 101, "packets begin with IP");
                let options = options(&body[8..]);
                assert_eq!(options[&9], [9], "nanoseconds");
                interfaces.push(String::from_utf8(options[&2].clone()).unwrap());
            }
            4 => {
                let record = &options(body)[&1];
                let name = String::from_utf8(record[4..record.len() - 1].to_vec()).unwrap();
                names.insert(name, record[..4].try_into().unwrap());
            }
            6 => packets.push(packet(body, &interfaces)),
            other => panic!("a block of type {other}"),
        }
        rest = &rest[len..];
    }
    (packets, names)
}

fn packet(body: &[u8], interfaces: &[String]) -> Packet {
    let len = word(body, 12) as usize;
    assert_eq!(word(body, 16) as usize, len, "nothing was cut off");
    let (packet, rest) = body[20..].split_at(len);
    let comment = options(&rest[len.next_multiple_of(4) - len..]).remove(&1).unwrap_or_default();
    assert_eq!((packet[0], packet[9], packet[32]), (0x45, 6, 0x50), "TCP in IPv4");
    assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), len);
    Packet {
        interface: interfaces[word(body, 0) as usize].clone(),
        at_ns: u64::from(word(body, 4)) << 32 | u64::from(word(body, 8)),
        position: u32::from_be_bytes(packet[24..28].try_into().unwrap()),
        syn: packet[33] & 2 != 0,
        contents: packet[40..].to_vec(),
        comment: String::from_utf8(comment).unwrap(),
    }
}

#[test]
fn what_crosses_links_is_in_the_capture_with_what_it_means() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("links.pcapng");
    let plane = TestPlane::start();
    let nowhere = Options { capture: Some("/nowhere/x".into()), ..Options::default() };
    let error = plane.client.configure(nowhere).unwrap_err().to_string();
    assert!(error.contains("/nowhere/x"), "{error}");
    plane.client.configure(Options { capture: Some(path.clone()), ..Options::default() }).unwrap();
    let (plane, mut a, mut b) = connected_pair_of(plane);
    a.eval("{sink, 'b@127.0.0.1'} ! marker_of_the_capture");
    a.eval("{sink, 'b@127.0.0.1'} ! binary:copy(<<7>>, 300000), ok");
    eventually("it arrives", || (b.received() == "[marker_of_the_capture,300000]").then_some(()));
    plane.client.apply(1, &both("a", "b"), None, &LinkFault::HOLD, None).unwrap();
    a.eval("{sink, 'b@127.0.0.1'} ! held_by_a_fault");
    eventually("a tick and a frame", || {
        (plane.stats("b", "a", "dist").counts.bytes_held > 0).then_some(())
    });
    let passed = |from: &str, to: &str| plane.stats(from, to, "dist").counts.bytes_passed;
    let passed = [("a -> b (dist)", passed("a", "b")), ("b -> a (dist)", passed("b", "a"))];
    let contents = |packets: &[Packet], interface: &str| -> Vec<u8> {
        let of_it = packets.iter().filter(|packet| packet.interface == interface);
        of_it.flat_map(|packet| packet.contents.clone()).collect()
    };
    let (packets, names) = eventually("all is written", || {
        let read = std::panic::catch_unwind(|| read(&path)).ok()?;
        let whole =
            |(interface, bytes): &(&str, u64)| contents(&read.0, interface).len() as u64 == *bytes;
        passed.iter().all(whole).then_some(read)
    });
    assert_eq!(names.keys().collect::<Vec<_>>(), ["a", "b"]);
    for (interface, _) in passed {
        let of_it: Vec<&Packet> = packets.iter().filter(|one| one.interface == interface).collect();
        assert!(of_it[0].syn);
        assert!(of_it.is_sorted_by_key(|packet| packet.at_ns));
        let mut position = of_it[0].position + 1;
        for packet in &of_it[1..] {
            assert_eq!(packet.position, position, "no gap");
            position += packet.contents.len() as u32;
        }
        let told: Vec<&str> = of_it.iter().flat_map(|packet| packet.comment.lines()).collect();
        let tells = |what: &str| told.iter().any(|line| line.contains(what));
        assert!(tells("handshake: ") && tells("REG_SEND"), "{told:?}");
        if interface.starts_with('a') {
            assert!(tells("name of a@127.0.0.1, flags 0x") && tells("challenge reply"), "{told:?}");
            assert!(tells("fragments of"), "300 kB go in fragments: {told:?}");
            assert!(tells("new atoms: "), "{told:?}");
        } else {
            assert!(tells("status ok") && tells("challenge of b@127.0.0.1"), "{told:?}");
        }
    }
    let sent = contents(&packets, "a -> b (dist)");
    let contains = |what: &[u8]| sent.windows(what.len()).any(|window| window == what);
    assert!(contains(b"marker_of_the_capture") && !contains(b"held_by_a_fault"));
    wireshark_reads(&path, packets.len());
}

/// Where it is installed.
fn wireshark_reads(path: &Path, count: usize) {
    let fields =
        ["-T", "fields", "-e", "tcp.len", "-e", "frame.comment", "-e", "frame.interface_name"];
    match Command::new("tshark").arg("-r").arg(path).args(fields).output() {
        Err(error) => println!("tshark did not read it too: {error}"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(text.lines().filter(|line| line.contains("(dist)")).count() >= count);
            assert!(text.contains("REG_SEND") && text.contains("handshake: name of a@127.0.0.1"));
        }
    }
}
