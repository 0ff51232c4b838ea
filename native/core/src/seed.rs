//! Where randomness comes from: one 64-bit seed, and a ChaCha8 stream for each purpose and index.
//!
//! A stream depends on nothing but (seed, purpose, index), so that adding a client or a fault does not
//! shift the draws of the others, and a printed seed means the same on every machine and release.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A generator of random numbers that belongs to one purpose.
pub type Stream = ChaCha8Rng;

/// The seed of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// The stream of `purpose` and `index`. Purposes are names such as `"generator"` or `"fault"`.
    pub fn stream(self, purpose: &str, index: u64) -> Stream {
        let mut key = [0u8; 32];
        key[0..8].copy_from_slice(&self.0.to_le_bytes());
        key[8..16].copy_from_slice(&fnv1a(purpose.as_bytes()).to_le_bytes());
        key[16..24].copy_from_slice(&(purpose.len() as u64).to_le_bytes());
        let mut stream = ChaCha8Rng::from_seed(key);
        stream.set_stream(index);
        stream
    }

    /// A seed from the operating system, for runs that name none. It is printed and stored.
    pub fn from_entropy() -> Seed {
        // 53 bits: a seed survives a trip through JSON readers that keep numbers as floats.
        Seed(crate::random::number() >> 11)
    }
}

/// FNV-1a: a fixed, documented hash; its value is part of what a seed means.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_are_fixed_and_apart() {
        let draw =
            |seed: u64, purpose: &str, index: u64| Seed(seed).stream(purpose, index).next_u64();
        assert_eq!(draw(1, "generator", 0), draw(1, "generator", 0));
        assert_ne!(draw(1, "generator", 0), draw(1, "generator", 1));
        assert_ne!(draw(1, "generator", 0), draw(1, "fault", 0));
        assert_ne!(draw(1, "generator", 0), draw(2, "generator", 0));
    }
}
