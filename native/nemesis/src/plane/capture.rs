//! What crosses the links, as a pcapng file that Wireshark and tcpdump read.
//!
//! Bytes are written where they pass to their target, so what a fault holds or drops is not in it, and what it
//! delays is there when it came out. Packets are made up: a header of IPv4 and TCP around the bytes of one
//! send, from `10.0.0.1` for the first node that is seen, and so on; the file tells the names. Each directed
//! channel is an interface of its own, as `n1 -> n2 (dist)`. What the distribution says of the frames that
//! begin in a packet stands in its comment.
//!
//! Limits: a plane that is killed may lose the last packets, or leave one torn. Checksums are left at zero.
//! A writer that cannot keep up slows the links down; it never loses anything.
//!
//! Format: "PCAP Next Generation (pcapng) Capture File Format", draft-ietf-opsawg-pcapng.

mod describe;
mod tap;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use fuzz_dist_core::clock;
use fuzz_dist_core::sync::lock;

pub use tap::{End, Tap};

/// Blocks that wait for the writer.
const BLOCKS_WAITING_MAX: usize = 4_096;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const NAME_RESOLUTION: u32 = 4;
const ENHANCED_PACKET: u32 = 6;

/// Packets begin with a header of IP.
const LINK_TYPE_RAW: u16 = 101;

const OPTION_COMMENT: u16 = 1;
const OPTION_INTERFACE_NAME: u16 = 2;
const OPTION_APPLICATION: u16 = 4;
const OPTION_TIMESTAMP_RESOLUTION: u16 = 9;

/// A capture file that is being written.
#[derive(Debug)]
pub struct Capture {
    blocks: SyncSender<Vec<u8>>,
    known: Mutex<Known>,
    /// What has to be added to `CLOCK_MONOTONIC` to get the time of day.
    wall_offset_ns: i64,
}

#[derive(Debug, Default)]
struct Known {
    addresses: BTreeMap<String, Ipv4Addr>,
    interfaces: BTreeMap<String, u32>,
}

impl Capture {
    /// Creates the file and the thread that writes it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path) -> io::Result<Capture> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&section_header())?;
        file.flush()?;
        let (blocks, incoming) = sync_channel(BLOCKS_WAITING_MAX);
        std::thread::Builder::new().name("capture".into()).spawn(move || {
            if let Err(error) = write_blocks(&mut file, &incoming) {
                eprintln!("fuzz_dist plane: the capture ends here: {error}");
            }
        })?;
        let wall_offset_ns = clock::wall_ns() - clock::monotonic_ns() as i64;
        Ok(Capture { blocks, known: Mutex::default(), wall_offset_ns })
    }

    fn write(&self, block: Vec<u8>) {
        // A file that cannot be written any more was told by its thread.
        let _ = self.blocks.send(block);
    }

    /// The address that stands for a node.
    fn address(&self, node: &str) -> Ipv4Addr {
        let mut known = lock(&self.known);
        if let Some(address) = known.addresses.get(node) {
            return *address;
        }
        let number = known.addresses.len() as u32 + 1;
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number);
        known.addresses.insert(node.to_owned(), address);
        // Under the lock, so that nothing is written that names it before.
        self.write(name_resolution(address, node));
        address
    }

    /// The number of the interface of that name.
    fn interface(&self, name: &str) -> u32 {
        let mut known = lock(&self.known);
        if let Some(number) = known.interfaces.get(name) {
            return *number;
        }
        let number = known.interfaces.len() as u32;
        known.interfaces.insert(name.to_owned(), number);
        self.write(interface_description(name));
        number
    }

    fn packet(&self, interface: u32, at_monotonic_ns: u64, bytes: &[u8], comment: &str) {
        let at_ns = at_monotonic_ns.saturating_add_signed(self.wall_offset_ns);
        let mut body = interface.to_le_bytes().to_vec();
        body.extend(((at_ns >> 32) as u32).to_le_bytes());
        body.extend((at_ns as u32).to_le_bytes());
        // As much as there was.
        body.extend((bytes.len() as u32).to_le_bytes());
        body.extend((bytes.len() as u32).to_le_bytes());
        body.extend(bytes);
        pad(&mut body);
        if !comment.is_empty() {
            option(&mut body, OPTION_COMMENT, comment.as_bytes());
            body.extend([0; 4]);
        }
        self.write(block(ENHANCED_PACKET, &body));
    }
}

/// Writes what comes; what has come is in the file before the thread waits for more.
fn write_blocks(file: &mut BufWriter<File>, incoming: &Receiver<Vec<u8>>) -> io::Result<()> {
    loop {
        let block = match incoming.try_recv() {
            Ok(block) => block,
            Err(TryRecvError::Disconnected) => return file.flush(),
            Err(TryRecvError::Empty) => {
                file.flush()?;
                match incoming.recv() {
                    Ok(block) => block,
                    Err(_) => return Ok(()),
                }
            }
        };
        file.write_all(&block)?;
    }
}

fn section_header() -> Vec<u8> {
    let mut body = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    body.extend([1, 0, 0, 0]); // Version 1.0.
    body.extend(u64::MAX.to_le_bytes()); // Of unknown length.
    option(&mut body, OPTION_APPLICATION, b"fuzz_dist, link plane");
    body.extend([0; 4]);
    block(SECTION_HEADER, &body)
}

fn interface_description(name: &str) -> Vec<u8> {
    let mut body = LINK_TYPE_RAW.to_le_bytes().to_vec();
    body.extend([0; 6]); // Reserved, and packets of any length.
    option(&mut body, OPTION_INTERFACE_NAME, name.as_bytes());
    option(&mut body, OPTION_TIMESTAMP_RESOLUTION, &[9]); // Nanoseconds.
    body.extend([0; 4]);
    block(INTERFACE_DESCRIPTION, &body)
}

fn name_resolution(address: Ipv4Addr, name: &str) -> Vec<u8> {
    let mut record = address.octets().to_vec();
    record.extend(name.as_bytes());
    record.push(0);
    let mut body = Vec::new();
    option(&mut body, 1, &record); // A record of IPv4 is laid out as an option is.
    body.extend([0; 4]);
    block(NAME_RESOLUTION, &body)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let len = value.len().min(usize::from(u16::MAX));
    body.extend(code.to_le_bytes());
    body.extend((len as u16).to_le_bytes());
    body.extend(&value[..len]);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &len, body, &len].concat()
}
