//! Interned names: Erlang atoms, EDN keywords and function names as a 4-byte handle.
//!
//! One table for the process, never shrunk: the names of a test are few. Input from outside is
//! bounded by [`SYM_COUNT_MAX`], past which [`Sym::try_new`] refuses, so that a hostile history
//! cannot eat the memory through its keywords.

use std::collections::HashMap;
use std::fmt;
use std::sync::{OnceLock, RwLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many different names a process may hold.
pub const SYM_COUNT_MAX: usize = 1 << 22;

/// An interned name. Equality and hashing are those of the handle; ordering is that of the text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sym(u32);

/// The table of names is full.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("more than {SYM_COUNT_MAX} different keywords or atoms: this is not a history of a test")]
pub struct SymTableFull;

#[derive(Default)]
struct Table {
    by_name: HashMap<&'static str, u32>,
    names: Vec<&'static str>,
}

fn table() -> &'static RwLock<Table> {
    static TABLE: OnceLock<RwLock<Table>> = OnceLock::new();
    TABLE.get_or_init(RwLock::default)
}

impl Sym {
    /// Interns `name`, or says that the table is full.
    pub fn try_new(name: &str) -> Result<Sym, SymTableFull> {
        {
            let read = table().read().unwrap_or_else(|e| e.into_inner());
            if let Some(&id) = read.by_name.get(name) {
                return Ok(Sym(id));
            }
        }
        let mut write = table().write().unwrap_or_else(|e| e.into_inner());
        if let Some(&id) = write.by_name.get(name) {
            return Ok(Sym(id));
        }
        if write.names.len() >= SYM_COUNT_MAX {
            return Err(SymTableFull);
        }
        let id = write.names.len() as u32;
        let leaked: &'static str = Box::leak(name.to_owned().into_boxed_str());
        write.names.push(leaked);
        write.by_name.insert(leaked, id);
        Ok(Sym(id))
    }

    /// Interns a name of our own. Names from outside go through [`Sym::try_new`].
    ///
    /// # Panics
    /// When the table is full, which names of our own cannot make it.
    pub fn new(name: &str) -> Sym {
        match Sym::try_new(name) {
            Ok(sym) => sym,
            Err(full) => panic!("{full}"),
        }
    }

    /// The text of the name, without the colon of an EDN keyword.
    pub fn as_str(self) -> &'static str {
        let read = table().read().unwrap_or_else(|e| e.into_inner());
        read.names[self.0 as usize]
    }

    /// The handle, dense from 0: fit to index a table of counters.
    pub fn id(self) -> u32 {
        self.0
    }
}

impl From<&str> for Sym {
    fn from(name: &str) -> Sym {
        Sym::new(name)
    }
}

impl PartialEq<&str> for Sym {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Sym {
    fn partial_cmp(&self, other: &Sym) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sym {
    fn cmp(&self, other: &Sym) -> std::cmp::Ordering {
        if self.0 == other.0 {
            return std::cmp::Ordering::Equal;
        }
        self.as_str().cmp(other.as_str())
    }
}

impl fmt::Debug for Sym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}", self.as_str())
    }
}

impl fmt::Display for Sym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Sym {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Sym {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sym, D::Error> {
        let name = String::deserialize(deserializer)?;
        Sym::try_new(&name).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_gives_the_same_handle() {
        assert_eq!(Sym::new("read"), Sym::new("read"));
        assert_ne!(Sym::new("read"), Sym::new("write"));
        assert_eq!(Sym::new("write").as_str(), "write");
    }

    #[test]
    fn order_is_that_of_the_text() {
        let (b, a) = (Sym::new("order-b"), Sym::new("order-a"));
        assert!(a < b);
    }
}
