//! The process `fuzz_dist plane`: dials the core, serves its requests, and ends with the connection.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use fuzz_dist_core::clock::monotonic_ns;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::protocol::{Answer, Command, Hello, Line, PROTOCOL, Request, parse_line, to_line};
use super::registry::Plane;
use super::timer::{Outcome, Purpose, Timer};
use super::{CONTROL_VARIABLE, TOKEN_VARIABLE};

/// The niceness of the process where the system allows it.
const NICE: i32 = -10;

/// Runs the plane until the core's connection ends. Exit codes: 0 when the core ended it, 254 for a bad
/// environment, 255 for a failure of ours. What is wrong goes to standard error.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("fuzz_dist plane: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the environment lacks {0}; the core starts this process, it is not for people")]
    Environment(&'static str),
    #[error("cannot reach the core at {address} ({CONTROL_VARIABLE}): {error}")]
    Dial { address: String, error: std::io::Error },
    #[error("{0}")]
    Protocol(String),
    #[error("{what}: {error}")]
    System { what: &'static str, error: std::io::Error },
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Environment(_) | Failure::Dial { .. } => 254,
            Failure::Protocol(_) | Failure::System { .. } => 255,
        }
    }

    fn system(what: &'static str) -> impl Fn(std::io::Error) -> Failure {
        move |error| Failure::System { what, error }
    }
}

fn run() -> Result<(), Failure> {
    let variable = |name| env::var(name).map_err(|_| Failure::Environment(name));
    let address = variable(CONTROL_VARIABLE)?;
    let token = variable(TOKEN_VARIABLE)?;
    let control = TcpStream::connect(&address)
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|error| Failure::Dial { address, error })?;
    raise_descriptor_limit();
    // Before there are threads, which inherit it. Waiting for a processor would look like a slow link, and
    // a thread that waits for one while it holds a lock would make faults late. Not allowed to everybody.
    let _ = rustix::process::setpriority_process(None, NICE);

    let (lines, outgoing) = mpsc::channel::<Line>();
    let writer = control.try_clone().map_err(Failure::system("control connection"))?;
    let hello =
        Hello { role: "plane".into(), protocol: PROTOCOL, token, os_pid: std::process::id() };
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || write_lines(writer, &hello, &outgoing))
        .map_err(Failure::system("control thread"))?;

    let plane = Arc::new(Plane::new(lines).map_err(Failure::system("epoll"))?);
    let timer = Timer::start().map_err(Failure::system("timer thread"))?;
    let acceptor = Arc::clone(&plane);
    std::thread::Builder::new()
        .name("acceptor".into())
        .spawn(move || {
            let error = acceptor.listeners().accept_for_ever(&acceptor);
            eprintln!("fuzz_dist plane: cannot accept any more: {error}");
            std::process::exit(255);
        })
        .map_err(Failure::system("acceptor thread"))?;
    let parent = std::os::unix::process::parent_id();
    let served = serve(&plane, &timer, control);
    mind_orphans(parent);
    served
}

/// How long the guard may take to die, or to end us, when the core is gone.
const GUARD_PATIENCE: Duration = Duration::from_secs(1);

/// When the guard dies with the core, this process is the only one that can still end the others.
fn mind_orphans(guard: u32) {
    let deadline = Instant::now() + GUARD_PATIENCE;
    while std::os::unix::process::parent_id() == guard {
        if Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    crate::leftovers::remove();
}

fn serve(plane: &Arc<Plane>, timer: &Timer, control: TcpStream) -> Result<(), Failure> {
    let mut reader = BufReader::new(control);
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return Ok(()), // The core is gone: so are we, and our proxies.
            Ok(_) => {}
        }
        let request: Request = parse_line("core", &line).map_err(Failure::Protocol)?;
        handle(plane, timer, request);
    }
}

fn write_lines(mut control: TcpStream, hello: &Hello, outgoing: &mpsc::Receiver<Line>) {
    let mut write = |text: Result<String, serde_json::Error>| match text {
        Ok(text) => control.write_all(text.as_bytes()).is_ok(),
        Err(error) => {
            eprintln!("fuzz_dist plane: cannot write a line: {error}");
            true
        }
    };
    let mut going = write(to_line(hello));
    while going {
        let Ok(line) = outgoing.recv() else { return };
        going = write(to_line(&line));
    }
}

/// Answers now, or has the timer answer at the time that the request names.
fn handle(plane: &Arc<Plane>, timer: &Timer, request: Request) {
    let Request { id, command } = request;
    match &command {
        Command::Heal { fault, at_monotonic_ns } if !is_future(*at_monotonic_ns) => {
            let fault = *fault;
            timer.call_off(|purpose| purpose == Purpose::Apply(fault));
        }
        Command::HealAll => timer.call_off(|_| true),
        _ => {}
    }
    let (at_ns, purpose) = match &command {
        Command::Apply { fault, at_monotonic_ns: Some(at_ns), .. } => {
            (*at_ns, Purpose::Apply(*fault))
        }
        Command::Heal { fault, at_monotonic_ns: Some(at_ns) } => (*at_ns, Purpose::Heal(*fault)),
        // It may connect, and wait for what comes of it; nothing else may wait for that.
        Command::Observe { fault } if plane.is_probed(*fault) => {
            let (shared, fault) = (Arc::clone(plane), *fault);
            let observe = move || {
                let result = shared.observe(fault).map(Answer::Observed);
                shared.tell(Line::Reply { id, result });
            };
            if let Err(error) = std::thread::Builder::new().name("probe".into()).spawn(observe) {
                plane.tell(Line::Reply { id, result: Err(format!("no thread: {error}")) });
            }
            return;
        }
        _ => return plane.tell(Line::Reply { id, result: execute(plane, command) }),
    };
    if let Command::Apply { fault, links, port, what, .. } = &command
        && let Err(error) = plane.check(*fault, links, port.as_deref(), what)
    {
        // Told now, not when its time comes. Only a fault whose id is still in use for a while is
        // refused too early by this, and schedules do not use ids twice.
        return plane.tell(Line::Reply { id, result: Err(error) });
    }
    let plane = Arc::clone(plane);
    let job = move |outcome| {
        let result = match outcome {
            Outcome::Due => execute(&plane, command),
            Outcome::CalledOff => Err(format!("{purpose:?} was called off by a heal")),
        };
        plane.tell(Line::Reply { id, result });
    };
    timer.at(at_ns, purpose, Box::new(job));
}

fn is_future(at_ns: Option<u64>) -> bool {
    at_ns.is_some_and(|at_ns| at_ns > monotonic_ns())
}

fn execute(plane: &Plane, command: Command) -> Result<Answer, String> {
    match command {
        Command::Configure(options) => plane.configure(options).map(|()| Answer::Configured),
        Command::AddNode { short } => plane.add_node(&short).map(Answer::EpmdPort),
        Command::AddTool => plane.add_tool().map(Answer::EpmdPort),
        Command::Registered { short } => Ok(Answer::Registered(plane.registered(&short))),
        Command::Mapper { short, fault } => {
            plane.set_mapper_fault(&short, fault);
            Ok(Answer::Registered(plane.registered(&short)))
        }
        Command::AddPort { target, name, real_port } => {
            plane.add_port(&target, &name, real_port).map(Answer::Ports)
        }
        Command::Apply { fault, links, port, what, .. } => {
            plane.apply(fault, &links, port.as_deref(), &what).map(Answer::Applied)
        }
        Command::Heal { fault, .. } => plane.heal(fault).map(Answer::Applied),
        Command::HealAll => plane.heal_all().map(Answer::Applied),
        Command::Stats => Ok(Answer::Stats(plane.stats())),
        Command::Observe { fault } => plane.observe(fault).map(Answer::Observed),
    }
}

/// A connection takes four descriptors, and every link a listener: as many as the system allows.
fn raise_descriptor_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, most, most)
    {
        eprintln!("fuzz_dist plane: cannot raise the limit of file descriptors: {error}");
    }
}
