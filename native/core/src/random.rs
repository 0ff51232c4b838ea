//! The system's source of randomness, for secrets and for names that must not clash.
//!
//! Nothing that a schedule decides comes from here: that is what [`crate::seed`] is for.

use std::io;

/// Bytes of a secret: 128 bits cannot be guessed.
const SECRET_BYTES: usize = 16;

/// A new secret, in hexadecimal digits.
pub fn secret() -> io::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A number that tells runs, files and networks apart. It is not a secret: a system without a source
/// of randomness gets one from its clock and process id.
pub fn number() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let pid = u64::from(std::process::id());
        crate::clock::monotonic_ns().rotate_left(32) ^ crate::clock::wall_ns() as u64 ^ pid
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn secrets_are_long_and_different() {
        let secrets: BTreeSet<String> = (0..100).map(|_| secret().unwrap()).collect();
        assert_eq!(secrets.len(), 100);
        assert!(secrets.iter().all(|secret| secret.len() == 2 * SECRET_BYTES));
        assert_ne!(number(), number());
    }
}
