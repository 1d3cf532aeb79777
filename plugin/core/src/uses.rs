//! How often something was asked for lately, in fixed memory: a count that may be too high, never too low, and fades.

/// Counters in each row; two rows, one byte each.
const COUNTERS: usize = 4096;

/// After so many counts everything is halved, so that what is asked for now and then over days doesn't add up.
const FADE_AFTER: u32 = 40_000;

/// See the module.
#[derive(Clone, Debug)]
pub struct Uses {
    rows: [Vec<u8>; 2],
    counted: u32,
}

impl Default for Uses {
    fn default() -> Self {
        Self { rows: [vec![0; COUNTERS], vec![0; COUNTERS]], counted: 0 }
    }
}

impl Uses {
    /// Counts one more use of what has this hash; how many that makes.
    pub fn count(&mut self, hash: u64) -> u8 {
        self.counted = self.counted.saturating_add(1);
        if self.counted > FADE_AFTER {
            self.counted = 0;
            self.rows.iter_mut().flatten().for_each(|counter| *counter /= 2);
        }
        let mut least = u8::MAX;
        for (row, half) in self.rows.iter_mut().zip([hash, hash >> 32]) {
            let place = usize::try_from(half & 0xFFFF_FFFF).unwrap_or_default() % COUNTERS;
            if let Some(counter) = row.get_mut(place) {
                *counter = counter.saturating_add(1);
                least = least.min(*counter);
            }
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::hash_of;

    #[test]
    fn each_is_counted_for_itself_and_counts_fade() {
        let mut uses = Uses::default();
        assert_eq!((uses.count(hash_of("a")), uses.count(hash_of("a")), uses.count(hash_of("b"))), (1, 2, 1));
        for number in 0..2000 {
            uses.count(hash_of(&number.to_string()));
        }
        assert!(uses.count(hash_of("a")) >= 3, "never too low");
        for _ in 0..FADE_AFTER {
            uses.count(hash_of("c"));
        }
        assert!(uses.count(hash_of("b")) <= 2, "it faded");
    }
}
