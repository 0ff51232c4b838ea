//! The table: every kind of fault, the smallest cluster that can show it, and what is to be read of it in the history.
//!
//! A row is what a spec says of the fault below `[[nemesis.faults]]`, so that it reads as a user writes it. A kind
//! without a row fails [`super::every_kind_has_a_row`].

use std::collections::BTreeSet;

use fuzz_dist_core::fault::Plane;

/// A cluster, in which rows are tried side by side or one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bed {
    /// Nodes that know nothing of each other: as many clusters of one node, in one run.
    Alone,
    /// The same, whose nodes have written something first: each is struck once.
    Stopped,
    /// Two nodes that never stop talking to each other.
    Pair,
    /// Two nodes that say nothing but ticks.
    Silent,
    /// Two nodes that never stop talking, with the port driver.
    Carried,
    /// Three nodes that are members as long as they are connected.
    Members,
    /// Three nodes with a table in Mnesia.
    Schema,
    /// Two nodes in network namespaces.
    Bridged,
}

/// Those that have rows.
pub fn beds() -> BTreeSet<Bed> {
    ROWS.iter().map(|row| row.bed).collect()
}

/// Another fault that this one needs to have something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// None.
    Nothing,
    /// One that begins before it and ends after it.
    Under(&'static str),
    /// One that begins after it and ends before it.
    Over(&'static str),
}

/// What of a node is left while the fault lasts, and so what can be killed of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// It runs, or at least its process is there.
    Lives,
    /// It is down until the heal: it is killed again when it comes back.
    IsDown,
}

/// One kind of fault.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Which of the planes.
    pub plane: Plane,
    /// As it is named.
    pub kind: &'static str,
    /// The smallest cluster that can show it.
    pub bed: Bed,
    /// The rest of its table in a spec.
    pub toml: &'static str,
    /// How long it needs to be seen.
    pub lasts_ms: u64,
    /// Part of the words in which its effect is told.
    pub seen: &'static str,
    /// Part of the words in which the effect of the heal is told.
    pub healed: &'static str,
    /// What it needs.
    pub beside: Beside,
    /// What becomes of its node.
    pub node: Node,
    /// Whether its effect shows only when it is over.
    pub shows_late: bool,
}

impl Row {
    const fn beside(self, beside: Beside) -> Row {
        Row { beside, ..self }
    }

    const fn lasting(self, lasts_ms: u64) -> Row {
        Row { lasts_ms, ..self }
    }

    /// Its node is down while it lasts.
    const fn down(self) -> Row {
        Row { node: Node::IsDown, lasts_ms: 2500, ..self }
    }

    /// As a table of a spec.
    pub fn table(&self) -> String {
        table(self.plane, self.kind, self.toml)
    }

    /// For people.
    pub fn name(&self) -> String {
        format!("{} {}", self.plane, self.kind)
    }
}

/// `[[nemesis.faults]]` of a kind.
pub fn table(plane: Plane, kind: &str, rest: &str) -> String {
    format!("[[nemesis.faults]]\nplane = \"{plane}\"\nkind = \"{kind}\"\n{rest}\n")
}

const fn row(
    (plane, kind, bed): (Plane, &'static str, Bed),
    toml: &'static str,
    seen: &'static str,
    healed: &'static str,
) -> Row {
    let (beside, node, shows_late) = (Beside::Nothing, Node::Lives, false);
    Row { plane, kind, bed, toml, lasts_ms: 900, seen, healed, beside, node, shows_late }
}

const fn link(kind: &'static str, toml: &'static str, seen: &'static str) -> Row {
    row((Plane::Link, kind, Bed::Pair), toml, seen, "bytes pass 2 of 2 links again")
}

const fn carrier(kind: &'static str, toml: &'static str, seen: &'static str) -> Row {
    row((Plane::Carrier, kind, Bed::Carried), toml, seen, "bytes pass 2 of 2 links again")
}

const fn net(kind: &'static str, toml: &'static str, seen: &'static str) -> Row {
    row((Plane::Net, kind, Bed::Bridged), toml, seen, "packets pass 2 of 2 links again")
        .lasting(1800)
}

const fn vm(
    kind: &'static str,
    toml: &'static str,
    seen: &'static str,
    healed: &'static str,
) -> Row {
    row((Plane::Vm, kind, Bed::Alone), toml, seen, healed)
}

/// Between two nodes.
const fn vm_of_two(kind: &'static str, seen: &'static str, healed: &'static str) -> Row {
    row((Plane::Vm, kind, Bed::Pair), "", seen, healed).lasting(1800)
}

const fn process(
    kind: &'static str,
    toml: &'static str,
    seen: &'static str,
    healed: &'static str,
) -> Row {
    row((Plane::Process, kind, Bed::Alone), toml, seen, healed).lasting(2500)
}

const fn clock(kind: &'static str, toml: &'static str, seen: &'static str) -> Row {
    row((Plane::Clock, kind, Bed::Alone), toml, seen, "is off by ").lasting(1800)
}

const fn disk(kind: &'static str, seen: &'static str) -> Row {
    let log = "files = [\"**/*.log\"]";
    row((Plane::Disk, kind, Bed::Alone), log, seen, "let pass again")
}

/// Of files of a stopped node.
const fn files(kind: &'static str, toml: &'static str, seen: &'static str) -> Row {
    row((Plane::Disk, kind, Bed::Stopped), toml, seen, "answers again").down()
}

const fn membership(
    kind: &'static str,
    toml: &'static str,
    seen: &'static str,
    healed: &'static str,
) -> Row {
    row((Plane::Membership, kind, Bed::Members), toml, seen, healed).lasting(3000)
}

const GONE: &str = "gone";
const NEW_LIFE: &str = "creation";
const STEADY: &str = "process = { registered = \"steady\" }";
const UNSAFE: &str = "allow_unsafe = true";
const LEAVE: &str =
    "[[nemesis.faults]]\nplane = \"membership\"\nkind = \"leave\"\nallow_unsafe = true\n";
const KILL: &str = "[[nemesis.faults]]\nkind = \"kill\"\n";
const JUMP: &str = "[[nemesis.faults]]\nkind = \"clock-jump\"\noffset_ms = -60000\n";
const CLOSE: &str = "[[nemesis.faults]]\nplane = \"carrier\"\nkind = \"close\"\n";
const LYING: &str = "[[nemesis.faults]]\nkind = \"disk-lying-fsync\"\nfiles = [\"**/*.log\"]\n";

/// By bed, in the order in which they are tried there.
pub const ROWS: &[Row] = &[
    // One node. In rounds of eight, side by side: what runs first, and what ends it last.
    disk("disk-eio", "failed with EIO"),
    disk("disk-enospc", "failed with ENOSPC"),
    disk("disk-short-write", "wrote less than they were given"),
    disk("disk-lying-fsync", "synced nothing"),
    clock("clock-jump", "offset_ms = 3600000", "is off by 3600000 ms"),
    clock("clock-strobe", "offset_ms = -5000\nperiod_ms = 200", "jumps there and back"),
    clock("clock-drift", "ppm = 20000", "is off by "),
    clock("clock-reset", "", "is off by ").beside(Beside::Under(JUMP)),
    vm("kill-process", STEADY, "is gone (killed)", "stands in its place"),
    vm(
        "exit-process",
        "process = { registered = \"trapper\" }\nreason = \"normal\"",
        "got the exit signal as a message",
        "stands in its place",
    ),
    vm("suspend", STEADY, "is suspended", "again"),
    vm("sys-suspend", STEADY, "handles system messages only", "is running again"),
    vm(
        "flood",
        "process = { registered = \"steady\" }\nmessages_per_s = 5000",
        "messages sent",
        "messages wait in",
    ),
    vm(
        "exhaust-restarts",
        "process = { registered = \"inner_sup\" }",
        "gave up after",
        "stands in its place",
    ),
    Row {
        shows_late: true,
        ..vm("stall-schedulers", "", "no process ran for", "processes run again")
    },
    vm("garbage", "megabytes = 8", "has collected", "8 MB are free again"),
    vm("set-cookie", "cookie = \"another\"", "has another cookie", "its own cookie again"),
    vm("dirty-block", "", "a dirty job waits", "a dirty job runs after").lasting(1800),
    vm(
        "load-module",
        "module = \"versioned\"\nfile = \"second/versioned.beam\"",
        "another version of versioned runs",
        "versioned",
    ),
    process("kill", "", GONE, NEW_LIFE).down(),
    process("pause", "", "stopped", "answers again"),
    process("restart", "host = \"127.1\"", GONE, NEW_LIFE).down(),
    process("stop", "", GONE, NEW_LIFE).down(),
    process("halt", "flush = true", GONE, NEW_LIFE).down(),
    process("crash-dump", "", "crashed, and writes its dump", NEW_LIFE),
    process("epmd-unregister", "", "up, and unknown to EPMD", "answers again"),
    process("epmd-late", "", "started again, and unknown to EPMD", NEW_LIFE),
    // One node with files.
    files("disk-lose-unsynced", "files = [\"**\"]\nlost = \"all\"", "synced.log")
        .beside(Beside::Under(LYING)),
    files("file-flip", "files = [\"idle.dat\"]\nprobability = 0.001", "bits flipped"),
    files("file-truncate", "files = [\"synced.log\"]\ndrop_bytes = 60", "bytes left"),
    files("file-restore", "files = [\"synced.log\"]", "as earlier"),
    // Two nodes and what is between them; what leaves the two ends of different minds is last.
    link("hold", "", "silenced 2 of 2 links"),
    link("delay", "latency_ms = 20\njitter_ms = 10", "delayed 2 of 2 links"),
    link("throttle", "bytes_per_s = 2000", "slowed 2 of 2 links"),
    link("ticks-only", "", "let only ticks through 2 of 2 links"),
    link("forged-ticks", "", "silenced behind forged ticks 2 of 2 links"),
    link(
        "drop-messages",
        "operations = [\"REG_SEND\"]\nprobability = 0.9",
        "dropped messages of 2 of 2 links",
    ),
    link(
        "delay-messages",
        "operations = [\"REG_SEND\"]\nlatency_ms = 100",
        "delayed messages of 2 of 2 links",
    ),
    link("refuse-connect", "", "refused connections on 2 of 2 links"),
    link("blackhole-connect", "", "left connections unanswered on 2 of 2 links"),
    vm_of_two("deaf", "no answer of ", "are read"),
    vm_of_two("disconnect", "nodedown of ", "again"),
    link("fin", "", "closed"),
    link("rst", "", "closed"),
    link("half-open", "", "closed one end of"),
    // Two nodes that are silent.
    Row { bed: Bed::Silent, ..link("no-ticks", "", "dropped the ticks of 2 of 2 links") }
        .lasting(1400),
    Row { bed: Bed::Silent, ..carrier("no-ticks", "", "suppressed ticks") }.lasting(1400),
    // Two nodes with the driver.
    carrier("hold", "", "frames and connects that wait"),
    carrier("delay", "latency_ms = 20\njitter_ms = 10", "late frames"),
    carrier("throttle", "bytes_per_s = 2000", "waits for the rate"),
    carrier("drop", "probability = 0.5", "lost frames"),
    carrier("ticks-only", "", "frames and connects that wait"),
    carrier("forged-ticks", "every_ms = 200", "forged ticks"),
    carrier("busy-port", "", "times that senders had to wait"),
    carrier("refuse-connect", "", "refused connects").beside(Beside::Over(CLOSE)),
    carrier("close", "", "closed connections"),
    // Three members.
    membership("leave", UNSAFE, "leave n", "is a member again"),
    membership("join", "", "join n", "stays a member").beside(Beside::Under(LEAVE)),
    membership("change", UNSAFE, "members are", "member"),
    // Mnesia forgets only whom it does not run on.
    Row {
        bed: Bed::Schema,
        node: Node::IsDown,
        ..membership(
            "forget",
            "allow_unsafe = true\nscope = \"last\"",
            "forget n3",
            "is a member again",
        )
    }
    .beside(Beside::Under(KILL)),
    // Two nodes in namespaces.
    net("net-drop", "", "dropped packets of 2 of 2 links"),
    net("net-reject", "", "rejected packets of "),
    net("net-rate", "bytes_per_s = 2000", "slowed 2 of 2 links"),
    net("netem", "latency_ms = 20", "emulated a bad network on 2 of 2 links"),
];
