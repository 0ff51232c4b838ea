//! A carrier of Erlang distribution with faults inside the VM: a linked-in port driver behind `-proto_dist fuzz`.
//!
//! The module `fuzz_dist` (Erlang) makes the handshake over an ordinary socket, then hands the socket's descriptor to
//! a port of this driver, which frames, sends and receives for the VM as `inet_drv` does. Without a fault a frame costs
//! one uncontended lock more than there. Faults are asked for over a Unix socket ([`control`]) and act by peer and
//! direction ([`policy`]).
//!
//! Threads: callbacks of a port run one at a time on threads of the VM and alone touch what is received; what is sent
//! is behind a lock, so that the driver's thread can send what is late and forge ticks while all schedulers stand
//! still. Nothing here may panic into the VM or leave it with a descriptor: what goes wrong closes the connection.
//!
//! Limits: Linux; `erl_driver` 3.3 (OTP 25 and later); no TLS, which has no descriptor to hand over.

mod binary;
mod connection;
mod control;
mod ffi;
mod inbound;
mod outbound;
mod policy;
mod port;
mod registry;
mod stats;
mod sys;

use std::ffi::{c_char, c_int};
use std::io::ErrorKind;
use std::panic::catch_unwind;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex};

use crate::connection::lock;
use crate::control::Control;
use crate::ffi::{Data, ERROR_GENERAL, Entry, Port};
use crate::registry::Registry;

/// What lives as long as the driver is loaded.
struct Loaded {
    registry: Arc<Registry>,
    control: Option<Control>,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Loads; -1 refuses.
extern "C" fn init() -> c_int {
    let loaded = catch_unwind(|| -> std::io::Result<Loaded> {
        let registry = Arc::new(Registry::new()?);
        let control = match std::env::var_os("FUZZ_DIST_CARRIER_SOCKET") {
            Some(path) if !path.is_empty() => {
                match Control::start(Path::new(&path), registry.clone()) {
                    Ok(control) => Some(control),
                    // A tool that a node has started has the environment of the node, not its faults.
                    Err(error) if error.kind() == ErrorKind::AddrInUse => None,
                    Err(error) => return Err(error),
                }
            }
            _ => None,
        };
        Ok(Loaded { registry, control })
    });
    match loaded {
        Ok(Ok(loaded)) => {
            *lock(&LOADED) = Some(loaded);
            0
        }
        Ok(Err(error)) => {
            eprintln!("fuzz_dist carrier: cannot listen for faults: {error}");
            -1
        }
        Err(_) => -1,
    }
}

/// Unloads: the last port is gone.
extern "C" fn finish() {
    let loaded = lock(&LOADED).take();
    let _ = catch_unwind(std::panic::AssertUnwindSafe(|| {
        if let Some(control) = loaded.and_then(|loaded| loaded.control) {
            control.stop();
        }
    }));
}

/// # Safety
/// `port` is a new port of the VM.
unsafe extern "C" fn start(port: Port, _: *mut c_char) -> Data {
    match &*lock(&LOADED) {
        Some(loaded) => {
            Box::into_raw(Box::new(port::State::new(port, loaded.registry.clone()))).cast()
        }
        None => ERROR_GENERAL,
    }
}

/// The table of callbacks that the VM reads, and writes its own notes to.
struct Table(std::cell::UnsafeCell<Entry>);

// SAFETY: only the VM uses it, under its own locks.
unsafe impl Sync for Table {}

static TABLE: Table = Table(std::cell::UnsafeCell::new(Entry {
    init: Some(init),
    start: Some(start),
    stop: Some(port::stop),
    output: None,
    ready_input: Some(port::ready_input),
    ready_output: Some(port::ready_output),
    driver_name: c"libfuzz_dist_driver".as_ptr(),
    finish: Some(finish),
    handle: null_mut(),
    control: Some(port::control),
    timeout: None,
    outputv: Some(port::outputv),
    ready_async: None,
    flush: None,
    call: null(),
    unused_event_callback: null(),
    extended_marker: ffi::EXTENDED_MARKER,
    major_version: ffi::MAJOR_VERSION,
    minor_version: ffi::MINOR_VERSION,
    driver_flags: ffi::USE_PORT_LOCKING | ffi::SOFT_BUSY,
    handle2: null_mut(),
    process_exit: null(),
    stop_select: Some(port::stop_select),
    emergency_close: null(),
}));

/// What `erl_ddll` calls.
#[unsafe(no_mangle)]
pub extern "C" fn driver_init() -> *mut Entry {
    TABLE.0.get()
}
