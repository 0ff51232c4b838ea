//! What `/proc` says about processes: state, ancestry, start time, environment.
//!
//! A process id alone does not identify a process, since ids are used again; with the start time
//! (clock ticks since boot, field 22 of `/proc/PID/stat`) it does. Reading the table is not atomic:
//! whoever must find all descendants reads it again until none are left.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::protocol::ProcessInfo;

/// Longest command line that is shown.
const COMMAND_CHARS_MAX: usize = 160;

/// One process for good, not whoever has its id now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its id.
    pub pid: i32,
    /// Clock ticks between boot and its start.
    pub start_time: u64,
}

impl Identity {
    /// Whoever has this id now.
    pub fn of(pid: i32) -> Option<Identity> {
        Stat::read(pid).map(|stat| stat.identity)
    }

    /// Whether the process still exists; a zombie does not count.
    pub fn is_alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.identity == *self && !stat.is_zombie())
    }

    /// SIGKILL, and SIGCONT for what was stopped, unless the id belongs to another by now. A process
    /// that is gone is no error.
    pub(crate) fn kill(&self) {
        use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        // A handle stays that of the process, whoever has its id after this look.
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if Identity::of(self.pid) != Some(*self) {
            return;
        }
        // Gone in between, or not ours to kill: the caller looks again and reports what remains.
        for signal in [Signal::KILL, Signal::CONT] {
            let _ = pidfd_send_signal(&handle, signal);
        }
    }

    pub(crate) fn info(&self) -> ProcessInfo {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let command = line.trim_end().chars().take(COMMAND_CHARS_MAX).collect();
        ProcessInfo { pid: self.pid, command }
    }
}

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProcessState {
    /// Running or waiting.
    Running,
    /// Stopped by a signal.
    Stopped,
    /// Ended, and its parent has not asked yet.
    Zombie,
    /// There is no such process.
    Gone,
}

/// The state of the process with this id, now.
pub fn state(pid: i32) -> ProcessState {
    match Stat::read(pid).map(|stat| stat.state) {
        None => ProcessState::Gone,
        Some('T' | 't') => ProcessState::Stopped,
        Some('Z' | 'X' | 'x') => ProcessState::Zombie,
        Some(_) => ProcessState::Running,
    }
}

#[derive(Debug, Clone, Copy)]
struct Stat {
    identity: Identity,
    parent: i32,
    state: char,
}

impl Stat {
    fn read(pid: i32) -> Option<Stat> {
        // The name of a program is arbitrary bytes, so the file need not be UTF-8.
        let bytes = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Stat::parse(pid, &String::from_utf8_lossy(&bytes))
    }

    /// `PID (NAME) STATE PPID …`; the name may contain spaces and parentheses, so the last one counts.
    fn parse(pid: i32, text: &str) -> Option<Stat> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        // Field 22 of the file; state is field 3, its parent 4.
        let start_time = fields.nth(17)?.parse().ok()?;
        Some(Stat { identity: Identity { pid, start_time }, parent, state })
    }

    fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// All processes of this machine, at about one moment.
#[derive(Debug)]
pub struct ProcessTable {
    processes: HashMap<i32, Stat>,
}

impl ProcessTable {
    /// Reads `/proc`.
    pub fn read() -> std::io::Result<ProcessTable> {
        let mut processes = HashMap::new();
        for entry in std::fs::read_dir("/proc")? {
            let Ok(entry) = entry else { continue };
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            // One that ended since is simply not there.
            if let Some(stat) = Stat::read(pid) {
                processes.insert(pid, stat);
            }
        }
        Ok(ProcessTable { processes })
    }

    /// All descendants of these, without themselves, zombies included.
    pub fn descendants(&self, roots: &[i32]) -> Vec<Identity> {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for (pid, stat) in &self.processes {
            children.entry(stat.parent).or_default().push(*pid);
        }
        let mut seen: HashSet<i32> = roots.iter().copied().collect();
        let mut todo: Vec<i32> = roots.to_vec();
        let mut found = Vec::new();
        while let Some(pid) = todo.pop() {
            for &child in children.get(&pid).map(Vec::as_slice).unwrap_or_default() {
                if seen.insert(child) {
                    todo.push(child);
                    found.extend(self.processes.get(&child).map(|stat| stat.identity));
                }
            }
        }
        found
    }

    /// The process itself and all its ancestors.
    pub fn ancestry(&self, pid: i32) -> HashSet<i32> {
        let mut line = HashSet::new();
        let mut next = Some(pid);
        while let Some(pid) = next
            && line.insert(pid)
        {
            next = self.processes.get(&pid).map(|stat| stat.parent);
        }
        line
    }

    /// Those that have not ended.
    pub(crate) fn live(&self) -> Vec<Identity> {
        self.processes.values().filter(|stat| !stat.is_zombie()).map(|stat| stat.identity).collect()
    }

    /// Whether it had ended but not been waited for.
    pub fn is_zombie(&self, pid: i32) -> bool {
        self.processes.get(&pid).is_some_and(Stat::is_zombie)
    }

    /// All live processes whose environment (as it was when they were started) has this variable
    /// with this value. Those of other users, which may not be read, are left out.
    pub fn with_environment(&self, variable: &str, value: &str) -> Vec<Identity> {
        let wanted = format!("{variable}={value}");
        let carries = |pid: i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
        };
        let live = self.processes.values().filter(|stat| !stat.is_zombie());
        live.filter(|stat| carries(stat.identity.pid)).map(|stat| stat.identity).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b) c) T 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 2 3";
        let stat = Stat::parse(7, text).unwrap();
        assert_eq!(stat.identity, Identity { pid: 7, start_time: 4242 });
        assert_eq!((stat.parent, stat.state), (3, 'T'));
        assert!(Stat::parse(7, "7 (a").is_none());
        assert!(Stat::parse(7, "7 (a) S 1 2").is_none());
    }

    #[test]
    fn this_process_is_found_with_its_ancestors() {
        let me = std::process::id() as i32;
        let table = ProcessTable::read().unwrap();
        let parent = std::os::unix::process::parent_id() as i32;
        assert!(table.descendants(&[parent]).contains(&Identity::of(me).unwrap()));
        assert!(table.ancestry(me).is_superset(&HashSet::from([me, parent])));
        assert_eq!(state(me), ProcessState::Running);
        assert!(Identity::of(me).unwrap().is_alive());
        assert!(
            !Identity { pid: me, start_time: 1 }.is_alive(),
            "another start is another process"
        );
    }
}
