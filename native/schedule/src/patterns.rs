//! One draw that becomes several faults, timed by a boundary: flapping, and two that overlap.
//!
//! Systems are wrong not only when a fault lasts as long as a time-out, but when it comes back just as the time-out has
//! made somebody act, and when a second one comes while the first is being dealt with. Both are data like every other
//! fault: what a schedule holds are their times.

use fuzz_dist_core::fault::{Fault, PartOf, Pattern};
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::spec::FaultSpec;

use crate::draw;
use crate::faults::Stage;
use crate::spans::{self, Span};
use crate::target::{self, Aim, TargetError};

/// How often a flapping fault comes.
const FLAPS: (i64, i64) = (2, 5);

/// The fault and those that follow from it, by start; alone if `left_ns` from its start have no room for more.
pub(crate) fn expand(
    spec: &FaultSpec,
    spans: &[&Span],
    lead: Fault,
    left_ns: u64,
    stage: &Stage<'_>,
    stream: &mut Stream,
) -> Result<Vec<Fault>, TargetError> {
    match spec.pattern {
        None => Ok(vec![lead]),
        Some(Pattern::Flap) => Ok(flap(spans, lead, left_ns, stream)),
        Some(Pattern::Overlap) => overlap(spec, spans, lead, left_ns, stage, stream),
    }
}

/// The ranges at the boundary of the fault: what its gaps are drawn from.
fn same_boundary<'a>(spans: &[&'a Span], lead: &Fault) -> Vec<&'a Span> {
    let name = |boundary: &Option<_>| {
        boundary.as_ref().map(|b: &fuzz_dist_core::fault::BoundaryRef| b.name.clone())
    };
    let wanted = name(&lead.boundary);
    spans.iter().copied().filter(|span| name(&span.boundary) == wanted).collect()
}

/// On and off as long as the boundary, on the same target.
fn flap(spans: &[&Span], lead: Fault, left_ns: u64, stream: &mut Stream) -> Vec<Fault> {
    let spans = same_boundary(spans, &lead);
    let count = draw::between(stream, FLAPS.0, FLAPS.1);
    let (first, begin_ns) = (lead.id, lead.start_ns);
    let mut faults = vec![lead];
    while (faults.len() as i64) < count {
        let before = &faults[faults.len() - 1];
        let end_ns = before.start_ns + before.duration_ns;
        let left_ns = left_ns.saturating_sub(end_ns - begin_ns);
        let fitting: Vec<&Span> =
            spans.iter().copied().filter(|span| span.shortest_ns <= left_ns / 2).collect();
        if fitting.is_empty() {
            break;
        }
        let mut drawn = |span: &Span| spans::duration(span, left_ns / 2, stream);
        let gap_ns = drawn(fitting[0]);
        let span = fitting[fitting.len() - 1];
        let duration_ns = drawn(span);
        faults.push(Fault {
            start_ns: end_ns + gap_ns,
            duration_ns,
            boundary: span.boundary.clone(),
            part_of: Some(PartOf { pattern: Pattern::Flap, first, gap_ns: Some(gap_ns) }),
            ..before.clone()
        });
    }
    mark(faults, Pattern::Flap)
}

/// The first fault lasts until the boundary after its start, where a second one starts, and as long again.
fn overlap(
    spec: &FaultSpec,
    spans: &[&Span],
    lead: Fault,
    left_ns: u64,
    stage: &Stage<'_>,
    stream: &mut Stream,
) -> Result<Vec<Fault>, TargetError> {
    let spans = same_boundary(spans, &lead);
    let room_ns = left_ns.saturating_sub(lead.duration_ns);
    let fitting: Vec<&Span> =
        spans.iter().copied().filter(|span| span.shortest_ns <= room_ns).collect();
    if fitting.is_empty() {
        return Ok(vec![lead]);
    }
    let gap_ns = spans::duration(fitting[draw::index(stream, fitting.len())], room_ns, stream);
    let (first, start_ns) = (lead.id, lead.start_ns + gap_ns);
    let target = spec.targets[draw::index(stream, spec.targets.len())].clone();
    let aim = Aim::of_spec(spec, &target);
    let resolved = match aim.is_late() {
        true => None,
        false => Some(target::resolve(&aim, stage.field, None, stream)?),
    };
    let second = Fault {
        target,
        resolved,
        start_ns,
        part_of: Some(PartOf { pattern: Pattern::Overlap, first, gap_ns: Some(gap_ns) }),
        ..lead.clone()
    };
    let mut lead = lead;
    // Half of what the second lasts, so that one of them ends while the other goes on.
    lead.duration_ns = gap_ns + (second.duration_ns / 2).max(1);
    if let Some(boundary) = &mut lead.boundary {
        let zone = stage.boundaries.zone(&boundary.name, lead.duration_ns as f64 / 1e6);
        boundary.zone = zone.unwrap_or(boundary.zone);
    }
    Ok(mark(vec![lead, second], Pattern::Overlap))
}

/// The first says what it is the first of, if it is not alone.
fn mark(mut faults: Vec<Fault>, pattern: Pattern) -> Vec<Fault> {
    if let [lead, _, ..] = faults.as_mut_slice() {
        lead.part_of = Some(PartOf { pattern, first: lead.id, gap_ns: None });
    }
    faults
}

/// The first is told by its place, and followers by their lead's, when ids are given.
pub(crate) fn number(faults: &mut [Fault], id_of: impl Fn(u32) -> u32) {
    for fault in faults {
        if let Some(part) = &mut fault.part_of {
            part.first = id_of(part.first);
        }
    }
}
