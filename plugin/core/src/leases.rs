//! Flights that all workers of a gateway know of ([`Leases`]).
//!
//! Shared data holds a fixed number of values ([`BUCKETS`]), among which keys are spread by their hash. A bucket lists who
//! fetches what and until when that counts, which workers wait for it, and which answers aren't for sharing. It is changed
//! by compare-and-swap, so whoever ends a flight knows of everybody who waits for it. A lease that isn't renewed ends by
//! itself: its worker may be gone.

use crate::flights::FAILED_PASS_MS;
use crate::planted::planted;
use crate::wire::{Reader, put_len};

/// Values in shared data; see the module.
pub const BUCKETS: u16 = 64;

/// How long a lease counts, in milliseconds. Who still fetches renews it.
pub const LEASE_MS: u64 = 3000;

/// Flights of one bucket; of more, only the worker that fetches knows.
const LEASES_MAX: usize = 32;

/// Workers that wait for one flight; more of them fetch for themselves.
const WAITING_MAX: usize = 256;

/// Keys of one bucket of which it is known that nobody is to wait for them; beyond, the oldest is forgotten.
const PASSES_MAX: usize = 64;

/// What tells the other passes of a key from that of answers which aren't for sharing: a fetch has failed once; the origin is down.
const SUSPECT: u64 = 0x5555_5555;
const DOWN: u64 = 0xaaaa_aaaa;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    held: Vec<Lease>,
    /// Keys, as they are or with [`SUSPECT`] or [`DOWN`], and until when.
    passes: Vec<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Lease {
    key: u64,
    owner: u64,
    until_ms: u64,
    /// Queues of workers that are to be told.
    waiting: Vec<u32>,
}

/// What a fetch leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// There is an entry.
    Stored,
    /// Answers aren't for sharing until then, in milliseconds.
    Unshared(u64),
    /// The origin counts as down until then.
    Down(u64),
    /// Nothing that others should know.
    Nothing,
}

/// What became of a wish to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The worker fetches, for the others too.
    Mine,
    /// Another worker does, and this one is told when that is over; the lease counts until then, in milliseconds.
    Held(u64),
    /// Answers aren't for sharing until then.
    Passed(u64),
    /// The origin has just failed for another worker, and counts as down until then.
    Down(u64),
    /// There is no room to say so.
    Full,
}

/// The bucket of a key.
#[must_use]
pub fn bucket(key: u64) -> u16 {
    u16::try_from((key >> 32).checked_rem(BUCKETS.into()).unwrap_or_default()).unwrap_or_default()
}

impl Leases {
    /// Reads a bucket; what can't be read is empty.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        Self::read(&mut Reader::new(bytes)).unwrap_or_default()
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let lease = |reader: &mut Reader<'_>| {
            let (key, owner, until_ms) = (reader.u64()?, reader.u64()?, reader.u64()?);
            let waiting = (0..reader.len()?).map(|_| reader.u32()).collect::<Option<_>>()?;
            Some(Lease { key, owner, until_ms, waiting })
        };
        let held = (0..reader.len()?).map(|_| lease(reader)).collect::<Option<_>>()?;
        let passes = (0..reader.len()?).map(|_| reader.u64().zip(reader.u64())).collect::<Option<_>>()?;
        Some(Self { held, passes })
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.write().unwrap_or_default()
    }

    fn write(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        put_len(&mut out, self.held.len())?;
        for Lease { key, owner, until_ms, waiting } in &self.held {
            [key, owner, until_ms].iter().for_each(|number| out.extend(number.to_le_bytes()));
            put_len(&mut out, waiting.len())?;
            waiting.iter().for_each(|queue| out.extend(queue.to_le_bytes()));
        }
        put_len(&mut out, self.passes.len())?;
        for (key, until_ms) in &self.passes {
            [key, until_ms].iter().for_each(|number| out.extend(number.to_le_bytes()));
        }
        Some(out)
    }

    /// A worker wants to fetch a key; if another one does, it waits to be told at `queue`.
    pub fn claim(&mut self, key: u64, owner: u64, queue: Option<u32>, now_ms: u64) -> Claim {
        self.passes.retain(|(_, until_ms)| *until_ms > now_ms);
        if let Some(until_ms) = self.passed(key) {
            return Claim::Passed(until_ms);
        }
        if let Some(until_ms) = self.passed(key ^ DOWN) {
            return Claim::Down(until_ms);
        }
        let until_ms = now_ms.saturating_add(LEASE_MS);
        // Those of others that are over; who waits for one of them looks again by itself.
        self.held.retain(|lease| lease.key == key || lease.until_ms > now_ms);
        let full = self.held.len() >= LEASES_MAX;
        match self.held.iter_mut().find(|lease| lease.key == key) {
            Some(lease) if lease.owner != owner && (lease.until_ms > now_ms || planted("lease_never_ends")) => {
                let known = queue.filter(|queue| !lease.waiting.contains(queue));
                match known {
                    Some(_) if lease.waiting.len() >= WAITING_MAX => return Claim::Full,
                    Some(queue) => lease.waiting.push(queue),
                    None => {}
                }
                Claim::Held(lease.until_ms)
            }
            Some(lease) => {
                (lease.owner, lease.until_ms) = (owner, until_ms);
                lease.waiting.retain(|known| Some(*known) != queue);
                Claim::Mine
            }
            None if full => Claim::Full,
            None => {
                self.held.push(Lease { key, owner, until_ms, waiting: Vec::new() });
                Claim::Mine
            }
        }
    }

    fn passed(&self, key: u64) -> Option<u64> {
        self.passes.iter().find(|(passed, _)| *passed == key).map(|(_, until_ms)| *until_ms)
    }

    fn pass(&mut self, key: u64, until_ms: u64) {
        self.passes.retain(|(passed, _)| *passed != key);
        if self.passes.len() >= PASSES_MAX {
            self.passes.remove(0);
        }
        self.passes.push((key, until_ms));
    }

    /// A fetch has failed; whether one had in the gateway a moment ago, so that nobody is to try once more.
    pub fn fail(&mut self, key: u64, now_ms: u64) -> bool {
        let again = self.passed(key ^ SUSPECT).is_some_and(|until_ms| until_ms > now_ms);
        self.pass(key ^ SUSPECT, now_ms.saturating_add(FAILED_PASS_MS));
        again
    }

    /// A fetch is over, whoever held the lease, or given up by its owner. Returns the queues of the workers that wait.
    pub fn end(&mut self, key: u64, end: End) -> Vec<u32> {
        match end {
            End::Nothing => {}
            End::Stored => self.passes.retain(|(passed, _)| ![key, key ^ SUSPECT, key ^ DOWN].contains(passed)),
            End::Unshared(until_ms) => self.pass(key, until_ms),
            End::Down(until_ms) => self.pass(key ^ DOWN, until_ms),
        }
        let at = self.held.iter().position(|lease| lease.key == key);
        at.map(|at| self.held.swap_remove(at).waiting).unwrap_or_default()
    }

    /// Whether this worker still holds the lease; if so, it counts for longer.
    pub fn renew(&mut self, key: u64, owner: u64, now_ms: u64) -> bool {
        let lease = self.held.iter_mut().find(|lease| lease.key == key && lease.owner == owner);
        lease.map(|lease| lease.until_ms = now_ms.saturating_add(LEASE_MS)).is_some()
    }

    /// Whether there is anything to say of a key.
    #[must_use]
    pub fn knows(&self, key: u64) -> bool {
        self.held.iter().any(|lease| lease.key == key) || self.passes.iter().any(|(passed, _)| *passed == key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: u64 = 0xa;
    const B: u64 = 0xb;

    fn held() -> Leases {
        let mut leases = Leases::default();
        assert_eq!(leases.claim(7, A, Some(1), 100), Claim::Mine);
        leases
    }

    #[test]
    fn one_worker_fetches_and_the_others_are_told() {
        let mut leases = held();
        assert_eq!(leases.claim(7, B, Some(2), 200), Claim::Held(100 + LEASE_MS));
        assert_eq!(leases.claim(7, B, Some(2), 300), Claim::Held(100 + LEASE_MS), "listed once");
        assert_eq!(leases.claim(7, A, Some(1), 300), Claim::Mine, "it is its own");
        assert_eq!(leases.claim(8, B, Some(2), 300), Claim::Mine, "another key");
        assert_eq!(leases.end(7, End::Stored), [2]);
        assert_eq!(leases.claim(7, B, Some(2), 400), Claim::Mine);
    }

    /// I23.
    #[test]
    fn a_lease_that_isnt_renewed_ends_and_who_takes_over_tells_those_who_wait() {
        let mut leases = held();
        leases.claim(7, B, Some(2), 200);
        leases.claim(7, 0xc, Some(3), 200);
        let over = 100 + LEASE_MS;
        assert_eq!(leases.claim(7, B, Some(2), over - 1), Claim::Held(over));
        assert_eq!(leases.claim(7, B, Some(2), over), Claim::Mine);
        assert!(!leases.renew(7, A, over) && leases.renew(7, B, over));
        assert_eq!(leases.end(7, End::Stored), [3]);
    }

    #[test]
    fn a_renewed_lease_counts_for_longer() {
        let mut leases = held();
        assert!(leases.renew(7, A, 2000));
        assert_eq!(leases.claim(7, B, None, 4000), Claim::Held(2000 + LEASE_MS));
    }

    /// I17.
    #[test]
    fn what_isnt_for_sharing_is_known_to_all_for_a_while() {
        let mut leases = held();
        leases.claim(7, B, Some(2), 200);
        assert_eq!(leases.end(7, End::Unshared(1000)), [2]);
        assert_eq!(leases.claim(7, B, Some(2), 999), Claim::Passed(1000));
        assert_eq!(leases.claim(7, B, Some(2), 1000), Claim::Mine);
        leases.end(7, End::Unshared(2000));
        leases.end(7, End::Stored);
        assert!(!leases.knows(7), "an entry ends it");
    }

    #[test]
    fn an_origin_that_fails_twice_is_down_for_all_workers_and_an_entry_ends_that() {
        let mut leases = held();
        assert!(!leases.fail(7, 200) && !leases.fail(8, 200));
        assert!(leases.end(7, End::Nothing).is_empty());
        assert_eq!(leases.claim(7, B, Some(2), 300), Claim::Mine, "one more may try");
        leases.claim(7, A, Some(1), 300);
        assert!(leases.fail(7, 400));
        let until_ms = 400 + FAILED_PASS_MS;
        assert_eq!(leases.end(7, End::Down(until_ms)), [1]);
        assert_eq!(leases.claim(7, A, Some(1), until_ms - 1), Claim::Down(until_ms));
        assert_eq!(Leases::decode(&leases.encode()), leases);
        assert_eq!(leases.claim(7, A, Some(1), until_ms), Claim::Mine);
        assert!(!leases.fail(7, until_ms), "that was long ago");
        leases.end(7, End::Down(until_ms + 1000));
        leases.end(7, End::Stored);
        assert_eq!(leases.claim(7, A, Some(1), until_ms), Claim::Mine);
        assert!(!leases.fail(7, until_ms));
    }

    /// C13.
    #[test]
    fn a_bucket_is_bounded() {
        let mut leases = Leases::default();
        let claims: Vec<Claim> = (0..40).map(|key| leases.claim(key, A, None, 100)).collect();
        assert_eq!(claims.iter().filter(|claim| **claim == Claim::Full).count(), 40 - LEASES_MAX);
        for number in 0..1000 {
            leases.claim(0, B, Some(number), 100);
            leases.end(u64::from(number) + 100, End::Unshared(10_000));
        }
        assert!(leases.encode().len() <= 4 + LEASES_MAX * 28 + WAITING_MAX * 4 + 4 + PASSES_MAX * 16);
    }

    #[test]
    fn buckets_come_back_as_they_were_and_nonsense_is_empty() {
        let mut leases = held();
        leases.claim(7, B, Some(2), 200);
        leases.claim(8, B, Some(2), 200);
        leases.end(9, End::Unshared(500));
        assert_eq!(Leases::decode(&leases.encode()), leases);
        assert_eq!(Leases::decode(b""), Leases::default());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut leases = Leases::decode(&bytes);
            leases.claim(7, A, Some(1), 100);
            leases.end(7, End::Stored);
        }
    }
}
