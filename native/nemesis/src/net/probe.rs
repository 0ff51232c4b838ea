//! What of the kernel's network can be had here, found by doing it where nobody can see it.
//!
//! A thread leaves the network namespace and the mounts of this process, with a `/run` of its own, and there makes a
//! namespace, a bridge, cables, rules and queues with the same command lines as a run does. All of it goes with
//! the thread, whatever happens to the process meanwhile. It is done once in a process.

use std::sync::OnceLock;

use fuzz_dist_core::fault::Link;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::NetError;
use super::command::{missing, run, tc};
use super::rules::{End, Rule, Rules, Verdict};
use super::shaping::{Emulation, Shape, added, root};

/// Why each cannot be had; `None` if it can.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// Namespaces joined by a bridge: without them nothing of the rest.
    pub namespaces: Option<String>,
    /// Rules that drop packets.
    pub drop: Option<String>,
    /// Rules that answer packets with a reset.
    pub reset: Option<String>,
    /// Token buckets.
    pub rate: Option<String>,
    /// The network emulator.
    pub netem: Option<String>,
}

impl Probe {
    fn none(reason: String) -> Probe {
        let reason = Some(reason);
        Probe {
            namespaces: reason.clone(),
            drop: reason.clone(),
            reset: reason.clone(),
            rate: reason.clone(),
            netem: reason,
        }
    }
}

/// What can be had on this machine. Takes some tens of milliseconds when it is asked for the first time.
pub fn probe() -> &'static Probe {
    static PROBE: OnceLock<Probe> = OnceLock::new();
    PROBE.get_or_init(|| {
        if !cfg!(target_os = "linux") {
            return Probe::none("needs Linux".into());
        }
        if !rustix::process::geteuid().is_root() {
            return Probe::none("needs root: network namespaces are made with `ip netns`".into());
        }
        if let Some(reason) = missing("ip") {
            return Probe::none(reason);
        }
        let tried = std::thread::Builder::new().name("net-probe".into()).spawn(try_all);
        let died = || Probe::none("the thread that tries it died".into());
        tried.map(|thread| thread.join().unwrap_or_else(|_| died())).unwrap_or_else(|_| died())
    })
}

/// Why nodes cannot be in namespaces here; `None` if they can.
pub fn unavailable() -> Option<String> {
    let Probe { namespaces, drop, .. } = probe();
    namespaces.clone().or_else(|| drop.clone())
}

fn try_all() -> Probe {
    if let Err(reason) = leave() {
        return Probe::none(reason);
    }
    let made = [
        "ip netns add fuzz_dist_probe",
        "ip link add fdp type bridge",
        "ip link add fdpv0 type veth peer name eth0 netns fuzz_dist_probe",
        "ip link set fdpv0 master fdp up",
        "ip -n fuzz_dist_probe address add 10.200.0.1/24 dev eth0",
    ];
    if let Err(error) = made.iter().try_for_each(|command| run(command).map(drop)) {
        return Probe::none(error.to_string());
    }
    let rules = |verdict, kernel_lacks| missing("nft").or_else(|| try_rule(verdict, kernel_lacks));
    let queue = |shape, kernel_lacks| missing("tc").or_else(|| try_queue(&shape, kernel_lacks));
    let dropped = rules(Verdict::Drop, "nf_tables for bridges");
    // Queues are chosen by rules.
    let classes = rules(Verdict::Class(0x10), "nf_tables for bridges");
    let emulation = Emulation { latency_ms: 10, loss_percent: 1.0, ..Emulation::default() };
    Probe {
        namespaces: None,
        drop: dropped,
        reset: rules(Verdict::Reset, "nft_reject_netdev"),
        rate: classes.clone().or_else(|| queue(Shape::Rate(1_000_000), "sch_htb or sch_tbf")),
        netem: classes.or_else(|| queue(Shape::Emulate(emulation), "sch_netem")),
    }
}

/// Leaves what others see.
fn leave() -> Result<(), String> {
    let failed = |what: &str, error: nix::Error| {
        format!(
            "{what} is not allowed here, even as root ({}): a container without CAP_SYS_ADMIN?",
            error.desc()
        )
    };
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|error| failed("a network namespace of its own", error))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .and_then(|()| mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none))
        .map_err(|error| failed("a mount of its own", error))
}

fn try_rule(verdict: Verdict, kernel_lacks: &str) -> Option<String> {
    let end = |number| End { address: [10, 200, 0, number].into(), cable: "fdpv0".into() };
    let rule = Rule {
        fault: 1,
        link: Link { from: "a".into(), to: "b".into() },
        from: end(1),
        to: end(2),
        ports: None,
        verdict,
        packets_before: 0,
    };
    let mut rules = Rules::new("fuzz_dist_probe".into());
    let tried = rules.put_in_force().and_then(|_| rules.change(|rules| rules.push(rule)));
    tried.err().map(|error| without(kernel_lacks, &error))
}

fn try_queue(shape: &Shape, kernel_lacks: &str) -> Option<String> {
    let mut lines = vec![root("fdpv0")];
    lines.extend(added("fdpv0", 0x10, shape));
    let tried = tc(&lines);
    // For the next that is tried.
    let _ = tc(&["qdisc del dev fdpv0 root".to_owned()]);
    tried.err().map(|error| without(kernel_lacks, &error))
}

/// What the kernel lacks, if that is what a program said; else what failed.
fn without(kernel_lacks: &str, error: &NetError) -> String {
    // tc of a kernel without the module, nft of one without the expression or family.
    let unknown = ["kind is unknown", "No such file or directory", "not supported"];
    match error {
        NetError::Command { reason, .. } if unknown.iter().any(|words| reason.contains(words)) => {
            let said = reason.lines().next().unwrap_or_default();
            format!("the kernel has no {kernel_lacks} ({})", said.trim_end_matches('.'))
        }
        error => error.to_string().replace('\n', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_named() {
        let failed = |reason: &str| {
            let (command, reason) = ("tc x".to_owned(), reason.to_owned());
            without("sch_netem", &NetError::Command { command, reason })
        };
        assert_eq!(
            failed("Error: Specified qdisc kind is unknown.\nCommand failed -:3 (exit status: 1)"),
            "the kernel has no sch_netem (Error: Specified qdisc kind is unknown)"
        );
        assert_eq!(failed("broke\nhere"), "`tc x` failed: broke here");
    }
}
