//! Which entries make room for others: S3-FIFO (Yang et al., SOSP 2023), by bytes.
//!
//! New entries enter a *small* queue of a tenth of what is held. One that was used there before it reaches the end moves on
//! to the *main* queue, others leave and are remembered by hash in a *ghost* queue; a key that comes back while it is
//! remembered enters the main queue at once. The main queue gives used entries another round. So a scan passes through
//! the small queue and leaves the rest in peace.

use std::collections::VecDeque;

use crate::numbered::Numbered;

/// Uses that are counted; more don't help an entry.
const USES_MAX: u8 = 3;

/// Values by 64-bit hash, within a byte budget. The values say for themselves which key they belong to.
#[derive(Debug)]
pub struct S3Fifo<V> {
    held: Numbered<u64, Held<V>>,
    small: VecDeque<Place>,
    main: VecDeque<Place>,
    ghosts: VecDeque<u64>,
    ghost_set: Numbered<u64, ()>,
    bytes_max: u64,
    small_bytes: u64,
    main_bytes: u64,
    stamp: u64,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    bytes: u64,
    uses: u8,
    in_main: bool,
    /// Tells the entry from an earlier one whose place is still in a queue.
    stamp: u64,
}

/// The state of an [`S3Fifo`], each queue with its oldest first.
#[derive(Debug, PartialEq, Eq)]
pub struct Queues<'a, V> {
    /// Entries that are new.
    pub small: Vec<Row<'a, V>>,
    /// Entries that were used.
    pub main: Vec<Row<'a, V>>,
    /// Hashes of entries that left unused.
    pub ghosts: Vec<u64>,
}

/// One entry in [`Queues`].
#[derive(Debug, PartialEq, Eq)]
pub struct Row<'a, V> {
    /// Its hash.
    pub hash: u64,
    /// Its value.
    pub value: &'a V,
    /// The bytes that it counts for.
    pub bytes: u64,
    /// How often it was used, up to a few.
    pub uses: u8,
}

/// A place in a queue; it means nothing once the entry with its stamp is gone.
type Place = (u64, u64);

impl<V> S3Fifo<V> {
    /// Holds at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self {
            held: Numbered::default(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            ghost_set: Numbered::default(),
            bytes_max,
            small_bytes: 0,
            main_bytes: 0,
            stamp: 0,
        }
    }

    /// The value for a hash; counts as a use.
    pub fn get(&mut self, hash: u64) -> Option<&V> {
        let held = self.held.get_mut(hash)?;
        held.uses = held.uses.saturating_add(1).min(USES_MAX);
        Some(&held.value)
    }

    /// The value for a hash, without a use.
    #[must_use]
    pub fn peek(&self, hash: u64) -> Option<&V> {
        self.held.get(hash).map(|held| &held.value)
    }

    /// Likewise, to be changed.
    pub fn peek_mut(&mut self, hash: u64) -> Option<&mut V> {
        self.held.get_mut(hash).map(|held| &mut held.value)
    }

    /// Puts a value in, in place of one with the same hash; returns what had to leave. A value larger than the whole
    /// budget leaves at once.
    pub fn insert(&mut self, hash: u64, value: V, bytes: u64) -> Vec<V> {
        let mut gone: Vec<V> = self.take(hash).into_iter().collect();
        if bytes > self.bytes_max {
            gone.push(value);
            return gone;
        }
        while self.bytes().saturating_add(bytes) > self.bytes_max {
            match self.evict() {
                Some(value) => gone.push(value),
                None => break,
            }
        }
        self.stamp = self.stamp.wrapping_add(1);
        let in_main = self.ghost_set.remove(hash).is_some();
        let place = (hash, self.stamp);
        if in_main {
            self.ghosts.retain(|known| *known != hash);
            self.main.push_back(place);
            self.main_bytes = self.main_bytes.saturating_add(bytes);
        } else {
            self.small.push_back(place);
            self.small_bytes = self.small_bytes.saturating_add(bytes);
        }
        self.held.insert(hash, Held { value, bytes, uses: 0, in_main, stamp: self.stamp });
        self.sweep();
        gone
    }

    /// Takes a value out.
    pub fn remove(&mut self, hash: u64) -> Option<V> {
        let value = self.take(hash);
        self.sweep();
        value
    }

    fn take(&mut self, hash: u64) -> Option<V> {
        let held = self.held.remove(hash)?;
        let queue = if held.in_main { &mut self.main_bytes } else { &mut self.small_bytes };
        *queue = queue.saturating_sub(held.bytes);
        Some(held.value)
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.small_bytes.saturating_add(self.main_bytes)
    }

    /// The budget, in bytes.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Values held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Its whole state; [`S3Fifo::restore`] and [`S3Fifo::remember`] put it back.
    #[must_use]
    pub fn queues(&self) -> Queues<'_, V> {
        let live = |queue: &VecDeque<Place>| {
            let held = |(hash, stamp): &Place| {
                self.held.get(*hash).filter(|held| held.stamp == *stamp).map(|held| (*hash, held))
            };
            queue
                .iter()
                .filter_map(held)
                .map(|(hash, held)| Row { hash, value: &held.value, bytes: held.bytes, uses: held.uses })
                .collect()
        };
        Queues { small: live(&self.small), main: live(&self.main), ghosts: self.ghosts.iter().copied().collect() }
    }

    /// Puts back what [`S3Fifo::queues`] listed.
    pub fn restore(&mut self, in_main: bool, hash: u64, value: V, bytes: u64, uses: u8) {
        self.stamp = self.stamp.wrapping_add(1);
        let (queue, total) =
            if in_main { (&mut self.main, &mut self.main_bytes) } else { (&mut self.small, &mut self.small_bytes) };
        queue.push_back((hash, self.stamp));
        *total = total.saturating_add(bytes);
        self.held.insert(hash, Held { value, bytes, uses: uses.min(USES_MAX), in_main, stamp: self.stamp });
    }

    /// Remembers a hash as gone; the oldest are forgotten beyond `keep`.
    pub fn remember(&mut self, hash: u64, keep: usize) {
        if self.ghost_set.insert(hash, ()).is_none() {
            self.ghosts.push_back(hash);
        }
        while self.ghosts.len() > keep {
            match self.ghosts.pop_front() {
                Some(oldest) => self.ghost_set.remove(oldest),
                None => break,
            };
        }
    }

    /// Takes out what the policy can spare most; `None` when nothing is held.
    pub fn evict(&mut self) -> Option<V> {
        // A share of what is held, not of the budget: a table may be full by the number of its values long before it is by bytes.
        if self.small_bytes > self.bytes() / 10 || self.main_bytes == 0 {
            self.evict_small().or_else(|| self.evict_main())
        } else {
            self.evict_main().or_else(|| self.evict_small())
        }
    }

    fn evict_small(&mut self) -> Option<V> {
        while let Some((hash, stamp)) = self.small.pop_front() {
            let Some(held) = self.held.get_mut(hash).filter(|held| held.stamp == stamp) else { continue };
            if held.uses > 0 {
                held.uses = 0;
                held.in_main = true;
                self.small_bytes = self.small_bytes.saturating_sub(held.bytes);
                self.main_bytes = self.main_bytes.saturating_add(held.bytes);
                self.main.push_back((hash, stamp));
            } else {
                self.remember(hash, self.held.len().max(16));
                return self.take(hash);
            }
        }
        None
    }

    fn evict_main(&mut self) -> Option<V> {
        while let Some((hash, stamp)) = self.main.pop_front() {
            let Some(held) = self.held.get_mut(hash).filter(|held| held.stamp == stamp) else { continue };
            if held.uses > 0 {
                held.uses = held.uses.saturating_sub(1);
                self.main.push_back((hash, stamp));
            } else {
                return self.take(hash);
            }
        }
        None
    }

    /// Drops places of entries that were replaced or removed, once they outnumber the live ones.
    fn sweep(&mut self) {
        if self.small.len().saturating_add(self.main.len()) > self.held.len().saturating_mul(2).saturating_add(16) {
            let live = |(hash, stamp): &Place| self.held.get(*hash).is_some_and(|held| held.stamp == *stamp);
            self.small.retain(live);
            self.main.retain(live);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_scan_does_not_push_out_what_is_used() {
        let mut cache = S3Fifo::new(100);
        for hash in 0..50 {
            cache.insert(hash, hash, 1);
        }
        for _ in 0..2 {
            (0..50).for_each(|hash| assert!(cache.get(hash).is_some()));
        }
        for hash in 1000..10_000 {
            cache.insert(hash, hash, 1);
        }
        assert_eq!((0..50).filter(|hash| cache.peek(*hash).is_some()).count(), 50);
    }

    #[test]
    fn a_key_that_comes_back_soon_enters_the_main_queue() {
        let mut cache = S3Fifo::new(20);
        cache.insert(7, (), 1);
        (100..120).for_each(|hash| drop(cache.insert(hash, (), 1)));
        assert!(cache.peek(7).is_none());
        cache.insert(7, (), 1);
        (200..300).for_each(|hash| drop(cache.insert(hash, (), 1)));
        assert!(cache.peek(7).is_some());
    }

    #[test]
    fn a_value_larger_than_everything_is_not_held_and_moves_nothing() {
        let mut cache = S3Fifo::new(10);
        cache.insert(1, "small", 4);
        assert_eq!(cache.insert(2, "huge", 11), ["huge"]);
        assert_eq!((cache.len(), cache.bytes()), (1, 4));
    }

    proptest! {
        /// C13: whatever is put in, taken out and used, the budget holds, the accounts are right, and nothing is lost
        /// without being returned.
        #[test]
        fn the_budget_holds_under_any_traffic(steps in prop::collection::vec((0u8..3, 0u64..40, 1u64..30), 0..400)) {
            let mut cache = S3Fifo::new(100);
            let mut live: HashMap<u64, u64> = HashMap::new();
            for (step, hash, bytes) in steps {
                match step {
                    0 => {
                        for (gone, _) in cache.insert(hash, (hash, bytes), bytes) {
                            if gone != hash { live.remove(&gone); }
                        }
                        live.insert(hash, bytes);
                    }
                    1 => prop_assert_eq!(cache.remove(hash).map(|(_, bytes)| bytes), live.remove(&hash)),
                    _ => prop_assert_eq!(cache.get(hash).map(|(_, bytes)| *bytes), live.get(&hash).copied()),
                }
                prop_assert!(cache.bytes() <= 100);
                prop_assert_eq!(cache.bytes(), live.values().sum::<u64>());
                prop_assert_eq!(cache.len(), live.len());
                prop_assert!(cache.small.len() + cache.main.len() <= 2 * live.len() + 17);
            }
        }

        #[test]
        fn queues_restored_are_the_same(hashes in prop::collection::vec(0u64..30, 0..60)) {
            let mut cache = S3Fifo::new(50);
            for hash in hashes {
                if cache.get(hash).is_none() { cache.insert(hash, hash, 3); }
            }
            let mut copy = S3Fifo::new(50);
            let queues = cache.queues();
            for (in_main, queue) in [(false, &queues.small), (true, &queues.main)] {
                queue.iter().for_each(|row| copy.restore(in_main, row.hash, *row.value, row.bytes, row.uses));
            }
            queues.ghosts.iter().for_each(|hash| copy.remember(*hash, usize::MAX));
            prop_assert_eq!(copy.queues(), cache.queues());
            prop_assert_eq!(copy.bytes(), cache.bytes());
        }
    }
}
