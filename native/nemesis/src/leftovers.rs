//! What runs left behind whose core and guard were killed in one instant, and its removal.
//!
//! Nothing was there to clean up after such a run. Its VMs died with the guard; this finds the rest:
//! processes that detached themselves (by their environment, and by their control group where there is
//! one), network namespaces, bridges and rules. Only what belongs to a run whose processes are gone is
//! touched: ids are compared with start times.
//!
//! Three ask for it: the link plane, when it sees core and guard die; the next run; and `fuzz_dist doctor`.
//!
//! Limits: where there are no cgroups v2, a process is not found that both detached itself and cleared
//! its environment. Processes of other users are found in control groups and namespaces only.

use std::time::{Duration, Instant};

use crate::guard::cgroup::Group;
use crate::guard::owner::{self, Owner};
use crate::guard::{Identity, ProcessTable};
use crate::net;

/// How long what was killed may take to be gone.
const GONE_MAX: Duration = Duration::from_secs(2);

/// Removes it; a line for people about each thing that was there.
pub fn remove() -> Vec<String> {
    let mut removed = Vec::new();
    kill_all(&mut removed);
    for (name, group) in stale_groups() {
        // The link plane of the run is in it itself.
        if group.members().iter().any(|process| process.pid == std::process::id() as i32) {
            group.leave();
        }
        group.kill();
        if await_that(|| group.members().is_empty()) && group.remove() {
            removed.push(format!("the control group of a run that was killed ({name})"));
        }
    }
    removed.extend(net::remove_leftovers());
    removed
}

fn kill_all(removed: &mut Vec<String>) {
    let mut told: Vec<Identity> = Vec::new();
    await_that(|| {
        let left = stale_processes();
        for process in left.iter() {
            if !told.contains(process) {
                let info = process.info();
                removed.push(format!("process {} ({})", info.pid, info.command));
                told.push(*process);
            }
            process.kill();
        }
        left.is_empty()
    });
}

fn await_that(condition: impl FnMut() -> bool) -> bool {
    let mut condition = condition;
    let deadline = Instant::now() + GONE_MAX;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Live processes of runs that are gone, but this one.
fn stale_processes() -> Vec<Identity> {
    let me = std::process::id() as i32;
    let mut found: Vec<Identity> = stale_groups().iter().flat_map(|(_, g)| g.members()).collect();
    if let Ok(table) = ProcessTable::read() {
        let is_stale = |process: &Identity| {
            owner::of_process(process.pid).is_some_and(|owner| owner.is_gone())
        };
        found.extend(table.live().into_iter().filter(is_stale));
    }
    found.retain(|process| process.pid != me && process.is_alive());
    found.sort_unstable_by_key(|process| process.pid);
    found.dedup();
    found
}

fn stale_groups() -> Vec<(String, Group)> {
    let is_gone = |name: &str| Owner::parse(name).is_some_and(|owner| owner.is_gone());
    Group::all().into_iter().filter(|(name, _)| is_gone(name)).collect()
}
