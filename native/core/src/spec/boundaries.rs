//! `nemesis.boundaries`: durations of the system's own, given by the user or mined from compiled code.
//!
//! Written as a table of milliseconds by name, as the word `"mined"`, or as a table with the key `mined` besides: `true`
//! for the code paths of the nodes, or a list of folders.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The word, the key, and the boundary that stands for all that were mined.
pub const MINED: &str = "mined";

/// How the names of boundaries begin that were mined.
pub const MINED_PREFIX: &str = "mined-";

/// Boundaries that are not the BEAM's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct UserBoundaries {
    /// In milliseconds, by name.
    pub own: BTreeMap<String, f64>,
    /// Whether more are mined.
    pub mined: bool,
    /// The folders to mine; the code paths of the nodes when empty.
    pub mined_from: Vec<String>,
}

/// As it is written. Its shape has been checked before.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Wire {
    Word(String),
    Table(BTreeMap<String, Entry>),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    Flag(bool),
    Number(f64),
    Folders(Vec<String>),
}

impl From<Wire> for UserBoundaries {
    fn from(wire: Wire) -> UserBoundaries {
        let mut boundaries = UserBoundaries::default();
        match wire {
            Wire::Word(word) => boundaries.mined = word == MINED,
            Wire::Table(table) => {
                for (name, entry) in table {
                    match entry {
                        Entry::Flag(flag) => boundaries.mined = flag,
                        Entry::Number(ms) => drop(boundaries.own.insert(name, ms)),
                        Entry::Folders(folders) => {
                            (boundaries.mined, boundaries.mined_from) = (true, folders);
                        }
                    }
                }
            }
        }
        boundaries
    }
}

impl From<UserBoundaries> for Wire {
    fn from(boundaries: UserBoundaries) -> Wire {
        let own = boundaries.own.into_iter().map(|(name, ms)| (name, Entry::Number(ms)));
        let mut table: BTreeMap<String, Entry> = own.collect();
        if boundaries.mined {
            let entry = match boundaries.mined_from.is_empty() {
                true => Entry::Flag(true),
                false => Entry::Folders(boundaries.mined_from),
            };
            table.insert(MINED.into(), entry);
        }
        Wire::Table(table)
    }
}
