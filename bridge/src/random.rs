//! Random numbers for records and eras. Nobody may guess right twice, but they are no secret: every answer shows them.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use bridge_api::Era;

/// SplitMix64 (Steele, Lea, Flood 2014): every number once in 2^64, from a start that differs between processes.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    /// Starts somewhere that the operating system chose.
    pub(crate) fn from_system() -> Self {
        Self::seeded(RandomState::new().hash_one(std::process::id()))
    }

    /// Gives the same numbers again for the same seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn era(&self) -> Era {
        Era(self.next())
    }
}
