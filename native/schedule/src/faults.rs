//! Fault schedules, drawn from a seed: which fault, when, how long, against which boundary, on whom.
//!
//! Kinds and zones are dealt from shuffled decks rather than drawn independently, so that a short run has
//! each of them as evenly as its length allows. Durations lie mostly near the edges of a boundary, where
//! systems are wrong. Every fault has streams of its own for its duration and its targets; only the decks
//! and the gaps are shared.

use fuzz_dist_core::fault::{BoundaryRef, Fault, FaultKind, FaultSchedule, Target, Zone};
use fuzz_dist_core::seed::{Seed, Stream};
use fuzz_dist_core::spec::{FaultSpec, NemesisSpec};

use crate::boundaries::{Boundaries, BoundaryError};
use crate::draw;
use crate::target::{self, TargetError};

/// Version of `schedule.json`.
pub const SCHEDULE_VERSION: u32 = 1;

const NS_PER_MS: f64 = 1e6;
/// A fault that is an instant (a close, a reset) is reported as lasting so long.
const INSTANT_MS: f64 = 100.0;
/// How long killed or stopped nodes stay away when nothing else is said.
const AWAY_MS: (f64, f64) = (500.0, 5_000.0);
/// The most a weight may be: decks hold a card for each unit.
const WEIGHT_MAX: u32 = 1_000;
/// A bound on the number of faults, against intervals of nearly nothing.
const FAULTS_MAX: usize = 100_000;

/// Why no schedule can be drawn.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DrawError {
    /// A boundary or one of its zones.
    #[error("nemesis.faults[{index}] ({kind}): {error}")]
    Boundary {
        /// Position in the spec.
        index: usize,
        /// The kind of fault.
        kind: &'static str,
        /// What is wrong.
        error: BoundaryError,
    },
    /// A target that does not fit.
    #[error("nemesis.faults[{index}] ({kind}): {error}")]
    Target {
        /// Position in the spec.
        index: usize,
        /// The kind of fault.
        kind: &'static str,
        /// What is wrong.
        error: TargetError,
    },
    /// Something else about one fault of the spec.
    #[error("nemesis.faults[{index}] ({kind}): {problem}")]
    Fault {
        /// Position in the spec.
        index: usize,
        /// The kind of fault.
        kind: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The main phase is too short for it.
    #[error(
        "nemesis.faults[{index}] ({kind}): {what} lasts at least {needed_s:.1} s, but faults have {have_s:.1} \
         s between the warm-up and the end of the main phase; raise time_limit_s, lower the boundary \
         (cluster.net_ticktime_s for net-tick), or give `zones` or `duration_ms`"
    )]
    DoesNotFit {
        /// Position in the spec.
        index: usize,
        /// The kind of fault.
        kind: &'static str,
        /// The zone and boundary, or the duration.
        what: String,
        /// The shortest duration.
        needed_s: f64,
        /// The time there is.
        have_s: f64,
    },
    /// The interval is not a duration.
    #[error("nemesis.interval_s is {0}: it must be from 0 and finite")]
    Interval(f64),
}

/// A kind of duration that a fault of the spec may get.
#[derive(Debug, Clone)]
struct Span {
    boundary: Option<BoundaryRef>,
    shortest_ns: u64,
    longest_ns: u64,
}

struct Deck {
    cards: Vec<usize>,
    all: Vec<usize>,
}

impl Deck {
    fn new(all: Vec<usize>) -> Deck {
        Deck { cards: Vec::new(), all }
    }

    /// The next card that passes; those before it stay on top.
    fn deal(&mut self, stream: &mut Stream, fits: impl Fn(usize) -> bool) -> Option<usize> {
        for _ in 0..2 {
            if let Some(at) = self.cards.iter().rposition(|card| fits(*card)) {
                return Some(self.cards.remove(at));
            }
            if !self.all.iter().any(|card| fits(*card)) {
                return None;
            }
            let mut fresh = self.all.clone();
            draw::shuffle(stream, &mut fresh);
            // What is left over of the old deck comes first.
            fresh.append(&mut self.cards);
            self.cards = fresh;
        }
        None
    }
}

/// Draws the faults of a run. Times count from the start of the main phase, of which the first `warm_up_ns`
/// are free of faults; every fault ends before `main_phase_ns`.
pub fn draw(
    nemesis: &NemesisSpec,
    boundaries: &Boundaries,
    seed: Seed,
    nodes: &[String],
    main_phase_ns: u64,
    warm_up_ns: u64,
) -> Result<FaultSchedule, DrawError> {
    if !(nemesis.interval_s.is_finite() && nemesis.interval_s >= 0.0) {
        return Err(DrawError::Interval(nemesis.interval_s));
    }
    // The last moments belong to healing.
    let end_ns = main_phase_ns - (main_phase_ns / 20).min(1_000_000_000);
    let have_ns = end_ns.saturating_sub(warm_up_ns);
    let mut spans = Vec::new();
    for (index, spec) in nemesis.faults.iter().enumerate() {
        check(index, spec, seed, nodes)?;
        spans.push(spans_of(index, spec, boundaries, have_ns)?);
    }
    if let Some(first) = nemesis.faults.first()
        && nemesis.faults.iter().all(|spec| spec.weight == 0)
    {
        let problem = "`weight` is 0 for every fault: none would be drawn".into();
        return Err(DrawError::Fault { index: 0, kind: first.kind.name(), problem });
    }
    let faults = lay_out(nemesis, &spans, seed, nodes, end_ns, warm_up_ns)?;
    Ok(FaultSchedule {
        version: SCHEDULE_VERSION,
        seed: seed.0,
        nodes: nodes.to_vec(),
        boundaries: boundaries.edges().to_vec(),
        faults,
    })
}

/// Deals faults one after the other until nothing fits any more.
fn lay_out(
    nemesis: &NemesisSpec,
    spans: &[Vec<Span>],
    seed: Seed,
    nodes: &[String],
    end_ns: u64,
    warm_up_ns: u64,
) -> Result<Vec<Fault>, DrawError> {
    let mut stream = seed.stream("fault-schedule", 0);
    let weights = nemesis.faults.iter().enumerate();
    let cards = weights.flat_map(|(i, spec)| std::iter::repeat_n(i, spec.weight as usize));
    let mut kinds = Deck::new(cards.collect());
    let mut zones: Vec<Deck> = spans.iter().map(|s| Deck::new((0..s.len()).collect())).collect();
    let interval_ns = (nemesis.interval_s * 1e9) as u64;
    // The first fault comes within one interval, later gaps are half to one and a half.
    let mut start_ns = warm_up_ns.saturating_add(draw::between_ns(&mut stream, 0, interval_ns));
    let mut faults: Vec<Fault> = Vec::new();
    while faults.len() < FAULTS_MAX {
        let left_ns = end_ns.saturating_sub(start_ns);
        let fits = |span: &Span| span.shortest_ns <= left_ns;
        let Some(kind) = kinds.deal(&mut stream, |kind| spans[kind].iter().any(fits)) else {
            // Too late for anything: earlier, if the gap before alone is to blame for having none.
            if faults.is_empty() && start_ns > warm_up_ns {
                start_ns = warm_up_ns;
                continue;
            }
            break;
        };
        let Some(zone) = zones[kind].deal(&mut stream, |zone| fits(&spans[kind][zone])) else {
            break;
        };
        let spec = &nemesis.faults[kind];
        let id = faults.len() as u32 + 1;
        let span = &spans[kind][zone];
        let duration_ns = duration(span, left_ns, &mut seed.stream("fault", u64::from(id)));
        faults.push(fault(kind, spec, span, id, (start_ns, duration_ns), seed, nodes)?);
        let gap_ns = draw::between_ns(
            &mut stream,
            interval_ns / 2,
            interval_ns.saturating_add(interval_ns / 2),
        );
        let from_ns = if nemesis.overlap { start_ns } else { start_ns + duration_ns };
        // At least a millisecond apart, so that heal and apply have an order.
        start_ns = from_ns.saturating_add(gap_ns.max(1_000_000));
    }
    Ok(faults)
}

fn fault(
    index: usize,
    spec: &FaultSpec,
    span: &Span,
    id: u32,
    (start_ns, duration_ns): (u64, u64),
    seed: Seed,
    nodes: &[String],
) -> Result<Fault, DrawError> {
    let mut stream = seed.stream("fault-target", u64::from(id));
    let target = spec.targets[draw::index(&mut stream, spec.targets.len())].clone();
    let resolved = match target {
        Target::Primaries => None,
        _ => Some(
            target::resolve(&target, spec.one_way, &spec.kind, nodes, None, &mut stream)
                .map_err(|error| DrawError::Target { index, kind: spec.kind.name(), error })?,
        ),
    };
    Ok(Fault {
        id,
        kind: spec.kind.clone(),
        target,
        one_way: spec.one_way,
        port: spec.port.clone(),
        start_ns,
        duration_ns,
        boundary: span.boundary.clone(),
        resolved,
    })
}

/// What can be said of a fault of the spec without drawing.
fn check(index: usize, spec: &FaultSpec, seed: Seed, nodes: &[String]) -> Result<(), DrawError> {
    let kind = spec.kind.name();
    let problem = |problem: String| Err(DrawError::Fault { index, kind, problem });
    if spec.targets.is_empty() {
        return problem("`targets` is empty".into());
    }
    if spec.weight > WEIGHT_MAX {
        return problem(format!("`weight` {} is more than {WEIGHT_MAX}", spec.weight));
    }
    if spec.duration_ms == Some(0) {
        return problem("`duration_ms` is 0".into());
    }
    if spec.duration_ms.is_some() && (spec.boundary.is_some() || !spec.zones.is_empty()) {
        return problem("`duration_ms` and `boundary` or `zones` exclude each other".into());
    }
    let process = spec.kind.plane() == fuzz_dist_core::fault::Plane::Process;
    if process && spec.one_way {
        return problem("`one_way` is for faults of links".into());
    }
    if process && spec.port.is_some() {
        return problem("`port` is for faults of links".into());
    }
    for target in spec.targets.iter().filter(|target| **target != Target::Primaries) {
        let mut stream = seed.stream("fault-check", 0);
        target::resolve(target, spec.one_way, &spec.kind, nodes, None, &mut stream)
            .map_err(|error| DrawError::Target { index, kind, error })?;
    }
    Ok(())
}

/// The boundary that a kind of fault is about when the spec names none.
fn default_boundary(kind: &FaultKind) -> Option<&'static str> {
    match kind {
        FaultKind::Fin | FaultKind::Rst | FaultKind::Kill | FaultKind::Restart => None,
        _ => Some("net-tick"),
    }
}

fn spans_of(
    index: usize,
    spec: &FaultSpec,
    boundaries: &Boundaries,
    have_ns: u64,
) -> Result<Vec<Span>, DrawError> {
    let kind = spec.kind.name();
    let span = |boundary: Option<BoundaryRef>, (shortest, longest): (f64, f64), what: String| {
        let shortest_ns = ((shortest * NS_PER_MS).ceil() as u64).max(1);
        if shortest_ns > have_ns {
            return Err(DrawError::DoesNotFit {
                index,
                kind,
                what,
                needed_s: shortest / 1e3,
                have_s: have_ns as f64 / 1e9,
            });
        }
        let longest_ns = (longest * NS_PER_MS).floor() as u64;
        Ok(Span { boundary, shortest_ns, longest_ns: longest_ns.max(shortest_ns) })
    };
    if let Some(fixed_ms) = spec.duration_ms {
        let fixed = fixed_ms as f64;
        return Ok(vec![span(None, (fixed, fixed), format!("`duration_ms` {fixed_ms}"))?]);
    }
    let Some(name) = spec.boundary.as_deref().or_else(|| default_boundary(&spec.kind)) else {
        if !spec.zones.is_empty() {
            let problem = "`zones` need a `boundary`, and this kind has none of its own".into();
            return Err(DrawError::Fault { index, kind, problem });
        }
        let range = match spec.kind {
            FaultKind::Fin | FaultKind::Rst => (INSTANT_MS, INSTANT_MS),
            _ => AWAY_MS,
        };
        return Ok(vec![span(None, range, "it".into())?]);
    };
    let all = [Zone::CertainlyBelow, Zone::Inside, Zone::CertainlyAbove];
    let zones = if spec.zones.is_empty() { &all[..] } else { &spec.zones[..] };
    let zones = zones.iter().map(|zone| {
        let range = boundaries.range_ms(name, *zone).map_err(|error| DrawError::Boundary {
            index,
            kind,
            error,
        })?;
        let what = format!("a fault {} of {name}", zone.as_str());
        span(Some(BoundaryRef { name: name.to_owned(), zone: *zone }), range, what)
    });
    zones.collect()
}

/// Three of four near the edge: the sixth of the range next to it; inside, next to either edge.
fn duration(span: &Span, left_ns: u64, stream: &mut Stream) -> u64 {
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
