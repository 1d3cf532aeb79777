//! Refreshing: when what is stored is asked about behind the client that it answers ([`due`]), that a gateway does so once
//! at a time for each key ([`Leases`]), and that it waits longer and longer after failures ([`backoff_ms`]).

use crate::entry::Entry;
use crate::numbered::Numbered;
use crate::planted::planted;
use crate::policy::{DeltaSeconds, Terms};
use crate::wire::Reader;

/// Why an entry is to be refreshed behind the client that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It is stale, and may be served meanwhile (RFC 5861 §3).
    Stale,
    /// It will be stale soon.
    Early,
    /// It was stored too long ago.
    Old,
}

/// Whether an entry that answers at `now_ms` is to be refreshed. `chance` is drawn evenly from all numbers; it is only
/// asked for where the rule leaves it to chance.
#[must_use]
pub fn due(entry: &Entry, terms: &Terms, now_ms: u64, chance: impl FnOnce() -> u64) -> Option<Due> {
    let fresh_ms = entry.fresh_ms(now_ms);
    if fresh_ms == 0 {
        return entry.may_be_refreshed_behind(now_ms).then_some(Due::Stale);
    }
    let stored_ms = now_ms.saturating_sub(entry.received_ms());
    let old = terms.revalidate_after.is_some_and(|after| stored_ms >= after.as_millis());
    if old && !planted("revalidate_never") {
        return Some(Due::Old);
    }
    let soon = fresh_ms <= terms.early.within.as_millis() || planted("early_always");
    let early = terms.early.within != DeltaSeconds::ZERO && soon;
    let early = early && (!terms.early.probabilistic || early_by_chance(fresh_ms, entry.freshness().took_ms, chance()));
    early.then_some(Due::Early)
}

/// What the group has looks younger than it is by the time that storing it took, where the bridge is an older one; that is
/// less, in milliseconds.
const STORING_MS: u64 = 500;

/// Whether what the group has of a key, `theirs`, was fetched since what this gateway has, and so needn't be fetched once
/// more. How old the origin says that each was tells nothing of that; how long it lasts does.
#[must_use]
pub fn supersedes(theirs: &Entry, ours: &Entry, now_ms: u64) -> bool {
    let ours_ms = ours.fresh_ms(now_ms);
    let later_ms = if ours_ms == 0 { 0 } else { ours_ms.saturating_add(STORING_MS) };
    theirs.fresh_ms(now_ms) > later_ms
}

/// "XFetch" (Vattani, Chierichetti, Lowenstein 2015, with β = 1): the likelier, the nearer the end and the longer the
/// origin takes, so that one client in all likelihood refreshes before it, and none long before.
fn early_by_chance(fresh_ms: u64, took_ms: u64, chance: u64) -> bool {
    // −ln of an even number in (0, 1], in 1/65536: leading zeros count powers of two, and the bits behind the first one
    // lie on a line between two of them, which is at most 0.06 off.
    let zeros = chance.leading_zeros();
    let behind = chance.checked_shl(zeros.saturating_add(1)).unwrap_or_default() >> 48;
    let log2 = (u64::from(zeros) << 16).saturating_add(0x1_0000_u64.saturating_sub(behind));
    const LN_2: u64 = 45_426; // in 1/65536
    let gap_ms = took_ms.max(1).saturating_mul(log2).saturating_mul(LN_2) >> 32;
    gap_ms >= fresh_ms
}

/// How long after this many failures in a row nothing is asked for again, in milliseconds.
#[must_use]
pub fn backoff_ms(failures: u8) -> u64 {
    const FIRST_MS: u64 = 500;
    const MAX_MS: u64 = 60_000;
    FIRST_MS.checked_shl(u32::from(failures.min(16))).map_or(MAX_MS, |ms| ms.min(MAX_MS))
}

/// Who refreshes what in a gateway, in a fixed number of bytes: a worker that would refresh a key takes its lease first.
/// A key that failed keeps its lease until it may be tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases(Vec<Lease>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    key: u64,
    until_ms: u64,
    failures: u64,
}

/// Leases in one [`Leases`].
const LEASES_MAX: usize = 64;

impl Leases {
    /// Reads what [`Leases::encode`] wrote; other bytes are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let mut reader = Reader::new(bytes);
        let mut leases = Vec::new();
        while let (Some(key), Some(until_ms), Some(failures)) = (reader.u64(), reader.u64(), reader.u64()) {
            leases.push(Lease { key, until_ms, failures });
        }
        leases.truncate(LEASES_MAX);
        Self(leases)
    }

    /// The leases as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|lease| [lease.key, lease.until_ms, lease.failures]).flat_map(u64::to_le_bytes).collect()
    }

    /// Takes the lease of a key until `until_ms`.
    ///
    /// # Errors
    ///
    /// When to ask again: another one has it, it has failed lately, or all leases are taken.
    pub fn take(&mut self, key: u64, now_ms: u64, until_ms: u64) -> Result<(), u64> {
        if let Some(lease) = self.0.iter_mut().find(|lease| lease.key == key) {
            if lease.until_ms > now_ms && !planted("refresh_each") {
                return Err(lease.until_ms);
            }
            lease.until_ms = until_ms;
            return Ok(());
        }
        if self.0.len() >= LEASES_MAX {
            let (at, oldest_ms) = self.oldest().unwrap_or_default();
            if oldest_ms > now_ms {
                return Err(oldest_ms);
            }
            self.0.swap_remove(at);
        }
        self.0.push(Lease { key, until_ms, failures: 0 });
        Ok(())
    }

    fn oldest(&self) -> Option<(usize, u64)> {
        self.0.iter().map(|lease| lease.until_ms).enumerate().min_by_key(|(_, until_ms)| *until_ms)
    }

    /// Gives the lease of a key back, after success.
    pub fn give_back(&mut self, key: u64) {
        self.0.retain(|lease| lease.key != key);
    }

    /// Keeps the lease of a key after a failure until it may be tried again; returns that time.
    pub fn fail(&mut self, key: u64, now_ms: u64) -> u64 {
        let Some(lease) = self.0.iter_mut().find(|lease| lease.key == key) else {
            return now_ms.saturating_add(backoff_ms(0));
        };
        let failures = u8::try_from(lease.failures).unwrap_or(u8::MAX);
        lease.until_ms = now_ms.saturating_add(backoff_ms(failures));
        lease.failures = lease.failures.saturating_add(1);
        lease.until_ms
    }
}

/// What a worker has tried lately to fetch behind its clients, and when it may try again.
#[derive(Debug, Default)]
pub struct Attempts(Numbered<u64, Attempt>);

#[derive(Debug)]
struct Attempt {
    until_ms: u64,
    failures: u8,
    /// What came wasn't for sharing.
    unshared: bool,
}

/// How long it is remembered that what came wasn't for sharing, in milliseconds.
const UNSHARED_MS: u64 = 60_000;

/// Attempts that are remembered.
const ATTEMPTS_MAX: usize = 4096;

impl Attempts {
    /// Whether a key may be tried.
    #[must_use]
    pub fn may_start(&self, key: u64, now_ms: u64) -> bool {
        self.0.get(key).is_none_or(|attempt| attempt.until_ms <= now_ms) || planted("refresh_each")
    }

    /// Whether a key has failed so lately that it isn't to be tried.
    #[must_use]
    pub fn has_failed(&self, key: u64, now_ms: u64) -> bool {
        self.0.get(key).is_some_and(|attempt| attempt.failures > 0 && attempt.until_ms > now_ms)
    }

    /// Whether what came for a key lately wasn't for sharing, so that nothing is gained by a fetch.
    #[must_use]
    pub fn is_unshared(&self, key: u64, now_ms: u64) -> bool {
        self.0.get(key).is_some_and(|attempt| attempt.unshared && attempt.until_ms > now_ms)
    }

    /// What came for a key isn't for sharing.
    pub fn unshared(&mut self, key: u64, now_ms: u64) {
        let until_ms = now_ms.saturating_add(UNSHARED_MS);
        self.add(key, now_ms, Attempt { until_ms, failures: 0, unshared: true });
    }

    /// A key isn't to be tried until then: somebody is at it.
    pub fn wait(&mut self, key: u64, now_ms: u64, until_ms: u64) {
        let failures = self.0.get(key).map_or(0, |attempt| attempt.failures);
        self.add(key, now_ms, Attempt { until_ms, failures, unshared: false });
    }

    /// A key has been fetched.
    pub fn succeed(&mut self, key: u64) {
        self.0.remove(key);
    }

    /// A key has failed.
    pub fn fail(&mut self, key: u64, now_ms: u64) {
        let failures = self.0.get(key).map_or(0, |attempt| attempt.failures);
        let until_ms = now_ms.saturating_add(backoff_ms(failures));
        self.add(key, now_ms, Attempt { until_ms, failures: failures.saturating_add(1), unshared: false });
    }

    fn add(&mut self, key: u64, now_ms: u64, attempt: Attempt) {
        if self.0.len() >= ATTEMPTS_MAX {
            self.0.retain(|_, attempt| attempt.until_ms > now_ms);
        }
        // Of too many, the new one isn't remembered: the gateway's leases still hold it.
        if self.0.len() < ATTEMPTS_MAX || self.0.contains(key) {
            self.0.insert(key, attempt);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::{Freshness, Parts, Ticket};
    use crate::policy::Early;

    fn entry(freshness: Freshness) -> Entry {
        Entry::new(&Parts {
            ticket: Ticket { era: 1, position: 1 },
            received_ms: 1000,
            freshness,
            fingerprint: 9,
            status: 200,
            key: "key",
            tags: &[],
            header: &[],
            body: b"",
        })
        .unwrap()
    }

    #[test]
    fn what_lasts_longer_was_fetched_later_whatever_age_it_came_with() {
        let lasting =
            |age_ms, fresh_ms| entry(Freshness { age_ms, lifetime_ms: age_ms + fresh_ms, ..Freshness::default() });
        for (theirs, ours, expected) in [
            (lasting(0, 900), lasting(0, 0), true),
            (lasting(600_000, 900), lasting(5000, 0), true),
            (lasting(600_000, 900), lasting(0, 500), false),
            (lasting(0, 1001), lasting(0, 500), true),
            (lasting(0, 1000), lasting(0, 500), false),
            (lasting(0, 0), lasting(600_000, 0), false),
        ] {
            assert_eq!(supersedes(&theirs, &ours, 1000), expected, "{theirs:?} {ours:?}");
        }
    }

    #[test]
    fn an_entry_is_refreshed_when_it_is_stale_when_it_soon_will_be_and_when_it_is_old() {
        let entry = entry(Freshness { lifetime_ms: 60_000, stale_while_revalidate_ms: 5000, ..Freshness::default() });
        let seconds = DeltaSeconds::saturating;
        let early = Terms { early: Early { within: seconds(10), probabilistic: false }, ..Terms::default() };
        let old = Terms { revalidate_after: Some(seconds(20)), ..Terms::default() };
        for (terms, now_ms, expected) in [
            (&Terms::default(), 1000, None),
            (&Terms::default(), 60_999, None),
            (&Terms::default(), 61_000, Some(Due::Stale)),
            (&Terms::default(), 65_999, Some(Due::Stale)),
            (&Terms::default(), 66_000, None),
            (&early, 50_999, None),
            (&early, 51_000, Some(Due::Early)),
            (&early, 61_000, Some(Due::Stale)),
            (&old, 20_999, None),
            (&old, 21_000, Some(Due::Old)),
        ] {
            assert_eq!(due(&entry, terms, now_ms, || unreachable!()), expected, "{now_ms}");
        }
    }

    /// With a mean of `took`, so that the chance to refresh with `t` to go is e^(−t/took).
    #[test]
    fn chance_refreshes_as_often_as_the_paper_says() {
        let mut chance = 88_172_645_463_325_252_u64;
        for (fresh_ms, expected) in [(1, 0.99), (50, 0.6065), (100, 0.3679), (300, 0.0498), (1000, 0.0)] {
            let mut refreshes = 0;
            for _ in 0..100_000 {
                chance ^= chance << 13;
                chance ^= chance >> 7;
                chance ^= chance << 17;
                refreshes += u32::from(early_by_chance(fresh_ms, 100, chance));
            }
            let share = f64::from(refreshes) / 100_000.0;
            assert!((share - expected).abs() < 0.04, "{fresh_ms}: {share}, not {expected}");
        }
        assert!(early_by_chance(60_000, 100_000, 0) && !early_by_chance(1, 0, u64::MAX));
    }

    #[test]
    fn after_failures_it_takes_longer_and_longer_up_to_a_minute() {
        let waits: Vec<u64> = (0..9).map(backoff_ms).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(backoff_ms(255), 60_000);
    }

    #[test]
    fn one_at_a_time_has_the_lease_of_a_key_and_a_failure_keeps_it_for_longer_each_time() {
        let mut leases = Leases::default();
        assert_eq!(leases.take(7, 100, 5000), Ok(()));
        assert_eq!((leases.take(7, 100, 5000), leases.take(8, 100, 5000)), (Err(5000), Ok(())));
        leases.give_back(7);
        assert_eq!(leases.take(7, 200, 5000), Ok(()));
        assert_eq!(leases.fail(7, 300), 800);
        assert_eq!(leases.take(7, 799, 9000), Err(800));
        assert_eq!((leases.take(7, 800, 9000), leases.fail(7, 1000)), (Ok(()), 2000));
        // A holder that died.
        assert_eq!(leases.take(8, 5000, 9000), Ok(()));
    }

    #[test]
    fn a_worker_remembers_what_it_has_tried_and_what_has_failed() {
        let mut attempts = Attempts::default();
        let seen = |attempts: &Attempts, now_ms| (attempts.may_start(7, now_ms), attempts.has_failed(7, now_ms));
        assert_eq!(seen(&attempts, 0), (true, false));
        attempts.wait(7, 0, 100);
        assert_eq!((seen(&attempts, 99), seen(&attempts, 100)), ((false, false), (true, false)));
        attempts.fail(7, 100);
        assert_eq!((seen(&attempts, 599), seen(&attempts, 600)), ((false, true), (true, false)));
        attempts.fail(7, 600);
        assert_eq!(seen(&attempts, 1599), (false, true));
        attempts.succeed(7);
        assert_eq!(seen(&attempts, 1599), (true, false));
        for key in 0..10_000 {
            attempts.wait(key, 0, 100);
        }
        assert_eq!(attempts.0.len(), ATTEMPTS_MAX);
        attempts.wait(77_777, 100, 200);
        assert_eq!(attempts.0.len(), 1);
    }

    proptest! {
        /// C13.
        #[test]
        fn leases_are_bounded_and_read_back_as_they_were_written(steps in prop::collection::vec((0u64..200, any::<bool>()), 0..400)) {
            let mut leases = Leases::default();
            for (now, (key, fails)) in steps.into_iter().enumerate() {
                let now = now as u64;
                let taken = leases.take(key, now, now + 50);
                if taken.is_ok() && fails { leases.fail(key, now); }
                prop_assert!(leases.0.len() <= LEASES_MAX);
                prop_assert_eq!(Leases::decode(&leases.encode()), leases.clone());
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let mut leases = Leases::decode(&bytes);
            let _ = leases.take(1, 2, 3);
            leases.fail(1, 2);
        }
    }
}
