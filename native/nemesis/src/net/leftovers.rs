//! Namespaces, bridges and rules of runs that were killed before anything could remove them.

use std::collections::BTreeSet;

use super::command::{missing, run, words};
use super::{Names, PREFIX, START_TIMES};
use crate::guard::{Identity, ProcessTable};

/// Removes them; a line for people about each.
pub fn remove_leftovers() -> Vec<String> {
    if !nix::unistd::geteuid().is_root() || missing("ip").is_some() {
        return Vec::new();
    }
    let list = |command: &str| run(command).unwrap_or_default();
    let namespaces: Vec<String> = first_words(&list("ip netns list"));
    let links = link_names(&list("ip -o link show"));
    let tables: Vec<(String, String)> = match missing("nft") {
        Some(_) => Vec::new(),
        None => table_names(&list("nft list tables")),
    };
    let mut removed = Vec::new();
    for name in namespaces.iter().filter(|name| namespace_tag(name).is_some_and(is_stale)) {
        for pid in first_words(&list(&format!("ip netns pids {name}"))) {
            if let Some(process) = pid.parse().ok().and_then(Identity::of) {
                process.kill();
            }
        }
        undo(
            &format!("ip netns delete {name}"),
            &format!("network namespace {name}"),
            &mut removed,
        );
    }
    for name in links.iter().filter(|name| link_tag(name).is_some_and(is_stale)) {
        undo(&format!("ip link delete {name}"), &format!("network interface {name}"), &mut removed);
    }
    for (family, name) in &tables {
        if name.strip_prefix(PREFIX).is_some_and(is_stale) {
            let what = format!("nft table {family} {name}");
            undo(&format!("nft delete table {family} {name}"), &what, &mut removed);
        }
    }
    removed
}

/// A cable goes with its other end, so what is not there any more is no failure.
fn undo(command: &str, what: &str, removed: &mut Vec<String>) {
    if run(command).is_ok() {
        removed.push(what.to_owned());
    }
}

/// Whether the process that a tag names is gone: no process has its id, or one with another start.
fn is_stale(tag: &str) -> bool {
    let Some((pid, start)) = Names::process_of(tag) else { return false };
    let alive = Identity::of(pid)
        .is_some_and(|found| found.start_time % START_TIMES == start && found.is_alive());
    // Without `/proc` nothing is known of anybody.
    !alive && ProcessTable::read().is_ok()
}

fn first_words(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// `7: fdabc1v0@if2: <…`
fn link_names(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| words(line).get(1).cloned())
        .filter_map(|name| name.split(['@', ':']).next().map(str::to_owned))
        .collect()
}

/// `table bridge fuzz_dist_abc1`
fn table_names(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| match words(line).as_slice() {
            [_, family, name] => Some((family.clone(), name.clone())),
            _ => None,
        })
        .collect()
}

fn namespace_tag(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)?.split_once('_').map(|(tag, _)| tag)
}

/// Of a bridge (`fdTAG`) or a cable (`fdTAGvN`); tags of processes have no small `v` at such a place that
/// only digits follow, or are told apart by being seven characters long at least.
fn link_tag(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("fd")?;
    let (tag, number) = rest.split_at_checked(6)?;
    let is_cable = number
        .strip_prefix('v')
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    (number.is_empty() || is_cable).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_list_is_taken_apart() {
        let links = "1: lo: <LOOPBACK>\n7: fd00abc1v0@if2: <UP>\n8: fd00abc1: <UP>\n9: fdx: <UP>\n";
        let names = link_names(links);
        assert!(names.contains("fd00abc1v0") && names.contains("fd00abc1"));
        assert_eq!(link_tag("fd00abc1v12"), Some("00abc1"));
        assert_eq!(link_tag("fd00abc1"), Some("00abc1"));
        for other in ["lo", "fdx", "fd00abc1x", "fd00abc1v", "fd00abc1vx", "eth0"] {
            assert_eq!(link_tag(other), None, "{other}");
        }
        assert_eq!(namespace_tag("fuzz_dist_00abc1_n1"), Some("00abc1"));
        assert_eq!(
            table_names("table inet filter\ntable bridge fuzz_dist_00abc1\n")[1].1,
            "fuzz_dist_00abc1"
        );
    }

    #[test]
    fn only_what_a_dead_process_made_is_stale() {
        let me = Names::of_this_process(&[]);
        assert!(!is_stale(&me.tag), "{}", me.tag);
        let (pid, start) = Names::process_of(&me.tag).unwrap();
        assert_eq!(pid, std::process::id() as i32);
        let other = Names::tag_of(pid as u64, start + 1);
        assert!(is_stale(&other), "the same id with another start is another process");
        for foreign in ["", "t1", "zzzzzz", "UPPER1"] {
            assert!(!is_stale(foreign), "{foreign}");
        }
    }
}
