//! Boundaries that are mined from what the nodes of a spec run.

use std::path::{Path, PathBuf};

use fuzz_dist_core::fault::BoundaryEdges;
use fuzz_dist_core::spec::Spec;
use fuzz_dist_mining::{Mined, mine};
use fuzz_dist_schedule::boundaries::point_edges;

use crate::request::RunError;

/// How many of the mined durations faults are drawn around, the most frequent first.
const BOUNDARIES_MAX: usize = 8;

/// Everything in the folders that `nemesis.boundaries` names, or else in the code paths of the nodes.
pub fn of_nodes(spec: &Spec) -> Result<Mined, RunError> {
    let folders = folders(spec);
    if folders.is_empty() {
        return Err(RunError::Input(
            "nothing to mine: the spec has no cluster.code_paths and its command no -pa; name the folders of \
             compiled code: nemesis.boundaries = { mined = [\"_build/prod/lib\"] }"
                .into(),
        ));
    }
    let mut mined = Mined::default();
    for folder in folders {
        mined.add(mine(&folder).map_err(|error| RunError::Input(error.to_string()))?);
    }
    Ok(mined)
}

/// The edges of mined boundaries, if the spec asks for them.
pub fn edges(spec: &Spec) -> Result<Vec<BoundaryEdges>, RunError> {
    if !spec.nemesis.boundaries.mined {
        return Ok(Vec::new());
    }
    let found = of_nodes(spec)?.boundaries();
    let first = found.iter().take(BOUNDARIES_MAX);
    Ok(first.map(|one| point_edges(&one.name, one.value_ms as f64, &one.source)).collect())
}

fn folders(spec: &Spec) -> Vec<PathBuf> {
    let named = &spec.nemesis.boundaries.mined_from;
    if !named.is_empty() {
        return named.iter().map(PathBuf::from).collect();
    }
    let mut folders: Vec<PathBuf> = spec.cluster.code_paths.iter().map(PathBuf::from).collect();
    let command = &spec.cluster.command;
    for (flag, path) in command.iter().zip(command.iter().skip(1)) {
        if matches!(flag.as_str(), "-pa" | "-pz") && Path::new(path).is_dir() {
            folders.push(path.into());
        }
    }
    folders
}
