#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use fuzz_dist_core::seed::{Seed, Stream};
use fuzz_dist_schedule::draw;

use super::{CONTRADICTED_MAX, Change, Machine, Members, Operation, Outcome, Resolution};

const ALL: [Change; 3] = [Change::Join, Change::Leave, Change::Forget];

fn set(names: &[&str]) -> Members {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn operation(change: Change, node: &str, via: &str) -> Operation {
    Operation { change, node: node.into(), via: via.into() }
}

/// Three nodes, all members, all heard.
fn three() -> Machine {
    let mut machine = Machine::new(vec!["a".into(), "b".into(), "c".into()]);
    for node in ["a", "b", "c"] {
        machine.observe(node, Some(set(&["a", "b", "c"])));
    }
    machine
}

#[test]
fn a_change_is_open_until_every_member_shows_it() {
    let mut machine = three();
    let id = machine.begin(operation(Change::Leave, "c", "a"));
    machine.answered(id, Outcome::Done);
    machine.observe("a", Some(set(&["a", "b"])));
    assert_eq!(machine.resolution(id), None);
    assert_eq!(machine.members(), &set(&["a", "b", "c"]));
    machine.observe("b", Some(set(&["a", "b"])));
    assert_eq!(machine.resolution(id), Some(&Resolution::TookPlace));
    // It does not know that it was removed, and does not matter.
    assert_eq!(machine.members(), &set(&["a", "b"]));
    assert!(machine.agrees());
}

#[test]
fn what_was_refused_did_not_happen_and_what_is_unknown_is_decided_by_the_views() {
    let mut machine = three();
    let refused = machine.begin(operation(Change::Forget, "c", "a"));
    machine.answered(refused, Outcome::Refused("still active".into()));
    assert_eq!(machine.resolution(refused), Some(&Resolution::DidNot("still active".into())));
    let unknown = machine.begin(operation(Change::Forget, "c", "a"));
    machine.answered(unknown, Outcome::Unknown("timeout".into()));
    for _ in 0..CONTRADICTED_MAX {
        assert_eq!(machine.resolution(unknown), None);
        machine.observe("a", Some(set(&["a", "b", "c"])));
    }
    assert!(matches!(machine.resolution(unknown), Some(Resolution::DidNot(_))));
    assert!(machine.pending().is_empty());
}

/// Whoever lets a node in may be killed in the middle of it, and then nobody says soon what became of it.
#[test]
fn a_join_that_was_lost_on_the_way_is_asked_for_again_and_nothing_else() {
    let mut machine = three();
    for node in ["a", "b"] {
        machine.observe(node, Some(set(&["a", "b"])));
    }
    machine.observe("c", None);
    let up = set(&["a", "b", "c"]);
    let possible = |machine: &Machine| {
        let all = machine.possible(&ALL, &up, true);
        all.into_iter().filter(|o| o.node == "c").map(|o| o.change).collect::<Vec<_>>()
    };
    let first = machine.begin(operation(Change::Join, "c", "a"));
    assert_eq!(possible(&machine), [], "it is under way");
    machine.answered(first, Outcome::Unknown("a is gone".into()));
    assert_eq!(possible(&machine), [Change::Join, Change::Join]);
    let second = machine.begin(operation(Change::Join, "c", "b"));
    assert_eq!(possible(&machine), []);
    machine.answered(second, Outcome::Done);
    for node in ["a", "b", "c"] {
        machine.observe(node, Some(set(&["a", "b", "c"])));
    }
    for id in [first, second] {
        assert_eq!(machine.resolution(id), Some(&Resolution::TookPlace));
    }
    // A removal of which nobody knows is not made twice: it may take place yet.
    let removal = machine.begin(operation(Change::Forget, "c", "a"));
    machine.answered(removal, Outcome::Unknown("a is gone".into()));
    assert_eq!(possible(&machine), []);
}

/// A node that was removed, wiped and started again alone takes itself for a cluster. Joining that would wipe the others.
#[test]
fn a_node_alone_is_no_cluster_while_the_members_are_silent() {
    let mut machine = three();
    let id = machine.begin(operation(Change::Forget, "c", "a"));
    machine.answered(id, Outcome::Done);
    for node in ["a", "b"] {
        machine.observe(node, Some(set(&["a", "b"])));
    }
    machine.observe("c", Some(set(&["c"])));
    machine.observe("a", None);
    machine.observe("b", None);
    machine.observe("c", Some(set(&["c"])));
    assert_eq!(machine.members(), &set(&["a", "b"]));
    assert_eq!(machine.possible(&ALL, &set(&["a", "b", "c"]), true), []);
    // Nor if only one of the members is silent, and whoever is left alone says so.
    machine.observe("a", Some(set(&["a", "b"])));
    machine.observe("b", Some(set(&["b"])));
    assert_eq!(machine.members(), &set(&["a", "b"]));
}

/// A removal that nobody has answered yet is not resolved by views from before.
#[test]
fn what_is_being_asked_for_is_not_judged() {
    let mut machine = three();
    machine.observe("a", Some(set(&["a", "b"])));
    machine.observe("b", Some(set(&["a", "b"])));
    let id = machine.begin(operation(Change::Leave, "c", "a"));
    machine.observe("a", Some(set(&["a", "b"])));
    assert_eq!(machine.resolution(id), None);
    machine.answered(id, Outcome::Done);
    assert_eq!(machine.resolution(id), Some(&Resolution::TookPlace));
}

#[test]
fn safe_changes_leave_a_majority_and_a_majority_up() {
    let machine = three();
    let up = set(&["a", "b", "c"]);
    assert!(machine.is_safe(&operation(Change::Leave, "c", "a"), &up));
    // With one down, one of two members would serve.
    let up = set(&["a", "c"]);
    assert!(!machine.is_safe(&operation(Change::Leave, "c", "a"), &up));
    assert!(machine.is_safe(&operation(Change::Forget, "b", "a"), &up));
    // A second removal beside one that is under way.
    let mut machine = three();
    machine.begin(operation(Change::Leave, "c", "a"));
    let up = set(&["a", "b", "c"]);
    assert_eq!(machine.possible(&ALL, &up, false), []);
    let unsafe_too = machine.possible(&ALL, &up, true);
    assert!(unsafe_too.contains(&operation(Change::Leave, "b", "a")), "{unsafe_too:?}");
    assert!(unsafe_too.iter().all(|o| o.node != "c" && o.via != "c"), "{unsafe_too:?}");
}

#[test]
fn decisions_go_on_while_a_node_cannot_be_reached() {
    let mut machine = three();
    machine.observe("b", None);
    let up = set(&["a", "c"]);
    let possible = machine.possible(&ALL, &up, false);
    assert_eq!(
        possible,
        [operation(Change::Forget, "b", "a"), operation(Change::Forget, "b", "c")]
    );
    let mut stream = Seed(1).stream("test", 0);
    assert!(possible.contains(&Machine::choose(&possible, &mut stream).unwrap()));
    assert_eq!(Machine::choose(&[], &mut stream), None);
}

/// A change that was asked for and is on its way through the cluster.
struct Underway {
    id: u64,
    operation: Operation,
    answer: Option<Outcome>,
    /// Whether the cluster is still to perform it.
    effect: bool,
    /// For how many steps it may still be on its way.
    left: u64,
}

/// A cluster with one true set of members, of which nodes hear late; nodes die and come back at any moment.
struct World {
    names: Vec<String>,
    truth: Members,
    up: Members,
    /// What each node believes; kept while it is down.
    believed: BTreeMap<String, Members>,
    underway: Vec<Underway>,
    /// Per operation, whether it ever took effect.
    happened: BTreeMap<u64, bool>,
    stream: Stream,
}

impl World {
    fn new(nodes: usize, stream: Stream) -> World {
        let names: Vec<String> = (1..=nodes).map(|i| format!("n{i}")).collect();
        let truth: Members = names.iter().cloned().collect();
        World {
            believed: names.iter().map(|name| (name.clone(), truth.clone())).collect(),
            up: truth.clone(),
            truth,
            names,
            underway: Vec::new(),
            happened: BTreeMap::new(),
            stream,
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        draw::below(&mut self.stream, 100) < percent
    }

    fn name(&mut self) -> String {
        self.names[draw::index(&mut self.stream, self.names.len())].clone()
    }

    /// A node hears what is so. One that was removed may never hear of it.
    fn hear(&mut self, node: &str) {
        if self.up.contains(node) && self.truth.contains(node) {
            self.believed.insert(node.to_owned(), self.truth.clone());
        }
    }

    fn ask(&mut self, machine: &mut Machine, allow_unsafe: bool) {
        let up = self.up.clone();
        let possible = machine.possible(&ALL, &up, allow_unsafe);
        let Some(operation) = Machine::choose(&possible, &mut self.stream) else { return };
        let id = machine.begin(operation.clone());
        let fate = draw::below(&mut self.stream, 5);
        let (answer, effect) = match fate {
            0 => (Outcome::Refused("no".into()), false),
            1 => (Outcome::Unknown("timeout".into()), false),
            2 => (Outcome::Unknown("timeout".into()), true),
            _ => (Outcome::Done, true),
        };
        let left = draw::below(&mut self.stream, 20);
        self.happened.insert(id, false);
        self.underway.push(Underway { id, operation, answer: Some(answer), effect, left });
    }

    /// One that may still take effect is performed, or answered, in either order.
    fn advance(&mut self, machine: &mut Machine) {
        if self.underway.is_empty() {
            return;
        }
        let at = draw::index(&mut self.stream, self.underway.len());
        let act = self.chance(50);
        let one = &mut self.underway[at];
        one.left = one.left.saturating_sub(1);
        if one.effect && (act || one.left == 0) {
            one.effect = false;
            self.happened.insert(one.id, true);
            match one.operation.change {
                Change::Join => self.truth.insert(one.operation.node.clone()),
                _ => self.truth.remove(&one.operation.node),
            };
        } else if let Some(answer) = one.answer.take_if(|_| !act || one.left == 0) {
            machine.answered(one.id, answer);
        }
        self.underway.retain(|one| one.effect || one.answer.is_some());
    }

    fn step(&mut self, machine: &mut Machine, allow_unsafe: bool) {
        match draw::below(&mut self.stream, 10) {
            0 => {
                let node = self.name();
                if !self.up.remove(&node) {
                    self.up.insert(node);
                }
            }
            1 => self.ask(machine, allow_unsafe),
            2..=4 => self.advance(machine),
            5 => {
                let node = self.name();
                self.hear(&node);
            }
            _ => {
                let node = self.name();
                if self.chance(60) {
                    self.hear(&node);
                }
                let view = self.up.contains(&node).then(|| self.believed[&node].clone());
                machine.observe(&node, view);
            }
        }
    }

    /// Everybody is up, hears and is heard, and nothing new is asked for.
    fn calm(&mut self, machine: &mut Machine) {
        self.up = self.names.iter().cloned().collect();
        while !self.underway.is_empty() {
            self.advance(machine);
        }
        for _ in 0..=CONTRADICTED_MAX {
            for node in self.names.clone() {
                self.hear(&node);
                machine.observe(&node, Some(self.believed[&node].clone()));
            }
        }
    }
}

fn cases() -> u64 {
    let given = std::env::var("FUZZ_DIST_ORACLE_CASES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// Whatever happens to nodes and changes: safe ones never take away the majority, everything is resolved in the
/// end, as it was, and the machine knows the members.
#[test]
fn random_interleavings_with_kills_keep_a_majority_and_are_resolved() {
    let (mut asked, mut took_place, mut shrunk) = (0, 0, 0);
    for case in 0..cases() {
        let nodes = 3 + (case % 5) as usize;
        let mut world = World::new(nodes, Seed(case).stream("world", 0));
        let mut machine = Machine::new(world.names.clone());
        for _ in 0..300 {
            world.step(&mut machine, false);
            assert!(world.truth.len() > nodes / 2, "case {case}: {:?}", world.truth);
            shrunk += u64::from(world.truth.len() < nodes);
        }
        world.calm(&mut machine);
        assert_eq!(machine.pending(), [], "case {case}");
        assert_eq!(machine.members(), &world.truth, "case {case}");
        for (id, happened) in &world.happened {
            asked += 1;
            match machine.resolution(*id).unwrap() {
                Resolution::TookPlace => took_place += 1,
                Resolution::DidNot(reason) if reason == "no" => assert!(!happened),
                Resolution::DidNot(_) => {}
            }
        }
    }
    // Else nothing was tried.
    assert!(
        asked > cases() && took_place > cases() / 2 && shrunk > cases(),
        "{asked} {took_place} {shrunk}"
    );
}

/// The same with unsafe changes, which do go below: the bound above is the machine's doing.
#[test]
fn unsafe_changes_go_below_a_majority() {
    let below = (0..200).filter(|case| {
        let mut world = World::new(3, Seed(*case).stream("world", 0));
        let mut machine = Machine::new(world.names.clone());
        (0..300).any(|_| {
            world.step(&mut machine, true);
            world.truth.len() < 2
        })
    });
    assert!(below.count() > 20);
}
