//! System calls on descriptors whose life the VM decides: it says in `stop_select` when one may be closed, so
//! that they cannot be owned here.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::RawFd;

/// Nanoseconds of the monotonic clock of the system, which is the same in all processes.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn checked(result: isize) -> Result<usize> {
    match usize::try_from(result) {
        Ok(count) => Ok(count),
        Err(_) => Err(Error::last_os_error()),
    }
}

/// Nothing now, without being an error.
pub fn would_block(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// A second descriptor of the same file, closed on exec.
pub fn duplicate(fd: RawFd) -> Result<RawFd> {
    // SAFETY: any number may be asked about; a bad one is an error.
    let new = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    checked(new as isize).map(|_| new)
}

/// A counter that can be waited for.
pub fn event() -> Result<RawFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    checked(fd as isize).map(|_| fd)
}

/// Wakes whoever waits for an [`event`].
pub fn signal(fd: RawFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: eight bytes are read from `one`. It fails only when it is signalled already.
    unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
}

/// Takes the signal of an [`event`].
pub fn take_signal(fd: RawFd) {
    let mut count = [0u8; 8];
    // SAFETY: eight bytes are written to `count`. It fails only when there is no signal.
    unsafe { libc::read(fd, count.as_mut_ptr().cast(), count.len()) };
}

/// Closes.
pub fn close(fd: RawFd) {
    // SAFETY: any number may be given; who calls has let go of it.
    unsafe { libc::close(fd) };
}

/// Whether the process at the other end of a Unix socket has our user, or is root.
pub fn is_ours(fd: RawFd) -> bool {
    let mut peer = libc::ucred { pid: 0, uid: libc::uid_t::MAX, gid: libc::gid_t::MAX };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both are valid for writing, and the size is that of `peer`.
    let asked = unsafe {
        let peer = (&raw mut peer).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, peer, &mut size)
    };
    // SAFETY: it has no arguments and always succeeds.
    asked == 0 && (peer.uid == 0 || peer.uid == unsafe { libc::geteuid() })
}

/// Ends both directions of a connection: both ends see a close.
pub fn shutdown(fd: RawFd) {
    // SAFETY: no memory is passed.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// Reads into vectors.
pub fn readv(fd: RawFd, vectors: &mut [libc::iovec]) -> Result<usize> {
    // SAFETY: the vectors point to memory that may be written, which who made them answers for.
    checked(unsafe { libc::readv(fd, vectors.as_ptr(), vectors.len() as i32) })
}

/// How many bytes can be read.
pub fn readable_bytes(fd: RawFd) -> u64 {
    let mut count: libc::c_int = 0;
    // SAFETY: `count` is valid for writing. It fails only when the connection has, with nothing to read.
    unsafe { libc::ioctl(fd, libc::FIONREAD, &mut count) };
    u64::try_from(count).unwrap_or(0)
}

/// Writes vectors, without a signal when nobody reads.
pub fn writev(fd: RawFd, vectors: &[libc::iovec]) -> Result<usize> {
    // SAFETY: an all-zero message header is a valid one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_ptr().cast_mut();
    message.msg_iovlen = vectors.len() as _;
    // SAFETY: the vectors point to memory that may be read, which who made them answers for.
    checked(unsafe { libc::sendmsg(fd, &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) })
}

/// A vector over bytes.
pub fn vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// A vector over bytes that may be written.
pub fn vector_mut(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

/// No signal is handled by threads of ours: the VM has its own for that. Returns the former mask.
pub fn block_signals() -> libc::sigset_t {
    // SAFETY: all-zero sets are valid, and both are valid for writing.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        before
    }
}

/// Restores what [`block_signals`] returned.
pub fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: the mask is valid for reading.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}
