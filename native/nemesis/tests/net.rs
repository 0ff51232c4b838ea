//! Nodes in network namespaces: what a real TCP makes of a cut, next to what the link plane makes of it, and that
//! nothing is left behind. Needs root, `ip` and `nft`; without them each test says so and does nothing.

// Helpers are outside of test functions, which clippy.toml excepts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "plane/support.rs"]
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fuzz_dist_core::fault::{Direction, LinkFault};
use fuzz_dist_nemesis::net::{Action, Names, Network, Ports, Shape, probe, unavailable};

use support::{Node, TestPlane, both, connected_pair, eventually, link};

/// Of its own in each namespace.
const EPMD_PORT: u16 = 4_369;

fn is_possible() -> bool {
    let reason = unavailable();
    if let Some(reason) = &reason {
        println!("skipped: {reason}");
    }
    reason.is_none()
}

fn new_tag() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) % 10;
    format!("{:05x}{count}", std::process::id() & 0xf_ffff)
}

/// Interfaces, namespaces and tables whose names have the tag.
fn left_of(tag: &str) -> Vec<String> {
    let commands =
        [&["ip", "-o", "link"][..], &["ip", "netns", "list"], &["nft", "list", "tables"]];
    let mut left = Vec::new();
    for command in commands {
        let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        left.extend(text.lines().filter(|line| line.contains(tag)).map(str::to_owned));
    }
    left
}

/// Two connected nodes in namespaces.
struct Namespaces {
    network: Network,
    removal: Vec<Vec<String>>,
    epmds: Vec<Child>,
    tag: String,
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for epmd in &mut self.epmds {
            let _ = epmd.kill();
            let _ = epmd.wait();
        }
        for command in &self.removal {
            let _ = Command::new(&command[0]).args(&command[1..]).stderr(Stdio::null()).status();
        }
    }
}

impl Namespaces {
    fn start() -> (Namespaces, Node, Node) {
        let tag = new_tag();
        let names = Names::new(&tag, &["a".into(), "b".into()]);
        let removal = names.removal();
        let network = Network::create(names).unwrap();
        let mut namespaces = Namespaces { network, removal, epmds: Vec::new(), tag };
        let mut nodes = Vec::new();
        for short in ["a", "b"] {
            let around = namespaces.network.enter(short);
            let epmd = Command::new(&around[0])
                .args(&around[1..])
                .args(["epmd", "-port", &EPMD_PORT.to_string()])
                .spawn()
                .unwrap();
            namespaces.epmds.push(epmd);
            eventually("epmd answers", || {
                let names = ["epmd", "-port", &EPMD_PORT.to_string(), "-names"];
                let mut command = Command::new(&around[0]);
                command.args(&around[1..]).args(names).stdout(Stdio::null());
                command.status().unwrap().success().then_some(())
            });
            let name = namespaces.name(short);
            nodes.push(Node::spawn_in(&around, &name, EPMD_PORT));
        }
        nodes.iter().for_each(Node::await_start);
        let (b, mut a) = (nodes.remove(1), nodes.remove(0));
        a.connect(&namespaces.name("b"));
        (namespaces, a, b)
    }

    fn name(&self, short: &str) -> String {
        format!("{short}@{}", self.network.address(short).unwrap())
    }
}

/// Two connected nodes, and how both directions between them are cut and healed.
trait Cluster {
    fn name(&self, short: &str) -> String;
    fn cut(&self, fault: u32);
    fn heal(&self, fault: u32);
    fn is_effective(&self, fault: u32) -> bool;
}

impl Cluster for Namespaces {
    fn name(&self, short: &str) -> String {
        Namespaces::name(self, short)
    }

    fn cut(&self, fault: u32) {
        self.network.apply(fault, &both("a", "b"), None, &Action::Drop).unwrap();
    }

    fn heal(&self, fault: u32) {
        self.network.heal(fault).unwrap();
    }

    fn is_effective(&self, fault: u32) -> bool {
        self.network.effects(fault).unwrap().iter().any(|effect| effect.packets > 0)
    }
}

impl Cluster for (TestPlane, LinkFault) {
    fn name(&self, short: &str) -> String {
        support::full_name(short)
    }

    fn cut(&self, fault: u32) {
        self.0.client.apply(fault, &both("a", "b"), None, &self.1, None).unwrap();
    }

    fn heal(&self, fault: u32) {
        self.0.client.heal(fault, None).unwrap();
    }

    fn is_effective(&self, fault: u32) -> bool {
        self.0.client.observe(fault).unwrap().iter().any(|link| link.seen)
    }
}

/// The same for every plane. A message is sent into a cut of one second; gives how long after the heal it
/// came. `None` when a crowded machine made the cut so long that the nodes may have parted. Then a cut that
/// lasts until both sides notice, and the connection after its heal.
fn cut_twice(cluster: &dyn Cluster, a: &mut Node, b: &mut Node) -> Option<Duration> {
    let (name_a, name_b) = (cluster.name("a"), cluster.name("b"));
    let cut = Instant::now();
    cluster.cut(1);
    a.eval(&format!("{{sink, '{name_b}'}} ! into_the_cut"));
    eventually("the first cut has an effect", || cluster.is_effective(1).then_some(()));
    assert_eq!(b.received(), "[]");
    std::thread::sleep(Duration::from_millis(1_000).saturating_sub(cut.elapsed()));
    cluster.heal(1);
    let healed = Instant::now();
    let short_enough = cut.elapsed() < Duration::from_millis(1_350);
    let lag = short_enough.then(|| {
        eventually("it comes", || (b.received() == "[into_the_cut]").then_some(()));
        healed.elapsed()
    });

    a.connect(&name_b);
    a.clear();
    b.clear();
    cluster.cut(2);
    assert_eq!(a.nodedown_reason(&name_b), "net_tick_timeout");
    assert_eq!(b.nodedown_reason(&name_a), "net_tick_timeout");
    assert!(cluster.is_effective(2));
    cluster.heal(2);
    a.connect(&name_b);
    lag
}

/// The message is sent again 200, 600 and 1400 ms after it was first lost: with a heal at 1 s it is the third of
/// them that arrives in a kernel, and with `heal_lag`; without, it comes at once.
#[test]
fn a_cut_by_the_kernel_lasts_longer_by_tcps_back_off_and_one_by_the_plane_does_not() {
    if !is_possible() {
        return;
    }
    let (namespaces, mut a, mut b) = Namespaces::start();
    let by_kernel = cut_twice(&namespaces, &mut a, &mut b);
    drop((a, b));
    let by_plane = |heal_lag| {
        let (plane, mut a, mut b) = connected_pair();
        cut_twice(&(plane, LinkFault::Hold { heal_lag }), &mut a, &mut b)
    };
    let (exact, lagging) = (by_plane(false), by_plane(true));
    println!("after the heal it came: kernel {by_kernel:?}, plane {exact:?}, with lag {lagging:?}");
    for late in [by_kernel, lagging].into_iter().flatten() {
        assert!(late > Duration::from_millis(40), "{late:?}");
    }
    if let (Some(by_kernel), Some(exact)) = (by_kernel, exact) {
        assert!(exact < by_kernel, "the plane delivers first");
    }
}

#[test]
fn one_direction_and_one_port_are_dropped_alone_and_tables_keep_count() {
    if !is_possible() {
        return;
    }
    let (namespaces, mut a, mut b) = Namespaces::start();
    let network = &namespaces.network;
    let (name_a, name_b) = (namespaces.name("a"), namespaces.name("b"));
    let total = |fault| -> u64 {
        network.effects(fault).unwrap().iter().map(|effect| effect.packets).sum()
    };
    let dropping = |fault, links: &[_], ports| network.apply(fault, links, ports, &Action::Drop);

    // EPMD of b, from a: the connection stays, a new one fails; nothing else is touched.
    let epmd = Some(Ports { port: EPMD_PORT, direction: Direction::Both });
    dropping(1, &[link("a", "b")], epmd).unwrap();
    let call = format!("erpc:call('{name_b}', erlang, node, [], 20000)");
    assert_eq!(a.eval(&call), format!("'{name_b}'"));
    a.eval(&format!("erlang:disconnect_node('{name_b}')"));
    b.nodedown_reason(&name_a);
    assert_eq!(a.eval(&format!("net_adm:ping('{name_b}')")), "pang");
    let counted = total(1);
    assert!(counted > 0);
    // Another fault replaces the table, and nothing is forgotten.
    dropping(2, &[link("b", "a")], None).unwrap();
    assert!(total(1) >= counted && network.effects(2).unwrap().len() == 1);
    network.heal(1).unwrap();
    assert!(network.effects(1).unwrap().is_empty());
    network.heal(2).unwrap();
    a.connect(&name_b);

    // One way: whoever hears nothing notices; the other learns nothing by itself, since what tells it is lost.
    a.clear();
    b.clear();
    dropping(3, &[link("a", "b")], None).unwrap();
    assert_eq!(b.nodedown_reason(&name_a), "net_tick_timeout");
    network.heal_all().unwrap();
    a.connect(&name_b);
    let nowhere = dropping(4, &[link("a", "z")], None).unwrap_err().to_string();
    assert!(nowhere.contains("z has no network namespace"), "{nowhere}");
    let tag = namespaces.tag.clone();
    drop((a, b));
    drop(namespaces);
    assert_eq!(left_of(&tag), [""; 0]);
}

/// A lost request for a connection is silence, which ends with the set-up time of the kernel (3 s here); a rejected
/// one is an answer. The same is measured of the link plane, for `hold` and `refuse-connect`, in `plane_nodes.rs`.
#[test]
fn a_connect_is_silent_into_a_drop_and_refused_at_once_by_a_reset_and_a_rate_is_kept() {
    let lacking = [&probe().reset, &probe().rate].into_iter().flatten().next();
    if !is_possible() || lacking.is_some() {
        println!("skipped: {lacking:?}");
        return;
    }
    let (namespaces, mut a, mut b) = Namespaces::start();
    let network = &namespaces.network;
    let (name_a, name_b) = (namespaces.name("a"), namespaces.name("b"));
    let ping = |a: &mut Node| -> u64 {
        let took = format!("timer:tc(net_adm, ping, ['{name_b}'])");
        let told = a.eval(&format!("case {took} of {{T, pang}} -> T div 1000 end"));
        told.parse().unwrap_or_else(|_| panic!("{told}"))
    };

    // A rate: 200 kB at 100 kB a second, of which little passes at once.
    let copied = "binary:copy(<<0>>, 200000)";
    let call = format!("erpc:call('{name_b}', erlang, byte_size, [{copied}], 60000)");
    let call = format!("element(1, timer:tc(fun() -> {call} end)) div 1000");
    network.apply(1, &[link("a", "b")], None, &Action::Shape(Shape::Rate(100_000))).unwrap();
    let slow_ms: u64 = a.eval(&call).parse().unwrap();
    let queue = network.effects(1).unwrap()[0].queue.unwrap();
    network.heal(1).unwrap();
    let fast_ms: u64 = a.eval(&call).parse().unwrap();
    println!("200 kB took {slow_ms} ms at 100 kB/s ({queue:?}), {fast_ms} ms without");
    assert!(slow_ms >= 1_200 && queue.overlimits > 0, "{slow_ms} {queue:?}");
    assert!(fast_ms < slow_ms, "{fast_ms} {slow_ms}");

    // A reset: whoever sends hears it.
    a.clear();
    b.clear();
    network.apply(2, &both("a", "b"), None, &Action::Reset).unwrap();
    a.eval(&format!("{{sink, '{name_b}'}} ! into_the_reset"));
    assert_eq!(a.nodedown_reason(&name_b), "connection_closed");
    let refused_ms = ping(&mut a);
    network.heal(2).unwrap();
    b.nodedown_reason(&name_a);
    a.connect(&name_b);
    a.eval(&format!("erlang:disconnect_node('{name_b}')"));
    b.nodedown_reason(&name_a);

    network.apply(3, &both("a", "b"), None, &Action::Drop).unwrap();
    let silent_ms = ping(&mut a);
    println!("a connect failed after {refused_ms} ms by resets, {silent_ms} ms by drops");
    assert!(silent_ms >= 2_500 && refused_ms < silent_ms, "{refused_ms} {silent_ms}");
    network.heal_all().unwrap();
    // No queue is left at any cable.
    let queues = Command::new("tc").args(["qdisc", "show"]).output().unwrap();
    let queues = String::from_utf8(queues.stdout).unwrap();
    let ours = queues.lines().filter(|l| l.contains(&namespaces.tag) && !l.contains("noqueue"));
    assert_eq!(ours.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn runs_that_start_together_get_networks_of_their_own() {
    if !is_possible() {
        return;
    }
    let made = std::thread::scope(|scope| {
        let make = || {
            let tag = new_tag();
            let names = Names::new(&tag, &["a".into()]);
            let removal = names.removal();
            (tag, Network::create(names), removal)
        };
        let started: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for command in made.iter().flat_map(|(.., removal)| removal) {
        let _ = Command::new(&command[0]).args(&command[1..]).stderr(Stdio::null()).status();
    }
    let mut hosts = BTreeSet::new();
    for (tag, network, _) in made {
        assert!(hosts.insert(network.unwrap().host()), "{hosts:?}");
        assert_eq!(left_of(&tag), [""; 0]);
    }
}

#[test]
fn nothing_is_left_when_core_or_guard_is_killed_or_the_run_ends() {
    if !is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for end in ["core", "guard", "order"] {
        let tag = new_tag();
        let mut core = Command::new(env!("CARGO_BIN_EXE_fuzz_dist_guard_test"))
            .args(["network", &format!("net-test-{tag}"), &tag, folder.path().to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(core.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (guard_pid, _) = line.trim().split_once(' ').unwrap();
        // Two namespaces, a bridge, two cables, a table.
        assert_eq!(left_of(&tag).len(), 6, "{end}: {:?}", left_of(&tag));
        match end {
            "core" => core.kill().unwrap(),
            "guard" => {
                let killed = Command::new("kill").args(["-9", guard_pid]).status().unwrap();
                assert!(killed.success());
            }
            _ => drop(core.stdin.take()),
        }
        eventually(&format!("nothing is left: {end}"), || left_of(&tag).is_empty().then_some(()));
        drop(core.stdin.take());
        core.wait().unwrap();
    }
}

#[test]
fn what_a_run_left_that_was_killed_with_its_guard_is_removed_and_nothing_else() {
    if !is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let mut core = Command::new(env!("CARGO_BIN_EXE_fuzz_dist_guard_test"))
            .args(["network", &format!("net-test-{}", new_tag()), "own"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(core.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (guard_pid, tag) = line.trim().split_once(' ').unwrap();
        (core, guard_pid.to_owned(), tag.to_owned())
    };
    let (mut killed, guard_pid, tag) = start();
    let (mut alive, _, tag_of_alive) = start();
    let status = Command::new("kill").args(["-9", &guard_pid, &killed.id().to_string()]).status();
    assert!(status.unwrap().success());
    killed.wait().unwrap();
    eventually("the guard is gone", || {
        (!std::path::Path::new(&format!("/proc/{guard_pid}")).exists()).then_some(())
    });
    assert!(!left_of(&tag).is_empty(), "nobody was there to remove it");
    fuzz_dist_nemesis::leftovers::remove();
    assert_eq!(left_of(&tag), [""; 0]);
    assert_eq!(left_of(&tag_of_alive).len(), 6, "a live run keeps what it has");
    drop(alive.stdin.take());
    alive.wait().unwrap();
}
