//! The callbacks of a port: one distribution connection each, or, before that, the gate that the handshake asks.
//!
//! The VM runs the callbacks of one port one after the other, on any of its threads.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::binary::Shared;
use crate::connection::Connection;
use crate::ffi::{self, Data, Event, IoVec, Port};
use crate::inbound::Inbound;
use crate::outbound::Part;
use crate::policy::Direction;
use crate::registry::{Gate, Registry};
use crate::stats::add;
use crate::sys;

/// What `erlang:port_control/3` asks; `fuzz_dist.erl` has the same numbers.
mod command {
    pub const ATTACH: u32 = 1;
    pub const PRELOAD: u32 = 2;
    pub const START: u32 = 3;
    pub const STATISTICS: u32 = 4;
    pub const GATE: u32 = 5;
}

/// Vectors of one system call.
const IOV_MAX: usize = 1024;

/// What a port has.
#[derive(Debug)]
pub struct State {
    port: Port,
    registry: Arc<Registry>,
    live: Option<Live>,
}

/// What it has when it carries a connection.
#[derive(Debug)]
struct Live {
    connection: Arc<Connection>,
    fd: RawFd,
    event: RawFd,
    inbound: Inbound,
    /// Bytes that the handshake has read too much.
    preload: Vec<u8>,
    /// What the VM has given to be sent: frames and ticks.
    taken: u64,
    is_started: bool,
    is_reading: bool,
    is_writing: bool,
}

impl State {
    /// Of a new port.
    pub fn new(port: Port, registry: Arc<Registry>) -> State {
        State { port, registry, live: None }
    }

    fn attach(&mut self, argument: &[u8]) -> Result<()> {
        let Some((fd, peer)) = argument.split_first_chunk::<4>() else {
            return Err(ErrorKind::InvalidInput.into());
        };
        if self.live.is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let peer = String::from_utf8_lossy(peer).into_owned();
        let fd = sys::duplicate(i32::from_be_bytes(*fd))?;
        let event = match sys::event() {
            Ok(event) => event,
            Err(error) => {
                sys::close(fd);
                return Err(error);
            }
        };
        let connection = self.registry.connect(&peer, fd, event);
        let mut inbound = Inbound::new(connection.stats.clone());
        inbound.set_policy(connection.inbound_policy(), sys::monotonic_ns());
        self.live = Some(Live {
            connection,
            fd,
            event,
            inbound,
            preload: Vec::new(),
            taken: 0,
            is_started: false,
            is_reading: false,
            is_writing: false,
        });
        // SAFETY: this runs in a callback of the port. `USE` keeps the descriptors open until `stop_select`.
        unsafe { ffi::driver_select(self.port, event as usize as Event, ffi::READ | ffi::USE, 1) };
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let port = self.port;
        let Some(live) = &mut self.live else { return Err(ErrorKind::NotConnected.into()) };
        live.is_started = true;
        let preload = std::mem::take(&mut live.preload);
        // SAFETY: this runs in a callback of the port.
        let is_open = unsafe { live.inbound.take(&preload, port)? };
        if is_open {
            self.settle();
        }
        Ok(())
    }

    /// A frame, or with no bytes a tick.
    ///
    /// # Safety
    /// `io` is what the VM has passed to `outputv`.
    unsafe fn send(&mut self, io: &mut IoVec) -> Result<()> {
        let Some(live) = &mut self.live else { return Ok(()) };
        live.taken += 1;
        let header = (io.size as u32).to_be_bytes();
        let is_tick = io.size == 0;
        // SAFETY: the VM says how many there are of both.
        let (vectors, binaries) = unsafe {
            let count = io.count.max(0) as usize;
            (
                std::slice::from_raw_parts_mut(io.vectors, count),
                std::slice::from_raw_parts_mut(io.binaries, count),
            )
        };
        let mut half = live.connection.out();
        let mut written = 0;
        let direct = half.outbound.is_direct();
        if direct && vectors.first().is_some_and(|first| first.iov_len == 0) {
            // The VM gets its own vector back on every way out: the header lives in this frame.
            let own = std::mem::replace(&mut vectors[0], sys::vector(&header));
            let done = half.outbound.write_direct(&vectors[..vectors.len().min(IOV_MAX)]);
            vectors[0] = own;
            written = done?;
            if written == io.size + 4 {
                let stats = &live.connection.stats;
                add(if is_tick { &stats.out.ticks_passed } else { &stats.out.frames }, 1);
                return Ok(());
            }
        } else if half.outbound.loses(is_tick) {
            return Ok(());
        }
        let parts = vectors.iter().zip(binaries.iter()).filter(|(vector, _)| vector.iov_len > 0);
        let parts = parts.map(|(vector, binary)| {
            // SAFETY: the vector lies in the binary if there is one, and is valid during this call if not.
            unsafe {
                match binary.is_null() {
                    true => Part::Own(
                        std::slice::from_raw_parts(vector.iov_base.cast(), vector.iov_len).to_vec(),
                    ),
                    false => Part::Shared(Shared::borrow(*binary, vector)),
                }
            }
        });
        let parts = parts.collect();
        if direct {
            half.outbound.keep_rest(header, parts, io.size + 4, written);
        } else {
            let now_ns = sys::monotonic_ns();
            half.outbound.enqueue(header, parts, io.size + 4, now_ns);
            if !half.outbound.blocked {
                half.pump(now_ns)?;
            }
        }
        drop(half);
        self.settle();
        Ok(())
    }

    /// The thread has left word, or something is due.
    fn look(&mut self) -> Result<()> {
        let port = self.port;
        let Some(live) = &mut self.live else { return Ok(()) };
        sys::take_signal(live.event);
        let now_ns = sys::monotonic_ns();
        live.inbound.set_policy(live.connection.inbound_policy(), now_ns);
        // SAFETY: this runs in a callback of the port.
        if live.is_started && !unsafe { live.inbound.release(now_ns, port) } {
            return Ok(());
        }
        live.connection.out().pump(now_ns)?;
        self.settle();
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let port = self.port;
        let Some(live) = &mut self.live else { return Ok(()) };
        // SAFETY: this runs in a callback of the port.
        if !unsafe { live.inbound.read(live.fd, port)? } {
            return Ok(());
        }
        if live.inbound.wake_ns() != u64::MAX || !live.inbound.wants_more() {
            // SAFETY: as above.
            if !unsafe { live.inbound.release(sys::monotonic_ns(), port) } {
                return Ok(());
            }
            self.settle();
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        if let Some(live) = &self.live {
            live.connection.out().pump(sys::monotonic_ns())?;
        }
        self.settle();
        Ok(())
    }

    /// Has the VM ask for what is wanted now: to read, to write, to have senders wait, to come again.
    fn settle(&mut self) {
        let port = self.port;
        let Some(live) = &mut self.live else { return };
        let now_ns = sys::monotonic_ns();
        let was_busy = live.connection.is_busy().load(Ordering::Relaxed);
        let (is_writing, is_busy, wake_ns) = {
            let half = live.connection.out();
            let out = &half.outbound;
            (out.blocked, out.wants_busy(was_busy), out.wake_ns(now_ns))
        };
        let is_reading = live.is_started && live.inbound.wants_more();
        let socket = live.fd as usize as Event;
        let changed = |mode: c_int, is_on: bool| {
            let mode = if is_on { mode | ffi::USE } else { mode };
            // SAFETY: this runs in a callback of the port, which has the descriptor until `stop`.
            unsafe { ffi::driver_select(port, socket, mode, c_int::from(is_on)) };
        };
        if is_reading != live.is_reading {
            live.is_reading = is_reading;
            changed(ffi::READ, is_reading);
        }
        if is_writing != live.is_writing {
            live.is_writing = is_writing;
            changed(ffi::WRITE, is_writing);
        }
        if is_busy != was_busy {
            live.connection.is_busy().store(is_busy, Ordering::Relaxed);
            add(&live.connection.stats.out.busy, u64::from(is_busy));
            // SAFETY: as above.
            unsafe { ffi::set_busy_port(port, c_int::from(is_busy)) };
        }
        let inbound_ns = live.inbound.wake_ns();
        live.connection.set_inbound_wake_ns(inbound_ns);
        self.registry.wake_before(wake_ns.min(inbound_ns));
    }

    /// Ends the connection.
    fn stop(self) {
        let Some(live) = self.live else { return };
        self.registry.disconnect(&live.connection);
        for fd in [live.fd, live.event] {
            // SAFETY: this runs in a callback of the port; the VM calls `stop_select` when the descriptor is
            // in nobody's use, at once for one that was never selected.
            unsafe {
                ffi::driver_select(
                    self.port,
                    fd as usize as Event,
                    ffi::READ | ffi::WRITE | ffi::USE,
                    0,
                );
            }
        }
    }

    fn control(&mut self, number: u32, argument: &[u8]) -> Result<Vec<u8>> {
        match number {
            command::ATTACH => self.attach(argument).map(|()| Vec::new()),
            command::PRELOAD => {
                let Some(live) = &mut self.live else { return Err(ErrorKind::NotConnected.into()) };
                live.preload.extend_from_slice(argument);
                Ok(Vec::new())
            }
            command::START => self.start().map(|()| Vec::new()),
            command::STATISTICS => {
                let Some(live) = &self.live else { return Err(ErrorKind::NotConnected.into()) };
                let pending = live.connection.out().outbound.pending_bytes() as u64;
                Ok([live.inbound.given, live.taken, pending].map(u64::to_be_bytes).concat())
            }
            command::GATE => {
                let [direction, initiator, again, peer @ ..] = argument else {
                    return Err(ErrorKind::InvalidInput.into());
                };
                let of = |byte: &u8| if *byte == 0 { Direction::Out } else { Direction::In };
                let peer = String::from_utf8_lossy(peer);
                let gate = self.registry.gate(&peer, of(direction), of(initiator), *again != 0);
                Ok(vec![match gate {
                    Gate::Open => 0,
                    Gate::Held => 1,
                    Gate::Refused => 2,
                }])
            }
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    /// The port ends with a reason that says what has happened to the connection.
    fn fail(&self, error: &Error) {
        let reason: &CStr = match error.kind() {
            ErrorKind::TimedOut => c"etimedout",
            ErrorKind::OutOfMemory => c"enomem",
            _ => c"connection_closed",
        };
        // SAFETY: this runs in a callback of the port.
        unsafe { ffi::driver_failure_atom(self.port, reason.as_ptr()) };
    }
}

/// Runs a callback. What goes wrong ends the connection, never the VM.
///
/// # Safety
/// `data` is what `start` returned for a port that `stop` has not ended, and no other callback of the
/// port runs: the VM's contract for every callback below.
unsafe fn with(data: Data, work: impl FnOnce(&mut State) -> Result<()>) {
    // SAFETY: the contract of this function.
    let state = unsafe { &mut *data.cast::<State>() };
    let done = catch_unwind(AssertUnwindSafe(|| work(state)));
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => state.fail(&error),
        Err(_) => state.fail(&Error::other("panic")),
    }
}

/// # Safety
/// As for `with`; the VM calls it once, and no other callback of the port afterwards.
pub unsafe extern "C" fn stop(data: Data) {
    // SAFETY: `data` is what `start` returned, and this is the last callback of the port.
    let state = unsafe { Box::from_raw(data.cast::<State>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| state.stop()));
}

/// # Safety
/// As for `with`; `io` may be read and written during the call.
pub unsafe extern "C" fn outputv(data: Data, io: *mut IoVec) {
    // SAFETY: the contract of this function.
    unsafe { with(data, |state| state.send(&mut *io)) };
}

/// # Safety
/// As for `with`.
pub unsafe extern "C" fn ready_input(data: Data, event: Event) {
    let work = |state: &mut State| match &state.live {
        Some(live) if event as usize == live.event as usize => state.look(),
        _ => state.receive(),
    };
    // SAFETY: the contract of this function.
    unsafe { with(data, work) };
}

/// # Safety
/// As for `with`.
pub unsafe extern "C" fn ready_output(data: Data, _: Event) {
    // SAFETY: the contract of this function.
    unsafe { with(data, State::write) };
}

/// # Safety
/// As for `with`; `argument` has `size` bytes or is null, and `*result` holds `result_size` bytes.
pub unsafe extern "C" fn control(
    data: Data,
    number: c_uint,
    argument: *mut c_char,
    size: usize,
    result: *mut *mut c_char,
    result_size: usize,
) -> isize {
    let argument = match argument.is_null() {
        true => &[][..],
        // SAFETY: the VM passes so many bytes.
        false => unsafe { std::slice::from_raw_parts(argument.cast::<u8>(), size) },
    };
    // SAFETY: as in `with`.
    let state = unsafe { &mut *data.cast::<State>() };
    let Ok(Ok(answer)) = catch_unwind(AssertUnwindSafe(|| state.control(number, argument))) else {
        // `badarg` for who has asked.
        return -1;
    };
    // SAFETY: `*result` holds `result_size` bytes; more is to be memory of the VM.
    unsafe {
        if answer.len() > result_size {
            *result = ffi::driver_alloc(answer.len()).cast();
            if (*result).is_null() {
                return -1;
            }
        }
        std::ptr::copy_nonoverlapping(answer.as_ptr(), (*result).cast(), answer.len());
    }
    answer.len() as isize
}

/// # Safety
/// No port uses the descriptor any longer.
pub unsafe extern "C" fn stop_select(event: Event, _: *mut std::ffi::c_void) {
    sys::close(event as usize as RawFd);
}
