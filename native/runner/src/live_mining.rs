//! What a live node waits for: its calls with times, traced for a few seconds; its applications' environments; and
//! what the files of its loaded modules say.
//!
//! The node needs nothing of ours: the core visits it as a hidden node, loads `fuzz_dist_trace`, asks, and removes it
//! again. Nodes of this machine only, since the visit goes to 127.0.0.1.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use erl_dist::term::{Binary, FixInteger, List, Term};
use fuzz_dist_mining::{Kind, Mined, Site, Wait, config};

use crate::cluster::bootstrap::{Visit, atom};
use crate::cluster::find_ebin;
use crate::epmd;
use crate::request::RunError;

/// The module that traces.
const MODULE: &str = "fuzz_dist_trace";

/// How long everything but the tracing may take.
const VISIT_PATIENCE: Duration = Duration::from_secs(20);

/// A live node.
#[derive(Debug, Clone)]
pub struct LiveNode {
    /// `n1@127.0.0.1`.
    pub name: String,
    /// Its cookie.
    pub cookie: String,
    /// The port of the EPMD that knows it.
    pub epmd_port: u16,
}

/// Observes a node for so long, then reads the files of its modules.
pub fn mine_node(node: &LiveNode, trace: Duration) -> Result<Mined, RunError> {
    let input = |error: &dyn std::fmt::Display| RunError::Input(error.to_string());
    let port = dist_port(node).map_err(RunError::Input)?;
    let file = find_ebin()?.join(format!("{MODULE}.beam"));
    let code = std::fs::read(&file).map_err(|error| {
        RunError::Input(format!(
            "{}: {error}; compile it: `mix compile` in elixir_client",
            file.display()
        ))
    })?;
    let mut visit = Visit::open(port, &node.name, &node.cookie, trace + VISIT_PATIENCE)
        .map_err(|error| input(&error))?;
    let name = List::from(
        format!("{MODULE}.beam").bytes().map(|b| number(i32::from(b))).collect::<Vec<_>>(),
    );
    let load = vec![atom(MODULE), Term::from(name), Term::from(Binary::from(code))];
    visit.call("code", "load_binary", load).map_err(|error| input(&error))?;
    let ms = i32::try_from(trace.as_millis()).unwrap_or(i32::MAX);
    let answer = visit.call(MODULE, "observe", vec![number(ms)]);
    for function in ["delete", "purge"] {
        // It is small and does nothing by itself: a node that ends meanwhile has lost it anyway.
        drop(visit.call("code", function, vec![atom(MODULE)]));
    }
    let answer = answer.map_err(|error| input(&error))?;
    match &answer {
        Term::Tuple(pair) => match pair.elements.as_slice() {
            [_, Term::Binary(text)] => Ok(parse(&String::from_utf8_lossy(&text.bytes))),
            _ => Err(RunError::Input(format!("{} could not be traced: {answer}", node.name))),
        },
        _ => Err(RunError::Internal(format!("{MODULE}:observe answered {answer}"))),
    }
}

fn number(value: i32) -> Term {
    Term::from(FixInteger::from(value))
}

/// What the module says, and what is in the files that it names.
fn parse(text: &str) -> Mined {
    let mut mined = Mined::default();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["call", kind, what, module, function, arity, time, count] => {
                let found = Kind::ALL.into_iter().find(|known| known.as_str() == *kind);
                let wait = time.parse().map_or(Wait::Infinity, Wait::Ms);
                mined.sites.push(Site {
                    kind: found.unwrap_or(Kind::Call),
                    module: (*module).to_owned(),
                    function: (*function).to_owned(),
                    arity: arity.parse().ok(),
                    line: None,
                    what: (*what).to_owned(),
                    wait,
                    value_ms: wait.ms(),
                    intensity: None,
                    seen: count.parse().ok(),
                });
            }
            ["env", application, name, value] => {
                let value = value.parse().unwrap_or(-1);
                mined.sites.extend(config::env(application, name, value));
            }
            ["file", path] => {
                // Modules of an archive, or of a folder that is gone, have no file to read.
                let path = Path::new(path);
                if path.is_file()
                    && let Err(error) = mined.add_file(path)
                {
                    mined.problems.push(error.to_string());
                }
            }
            ["cut"] => mined.problems.push("tracing stopped early: too many calls".into()),
            _ => {}
        }
    }
    mined
}

/// Where the node listens, as EPMD says.
fn dist_port(node: &LiveNode) -> Result<u16, String> {
    let short = node.name.split('@').next().unwrap_or_default();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, node.epmd_port));
    let unreachable = |error: std::io::Error| {
        format!(
            "no EPMD at 127.0.0.1:{}: {error}; give the port of the EPMD that {} registered with: \
             --epmd-port (ERL_EPMD_PORT)",
            node.epmd_port, node.name
        )
    };
    epmd::dist_port(address, short).map_err(unreachable)?.ok_or_else(|| {
        format!(
            "the EPMD at port {} knows no node {short}; `epmd -names` lists those that it knows",
            node.epmd_port
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn lines_of_a_node_become_sites() {
        let text = "call\tsleep\ttimer:sleep/1\tmnesia_x\twait\t2\t20\t7\ncall\tcall\tgen_server:call/3\tm\tf\t1\t\
                    infinity\t1\nenv\tra\twal_timeout\t500\nenv\tra\tsize\t500\nfile\t/none.beam\ncut\n";
        let mined = parse(text);
        let sites: Vec<(String, String, Option<u64>)> =
            mined.sites.iter().map(|s| (s.place(), s.wait.to_string(), s.seen)).collect();
        let wanted = [
            ("mnesia_x:wait/2", "20", Some(7)),
            ("m:f/1", "infinity", Some(1)),
            ("ra.wal_timeout", "500", None),
        ];
        assert_eq!(sites, wanted.map(|(p, w, s)| (p.to_owned(), w.to_owned(), s)));
        assert_eq!(mined.problems.len(), 1);
    }
}
