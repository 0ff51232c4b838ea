//! The disk plane: what a running node is told when it writes, and what it finds when it is started again.
//!
//! Faults of a running node act in the [preloaded library](super::shim), whose counts show the effect: how often an
//! operation of the node was answered with something else than the truth. When such a fault is healed the library goes on
//! to count what it lets pass, and a node that writes nothing by itself is asked to write a file of ours.
//!
//! The other faults kill a node and change its files ([`stopped`]): what was changed is the effect.
//!
//! Limits: only files below the node's data folder. `disk-lose-unsynced` needs a journal from the start of the node on;
//! it is kept if the spec has such a fault, or leaves faults to a schedule.

mod stopped;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fuzz_dist_core::fault::{Availability, DiskFault, FaultKind, Plane, patterns};
use fuzz_dist_core::spec::Spec;
use fuzz_dist_core::{Value, clock};
use fuzz_dist_shim_page::disk::Counts;
use fuzz_dist_shim_page::{DiskMode, JOURNAL_FILE, PROBE_FILE, SAVED_FOLDER, journal};

use self::stopped::Snapshots;
use super::shim::{self, Pages};
use super::{Applied, AppliedFault, FaultPlane, NodeStart, Order, Registration, Seen, Tools};
use crate::agents::{Link, Role};
use crate::recorder::map;
use crate::request::RunError;

/// How long a node may take to write a file of ours.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the library counts what passes after a heal.
const COUNTED_NS: u64 = 30_000_000_000;

/// The plane.
pub const REGISTRATION: Registration = Registration {
    plane: Plane::Disk,
    always: false,
    availability,
    prepare: Some(prepare),
    open: |tools| Ok(Arc::new(DiskPlane::open(tools)?)),
};

fn availability(kind: &FaultKind, _spec: Option<&Spec>) -> Availability {
    let FaultKind::Disk(kind) = kind else { return Availability::not_built() };
    // Files of a stopped node need no library.
    let needs_library =
        shim_mode(kind).is_some() || matches!(kind, DiskFault::DiskLoseUnsynced { .. });
    match shim::find() {
        Err(reason) if needs_library => Availability::Unavailable(reason),
        _ => Availability::Real,
    }
}

/// Preloads the library, and begins a new journal if one may be needed: what is on the disk now is durable.
fn prepare(start: &mut NodeStart<'_>) -> Result<(), RunError> {
    let Some(page) = shim::prepare(start)? else { return Ok(()) };
    let folder = shim::folder_of(start.folder);
    let failed = |e: std::io::Error| RunError::Internal(format!("{}: {e}", folder.display()));
    let gone = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    };
    gone(std::fs::remove_file(folder.join(JOURNAL_FILE)))?;
    gone(std::fs::remove_dir_all(folder.join(SAVED_FOLDER)))?;
    let loses =
        |kind: &FaultKind| matches!(kind, FaultKind::Disk(DiskFault::DiskLoseUnsynced { .. }));
    let wanted = start.may_have(loses);
    if wanted {
        std::fs::create_dir(folder.join(SAVED_FOLDER)).map_err(failed)?;
    }
    page.journal_bytes.store(0, Ordering::Relaxed);
    page.journal.store(if wanted { journal::ON } else { journal::OFF }, Ordering::Release);
    Ok(())
}

struct DiskPlane {
    tools: Tools,
    pages: Arc<Pages>,
    snapshots: Arc<Snapshots>,
}

impl DiskPlane {
    fn open(tools: &Tools) -> Result<DiskPlane, RunError> {
        let is_restore =
            |kind: &FaultKind| matches!(kind, FaultKind::Disk(DiskFault::FileRestore { .. }));
        let restores = tools.schedule.faults.iter().any(|fault| is_restore(&fault.kind));
        let snapshots = if restores { Snapshots::take(tools)? } else { Snapshots::default() };
        Ok(DiskPlane {
            tools: tools.clone(),
            pages: Arc::new(Pages::open(tools)?),
            snapshots: Arc::new(snapshots),
        })
    }

    fn apply_to_running(
        &self,
        order: &Order,
        mode: DiskMode,
        files: &[String],
    ) -> Result<Applied, String> {
        let nodes = &order.resolved.nodes;
        let each = nodes.iter().map(|node| self.pages.obeyed(&self.tools, node));
        let each: Vec<_> = each.collect::<Result<_, _>>()?;
        let id = u64::from(order.fault.id);
        let deadline_ns = shim::deadline_ns(order.fault.duration_ns);
        let begun = each.iter().try_for_each(|page| page.begin_disk(id, mode, files, deadline_ns));
        if let Err(reason) = begun {
            each.iter().for_each(|page| page.forget_disk(Some(id)));
            return Err(reason.into());
        }
        let fault = AppliedToDisks {
            tools: self.tools.clone(),
            pages: Arc::clone(&self.pages),
            order: order.clone(),
            applied_ns: clock::monotonic_ns(),
            mode,
            files: files.to_vec(),
            probing: nodes.iter().map(|_| Arc::default()).collect(),
        };
        let monotonic_ns = fault.applied_ns;
        Ok(Applied { monotonic_ns, decided: Vec::new(), fault: Arc::new(fault) })
    }
}

fn shim_mode(kind: &DiskFault) -> Option<(DiskMode, &[String])> {
    match kind {
        DiskFault::DiskEio { files } => Some((DiskMode::Eio, files)),
        DiskFault::DiskEnospc { files } => Some((DiskMode::Enospc, files)),
        DiskFault::DiskShortWrite { files } => Some((DiskMode::ShortWrite, files)),
        DiskFault::DiskLyingFsync { files } => Some((DiskMode::LyingFsync, files)),
        DiskFault::DiskLoseUnsynced { .. }
        | DiskFault::FileFlip { .. }
        | DiskFault::FileTruncate { .. }
        | DiskFault::FileRestore { .. } => None,
    }
}

impl FaultPlane for DiskPlane {
    fn apply(&self, order: &Order) -> Result<Applied, String> {
        let FaultKind::Disk(kind) = &order.fault.kind else {
            return Err(format!("{} is no fault of disks", order.fault.kind.name()));
        };
        match shim_mode(kind) {
            Some((mode, files)) => self.apply_to_running(order, mode, &patterns(files)),
            None => stopped::apply(&self.tools, &self.pages, &self.snapshots, order, kind),
        }
    }

    fn heal_all(&self) -> Result<Vec<String>, String> {
        self.pages.all().for_each(|page| page.forget_disk(None));
        Ok(Vec::new())
    }
}

struct AppliedToDisks {
    tools: Tools,
    pages: Arc<Pages>,
    order: Order,
    applied_ns: u64,
    mode: DiskMode,
    files: Vec<String>,
    /// Whether a node is writing a file of ours.
    probing: Vec<Arc<AtomicBool>>,
}

impl AppliedToDisks {
    fn id(&self) -> u64 {
        u64::from(self.order.fault.id)
    }

    fn counts(&self, node: &str) -> Option<Counts> {
        self.pages.get(node).ok()?.disk_counts(self.id())
    }

    fn effect_word(&self) -> &'static str {
        match self.mode {
            DiskMode::Eio => "failed with EIO",
            DiskMode::Enospc => "failed with ENOSPC",
            DiskMode::ShortWrite => "wrote less than they were given",
            DiskMode::LyingFsync | DiskMode::Over => "synced nothing",
        }
    }

    /// Has a node write a file that every fault is about, and remove it.
    fn probe(&self, node: &str, busy: &Arc<AtomicBool>) {
        let Some(link) = self.tools.agents.get(Role::Node, node) else { return };
        if busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let path = self.tools.run_dir.join("nodes").join(node).join("data").join(PROBE_FILE);
        let path = path.canonicalize().unwrap_or(path).display().to_string();
        let busy = Arc::clone(busy);
        std::thread::spawn(move || {
            // The library counts it, whatever the answer is.
            let _ = call(&link, "write_file", vec![Value::str(path.as_str()), Value::str("x")]);
            let _ = call(&link, "delete", vec![Value::str(path)]);
            busy.store(false, Ordering::Release);
        });
    }
}

fn call(link: &Link, function: &str, arguments: Vec<Value>) -> Option<Value> {
    let timeout_ms = Value::Int(PROBE_TIMEOUT.as_millis() as i64);
    let asked = [Value::sym("prim_file"), Value::sym(function), Value::list(arguments), timeout_ms];
    link.ask("call", asked, PROBE_TIMEOUT * 2).ok()
}

impl AppliedFault for AppliedToDisks {
    fn observe(&self, now_ns: u64) -> Option<Seen> {
        let nodes = &self.order.resolved.nodes;
        let applied_ns = self.tools.recorder.clock().at_ns(self.applied_ns);
        let late = super::is_late(applied_ns, now_ns, self.order.fault.duration_ns);
        let counted = nodes.iter().map(|node| (node, self.counts(node).unwrap_or_default().faked));
        let seen: Vec<_> = counted.filter(|(_, faked)| *faked > 0).collect();
        // A node may have nothing to write for a while; then the others show it.
        if seen.is_empty() || (seen.len() < nodes.len() && !late) {
            return None;
        }
        let of = |(node, faked): &(&String, u64)| format!("{faked} on {node}");
        let told = seen.iter().map(of).collect::<Vec<_>>().join(", ");
        let faked = seen.iter().map(|(node, faked)| {
            (Value::str(node.as_str()), Value::Int(i64::try_from(*faked).unwrap_or(i64::MAX)))
        });
        let evidence = map([("operations", Value::map(faked.collect::<Vec<_>>()))]);
        Some(Seen { text: format!("operations that {}: {told}", self.effect_word()), evidence })
    }

    fn why_not(&self) -> String {
        format!(
            "{} did nothing that it is about to a file that is {} below the data folder",
            self.order.resolved.nodes.join(", "),
            self.files.join(" or ")
        )
    }

    fn heal(&self, _at_ns: Option<u64>) -> Result<u64, String> {
        let now_ns = clock::monotonic_ns();
        for node in &self.order.resolved.nodes {
            self.pages.get(node)?.end_disk(self.id(), now_ns + COUNTED_NS);
        }
        Ok(now_ns)
    }

    fn observe_heal(&self) -> Option<Seen> {
        let nodes = &self.order.resolved.nodes;
        let mut passed = Vec::new();
        for (node, busy) in nodes.iter().zip(&self.probing) {
            match self.counts(node)?.passed {
                0 => self.probe(node, busy),
                count => passed.push(format!("{count} on {node}")),
            }
        }
        if passed.len() < nodes.len() {
            return None;
        }
        for node in nodes {
            self.pages.get(node).ok()?.forget_disk(Some(self.id()));
        }
        Some(Seen::new(format!("operations that were let pass again: {}", passed.join(", "))))
    }
}
