//! How long a fault of the spec may last: which zones of which boundary, or which fixed range.

use fuzz_dist_core::fault::{BoundaryRef, Lasts, Zone};
use fuzz_dist_core::seed::Stream;
use fuzz_dist_core::spec::{FaultSpec, MINED, MINED_PREFIX};

use crate::boundaries::{Boundaries, BoundaryError};
use crate::draw;

const NS_PER_MS: f64 = 1e6;
/// A fault that is an instant (a close, a reset) is reported as lasting so long.
const INSTANT_MS: f64 = 100.0;
/// How long killed or stopped nodes stay away when nothing else is said.
const AWAY_MS: (f64, f64) = (500.0, 5_000.0);

/// A range of durations that a fault of the spec may get.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// The boundary that it lies at.
    pub boundary: Option<BoundaryRef>,
    /// At least.
    pub shortest_ns: u64,
    /// At most.
    pub longest_ns: u64,
    /// In words.
    pub what: String,
}

impl Span {
    /// Whether it lies at a boundary that was mined, which may be too long for a run.
    pub fn is_mined(&self) -> bool {
        self.boundary.as_ref().is_some_and(|boundary| boundary.name.starts_with(MINED_PREFIX))
    }
}

/// Why a fault has no range of durations.
#[derive(Debug)]
pub(crate) enum SpanError {
    Boundary(BoundaryError),
    ZonesOfNothing,
}

/// Every range that a fault of the spec may draw its duration from: those of its own boundary, or away, and as many
/// around boundaries that were mined, if any were.
pub(crate) fn spans_of(spec: &FaultSpec, boundaries: &Boundaries) -> Result<Vec<Span>, SpanError> {
    let only_mined = spec.boundary.as_deref() == Some(MINED);
    let around_mined = spec.duration_ms.is_none()
        && (only_mined || spec.boundary.is_none())
        && !matches!(spec.kind.info().lasts, Lasts::Instant);
    if !around_mined {
        return own_spans(spec, boundaries);
    }
    let mut mined = Vec::new();
    for name in boundaries.mined() {
        for zone in zones_of(spec) {
            // One without a zone below it has the others.
            if let Ok(range) = boundaries.range_ms(name, *zone) {
                mined.push(around(name, *zone, range));
            }
        }
    }
    if only_mined && !mined.is_empty() {
        return Ok(mined);
    }
    let own = own_spans(spec, boundaries)?;
    // Half of the cards are its own, however many were mined.
    let copies = mined.len().div_ceil(own.len().max(1)).max(1);
    Ok(std::iter::repeat_n(own, copies).flatten().chain(mined).collect())
}

fn zones_of(spec: &FaultSpec) -> &[Zone] {
    const ALL: &[Zone] = &[Zone::CertainlyBelow, Zone::Inside, Zone::CertainlyAbove];
    if spec.zones.is_empty() { ALL } else { &spec.zones }
}

fn span(boundary: Option<BoundaryRef>, (shortest, longest): (f64, f64), what: String) -> Span {
    let shortest_ns = ((shortest * NS_PER_MS).ceil() as u64).max(1);
    let longest_ns = (longest * NS_PER_MS).floor() as u64;
    Span { boundary, shortest_ns, longest_ns: longest_ns.max(shortest_ns), what }
}

fn around(name: &str, zone: Zone, range: (f64, f64)) -> Span {
    let what = format!("a fault {} of {name}", zone.as_str());
    span(Some(BoundaryRef { name: name.to_owned(), zone }), range, what)
}

fn own_spans(spec: &FaultSpec, boundaries: &Boundaries) -> Result<Vec<Span>, SpanError> {
    if let Some(fixed_ms) = spec.duration_ms {
        let fixed = fixed_ms as f64;
        return Ok(vec![span(None, (fixed, fixed), format!("`duration_ms` {fixed_ms}"))]);
    }
    let lasts = match &spec.boundary {
        Some(name) => Err(name.as_str()),
        None => Ok(spec.kind.info().lasts),
    };
    let name = match lasts {
        Err(name) | Ok(Lasts::Around(name)) => name,
        Ok(_) if !spec.zones.is_empty() => return Err(SpanError::ZonesOfNothing),
        Ok(Lasts::Instant) => return Ok(vec![span(None, (INSTANT_MS, INSTANT_MS), "it".into())]),
        Ok(Lasts::Away) => return Ok(vec![span(None, AWAY_MS, "it".into())]),
    };
    let zones = zones_of(spec).iter().map(|zone| {
        let range = boundaries.range_ms(name, *zone).map_err(SpanError::Boundary)?;
        Ok(around(name, *zone, range))
    });
    zones.collect()
}

/// Three of four near the edge: the sixth of the range next to it; inside, next to either edge.
pub(crate) fn duration(span: &Span, left_ns: u64, stream: &mut Stream) -> u64 {
    let (shortest, longest) = (span.shortest_ns, span.longest_ns.min(left_ns));
    if longest <= shortest {
        return shortest;
    }
    let near = (longest - shortest) / 6;
    let anywhere = draw::below(stream, 4) == 0;
    let low = (shortest, shortest + near);
    let high = (longest - near, longest);
    let zone = span.boundary.as_ref().map(|boundary| boundary.zone);
    let (from, to) = match zone {
        Some(Zone::CertainlyBelow) if !anywhere => high,
        Some(Zone::CertainlyAbove) if !anywhere => low,
        Some(Zone::Inside) if !anywhere => {
            if draw::below(stream, 2) == 0 {
                low
            } else {
                high
            }
        }
        _ => (shortest, longest),
    };
    draw::between_ns(stream, from, to)
}
