//! Clusters of real BEAM nodes behind the real plane, guard and agents' server.

#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fuzz_dist_core::clock::RunClock;
use fuzz_dist_core::history_file::{Header, Reader, Writer};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::{Naming, Nodes, Placement, PortSpec, Spec};
use fuzz_dist_core::{Op, Value};
use fuzz_dist_nemesis::guard::{Guard, ProcessTable, SpawnRequest};
use fuzz_dist_nemesis::plane::{CONTROL_VARIABLE, PlaneClient, TOKEN_VARIABLE};
use fuzz_dist_runner::RunError;
use fuzz_dist_runner::agents::{Agents, EVENTS_MAX, NodeEvent, Role, WorkerEvent};
use fuzz_dist_runner::cluster::{Cluster, Parts};
use fuzz_dist_runner::recorder::Recorder;
use fuzz_dist_runner::stop::Stop;
use tempfile::TempDir;

/// For what comes about in a second or two unless the machine is busy.
const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "token_of_this_test";

/// Everything around a cluster. Fields are dropped in this order.
struct Bench {
    cluster: Cluster,
    agents: Arc<Agents>,
    _plane: Arc<PlaneClient>,
    guard: Arc<Guard>,
    _inboxes: (Receiver<WorkerEvent>, Receiver<NodeEvent>),
    folder: TempDir,
}

/// The agent and its boot module, compiled once for all tests of this file.
fn ebin() -> &'static Path {
    static EBIN: OnceLock<TempDir> = OnceLock::new();
    let folder = EBIN.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../elixir_client/src");
        let status = Command::new("erlc")
            .arg("-o")
            .arg(folder.path())
            .args(["fuzz_dist_agent.erl", "fuzz_dist_boot.erl"].map(|file| source.join(file)))
            .status()
            .unwrap();
        assert!(status.success());
        folder
    });
    folder.path()
}

/// Two stock nodes that operations reach from client VMs, with `change`s.
fn spec(change: impl FnOnce(&mut Spec)) -> Spec {
    let mut spec = Spec { nodes: Nodes::Count(2), placement: Placement::Client, ..Spec::default() };
    spec.cluster.ready_timeout_ms = PATIENCE.as_millis() as u64;
    change(&mut spec);
    spec
}

fn erl(arguments: &[&str]) -> Vec<String> {
    ["erl", "-noinput"].iter().chain(arguments).map(|argument| (*argument).to_owned()).collect()
}

impl Bench {
    fn new(spec: Spec) -> Result<Bench, RunError> {
        let folder = TempDir::new().unwrap();
        let run_dir = folder.path().to_owned();
        Bench::in_folder(spec, folder, run_dir)
    }

    /// With another path to the folder.
    fn in_folder(spec: Spec, folder: TempDir, run_dir: PathBuf) -> Result<Bench, RunError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let run = format!("cluster-test-{}-{count}", std::process::id());
        let exe = PathBuf::from(env!("CARGO_BIN_EXE_fuzz_dist_runner_test"));
        let guard = Arc::new(Guard::start(&exe, &run).unwrap());
        let plane = Arc::new(start_plane(&guard, &exe, folder.path()));
        let (workers, worker_inbox) = sync_channel(EVENTS_MAX);
        let (nodes, node_inbox) = sync_channel(EVENTS_MAX);
        let agents = Arc::new(Agents::start(TOKEN, &run, workers, nodes).unwrap());
        let clock = RunClock::start();
        let header = Header {
            run: run.clone(),
            test: "t".into(),
            seed: Seed(1),
            clock,
            spec: String::new(),
        };
        let writer = Writer::create(folder.path().join("history.fdh"), &header).unwrap();
        let parts = Parts {
            schedule: None,
            spec,
            planes: Vec::new(),
            guard: Arc::clone(&guard),
            plane: Arc::clone(&plane),
            network: None,
            agents: Arc::clone(&agents),
            recorder: Recorder::new(writer, clock),
            run,
            run_dir,
            token: TOKEN.into(),
        };
        let cluster = Cluster::with_ebin(parts, ebin().to_owned())?;
        let inboxes = (worker_inbox, node_inbox);
        Ok(Bench { cluster, agents, _plane: plane, guard, _inboxes: inboxes, folder })
    }

    /// With all nodes ready.
    fn started(spec: Spec) -> Bench {
        let bench = Bench::new(spec).unwrap();
        bench.cluster.start_all().unwrap();
        bench.cluster.await_nodes(Instant::now() + PATIENCE, &Stop::default()).unwrap();
        bench
    }

    /// The error of nodes that do not become ready.
    fn failure(spec: Spec, within: Duration) -> String {
        let bench = Bench::new(spec).unwrap();
        let started = bench.cluster.start_all();
        let error = started
            .and_then(|()| bench.cluster.await_nodes(Instant::now() + within, &Stop::default()))
            .unwrap_err();
        assert_eq!(error.exit_code(), 254, "{error}");
        error.to_string()
    }

    /// What a function of the node returns.
    fn call(&self, node: &str, module: &str, function: &str, arguments: Vec<Value>) -> Value {
        let link = self.agents.get(Role::Node, node).unwrap();
        let call =
            [Value::sym(module), Value::sym(function), Value::list(arguments), Value::Int(10_000)];
        link.ask("call", call, PATIENCE).unwrap()
    }

    fn records(&self, f: &str, node: &str) -> Vec<Op> {
        let recovered = Reader::open(self.folder.path().join("history.fdh")).unwrap();
        let fits = |op: &Op| op.f.as_str() == f && op.node.is_some_and(|n| n.as_str() == node);
        recovered.ops.into_iter().filter(|op| fits(op)).collect()
    }

    /// Of every process of the run, as every user of the machine reads them.
    fn command_lines(&self) -> Vec<String> {
        let processes = ProcessTable::read().unwrap().descendants(&[self.guard.pid()]);
        let line = |pid: i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        processes.iter().map(|p| String::from_utf8_lossy(&line(p.pid)).into_owned()).collect()
    }

    fn assert_no_secret_is_public(&self, cookie: &str) {
        let lines = self.command_lines();
        assert!(lines.iter().any(|line| line.contains("beam")), "{lines:?}");
        let secret = lines.iter().find(|line| line.contains(cookie) || line.contains(TOKEN));
        assert_eq!(secret, None);
        let files =
            self.cluster.names().into_iter().map(|node| {
                self.folder.path().join("nodes").join(node).join("home/.erlang.cookie")
            });
        for file in files {
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        }
    }

    fn file(&self, path: &str) -> String {
        let path = self.folder.path().join(path);
        let mut text = String::new();
        wait_until(&format!("{} is written", path.display()), || {
            text = std::fs::read_to_string(&path).unwrap_or_default();
            text.ends_with('.')
        });
        text
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let left = self.guard.end().unwrap();
        assert!(left.remaining.is_empty(), "{left:?}");
    }
}

fn start_plane(guard: &Guard, exe: &Path, folder: &Path) -> PlaneClient {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let env = [(CONTROL_VARIABLE, address), (TOKEN_VARIABLE, TOKEN.to_owned())];
    guard
        .spawn(SpawnRequest {
            key: "plane".into(),
            argv: vec![exe.display().to_string(), "plane".into()],
            env: env.map(|(name, value)| (name.to_owned(), value)).into(),
            output: folder.join("plane.log"),
            ..SpawnRequest::default()
        })
        .unwrap();
    PlaneClient::new(listener.accept().unwrap().0, TOKEN).unwrap()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn stock_nodes_come_up_suffer_and_come_back() {
    let bench = Bench::started(spec(|spec| {
        spec.cluster.net_ticktime_s = 7;
        spec.cluster.net_tickintensity = 5;
        spec.cluster.prevent_overlapping_partitions = false;
    }));
    let cluster = &bench.cluster;
    assert_eq!(cluster.up_count(), 2);
    assert!(cluster.answers("n1") && cluster.answers("n2"));

    let peer = Value::sym("n2@127.0.0.1");
    assert_eq!(bench.call("n1", "net_adm", "ping", vec![peer]), Value::sym("pong"));
    assert_eq!(bench.call("n1", "net_kernel", "get_net_ticktime", Vec::new()), Value::Int(7));
    for (setting, value) in [
        ("net_tickintensity", Value::Int(5)),
        ("prevent_overlapping_partitions", Value::Bool(false)),
    ] {
        let arguments = vec![Value::sym("kernel"), Value::sym(setting), Value::Nil];
        assert_eq!(bench.call("n1", "application", "get_env", arguments), value);
    }
    let expected = bench.folder.path().join("nodes/n1/data").canonicalize().unwrap();
    let here = bench.call("n1", "filename", "absname", vec![Value::str("x")]);
    assert_eq!(here.as_text(), expected.join("x").to_str());

    cluster.pause("n1").unwrap();
    wait_until("n1 is paused", || cluster.is_paused("n1"));
    assert!(cluster.is_up("n1") && !cluster.answers("n1") && cluster.answers("n2"));
    cluster.resume("n1").unwrap();
    wait_until("n1 answers", || cluster.answers("n1"));
    assert!(!cluster.is_paused("n1"));

    let (first, generation) = (cluster.os_pid("n1"), cluster.generation("n1"));
    cluster.pause("n1").unwrap();
    cluster.kill("n1").unwrap();
    wait_until("n1 is gone", || !cluster.is_up("n1"));
    assert!(!cluster.answers("n1"));
    assert_eq!(cluster.up_count(), 1);
    wait_until("its end is recorded", || !bench.records("node-exited", "n1").is_empty());
    assert!(cluster.kill("n1").unwrap_err().to_string().contains("has ended"));

    cluster.start("n1").unwrap();
    assert!(cluster.await_agents(Instant::now() + PATIENCE, &Stop::default()));
    assert_eq!(cluster.generation("n1"), generation + 1);
    assert_ne!(cluster.os_pid("n1"), first);
    // One that runs stays: the watchdog may have been quicker.
    cluster.start("n1").unwrap();
    assert_eq!(cluster.generation("n1"), generation + 1);

    // An orderly stop takes a while; a start waits for it.
    cluster.terminate("n1").unwrap();
    cluster.start("n1").unwrap();
    assert!(cluster.await_agents(Instant::now() + PATIENCE, &Stop::default()));

    cluster.terminate("n1").unwrap();
    cluster.pause("n2").unwrap();
    wait_until("n1 has ended in order", || !cluster.is_up("n1"));
    cluster.revive_all().unwrap();
    assert!(cluster.await_agents(Instant::now() + PATIENCE, &Stop::default()));

    wait_until("four starts are ready", || bench.records("node-ready", "n1").len() == 4);
    assert_eq!(bench.records("node-started", "n1").len(), 4);
    let exits = bench.records("node-exited", "n1");
    assert_eq!(exits[0].value.get("signal"), Some(&Value::Int(9)));
    assert_eq!(exits.len(), 3);
    assert!(exits[1..].iter().all(|exit| exit.value.get("status") == Some(&Value::Int(0))));
}

#[test]
fn a_node_that_boots_with_us_dials_by_itself_and_scripts_may_stand_around_the_vm() {
    let bench = Bench::started(spec(|spec| {
        // The shell stays, so the VM is another process than what was started.
        let script = "erl -noinput -s fuzz_dist_boot start; echo over";
        spec.cluster.command = ["sh", "-c", script].map(String::from).to_vec();
    }));
    let cluster = &bench.cluster;
    let link = bench.agents.get(Role::Node, "n1").unwrap();
    assert_ne!(link.os_pid(), cluster.os_pid("n1").map(|pid| pid as u32));
    cluster.pause("n1").unwrap();
    wait_until("both are stopped", || cluster.is_paused("n1"));
    cluster.kill("n1").unwrap();
    wait_until("both are gone", || !cluster.is_up("n1"));
    wait_until("its connection is over", || !link.is_alive());
}

#[test]
fn releases_and_commands_name_their_nodes_themselves() {
    let release = Bench::started(spec(|spec| {
        spec.cluster.naming = Naming::Release;
        spec.cluster.cookie = Some("given_to_a_release".into());
        let script = "exec erl -noinput -name $RELEASE_NODE -setcookie $RELEASE_COOKIE";
        spec.cluster.command = ["sh", "-c", script].map(String::from).to_vec();
    }));
    let cookie = release.call("n1", "erlang", "get_cookie", Vec::new());
    assert_eq!(cookie, Value::sym("given_to_a_release"));
    release.assert_no_secret_is_public("given_to_a_release");
    assert_eq!(release.cluster.directory().all()[1], ("n2".into(), "n2@127.0.0.1".into()));
    let command = Bench::started(spec(|spec| {
        spec.nodes = Nodes::Names(vec!["left".into()]);
        spec.cluster.naming = Naming::Command;
        spec.cluster.cookie = Some("given".into());
        spec.cluster.command = erl(&["-name", "{name}"]);
    }));
    let cookie = command.call("left", "erlang", "get_cookie", Vec::new());
    assert_eq!(cookie, Value::sym("given"));
}

/// Also where a user has a cookie file, and where the command brings a home folder of its own.
#[test]
fn no_secret_is_on_a_command_line_and_no_file_is_readable_by_others() {
    let bench = Bench::started(spec(|spec| {
        spec.cluster.command = erl(&["-setcookie", "not_the_runs"]);
        spec.cluster.env.insert("GIVEN".into(), "{cookie}".into());
    }));
    bench.cluster.start_clients().unwrap();
    let cookie = bench.cluster.cookie().to_owned();
    assert!(cookie.len() >= 32, "{cookie}");
    let found = bench.call("n2", "erlang", "get_cookie", Vec::new());
    assert_eq!(found, Value::sym(&cookie));
    wait_until("the client VM runs", || {
        bench.command_lines().iter().any(|l| l.contains("-hidden"))
    });
    bench.assert_no_secret_is_public(&cookie);

    let elsewhere = tempfile::tempdir().unwrap();
    let bench = Bench::started(spec(|spec| {
        spec.cluster.env.insert("HOME".into(), elsewhere.path().display().to_string());
    }));
    bench.assert_no_secret_is_public(bench.cluster.cookie());
}

#[test]
fn a_relative_run_folder_means_the_same_in_every_node() {
    let folder = TempDir::new_in(".").unwrap();
    let relative = PathBuf::from(folder.path().file_name().unwrap());
    let spec = spec(|spec| {
        spec.nodes = Nodes::Count(1);
        let tell = "ok = file:write_file(os:getenv(\"STATE\"), os:getenv(\"ERL_CRASH_DUMP\") ++ \".\"), \
                    receive never -> ok end.";
        spec.cluster.command = erl(&["-eval", tell]);
        spec.cluster.env.insert("STATE".into(), "{data_dir}/state".into());
    });
    let bench = Bench::in_folder(spec, folder, relative).unwrap();
    bench.cluster.start_all().unwrap();
    bench.cluster.await_nodes(Instant::now() + PATIENCE, &Stop::default()).unwrap();
    let dump = bench.file("nodes/n1/data/state");
    let folder = Path::new(&dump).parent().unwrap();
    assert!(folder.is_absolute() && folder.is_dir(), "{dump}");
}

#[test]
fn clients_are_hidden_and_ports_go_through_the_plane() {
    let bench = Bench::started(spec(|spec| {
        spec.cluster.ports = vec![PortSpec { name: "echo".into() }];
        let serve = "{ok, L} = gen_tcp:listen({port:echo}, [{ip, {127,0,0,1}}]), \
                     {ok, S} = gen_tcp:accept(L), gen_tcp:send(S, \"{short}\"), \
                     receive never -> ok end.";
        spec.cluster.command = erl(&["-eval", serve]);
        let ask = "pong = net_adm:ping('n1@127.0.0.1'), \
                   P = list_to_integer(os:getenv(\"FUZZ_DIST_PORT_ECHO_N2\")), \
                   {ok, S} = gen_tcp:connect({127,0,0,1}, P, [{active, false}]), \
                   {ok, Said} = gen_tcp:recv(S, 2), \
                   file:write_file(\"seen\", io_lib:format(\"~p.\", [{Said, nodes(), nodes(hidden)}])), \
                   receive never -> ok end.";
        spec.client.command = erl(&["-eval", ask]);
    }));
    bench.cluster.start_clients().unwrap();
    let seen = bench.file("nodes/c1/data/seen");
    assert_eq!(seen.replace(char::is_whitespace, ""), "{\"n2\",[],['n1@127.0.0.1']}.");
    // A hidden connection is hidden at both ends.
    let hidden = bench.call("n1", "erlang", "nodes", vec![Value::sym("hidden")]);
    assert!(hidden.to_string().contains("c1@127.0.0.1"), "{hidden}");
    bench.cluster.check_alive().unwrap();
}

#[test]
fn a_client_that_ends_is_explained() {
    let bench = Bench::new(spec(|spec| {
        spec.client.command = ["sh", "-c", "echo no luck; exit 7"].map(String::from).to_vec();
    }))
    .unwrap();
    bench.cluster.start_clients().unwrap();
    let mut error = String::new();
    wait_until("the end of c1 is noticed", || {
        error = bench.cluster.check_alive().err().map(|e| e.to_string()).unwrap_or_default();
        !error.is_empty()
    });
    assert!(error.contains("c1 ended") && error.contains("exit status 7"), "{error}");
    assert!(error.contains("  | no luck"), "{error}");
}

#[test]
fn a_node_that_does_not_end_when_asked_is_killed_to_be_started_again() {
    let bench = Bench::new(spec(|spec| {
        let stubborn = "trap '' TERM; exec sleep 600";
        spec.cluster.command = ["sh", "-c", stubborn].map(String::from).to_vec();
    }))
    .unwrap();
    bench.cluster.start_all().unwrap();
    // Only once the shell has set its trap and become the other program.
    let cmdline = format!("/proc/{}/cmdline", bench.cluster.os_pid("n1").unwrap());
    wait_until("n1 sleeps", || std::fs::read(&cmdline).unwrap().starts_with(b"sleep"));
    bench.cluster.terminate("n1").unwrap();
    bench.cluster.start("n1").unwrap();
    assert_eq!(bench.cluster.generation("n1"), 2);
    wait_until("its end is recorded", || !bench.records("node-exited", "n1").is_empty());
    assert_eq!(bench.records("node-exited", "n1")[0].value.get("signal"), Some(&Value::Int(9)));
}

#[test]
fn a_run_that_should_stop_is_not_waited_for() {
    let bench = Bench::new(spec(|spec| {
        spec.cluster.command = ["sleep", "600"].map(String::from).to_vec();
    }))
    .unwrap();
    bench.cluster.start_all().unwrap();
    let stop = Stop::default();
    stop.ask(fuzz_dist_runner::stop::StopReason::Interrupted("Ctrl-C".into()));
    bench.cluster.await_nodes(Instant::now() + PATIENCE, &stop).unwrap();
    assert!(!bench.cluster.await_agents(Instant::now() + PATIENCE, &stop));
}

#[test]
fn what_does_not_become_ready_is_explained() {
    let command = |command: &[&str]| {
        let command: Vec<String> = command.iter().map(|part| (*part).to_owned()).collect();
        spec(|spec| spec.cluster.command = command)
    };
    let missing = Bench::failure(command(&["no_such_erl"]), PATIENCE);
    assert!(
        missing.contains("n1 could not be started: no_such_erl: command not found"),
        "{missing}"
    );

    let ends = Bench::failure(command(&["sh", "-c", "echo Bye; exit 3"]), PATIENCE);
    assert!(ends.contains("exit status 3") && ends.contains("  | Bye"), "{ends}");

    let daemon = Bench::failure(command(&["true"]), PATIENCE);
    assert!(daemon.contains("does not stay in the foreground"), "{daemon}");

    let undefined = command(&["erl", "-noinput", "-s", "no_such_module"]);
    let undefined = Bench::failure(undefined, PATIENCE);
    assert!(
        undefined.contains("n") && undefined.contains("module or function is missing"),
        "{undefined}"
    );

    let silent = Bench::failure(command(&["sleep", "600"]), Duration::from_millis(500));
    // All of them are silent; whichever is looked at when the time is up is named.
    assert!(silent.contains("has not registered the name n"), "{silent}");
    assert!(silent.contains("output.log is empty"), "{silent}");

    let nameless = spec(|spec| {
        spec.cluster.naming = Naming::Command;
        spec.cluster.command = erl(&["-name", "{name}", "-setcookie", "other"]);
        spec.nodes = Nodes::Count(1);
    });
    let other_cookie = Bench::failure(nameless, Duration::from_secs(15));
    assert!(other_cookie.contains("it has another cookie than the run"), "{other_cookie}");

    let placeholder = Bench::failure(command(&["erl", "{nmae}"]), PATIENCE);
    assert!(placeholder.contains("cluster.command: the placeholder {nmae}"), "{placeholder}");
}
