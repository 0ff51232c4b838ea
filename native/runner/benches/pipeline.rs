//! Operations a second through the whole system, against a bare echo over the same websockets.
//!
//! Two BEAMs with a worker each, 100 logical processes whose operation returns at once. In turns: the
//! bare echo (each of 100 terms goes out again when it comes back; no generator, no history, no user's
//! process), and the pipeline (generator, history on disk, websocket, Elixir worker, completion).
//! Medians of the rounds and their ratio.
//!
//! Needs `target/release/fuzz_dist` (or FUZZ_DIST_BIN), the client library's ebin (FUZZ_DIST_EBIN) and
//! `echo.beam` in `target/demo/ebin`: `bin/bench` makes them.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::{Duration, Instant};

use fuzz_dist_core::Value;
use fuzz_dist_core::clock::RunClock;
use fuzz_dist_core::history_file::{Header, Writer};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_nemesis::guard::{Guard, SpawnRequest};
use fuzz_dist_runner::agents::message::tagged;
use fuzz_dist_runner::agents::{Agents, EVENTS_MAX, Link, Role, WorkerEvent};
use fuzz_dist_runner::operations::{Operations, Placing, Tally, Until};
use fuzz_dist_runner::recorder::{Recorder, map};
use fuzz_dist_runner::stop::Stop;
use fuzz_dist_schedule::{Env, Expr, Interpreter, compile};

type Outcome<T> = Result<T, Box<dyn Error>>;

const IN_FLIGHT: usize = 100;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const NODES: [&str; 2] = ["n1", "n2"];

fn main() -> Outcome<()> {
    // `cargo test --benches` builds and runs this too: only `cargo bench` measures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let from_env =
        |name: &str, default: PathBuf| std::env::var_os(name).map_or(default, PathBuf::from);
    let exe = from_env("FUZZ_DIST_BIN", root.join("target/release/fuzz_dist"));
    let ebin =
        from_env("FUZZ_DIST_EBIN", root.join("elixir_client/_build/prod/lib/fuzz_dist/ebin"));
    let scratch = tempfile::tempdir()?;
    let (workers, inbox) = sync_channel(EVENTS_MAX);
    let (nodes, _observer) = sync_channel(EVENTS_MAX);
    let agents = Arc::new(Agents::start("bench", "bench", workers, nodes)?);
    let guard = Guard::start(&exe, "bench")?;
    for node in NODES {
        start_vm(&guard, node, &agents, &root, &ebin, scratch.path())?;
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let links: Vec<Arc<Link>> = NODES
        .iter()
        .map(|node| {
            agents
                .wait_for(Role::Worker, node, deadline, Link::is_alive)
                .ok_or_else(|| format!("no worker from {node}; see its output above").into())
        })
        .collect::<Outcome<_>>()?;

    let clock = RunClock::start();
    let header = Header {
        run: "bench".into(),
        test: "bench".into(),
        seed: Seed(1),
        clock,
        spec: String::new(),
    };
    let file = scratch.path().join("history.fdh");
    let recorder = Recorder::new(Writer::create(&file, &header)?, clock);
    let mut bench = Bench { links, recorder, agents: Arc::clone(&agents), inbox: Some(inbox) };
    let (mut echoes, mut pipelines) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        echoes.push(bench.echo()?);
        pipelines.push(bench.pipeline(round as u64)?);
        println!(
            "round {round}: echo {:>9.0}/s   pipeline {:>9.0}/s",
            echoes[round], pipelines[round]
        );
    }
    let (echo, pipeline) = (median(&mut echoes), median(&mut pipelines));
    let bytes = std::fs::metadata(&file)?.len() as f64;
    let reader = fuzz_dist_core::history_file::Reader::open(&file)?;
    let records = reader.ops.len() as f64;
    println!("echo      {echo:>9.0} round trips/s ({IN_FLIGHT} in flight, {} nodes)", NODES.len());
    println!("pipeline  {pipeline:>9.0} operations/s");
    println!("ratio     {:>9.2} of the bare echo", pipeline / echo);
    println!(
        "history   {:>9.1} bytes an operation (invocation and completion)",
        bytes * 2.0 / records
    );
    guard.end()?;
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn start_vm(
    guard: &Guard,
    node: &str,
    agents: &Agents,
    root: &std::path::Path,
    ebin: &std::path::Path,
    scratch: &std::path::Path,
) -> Outcome<()> {
    let env = [
        ("FUZZ_DIST_CORE", agents.address().to_string()),
        ("FUZZ_DIST_TOKEN", "bench".into()),
        ("FUZZ_DIST_NODE", node.into()),
        ("FUZZ_DIST_RUN", "bench".into()),
        ("FUZZ_DIST_WORKER", "1".into()),
    ];
    let arguments = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"];
    let mut argv: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    for path in [ebin.to_owned(), root.join("target/demo/ebin")] {
        argv.extend(["-pa".to_owned(), path.display().to_string()]);
    }
    guard.spawn(SpawnRequest {
        key: node.into(),
        argv,
        env: env.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<BTreeMap<_, _>>(),
        output: scratch.join(format!("{node}.log")),
        ..SpawnRequest::default()
    })?;
    Ok(())
}

struct Bench {
    links: Vec<Arc<Link>>,
    recorder: Recorder,
    agents: Arc<Agents>,
    inbox: Option<Receiver<WorkerEvent>>,
}

impl Bench {
    /// Each term that comes back goes out again.
    fn echo(&mut self) -> Outcome<f64> {
        let inbox = self.inbox.as_ref().ok_or("no inbox")?;
        let op = |id: usize| {
            let value = Value::tuple(vec![Value::Int(5), Value::Int(17)]);
            let items = [Value::Int(id as i64), Value::Int(4), Value::sym("write"), value];
            tagged("echo", [Value::tuple(items)])
        };
        for id in 0..IN_FLIGHT {
            self.links[id % self.links.len()].send(op(id));
        }
        let began = Instant::now();
        let mut count = 0u64;
        while began.elapsed() < ROUND {
            if let WorkerEvent::Echo(link, term) = inbox.recv_timeout(ROUND)? {
                count += 1;
                link.send(term);
            }
        }
        let rate = count as f64 / began.elapsed().as_secs_f64();
        // Let what is in flight land before the next measurement.
        let mut left = IN_FLIGHT;
        while left > 0 {
            if let WorkerEvent::Echo(..) = inbox.recv_timeout(ROUND)? {
                left -= 1;
            }
        }
        Ok(rate)
    }

    fn pipeline(&mut self, seed: u64) -> Outcome<f64> {
        let nodes: Vec<String> = NODES.iter().map(ToString::to_string).collect();
        let init = map([
            ("module", Value::str("Echo")),
            ("options", Value::map([])),
            ("nodes", Value::list(Vec::new())),
            ("placement", Value::sym("node")),
            ("op_timeout_ms", Value::Int(5000)),
        ]);
        let placing = Placing {
            workers: nodes.clone(),
            nodes: nodes.clone(),
            initialise: Arc::new(move |link: &Link| {
                link.ask("init", [init.clone()], Duration::from_secs(10))
                    .map(drop)
                    .map_err(|e| e.to_string())
            }),
        };
        let tally = Arc::new(Tally::new()?);
        // The interpreter takes the workers over as if they had just connected.
        let (handed, inbox) = channel();
        for node in NODES {
            let link = self.agents.get(Role::Worker, node).ok_or("a worker has gone")?;
            handed.send(WorkerEvent::Up(link))?;
        }
        let own = self.inbox.take().ok_or("no inbox")?;
        let stop = Stop::default();
        let mut operations = Operations::new(
            self.recorder.clone(),
            inbox,
            placing,
            IN_FLIGHT as u32,
            Duration::from_secs(5),
            Arc::clone(&tally),
            Arc::new(Silent),
        );
        let over = stop.clone();
        let rate = std::thread::scope(|scope| -> Outcome<(f64, Receiver<WorkerEvent>)> {
            // Passes completions on: the channel of the server is the bench's.
            let forward = scope.spawn(move || {
                while !over.is_set() {
                    if let Ok(event) = own.recv_timeout(Duration::from_millis(100))
                        && handed.send(event).is_err()
                    {
                        break;
                    }
                }
                own
            });
            let deadline = Instant::now() + Duration::from_secs(30);
            operations.await_workers(deadline, &|| Ok(()), &stop)?;
            let expr =
                Expr::parse(&serde_json::json!({"time-limit": [ROUND.as_secs_f64(), {"clients":
                {"mix": [
                    {"f": "read", "value": {"tuple": [{"int": [0, 99]}, null]}},
                    {"f": "write", "value": {"tuple": [{"int": [0, 99]}, {"int": [0, 4]}]}}
                ]}}]}))?;
            let env = Env::new(IN_FLIGHT as u32, &nodes, Seed(seed));
            let mut generator = Interpreter::new(compile(&expr, &env)?, IN_FLIGHT as u32);
            let began = Instant::now();
            operations.run(&mut generator, &Until::default(), &stop)?;
            let rate = tally.look().ok as f64 / began.elapsed().as_secs_f64();
            operations.close();
            stop.ask(fuzz_dist_runner::stop::StopReason::Interrupted("over".into()));
            let own = forward.join().map_err(|_| "the forwarding thread panicked")?;
            Ok((rate, own))
        })?;
        self.inbox = Some(rate.1);
        Ok(rate.0)
    }
}

/// Nobody is told anything.
struct Silent;

impl fuzz_dist_runner::Reporter for Silent {
    fn status(&self, _: &fuzz_dist_runner::Status) {}
    fn line(&self, _: &str) {}
}
