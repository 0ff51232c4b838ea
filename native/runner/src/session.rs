//! A run between its open history and its dead processes: starts everything, goes through the phases.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use fuzz_dist_core::fault::{BoundaryEdges, FaultSchedule};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::Spec;
use fuzz_dist_core::store::RunDir;
use fuzz_dist_nemesis::guard::{Guard, GuardEvent, SpawnRequest};
use fuzz_dist_nemesis::net::Network;
use fuzz_dist_nemesis::plane::{CONTROL_VARIABLE, Options, PlaneClient, TOKEN_VARIABLE};

use crate::agents::{Agents, WorkerEvent};
use crate::cluster::{Cluster, RESTARTS_MAX, Rescue};
use crate::live;
use crate::mesh::Mesh;
use crate::nemesis::planes::{self, Planes, Tools};
use crate::nemesis::reaction::Happenings;
use crate::nemesis::{Active, Nemesis};
use crate::observer::Observations;
use crate::operations::{Operations, Tally};
use crate::phases::{Healed, Phases};
use crate::plan::{self, Plan};
use crate::recorder::Recorder;
use crate::request::{Check, Reporter, RunError};
use crate::status::{Phase, Sources, StatusThread};
use crate::stop::{Stop, StopReason};
use crate::telemetry::Telemetry;
use crate::tested;
use crate::workers::Workers;

/// How long the plane may take to dial back.
const PLANE_TIMEOUT: Duration = Duration::from_secs(10);

/// What crosses links is written there, in the folder of the run, if the spec asks for it.
const CAPTURE_FILE: &str = "links.pcapng";

/// Key of the plane at the guard.
const PLANE_KEY: &str = "plane";

/// Everything that a run has before its cluster starts.
pub(crate) struct Session<'a> {
    pub spec: &'a Spec,
    pub seed: Seed,
    pub mined: &'a [BoundaryEdges],
    pub files: &'a RunDir,
    pub recorder: &'a Recorder,
    pub reporter: &'a Arc<dyn Reporter>,
    pub stop: &'a Stop,
    pub agents: &'a Arc<Agents>,
    pub guard: &'a Arc<Guard>,
    pub network: Option<&'a Arc<Network>>,
    pub observations: &'a Observations,
    pub token: &'a str,
    pub schedule: Option<&'a FaultSchedule>,
}

impl Session<'_> {
    /// All phases, in order; versions of what ran.
    pub(crate) fn perform(
        &self,
        exe: &Path,
        inbox: Receiver<WorkerEvent>,
    ) -> Result<BTreeMap<String, String>, RunError> {
        self.recorder.phase("setup")?;
        self.reporter.line("starting the plane and the nodes");
        let closing = Arc::new(AtomicBool::new(false));
        let plane = Arc::new(self.start_plane(exe, &closing)?);
        let outcome = self.perform_on(&plane, inbox);
        // The plane ends with its client, which nobody needs to hear of.
        closing.store(true, Ordering::Release);
        outcome
    }

    fn perform_on(
        &self,
        plane: &Arc<PlaneClient>,
        inbox: Receiver<WorkerEvent>,
    ) -> Result<BTreeMap<String, String>, RunError> {
        let began = Instant::now();
        let cluster = Arc::new(self.new_cluster(plane)?);
        let tally = Arc::new(
            Tally::new().map_err(|e| RunError::Internal(format!("cannot count latencies: {e}")))?,
        );
        let sources = Sources {
            reporter: Arc::clone(self.reporter),
            phase: Phase::default(),
            recorder: self.recorder.clone(),
            tally: Arc::clone(&tally),
            active: Active::default(),
            cluster: Arc::clone(&cluster),
        };
        let (phase, active) = (sources.phase.clone(), sources.active.clone());
        let _status = StatusThread::start(sources);

        let nodes = cluster.directory();
        let (spec, agents) = (self.spec, Arc::clone(self.agents));
        let workers = Workers::new(spec, self.seed.0, agents, nodes, self.stop.clone());
        let mut operations = Operations::new(
            self.recorder.clone(),
            inbox,
            workers.placing(),
            plan::thread_count(spec)?,
            Duration::from_millis(spec.op_timeout_ms),
            tally,
            Arc::clone(self.reporter),
        );
        let mesh = Mesh::new(Arc::clone(self.agents), nodes.clone(), spec.cluster.connect);
        self.bring_up(&cluster, &mesh, &workers, &mut operations)?;
        if self.stop.is_set() {
            return Ok(BTreeMap::new());
        }
        {
            let (workers, mesh, reporter) =
                (workers.clone(), mesh.clone(), Arc::clone(self.reporter));
            cluster.on_rescue(Arc::new(move |node, rescue| {
                let reason = match rescue {
                    Rescue::Restarted { reason } => reason,
                    Rescue::GivenUp { reason } => {
                        reporter.line(&format!(
                            "{node} ends by itself again and again ({reason}) and is not started any more after \
                             {RESTARTS_MAX} restarts in a row: see the end of nodes/{node}/output.log of the run"
                        ));
                        return;
                    }
                };
                reporter.line(&format!("{node} had ended by itself ({reason}) and was started again"));
                mesh.connect();
                if let Err(reason) = workers.set_up_again(node) {
                    reporter.line(&format!("setup of {node} after its restart: {reason}"));
                }
            }));
        }
        let live = live::read(self.agents, &cluster.names())?;
        let tested = tested::find(Path::new("."), self.agents, &cluster.names());
        let value = tested::to_value(&tested);
        self.recorder.observer(self.recorder.now_ns(), tested::RECORD, None, value)?;
        let plan = Plan::new(spec, self.seed, self.schedule, &live, self.mined)?;
        plan.write_schedule(&self.files.schedule())?;
        plan.notes.iter().for_each(|note| self.reporter.line(note));
        let telemetry = Telemetry::new(operations.broadcaster(), &self.files.id(), &spec.name);
        let spec_of_all = Arc::new(spec.clone());
        let tools = Tools {
            spec: Arc::clone(&spec_of_all),
            schedule: Arc::new(plan.schedule.clone()),
            seed: self.seed,
            run_dir: self.run_dir(),
            plane: Arc::clone(plane),
            cluster: Arc::clone(&cluster),
            agents: Arc::clone(self.agents),
            guard: Arc::clone(self.guard),
            mesh: mesh.clone(),
            observations: self.observations.clone(),
            recorder: self.recorder.clone(),
            stop: self.stop.clone(),
        };
        let nemesis = Nemesis {
            planes: Planes::open(&tools, &plan.schedule)?,
            spec: spec_of_all,
            mesh: mesh.clone(),
            recorder: self.recorder.clone(),
            observations: self.observations.clone(),
            reporter: Arc::clone(self.reporter),
            telemetry: telemetry.clone(),
            stop: self.stop.clone(),
            over: Stop::default(),
            unhealed: Stop::default(),
            workers: workers.clone(),
            primaries: workers.primaries(),
            seed: self.seed,
            active,
            happenings: Happenings::default(),
            agents: Arc::clone(self.agents),
            schedule_file: self.files.schedule(),
        };
        telemetry.run_start();
        let phases = Phases {
            spec,
            recorder: self.recorder,
            reporter: self.reporter,
            stop: self.stop,
            telemetry: &telemetry,
            phase: &phase,
        };
        let mut generator = phases.main(&plan, &nemesis, &mut operations)?;
        let main_end_ns = self.recorder.now_ns();
        if !self.stop.is_set()
            && let Some(revived) = phases.heal(&nemesis)?
        {
            let (nemesis, mesh, cluster) = (&nemesis, &mesh, &*cluster);
            let healed = Healed { nemesis, mesh, cluster, revived, main_end_ns };
            phases.recover(&plan, &healed, &mut operations, &mut generator)?;
            phases.finish(&plan, &mut operations, generator.processes())?;
        }
        if !self.stop.is_set() {
            phases.tear_down(&workers, &mut operations)?;
        }
        telemetry.run_stop(began.elapsed());
        if !self.stop.is_set() {
            workers.flush_telemetry();
        }
        Ok(live.versions)
    }

    fn start_plane(&self, exe: &Path, closing: &Arc<AtomicBool>) -> Result<PlaneClient, RunError> {
        let internal = |text: String| RunError::Internal(format!("the link plane: {text}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| internal(e.to_string()))?;
        let address = listener.local_addr().map_err(|e| internal(e.to_string()))?;
        let env = BTreeMap::from([
            (CONTROL_VARIABLE.to_owned(), address.to_string()),
            (TOKEN_VARIABLE.to_owned(), self.token.to_owned()),
        ]);
        // Before it starts, so that an early death is heard.
        let events = self.guard.events();
        self.guard
            .spawn(SpawnRequest {
                key: PLANE_KEY.into(),
                argv: vec![exe.display().to_string(), "plane".into()],
                env,
                output: self.files.path().join("plane.log"),
                // It ends with the connection, and then ends what a dead guard cannot.
                outlives_guard: true,
                ..SpawnRequest::default()
            })
            .map_err(|e| internal(e.to_string()))?;
        let log = self.files.path().join("plane.log");
        let over = || match events.try_recv() {
            Ok(GuardEvent::Exited { key, exit, .. }) if key == PLANE_KEY => {
                Some(format!("its process ended ({exit}) before it dialled back"))
            }
            Ok(GuardEvent::Lost(_)) => Some("the guard process died".to_owned()),
            _ => self.stop.is_set().then(|| "the run was asked to stop".to_owned()),
        };
        let deadline = Instant::now() + PLANE_TIMEOUT;
        let plane = PlaneClient::accept(&listener, self.token, deadline, &over)
            .map_err(|e| internal(format!("{e}; see {}", log.display())))?;
        plane.configure(self.plane_options()).map_err(|e| internal(e.to_string()))?;
        watch_plane(events, self.stop.clone(), Arc::clone(closing));
        Ok(plane)
    }

    /// The folder of the run, absolute: nodes work in folders of their own, where a relative path means
    /// something else.
    fn run_dir(&self) -> PathBuf {
        std::path::absolute(self.files.path()).unwrap_or_else(|_| self.files.path().to_owned())
    }

    fn plane_options(&self) -> Options {
        let nemesis = &self.spec.nemesis;
        Options {
            plain_messages: planes::link::needs_plain_messages(self.spec, self.schedule),
            capture: nemesis.capture.then(|| self.run_dir().join(CAPTURE_FILE)),
        }
    }

    fn new_cluster(&self, plane: &Arc<PlaneClient>) -> Result<Cluster, RunError> {
        Cluster::new(crate::cluster::Parts {
            spec: self.spec.clone(),
            planes: planes::used(self.spec, self.schedule),
            schedule: self.schedule.cloned(),
            guard: Arc::clone(self.guard),
            plane: Arc::clone(plane),
            network: self.network.cloned(),
            agents: Arc::clone(self.agents),
            recorder: self.recorder.clone(),
            run: self.files.id(),
            run_dir: self.run_dir(),
            token: self.token.to_owned(),
        })
    }

    /// Nodes up, connected, with workers, set up and ready.
    fn bring_up(
        &self,
        cluster: &Cluster,
        mesh: &Mesh,
        workers: &Workers,
        operations: &mut Operations,
    ) -> Result<(), RunError> {
        let up = self.try_to_bring_up(cluster, mesh, workers, operations);
        // Whatever was noticed first: a VM that died says why.
        up.map_err(|error| match self.stop.is_set() {
            true => error,
            false => cluster.check_dying().err().unwrap_or(error),
        })
    }

    fn try_to_bring_up(
        &self,
        cluster: &Cluster,
        mesh: &Mesh,
        workers: &Workers,
        operations: &mut Operations,
    ) -> Result<(), RunError> {
        let deadline = Instant::now() + Duration::from_millis(self.spec.cluster.ready_timeout_ms);
        let check: Check<'_> = &|| cluster.check_alive();
        cluster.start_all()?;
        cluster.await_nodes(deadline, self.stop)?;
        let connected = !self.spec.cluster.connect
            || mesh.await_full_while(deadline, self.stop, check)?
            || self.stop.is_set();
        if !connected {
            return Err(RunError::Input(format!(
                "the nodes did not connect to each other within {} ms (cluster.ready_timeout_ms; \
                 set cluster.connect = false for a system that is not one cluster): {}",
                self.spec.cluster.ready_timeout_ms,
                cluster.explain_apart(&mesh.ask())
            )));
        }
        cluster.start_clients()?;
        let with_workers: Check<'_> = &|| {
            cluster.check_alive()?;
            cluster.check_workers()
        };
        operations.await_workers(deadline, with_workers, self.stop)?;
        workers.set_up_all(check)?;
        workers.await_ready(check)
    }
}

/// The death of the plane is a total partition that nobody asked for.
fn watch_plane(events: Receiver<GuardEvent>, stop: Stop, closing: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        while let Ok(event) = events.recv() {
            if let GuardEvent::Exited { key, exit, .. } = event
                && key == PLANE_KEY
                && !closing.load(Ordering::Acquire)
            {
                stop.ask(StopReason::Broken(format!(
                    "the link plane died ({exit}), which is a total partition that no schedule asked \
                     for"
                )));
            }
        }
    });
}
