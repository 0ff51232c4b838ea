//! Faults of the disk: what a running node is told when it writes, and what a stopped one finds.
//!
//! The first five act in the node, by a preloaded library. The `file-` faults stop the node, change its files,
//! and start it at the end. Files are chosen by patterns below the node's data folder (`*` within a name, `**`
//! across folders), or by what they are for (`@mnesia-log`).

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Lasts, Objection, PlaneFault, Subject};
use crate::spec::keys::{Key, Shape, key};
use crate::spec::suggest;

/// What is lost of that which was never synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsynced {
    /// What was appended at the end.
    #[default]
    Tail,
    /// Everything, as if it had never been written.
    All,
    /// Everything since the last rename of the file.
    RenameBarrier,
}

impl Unsynced {
    /// Their names.
    pub const NAMES: &'static [&'static str] = &["tail", "all", "rename-barrier"];
}

/// What files are for, and the patterns of their names.
pub const FILE_ROLES: &[(&str, &[&str])] = &[
    ("@mnesia-log", &["**/LATEST.LOG", "**/PREVIOUS.LOG"]),
    ("@mnesia-table", &["**/*.DCD"]),
    ("@mnesia-table-log", &["**/*.DCL"]),
    ("@mnesia-schema", &["**/schema.DAT"]),
    ("@ra-wal", &["**/*.wal"]),
    ("@ra-segment", &["**/*.segment"]),
    ("@ra-meta", &["**/meta.dets", "**/names.dets"]),
];

/// Patterns, with those of roles in place of their names.
pub fn patterns(files: &[String]) -> Vec<String> {
    let of = |file: &String| -> Vec<String> {
        match FILE_ROLES.iter().find(|(role, _)| role == file) {
            Some((_, patterns)) => patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
            None => vec![file.clone()],
        }
    };
    files.iter().flat_map(of).collect()
}

/// What happens to the files of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DiskFault {
    /// Whatever changes or syncs a file fails with EIO.
    DiskEio {
        /// Which.
        files: Vec<String>,
    },
    /// Writes fail with ENOSPC.
    DiskEnospc {
        /// Which.
        files: Vec<String>,
    },
    /// Writes write less than they were given.
    DiskShortWrite {
        /// Which.
        files: Vec<String>,
    },
    /// Syncs succeed and do nothing.
    DiskLyingFsync {
        /// Which.
        files: Vec<String>,
    },
    /// The node is killed, and what it had not synced is gone.
    DiskLoseUnsynced {
        /// Which.
        files: Vec<String>,
        /// How much.
        #[serde(default)]
        lost: Unsynced,
    },
    /// Bits of the files of a stopped node are flipped.
    FileFlip {
        /// Which.
        files: Vec<String>,
        /// Of each bit.
        #[serde(default = "one_in_a_hundred_thousand")]
        probability: f64,
    },
    /// The files of a stopped node are shorter.
    FileTruncate {
        /// Which.
        files: Vec<String>,
        /// By so much.
        drop_bytes: u64,
    },
    /// The files of a stopped node are those of an earlier time.
    FileRestore {
        /// Which.
        files: Vec<String>,
    },
}

fn one_in_a_hundred_thousand() -> f64 {
    1e-5
}

const FILES: Key = key(
    "files",
    Shape::Texts,
    "required",
    "Faults of disks and files: patterns below the data folder of the node, `*` within a name and `**` across folders; or a role: `@mnesia-log`, `@mnesia-table`, `@mnesia-table-log`, `@mnesia-schema`, `@ra-wal`, `@ra-segment`, `@ra-meta`.",
);
const LOST: Key = key(
    "lost",
    Shape::Choice(Unsynced::NAMES),
    r#""tail""#,
    "`disk-lose-unsynced`: what was appended, everything, or everything since the last rename.",
);
const PROBABILITY: Key =
    key("probability", Shape::Number, "1e-5", "`file-flip`: of each bit to be flipped.");
const DROP_BYTES: Key =
    key("drop_bytes", Shape::Integer, "required", "`file-truncate`: how much shorter a file is.");

const fn disk(name: &'static str, lasts: Lasts, meaning: &'static str) -> Kind {
    Kind::new(name, Subject::Nodes, lasts, meaning)
}

impl DiskFault {
    /// The patterns of the files that it is about.
    pub fn files(&self) -> &[String] {
        let (DiskFault::DiskEio { files }
        | DiskFault::DiskEnospc { files }
        | DiskFault::DiskShortWrite { files }
        | DiskFault::DiskLyingFsync { files }
        | DiskFault::DiskLoseUnsynced { files, .. }
        | DiskFault::FileFlip { files, .. }
        | DiskFault::FileTruncate { files, .. }
        | DiskFault::FileRestore { files }) = self;
        files
    }
}

impl PlaneFault for DiskFault {
    const KINDS: &'static [Kind] = &[
        disk("disk-eio", Lasts::Away, "Writes, syncs, renames and removals fail with EIO.")
            .with(&[FILES]),
        disk("disk-enospc", Lasts::Away, "Writes fail with ENOSPC: the disk is full.")
            .with(&[FILES]),
        disk("disk-short-write", Lasts::Away, "Writes write less than they were given.")
            .with(&[FILES]),
        disk("disk-lying-fsync", Lasts::Away, "Syncs succeed and do nothing.").with(&[FILES]),
        disk(
            "disk-lose-unsynced",
            Lasts::Away,
            "SIGKILL, and what was not synced is gone; started again at the end.",
        )
        .with(&[FILES, LOST]),
        disk(
            "file-flip",
            Lasts::Away,
            "The node is killed and bits of its files are flipped; started again at the end.",
        )
        .with(&[FILES, PROBABILITY]),
        disk(
            "file-truncate",
            Lasts::Away,
            "The node is killed and its files are cut; started again at the end.",
        )
        .with(&[FILES, DROP_BYTES]),
        disk(
            "file-restore",
            Lasts::Away,
            "The node is killed and gets older copies of its files; started again at the end.",
        )
        .with(&[FILES]),
    ];

    fn name(&self) -> &'static str {
        match self {
            DiskFault::DiskEio { .. } => "disk-eio",
            DiskFault::DiskEnospc { .. } => "disk-enospc",
            DiskFault::DiskShortWrite { .. } => "disk-short-write",
            DiskFault::DiskLyingFsync { .. } => "disk-lying-fsync",
            DiskFault::DiskLoseUnsynced { .. } => "disk-lose-unsynced",
            DiskFault::FileFlip { .. } => "file-flip",
            DiskFault::FileTruncate { .. } => "file-truncate",
            DiskFault::FileRestore { .. } => "file-restore",
        }
    }

    fn samples() -> Vec<DiskFault> {
        let files = vec!["**/*.log".to_owned()];
        vec![
            DiskFault::DiskEio { files: files.clone() },
            DiskFault::DiskEnospc { files: files.clone() },
            DiskFault::DiskShortWrite { files: files.clone() },
            DiskFault::DiskLyingFsync { files: files.clone() },
            DiskFault::DiskLoseUnsynced { files: files.clone(), lost: Unsynced::All },
            DiskFault::FileFlip { files: files.clone(), probability: 0.5 },
            DiskFault::FileTruncate { files: files.clone(), drop_bytes: 1 },
            DiskFault::FileRestore { files },
        ]
    }

    fn objections(&self) -> Vec<Objection> {
        let files = self.files();
        let mut wrong = Vec::new();
        if files.is_empty() || files.iter().any(String::is_empty) {
            wrong.push(("files", "names no file: give a pattern, as \"**/*.DCD\"".to_owned()));
        }
        let outside = |file: &&String| file.starts_with('/') || file.split('/').any(|p| p == "..");
        if let Some(outside) = files.iter().find(outside) {
            let problem = "is not below the data folder of the node, and only that is ours";
            wrong.push(("files", format!("{outside:?} {problem}")));
        }
        let roles: Vec<&str> = FILE_ROLES.iter().map(|(role, _)| *role).collect();
        let unknown = |file: &&String| file.starts_with('@') && !roles.contains(&file.as_str());
        if let Some(unknown) = files.iter().find(unknown) {
            let hint = suggest::hint(unknown, &roles);
            wrong.push(("files", format!("there is no role `{unknown}`; {hint}")));
        }
        match self {
            DiskFault::FileFlip { probability, .. }
                if !(*probability > 0.0 && *probability <= 1.0) =>
            {
                wrong.push(("probability", super::not_a_probability(*probability)));
            }
            DiskFault::FileTruncate { drop_bytes: 0, .. } => {
                wrong.push(("drop_bytes", "0 bytes: the file would be as it was".into()));
            }
            _ => {}
        }
        wrong
    }
}
