//! The boundaries that the nodes really run with, asked of their agents.

use std::collections::BTreeMap;
use std::time::Duration;

use fuzz_dist_core::Value;

use crate::agents::{Agents, Role};
use crate::request::RunError;

const TIMEOUT: Duration = Duration::from_secs(10);

/// What the nodes say; the same for all, or the run ends.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Live {
    /// `net_ticktime`.
    pub net_ticktime_ms: u64,
    /// `net_tickintensity`.
    pub net_tickintensity: u32,
    /// `net_setuptime`.
    pub net_setuptime_ms: u64,
    /// The node that said it.
    pub node: String,
    /// Versions of what runs.
    pub versions: BTreeMap<String, String>,
}

/// Asks every node.
pub fn read(agents: &Agents, nodes: &[String]) -> Result<Live, RunError> {
    let mut first: Option<Live> = None;
    for node in nodes {
        let live = read_one(agents, node)?;
        match &first {
            None => first = Some(live),
            Some(other)
                if other.net_ticktime_ms != live.net_ticktime_ms
                    || other.net_tickintensity != live.net_tickintensity =>
            {
                return Err(RunError::Input(format!(
                    "nodes differ in their tick: {} has net_ticktime {} ms and intensity {}, {} has {} \
                     ms and {}; no duration is certainly below or above for both. Set them alike \
                     (cluster.net_ticktime_s, cluster.net_tickintensity)",
                    other.node,
                    other.net_ticktime_ms,
                    other.net_tickintensity,
                    live.node,
                    live.net_ticktime_ms,
                    live.net_tickintensity
                )));
            }
            Some(_) => {}
        }
    }
    first.ok_or_else(|| RunError::Input("a test needs at least one node".into()))
}

fn read_one(agents: &Agents, node: &str) -> Result<Live, RunError> {
    let failed = |reason: String| {
        RunError::Input(format!("the boundaries of {node} cannot be read: {reason}"))
    };
    let link = agents
        .get(Role::Node, node)
        .ok_or_else(|| failed("its agent is not connected any more".into()))?;
    let answer = link.ask("boundaries", [], TIMEOUT).map_err(|e| failed(e.to_string()))?;
    let number = |key: &str| {
        answer
            .get(key)
            .and_then(Value::as_int)
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| failed(format!("it says {key} is {:?}", answer.get(key))))
    };
    let text = |key: &str| match answer.get(key) {
        Some(value) => value.as_text().map_or_else(|| value.to_string(), str::to_owned),
        None => String::from("unknown"),
    };
    Ok(Live {
        net_ticktime_ms: number("net_ticktime_s")? * 1000,
        net_tickintensity: number("net_tickintensity")? as u32,
        net_setuptime_ms: number("net_setuptime_ms")?,
        node: node.to_owned(),
        versions: BTreeMap::from([
            ("otp".to_owned(), text("otp_release")),
            ("erts".to_owned(), text("erts")),
            ("fuzz_dist".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ]),
    })
}
