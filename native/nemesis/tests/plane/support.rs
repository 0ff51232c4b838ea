//! What the tests and the bench of the plane share: a plane process, stock BEAM nodes, and patience.

// Each of its users needs another part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use fuzz_dist_core::fault::Link;
use fuzz_dist_nemesis::plane::{CONTROL_VARIABLE, LinkStats, PlaneClient, TOKEN_VARIABLE};

/// How long a condition may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives a value.
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

/// A directed link.
pub fn link(from: &str, to: &str) -> Link {
    Link { from: from.into(), to: to.into() }
}

/// Both directions between two nodes.
pub fn both(one: &str, other: &str) -> [Link; 2] {
    [link(one, other), link(other, one)]
}

/// A plane in a process of its own, and its client.
pub struct TestPlane {
    pub client: PlaneClient,
    pub process: Child,
}

impl Drop for TestPlane {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl TestPlane {
    pub fn start() -> TestPlane {
        let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let process = spawn_plane(&control, "secret");
        let client = PlaneClient::new(control.accept().unwrap().0, "secret").unwrap();
        assert_eq!(client.os_pid(), process.id());
        TestPlane { client, process }
    }

    /// Counters of one channel of one directed link.
    pub fn stats(&self, from: &str, to: &str, channel: &str) -> LinkStats {
        let stats = self.client.stats().unwrap();
        let found = stats
            .into_iter()
            .find(|stats| stats.link == link(from, to) && stats.channel == channel);
        found.unwrap_or_else(|| panic!("no channel {from} -> {to} ({channel})"))
    }
}

/// A plane process that dials `control`.
pub fn spawn_plane(control: &TcpListener, token: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_fuzz_dist_plane_test"))
        .env(CONTROL_VARIABLE, control.local_addr().unwrap().to_string())
        .env(TOKEN_VARIABLE, token)
        .spawn()
        .unwrap()
}

/// Evaluates lines of Erlang from standard input, and keeps what `monitor_nodes` tells.
const SHELL: &str = r#"
    Watch = fun Watch(Seen) ->
        receive
            {get, From, Ref} -> From ! {Ref, lists:reverse(Seen)}, Watch(Seen);
            clear -> Watch([]);
            {nodeup, Node, _} -> Watch([{nodeup, Node} | Seen]);
            {nodedown, Node, Info} ->
                Watch([{nodedown, Node, proplists:get_value(nodedown_reason, Info)} | Seen])
        end
    end,
    register(watch, spawn(fun() ->
        ok = net_kernel:monitor_nodes(true, [nodedown_reason]), Watch([]) end)),
    register(sink, spawn(fun() ->
        Sink = fun Sink(Seen) ->
            receive
                {get, From, Ref} -> From ! {Ref, lists:reverse(Seen)}, Sink(Seen);
                Other when is_binary(Other) -> Sink([byte_size(Other) | Seen]);
                Other -> Sink([Other | Seen])
            end
        end,
        Sink([]) end)),
    Port = open_port({fd, 0, 1}, [stream, {line, 100000}, eof]),
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

/// A stock node, driven line by line.
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
    /// Starts a node and waits until it answers.
    pub fn start(short: &str, epmd_port: u16) -> Node {
        Node::start_many(&[(short, epmd_port)]).remove(0)
    }

    /// Starts several at once.
    pub fn start_many(nodes: &[(&str, u16)]) -> Vec<Node> {
        let nodes: Vec<Node> =
            nodes.iter().map(|(short, epmd_port)| Node::spawn(short, *epmd_port)).collect();
        for node in &nodes {
            assert_eq!(node.answer("start"), "ready");
        }
        nodes
    }

    fn spawn(short: &str, epmd_port: u16) -> Node {
        Node::spawn_in(&[], short, epmd_port)
    }

    /// As a command behind another, which takes it elsewhere; there `short` is a full name.
    pub fn spawn_in(around: &[String], short: &str, epmd_port: u16) -> Node {
        let name = full_name(short);
        let address = name.split('@').nth(1).unwrap().replace('.', ",");
        let argv = [around, &["erl".to_owned()]].concat();
        let mut process = Command::new(&argv[0])
            .args(&argv[1..])
            .args(["-noinput", "-name", &name, "-setcookie", "plane_test", "-start_epmd", "false"])
            .args(["-kernel", "inet_dist_use_interface", &format!("{{{address}}}")])
            .args(["-kernel", "net_ticktime", "4", "-kernel", "net_setuptime", "3"])
            .args(["+S", "2:2", "-eval", SHELL])
            .env("ERL_EPMD_PORT", epmd_port.to_string())
            .env("ERL_CRASH_DUMP_BYTES", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(answer) = line.strip_prefix("=> ") {
                    let _ = sender.send(answer.to_owned());
                }
            }
        });
        Node { short: short.into(), process, input, answers }
    }

    /// The process id of its VM, which `erl` becomes.
    pub fn os_pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it answers.
    pub fn await_start(&self) {
        assert_eq!(self.answer("start"), "ready");
    }

    fn answer(&self, what: &str) -> String {
        self.answers
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("{} gave no answer to {what:?}", self.short))
    }

    /// Begins to evaluate an expression; the answer is to be taken with [`Node::finish`].
    pub fn begin(&mut self, expression: &str) {
        let line = expression.split_whitespace().collect::<Vec<_>>().join(" ");
        self.input.write_all(format!("{line}.\n").as_bytes()).unwrap();
    }

    pub fn finish(&self) -> String {
        self.answer("what was begun")
    }

    /// Evaluates an expression; returns the result as `~w` prints it.
    pub fn eval(&mut self, expression: &str) -> String {
        self.begin(expression);
        self.answer(expression)
    }

    /// Connects to another node. Tried again until it holds: what a heal lets go may be the rest of an older
    /// attempt, which the other node still answers when the next one comes.
    pub fn connect(&mut self, other: &str) {
        let ping = format!("net_adm:ping('{}')", full_name(other));
        eventually(&format!("{} connected to {other}", self.short), || {
            (self.eval(&ping) == "pong").then_some(())
        });
    }

    /// What `monitor_nodes` has told since the last [`Node::clear`].
    pub fn seen(&mut self) -> String {
        self.eval("R = make_ref(), watch ! {get, self(), R}, receive {R, Seen} -> Seen end")
    }

    /// Forgets what `monitor_nodes` has told.
    pub fn clear(&mut self) {
        self.eval("watch ! clear");
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

    /// What its `sink` has received, in order; of binaries the size.
    pub fn received(&mut self) -> String {
        self.eval("R = make_ref(), sink ! {get, self(), R}, receive {R, Seen} -> Seen end")
    }
}

/// The full name of a node; of what is one already, itself.
pub fn full_name(short: &str) -> String {
    if short.contains('@') { short.to_owned() } else { format!("{short}@127.0.0.1") }
}

/// A plane with two nodes that are connected.
pub fn connected_pair() -> (TestPlane, Node, Node) {
    connected_pair_of(TestPlane::start())
}

/// The same over a plane that was prepared.
pub fn connected_pair_of(plane: TestPlane) -> (TestPlane, Node, Node) {
    let ports = ["a", "b"].map(|short| (short, plane.client.add_node(short).unwrap()));
    let mut nodes = Node::start_many(&ports);
    let (b, mut a) = (nodes.remove(1), nodes.remove(0));
    a.connect("b");
    (plane, a, b)
}
