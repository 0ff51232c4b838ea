//! What is wrong with a spec, and where.

use std::fmt;
use std::io;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, both from 1, columns in characters; absent for what is not in the file.
    pub place: Option<(usize, usize)>,
    /// The key, as `nemesis.faults[0].kind`; lists count from 0. Empty for the file as a whole.
    pub key: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

/// Why a spec cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// It cannot be read.
    #[error("{file}: {reason}")]
    Unreadable {
        /// As it was given.
        file: String,
        /// Why, with a near name when there is one.
        reason: String,
        /// What the system said.
        #[source]
        source: Option<io::Error>,
    },
    /// It is wrong; every problem that could be found, in order of the file.
    #[error("{}", Lines(.file, .problems))]
    Wrong {
        /// As it was given.
        file: String,
        /// At least one.
        problems: Vec<Problem>,
    },
}

impl SpecError {
    /// The problems, when it could be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            SpecError::Unreadable { .. } => &[],
            SpecError::Wrong { problems, .. } => problems,
        }
    }
}

struct Lines<'a>(&'a str, &'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.1.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            f.write_str(self.0)?;
            if let Some((line, column)) = problem.place {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}
