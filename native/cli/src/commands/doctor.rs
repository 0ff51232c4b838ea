//! `fuzz_dist doctor`: what this machine has and lacks for running tests, found by trying.
//!
//! Required is what every run needs; without the rest some kinds of test are not possible. Every fault of every
//! plane is told with whether it can be had. Nothing is installed. What runs left behind that were killed
//! with their guard is removed.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fuzz_dist_core::fault::{Availability, Plane};
use fuzz_dist_runner::cluster::find_ebin;
use fuzz_dist_runner::nemesis::planes::{self, Offer};
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::output::{self, CliError};

/// How long a program may take to tell its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(30);

/// OTP releases before this lack what the node agent uses.
const OTP_MINIMUM: u32 = 25;

/// Below this many open files a test of a few nodes and some hundred processes can run out of them.
const OPEN_FILES_MINIMUM: u64 = 1024;

#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked for.
    name: &'static str,
    /// Whether it is there and good enough.
    ok: bool,
    /// Whether no run is possible without.
    required: bool,
    /// What was found.
    found: String,
    /// What to do when it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    /// Whether everything that is required is there.
    ok: bool,
    version: &'static str,
    findings: Vec<Finding>,
    /// Every fault of every plane.
    faults: Vec<Offer>,
}

/// Prints the findings; the exit code is 254 when something required is missing.
pub fn run(args: &DoctorArgs) -> Result<u8, CliError> {
    let findings = vec![
        linux(),
        erlang(),
        elixir(),
        client_library(),
        loopback(),
        open_files(),
        processors(),
        left_behind(),
    ];
    let ok = findings.iter().all(|finding| finding.ok || !finding.required);
    let faults = planes::catalogue();
    let diagnosis = Diagnosis { ok, version: env!("CARGO_PKG_VERSION"), findings, faults };
    if args.json {
        output::json(&diagnosis)?;
    } else {
        output::to_stdout(|out| {
            for finding in &diagnosis.findings {
                let mark = match (finding.ok, finding.required) {
                    (true, _) => "ok  ",
                    (false, true) => "MISS",
                    (false, false) => "note",
                };
                writeln!(out, "{mark}  {:<16} {}", finding.name, finding.found)?;
                if let Some(advice) = &finding.advice {
                    writeln!(out, "      {:<16} → {advice}", "")?;
                }
            }
            write_faults(out, &diagnosis.faults)?;
            let verdict = if ok { "ready to run tests" } else { "not ready: see MISS above" };
            writeln!(out, "{verdict}")
        })?;
    }
    Ok(if ok { 0 } else { crate::EXIT_INPUT })
}

/// A line for each plane and way in which faults of it can be had.
fn write_faults(out: &mut dyn Write, offers: &[Offer]) -> io::Result<()> {
    writeln!(out, "faults, by plane:")?;
    for plane in Plane::ALL {
        let mut ways: Vec<(String, Vec<&str>)> = Vec::new();
        for offer in offers.iter().filter(|offer| offer.plane == *plane) {
            let way = match &offer.availability {
                Availability::Real => "real".to_owned(),
                Availability::Emulated(how) => format!("emulated ({how})"),
                Availability::Unavailable(reason) => format!("unavailable ({reason})"),
            };
            match ways.iter_mut().find(|(known, _)| *known == way) {
                Some((_, kinds)) => kinds.push(offer.kind),
                None => ways.push((way, vec![offer.kind])),
            }
        }
        for (way, kinds) in ways {
            writeln!(out, "      {:<16} {way}: {}", plane.as_str(), kinds.join(", "))?;
        }
    }
    Ok(())
}

fn finding(
    name: &'static str,
    required: bool,
    result: Result<String, String>,
    advice: &str,
) -> Finding {
    let ok = result.is_ok();
    let advice = (!ok).then(|| advice.to_owned());
    Finding { name, ok, required, found: result.unwrap_or_else(|found| found), advice }
}

/// Processes, namespaces and rules of runs that were killed together with what cleans up after them.
fn left_behind() -> Finding {
    let removed = fuzz_dist_nemesis::leftovers::remove();
    let found = match removed.as_slice() {
        [] => "no killed run has left anything".to_owned(),
        removed => format!("removed what killed runs left: {}", removed.join("; ")),
    };
    finding("leftovers", false, Ok(found), "")
}

/// Subreaper, process groups and `/proc` are what leaves nothing behind.
fn linux() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    let result = match release {
        Ok(release) if Path::new("/proc/self/stat").exists() => {
            Ok(format!("Linux {}", release.trim()))
        }
        _ => Err(format!("{} without /proc", std::env::consts::OS)),
    };
    finding("system", true, result, "tests run on Linux with /proc mounted")
}

fn erlang() -> Finding {
    let ask = "io:put_chars([erlang:system_info(otp_release), \" erts-\", \
               erlang:system_info(version)]), halt().";
    let result =
        answer("erl", &["-noinput", "-boot", "start_clean", "-eval", ask]).and_then(|text| {
            let release: u32 =
                text.split([' ', '.']).next().and_then(|release| release.parse().ok()).unwrap_or(0);
            if release >= OTP_MINIMUM {
                Ok(format!("OTP {text}"))
            } else {
                Err(format!("OTP {text}"))
            }
        });
    let advice = format!("OTP {OTP_MINIMUM} or newer in PATH; `bin/setup` installs it");
    finding("erlang", true, result, &advice)
}

fn elixir() -> Finding {
    let result = answer("elixir", &["--short-version"]).map(|text| format!("Elixir {text}"));
    finding(
        "elixir",
        false,
        result,
        "needed for clients written in Elixir and for mix; `bin/setup` installs it",
    )
}

/// The compiled Elixir application, found as a run finds it.
fn client_library() -> Finding {
    let found = find_ebin().map(|folder| folder.display().to_string());
    finding(
        "client library",
        true,
        found.map_err(|error| error.to_string()),
        "compile it: `mix compile` in elixir_client; or set FUZZ_DIST_EBIN to its ebin folder",
    )
}

/// A connection from this process to itself, as between core, plane and nodes.
fn loopback() -> Finding {
    let result = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| TcpStream::connect(listener.local_addr()?))
        .map(|_| "127.0.0.1 accepts connections".to_owned())
        .map_err(|error| format!("127.0.0.1: {error}"));
    finding("loopback", true, result, "nodes talk over 127.0.0.1: bring the interface lo up")
}

fn open_files() -> Finding {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next());
    let result = match limit {
        Some("unlimited") => Ok("unlimited".to_owned()),
        Some(text) => match text.parse::<u64>() {
            Ok(count) if count >= OPEN_FILES_MINIMUM => Ok(text.to_owned()),
            _ => Err(text.to_owned()),
        },
        None => Err("not known".to_owned()),
    };
    finding("open files", false, result, "raise it for tests with many processes: ulimit -n 65536")
}

fn processors() -> Finding {
    let count = thread::available_parallelism().map_or(1, usize::from);
    let result = if count >= 2 { Ok(count.to_string()) } else { Err(count.to_string()) };
    finding(
        "processors",
        false,
        result,
        "on one processor nodes wait for each other, and faults are late",
    )
}

/// What a program prints, trimmed; never waits longer than [`VERSION_TIMEOUT`].
fn answer(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("no `{program}` in PATH"),
            _ => format!("`{program}`: {error}"),
        })?;
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if started.elapsed() < VERSION_TIMEOUT => {
                thread::sleep(Duration::from_millis(10));
            }
            _ => {
                // It is ours and of no further use; that it may be gone already is fine.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("`{program}` does not answer"));
            }
        }
    }
    let output = child.wait_with_output().map_err(|error| format!("`{program}`: {error}"))?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "" => Err(format!("`{program}` says nothing ({})", output.status)),
        _ if !output.status.success() => Err(format!("`{program}`: {}", output.status)),
        text => Ok(text.to_owned()),
    }
}
