//! The state machine of membership: what the nodes say of it, which changes are under way, and which may be made.
//!
//! After Jepsen's `jepsen.nemesis.membership`, with its principles: changes that were asked for are remembered
//! until the views of the nodes show what became of them; they count as if they had the worst outcome while they
//! are open; decisions go on while nodes cannot be reached. Added is a model of majorities: a change is safe if the
//! cluster keeps a majority of all nodes as members, and a majority of its members up.
//!
//! Pure: no clock, no node. [`super::System`] asks and acts. Limits: a system is one set of members; shards or
//! tables with members of their own are for its [`super::System`] to bring along.

use std::collections::{BTreeMap, BTreeSet};

use fuzz_dist_core::seed::Stream;
use fuzz_dist_schedule::draw;

/// Short names of nodes.
pub type Members = BTreeSet<String>;

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A node becomes a member.
    Join,
    /// A member goes, and helps with it.
    Leave,
    /// A member is removed by another.
    Forget,
}

impl Change {
    /// As histories and callbacks name it.
    pub fn name(self) -> &'static str {
        match self {
            Change::Join => "join",
            Change::Leave => "leave",
            Change::Forget => "forget",
        }
    }
}

/// A change of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What.
    pub change: Change,
    /// Whose membership changes.
    pub node: String,
    /// The member that is asked, or that the node asks.
    pub via: String,
}

impl Operation {
    /// Whether members that are these show that it took place.
    fn shows_in(&self, members: &Members) -> bool {
        members.contains(&self.node) == (self.change == Change::Join)
    }
}

/// What asking for a change told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It took place, or will.
    Done,
    /// It certainly did not.
    Refused(String),
    /// Nobody knows.
    Unknown(String),
}

/// A change that was asked for and has not shown its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Which.
    pub id: u64,
    /// What.
    pub operation: Operation,
    /// What was answered; nothing yet while it is being asked for.
    pub outcome: Option<Outcome>,
    /// How many answers of members came since, while all agreed that it did not take place.
    contradicted: u32,
}

/// How a change ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// The views show it.
    TookPlace,
    /// It was refused, or all nodes agree again and again that nothing changed.
    DidNot(String),
}

/// How many answers of members, all of which agree, must show that a change did not take place before it is given up.
const CONTRADICTED_MAX: u32 = 100;

/// What is known of the cluster.
#[derive(Debug, Clone)]
pub struct Machine {
    nodes: Vec<String>,
    /// Whom each node takes for members; nodes that do not answer have none.
    views: BTreeMap<String, Members>,
    /// Whom the cluster takes for members.
    members: Members,
    pending: Vec<Pending>,
    resolved: BTreeMap<u64, Resolution>,
    next_id: u64,
}

impl Machine {
    /// Of these nodes, all of them members until they say otherwise.
    pub fn new(nodes: Vec<String>) -> Machine {
        let members = nodes.iter().cloned().collect();
        Machine {
            nodes,
            views: BTreeMap::new(),
            members,
            pending: Vec::new(),
            resolved: BTreeMap::new(),
            next_id: 1,
        }
    }

    /// The merged view.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// What is not known to have ended.
    pub fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// How an operation ended, once that is known.
    pub fn resolution(&self, id: u64) -> Option<&Resolution> {
        self.resolved.get(&id)
    }

    /// Whether every member answers and says the same.
    pub fn agrees(&self) -> bool {
        self.members.iter().all(|node| self.views.get(node) == Some(&self.members))
    }

    /// A node said whom it takes for members, or did not answer.
    pub fn observe(&mut self, node: &str, view: Option<Members>) {
        let Some(view) = view else {
            self.views.remove(node);
            return;
        };
        self.views.insert(node.to_owned(), view);
        self.members = self.merged();
        if self.agrees() {
            for pending in self.pending.iter_mut().filter(|p| p.outcome.is_some()) {
                pending.contradicted += u32::from(!pending.operation.shows_in(&self.members));
            }
        }
        self.resolve();
    }

    /// The view that most of those hold who stand in it, if they are a majority of it, and a majority of those too who
    /// certainly were members until now: nodes that were removed and do not know may believe what they like, and one
    /// that was wiped and began a cluster of its own is no cluster for the others to join, also while they are silent.
    /// Of equals, the present one; then the larger.
    fn merged(&self) -> Members {
        let certain = self.certain_members();
        // How many hold it, and how many of these were members.
        let mut support: BTreeMap<&Members, (usize, usize)> = BTreeMap::new();
        for (node, view) in self.views.iter().filter(|(node, view)| view.contains(*node)) {
            let (all, before) = support.entry(view).or_default();
            *all += 1;
            *before += usize::from(certain.contains(node));
        }
        let best = support
            .into_iter()
            .filter(|(view, (all, before))| all * 2 > view.len() && before * 2 > certain.len())
            .max_by_key(|(view, (all, _))| (*all, **view == self.members, view.len()));
        best.map_or_else(|| self.members.clone(), |(view, _)| view.clone())
    }

    /// Drops what is known to have ended, until nothing more can be told: a change that took place may be what
    /// another one undid.
    fn resolve(&mut self) {
        let agrees = self.agrees();
        while let Some((at, resolution)) =
            self.pending.iter().enumerate().find_map(|(at, pending)| {
                Some((at, resolution_of(pending, &self.members, agrees)?))
            })
        {
            let ended = self.pending.remove(at);
            self.resolved.insert(ended.id, resolution);
        }
    }

    /// Remembers a change that is about to be asked for.
    pub fn begin(&mut self, operation: Operation) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.pending.push(Pending { id, operation, outcome: None, contradicted: 0 });
        id
    }

    /// What asking for it told.
    pub fn answered(&mut self, id: u64, outcome: Outcome) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == id) {
            pending.outcome = Some(outcome);
        }
        self.resolve();
    }

    /// Whom the worst outcome of everything under way leaves as members.
    fn certain_members(&self) -> Members {
        let mut certain = self.members.clone();
        for pending in &self.pending {
            // A join that is under way may fail; a removal may succeed.
            certain.remove(&pending.operation.node);
        }
        certain
    }

    /// Whether the cluster stays useful if the operation takes place: a majority of all nodes are members, and a
    /// majority of the members are up and say so, whatever becomes of what is under way.
    pub fn is_safe(&self, operation: &Operation, up: &Members) -> bool {
        if operation.change == Change::Join {
            return true;
        }
        let mut left = self.certain_members();
        left.remove(&operation.node);
        let majority = |count: usize| count / 2 + 1;
        let mut could_be_members = self.members.clone();
        could_be_members.extend(self.pending.iter().map(|pending| pending.operation.node.clone()));
        could_be_members.remove(&operation.node);
        let stands = |node: &&String| {
            self.is_heard(node, up) && self.views.get(*node) == Some(&self.members)
        };
        let up_count = left.iter().filter(stands).count();
        left.len() >= majority(self.nodes.len()) && up_count >= majority(could_be_members.len())
    }

    /// Whether a member serves: one that runs may still be starting.
    fn is_heard(&self, node: &str, up: &Members) -> bool {
        up.contains(node) && self.views.contains_key(node)
    }

    /// Whether a change of this node may be asked for now: when none is under way, or none but joins of which nobody
    /// knows what became, for a join may be asked for again.
    fn is_open(&self, node: &str, change: Change) -> bool {
        let lost = |pending: &Pending| {
            pending.operation.change == Change::Join
                && matches!(pending.outcome, Some(Outcome::Unknown(_)))
        };
        let mut about = self.pending.iter().filter(|pending| pending.operation.node == node);
        about.all(|pending| change == Change::Join && lost(pending))
    }

    /// Everything that can be done, given who is up (runs and is not paused).
    pub fn possible(&self, changes: &[Change], up: &Members, allow_unsafe: bool) -> Vec<Operation> {
        let certain = self.certain_members();
        let mut possible = Vec::new();
        for node in &self.nodes {
            let is_member = self.members.contains(node);
            let helpers = certain.iter().filter(|via| *via != node && self.is_heard(via, up));
            for via in helpers {
                for change in changes {
                    let fits = self.is_open(node, *change)
                        && match change {
                            Change::Join => !is_member && up.contains(node),
                            Change::Leave => is_member && up.contains(node),
                            Change::Forget => is_member,
                        };
                    let operation =
                        Operation { change: *change, node: node.clone(), via: via.clone() };
                    if fits && (allow_unsafe || self.is_safe(&operation, up)) {
                        possible.push(operation);
                    }
                }
            }
        }
        possible
    }

    /// One of these, each node and change with the same chance whatever the number of helpers.
    pub fn choose(possible: &[Operation], stream: &mut Stream) -> Option<Operation> {
        let mut about: Vec<(Change, &str)> =
            possible.iter().map(|o| (o.change, o.node.as_str())).collect();
        about.sort_unstable();
        about.dedup();
        let (change, node) = *pick(&about, stream)?;
        let ways: Vec<&Operation> =
            possible.iter().filter(|o| o.change == change && o.node == node).collect();
        pick(&ways, stream).map(|operation| (*operation).clone())
    }
}

fn pick<'a, T>(items: &'a [T], stream: &mut Stream) -> Option<&'a T> {
    items.get(draw::index(stream, items.len()))
}

fn resolution_of(pending: &Pending, members: &Members, agrees: bool) -> Option<Resolution> {
    match &pending.outcome {
        Some(Outcome::Refused(reason)) => Some(Resolution::DidNot(reason.clone())),
        // While it is being asked for, members may show what was so before.
        Some(_) if agrees && pending.operation.shows_in(members) => Some(Resolution::TookPlace),
        Some(outcome) if pending.contradicted >= CONTRADICTED_MAX => {
            let said = match outcome {
                Outcome::Unknown(reason) => reason.as_str(),
                _ => "it was accepted",
            };
            Some(Resolution::DidNot(format!("{said}, and all nodes agree that nothing changed")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
