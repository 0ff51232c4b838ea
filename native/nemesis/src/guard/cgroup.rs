//! A control group of its own for all processes of a run, where the machine has writable cgroups v2.
//!
//! Whatever a process does to leave its parents (a new session, another environment, two forks), it stays
//! in the group of its parent. So nothing hides from a look at the group, also when the guard is gone.
//!
//! Nothing depends on it: without cgroups v2, or without the right to make a group, the group is absent.

use std::fs;
use std::path::{Path, PathBuf};

use super::process_table::Identity;

/// How the names of groups begin; the owner follows: see [`super::owner::Owner`].
pub(crate) const PREFIX: &str = "fuzz_dist.";

/// A group, and the one around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    path: PathBuf,
}

impl Group {
    /// Makes a group below that of this process, which moves into it with all that it starts from now on.
    pub fn enter(name: &str) -> Option<Group> {
        let group = Group { path: own_folder()?.join(format!("{PREFIX}{name}")) };
        fs::create_dir(&group.path).ok()?;
        if group.take_in("0").is_err() {
            group.remove();
            return None;
        }
        Some(group)
    }

    /// All groups below that of this process and those around it, with the ends of their names.
    pub fn all() -> Vec<(String, Group)> {
        let Some(own) = own_folder() else { return Vec::new() };
        let around = own.ancestors().take_while(|folder| folder.join("cgroup.procs").exists());
        let mut found = Vec::new();
        for folder in around {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            for path in entries.map(|entry| entry.path()) {
                let name = path.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX));
                if let Some(name) = name.map(str::to_owned) {
                    found.push((name, Group { path }));
                }
            }
        }
        found
    }

    /// The processes in it.
    pub fn members(&self) -> Vec<Identity> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| Identity::of(line.parse().ok()?)).collect()
    }

    /// Moves this process back to the group around it.
    pub fn leave(&self) {
        if let Some(around) = self.path.parent() {
            let _ = fs::write(around.join("cgroup.procs"), "0");
        }
    }

    /// Kills whatever is in it, in one step.
    pub fn kill(&self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Removes it, if nothing is left in it.
    pub fn remove(&self) -> bool {
        fs::remove_dir(&self.path).is_ok()
    }

    fn take_in(&self, pid: &str) -> std::io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid)
    }
}

/// The folder of the group that this process is in.
fn own_folder() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // `36 35 98:0 ROOT PLACE OPTIONS … - TYPE SOURCE OPTIONS`
    let place = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let is_unified = after.split(' ').next() == Some("cgroup2");
        is_unified.then(|| before.split(' ').nth(4)).flatten()
    })?;
    Some(Path::new(place).join(own)).filter(|folder| folder.is_dir())
}
