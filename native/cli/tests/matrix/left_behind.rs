//! What a run could leave on the machine, and whether it is there: the invariant after every fault and every kill.
//!
//! Beside its processes and listening sockets, which [`Cast`] knows, these are: anything that is mapped or open below
//! the folder of the run (the page of the preloaded library, logs, pipes), sockets of any kind (those of the port
//! driver are in no folder), network namespaces with the cables, bridge and firewall table that belong to them, and
//! files outside of the store. All of it is known by what it was while the run went on, by number and not by name,
//! so that other runs at the same time neither count nor hide anything.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::common::live::{Cast, Live, sockets};

/// What a run has on the machine, as far as it was looked at.
#[derive(Debug, Default)]
pub struct Marks {
    cast: Option<Cast>,
    sockets: BTreeSet<u64>,
    namespaces: BTreeSet<u64>,
    /// `abc` of a run whose namespaces are called `fuzz_dist_abc_n1`.
    tags: BTreeSet<String>,
}

impl Marks {
    /// Looks once more at a run, if it still goes on.
    pub fn look(&mut self, live: &Live) {
        let Some(cast) = live.cast_if_whole() else { return };
        let own = namespace("self");
        for pid in cast.pids() {
            self.sockets.extend(sockets(pid));
            self.namespaces.extend(namespace(&pid.to_string()).filter(|found| Some(*found) != own));
        }
        self.tags.extend(self.named().iter().filter_map(|name| {
            let tag = name.strip_prefix("fuzz_dist_")?.rsplit_once('_')?.0;
            Some(tag.to_owned())
        }));
        match &mut self.cast {
            Some(known) => known.add(cast),
            None => self.cast = Some(cast),
        }
    }

    /// Who takes part.
    pub fn cast(&self) -> &Cast {
        self.cast.as_ref().expect("nobody has looked at the run")
    }

    /// Whether the run has network namespaces of its own, by the names that are known here.
    pub fn has_namespaces(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Names of those namespaces of the run that `ip netns` knows.
    fn named(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir("/run/netns") else { return Vec::new() };
        let entries = entries.filter_map(Result::ok).filter(|entry| {
            fs::metadata(entry.path()).is_ok_and(|found| self.namespaces.contains(&found.ino()))
        });
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Asserts that nothing is left when the run has ended by itself.
    pub fn assert_nothing_left(&self, live: &Live) {
        live.assert_nothing_left(self.cast());
        assert_eq!(self.left(&live.run_dir()), Vec::<String>::new());
    }

    /// Waits until nothing is left of a run that was ended from outside; the time since `began`.
    pub fn until_clean(&self, live: &mut Live, began: Instant) -> Duration {
        let processes = live.until_clean(self.cast(), began);
        let run_dir = live.run_dir();
        loop {
            let left = self.left(&run_dir);
            if left.is_empty() {
                return began.elapsed().max(processes);
            }
            assert!(began.elapsed() < Duration::from_secs(20), "left behind: {left:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What is left, in words.
    fn left(&self, run_dir: &Path) -> Vec<String> {
        let mut left = in_use(run_dir);
        let open = open_sockets();
        left.extend(self.sockets.intersection(&open).map(|inode| format!("socket {inode}")));
        left.extend(self.named().into_iter().map(|name| format!("network namespace {name}")));
        if !self.tags.is_empty() {
            let (tables, links) = (said("nft", &["list", "tables"]), said("ip", &["-o", "link"]));
            for tag in &self.tags {
                let of_run = |line: &&str, mark: &str| line.contains(mark);
                let table = format!("fuzz_dist_{tag}");
                left.extend(tables.lines().filter(|l| of_run(l, &table)).map(str::to_owned));
                let cable = format!(": fd{tag}");
                left.extend(links.lines().filter(|l| of_run(l, &cable)).map(str::to_owned));
            }
        }
        left
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The number of the network namespace of a process.
fn namespace(pid: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|found| found.ino())
}

/// What processes have mapped or open below a folder.
fn in_use(folder: &Path) -> Vec<String> {
    let name = folder.to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let process = entry.path();
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // This process follows the history.
        if pid == std::process::id() {
            continue;
        }
        let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
        let mapped = maps.lines().filter(|line| line.contains(name));
        found.extend(mapped.map(|line| format!("mapped by {pid}: {line}")));
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else { continue };
        let open = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let open = open.filter(|path| path.starts_with(folder));
        found.extend(open.map(|path| format!("open in {pid}: {}", path.display())));
    }
    found
}

/// The inodes of all sockets of this network namespace that are bound or connected.
fn open_sockets() -> BTreeSet<u64> {
    // Of `/proc/net/unix` and of the others.
    let column = |file: &str, column: usize| -> Vec<u64> {
        let table = fs::read_to_string(file).unwrap_or_default();
        let fields = table.lines().skip(1);
        fields.filter_map(|line| line.split_ascii_whitespace().nth(column)?.parse().ok()).collect()
    };
    let mut open: BTreeSet<u64> = column("/proc/net/unix", 6).into_iter().collect();
    for file in ["tcp", "tcp6", "udp", "udp6"] {
        open.extend(column(&format!("/proc/net/{file}"), 9));
    }
    open
}
