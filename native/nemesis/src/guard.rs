//! The guard: parent of every process of a run.
