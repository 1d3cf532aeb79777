//! Chance: what a seed repeats, or the system's.

/// SplitMix64 (Steele, Lea and Flood, 2014): one word of state, the same numbers on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`; 0 where `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u128::try_from(bound).unwrap_or(0);
        usize::try_from((u128::from(self.next()) * bound) >> 64).unwrap_or(0)
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// Where the numbers that modules draw come from.
#[derive(Clone, Debug)]
pub(crate) enum Chance {
    /// Fit for repeating a run, and for nothing that must stay secret.
    Seeded(Random),
    /// The operating system's.
    #[cfg(feature = "serve")]
    System,
}

impl Chance {
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        match self {
            Self::Seeded(random) => random.fill(bytes),
            // Modules make keys of these, so there is no going on without.
            #[cfg(feature = "serve")]
            Self::System => getrandom::fill(bytes).expect("the operating system gives random bytes"),
        }
    }
}
