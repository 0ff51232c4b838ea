//! Runs our own code away from the VM's threads.
//!
//! A dirty scheduler has a stack of 320 KiB, an overflow of which ends the VM, and a panic must not cross
//! into it. A thread of its own costs some tens of microseconds, which no check notices.

use std::any::Any;
use std::thread;

use crate::Answer;

/// What the readers of EDN and terms need in debug builds at the depth allowed, many times over.
const STACK_BYTES: usize = 16 << 20;

/// Runs `work` on a thread with a large stack and waits for it. A panic is an error.
pub fn run<T: Send>(work: impl FnOnce() -> Answer<T> + Send) -> Answer<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("fuzz_dist".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        thread.join().unwrap_or_else(|panic| Err(failed(panic.as_ref())))
    })
}

fn failed(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    format!("this is a failure of fuzz_dist itself, please report it: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let error = run::<()>(|| panic!("index {} out of range", 7)).unwrap_err();
        assert!(error.contains("failure of fuzz_dist itself"), "{error}");
        assert!(error.contains("index 7 out of range"), "{error}");
        assert_eq!(run(|| Ok(1)), Ok(1));
        assert_eq!(run::<()>(|| Err("no".into())), Err("no".into()));
    }

    #[test]
    fn there_is_room_for_deep_work() {
        fn deep(left: usize) -> usize {
            let room = std::hint::black_box([left as u8; 1024]);
            if left == 0 { 0 } else { deep(left - 1) + usize::from(room[0] == left as u8) }
        }
        assert_eq!(run(|| Ok(deep(4096))), Ok(4096));
    }
}
