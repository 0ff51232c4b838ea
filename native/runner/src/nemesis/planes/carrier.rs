//! The carrier plane: frames between nodes, in the port driver that carries their distribution (`-proto_dist fuzz`).
//!
//! In a run with faults of it every node, or those of `cluster.carrier`, is started with the driver, which listens at
//! an abstract Unix socket that goes with the VM. A directed link is ruled where it begins, as what that node sends;
//! if only the other end has the driver, as what that receives. A link between two stock nodes cannot be. The
//! driver's counts show the effect, and what nodes noticed is added as evidence. Faults are handed over a little
//! ahead with their exact time, and act also while every scheduler of the node stands still.
//!
//! Limits: a paused process hears nothing, and neither does one that is down. One that was started again is told
//! within a few hundredths of a second what is in force.

mod driver;
mod library;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fuzz_dist_core::Value;
use fuzz_dist_core::clock;
use fuzz_dist_core::fault::{Availability, CarrierFault, FaultKind, Link, Plane};
use fuzz_dist_core::random;
use fuzz_dist_core::spec::{Naming, Spec};
use fuzz_dist_core::sync::lock;
use fuzz_dist_schedule::draw;
use serde_json::{Value as Json, json};

use self::driver::{Counts, Direction, Driver, Rule};
use self::library::{LIBRARY_VARIABLE, MODULE_FILE};
use super::{
    AHEAD, Applied, AppliedFault, FaultPlane, NodeStart, Order, Registration, Seen, Tools,
};
use crate::cluster::{Cluster, quote};
use crate::directory::NodeDirectory;
use crate::recorder::{map, strings};
use crate::request::RunError;

/// How often drivers are looked for that were lost.
const TEND_EVERY: Duration = Duration::from_millis(20);

/// Names the socket of the driver in a node.
const SOCKET_VARIABLE: &str = "FUZZ_DIST_CARRIER_SOCKET";

/// Set for nodes whose frames each carry one whole message.
const PLAIN_VARIABLE: &str = "FUZZ_DIST_CARRIER_PLAIN";

/// The plane.
pub const REGISTRATION: Registration = Registration {
    plane: Plane::Carrier,
    always: false,
    availability,
    prepare: Some(prepare),
    open: |tools| Ok(Arc::new(CarrierPlane::new(tools)?)),
};

fn availability(kind: &FaultKind, spec: Option<&Spec>) -> Availability {
    if !matches!(kind, FaultKind::Carrier(_)) {
        return Availability::not_built();
    }
    if let Err(reason) = library::find() {
        return Availability::Unavailable(reason);
    }
    let Some(spec) = spec else { return Availability::Real };
    if let Some(reason) = library::conflict(spec) {
        return Availability::Unavailable(reason);
    }
    Availability::Real
}

/// A fault that loses frames: its nodes use no atom cache and no fragments, or a lost frame would end the connection.
fn is_drop(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::Carrier(CarrierFault::Drop { .. }))
}

fn has_carrier(spec: &Spec, node: &str) -> bool {
    spec.cluster.carrier.as_ref().is_none_or(|nodes| nodes.iter().any(|one| one == node))
}

/// Gives a node the driver instead of its own distribution.
fn prepare(start: &mut NodeStart<'_>) -> Result<(), RunError> {
    if !has_carrier(start.spec, start.node) {
        return Ok(());
    }
    let found = match (library::conflict(start.spec), library::find()) {
        (None, Ok(found)) => found,
        // Faults that cannot be had are refused when the schedule is known, or left out if that is allowed.
        _ => return Ok(()),
    };
    // A folder of its own: nothing else of ours gets into the code path of a stock node.
    // The node runs elsewhere, so that a relative path would not be found.
    let folder = absolute(start.folder).join("carrier");
    let copied = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::copy(&found.module, folder.join(MODULE_FILE)));
    copied.map_err(|e| RunError::Internal(format!("{}: {e}", folder.display())))?;
    let plain = start.may_have(is_drop);
    let env = &mut start.request.env;
    let flags = env.entry("ERL_ZFLAGS".into()).or_default();
    flags.push_str(&format!(" -proto_dist fuzz -pa {}", quote(&folder.display().to_string())));
    env.insert(LIBRARY_VARIABLE.into(), found.library.display().to_string());
    env.insert(SOCKET_VARIABLE.into(), format!("@{}", socket_name(start.folder)));
    if plain {
        env.insert(PLAIN_VARIABLE.into(), "1".into());
    }
    if start.spec.cluster.naming == Naming::Release {
        // In the embedded mode of releases the kernel cannot load a module that is in no application.
        env.entry("RELEASE_MODE".into()).or_insert_with(|| "interactive".into());
    }
    Ok(())
}

/// The abstract name at which the driver of the node with this folder listens. The folder may be too long for it.
fn socket_name(folder: &Path) -> String {
    // A name that nobody can guess, and take, before the node does.
    static KEY: LazyLock<u64> = LazyLock::new(random::number);
    let mut hasher = DefaultHasher::new();
    KEY.hash(&mut hasher);
    absolute(folder).hash(&mut hasher);
    let node = folder.file_name().unwrap_or_default().display().to_string();
    format!("fuzz_dist-carrier-{:016x}-{node}", hasher.finish())
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Nodes with the driver, by short name.
type Drivers = BTreeMap<String, Arc<Driver>>;

struct CarrierPlane {
    tools: Tools,
    drivers: Arc<Drivers>,
    names: NodeDirectory,
    next_rule: AtomicU64,
    tending: Arc<AtomicBool>,
    tender: Option<JoinHandle<()>>,
}

impl CarrierPlane {
    fn new(tools: &Tools) -> Result<CarrierPlane, RunError> {
        let names = tools.cluster.directory().clone();
        let with_driver = names.shorts().into_iter().filter(|node| has_carrier(&tools.spec, node));
        let driver = |node: String| {
            let folder = tools.run_dir.join("nodes").join(&node);
            (node, Arc::new(Driver::new(socket_name(&folder))))
        };
        let drivers: Arc<Drivers> = Arc::new(with_driver.map(driver).collect());
        for (node, driver) in drivers.iter() {
            driver
                .counts()
                .map_err(|reason| RunError::Input(format!("the carrier of {node}: {reason}")))?;
        }
        let tending = Arc::new(AtomicBool::new(true));
        let tender = {
            let (drivers, tending) = (Arc::clone(&drivers), Arc::clone(&tending));
            let cluster = Arc::clone(&tools.cluster);
            let tend = move || tend(&drivers, &cluster, &tending);
            std::thread::Builder::new().name("carrier".into()).spawn(tend)
        };
        let tender = tender.map_err(|e| RunError::Internal(e.to_string()))?;
        Ok(CarrierPlane {
            tools: tools.clone(),
            drivers,
            names,
            next_rule: AtomicU64::new(1),
            tending,
            tender: Some(tender),
        })
    }

    /// Where a link is ruled: at its beginning, or else at its end if the fault can be had there.
    fn place(&self, link: &Link, kind: &CarrierFault) -> Result<Place, String> {
        let place = |node: &str, peer: &str, direction| {
            let driver = Arc::clone(self.drivers.get(node)?);
            let peer = self.names.full(peer)?;
            Some(Place { link: link.clone(), node: node.to_owned(), peer, direction, driver })
        };
        if let Some(place) = place(&link.from, &link.to, Direction::Out) {
            return Ok(place);
        }
        let Some(place) = place(&link.to, &link.from, Direction::In) else {
            return Err(format!(
                "the link from {} to {}: neither node has the carrier (cluster.carrier has {}), and of two \
                 nodes one must have it: add one of them, or aim at others",
                link.from,
                link.to,
                self.drivers.keys().cloned().collect::<Vec<_>>().join(", ")
            ));
        };
        match kind {
            CarrierFault::BusyPort | CarrierFault::ForgedTicks { .. } => Err(format!(
                "the link from {} to {}: this happens where it begins, and {} does not have the carrier: \
                 add it to cluster.carrier, or aim at others",
                link.from, link.to, link.from
            )),
            _ => Ok(place),
        }
    }

    /// Rules for all places, by node.
    fn rules(
        &self,
        places: &[Place],
        order: &Order,
        kind: &CarrierFault,
    ) -> BTreeMap<String, Vec<Rule>> {
        let mut stream = self.tools.seed.stream("carrier", u64::from(order.fault.id));
        let mut rules: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
        let instant = matches!(kind, CarrierFault::Close);
        for place in places {
            rules.entry(place.node.clone()).or_default().push(Rule {
                id: self.next_rule.fetch_add(1, Ordering::Relaxed),
                peer: place.peer.clone(),
                direction: place.direction,
                fault: request(kind, draw::below(&mut stream, 1 << 53)),
                instant,
            });
        }
        rules
    }
}

impl Drop for CarrierPlane {
    fn drop(&mut self) {
        self.tending.store(false, Ordering::Release);
        if let Some(tender) = self.tender.take() {
            drop(tender.join());
        }
    }
}

/// Meets drivers again that were lost, until the plane goes.
fn tend(drivers: &Drivers, cluster: &Cluster, tending: &AtomicBool) {
    while tending.load(Ordering::Acquire) {
        for (node, driver) in drivers {
            // One that stands still does not answer, and would be asked in vain.
            if !cluster.is_paused(node) {
                driver.tend();
            }
        }
        std::thread::sleep(TEND_EVERY);
    }
}

/// A directed link, and where it is ruled.
#[derive(Debug, Clone)]
struct Place {
    link: Link,
    node: String,
    /// The full name of the other end.
    peer: String,
    direction: Direction,
    driver: Arc<Driver>,
}

impl Place {
    fn of(&self, counts: &AllCounts) -> Option<Counts> {
        let all = counts.get(&self.node)?;
        let mut fitting = all.iter();
        let found =
            fitting.find(|one| one.peer == self.peer && one.direction == Some(self.direction));
        Some(found.cloned().unwrap_or_default())
    }
}

/// What the drivers that answer have counted, by node.
type AllCounts = BTreeMap<String, Vec<Counts>>;

fn count(places: &[Place], cluster: &Cluster) -> AllCounts {
    let drivers: BTreeMap<&String, &Arc<Driver>> =
        places.iter().map(|place| (&place.node, &place.driver)).collect();
    let awake = drivers.into_iter().filter(|(node, _)| !cluster.is_paused(node));
    awake.filter_map(|(node, driver)| Some((node.clone(), driver.counts().ok()?))).collect()
}

/// As the protocol of the driver has it.
fn request(kind: &CarrierFault, seed: u64) -> Json {
    match kind {
        CarrierFault::Hold => json!({ "kind": "hold" }),
        CarrierFault::Delay { latency_ms, jitter_ms } => {
            json!({ "kind": "delay", "latency_ms": latency_ms, "jitter_ms": jitter_ms, "seed": seed })
        }
        CarrierFault::Throttle { bytes_per_s } => {
            json!({ "kind": "throttle", "bytes_per_s": bytes_per_s })
        }
        CarrierFault::Drop { probability } => {
            let per_mille = ((probability * 1000.0).round() as u32).clamp(1, 1000);
            json!({ "kind": "drop", "per_mille": per_mille, "seed": seed })
        }
        CarrierFault::TicksOnly => json!({ "kind": "ticks-only" }),
        CarrierFault::NoTicks => json!({ "kind": "no-ticks" }),
        CarrierFault::ForgedTicks { every_ms } => {
            json!({ "kind": "forged-ticks", "every_ms": every_ms })
        }
        CarrierFault::RefuseConnect => json!({ "kind": "refuse-connect" }),
        CarrierFault::Close => json!({ "kind": "close" }),
        CarrierFault::BusyPort => json!({ "kind": "busy" }),
    }
}

impl FaultPlane for CarrierPlane {
    fn keeps_time(&self) -> bool {
        true
    }

    fn apply(&self, order: &Order) -> Result<Applied, String> {
        let FaultKind::Carrier(kind) = &order.fault.kind else {
            return Err(format!("{} is no fault of the carrier", order.fault.kind.name()));
        };
        let links = &order.resolved.links;
        let places: Vec<Place> =
            links.iter().map(|link| self.place(link, kind)).collect::<Result<_, String>>()?;
        let rules = self.rules(&places, order, kind);
        let paused = rules.keys().find(|node| self.tools.cluster.is_paused(node));
        if let Some(node) = paused {
            return Err(format!("{node} is paused, and its driver with it"));
        }
        let before = count(&places, &self.tools.cluster);
        let at_ns = self.tools.recorder.clock().start_monotonic_ns + order.at_ns;
        let ids: Vec<(Arc<Driver>, String, Vec<u64>)> = rules
            .iter()
            .filter_map(|(node, rules)| {
                let ids = rules.iter().map(|rule| rule.id).collect();
                Some((Arc::clone(self.drivers.get(node)?), node.clone(), ids))
            })
            .collect();
        // At the same time, since each driver answers only when its time has come.
        let done: Vec<Result<u64, String>> = std::thread::scope(|scope| {
            let asked: Vec<_> = ids
                .iter()
                .map(|(driver, node, _)| {
                    let rules = &rules[node];
                    scope.spawn(move || {
                        let applied = driver.apply(rules, Some(at_ns));
                        applied.map_err(|reason| format!("{node}: {reason}"))
                    })
                })
                .collect();
            let died = |_| Err("a thread of the carrier plane panicked".into());
            asked.into_iter().map(|thread| thread.join().unwrap_or_else(died)).collect()
        });
        let fault = AppliedToFrames {
            tools: self.tools.clone(),
            kind: kind.clone(),
            order: order.clone(),
            places,
            ids,
            before,
            at_heal: Mutex::default(),
        };
        match done.into_iter().collect::<Result<Vec<u64>, String>>() {
            Ok(applied) => Ok(Applied {
                monotonic_ns: applied.into_iter().max().unwrap_or_else(clock::monotonic_ns),
                decided: Vec::new(),
                fault: Arc::new(fault),
            }),
            Err(reason) => {
                fault.take_back();
                Err(reason)
            }
        }
    }

    /// Every fault is healed by itself, and what a driver that is lost was asked for it forgets.
    fn heal_all(&self) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

struct AppliedToFrames {
    tools: Tools,
    kind: CarrierFault,
    order: Order,
    places: Vec<Place>,
    /// Rules, by driver and node.
    ids: Vec<(Arc<Driver>, String, Vec<u64>)>,
    /// Before it was applied.
    before: AllCounts,
    /// Just before it was healed.
    at_heal: Mutex<Option<AllCounts>>,
}

impl AppliedFault for AppliedToFrames {
    fn observe(&self, now_ns: u64) -> Option<Seen> {
        let shown = self.effects();
        let (first, _) = shown.iter().find(|(_, effect)| effect.is_some())?;
        let seen = shown.iter().filter(|(_, effect)| effect.is_some()).count();
        // Most links show it within a tick; wait so long for the others, then say how many.
        let began_ns = self.order.at_ns;
        let late = super::is_late(began_ns, now_ns, self.order.fault.duration_ns);
        if seen < shown.len() && !late {
            return None;
        }
        let total: u64 = shown.iter().filter_map(|(_, effect)| *effect).sum();
        let downs = self.tools.observations.downs(began_ns, &self.order.resolved.links);
        let mut text = format!(
            "{} {seen} of {} links ({} to {} …: {total} {})",
            self.effect_word(),
            shown.len(),
            first.link.from,
            first.link.to,
            self.unit()
        );
        if !downs.is_empty() {
            text.push_str(&format!("; {}", downs.join(", ")));
        }
        let evidence = map([
            ("links-seen", Value::Int(seen as i64)),
            ("links", Value::Int(shown.len() as i64)),
            ("count", Value::Int(total as i64)),
            ("nodedown", strings(&downs)),
        ]);
        Some(Seen { text, evidence })
    }

    fn why_not(&self) -> String {
        let ends: BTreeSet<String> =
            self.places.iter().map(|p| format!("{} to {}", p.link.from, p.link.to)).collect();
        let some: Vec<String> = ends.into_iter().take(2).collect();
        format!("the driver counted no {} ({})", self.unit(), some.join(", "))
    }

    fn heal(&self, at_ns: Option<u64>) -> Result<u64, String> {
        *lock(&self.at_heal) = Some(count(&self.places, &self.tools.cluster));
        if let Some(at_ns) = at_ns {
            let due_ns = self.tools.recorder.clock().start_monotonic_ns + at_ns;
            std::thread::sleep(Duration::from_nanos(
                due_ns.saturating_sub(clock::monotonic_ns()).min(2 * AHEAD.as_nanos() as u64),
            ));
        }
        Ok(self.take_back())
    }

    /// Bytes pass again on every link.
    fn observe_heal(&self) -> Option<Seen> {
        let now = count(&self.places, &self.tools.cluster);
        let before = lock(&self.at_heal).clone().unwrap_or_default();
        let mut passing = 0;
        for place in &self.places {
            let since = place.of(&now)?.since(&place.of(&before).unwrap_or_default());
            // Another fault of the same link hides the heal of this one.
            let silenced = place.driver.is_ruled(&place.peer, place.direction);
            if since.bytes > 0 {
                passing += 1;
            } else if !silenced {
                return None;
            }
        }
        Some(Seen::new(format!("bytes pass {passing} of {} links again", self.places.len())))
    }
}

impl AppliedToFrames {
    /// Takes every rule back; when that was.
    fn take_back(&self) -> u64 {
        let mut last_ns = 0;
        for (driver, node, ids) in &self.ids {
            last_ns = last_ns.max(driver.heal(ids, self.tools.cluster.is_paused(node)));
        }
        last_ns
    }

    /// How much of its effect each link has shown, until the heal.
    fn effects(&self) -> Vec<(&Place, Option<u64>)> {
        let at_heal = lock(&self.at_heal).clone();
        let now = at_heal.unwrap_or_else(|| count(&self.places, &self.tools.cluster));
        let effect = |place: &Place| {
            let before = place.of(&self.before).unwrap_or_default();
            let shown = self.effect(&place.of(&now)?.since(&before));
            (shown > 0).then_some(shown)
        };
        self.places.iter().map(|place| (place, effect(place))).collect()
    }

    /// What the fault was seen to do.
    fn effect(&self, counts: &Counts) -> u64 {
        match self.kind {
            CarrierFault::Hold | CarrierFault::TicksOnly => {
                counts.held_frames + counts.connects_held + u64::from(counts.waiting_bytes > 0)
            }
            CarrierFault::Delay { .. } => counts.delayed_frames,
            CarrierFault::Throttle { .. } => counts.throttled,
            CarrierFault::Drop { .. } => counts.dropped_frames,
            CarrierFault::NoTicks => counts.ticks_suppressed,
            CarrierFault::ForgedTicks { .. } => counts.ticks_forged,
            CarrierFault::RefuseConnect => counts.connects_refused,
            CarrierFault::Close => counts.closed,
            CarrierFault::BusyPort => counts.busy,
        }
    }

    /// What [`AppliedToFrames::effect`] counts.
    fn unit(&self) -> &'static str {
        match self.kind {
            CarrierFault::Hold | CarrierFault::TicksOnly => "frames and connects that wait",
            CarrierFault::Delay { .. } => "late frames",
            CarrierFault::Throttle { .. } => "waits for the rate",
            CarrierFault::Drop { .. } => "lost frames",
            CarrierFault::NoTicks => "suppressed ticks",
            CarrierFault::ForgedTicks { .. } => "forged ticks",
            CarrierFault::RefuseConnect => "refused connects",
            CarrierFault::Close => "closed connections",
            CarrierFault::BusyPort => "times that senders had to wait",
        }
    }

    /// What the fault does to a link, before a number of links.
    fn effect_word(&self) -> &'static str {
        match self.kind {
            CarrierFault::Hold => "silenced",
            CarrierFault::Delay { .. } => "delayed",
            CarrierFault::Throttle { .. } => "slowed",
            CarrierFault::Drop { .. } => "lost frames of",
            CarrierFault::TicksOnly => "let only ticks through",
            CarrierFault::NoTicks => "dropped the ticks of",
            CarrierFault::ForgedTicks { .. } => "forged ticks on",
            CarrierFault::RefuseConnect => "refused connections on",
            CarrierFault::Close => "closed",
            CarrierFault::BusyPort => "kept the senders waiting of",
        }
    }
}
