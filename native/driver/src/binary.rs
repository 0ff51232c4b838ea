//! Binaries that are shared with the VM.

use crate::ffi;

/// A reference to a part of a binary of the VM.
#[derive(Debug)]
pub struct Shared {
    binary: *mut ffi::Binary,
    offset: usize,
    size: usize,
}

// SAFETY: the VM counts references atomically, and nobody writes to a binary that was given to it or by it.
unsafe impl Send for Shared {}

impl Shared {
    /// A further reference to a binary that the VM has passed, and to the part of it at `part`.
    ///
    /// # Safety
    /// `part` lies in the binary, which is alive.
    pub unsafe fn borrow(binary: *mut ffi::Binary, part: &libc::iovec) -> Shared {
        // SAFETY: the caller says that the binary is alive.
        let begin = unsafe {
            ffi::driver_binary_inc_refc(binary);
            (&raw const (*binary).bytes).cast::<u8>()
        };
        // The vector may begin anywhere in the binary.
        let offset = part.iov_base as usize - begin as usize;
        Shared { binary, offset, size: part.iov_len }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the reference keeps the binary alive, and the part lies in it.
        unsafe {
            let begin = (&raw const (*self.binary).bytes).cast::<u8>();
            std::slice::from_raw_parts(begin.add(self.offset), self.size)
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: this gives the reference back that `self` has held.
        unsafe { ffi::driver_free_binary(self.binary) };
    }
}

/// A binary that is being filled, for the VM to take.
#[derive(Debug)]
pub struct Filling {
    binary: *mut ffi::Binary,
    capacity: usize,
    filled: usize,
}

impl Filling {
    /// With room for so many bytes; nothing when there is no memory.
    pub fn new(capacity: usize) -> Option<Filling> {
        // SAFETY: no memory is passed.
        let binary = unsafe { ffi::driver_alloc_binary(capacity) };
        (!binary.is_null()).then_some(Filling { binary, capacity, filled: 0 })
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Room for at most so many bytes more; the binary grows when it is full.
    pub fn room(&mut self, missing: usize) -> Option<libc::iovec> {
        if self.filled == self.capacity {
            let capacity = (self.capacity * 2).min(self.filled + missing);
            // SAFETY: nobody else has a reference yet.
            let grown = unsafe { ffi::driver_realloc_binary(self.binary, capacity) };
            if grown.is_null() {
                return None;
            }
            (self.binary, self.capacity) = (grown, capacity);
        }
        let size = missing.min(self.capacity - self.filled);
        // SAFETY: `filled` is within the binary.
        let begin = unsafe { (&raw mut (*self.binary).bytes).cast::<u8>().add(self.filled) };
        Some(libc::iovec { iov_base: begin.cast(), iov_len: size })
    }

    /// So many bytes of the room were written.
    pub fn wrote(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.capacity);
    }

    /// Appends bytes; false when there is no memory for them.
    pub fn append(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let Some(room) = self.room(bytes.len()) else { return false };
            // SAFETY: the room is of our own binary, and holds that much.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), room.iov_base.cast(), room.iov_len);
            }
            self.wrote(room.iov_len);
            bytes = &bytes[room.iov_len..];
        }
        true
    }

    /// Gives what was filled to the VM; false if that has closed the port.
    ///
    /// # Safety
    /// This is called from a callback of the port.
    pub unsafe fn give(self, port: ffi::Port) -> bool {
        // SAFETY: the part lies in the binary; the VM takes a reference of its own.
        let result = unsafe {
            ffi::driver_output_binary(port, std::ptr::null(), 0, self.binary, 0, self.filled)
        };
        result == 0
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // SAFETY: this gives our only reference back.
        unsafe { ffi::driver_free_binary(self.binary) };
    }
}
