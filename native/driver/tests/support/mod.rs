//! Nodes with the carrier and stock nodes, with an EPMD of their own, and the socket over which faults are asked for.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The longest that anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition gives something.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "did not happen within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The driver that was built with this test.
pub fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap();
    [folder, folder.parent().unwrap()]
        .iter()
        .map(|folder| folder.join("libfuzz_dist_driver.so"))
        .find(|path| path.is_file())
        .expect("the driver is built before its tests")
}

/// A place with an EPMD and the compiled carrier.
pub struct Ground {
    folder: tempfile::TempDir,
    epmd: Child,
    epmd_port: u16,
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = self.epmd.kill();
        let _ = self.epmd.wait();
    }
}

impl Ground {
    pub fn new() -> Ground {
        let folder = tempfile::tempdir().unwrap();
        let (epmd, epmd_port) = epmd();
        let ground = Ground { folder, epmd, epmd_port };
        ground
            .compile(concat!(env!("CARGO_MANIFEST_DIR"), "/../../elixir_client/src/fuzz_dist.erl"));
        ground
    }

    /// Compiles a module that every node started after it has.
    pub fn compile(&self, source: &str) {
        let compiled = Command::new("erlc").arg("-o").arg(self.path()).arg(source).status();
        assert!(compiled.unwrap().success(), "{source}");
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where a node listens for faults.
    pub fn socket(&self, short: &str) -> PathBuf {
        self.path().join(format!("{short}.socket"))
    }

    /// A node over the carrier.
    pub fn node(&self, short: &str) -> Node {
        self.start(short, &["-proto_dist", "fuzz"], &[])
    }

    /// A node over the carrier whose frames each carry one whole message.
    pub fn plain_node(&self, short: &str) -> Node {
        self.start(short, &["-proto_dist", "fuzz"], &[("FUZZ_DIST_CARRIER_PLAIN", "1")])
    }

    /// A node as it comes.
    pub fn stock_node(&self, short: &str) -> Node {
        self.start(short, &[], &[])
    }

    /// A node as it comes, with another EPMD: that of a plane of links.
    pub fn stock_node_at(&self, short: &str, epmd_port: u16) -> Node {
        self.start(short, &[], &[("ERL_EPMD_PORT", &epmd_port.to_string())])
    }

    fn start(&self, short: &str, flags: &[&str], environment: &[(&str, &str)]) -> Node {
        let mut process = Command::new("erl")
            .args(["-noinput", "-name", &full_name(short), "-setcookie", "driver_test"])
            .args(flags)
            .arg("-pa")
            .arg(self.path())
            .args(["-start_epmd", "false", "-kernel", "inet_dist_use_interface", "{127,0,0,1}"])
            .args(["-kernel", "net_ticktime", "4", "-kernel", "net_setuptime", "3"])
            .args(["-kernel", "prevent_overlapping_partitions", "false"])
            .args(["+S", "2:2", "-eval", SHELL])
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_CRASH_DUMP_BYTES", "0")
            .env("FUZZ_DIST_CARRIER_LIBRARY", library())
            .env("FUZZ_DIST_CARRIER_SOCKET", self.socket(short))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                match line.strip_prefix("=> ") {
                    Some(answer) => drop(sender.send(answer.to_owned())),
                    None => eprintln!("{line}"),
                }
            }
        });
        let node = Node { short: short.into(), process, input, answers };
        assert_eq!(node.finish(), "ready");
        node
    }

    /// The driver of a node, to ask for faults.
    pub fn control(&self, short: &str) -> Control {
        let stream = UnixStream::connect(self.socket(short)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let answers = BufReader::new(stream.try_clone().unwrap());
        Control { stream, answers, next_id: 0 }
    }
}

/// An EPMD on a free port. Another program may take the port first, and then a further one is tried.
fn epmd() -> (Child, u16) {
    for _ in 0..20 {
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut epmd = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &port.to_string()])
            .spawn()
            .unwrap();
        let is_ours = eventually("epmd", || match epmd.try_wait().unwrap() {
            Some(_) => Some(false),
            None => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(true),
        });
        if is_ours {
            return (epmd, port);
        }
    }
    panic!("no free port for epmd");
}

/// Evaluates lines of Erlang from standard input; keeps what `monitor_nodes` tells.
const SHELL: &str = r#"
    Keep = fun Keep(Seen) ->
        receive
            {get, From, Ref} -> From ! {Ref, lists:reverse(Seen)}, Keep(Seen);
            clear -> Keep([]);
            {nodeup, Node, _} -> Keep([{nodeup, Node} | Seen]);
            {nodedown, Node, Info} ->
                Keep([{nodedown, Node, proplists:get_value(nodedown_reason, Info)} | Seen]);
            Other -> Keep([Other | Seen])
        end
    end,
    register(watch, spawn(fun() ->
        ok = net_kernel:monitor_nodes(true, [nodedown_reason]), Keep([]) end)),
    register(sink, spawn(fun() -> Keep([]) end)),
    Port = open_port({fd, 0, 1}, [stream, {line, 1000000}, eof]),
    Shell = fun Shell() ->
        receive
            {Port, {data, {eol, Line}}} ->
                {ok, Tokens, _} = erl_scan:string(Line),
                {ok, Expressions} = erl_parse:parse_exprs(Tokens),
                Result = try element(2, erl_eval:exprs(Expressions, []))
                         catch Class:Reason -> {Class, Reason} end,
                port_command(Port, io_lib:format("=> ~w~n", [Result])),
                Shell();
            {Port, eof} -> halt(0)
        end
    end,
    port_command(Port, "=> ready\n"),
    Shell().
"#;

/// A node, driven line by line.
pub struct Node {
    pub short: String,
    process: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Node {
    /// Begins to evaluate; the answer is to be taken with [`Node::finish`].
    pub fn begin(&mut self, expression: &str) {
        let line = expression.split_whitespace().collect::<Vec<_>>().join(" ");
        self.input.write_all(format!("{line}.\n").as_bytes()).unwrap();
    }

    pub fn finish(&self) -> String {
        let answer = self.answers.recv_timeout(2 * PATIENCE);
        answer.unwrap_or_else(|_| panic!("{} gave no answer", self.short))
    }

    /// The answer, if it is there.
    pub fn try_finish(&self) -> Option<String> {
        self.answers.try_recv().ok()
    }

    /// Evaluates; the result is as `~w` prints it.
    pub fn eval(&mut self, expression: &str) -> String {
        self.begin(expression);
        self.finish()
    }

    /// Connects, tried again until it holds.
    pub fn connect(&mut self, other: &str) {
        eventually(&format!("{} connected to {other}", self.short), || {
            (self.ping(other) == "pong").then_some(())
        });
    }

    pub fn ping(&mut self, other: &str) -> String {
        self.eval(&format!("net_adm:ping('{}')", full_name(other)))
    }

    /// What `monitor_nodes` has told.
    pub fn seen(&mut self) -> String {
        self.kept("watch")
    }

    /// What the process `sink` has received.
    pub fn received(&mut self) -> String {
        self.kept("sink")
    }

    fn kept(&mut self, who: &str) -> String {
        self.eval(&format!("R = make_ref(), {who} ! {{get, self(), R}}, receive {{R, S}} -> S end"))
    }

    /// Waits for a `nodedown` and returns its reason.
    pub fn nodedown_reason(&mut self, other: &str) -> String {
        let start = format!("{{nodedown,'{}',", full_name(other));
        eventually(&format!("nodedown of {other} on {}", self.short), || {
            let seen = self.seen();
            let (_, rest) = seen.split_once(&start)?;
            Some(rest.split('}').next().unwrap_or_default().to_owned())
        })
    }

    /// How much memory the process of the node has, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// How many descriptors the process of the node has open.
    pub fn descriptor_count(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect()
    }
}

/// Asks a driver for faults.
pub struct Control {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
    next_id: u64,
}

impl Control {
    /// Asks anything.
    pub fn ask(&mut self, line: &str) -> Value {
        self.stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    /// Begins a fault; returns its number.
    pub fn apply(&mut self, peer: &str, direction: &str, fault: &str) -> u64 {
        self.next_id += 1;
        let (id, peer) = (self.next_id, full_name(peer));
        let answer = self.ask(&format!(
            r#"{{"op":"apply","id":{id},"peer":"{peer}","direction":"{direction}","fault":{fault}}}"#
        ));
        assert!(answer["monotonic_ns"].is_u64(), "{answer}");
        id
    }

    /// Begins a fault of both directions with every peer.
    pub fn apply_to_all(&mut self, fault: &str) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        let answer = self.ask(&format!(r#"{{"op":"apply","id":{id},"fault":{fault}}}"#));
        assert!(answer["monotonic_ns"].is_u64(), "{answer}");
        id
    }

    pub fn heal(&mut self, id: u64) {
        let answer = self.ask(&format!(r#"{{"op":"heal","id":{id}}}"#));
        assert!(answer["monotonic_ns"].is_u64(), "{answer}");
    }

    /// One count of what has happened on connections to a peer, of both directions.
    pub fn count(&mut self, peer: &str, name: &str) -> u64 {
        let answer = self.ask(r#"{"op":"stats"}"#);
        let peers = answer["peers"].as_array().unwrap();
        let found = peers.iter().filter(|stats| stats["peer"] == full_name(peer).as_str());
        found.map(|stats| stats[name].as_u64().unwrap()).sum()
    }
}

/// The full name of a node.
pub fn full_name(short: &str) -> String {
    format!("{short}@127.0.0.1")
}
