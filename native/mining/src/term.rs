//! Terms as far as they are known before the code runs.

use std::sync::Arc;

use fuzz_dist_core::Value;

/// A term of which parts may be unknown.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Term {
    /// Decided when the code runs.
    #[default]
    Unknown,
    /// An integer.
    Int(i64),
    /// An atom.
    Atom(Arc<str>),
    /// A proper list.
    List(Arc<Vec<Term>>),
    /// A tuple.
    Tuple(Arc<Vec<Term>>),
    /// A map.
    Map {
        /// What is known of it.
        pairs: Arc<Vec<(Term, Term)>>,
        /// Whether these are all.
        whole: bool,
    },
    /// Known, but neither a time nor something that holds one: a float, a binary, a fun.
    Other,
}

impl Term {
    /// An atom.
    pub fn atom(name: &str) -> Term {
        Term::Atom(name.into())
    }

    /// A map that is known as a whole.
    pub fn map(pairs: Vec<(Term, Term)>) -> Term {
        Term::Map { pairs: Arc::new(pairs), whole: true }
    }

    /// A tuple.
    pub fn tuple(elements: Vec<Term>) -> Term {
        Term::Tuple(Arc::new(elements))
    }

    /// The name, when it is an atom.
    pub fn as_atom(&self) -> Option<&str> {
        match self {
            Term::Atom(name) => Some(name),
            _ => None,
        }
    }

    /// The value of a key in a map or in a list of pairs; `None` when it certainly has none.
    pub fn get(&self, key: &str) -> Option<Term> {
        match self {
            Term::Map { pairs, whole } => {
                let found = pairs.iter().rev().find(|(k, _)| k.as_atom() == Some(key));
                match found {
                    Some((_, value)) => Some(value.clone()),
                    None => (!whole).then_some(Term::Unknown),
                }
            }
            Term::List(items) => {
                for item in items.iter() {
                    match item {
                        Term::Tuple(pair) if pair.len() == 2 => match &pair[0] {
                            Term::Atom(name) if **name == *key => return Some(pair[1].clone()),
                            Term::Unknown => return Some(Term::Unknown),
                            _ => {}
                        },
                        Term::Unknown => return Some(Term::Unknown),
                        _ => {}
                    }
                }
                None
            }
            _ => Some(Term::Unknown),
        }
    }

    /// What is known whichever of the two it is.
    pub fn meet(self, other: &Term) -> Term {
        if self == *other { self } else { Term::Unknown }
    }
}

impl From<&Value> for Term {
    fn from(value: &Value) -> Term {
        let all = |items: &[Value]| Arc::new(items.iter().map(Term::from).collect::<Vec<_>>());
        match value {
            Value::Nil => Term::atom("nil"),
            Value::Bool(flag) => Term::atom(if *flag { "true" } else { "false" }),
            Value::Int(number) => Term::Int(*number),
            Value::Sym(name) => Term::atom(name.as_str()),
            Value::List(items) => Term::List(all(items)),
            Value::Tuple(items) => Term::Tuple(all(items)),
            Value::Map(pairs) => {
                Term::map(pairs.iter().map(|(k, v)| (Term::from(k), Term::from(v))).collect())
            }
            _ => Term::Other,
        }
    }
}
