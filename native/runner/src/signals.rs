//! Who may end a run early: the terminal, the system, and whoever holds the life line.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::request::RunError;
use crate::stop::{Stop, StopReason};

/// How long a run that nobody waits for any more may take to heal, end and be analysed.
const ABANDONED_PATIENCE: Duration = Duration::from_millis(1_500);

/// Turns SIGINT, SIGTERM and SIGHUP into a wish to stop, for the rest of the process's life: a run heals and
/// ends, an analysis answers `unknown`. A second one ends the process at once, with the exit code
/// that a shell gives to a process which died of it; the guard then heals and reaps.
pub fn listen(stop: &Stop) -> Result<(), RunError> {
    let stop = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| RunError::Internal(format!("no runtime for signals: {e}")))?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(wait(stop)))
        .map(drop)
        .map_err(|e| RunError::Internal(format!("no thread for signals: {e}")))
}

async fn wait(stop: Stop) {
    let all = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    );
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = all else { return };
    loop {
        let (name, number) = tokio::select! {
            _ = interrupt.recv() => ("SIGINT", 2),
            _ = terminate.recv() => ("SIGTERM", 15),
            _ = hangup.recv() => ("SIGHUP", 1),
        };
        if stop.is_set() {
            std::process::exit(128 + number);
        }
        stop.ask(StopReason::Interrupted(format!("stopped by {name}")));
    }
}

/// Watches a descriptor that whoever asked for the run holds open: when it ends, they are gone, and this process
/// follows within two seconds. An analysis that takes longer is left to whoever finds the run.
pub fn watch_life_line(fd: i32, stop: &Stop) -> Result<(), RunError> {
    let path = format!("/proc/self/fd/{fd}");
    let mut line = File::open(&path).map_err(|e| {
        RunError::Input(format!("--life-line-fd {fd}: this descriptor is not open ({e})"))
    })?;
    let stop = stop.clone();
    std::thread::Builder::new()
        .name("life line".into())
        .spawn(move || {
            let mut buffer = [0u8; 64];
            // Whatever is written there means nothing; only its end does.
            while matches!(line.read(&mut buffer), Ok(n) if n > 0) {}
            let why = "the process that started the run is gone";
            stop.ask(StopReason::Interrupted(why.into()));
            std::thread::sleep(ABANDONED_PATIENCE);
            // Perhaps to nobody.
            let _ = writeln!(
                std::io::stderr(),
                "interrupted: {why}; `fuzz_dist analyze` gives its verdict"
            );
            std::process::exit(2);
        })
        .map(drop)
        .map_err(|e| RunError::Internal(format!("no thread for the life line: {e}")))
}
