//! `fuzz_dist boundaries`: the time-outs, intervals and restart intensities of a program, found in its compiled code, in
//! its configuration, or in a live node.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use fuzz_dist_core::spec;
use fuzz_dist_mining::{Mined, Wait, mine};
use fuzz_dist_runner::live_mining::{LiveNode, mine_node};
use serde_json::json;

use crate::args::BoundariesArgs;
use crate::output::{self, CliError};

/// Version of the JSON object: priv/schemas/boundaries.schema.json.
const VERSION: u32 = 1;

/// Mines whatever the argument names.
pub fn run(args: &BoundariesArgs) -> Result<u8, CliError> {
    let mined = source(args)?;
    if args.json {
        output::json(&json!({
            "version": VERSION,
            "source": args.source,
            "modules": mined.modules,
            "configs": mined.configs,
            "sites": mined.sites,
            "summary": mined.summary(),
            "boundaries": mined.boundaries(),
            "problems": mined.problems,
        }))?;
        return Ok(0);
    }
    output::to_stdout(|out| text(&mined, args.all, out))?;
    for problem in &mined.problems {
        output::tell(&format!("note: {problem}"));
    }
    Ok(0)
}

fn source(args: &BoundariesArgs) -> Result<Mined, CliError> {
    let path = Path::new(&args.source);
    if path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
        let spec = spec::load(path).map_err(CliError::input)?.spec;
        return fuzz_dist_runner::mined::of_nodes(&spec).map_err(CliError::from);
    }
    if path.exists() {
        return mine(path).map_err(CliError::input);
    }
    if args.source.contains('@') && !args.source.contains('/') {
        return node(args);
    }
    Err(CliError::Input(format!(
        "{}: no such file or folder; give a folder of compiled code, a .beam, .app or .config file, the spec of a \
         test, or a node of this machine as name@host",
        args.source
    )))
}

fn node(args: &BoundariesArgs) -> Result<Mined, CliError> {
    let cookie = match &args.cookie {
        Some(cookie) => cookie.clone(),
        None => cookie_in(args.cookie_file.as_deref())?,
    };
    let epmd_port = match args.epmd_port {
        Some(port) => port,
        None => match std::env::var("ERL_EPMD_PORT") {
            Ok(text) => text.parse().map_err(|_| {
                CliError::Input(format!("ERL_EPMD_PORT is {text:?}, which is no port"))
            })?,
            Err(_) => 4369,
        },
    };
    let node = LiveNode { name: args.source.clone(), cookie, epmd_port };
    output::tell(&format!("tracing {} for {} s", node.name, args.trace));
    Ok(mine_node(&node, Duration::from_secs_f64(args.trace))?)
}

fn cookie_in(given: Option<&Path>) -> Result<String, CliError> {
    let home = || Path::new(&std::env::var("HOME").unwrap_or_default()).join(".erlang.cookie");
    let file = given.map_or_else(home, Path::to_owned);
    let cookie = std::fs::read_to_string(&file).map_err(|error| {
        CliError::Input(format!(
            "the node's cookie: {}: {error}; name the file with --cookie-file",
            file.display()
        ))
    })?;
    Ok(cookie.trim().to_owned())
}

/// A line for each site, then how often each duration was found.
fn text(mined: &Mined, all: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut variable = 0;
    for site in &mined.sites {
        if site.wait == Wait::Variable && !all {
            variable += 1;
            continue;
        }
        let value = match (site.intensity, site.wait) {
            (Some(intensity), wait) => format!("{intensity} in {wait}"),
            (None, wait) => wait.to_string(),
        };
        let line = site.line.map_or(String::new(), |line| format!(" (line {line})"));
        let seen = site.seen.map_or(String::new(), |seen| format!(", seen {seen} times"));
        let (kind, place, what) = (site.kind.as_str(), site.place(), &site.what);
        writeln!(out, "{value:>16}  {kind:<13} {place}{line}  {what}{seen}")?;
    }
    writeln!(out, "\n{} modules, {} configurations", mined.modules, mined.configs)?;
    writeln!(out, "{:<13}  {:>16}  places", "kind", "ms")?;
    for one in mined.summary() {
        let value = match one.intensity {
            Some(intensity) => format!("{intensity} in {}", one.value),
            None => one.value,
        };
        writeln!(out, "{:<13}  {value:>16}  {}", one.kind.as_str(), one.count)?;
    }
    if variable > 0 {
        writeln!(
            out,
            "{variable} places whose time is decided when the code runs: --all shows them"
        )?;
    }
    Ok(())
}
