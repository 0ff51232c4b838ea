//! A small cache in front of the table of names.
//!
//! [`Sym::try_new`] takes a lock and hashes with SipHash, [`Sym::as_str`] takes the lock too. A history
//! uses a handful of names millions of times, so each thread (or each parser) keeps the last ones in a
//! direct-mapped table: a wrong guess costs what the table of names costs.

use std::cell::RefCell;

use crate::sym::{Sym, SymTableFull};

const SLOT_COUNT: usize = 512;

/// Names to symbols and back, direct-mapped.
#[derive(Debug)]
pub(crate) struct NameCache {
    by_name: Vec<Option<(&'static str, Sym)>>,
    by_sym: Vec<Option<(&'static str, Sym)>>,
}

impl Default for NameCache {
    fn default() -> NameCache {
        NameCache::new()
    }
}

impl NameCache {
    pub fn new() -> NameCache {
        NameCache { by_name: vec![None; SLOT_COUNT], by_sym: vec![None; SLOT_COUNT] }
    }

    /// The symbol of a name.
    pub fn sym(&mut self, name: &str) -> Result<Sym, SymTableFull> {
        let slot = slot_of(name.as_bytes());
        if let Some((cached, sym)) = self.by_name[slot]
            && cached == name
        {
            return Ok(sym);
        }
        let sym = Sym::try_new(name)?;
        self.by_name[slot] = Some((sym.as_str(), sym));
        Ok(sym)
    }

    /// The symbol of a name given as UTF-8 bytes; `None` when they are not UTF-8.
    pub fn sym_of_bytes(&mut self, name: &[u8]) -> Option<Result<Sym, SymTableFull>> {
        let slot = slot_of(name);
        if let Some((cached, sym)) = self.by_name[slot]
            && cached.as_bytes() == name
        {
            return Some(Ok(sym));
        }
        std::str::from_utf8(name).ok().map(|name| self.sym(name))
    }

    /// The name of a symbol.
    pub fn text(&mut self, sym: Sym) -> &'static str {
        let slot = sym.id() as usize % SLOT_COUNT;
        if let Some((text, cached)) = self.by_sym[slot]
            && cached == sym
        {
            return text;
        }
        let text = sym.as_str();
        self.by_sym[slot] = Some((text, sym));
        text
    }
}

/// Mixes length, first and last bytes: names of one history rarely agree in all three.
fn slot_of(name: &[u8]) -> usize {
    let (head, tail) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
            (Some(head), Some(tail)) => {
                (u64::from(u32::from_le_bytes(*head)), u64::from(u32::from_le_bytes(*tail)))
            }
            _ => (name.iter().fold(0, |word, &byte| (word << 8) | u64::from(byte)), 0),
        },
    };
    let mixed = (head ^ tail.rotate_left(23))
        .wrapping_add(name.len() as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize % SLOT_COUNT
}

thread_local! {
    static NAMES: RefCell<NameCache> = RefCell::new(NameCache::new());
}

/// Runs `work` with this thread's cache.
pub(crate) fn with_names<T>(work: impl FnOnce(&mut NameCache) -> T) -> T {
    NAMES.with(|names| match names.try_borrow_mut() {
        Ok(mut names) => work(&mut names),
        // Only if `work` came back here, which none does; a fresh cache is right, just cold.
        Err(_) => work(&mut NameCache::new()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colliding_names_stay_apart() {
        let mut names = NameCache::new();
        let all: Vec<String> = (0..5000).map(|n| format!("cached-name-{n}")).collect();
        for _ in 0..2 {
            for name in &all {
                let sym = names.sym(name).unwrap();
                assert_eq!(sym, Sym::new(name));
                assert_eq!(names.text(sym), name);
                assert_eq!(names.sym_of_bytes(name.as_bytes()).unwrap().unwrap(), sym);
            }
        }
        assert!(names.sym_of_bytes(b"\xff").is_none());
    }
}
