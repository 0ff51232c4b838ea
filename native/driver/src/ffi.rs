//! What `erl_driver.h` of OTP 25 declares and this driver uses (extended version 3.3).
//!
//! The functions are in the VM that loads the library, and are found when it does. Unless it says otherwise, a
//! function may be called only from a callback of the port that it is given.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// `ERL_DRV_READ`.
pub const READ: c_int = 1;
/// `ERL_DRV_WRITE`.
pub const WRITE: c_int = 2;
/// `ERL_DRV_USE`: the driver holds on to the descriptor until `stop_select`.
pub const USE: c_int = 4;

/// `ERL_DRV_EXTENDED_MARKER`.
pub const EXTENDED_MARKER: c_int = 0xfeee_eeed_u32 as c_int;
/// `ERL_DRV_EXTENDED_MAJOR_VERSION`.
pub const MAJOR_VERSION: c_int = 3;
/// `ERL_DRV_EXTENDED_MINOR_VERSION`.
pub const MINOR_VERSION: c_int = 3;
/// `ERL_DRV_FLAG_USE_PORT_LOCKING`.
pub const USE_PORT_LOCKING: c_int = 1;
/// `ERL_DRV_FLAG_SOFT_BUSY`: without it the VM takes no port for the distribution.
pub const SOFT_BUSY: c_int = 2;

/// A port; only the VM knows what it is.
pub type Port = *mut c_void;
/// What the driver keeps for a port.
pub type Data = *mut c_void;
/// A descriptor, as the VM wants it.
pub type Event = *mut c_void;

/// `ERL_DRV_ERROR_GENERAL`.
pub const ERROR_GENERAL: Data = usize::MAX as Data;

/// A binary that is shared with the VM.
#[repr(C)]
#[derive(Debug)]
pub struct Binary {
    /// How long it is.
    pub size: isize,
    /// The first of its bytes.
    pub bytes: [u8; 1],
}

/// What a port is to write. The first vector is free for a header.
#[repr(C)]
#[derive(Debug)]
pub struct IoVec {
    /// How many vectors.
    pub count: c_int,
    /// How many bytes.
    pub size: usize,
    /// The vectors.
    pub vectors: *mut libc::iovec,
    /// For each vector the binary that it lies in, or null if it is valid only during the call.
    pub binaries: *mut *mut Binary,
}

/// `ErlDrvEntry`.
#[repr(C)]
#[derive(Debug)]
pub struct Entry {
    pub init: Option<extern "C" fn() -> c_int>,
    pub start: Option<unsafe extern "C" fn(Port, *mut c_char) -> Data>,
    pub stop: Option<unsafe extern "C" fn(Data)>,
    pub output: Option<unsafe extern "C" fn(Data, *mut c_char, usize)>,
    pub ready_input: Option<unsafe extern "C" fn(Data, Event)>,
    pub ready_output: Option<unsafe extern "C" fn(Data, Event)>,
    pub driver_name: *const c_char,
    pub finish: Option<extern "C" fn()>,
    pub handle: *mut c_void,
    pub control: Option<
        unsafe extern "C" fn(Data, c_uint, *mut c_char, usize, *mut *mut c_char, usize) -> isize,
    >,
    pub timeout: Option<unsafe extern "C" fn(Data)>,
    pub outputv: Option<unsafe extern "C" fn(Data, *mut IoVec)>,
    pub ready_async: Option<unsafe extern "C" fn(Data, *mut c_void)>,
    pub flush: Option<unsafe extern "C" fn(Data)>,
    pub call: *const c_void,
    pub unused_event_callback: *const c_void,
    pub extended_marker: c_int,
    pub major_version: c_int,
    pub minor_version: c_int,
    pub driver_flags: c_int,
    pub handle2: *mut c_void,
    pub process_exit: *const c_void,
    pub stop_select: Option<unsafe extern "C" fn(Event, *mut c_void)>,
    pub emergency_close: *const c_void,
}

unsafe extern "C" {
    /// Asks for, or no longer for, callbacks when a descriptor is ready.
    pub fn driver_select(port: Port, event: Event, mode: c_int, on: c_int) -> c_int;
    /// Gives bytes to the VM, which copies them.
    pub fn driver_output(port: Port, bytes: *const u8, size: usize) -> c_int;
    /// Gives a part of a binary to the VM, which keeps a reference.
    pub fn driver_output_binary(
        port: Port,
        header: *const u8,
        header_size: usize,
        binary: *mut Binary,
        offset: usize,
        size: usize,
    ) -> c_int;
    /// Any thread.
    pub fn driver_alloc_binary(size: usize) -> *mut Binary;
    /// Any thread, of a binary with one reference.
    pub fn driver_realloc_binary(binary: *mut Binary, size: usize) -> *mut Binary;
    /// Any thread.
    pub fn driver_free_binary(binary: *mut Binary);
    /// Any thread.
    pub fn driver_binary_inc_refc(binary: *mut Binary) -> isize;
    /// Closes the port with an atom as the reason.
    pub fn driver_failure_atom(port: Port, reason: *const c_char) -> c_int;
    /// Says whether who writes has to wait.
    pub fn set_busy_port(port: Port, on: c_int);
    /// Memory that the VM frees.
    pub fn driver_alloc(size: usize) -> *mut c_void;
}
