//! Who held a lock for certain, and from when to when.
//!
//! An acquisition takes effect somewhere between its invocation and its completion, and so does a
//! release. So a hold is certain from the *completion* of the acquisition to the *invocation* of the
//! release: its core. It ends earlier, for what is certain, when the process has crashed (an operation
//! of it ended with info, so its session may be closed) or its lease may have run out. Locks are
//! correct exactly if the cores of different holds do not overlap: each hold can be made as short as its
//! core.
//!
//! An indeterminate acquisition is taken to have failed, unless its owner releases the lock later without
//! another acquisition; an indeterminate release to have taken effect at once, unless its owner
//! releases the lock again without another acquisition. Since it may also come late, a later hold of the
//! same owner is only certain if a release that succeeded shows that it lasted.

use std::collections::{BTreeMap, HashMap};

use fuzz_dist_core::number::Exact;
use fuzz_dist_core::{History, Op, OpType, Value};

use crate::elements::NONE;

/// What somebody did with the lock; what certainly failed is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Acquire,
    Release,
    Renew,
    /// Something else ended with info.
    Crash,
}

#[derive(Debug, Clone)]
struct Call {
    act: Act,
    invoke: u32,
    /// Position of the ok completion; [`NONE`] if it is not known whether it happened.
    ok: u32,
    /// When it is known that it is not known.
    info: u32,
    token: Option<Exact>,
}

/// A hold with its core. Positions of records; the end is [`NONE`] if it never ended.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub owner: Value,
    pub invoke: u32,
    /// Completion of the acquisition, where the core begins.
    pub start: u32,
    /// Where the core ends.
    pub end: u32,
    pub token: Option<Exact>,
    /// Invocation of the last acquisition or renewal, from which the lease runs.
    leased_at: u32,
    depth: u64,
    /// Releases that may be one too many, since it is not known whether what they end is this hold.
    unsure_releases: u64,
    /// Whether a release that succeeded shows that it lasted to its end.
    released: bool,
    /// Whether an earlier indeterminate release of the owner may have ended it at any moment.
    shaky: bool,
    /// Whether an indeterminate operation may have made it part of an earlier hold (reentrant locks).
    pub inner: bool,
}

/// Somebody held the lock at some moment between two records: released what is not known to have been
/// acquired, or acquired what may have ended at once. So it must be free of others at some moment there.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub owner: Value,
    pub acquire: u32,
    pub invoke: u32,
    pub ok: u32,
}

/// A rule broken by one owner alone.
#[derive(Debug)]
pub(crate) enum Misuse {
    /// Acquired while held by the same owner, oftener than allowed.
    Reacquired { owner: Value, first: u32, again: (u32, u32), depth: u64 },
    /// Released without being held.
    NotHeld { owner: Value, release: (u32, u32) },
    /// An acquisition within a hold gave another token.
    OtherToken { owner: Value, first: u32, again: (u32, u32), tokens: (Exact, Exact) },
}

/// What the rules of the lock are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// How often one owner may acquire it without releasing it.
    pub depth_max: u64,
    /// How many may hold it at the same time.
    pub permits: usize,
    pub lease_ns: Option<i64>,
    /// Whether owners are the clients that values name, not processes.
    pub by_client: bool,
}

/// All that is certain.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    pub holds: Vec<Hold>,
    pub moments: Vec<Moment>,
    pub misuses: Vec<Misuse>,
    /// The first token that has no order, in words.
    pub odd_token: Option<String>,
}

impl Holds {
    /// Reads the history; tells why it cannot be decided.
    pub fn new(history: &History, rules: Rules) -> Result<Holds, String> {
        let mut holds = Holds::default();
        for (owner, calls) in calls(history, rules.by_client, &mut holds.odd_token)? {
            let from = holds.holds.len();
            match rules.permits {
                1 => holds.follow(&owner, &calls, rules),
                _ => holds.follow_permits(&owner, &calls),
            }
            crashed(&calls, &mut holds.holds[from..]);
        }
        if let Some(lease_ns) = rules.lease_ns {
            expire(history, lease_ns, &mut holds.holds)?;
        }
        // Of what has no core, it is still certain that the acquisition took effect.
        let short = holds.holds.iter().filter(|hold| !hold.has_core()).map(|hold| Moment {
            owner: hold.owner.clone(),
            acquire: hold.invoke,
            invoke: hold.invoke,
            ok: hold.start,
        });
        holds.moments.extend(short);
        Ok(holds)
    }

    /// One owner of a lock that one can hold.
    fn follow(&mut self, owner: &Value, calls: &[Call], rules: Rules) {
        let from = self.misuses.len();
        let mut current: Option<Hold> = None;
        let mut unsure_acquires: Vec<u32> = Vec::new();
        let (mut crash, mut shaky) = (NONE, false);
        for call in calls {
            crash = crash.min(call.info);
            match (call.act, call.ok != NONE) {
                (Act::Crash, _) => {}
                (Act::Acquire, false) => {
                    unsure_acquires.push(call.invoke);
                    // The next hold may only be one more of a session that is closing.
                    shaky |= rules.depth_max > 1;
                }
                (Act::Acquire, true) => {
                    let may_have_ended = crash < call.ok
                        || rules.lease_ns.is_some()
                        || current.as_ref().is_some_and(|hold| hold.shaky);
                    self.acquire(owner, call, rules, may_have_ended, &mut current);
                    if let Some(hold) = &mut current {
                        hold.shaky = shaky;
                        hold.inner = rules.depth_max > 1 && shaky;
                    }
                    crash = NONE;
                }
                (Act::Release, sure) => {
                    self.release(owner, call, sure, &mut current, &mut unsure_acquires);
                    shaky |= !sure;
                }
                (Act::Renew, _) => {
                    if let Some(hold) = current.as_mut().filter(|hold| hold.depth > 0) {
                        hold.leased_at = call.invoke;
                    }
                }
            }
        }
        self.holds.extend(current);
        // After an indeterminate operation there may be another one for each release to end.
        let unsure =
            |call: &&Call| call.ok == NONE && matches!(call.act, Act::Acquire | Act::Release);
        let first_unsure = calls.iter().find(unsure).map_or(NONE, |call| call.invoke);
        let own = self.misuses.split_off(from);
        self.misuses.extend(own.into_iter().filter(|misuse| match misuse {
            Misuse::NotHeld { release, .. } => release.0 < first_unsure,
            _ => true,
        }));
    }

    fn acquire(
        &mut self,
        owner: &Value,
        call: &Call,
        rules: Rules,
        may_have_ended: bool,
        current: &mut Option<Hold>,
    ) {
        let mut next = Hold::new(owner, call);
        if let Some(before) = current.as_ref().filter(|_| rules.depth_max > 1) {
            next.unsure_releases = before.unsure_releases;
        }
        match current.as_mut().filter(|hold| hold.depth > 0) {
            // Within the hold or after it: as many releases as both may need are right.
            Some(hold) if may_have_ended && rules.depth_max > 1 => {
                next.unsure_releases += hold.depth;
            }
            Some(_) if may_have_ended => {}
            Some(hold) if hold.depth < rules.depth_max => {
                hold.depth += 1;
                hold.leased_at = call.invoke;
                self.inner_token(current, call);
                return;
            }
            Some(hold) => self.misuses.push(Misuse::Reacquired {
                owner: owner.clone(),
                first: hold.start,
                again: (call.invoke, call.ok),
                depth: hold.depth,
            }),
            None => {}
        }
        if let Some(mut hold) = current.replace(next) {
            hold.end = hold.end.min(call.invoke);
            self.holds.push(hold);
        }
    }

    fn inner_token(&mut self, current: &mut Option<Hold>, call: &Call) {
        let Some(hold) = current else { return };
        match (&hold.token, &call.token) {
            (Some(outer), Some(inner)) if outer != inner => self.misuses.push(Misuse::OtherToken {
                owner: hold.owner.clone(),
                first: hold.start,
                again: (call.invoke, call.ok),
                tokens: (outer.clone(), inner.clone()),
            }),
            (None, token) => hold.token.clone_from(token),
            _ => {}
        }
    }

    fn release(
        &mut self,
        owner: &Value,
        call: &Call,
        sure: bool,
        current: &mut Option<Hold>,
        unsure_acquires: &mut Vec<u32>,
    ) {
        match current {
            Some(hold) if hold.depth > 0 => {
                hold.depth -= 1;
                hold.unsure_releases += u64::from(!sure);
                if hold.depth == 0 {
                    hold.end = call.invoke;
                    // Else it may have been lost and acquired again.
                    hold.released = sure && unsure_acquires.is_empty();
                }
                return;
            }
            _ if !sure => return,
            _ => {}
        }
        // Of a lock that seems free: an unsure acquisition took place, or an unsure release did not.
        if let Some(acquire) = unsure_acquires.pop() {
            let (owner, invoke, ok) = (owner.clone(), call.invoke, call.ok);
            self.moments.push(Moment { owner, acquire, invoke, ok });
            return;
        }
        match current.as_mut().filter(|hold| hold.unsure_releases > 0) {
            Some(hold) => {
                hold.unsure_releases -= 1;
                hold.end = call.invoke;
                hold.released = true;
            }
            None => {
                let release = (call.invoke, call.ok);
                self.misuses.push(Misuse::NotHeld { owner: owner.clone(), release });
            }
        }
    }

    /// One owner of a lock that several can hold, or one several times.
    fn follow_permits(&mut self, owner: &Value, calls: &[Call]) {
        let mut open: std::collections::VecDeque<Hold> = Default::default();
        let mut unsure = 0u64;
        for call in calls {
            match (call.act, call.ok != NONE) {
                (Act::Acquire, true) => open.push_back(Hold::new(owner, call)),
                (Act::Acquire, false) => unsure += 1,
                (Act::Release, sure) => match open.pop_front() {
                    Some(mut hold) => {
                        hold.end = call.invoke;
                        hold.released = sure;
                        self.holds.push(hold);
                        unsure += u64::from(!sure);
                    }
                    None if !sure => {}
                    None if unsure > 0 => unsure -= 1,
                    None => self.misuses.push(Misuse::NotHeld {
                        owner: owner.clone(),
                        release: (call.invoke, call.ok),
                    }),
                },
                (Act::Renew, _) => {
                    open.iter_mut().for_each(|hold| hold.leased_at = call.invoke);
                }
                (Act::Crash, _) => {}
            }
        }
        self.holds.extend(open);
    }
}

impl Hold {
    fn new(owner: &Value, call: &Call) -> Hold {
        Hold {
            owner: owner.clone(),
            invoke: call.invoke,
            start: call.ok,
            end: NONE,
            token: call.token.clone(),
            leased_at: call.invoke,
            depth: 1,
            unsure_releases: 0,
            released: false,
            shaky: false,
            inner: false,
        }
    }

    /// Whether anything is certain of it.
    pub fn has_core(&self) -> bool {
        self.start < self.end
    }
}

/// Ends what a crash may have ended: the session of the process may be closed.
fn crashed(calls: &[Call], holds: &mut [Hold]) {
    let mut crashes: Vec<u32> =
        calls.iter().map(|call| call.info).filter(|info| *info != NONE).collect();
    crashes.sort_unstable();
    for hold in holds.iter_mut().filter(|hold| !hold.released) {
        if hold.shaky {
            hold.end = hold.start;
        }
        let first = crashes.partition_point(|at| *at < hold.start);
        if let Some(at) = crashes.get(first) {
            hold.end = hold.end.min(*at);
        }
    }
}

/// Ends what may have run out.
fn expire(history: &History, lease_ns: i64, holds: &mut [Hold]) -> Result<(), String> {
    let ops = history.ops();
    if ops.iter().any(|op| op.time_ns < 0) {
        return Err("a lease needs times, and this history has none".into());
    }
    if !ops.is_sorted_by_key(|op| op.time_ns) {
        return Err("a lease needs times that do not go back, and those of this history do".into());
    }
    for hold in holds {
        let until = ops[hold.leased_at as usize].time_ns.saturating_add(lease_ns);
        let end = ops.partition_point(|op| op.time_ns < until) as u32;
        hold.end = hold.end.min(end);
    }
    Ok(())
}

/// Calls by owner, each owner's in order.
fn calls(
    history: &History,
    by_client: bool,
    odd_token: &mut Option<String>,
) -> Result<BTreeMap<Value, Vec<Call>>, String> {
    let clients = if by_client { clients(history) } else { HashMap::new() };
    let mut by_owner: BTreeMap<Value, Vec<Call>> = BTreeMap::new();
    for (invoke, completion) in crate::budget::client_pairs(history) {
        let process = invoke.process.client().unwrap_or_default();
        let unnamed = || match by_client {
            true => Value::sym(&format!("process-{process}")),
            false => Value::Int(process),
        };
        let owner = clients.get(&process).cloned().unwrap_or_else(unnamed);
        let outcome = completion.map_or(OpType::Info, |done| done.op_type);
        let act = match invoke.f.as_str() {
            "acquire" | "lock" => Act::Acquire,
            "release" | "unlock" => Act::Release,
            "renew" | "keepalive" => Act::Renew,
            _ => Act::Crash,
        };
        let crashed = outcome == OpType::Info && completion.is_some();
        if outcome == OpType::Fail || act == Act::Crash && !crashed {
            continue;
        }
        // A renewal that is not known to have happened may have, and the holder may have crashed.
        let act = if act == Act::Renew && crashed { Act::Crash } else { act };
        let done = completion.map_or(NONE, |done| done.index as u32);
        let (ok, info) = if outcome == OpType::Ok { (done, NONE) } else { (NONE, done) };
        let done = completion.filter(|_| ok != NONE);
        let token = match done.map_or(Ok(None), |done| token(invoke, done)) {
            Ok(token) => token,
            Err(odd) => {
                odd_token.get_or_insert(odd);
                None
            }
        };
        by_owner.entry(owner).or_default().push(Call {
            act,
            invoke: invoke.index as u32,
            ok,
            info,
            token,
        });
    }
    for (owner, calls) in &by_owner {
        let sure: Vec<&Call> =
            calls.iter().filter(|call| call.ok != NONE && call.act != Act::Crash).collect();
        if let Some(two) = sure.windows(2).find(|two| two[1].invoke < two[0].ok) {
            return Err(format!(
                "owner {owner} does two things with the lock at the same time (records {} and {}), so \
                 it cannot be told what it holds",
                two[0].invoke, two[1].invoke
            ));
        }
    }
    Ok(by_owner)
}

/// The client that each process is, as its completions say.
fn clients(history: &History) -> HashMap<i64, Value> {
    let mut clients = HashMap::new();
    for op in history.client_ops() {
        if let (Some(process), Some(client)) = (op.process.client(), op.value.get("client")) {
            clients.entry(process).or_insert_with(|| client.clone());
        }
    }
    clients
}

/// Whether any value names a client.
pub(crate) fn names_clients(history: &History) -> bool {
    history.client_ops().any(|op| op.value.get("client").is_some_and(|client| !client.is_nil()))
}

/// The fencing token that an acquisition returned; 0 is none, as in Hazelcast. A value that is merely
/// the argument again is none, and so is text, except where a token is expected: its order is not known.
fn token(invoke: &Op, done: &Op) -> Result<Option<Exact>, String> {
    let value = match &done.value {
        value if *value == invoke.value && !matches!(value, Value::Map(_)) => return Ok(None),
        Value::Map(_) => ["fence", "token", "fencing-token", "revision"]
            .iter()
            .find_map(|name| done.value.get(name)),
        value => Some(value).filter(|value| value.is_number()),
    };
    let Some(value) = value.filter(|value| !value.is_nil()) else { return Ok(None) };
    match Exact::of(value) {
        Some(token) => Ok(Some(token).filter(|token| *token != Exact::default())),
        None => Err(format!(
            "record {}: the fencing token {value} is no number, so whether tokens increase is not known; \
             fencing=false leaves them out",
            done.index
        )),
    }
}
