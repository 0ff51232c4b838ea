//! Functions that take a time, or have one when they are given none.

/// What a site is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// How long a caller waits for a server: `gen_server:call`, `GenServer.call`, `gen:call`.
    Call,
    /// `receive … after`.
    ReceiveAfter,
    /// A message or call later, once: `erlang:send_after`, `timer:apply_after`.
    Timer,
    /// Again and again: `timer:send_interval`.
    Interval,
    /// `timer:sleep`, `Process.sleep`.
    Sleep,
    /// A call of a function of another node: `rpc`, `erpc`.
    Rpc,
    /// How long a task is awaited: `Task.await`.
    Task,
    /// Connecting and reading of sockets: `gen_tcp:connect`.
    Socket,
    /// A time-out of a state machine: `{state_timeout, Time, Content}`.
    StateTimeout,
    /// How long a supervisor waits for a child to end.
    Shutdown,
    /// The period in which a supervisor counts restarts.
    Restarts,
    /// An entry of an application's environment.
    Env,
}

impl Kind {
    /// Every kind, in the order of summaries.
    pub const ALL: [Kind; 12] = [
        Kind::Call,
        Kind::ReceiveAfter,
        Kind::Timer,
        Kind::Interval,
        Kind::Sleep,
        Kind::Rpc,
        Kind::Task,
        Kind::Socket,
        Kind::StateTimeout,
        Kind::Shutdown,
        Kind::Restarts,
        Kind::Env,
    ];

    /// As in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Call => "call",
            Kind::ReceiveAfter => "receive-after",
            Kind::Timer => "timer",
            Kind::Interval => "interval",
            Kind::Sleep => "sleep",
            Kind::Rpc => "rpc",
            Kind::Task => "task",
            Kind::Socket => "socket",
            Kind::StateTimeout => "state-timeout",
            Kind::Shutdown => "shutdown",
            Kind::Restarts => "restarts",
            Kind::Env => "env",
        }
    }
}

/// Where a function has its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// Milliseconds, or `infinity`, in this argument, counted from 0.
    Argument(usize),
    /// In the option `timeout` of this argument, or so many milliseconds.
    Option(usize, u64),
    /// So many milliseconds, since it is not asked.
    Default(u64),
    /// It waits for ever.
    Infinity,
    /// Options of a supervisor in this argument.
    Supervisor(usize),
}

use Kind::{Call, Interval, Restarts, Rpc, Sleep, Socket, Task, Timer};
use Time::{Argument, Default, Infinity, Option, Supervisor};

/// Module, function, arity, what it is, where its time is.
type Row = (&'static str, &'static str, u32, Kind, Time);

/// Functions of Erlang/OTP.
const ERLANG: &[Row] = &[
    ("gen_server", "call", 2, Call, Default(5_000)),
    ("gen_server", "call", 3, Call, Argument(2)),
    ("gen_server", "multi_call", 2, Call, Infinity),
    ("gen_server", "multi_call", 3, Call, Infinity),
    ("gen_server", "multi_call", 4, Call, Argument(3)),
    ("gen_server", "stop", 1, Call, Infinity),
    ("gen_server", "stop", 3, Call, Argument(2)),
    ("gen_server", "receive_response", 1, Call, Infinity),
    ("gen_server", "receive_response", 2, Call, Argument(1)),
    ("gen_server", "wait_response", 2, Call, Argument(1)),
    ("gen_statem", "call", 2, Call, Infinity),
    ("gen_statem", "call", 3, Call, Argument(2)),
    ("gen_statem", "stop", 1, Call, Infinity),
    ("gen_statem", "stop", 3, Call, Argument(2)),
    ("gen_event", "call", 3, Call, Default(5_000)),
    ("gen_event", "call", 4, Call, Argument(3)),
    ("gen_fsm", "sync_send_event", 2, Call, Default(5_000)),
    ("gen_fsm", "sync_send_event", 3, Call, Argument(2)),
    ("gen_fsm", "sync_send_all_state_event", 2, Call, Default(5_000)),
    ("gen_fsm", "sync_send_all_state_event", 3, Call, Argument(2)),
    ("gen_fsm", "start_timer", 2, Timer, Argument(0)),
    ("gen_fsm", "send_event_after", 2, Timer, Argument(0)),
    ("gen", "call", 3, Call, Default(5_000)),
    ("gen", "call", 4, Call, Argument(3)),
    ("sys", "get_state", 1, Call, Default(5_000)),
    ("sys", "get_state", 2, Call, Argument(1)),
    ("sys", "get_status", 1, Call, Default(5_000)),
    ("sys", "get_status", 2, Call, Argument(1)),
    ("sys", "replace_state", 2, Call, Default(5_000)),
    ("sys", "replace_state", 3, Call, Argument(2)),
    ("sys", "suspend", 1, Call, Default(5_000)),
    ("sys", "suspend", 2, Call, Argument(1)),
    ("sys", "resume", 1, Call, Default(5_000)),
    ("sys", "resume", 2, Call, Argument(1)),
    ("proc_lib", "start", 4, Call, Argument(3)),
    ("proc_lib", "start_link", 4, Call, Argument(3)),
    ("proc_lib", "stop", 3, Call, Argument(2)),
    ("ra", "process_command", 2, Call, Default(5_000)),
    ("ra", "process_command", 3, Call, Argument(2)),
    ("ra", "local_query", 2, Call, Default(5_000)),
    ("ra", "local_query", 3, Call, Argument(2)),
    ("ra", "consistent_query", 2, Call, Default(5_000)),
    ("ra", "consistent_query", 3, Call, Argument(2)),
    ("mnesia", "wait_for_tables", 2, Call, Argument(1)),
    ("erlang", "send_after", 3, Timer, Argument(0)),
    ("erlang", "send_after", 4, Timer, Argument(0)),
    ("erlang", "start_timer", 3, Timer, Argument(0)),
    ("erlang", "start_timer", 4, Timer, Argument(0)),
    ("timer", "send_after", 2, Timer, Argument(0)),
    ("timer", "send_after", 3, Timer, Argument(0)),
    ("timer", "apply_after", 2, Timer, Argument(0)),
    ("timer", "apply_after", 3, Timer, Argument(0)),
    ("timer", "apply_after", 4, Timer, Argument(0)),
    ("timer", "exit_after", 2, Timer, Argument(0)),
    ("timer", "exit_after", 3, Timer, Argument(0)),
    ("timer", "kill_after", 1, Timer, Argument(0)),
    ("timer", "kill_after", 2, Timer, Argument(0)),
    ("timer", "send_interval", 2, Interval, Argument(0)),
    ("timer", "send_interval", 3, Interval, Argument(0)),
    ("timer", "apply_interval", 2, Interval, Argument(0)),
    ("timer", "apply_interval", 3, Interval, Argument(0)),
    ("timer", "apply_interval", 4, Interval, Argument(0)),
    ("timer", "apply_repeatedly", 2, Interval, Argument(0)),
    ("timer", "apply_repeatedly", 3, Interval, Argument(0)),
    ("timer", "apply_repeatedly", 4, Interval, Argument(0)),
    ("timer", "sleep", 1, Sleep, Argument(0)),
    ("rpc", "call", 4, Rpc, Infinity),
    ("rpc", "call", 5, Rpc, Argument(4)),
    ("rpc", "block_call", 4, Rpc, Infinity),
    ("rpc", "block_call", 5, Rpc, Argument(4)),
    ("rpc", "multicall", 3, Rpc, Infinity),
    ("rpc", "multicall", 5, Rpc, Argument(4)),
    ("rpc", "yield", 1, Rpc, Infinity),
    ("rpc", "nb_yield", 2, Rpc, Argument(1)),
    ("erpc", "call", 2, Rpc, Infinity),
    ("erpc", "call", 3, Rpc, Argument(2)),
    ("erpc", "call", 4, Rpc, Infinity),
    ("erpc", "call", 5, Rpc, Argument(4)),
    ("erpc", "multicall", 2, Rpc, Infinity),
    ("erpc", "multicall", 3, Rpc, Argument(2)),
    ("erpc", "multicall", 4, Rpc, Infinity),
    ("erpc", "multicall", 5, Rpc, Argument(4)),
    ("erpc", "receive_response", 2, Rpc, Argument(1)),
    ("erpc", "wait_response", 2, Rpc, Argument(1)),
    ("gen_tcp", "connect", 4, Socket, Argument(3)),
    ("gen_tcp", "recv", 3, Socket, Argument(2)),
    ("gen_tcp", "accept", 2, Socket, Argument(1)),
    ("ssl", "connect", 3, Socket, Argument(2)),
    ("ssl", "connect", 4, Socket, Argument(3)),
    ("ssl", "recv", 3, Socket, Argument(2)),
    ("ssl", "handshake", 2, Socket, Argument(1)),
    ("ssl", "handshake", 3, Socket, Argument(2)),
];

/// Functions of Elixir.
const ELIXIR: &[Row] = &[
    ("Elixir.GenServer", "call", 2, Call, Default(5_000)),
    ("Elixir.GenServer", "call", 3, Call, Argument(2)),
    ("Elixir.GenServer", "multi_call", 2, Call, Infinity),
    ("Elixir.GenServer", "multi_call", 3, Call, Infinity),
    ("Elixir.GenServer", "multi_call", 4, Call, Argument(3)),
    ("Elixir.GenServer", "stop", 1, Call, Infinity),
    ("Elixir.GenServer", "stop", 2, Call, Infinity),
    ("Elixir.GenServer", "stop", 3, Call, Argument(2)),
    ("Elixir.Agent", "get", 2, Call, Default(5_000)),
    ("Elixir.Agent", "get", 3, Call, Argument(2)),
    ("Elixir.Agent", "update", 2, Call, Default(5_000)),
    ("Elixir.Agent", "update", 3, Call, Argument(2)),
    ("Elixir.Agent", "get_and_update", 2, Call, Default(5_000)),
    ("Elixir.Agent", "get_and_update", 3, Call, Argument(2)),
    ("Elixir.Process", "send_after", 3, Timer, Argument(2)),
    ("Elixir.Process", "send_after", 4, Timer, Argument(2)),
    ("Elixir.Process", "sleep", 1, Sleep, Argument(0)),
    ("Elixir.Task", "await", 1, Task, Default(5_000)),
    ("Elixir.Task", "await", 2, Task, Argument(1)),
    ("Elixir.Task", "await_many", 1, Task, Default(5_000)),
    ("Elixir.Task", "await_many", 2, Task, Argument(1)),
    ("Elixir.Task", "yield", 1, Task, Default(5_000)),
    ("Elixir.Task", "yield", 2, Task, Argument(1)),
    ("Elixir.Task", "yield_many", 1, Task, Default(5_000)),
    ("Elixir.Task", "shutdown", 1, Task, Default(5_000)),
    ("Elixir.Task", "async_stream", 2, Task, Default(5_000)),
    ("Elixir.Task", "async_stream", 3, Task, Option(2, 5_000)),
    ("Elixir.Task", "async_stream", 4, Task, Default(5_000)),
    ("Elixir.Task", "async_stream", 5, Task, Option(4, 5_000)),
    ("Elixir.Task.Supervisor", "async_stream", 3, Task, Default(5_000)),
    ("Elixir.Task.Supervisor", "async_stream", 4, Task, Option(3, 5_000)),
    ("Elixir.Supervisor", "init", 2, Restarts, Supervisor(1)),
    ("Elixir.Supervisor", "start_link", 2, Restarts, Supervisor(1)),
    ("Elixir.DynamicSupervisor", "init", 1, Restarts, Supervisor(0)),
    ("Elixir.DynamicSupervisor", "start_link", 1, Restarts, Supervisor(0)),
];

/// What a function is, if it takes a time.
pub fn find(module: &str, function: &str, arity: u32) -> std::option::Option<(Kind, Time)> {
    let rows = if module.starts_with("Elixir.") { ELIXIR } else { ERLANG };
    let row = rows.iter().find(|row| row.2 == arity && row.1 == function && row.0 == module)?;
    Some((row.3, row.4))
}
