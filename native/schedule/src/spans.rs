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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::boundaries::point_edges;
    use fuzz_dist_core::fault::{LinkFault, ProcessFault};
    use fuzz_dist_core::seed::Seed;
    use fuzz_dist_core::spec::Spec;

    /// Of a spec whose code has calls that give up after 700 ms, and timers of 50 ms.
    fn boundaries() -> Boundaries {
        let mined =
            [point_edges("mined-700", 700.0, "a:b/1"), point_edges("mined-50", 50.0, "a:c/1")];
        Boundaries::from_spec(&Spec::default(), &mined).unwrap()
    }

    fn names(spans: &[Span]) -> Vec<Option<&str>> {
        spans.iter().map(|span| span.boundary.as_ref().map(|b| b.name.as_str())).collect()
    }

    #[test]
    fn durations_lie_around_the_values_that_were_mined() {
        let only =
            FaultSpec { boundary: Some(MINED.into()), ..FaultSpec::new(ProcessFault::Pause) };
        let spans = spans_of(&only, &boundaries()).unwrap();
        // Nothing is certainly below 50 ms.
        let count = |name: &str| names(&spans).iter().filter(|n| **n == Some(name)).count();
        assert_eq!((spans.len(), count("mined-700"), count("mined-50")), (5, 3, 2));
        for (index, span) in spans.iter().enumerate() {
            let boundary = span.boundary.as_ref().unwrap();
            let value_ms = if boundary.name == "mined-700" { 700.0 } else { 50.0 };
            for number in 0..200 {
                let mut stream = Seed(1).stream("fault", (index * 1_000 + number) as u64);
                let ms = duration(span, u64::MAX, &mut stream) as f64 / NS_PER_MS;
                let fits = match boundary.zone {
                    Zone::CertainlyBelow => ms <= value_ms - 100.0,
                    Zone::Inside => (ms - value_ms).abs() <= 100.0,
                    Zone::CertainlyAbove => {
                        (value_ms + 100.0..=2.0 * value_ms + 200.0).contains(&ms)
                    }
                };
                assert!(fits, "{ms} ms is not {} of {}", boundary.zone.as_str(), boundary.name);
            }
        }
    }

    #[test]
    fn half_of_the_durations_that_name_no_boundary_are_those_of_the_kind() {
        for kind in [FaultSpec::new(LinkFault::HOLD), FaultSpec::new(ProcessFault::Kill)] {
            let spans = spans_of(&kind, &boundaries()).unwrap();
            let mined = spans.iter().filter(|span| span.is_mined()).count();
            assert!(mined >= 5 && spans.len() - mined >= mined, "{:?}", names(&spans));
            assert!(spans.len() - mined < mined + 3, "{:?}", names(&spans));
        }
        // Who says how long, or around what, has said it, and an instant lasts no time.
        let fixed = FaultSpec { duration_ms: Some(5), ..FaultSpec::new(LinkFault::HOLD) };
        let named =
            FaultSpec { boundary: Some("net-setup".into()), ..FaultSpec::new(LinkFault::HOLD) };
        for kind in [fixed, named, FaultSpec::new(LinkFault::Rst)] {
            let spans = spans_of(&kind, &boundaries()).unwrap();
            assert!(!spans.iter().any(Span::is_mined), "{:?}", names(&spans));
        }
    }
}
