//! Whose a process is: the core and the guard of its run, in its environment.
//!
//! A process whose core and guard are both gone was left behind. Ids are used again, so each stands with
//! its start time, and ids of another PID namespace (a container) mean other processes: what carries them
//! is left alone.

use super::process_table::Identity;

/// The variable that tells it.
pub(crate) const OWNER_VARIABLE: &str = "FUZZ_DIST_OWNER";

/// The core and the guard of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    core: Identity,
    guard: Identity,
}

impl Owner {
    /// That of a guard: this process, started by its parent.
    pub fn of_this_guard() -> Option<Owner> {
        let core = Identity::of(std::os::unix::process::parent_id() as i32)?;
        let guard = Identity::of(std::process::id() as i32)?;
        Some(Owner { core, guard })
    }

    /// That of a guard that this process has started.
    pub fn of_guard(guard: Identity) -> Option<Owner> {
        Some(Owner { core: Identity::of(std::process::id() as i32)?, guard })
    }

    /// `PID.START.PID.START`.
    pub fn text(&self) -> String {
        let Owner { core, guard } = self;
        format!("{}.{}.{}.{}", core.pid, core.start_time, guard.pid, guard.start_time)
    }

    pub fn parse(text: &str) -> Option<Owner> {
        let mut parts = text.split('.');
        let mut identity = || {
            let pid = parts.next()?.parse().ok()?;
            Some(Identity { pid, start_time: parts.next()?.parse().ok()? })
        };
        let owner = Owner { core: identity()?, guard: identity()? };
        parts.next().is_none().then_some(owner)
    }

    /// Whether nobody of the run is left who could end its processes.
    pub fn is_gone(&self) -> bool {
        !self.core.is_alive() && !self.guard.is_alive()
    }
}

/// The owner of a process, if it has one and lives where this process does.
pub(crate) fn of_process(pid: i32) -> Option<Owner> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = format!("{OWNER_VARIABLE}=");
    let mut entries = environment.split(|byte| *byte == 0);
    let entry = entries.find_map(|entry| entry.strip_prefix(prefix.as_bytes()))?;
    let owner = Owner::parse(std::str::from_utf8(entry).ok()?)?;
    (namespace(&pid.to_string())? == namespace("self")?).then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_gone_only_with_both_of_its_processes() {
        let me = Identity::of(std::process::id() as i32).unwrap();
        let past = Identity { start_time: 1, ..me };
        let owner = Owner { core: past, guard: me };
        assert_eq!(Owner::parse(&owner.text()), Some(owner));
        assert!(!owner.is_gone() && !Owner { core: me, guard: past }.is_gone());
        assert!(Owner { core: past, guard: past }.is_gone(), "another start is another process");
        for wrong in ["", "1.2.3", "1.2.3.4.5", "a.b.c.d"] {
            assert_eq!(Owner::parse(wrong), None, "{wrong}");
        }
    }
}
