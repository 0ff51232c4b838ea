//! A real run in the middle of things: two nodes, one of them paused, every link held, port programs and their
//! orphans alive. Tests end it in some way and look at what is left.
//!
//! Everything of the run is known before its end by process id and start time (also what cleared its
//! environment), and its sockets by inode, so that what others on this machine do at the same time is
//! neither taken for a leftover nor hides one.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuzz_dist_nemesis::guard::{Identity, ProcessState, ProcessTable, RUN_VARIABLE, state};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::{Ended, finish, root};

/// For what comes about in seconds unless the machine is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What may pass between the end of a run and the end of its last process. Two seconds are promised; a machine
/// that is busy with other tests gets more, and the time is printed.
pub const CLEAN_MAX: Duration = Duration::from_secs(5);

/// One run at a time, since they are measured.
static TURN: Mutex<()> = Mutex::new(());

/// Waits until a condition holds; its time.
pub fn wait_until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < patience, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    started.elapsed()
}

/// The compiled library of the clients.
pub fn client_library() -> PathBuf {
    let named = std::env::var_os("FUZZ_DIST_EBIN").filter(|value| !value.is_empty());
    let folders = named.map(PathBuf::from).into_iter().chain(
        ["test", "prod", "dev"]
            .map(|env| root().join(format!("elixir_client/_build/{env}/lib/fuzz_dist/ebin"))),
    );
    let mut folders = folders.filter(|folder| folder.join("fuzz_dist_agent.beam").is_file());
    folders.next().expect("compile elixir_client first: `mix compile`")
}

/// What a run of a [`Stage`] is.
#[derive(Debug)]
pub struct Play<'a> {
    /// The name of the test.
    pub name: &'a str,
    /// The client's module and source.
    pub module: &'a str,
    pub source: &'a str,
    /// The spec but for its name, nodes, cluster and client; tables last.
    pub spec: &'a str,
    /// The schedule.
    pub schedule: Option<&'a str>,
}

/// The folder of a run with its own store, temporary folder and home.
#[derive(Debug)]
pub struct Stage {
    folder: tempfile::TempDir,
    name: String,
    ebin: PathBuf,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Stage {
    /// Writes the files and compiles the client.
    pub fn set(play: &Play) -> Stage {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let stage = Stage { _turn: Some(turn), ..Stage::bare(play.name) };
        let spec = format!(
            "name = \"{}\"\nnodes = 2\n{}\n[cluster]\nready_timeout_ms = 60000\n\
             command = [\"elixir\", \"--no-halt\", \"--erl\", \"-noinput\", \"-e\", \
             \":fuzz_dist_boot.start()\"]\ncode_paths = [\"code\"]\n\
             [client]\nmodule = \"{}\"\noptions = {{ folder = \"{}\" }}\n",
            play.name,
            play.spec,
            play.module,
            stage.folder.path().display()
        );
        fs::write(stage.path("spec.toml"), spec).unwrap();
        fs::write(stage.path("client.ex"), play.source).unwrap();
        if let Some(schedule) = play.schedule {
            fs::write(stage.path("schedule.json"), schedule).unwrap();
        }
        let mut compiler = Command::new("elixirc");
        compiler.arg("-pa").arg(&stage.ebin).arg("-o").arg(stage.path("code"));
        let compiled = finish(compiler.arg(stage.path("client.ex")), b"");
        assert_eq!(compiled.code, Some(0), "{compiled:?}");
        stage
    }

    /// With empty folders, for a test of this name that writes `spec.toml` itself and lets others run beside it.
    pub fn bare(name: &str) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage { folder, name: name.into(), ebin: client_library(), _turn: None };
        for folder in ["code", "tmp", "home"] {
            fs::create_dir(stage.path(folder)).unwrap();
        }
        stage
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn surround<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .current_dir(self.folder.path())
            .env("FUZZ_DIST_EBIN", &self.ebin)
            .env("TMPDIR", self.path("tmp"))
            .env("HOME", self.path("home"))
            .env_remove(RUN_VARIABLE)
    }

    /// Another command of the binary on this store.
    pub fn fuzz_dist(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fuzz_dist"));
        finish(self.surround(&mut command).args(arguments), b"")
    }

    /// Starts the run; its life line is the end of the pipe that the child has.
    pub fn run(self) -> Live {
        let mut command = Command::new("bash");
        self.surround(&mut command)
            // As descriptor 3, which is what mix passes; the process stays the same.
            .args(["-c", r#"exec 3<&0 </dev/null; exec "$0" "$@" --life-line-fd 3"#])
            .arg(env!("CARGO_BIN_EXE_fuzz_dist"))
            .args(["run", "spec.toml"]);
        if self.path("schedule.json").exists() {
            command.args(["--schedule", "schedule.json"]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let before = self.entries();
        let mut core = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (mut from, to) = (core.stderr.take().unwrap(), Arc::clone(&said));
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        let mut live =
            Live { stage: self, core, said, reader: Some(reader), id: String::new(), before };
        live.id = live.await_id();
        live
    }

    /// Everything in the folder but the store, with everything in the temporary folder and the home.
    fn entries(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for folder in [self.folder.path().to_owned(), self.path("tmp"), self.path("home")] {
            found.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.remove(&self.path("store"));
        found
    }
}

/// A run that goes on.
#[derive(Debug)]
pub struct Live {
    pub stage: Stage,
    core: Child,
    said: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    id: String,
    before: BTreeSet<PathBuf>,
}

/// Who takes part in a run: its processes and listening sockets.
#[derive(Debug)]
pub struct Cast {
    pub guard: Identity,
    pub plane: Identity,
    /// With core, guard and plane.
    all: BTreeSet<(i32, u64)>,
    /// Port and inode.
    listening: BTreeSet<(u16, u64)>,
}

impl Cast {
    /// And who takes part later.
    pub fn add(&mut self, later: Cast) {
        self.all.extend(later.all);
        self.listening.extend(later.listening);
    }

    /// Everybody who has taken part, by process id.
    pub fn pids(&self) -> impl Iterator<Item = i32> {
        self.all.iter().map(|(pid, _)| *pid)
    }

    fn alive(&self) -> Vec<i32> {
        let all = self.all.iter().map(|&(pid, start_time)| Identity { pid, start_time });
        all.filter(Identity::is_alive).map(|process| process.pid).collect()
    }
}

/// The words of a command line.
fn words(pid: i32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0);
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Port and inode of every listening TCP socket of this network namespace.
fn listening() -> BTreeSet<(u16, u64)> {
    const LISTEN: &str = "0A";
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|file| fs::read_to_string(file).unwrap_or_default());
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, port) = fields.get(1)?.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (*fields.get(3)? == LISTEN).then_some((port, fields.get(9)?.parse().ok()?))
    };
    tables.iter().flat_map(|table| table.lines().skip(1).filter_map(socket)).collect()
}

/// The inodes of the sockets that a process has.
pub fn sockets(pid: i32) -> BTreeSet<u64> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return BTreeSet::new() };
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inode =
        |link: PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    links.filter_map(inode).collect()
}

impl Live {
    pub fn core_pid(&self) -> i32 {
        self.core.id() as i32
    }

    pub fn run_dir(&self) -> PathBuf {
        self.stage.path(&self.run_dir_shown())
    }

    /// As the core names it.
    pub fn run_dir_shown(&self) -> String {
        format!("store/{}/{}", self.stage.name, self.id)
    }

    /// What the core has said on standard error.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn await_id(&mut self) -> String {
        let latest = self.stage.path("store/latest");
        wait_until("the folder of the run", PATIENCE, || {
            self.assert_goes_on();
            latest.exists()
        });
        let folder = latest.canonicalize().unwrap();
        folder.file_name().unwrap().to_str().unwrap().to_owned()
    }

    pub fn assert_goes_on(&mut self) {
        if let Some(status) = self.core.try_wait().unwrap() {
            panic!("the run has ended ({status}): {}", self.said());
        }
    }

    /// Whether the core has.
    pub fn has_ended(&mut self) -> bool {
        self.core.try_wait().unwrap().is_some()
    }

    /// Waits until the core's log contains all of these.
    pub fn await_log(&mut self, parts: &[&str]) {
        let file = self.run_dir().join("core.log");
        wait_until(&format!("{parts:?} in core.log"), PATIENCE, || {
            self.assert_goes_on();
            let log = fs::read_to_string(&file).unwrap_or_default();
            parts.iter().all(|part| log.contains(part))
        });
    }

    /// Waits until among the descendants of the core so many commands begin with this word.
    pub fn await_programs(&mut self, program: &str, count: usize) {
        let core = self.core_pid();
        wait_until(&format!("{count} programs {program}"), PATIENCE, || {
            self.assert_goes_on();
            let all = ProcessTable::read().unwrap().descendants(&[core]);
            all.iter().filter(|process| words(process.pid)[0] == program).count() >= count
        });
    }

    /// Waits until a process of the run is stopped.
    pub fn await_paused(&mut self) {
        let core = self.core_pid();
        wait_until("a paused node", PATIENCE, || {
            self.assert_goes_on();
            let all = ProcessTable::read().unwrap().descendants(&[core]);
            all.iter().any(|process| state(process.pid) == ProcessState::Stopped)
        });
    }

    /// All processes below the core.
    pub fn descendants(&self) -> Vec<Identity> {
        ProcessTable::read().unwrap().descendants(&[self.core_pid()])
    }

    /// Processes with the run in their environment, whoever their parent is.
    pub fn carrying(&self) -> Vec<Identity> {
        ProcessTable::read().unwrap().with_environment(RUN_VARIABLE, &self.id)
    }

    /// The process of ours that plays this part.
    pub fn child_playing(&self, role: &str) -> Option<Identity> {
        self.descendants().into_iter().find(|process| {
            words(process.pid).get(1..) == Some(&[role.to_owned(), String::new()][..])
        })
    }

    /// Everybody who takes part now.
    pub fn cast(&self) -> Cast {
        self.cast_if_whole().expect("no guard, or no plane")
    }

    /// Everybody who takes part now; `None` when guard or plane are not there yet, or gone.
    pub fn cast_if_whole(&self) -> Option<Cast> {
        let core = Identity::of(self.core_pid())?;
        let mut all = ProcessTable::read().unwrap().descendants(&[core.pid]);
        let role = |role: &str| {
            let plays = |process: &&Identity| words(process.pid).get(1).is_some_and(|w| w == role);
            all.iter().find(plays).copied()
        };
        let (guard, plane) = (role("guard")?, role("plane")?);
        all.push(core);
        let inodes: BTreeSet<u64> = all.iter().flat_map(|process| sockets(process.pid)).collect();
        let listening: BTreeSet<(u16, u64)> =
            listening().into_iter().filter(|(_, inode)| inodes.contains(inode)).collect();
        // The core listens as long as it lives, and so do most of the others, if not in a network of their own.
        assert!(!listening.is_empty(), "{listening:?}");
        let all = all.iter().map(|process| (process.pid, process.start_time)).collect();
        Some(Cast { guard, plane, all, listening })
    }

    pub fn kill(&self, pid: i32, signal: Signal) {
        signal::kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Lets go of the pipe that says that whoever asked for the run is there.
    pub fn cut_life_line(&mut self) {
        drop(self.core.stdin.take().unwrap());
    }

    /// Waits until no process and no socket of the run is left; the time since `began`.
    pub fn until_clean(&mut self, cast: &Cast, began: Instant) -> Duration {
        loop {
            // The core is our child: it stays a zombie, which does not count, until it is waited for.
            let alive = cast.alive();
            let carrying = match alive.is_empty() {
                true => ProcessTable::read().unwrap().with_environment(RUN_VARIABLE, &self.id),
                false => Vec::new(),
            };
            let open: Vec<(u16, u64)> =
                listening().intersection(&cast.listening).copied().collect();
            if alive.is_empty() && carrying.is_empty() && open.is_empty() {
                return began.elapsed();
            }
            if began.elapsed() > CLEAN_MAX * 4 {
                let left: Vec<String> = alive
                    .iter()
                    .copied()
                    .chain(carrying.iter().map(|process| process.pid))
                    .map(|pid| format!("{pid} {:?} {}", state(pid), words(pid).join(" ")))
                    .collect();
                panic!("left behind: {left:#?}, listening {open:?}; said: {}", self.said());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end of the core; how it ended and all that it said.
    pub fn end(&mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_until("the end of the core", PATIENCE, || {
            status = self.core.try_wait().unwrap();
            status.is_some()
        });
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (status.unwrap(), self.said())
    }

    /// No file outside of the store, and nobody of the run (looked for again, now that the core is gone).
    pub fn assert_nothing_left(&self, cast: &Cast) {
        assert_eq!(self.stage.entries(), self.before, "outside of the store");
        assert_eq!(cast.alive(), Vec::<i32>::new());
        let carrying = ProcessTable::read().unwrap().with_environment(RUN_VARIABLE, &self.id);
        assert_eq!(carrying, Vec::new());
    }

    /// `fuzz_dist analyze` gives a verdict.
    pub fn assert_analysable(&self) -> Ended {
        let ended = self.stage.fuzz_dist(&["analyze", path_text(&self.run_dir())]);
        assert!(matches!(ended.code, Some(0..=2)), "{ended:?}");
        assert!(ended.stderr.contains("verdict  "), "{ended:?}");
        ended
    }
}

/// A path of these tests as text.
pub fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The exit code, or what killed it.
pub fn code(status: ExitStatus) -> Result<i32, Option<i32>> {
    status.code().ok_or(status.signal())
}

impl Drop for Live {
    fn drop(&mut self) {
        // Of a test that failed; the guard ends the rest.
        drop(self.core.kill());
        drop(self.core.wait());
    }
}
