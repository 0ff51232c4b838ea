//! Files and folders: what to read, what was found, and which durations follow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::beam::Module;
use crate::calls::Kind;
use crate::config;
use crate::sites::{Site, Wait, sites_of};

/// The largest file that is read.
const BYTES_MAX: u64 = 256 << 20;

/// Folders deeper than this are not entered: links can make circles.
const DEPTH_MAX: u32 = 24;

/// Durations that faults are drawn around: shorter ones drown in what schedulers add.
const BOUNDARY_MS: std::ops::RangeInclusive<u64> = 100..=3_600_000;

/// Why nothing could be mined.
#[derive(Debug, thiserror::Error)]
pub enum MineError {
    /// It is not there, or may not be read.
    #[error("{}: {reason}", .path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why it was not.
        reason: String,
    },
    /// A single file that is neither a module nor a configuration.
    #[error("{}: {reason}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder without anything to read.
    #[error(
        "{}: no .beam, .app or .config file in this folder or below; give the folder of compiled code \
         (_build/prod/lib, an ebin)",
        .0.display()
    )]
    Nothing(PathBuf),
}

/// How often a duration was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// As what.
    pub kind: Kind,
    /// `5000`, `infinity` or `variable`.
    pub value: String,
    /// Milliseconds, when they are known and finite.
    pub value_ms: Option<u64>,
    /// Of `restarts`: how many are borne in the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intensity: Option<u64>,
    /// At how many places.
    pub count: usize,
}

/// A duration to draw faults around.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MinedBoundary {
    /// `mined-5000`.
    pub name: String,
    /// Milliseconds.
    pub value_ms: u64,
    /// At how many places.
    pub count: usize,
    /// The kinds of these places, and one of them.
    pub source: String,
}

/// Everything that was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Mined {
    /// Compiled modules that were read.
    pub modules: usize,
    /// `.app` and `.config` files that were read.
    pub configs: usize,
    /// What was found, by file and then by place.
    pub sites: Vec<Site>,
    /// Files that could not be read, and why.
    pub problems: Vec<String>,
}

/// Reads a file, or every `.beam`, `.app` and `.config` file in a folder and below.
pub fn mine(path: &Path) -> Result<Mined, MineError> {
    let mut mined = Mined::default();
    let data = std::fs::metadata(path).map_err(|error| read_error(path, &error))?;
    if data.is_dir() {
        let mut files = Vec::new();
        collect(path, DEPTH_MAX, &mut files).map_err(|error| read_error(path, &error))?;
        if files.is_empty() {
            return Err(MineError::Nothing(path.to_owned()));
        }
        files.sort();
        for file in files {
            if let Err(error) = mined.add_file(&file) {
                mined.problems.push(error.to_string());
            }
        }
    } else {
        mined.add_file(path)?;
    }
    Ok(mined)
}

fn read_error(path: &Path, error: &std::io::Error) -> MineError {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    MineError::Read { path: path.to_owned(), reason }
}

/// Whether a file is of a kind that is read.
fn is_known(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("beam" | "app" | "config"))
}

fn collect(folder: &Path, depth: u32, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if depth > 0 {
                // A folder below that may not be read has nothing for us.
                drop(collect(&path, depth - 1, files));
            }
        } else if is_known(&path) {
            files.push(path);
        }
    }
    Ok(())
}

impl Mined {
    /// Reads one file.
    pub fn add_file(&mut self, path: &Path) -> Result<(), MineError> {
        let wrong = |reason: String| MineError::File { path: path.to_owned(), reason };
        let data = std::fs::metadata(path).map_err(|error| read_error(path, &error))?;
        if !data.is_file() || data.len() > BYTES_MAX {
            return Err(wrong("is no file of at most 256 MiB".into()));
        }
        let bytes = std::fs::read(path).map_err(|error| read_error(path, &error))?;
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("app" | "config")) {
            let text = String::from_utf8_lossy(&bytes);
            let sites = config::sites_of(&text).map_err(|error| wrong(error.to_string()))?;
            self.sites.extend(sites);
            self.configs += 1;
        } else {
            let module = Module::read(&bytes).map_err(|error| wrong(error.to_string()))?;
            self.sites.extend(sites_of(&module));
            self.modules += 1;
        }
        Ok(())
    }

    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: Mined) {
        self.modules += other.modules;
        self.configs += other.configs;
        self.sites.extend(other.sites);
        self.problems.extend(other.problems);
    }

    /// How often each duration was found, by kind, the most frequent first.
    pub fn summary(&self) -> Vec<Count> {
        let mut counts: BTreeMap<(Kind, Wait, Option<u64>), usize> = BTreeMap::new();
        for site in &self.sites {
            *counts.entry((site.kind, site.wait, site.intensity)).or_default() += 1;
        }
        let mut all: Vec<Count> = counts
            .into_iter()
            .map(|((kind, wait, intensity), count)| Count {
                kind,
                value: wait.to_string(),
                value_ms: wait.ms(),
                intensity,
                count,
            })
            .collect();
        let order = |kind: Kind| Kind::ALL.iter().position(|known| *known == kind);
        all.sort_by_key(|one| (order(one.kind), std::cmp::Reverse(one.count)));
        all
    }

    /// The durations that faults can be drawn around, the most frequent first.
    pub fn boundaries(&self) -> Vec<MinedBoundary> {
        let mut by_value: BTreeMap<u64, Vec<&Site>> = BTreeMap::new();
        for site in &self.sites {
            if let Some(ms) = site.value_ms.filter(|ms| BOUNDARY_MS.contains(ms)) {
                by_value.entry(ms).or_default().push(site);
            }
        }
        let mut all: Vec<MinedBoundary> = by_value
            .into_iter()
            .map(|(value_ms, sites)| {
                let (first, count) = (sites[0], sites.len());
                let more =
                    if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
                let source = format!("mined: {} in {}{more}", first.what, first.place());
                MinedBoundary { name: format!("mined-{value_ms}"), value_ms, count, source }
            })
            .collect();
        all.sort_by_key(|boundary| std::cmp::Reverse(boundary.count));
        all
    }
}
