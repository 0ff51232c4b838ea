//! What a run will do: generators, faults and checkers, made from the spec, the seed and the live boundaries.

use std::path::Path;

use fuzz_dist_core::fault::{Availability, BoundaryEdges, FaultKind, FaultSchedule};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::{CheckerSpec, Spec};
use fuzz_dist_schedule::boundaries::{Boundaries, LiveBoundaries};
use fuzz_dist_schedule::simulate::draw_from_spec;
use fuzz_dist_schedule::target::Field;
use fuzz_dist_schedule::{Env, Expr, Interpreter, Stage, compile, faults, workload};

use crate::cluster::namespaces;
use crate::live::Live;
use crate::nemesis::planes;
use crate::request::RunError;

/// Generators, faults and checkers of a run.
#[derive(Debug)]
pub struct Plan {
    threads: u32,
    nodes: Vec<String>,
    seed: Seed,
    /// Operations of the main phase, without its end, which is that of the phase.
    main: Expr,
    again: Option<Expr>,
    last: Option<Expr>,
    /// The faults.
    pub schedule: FaultSchedule,
    /// What people should know of it.
    pub notes: Vec<String>,
}

fn input(error: impl std::fmt::Display) -> RunError {
    RunError::Input(error.to_string())
}

/// The number of logical processes.
pub fn thread_count(spec: &Spec) -> Result<u32, RunError> {
    spec.concurrency.count(spec.nodes.names().len()).ok_or_else(|| {
        RunError::Input(format!(
            "concurrency: {:?} is neither a number nor a text like \"2n\"",
            spec.concurrency
        ))
    })
}

/// The checkers of a run, of the spec or else of its workload.
pub fn checkers(spec: &Spec) -> Result<Vec<CheckerSpec>, RunError> {
    Ok(workload::plan(spec).map_err(input)?.checkers)
}

/// Refuses, before anything is started, what can be known to be wrong without a cluster.
pub fn check(
    spec: &Spec,
    schedule: Option<&FaultSchedule>,
    mined: &[BoundaryEdges],
) -> Result<(), RunError> {
    fuzz_dist_core::spec::validate(spec).map_err(input)?;
    if let Some(objection) = namespaces::objection(spec) {
        return Err(RunError::Input(objection));
    }
    let plan = workload::plan(spec).map_err(input)?;
    for checker in &plan.checkers {
        fuzz_dist_checker::build(checker).map_err(input)?;
    }
    let nodes = spec.nodes.names();
    let env = Env::new(thread_count(spec)?, &nodes, Seed(0));
    for (key, expr) in
        [("generator", Some(&plan.generator)), ("final_generator", plan.final_generator.as_ref())]
    {
        let Some(expr) = expr else { continue };
        if expr.uses_nemesis() {
            return Err(RunError::Input(format!(
                "workload.{key}: faults are not operations of a generator here; list them under \
                 [[nemesis.faults]], or in a schedule.json (nemesis.schedule)"
            )));
        }
        compile(expr, &env).map_err(input)?;
    }
    match schedule {
        Some(schedule) => validate(spec, schedule),
        // The nodes may run with other boundaries than the spec says, but what cannot be drawn against
        // those of the spec is refused before anything is started.
        None => {
            for (index, fault) in spec.nemesis.faults.iter().enumerate() {
                let place = format!("nemesis.faults[{index}]");
                available(spec, &fault.kind, fault.optional, &place)?;
            }
            let available = |kind: &FaultKind| planes::availability(kind, Some(spec));
            draw_from_spec(spec, Seed(0), mined, &available).map(drop).map_err(input)
        }
    }
}

fn validate(spec: &Spec, schedule: &FaultSchedule) -> Result<(), RunError> {
    fuzz_dist_schedule::validate(schedule, spec).map_err(input)?;
    for fault in &schedule.faults {
        let place = format!("schedule, fault {}", fault.id);
        available(spec, &fault.kind, fault.optional, &place)?;
    }
    Ok(())
}

/// Refuses a fault that cannot be had here, unless the run may go on without it.
fn available(spec: &Spec, kind: &FaultKind, optional: bool, place: &str) -> Result<(), RunError> {
    match planes::availability(kind, Some(spec)) {
        Availability::Unavailable(reason) if !optional => Err(RunError::Input(format!(
            "{place}: `{}` of the {} plane is not available: {reason}; `fuzz_dist doctor` lists what is; \
             with `optional = true` the run goes on without it",
            kind.name(),
            kind.plane(),
        ))),
        _ => Ok(()),
    }
}

impl Plan {
    /// Draws the faults against the boundaries that the nodes run with, unless a schedule is given.
    pub fn new(
        spec: &Spec,
        seed: Seed,
        schedule: Option<&FaultSchedule>,
        live: &Live,
        mined: &[BoundaryEdges],
    ) -> Result<Plan, RunError> {
        let mut plan = workload::plan(spec).map_err(input)?;
        let nodes = spec.nodes.names();
        let schedule = match schedule {
            Some(given) => {
                validate(spec, given)?;
                given.clone()
            }
            None => draw(spec, seed, live, mined)?,
        };
        plan.notes.extend(other_tick(spec, live));
        Ok(Plan {
            threads: thread_count(spec)?,
            nodes,
            seed,
            main: plan.endless,
            again: plan.recovery_generator,
            last: plan.final_generator,
            schedule,
            notes: plan.notes,
        })
    }

    /// Writes `schedule.json`.
    pub fn write_schedule(&self, path: &Path) -> Result<(), RunError> {
        let text = serde_json::to_string_pretty(&self.schedule)
            .map_err(|e| RunError::Internal(format!("the schedule as JSON: {e}")))?;
        crate::run::write_file(path, text.as_bytes())
    }

    /// Operations of the main phase.
    pub fn main_generator(&self) -> Result<Interpreter, RunError> {
        let env = Env::new(self.threads, &self.nodes, self.seed);
        Ok(Interpreter::new(compile(&self.main, &env).map_err(input)?, self.threads))
    }

    /// Operations that ask everything again after the last heal, if the workload has some of its own.
    pub fn recovery_generator(&self, processes: &[i64]) -> Result<Option<Interpreter>, RunError> {
        let Some(expr) = &self.again else { return Ok(None) };
        let env = Env::for_recovery(self.threads, &self.nodes, self.seed);
        let generator = compile(expr, &env).map_err(input)?;
        Ok(Some(Interpreter::with_processes(generator, self.threads, processes)))
    }

    /// Whether operations follow the recovery.
    pub fn has_final_operations(&self) -> bool {
        self.last.is_some()
    }

    /// Operations after the recovery, by the processes that the threads have come to.
    pub fn final_generator(&self, processes: &[i64]) -> Result<Option<Interpreter>, RunError> {
        let Some(expr) = &self.last else { return Ok(None) };
        let env = Env::for_final(self.threads, &self.nodes, self.seed);
        let generator = compile(expr, &env).map_err(input)?;
        Ok(Some(Interpreter::with_processes(generator, self.threads, processes)))
    }
}

fn draw(
    spec: &Spec,
    seed: Seed,
    live: &Live,
    mined: &[BoundaryEdges],
) -> Result<FaultSchedule, RunError> {
    let values = LiveBoundaries {
        net_ticktime_s: live.net_ticktime_ms as f64 / 1e3,
        net_tickintensity: live.net_tickintensity,
        net_setuptime_ms: live.net_setuptime_ms as f64,
    };
    let source = format!("live node {}", live.node);
    let boundaries = Boundaries::from_live(values, &source, spec, mined);
    let boundaries = boundaries.map_err(input)?;
    let field = Field::of(spec);
    let available = |kind: &FaultKind| planes::availability(kind, Some(spec));
    let stage = Stage::of_spec(spec, &boundaries, &field, seed, &available);
    faults::draw(&spec.nemesis, &stage).map_err(|error| match other_tick(spec, live) {
        // What the spec says is not what makes it impossible.
        Some(note) => RunError::Input(format!("{error}\n{note}")),
        None => input(error),
    })
}

/// What a person must know when the nodes run with another tick than the spec asks for.
fn other_tick(spec: &Spec, live: &Live) -> Option<String> {
    let asked = (u64::from(spec.cluster.net_ticktime_s) * 1000, spec.cluster.net_tickintensity);
    let found = (live.net_ticktime_ms, live.net_tickintensity);
    (asked != found).then(|| {
        format!(
            "{} runs with net_ticktime {} s and intensity {}, although the spec asks for {} s and {} \
             (cluster.net_ticktime_s, cluster.net_tickintensity): the system under test sets them itself \
             (net_kernel:set_net_ticktime/1, or its own sys.config). Faults are timed to what it runs with; \
             lower it there to get shorter ones",
            live.node,
            found.0 as f64 / 1e3,
            found.1,
            asked.0 / 1000,
            asked.1,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(net_ticktime_ms: u64) -> Live {
        let node = "n1".to_owned();
        Live {
            net_ticktime_ms,
            net_tickintensity: 4,
            net_setuptime_ms: 7000,
            node,
            ..Live::default()
        }
    }

    fn holding() -> Spec {
        let text = "nodes = 2\ntime_limit_s = 20\n[cluster]\nnet_ticktime_s = 4\n\
                    [client]\nmodule = \"m\"\n[workload]\nname = \"register\"\n[nemesis]\n\
                    faults = [{ kind = \"hold\", zones = [\"certainly-above\"] }]\n";
        fuzz_dist_core::spec::parse(text, "t.toml").unwrap()
    }

    #[test]
    fn a_system_that_sets_its_own_tick_is_named_when_faults_do_not_fit() {
        let spec = holding();
        let error = draw(&spec, Seed(1), &live(60_000), &[]).unwrap_err();
        assert_eq!(error.exit_code(), 254);
        let text = error.to_string();
        assert!(text.contains("n1 runs with net_ticktime 60 s"), "{text}");
        assert!(text.contains("the spec asks for 4 s"), "{text}");
        assert!(draw(&spec, Seed(1), &live(4_000), &[]).is_ok());
    }

    #[test]
    fn another_tick_is_noted_and_the_right_one_is_not() {
        assert!(other_tick(&holding(), &live(8_000)).is_some_and(|note| note.contains(" 8 s ")));
        assert_eq!(other_tick(&holding(), &live(4_000)), None);
    }
}
