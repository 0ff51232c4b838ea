//! Fault schedules, drawn from a seed: which fault, when, how long, against which boundary, on whom.
//!
//! Kinds and zones are dealt from shuffled decks rather than drawn independently, so that a short run has
//! each of them as evenly as its length allows. Durations lie mostly near the edges of a boundary, where
//! systems are wrong. Every fault has streams of its own for its duration and its targets; only the decks
//! and the gaps are shared.

use fuzz_dist_core::fault::{Availability, Era, Fault, FaultKind, FaultSchedule, Subject, Target};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::{FaultSpec, NemesisSpec};

use crate::boundaries::{Boundaries, BoundaryError};
use crate::deck::Deck;
use crate::draw;
use crate::packages::{self, PackageError};
use crate::spans::{self, Span, SpanError};
use crate::target::{self, Aim, Field, TargetError};

/// Version of `schedule.json`.
pub const SCHEDULE_VERSION: u32 = 1;

/// The most a weight may be: decks hold a card for each unit.
const WEIGHT_MAX: u32 = 1_000;
/// A bound on the number of faults, against intervals of nearly nothing.
pub(crate) const FAULTS_MAX: usize = 100_000;

/// What faults are drawn for.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    /// What durations are drawn around.
    pub boundaries: &'a Boundaries,
    /// Where every draw comes from.
    pub seed: Seed,
    /// Whom they may meet.
    pub field: &'a Field,
    /// The length of the main phase; every fault ends before.
    pub main_phase_ns: u64,
    /// Its beginning, in which nothing happens.
    pub warm_up_ns: u64,
    /// What can be had here. Packages leave the rest out; a fault that the spec itself names is drawn.
    pub available: &'a dyn Fn(&FaultKind) -> Availability,
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("field", &self.field).finish_non_exhaustive()
    }
}

impl Stage<'_> {
    /// The last moments belong to healing.
    pub(crate) fn end_ns(&self) -> u64 {
        self.main_phase_ns - (self.main_phase_ns / 20).min(1_000_000_000)
    }

    pub(crate) fn have_ns(&self) -> u64 {
        self.end_ns().saturating_sub(self.warm_up_ns)
    }
}

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
    /// A package.
    #[error("nemesis.packages: {0}")]
    Package(#[from] PackageError),
    /// The interval is not a duration.
    #[error("nemesis.interval_s is {0}: it must be from 0 and finite")]
    Interval(f64),
}

/// Draws the faults of a run. Times count from the start of the main phase, of which the first `warm_up_ns`
/// are free of faults; every fault ends before `main_phase_ns`.
pub fn draw(nemesis: &NemesisSpec, stage: &Stage<'_>) -> Result<FaultSchedule, DrawError> {
    for seconds in [nemesis.interval_s, nemesis.era_s] {
        if !(seconds.is_finite() && seconds >= 0.0) {
            return Err(DrawError::Interval(seconds));
        }
    }
    let mut spans = Vec::new();
    for (index, spec) in nemesis.faults.iter().enumerate() {
        check(index, spec, stage)?;
        spans.push(spans_that_fit(index, spec, stage)?);
    }
    if let Some(first) = nemesis.faults.first()
        && nemesis.faults.iter().all(|spec| spec.weight == 0)
    {
        let problem = "`weight` is 0 for every fault: none would be drawn".into();
        return Err(DrawError::Fault { index: 0, kind: first.kind.name(), problem });
    }
    let (faults, eras): (Vec<Fault>, Vec<Era>) = if nemesis.packages.is_empty() {
        (lay_out(nemesis, &spans, stage)?, Vec::new())
    } else {
        packages::mix(nemesis, stage)?
    };
    Ok(FaultSchedule {
        version: SCHEDULE_VERSION,
        seed: stage.seed.0,
        nodes: stage.field.nodes.clone(),
        boundaries: stage.boundaries.edges().to_vec(),
        eras,
        faults,
    })
}

/// Deals faults one after the other until nothing fits any more.
fn lay_out(
    nemesis: &NemesisSpec,
    spans: &[Vec<Span>],
    stage: &Stage<'_>,
) -> Result<Vec<Fault>, DrawError> {
    let (seed, end_ns, warm_up_ns) = (stage.seed, stage.end_ns(), stage.warm_up_ns);
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
        let duration_ns = spans::duration(span, left_ns, &mut seed.stream("fault", u64::from(id)));
        let drawn = fault(spec, span, id, (start_ns, duration_ns), stage);
        faults.push(drawn.map_err(|error| DrawError::Target {
            index: kind,
            kind: spec.kind.name(),
            error,
        })?);
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

/// A fault with its target drawn.
pub(crate) fn fault(
    spec: &FaultSpec,
    span: &Span,
    id: u32,
    (start_ns, duration_ns): (u64, u64),
    stage: &Stage<'_>,
) -> Result<Fault, TargetError> {
    let mut stream = stage.seed.stream("fault-target", u64::from(id));
    let target = spec.targets[draw::index(&mut stream, spec.targets.len())].clone();
    let aim = Aim::of_spec(spec, &target);
    let resolved = match aim.is_late() {
        true => None,
        false => Some(target::resolve(&aim, stage.field, None, &mut stream)?),
    };
    Ok(Fault {
        id,
        kind: spec.kind.clone(),
        target,
        scope: spec.scope.clone(),
        one_way: spec.one_way,
        port: spec.port.clone(),
        package: None,
        optional: spec.optional,
        start_ns,
        duration_ns,
        boundary: span.boundary.clone(),
        resolved,
    })
}

/// What can be said of a fault of the spec without drawing.
fn check(index: usize, spec: &FaultSpec, stage: &Stage<'_>) -> Result<(), DrawError> {
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
    let links = spec.kind.info().subject == Subject::Links;
    if !links && spec.one_way {
        return problem("`one_way` is for faults of links".into());
    }
    if !links && spec.port.is_some() {
        return problem("`port` is for faults of links".into());
    }
    for target in spec.targets.iter().filter(|target| **target != Target::Primaries) {
        let mut stream = stage.seed.stream("fault-check", 0);
        target::resolve(&Aim::of_spec(spec, target), stage.field, None, &mut stream)
            .map_err(|error| DrawError::Target { index, kind, error })?;
    }
    Ok(())
}

/// The spans of a fault of the spec, each of which the main phase has room for.
fn spans_that_fit(
    index: usize,
    spec: &FaultSpec,
    stage: &Stage<'_>,
) -> Result<Vec<Span>, DrawError> {
    let kind = spec.kind.name();
    let spans = spans::spans_of(spec, stage.boundaries).map_err(|error| match error {
        SpanError::Boundary(error) => DrawError::Boundary { index, kind, error },
        SpanError::ZonesOfNothing => {
            let problem = "`zones` need a `boundary`, and this kind has none of its own".into();
            DrawError::Fault { index, kind, problem }
        }
    })?;
    let have_ns = stage.have_ns();
    match spans.iter().find(|span| span.shortest_ns > have_ns) {
        None => Ok(spans),
        Some(long) => Err(DrawError::DoesNotFit {
            index,
            kind,
            what: long.what.clone(),
            needed_s: long.shortest_ns as f64 / 1e9,
            have_s: have_ns as f64 / 1e9,
        }),
    }
}
