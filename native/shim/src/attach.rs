//! Whether this process is the BEAM of a node, and the page that it obeys.
//!
//! A preloaded library gets into every program that the command of a node starts: shells, `erl_child_setup`, port
//! programs. Only the first process whose program is a BEAM attaches; in all others nothing is faked.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use fuzz_dist_shim_page::{FOLDER_VARIABLE, PAGE_FILE, Page, attach as map_page, text};

use crate::{journal, real};

static PAGE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());
static ROOT: OnceLock<(text::Copied, usize)> = OnceLock::new();

/// The page, in the BEAM of a node.
pub fn page() -> Option<&'static Page> {
    // SAFETY: null, or a page that stays mapped.
    unsafe { PAGE.load(Ordering::Acquire).as_ref() }
}

/// The data folder, without a slash at its end.
pub fn root() -> &'static [u8] {
    ROOT.get().map_or(&[], |(bytes, length)| bytes.get(..*length).unwrap_or_default())
}

#[used]
#[unsafe(link_section = ".init_array")]
static ATTACH: extern "C" fn() = attach;

extern "C" fn attach() {
    if let Some((page, folder)) = find() {
        journal::open(page, folder);
        PAGE.store(ptr::from_ref(page).cast_mut(), Ordering::Release);
    }
}

fn find() -> Option<(&'static Page, &'static OsStr)> {
    if !is_beam() {
        return None;
    }
    let name = CString::new(FOLDER_VARIABLE).ok()?;
    // SAFETY: before `main` nobody changes the environment; the text stays where it is.
    let folder = unsafe {
        let value = libc::getenv(name.as_ptr());
        if value.is_null() { None } else { Some(CStr::from_ptr(value)) }
    }?;
    let folder = OsStr::from_bytes(folder.to_bytes());
    let mut path = folder.as_bytes().to_vec();
    path.extend(b"/");
    path.extend(PAGE_FILE.as_bytes());
    // SAFETY: the functions of libc, a path that ends, a descriptor that was opened.
    let page = unsafe {
        map_page(
            &CString::new(path).ok()?,
            |path, flags| real::open(path, flags, 0),
            |descriptor| _ = real::close(descriptor),
        )
    }?;
    let copied = page.root.copy();
    let length = text::parts(&copied).next()?.len();
    ROOT.get_or_init(|| (copied, length));
    let mine = std::process::id();
    page.pid.compare_exchange(0, mine, Ordering::AcqRel, Ordering::Relaxed).ok()?;
    Some((page, folder))
}

/// `beam.smp`, `beam.debug.smp` …
fn is_beam() -> bool {
    let mut program = [0u8; 1024];
    // SAFETY: at most so many bytes are written.
    let length = unsafe {
        libc::readlink(c"/proc/self/exe".as_ptr(), program.as_mut_ptr().cast(), program.len())
    };
    let path = usize::try_from(length).ok().and_then(|length| program.get(..length));
    let name = path.and_then(|path| path.rsplit(|byte| *byte == b'/').next());
    name.is_some_and(|name| name.starts_with(b"beam"))
}
