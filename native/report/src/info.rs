//! What the caller tells of a run and no history contains.

use std::collections::BTreeMap;

use fuzz_dist_core::fault::BoundaryEdges;
use serde::{Deserialize, Serialize};

/// A run, as it stands in reports. Every field has an empty default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunInfo {
    /// Name of the test.
    pub name: String,
    /// Id of the run: the name of its folder.
    pub run_id: String,
    /// Seed of everything drawn.
    pub seed: u64,
    /// Name of the workload; empty with a generator of one's own.
    pub workload: String,
    /// Where operations ran: `node` or `client`.
    pub placement: String,
    /// Short names.
    pub nodes: Vec<String>,
    /// Logical processes at a time; 0 if not known. Process p runs on thread p mod concurrency.
    pub concurrency: u32,
    /// Wall clock at the start, nanoseconds since 1970.
    pub started_wall_ns: i64,
    /// Length of the run.
    pub duration_ns: u64,
    /// The resolved spec, as stored.
    pub spec_toml: String,
    /// The command that runs this schedule again.
    pub replay_command: String,
    /// What the run could do on this machine, one line each.
    pub capabilities: Vec<String>,
    /// What a reader must know, one line each.
    pub notes: Vec<String>,
    /// Versions by name: `fuzz_dist`, `otp`, `elixir` …
    pub versions: BTreeMap<String, String>,
    /// What was tested: absent in runs that ended before their nodes were up.
    pub tested: Option<Tested>,
    /// Kernel's `prevent_overlapping_partitions` in the nodes.
    pub prevent_overlapping_partitions: bool,
    /// The boundaries that fault durations were drawn against.
    pub boundaries: Vec<BoundaryEdges>,
    /// Why the run ended before its time, if it did.
    pub interrupted: Option<String>,
    /// What is missing at the end of the history, if it is torn.
    pub torn: Option<String>,
}

/// What a run tested, so that two runs can be told apart, or not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tested {
    /// The git repository of the working directory, if it is in one.
    pub git: Option<Git>,
    /// The code of every node; nodes that did not say are missing.
    pub nodes: BTreeMap<String, Code>,
}

/// The state of a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Git {
    /// The commit.
    pub revision: String,
    /// Files that differ from it, untracked ones included; none when clean.
    pub changed_files: u64,
}

/// The code of a node: applications that are neither OTP's nor Elixir's nor fuzz_dist's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Code {
    /// Of all of it together.
    pub digest: String,
    /// A digest for each application.
    pub applications: BTreeMap<String, String>,
}

impl Tested {
    /// `git 1a2b3c4 with 2 changed files; code 5d6e7f8 (kv)`.
    pub fn describe(&self) -> String {
        let mut parts = Vec::new();
        if let Some(git) = &self.git {
            let short: String = git.revision.chars().take(12).collect();
            parts.push(match git.changed_files {
                0 => format!("git {short}, clean"),
                1 => format!("git {short} with 1 changed file"),
                count => format!("git {short} with {count} changed files"),
            });
        }
        let mut digests: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (node, code) in &self.nodes {
            digests.entry(&code.digest).or_default().push(node);
        }
        let several = digests.len() > 1;
        for (digest, nodes) in digests {
            let short: String = digest.chars().take(12).collect();
            let on = if several { format!(" on {}", nodes.join(", ")) } else { String::new() };
            parts.push(format!("code {short}{on}"));
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tested_is_one_line() {
        let code = |digest: &str| Code { digest: digest.into(), ..Code::default() };
        let mut tested = Tested {
            git: Some(Git { revision: "0123456789abcdef".into(), changed_files: 2 }),
            nodes: [("n1".into(), code("aa")), ("n2".into(), code("aa"))].into(),
        };
        assert_eq!(tested.describe(), "git 0123456789ab with 2 changed files; code aa");
        tested.git = None;
        tested.nodes.insert("n3".into(), code("bb"));
        assert_eq!(tested.describe(), "code aa on n1, n2; code bb on n3");
    }
}
