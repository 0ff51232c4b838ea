//! The names of the nodes, in one place: a node that was started under another host part has another full name.
//!
//! Whoever needs a full name asks for it when it is needed and keeps no copy.

use std::sync::{Arc, Mutex};

use fuzz_dist_core::sync::lock;

/// Short and full names of the nodes of a run, in order. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct NodeDirectory(Arc<Mutex<Vec<(String, String)>>>);

impl NodeDirectory {
    /// For nodes given as (short, full) names.
    pub fn new(nodes: Vec<(String, String)>) -> NodeDirectory {
        NodeDirectory(Arc::new(Mutex::new(nodes)))
    }

    /// Short and full names of all nodes, as they are now.
    pub fn all(&self) -> Vec<(String, String)> {
        lock(&self.0).clone()
    }

    /// The short names.
    pub fn shorts(&self) -> Vec<String> {
        lock(&self.0).iter().map(|(short, _)| short.clone()).collect()
    }

    /// The full name that the node has now.
    pub fn full(&self, short: &str) -> Option<String> {
        lock(&self.0).iter().find(|(known, _)| known == short).map(|(_, full)| full.clone())
    }

    /// The node that has this full name now.
    pub fn short(&self, full: &str) -> Option<String> {
        lock(&self.0).iter().find(|(_, known)| known == full).map(|(short, _)| short.clone())
    }

    /// Whether there is a node of this short name.
    pub fn contains(&self, short: &str) -> bool {
        lock(&self.0).iter().any(|(known, _)| known == short)
    }

    /// From now on the node has this full name.
    pub fn rename(&self, short: &str, full: &str) {
        for (_, name) in lock(&self.0).iter_mut().filter(|(known, _)| known == short) {
            full.clone_into(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_node_is_found_by_its_new_name_in_every_clone() {
        let directory = NodeDirectory::new(vec![("n1".into(), "n1@127.0.0.1".into())]);
        let clone = directory.clone();
        directory.rename("n1", "n1@127.1");
        directory.rename("n9", "n9@127.1");
        assert_eq!(clone.full("n1").as_deref(), Some("n1@127.1"));
        assert_eq!(clone.short("n1@127.1").as_deref(), Some("n1"));
        assert_eq!(clone.short("n1@127.0.0.1"), None);
        assert_eq!(clone.all(), [("n1".to_owned(), "n1@127.1".to_owned())]);
        assert!(clone.contains("n1") && !clone.contains("n9"));
    }
}
