//! Preloaded into the BEAM of a node: a wall clock that is off, and a disk that fails, lies and forgets.
//!
//! It stands before functions of libc. What it does is said by a [page](fuzz_dist_shim_page::Page) that the core writes
//! while the node runs; without a fault a call costs two loads more than before. It needs no root and no change to the
//! node but `LD_PRELOAD` and `FUZZ_DIST_SHIM_FOLDER` in its environment.
//!
//! Reading order: [`attach`] (who obeys), [`clock`], [`files`] with [`path`], [`journal`].
//!
//! Limits: Linux with glibc, x86-64 or aarch64. Seen are calls that a BEAM makes through libc, which are all
//! of its own; not those of drivers and NIFs that call the kernel by themselves or were linked with another libc.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod attach;
pub mod clock;
pub mod files;
pub mod journal;
pub mod path;
pub mod real;
