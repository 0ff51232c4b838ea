//! Boundaries that are mined from what the nodes of a spec run.

use std::path::{Path, PathBuf};

use fuzz_dist_core::fault::{BoundaryEdges, FaultSchedule};
use fuzz_dist_core::spec::Spec;
use fuzz_dist_mining::{Mined, mine};
use fuzz_dist_schedule::boundaries::point_edges;

use crate::cluster::code_path;
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

/// The edges of mined boundaries, if the spec asks for them and its faults are still to be drawn. Reading takes seconds,
/// and code may be compiled meanwhile: whoever needs them several times reads them once and passes them on.
pub fn edges(
    spec: &Spec,
    schedule: Option<&FaultSchedule>,
) -> Result<Vec<BoundaryEdges>, RunError> {
    if !spec.nemesis.boundaries.mined || schedule.is_some() {
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
    let mut folders = code_path::expand(&spec.cluster.code_paths);
    let command = &spec.cluster.command;
    for (flag, path) in command.iter().zip(command.iter().skip(1)) {
        if matches!(flag.as_str(), "-pa" | "-pz") && Path::new(path).is_dir() {
            folders.push(path.into());
        }
    }
    folders
}
