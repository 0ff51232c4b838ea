//! Fault schedules, drawn from a seed: which fault, when, how long, against which boundary, on whom.
//!
//! Kinds and zones are dealt from shuffled decks rather than drawn independently, so that a short run has
//! each of them as evenly as its length allows. Durations lie mostly near the edges of a boundary, where
//! systems are wrong. Every fault has streams of its own for its duration and its targets; only the decks
//! and the gaps are shared.

use std::collections::BTreeMap;

use fuzz_dist_core::fault::{Availability, Era, Fault, FaultKind, FaultSchedule, Subject, Target};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::{FaultSpec, NemesisSpec, Spec};

use crate::boundaries::{Boundaries, BoundaryError};
use crate::deck::Deck;
use crate::draw;
use crate::packages::{self, PackageError};
use crate::patterns;
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

impl<'a> Stage<'a> {
    /// That of a spec.
    pub fn of_spec(
        spec: &Spec,
        boundaries: &'a Boundaries,
        field: &'a Field,
        seed: Seed,
        available: &'a dyn Fn(&FaultKind) -> Availability,
    ) -> Stage<'a> {
        let ns = |seconds: f64| (seconds.max(0.0) * 1e9).round() as u64;
        Stage {
            boundaries,
            seed,
            field,
            main_phase_ns: ns(spec.time_limit_s),
            warm_up_ns: ns(spec.warm_up_s),
            available,
        }
    }

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
    let (mut faults, eras): (Vec<Fault>, Vec<Era>) = if nemesis.packages().is_empty() {
        (lay_out(nemesis, &spans, stage)?, Vec::new())
    } else {
        packages::mix(nemesis, stage)?
    };
    faults.sort_by_key(|fault| fault.start_ns);
    let new_ids: BTreeMap<u32, u32> = faults.iter().map(|fault| fault.id).zip(1..).collect();
    patterns::number(&mut faults, |old| new_ids.get(&old).copied().unwrap_or(old));
    for (fault, id) in faults.iter_mut().zip(1..) {
        fault.id = id;
    }
    let waiting = waiting(nemesis, &spans, faults.len(), stage)?;
    faults.extend(waiting);
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
    let timed = nemesis.faults.iter().enumerate().filter(|(_, spec)| spec.after.is_none());
    let cards = timed.flat_map(|(i, spec)| std::iter::repeat_n(i, spec.weight as usize));
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
        let mut own = seed.stream("fault", u64::from(id));
        let duration_ns = spans::duration(span, left_ns, &mut own);
        let all: Vec<&Span> = spans[kind].iter().collect();
        let drawn = fault(spec, span, id, (start_ns, duration_ns), stage)
            .and_then(|lead| patterns::expand(spec, &all, lead, left_ns, stage, &mut own));
        let drawn = drawn.map_err(|error| DrawError::Target {
            index: kind,
            kind: spec.kind.name(),
            error,
        })?;
        let last_ns = drawn.iter().map(|fault| fault.start_ns + fault.duration_ns).max();
        let ids = faults.len() as u32 + 1..;
        faults.extend(drawn.into_iter().zip(ids).map(|(fault, id)| Fault { id, ..fault }));
        let gap_ns = draw::between_ns(
            &mut stream,
            interval_ns / 2,
            interval_ns.saturating_add(interval_ns / 2),
        );
        let end_ns = last_ns.unwrap_or(start_ns);
        let from_ns = if nemesis.overlap { start_ns } else { end_ns };
        // At least a millisecond apart, so that heal and apply have an order.
        start_ns = from_ns.saturating_add(gap_ns.max(1_000_000));
    }
    Ok(faults)
}

/// Faults that wait for an event, each as often as its weight; they wait from the end of the warm-up on.
fn waiting(
    nemesis: &NemesisSpec,
    spans: &[Vec<Span>],
    count: usize,
    stage: &Stage<'_>,
) -> Result<Vec<Fault>, DrawError> {
    let mut faults = Vec::new();
    for (index, spec) in nemesis.faults.iter().enumerate().filter(|(_, spec)| spec.after.is_some())
    {
        let kind = spec.kind.name();
        for _ in 0..spec.weight {
            let id = (count + faults.len()) as u32 + 1;
            let mut stream = stage.seed.stream("fault", u64::from(id));
            let span = &spans[index][draw::index(&mut stream, spans[index].len())];
            let duration_ns = spans::duration(span, stage.have_ns(), &mut stream);
            let times = (stage.warm_up_ns, duration_ns);
            let drawn = fault(spec, span, id, times, stage).map_err(|error| DrawError::Target {
                index,
                kind,
                error,
            })?;
            faults.push(Fault { after: spec.after.clone(), ..drawn });
        }
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
        after: None,
        part_of: None,
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
    let mut spans = spans::spans_of(spec, stage.boundaries).map_err(|error| match error {
        SpanError::Boundary(error) => DrawError::Boundary { index, kind, error },
        SpanError::ZonesOfNothing => {
            let problem = "`zones` need a `boundary`, and this kind has none of its own".into();
            DrawError::Fault { index, kind, problem }
        }
    })?;
    let have_ns = stage.have_ns();
    // Code has boundaries of hours; those that are too long for this run are not meant for it.
    let fits = |span: &Span| !span.is_mined() || span.shortest_ns <= have_ns;
    if spans.iter().any(fits) {
        spans.retain(fits);
    }
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
