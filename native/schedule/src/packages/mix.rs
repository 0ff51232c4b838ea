//! A rotating mix: every few seconds another random subset of the packages, and now and then none.
//!
//! Faults that never end together keep a cluster from ever making progress, and faults of one kind never meet.
//! So time is divided into eras (after Bufstream's Jepsen suite). One of four is a rest in which the system
//! recovers; in the others the faults of a few packages happen side by side, each package one after the
//! other, and all are healed when the era ends. The first package of each era is dealt from a deck, so that a
//! short run sees each of them; an era lasts long enough for one fault of each of its packages, whatever the
//! boundary that the fault is drawn around.

use fuzz_dist_core::fault::{Era, Fault};
use fuzz_dist_core::spec::{FaultSpec, NemesisSpec};

use super::{Chosen, PackageError, chosen};
use crate::deck::Deck;
use crate::draw;
use crate::faults::{DrawError, FAULTS_MAX, Stage, fault};
use crate::patterns;
use crate::spans::{self, Span};

/// The name under which the faults of the spec itself take part.
const OWN: &str = "faults";

/// Between the heal of one fault and the start of the next, so that they have an order.
const ORDER_NS: u64 = 1_000_000;

/// Of so many eras after the first one is a rest.
const REST_ONE_OF: u64 = 4;

/// Who takes part in the mix.
enum Member {
    Package(Chosen),
    Own(Vec<FaultSpec>),
}

impl Member {
    fn name(&self) -> &str {
        match self {
            Member::Package(chosen) => &chosen.written,
            Member::Own(_) => OWN,
        }
    }

    /// Its faults for an era, each with the durations that the main phase has room for at all.
    fn faults(&self, number: u64, stage: &Stage<'_>) -> Vec<(FaultSpec, Vec<Span>)> {
        let specs = match self {
            Member::Own(specs) => specs.clone(),
            Member::Package(chosen) => {
                let mut stream = stage.seed.stream("package", number);
                chosen.faults(&mut stream, stage.available)
            }
        };
        let have_ns = stage.have_ns();
        specs
            .into_iter()
            .filter_map(|spec| {
                // A boundary without a zone below it has others.
                let mut zones = Vec::new();
                for zone in zones_of(&spec) {
                    zones.extend(spans::spans_of(&zone, stage.boundaries).unwrap_or_default());
                }
                zones.retain(|span| span.shortest_ns <= have_ns);
                (!zones.is_empty() && spec.weight > 0).then_some((spec, zones))
            })
            .collect()
    }
}

/// The same fault once for each of its zones, so that one which is empty does not spoil the others.
fn zones_of(spec: &FaultSpec) -> Vec<FaultSpec> {
    use fuzz_dist_core::fault::{Lasts, Zone};
    let around = spec.boundary.is_some() || matches!(spec.kind.info().lasts, Lasts::Around(_));
    if !around || spec.duration_ms.is_some() {
        return vec![spec.clone()];
    }
    let all = [Zone::CertainlyBelow, Zone::Inside, Zone::CertainlyAbove];
    let zones = if spec.zones.is_empty() { all.to_vec() } else { spec.zones.clone() };
    zones.into_iter().map(|zone| FaultSpec { zones: vec![zone], ..spec.clone() }).collect()
}

/// Draws eras and the faults in them.
pub fn mix(nemesis: &NemesisSpec, stage: &Stage<'_>) -> Result<(Vec<Fault>, Vec<Era>), DrawError> {
    let members = members(nemesis, stage)?;
    let mut stream = stage.seed.stream("eras", 0);
    let mut firsts = Deck::new((0..members.len()).collect());
    let era_ns = (nemesis.era_s * 1e9) as u64;
    let end_ns = stage.end_ns();
    let mut start_ns = stage.warm_up_ns;
    let (mut faults, mut eras): (Vec<Fault>, Vec<Era>) = (Vec::new(), Vec::new());
    while start_ns < end_ns && faults.len() < FAULTS_MAX && eras.len() < FAULTS_MAX {
        let length_ns =
            draw::between_ns(&mut stream, era_ns / 2, era_ns.saturating_add(era_ns / 2));
        let planned_ns = start_ns.saturating_add(length_ns.max(ORDER_NS)).min(end_ns);
        let rest = !eras.is_empty() && draw::below(&mut stream, REST_ONE_OF) == 0;
        let subset = match rest {
            true => Vec::new(),
            false => subset(&mut firsts, &mut stream, members.len()),
        };
        let mut era = EraDraw { start_ns, end_ns: planned_ns, number: eras.len() as u64, first: 0 };
        let mut drawn = Vec::new();
        let mut packages = Vec::new();
        for index in subset {
            era.first = faults.len() + drawn.len();
            let before = drawn.len();
            era.draw_member(&members[index], index, nemesis, stage, &mut drawn)?;
            if drawn.len() > before {
                packages.push(members[index].name().to_owned());
            }
        }
        let last_ns = drawn.iter().map(|fault| fault.start_ns + fault.duration_ns).max();
        let over_ns = planned_ns.max(last_ns.unwrap_or(0));
        eras.push(Era { start_ns, duration_ns: over_ns - start_ns, packages });
        faults.append(&mut drawn);
        start_ns = over_ns.saturating_add(ORDER_NS);
    }
    Ok((faults, eras))
}

fn members(nemesis: &NemesisSpec, stage: &Stage<'_>) -> Result<Vec<Member>, DrawError> {
    let chosen = chosen(nemesis.packages(), stage.field, stage.available)?;
    let insisted = |written: &String| nemesis.packages().contains(written);
    let mut members = Vec::new();
    for one in chosen {
        let written = one.written.clone();
        let member = Member::Package(one);
        if !member.faults(0, stage).is_empty() {
            members.push(member);
        } else if insisted(&written) {
            let have_s = stage.have_ns() as f64 / 1e9;
            return Err(PackageError::DoesNotFit { written, have_s }.into());
        }
    }
    let timed: Vec<FaultSpec> =
        nemesis.faults.iter().filter(|spec| spec.after.is_none()).cloned().collect();
    if !timed.is_empty() {
        members.push(Member::Own(timed));
    }
    if members.is_empty() {
        let have_s = stage.have_ns() as f64 / 1e9;
        return Err(PackageError::DoesNotFit { written: super::EVERY.into(), have_s }.into());
    }
    Ok(members)
}

/// Whether the main phase has room for a fault of this package.
pub(super) fn fits(chosen: Chosen, stage: &Stage<'_>) -> Result<(), PackageError> {
    let written = chosen.written.clone();
    match Member::Package(chosen).faults(0, stage).is_empty() {
        true => Err(PackageError::DoesNotFit { written, have_s: stage.have_ns() as f64 / 1e9 }),
        false => Ok(()),
    }
}

/// The next of the deck, and each of the others or not.
fn subset(
    firsts: &mut Deck,
    stream: &mut fuzz_dist_core::seed::Stream,
    count: usize,
) -> Vec<usize> {
    let first = firsts.deal(stream, |_| true);
    (0..count).filter(|index| first == Some(*index) || draw::below(stream, 2) == 0).collect()
}

/// One era while its faults are drawn.
struct EraDraw {
    start_ns: u64,
    end_ns: u64,
    number: u64,
    /// How many faults were drawn before those of the member at hand: numbers its streams.
    first: usize,
}

impl EraDraw {
    /// The faults of one member, one after the other: the first whatever it takes, the others while the era lasts.
    fn draw_member(
        &self,
        member: &Member,
        index: usize,
        nemesis: &NemesisSpec,
        stage: &Stage<'_>,
        drawn: &mut Vec<Fault>,
    ) -> Result<(), DrawError> {
        let number = (self.number << 8) | index as u64;
        let mut stream = stage.seed.stream("era", number);
        let specs = member.faults(number, stage);
        let weights = specs.iter().enumerate();
        let cards = weights.flat_map(|(i, (spec, _))| std::iter::repeat_n(i, spec.weight as usize));
        let mut kinds = Deck::new(cards.collect());
        let interval_ns = (nemesis.interval_s * 1e9) as u64;
        let half_ns = ((self.end_ns - self.start_ns) / 2).min(interval_ns);
        let mut start_ns = self.start_ns + draw::between_ns(&mut stream, 0, half_ns);
        let mut limit_ns = stage.end_ns();
        let before = drawn.len();
        loop {
            let count = self.first + drawn.len() - before;
            let left_ns = limit_ns.saturating_sub(start_ns);
            let fits = |span: &Span| span.shortest_ns <= left_ns;
            let dealt = kinds.deal(&mut stream, |kind| specs[kind].1.iter().any(fits));
            let Some(kind) = dealt else {
                // Too late for anything: earlier, if the gap before alone is to blame for having none.
                if drawn.len() == before && start_ns > self.start_ns {
                    start_ns = self.start_ns;
                    continue;
                }
                break;
            };
            let (spec, spans) = &specs[kind];
            let fitting: Vec<&Span> = spans.iter().filter(|span| fits(span)).collect();
            let span = fitting[draw::index(&mut stream, fitting.len())];
            let duration_ns = spans::duration(span, left_ns, &mut stream);
            let id = u32::try_from(count + 1).unwrap_or(u32::MAX);
            // The first lasts whatever it takes; what a pattern adds to it stays within the era.
            let pattern_ns = left_ns.min(self.end_ns.saturating_sub(start_ns)).max(duration_ns);
            let all = fault(spec, span, id, (start_ns, duration_ns), stage)
                .and_then(|lead| {
                    patterns::expand(spec, &fitting, lead, pattern_ns, stage, &mut stream)
                })
                .map_err(|error| {
                    let written = member.name().to_owned();
                    DrawError::from(PackageError::Scope { written, error })
                })?;
            let last_ns = all.iter().map(|one| one.start_ns + one.duration_ns).max();
            let package = Some(member.name().to_owned());
            for one in all {
                let id = (self.first + drawn.len() - before) as u32 + 1;
                drawn.push(Fault { id, package: package.clone(), ..one });
            }
            let gap_ns =
                draw::between_ns(&mut stream, interval_ns / 2, interval_ns + interval_ns / 2);
            let over_ns = last_ns.unwrap_or(start_ns);
            start_ns = over_ns.saturating_add(gap_ns.max(ORDER_NS));
            limit_ns = self.end_ns;
            if drawn.len() >= FAULTS_MAX {
                break;
            }
        }
        Ok(())
    }
}
