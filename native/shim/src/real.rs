//! The functions of libc that this library stands before.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{clockid_t, iovec, mode_t, off_t, size_t, ssize_t, time_t, timespec};

/// The next function of that name after ours; null if there is none.
fn next(found: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    let known = found.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: a name that ends; the answer is the same at any time and in any thread.
    let function = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    found.store(function, Ordering::Relaxed);
    function
}

/// Sets `errno`.
pub fn set_errno(errno: c_int) {
    // SAFETY: libc gives every thread a place of its own.
    unsafe { *libc::__errno_location() = errno };
}

/// What `errno` is.
pub fn errno() -> c_int {
    // SAFETY: libc gives every thread a place of its own.
    unsafe { *libc::__errno_location() }
}

macro_rules! real {
    ($($name:ident $symbol:literal ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        /// As in libc.
        ///
        /// # Safety
        /// As in libc.
        #[allow(clippy::undocumented_unsafe_blocks, reason = "the lint sees no comments in a macro")]
        pub unsafe fn $name($($argument: $type),*) -> $result {
            static FOUND: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
            let found = next(&FOUND, $symbol);
            if found.is_null() {
                set_errno(libc::ENOSYS);
                return -1;
            }
            // SAFETY: libc's function of that name has this type. Those that take the mode as a variable argument
            // take it from where a fixed one would be, by the conventions of x86-64 and aarch64.
            let function: unsafe extern "C" fn($($type),*) -> $result =
                unsafe { std::mem::transmute(found) };
            // SAFETY: as the caller promised.
            unsafe { function($($argument),*) }
        }
    )*};
}

real! {
    clock_gettime c"clock_gettime" (clock: clockid_t, time: *mut timespec) -> c_int;
    gettimeofday c"gettimeofday" (time: *mut libc::timeval, zone: *mut c_void) -> c_int;
    time c"time" (time: *mut time_t) -> time_t;
    open c"open" (path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    openat c"openat" (folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    close c"close" (descriptor: c_int) -> c_int;
    write c"write" (descriptor: c_int, bytes: *const c_void, count: size_t) -> ssize_t;
    writev c"writev" (descriptor: c_int, parts: *const iovec, count: c_int) -> ssize_t;
    pwrite c"pwrite" (descriptor: c_int, bytes: *const c_void, count: size_t, offset: off_t) -> ssize_t;
    pwritev c"pwritev" (descriptor: c_int, parts: *const iovec, count: c_int, offset: off_t) -> ssize_t;
    fsync c"fsync" (descriptor: c_int) -> c_int;
    fdatasync c"fdatasync" (descriptor: c_int) -> c_int;
    ftruncate c"ftruncate" (descriptor: c_int, length: off_t) -> c_int;
    fallocate c"fallocate" (descriptor: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int;
    posix_fallocate c"posix_fallocate" (descriptor: c_int, offset: off_t, length: off_t) -> c_int;
    rename c"rename" (from: *const c_char, to: *const c_char) -> c_int;
    unlink c"unlink" (path: *const c_char) -> c_int;
}
