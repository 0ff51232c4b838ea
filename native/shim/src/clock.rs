//! The wall clock: real, plus what the page says. The monotonic clocks are never touched.

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;

use fuzz_dist_shim_page::Page;
use libc::{clockid_t, time_t, timespec, timeval};

use crate::{attach, real};

const SECOND_NS: i64 = 1_000_000_000;

/// The page, if a fault of the clock may be active.
fn active() -> Option<&'static Page> {
    attach::page().filter(|page| page.clock_active.load(Ordering::Relaxed) != 0)
}

/// How far the wall clock is off now.
fn offset_ns(page: &Page) -> i64 {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the time.
    unsafe { real::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let offset_ns = page.clock_offset_ns((now.tv_sec * SECOND_NS + now.tv_nsec) as u64);
    if offset_ns != 0 {
        page.clock_faked.fetch_add(1, Ordering::Relaxed);
    }
    offset_ns
}

/// Seconds and nanoseconds moved by an offset; not before 1970.
fn moved(seconds: i64, ns: i64, offset_ns: i64) -> (i64, i64) {
    let total =
        i128::from(seconds) * i128::from(SECOND_NS) + i128::from(ns) + i128::from(offset_ns);
    let total = total.max(0);
    let second = i128::from(SECOND_NS);
    ((total / second) as i64, (total % second) as i64)
}

fn is_wall(clock: clockid_t) -> bool {
    matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_TAI)
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: as the caller promised.
    let status = unsafe { real::clock_gettime(clock, time) };
    if status == 0
        && is_wall(clock)
        && let Some(page) = active()
    {
        // SAFETY: libc has just written it.
        let time = unsafe { &mut *time };
        (time.tv_sec, time.tv_nsec) = moved(time.tv_sec, time.tv_nsec, offset_ns(page));
    }
    status
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut timeval, zone: *mut c_void) -> c_int {
    // SAFETY: as the caller promised.
    let status = unsafe { real::gettimeofday(time, zone) };
    if status == 0
        && !time.is_null()
        && let Some(page) = active()
    {
        // SAFETY: libc has just written it.
        let time = unsafe { &mut *time };
        let (seconds, ns) = moved(time.tv_sec, time.tv_usec * 1000, offset_ns(page));
        (time.tv_sec, time.tv_usec) = (seconds, ns / 1000);
    }
    status
}

/// # Safety
/// As in libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(place: *mut time_t) -> time_t {
    let Some(page) = active() else {
        // SAFETY: as the caller promised.
        return unsafe { real::time(place) };
    };
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the time.
    unsafe { real::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    let (seconds, _) = moved(now.tv_sec, now.tv_nsec, offset_ns(page));
    if !place.is_null() {
        // SAFETY: as the caller promised.
        unsafe { *place = seconds };
    }
    seconds
}
