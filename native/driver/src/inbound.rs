//! What the VM receives: frames are cut out of the stream and given to it, at once when nothing is to happen to
//! them, else through a queue. Only callbacks of the port come here, so that nothing is locked.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::binary::Filling;
use crate::ffi;
use crate::policy::{Chance, Policy};
use crate::stats::{Stats, add};
use crate::sys;

/// Bytes read at a time when frames are small.
const READ_BYTES: usize = 64 * 1024;
/// The same behind a big frame: the next header and little more, so that a stream of big frames is read to where
/// it stays.
const READ_BEHIND_BYTES: usize = 1024;
/// From which size a frame counts as big.
const BIG_BYTES: usize = 32 * 1024;
/// Room for a frame at first, whatever its length says: memory follows what really arrives.
const ROOM_BYTES: usize = 1024 * 1024;
/// Reads before other ports get their turn.
const READS_MAX: usize = 16;
/// Bytes that may wait before no more is read, which the peer then feels.
const QUEUED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A frame that was received.
#[derive(Debug)]
enum Payload {
    Own(Vec<u8>),
    Big(Filling),
}

impl Payload {
    fn len(&self) -> usize {
        match self {
            Payload::Own(bytes) => bytes.len(),
            Payload::Big(filling) => filling.len(),
        }
    }
}

/// What has been read of the next frame.
#[derive(Debug)]
enum Partial {
    /// So many bytes of the header.
    Header([u8; 4], usize),
    /// Some of the content of a frame of that size.
    Content(Filling, usize),
}

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Inbound {
    policy: Policy,
    partial: Partial,
    last_size: usize,
    buffer: Box<[u8]>,
    queue: VecDeque<(u64, Payload)>,
    queued_bytes: usize,
    last_due_ns: u64,
    free_ns: u64,
    chance: Chance,
    stats: Arc<Stats>,
    /// Frames and ticks that the VM was given: what the tick logic of the VM looks at.
    pub given: u64,
}

impl Inbound {
    /// Of a connection.
    pub fn new(stats: Arc<Stats>) -> Inbound {
        Inbound {
            policy: Policy::default(),
            partial: Partial::Header([0; 4], 0),
            last_size: 0,
            buffer: vec![0; READ_BYTES].into(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            last_due_ns: 0,
            free_ns: 0,
            chance: Chance::new(0),
            stats,
            given: 0,
        }
    }

    /// What happens to frames from now on.
    pub fn set_policy(&mut self, policy: Policy, now_ns: u64) {
        if policy.latency_ns < self.policy.latency_ns || policy.jitter_ns < self.policy.jitter_ns {
            self.last_due_ns = now_ns;
            for (due_ns, _) in &mut self.queue {
                *due_ns = now_ns.min(*due_ns);
            }
        }
        if policy.seed != self.policy.seed {
            self.chance = Chance::new(!policy.seed);
        }
        self.policy = policy;
    }

    /// Whether anything should be read.
    pub fn wants_more(&self) -> bool {
        !self.policy.is_silent() && self.queued_bytes < QUEUED_BYTES_MAX
    }

    /// Reads what there is and gives the VM what it may have. False if that has closed the port.
    ///
    /// # Safety
    /// This is called from a callback of the port.
    pub unsafe fn read(&mut self, fd: RawFd, port: ffi::Port) -> Result<bool> {
        for _ in 0..READS_MAX {
            if !self.wants_more() {
                break;
            }
            let (count, room) = match self.read_once(fd) {
                Ok((0, _)) => return Err(Error::from(ErrorKind::UnexpectedEof)),
                Ok(done) => done,
                Err(error) if sys::would_block(&error) => break,
                Err(error) => return Err(error),
            };
            add(&self.stats.inbound.bytes, count as u64);
            // SAFETY: as for this function.
            if !unsafe { self.take_read(count, port)? } {
                return Ok(false);
            }
            if count < room {
                break;
            }
        }
        Ok(true)
    }

    /// Bytes read, and how many could have been.
    fn read_once(&mut self, fd: RawFd) -> Result<(usize, usize)> {
        let behind = if self.last_size >= BIG_BYTES { READ_BEHIND_BYTES } else { READ_BYTES };
        if let Partial::Content(filling, size) = &mut self.partial {
            let missing = *size - filling.len();
            let room = filling.room(missing).ok_or(ErrorKind::OutOfMemory)?;
            // A binary that has to grow is filled first.
            let behind = if room.iov_len == missing { behind } else { 0 };
            let mut vectors = [room, sys::vector_mut(&mut self.buffer[..behind])];
            let count = sys::readv(fd, &mut vectors)?;
            return Ok((count, room.iov_len + behind));
        }
        let mut vectors = [sys::vector_mut(&mut self.buffer[..behind])];
        Ok((sys::readv(fd, &mut vectors)?, behind))
    }

    /// Bytes were read: first into the frame that was begun, then into the buffer.
    ///
    /// # Safety
    /// This is called from a callback of the port.
    unsafe fn take_read(&mut self, count: usize, port: ffi::Port) -> Result<bool> {
        let mut in_buffer = count;
        if let Partial::Content(filling, size) = &mut self.partial {
            let before = filling.len();
            let missing = *size - before;
            filling.wrote(count.min(missing));
            in_buffer = count - (filling.len() - before);
            // SAFETY: as for this function.
            if filling.len() == *size && !unsafe { self.finish(port) } {
                return Ok(false);
            }
        }
        let buffer = std::mem::take(&mut self.buffer);
        // SAFETY: as for this function.
        let result = unsafe { self.take(&buffer[..in_buffer], port) };
        self.buffer = buffer;
        result
    }

    /// Takes bytes of the stream. False if that has closed the port.
    ///
    /// # Safety
    /// This is called from a callback of the port.
    pub unsafe fn take(&mut self, mut bytes: &[u8], port: ffi::Port) -> Result<bool> {
        while !bytes.is_empty() {
            match &mut self.partial {
                Partial::Header(header, have) => {
                    let count = bytes.len().min(4 - *have);
                    header[*have..*have + count].copy_from_slice(&bytes[..count]);
                    *have += count;
                    bytes = &bytes[count..];
                    if *have < 4 {
                        break;
                    }
                    let size = u32::from_be_bytes(*header) as usize;
                    self.last_size = size;
                    if size <= bytes.len() {
                        let (frame, rest) = bytes.split_at(size);
                        bytes = rest;
                        self.partial = Partial::Header([0; 4], 0);
                        // SAFETY: as for this function.
                        if !unsafe { self.small(frame, port) } {
                            return Ok(false);
                        }
                    } else {
                        let filling =
                            Filling::new(size.min(ROOM_BYTES)).ok_or(ErrorKind::OutOfMemory)?;
                        self.partial = Partial::Content(filling, size);
                    }
                }
                Partial::Content(filling, size) => {
                    let count = bytes.len().min(*size - filling.len());
                    if !filling.append(&bytes[..count]) {
                        return Err(ErrorKind::OutOfMemory.into());
                    }
                    bytes = &bytes[count..];
                    // SAFETY: as for this function.
                    if filling.len() == *size && !unsafe { self.finish(port) } {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// The frame that was begun is whole.
    unsafe fn finish(&mut self, port: ffi::Port) -> bool {
        match std::mem::replace(&mut self.partial, Partial::Header([0; 4], 0)) {
            // SAFETY: this is called from a callback of the port.
            Partial::Content(filling, _) => unsafe { self.frame(Payload::Big(filling), port) },
            Partial::Header(..) => true,
        }
    }

    /// A whole frame that lies in the buffer.
    unsafe fn small(&mut self, frame: &[u8], port: ffi::Port) -> bool {
        if self.policy.is_clear() && self.queue.is_empty() {
            // SAFETY: this is called from a callback of the port, and the VM copies the frame.
            return unsafe { self.output(frame, port) };
        }
        // SAFETY: as above.
        unsafe { self.frame(Payload::Own(frame.to_vec()), port) }
    }

    unsafe fn frame(&mut self, payload: Payload, port: ffi::Port) -> bool {
        if self.policy.is_clear() && self.queue.is_empty() {
            // SAFETY: this is called from a callback of the port.
            return unsafe { self.give(payload, port) };
        }
        let is_tick = payload.len() == 0;
        if is_tick && self.policy.no_ticks {
            add(&self.stats.inbound.ticks_suppressed, 1);
            return true;
        }
        if is_tick && self.policy.ticks_pass {
            // SAFETY: as above.
            return unsafe { self.give(payload, port) };
        }
        let rate = u64::from(self.policy.drop_per_mille);
        if !is_tick && rate > 0 && self.chance.below(1000) < rate {
            add(&self.stats.inbound.dropped_frames, 1);
            return true;
        }
        let mut due_ns = 0;
        if self.policy.latency_ns > 0 || self.policy.jitter_ns > 0 {
            add(&self.stats.inbound.delayed_frames, 1);
            let late_ns = self.policy.latency_ns + self.chance.below(self.policy.jitter_ns + 1);
            due_ns = sys::monotonic_ns().saturating_add(late_ns).max(self.last_due_ns);
            self.last_due_ns = due_ns;
        }
        if self.policy.hold {
            add(&self.stats.inbound.held_frames, 1);
        }
        self.queued_bytes += payload.len() + 4;
        self.queue.push_back((due_ns, payload));
        true
    }

    /// Gives the VM those frames of the queue that it may have now. False if that has closed the port.
    ///
    /// # Safety
    /// This is called from a callback of the port.
    pub unsafe fn release(&mut self, now_ns: u64, port: ffi::Port) -> bool {
        while let Some((due_ns, _)) = self.queue.front() {
            let rate = self.policy.bytes_per_s;
            if self.policy.hold || *due_ns > now_ns || (rate > 0 && self.free_ns > now_ns) {
                break;
            }
            let Some((_, payload)) = self.queue.pop_front() else { break };
            let size = payload.len() + 4;
            self.queued_bytes -= size;
            if rate > 0 {
                add(&self.stats.inbound.throttled, 1);
                let cost_ns = (size as u128 * 1_000_000_000 / u128::from(rate)) as u64;
                self.free_ns = self.free_ns.max(now_ns).saturating_add(cost_ns);
            }
            // SAFETY: as for this function.
            if !unsafe { self.give(payload, port) } {
                return false;
            }
        }
        true
    }

    /// When [`Inbound::release`] has something to do of itself; never if `u64::MAX`.
    pub fn wake_ns(&self) -> u64 {
        match self.queue.front() {
            Some((due_ns, _)) if !self.policy.hold => {
                let free_ns = if self.policy.bytes_per_s > 0 { self.free_ns } else { 0 };
                free_ns.max(*due_ns)
            }
            _ => u64::MAX,
        }
    }

    unsafe fn give(&mut self, payload: Payload, port: ffi::Port) -> bool {
        match payload {
            // SAFETY: this is called from a callback of the port.
            Payload::Own(bytes) => unsafe { self.output(&bytes, port) },
            Payload::Big(filling) => {
                self.given += 1;
                self.stats.inbound.frames.fetch_add(1, Ordering::Relaxed);
                // SAFETY: as above.
                unsafe { filling.give(port) }
            }
        }
    }

    unsafe fn output(&mut self, frame: &[u8], port: ffi::Port) -> bool {
        self.given += 1;
        let is_tick = frame.is_empty();
        add(if is_tick { &self.stats.inbound.ticks_passed } else { &self.stats.inbound.frames }, 1);
        // SAFETY: this is called from a callback of the port, and the VM copies the frame.
        unsafe { ffi::driver_output(port, frame.as_ptr(), frame.len()) == 0 }
    }
}
