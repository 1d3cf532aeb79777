//! Fetches that several requests wait for, across the workers of a gateway: what is decided in `routecache_core::flights`
//! and `routecache_core::leases`, carried out.

use bridge_api::ReleaseRequest;
use routecache_core::flights::{Ended, FAILED_PASS_MS, Outcome, PASS_MS};
use routecache_core::leases::{Claim, End, LEASE_MS};
use routecache_core::planted::planted;
use routecache_core::policy::Reach;

use crate::host;
use crate::root::Instance;
use crate::worker::{BELL, Worker};

/// Why a parked stream is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// What it waits for may be there: the fetch that has ended began then, in milliseconds.
    Landed(u64),
    /// It is to look again, and to fetch for the others who wait; another worker's fetch that has ended began then.
    Hold(Option<u64>),
    /// It is its turn to fetch.
    Turn,
    /// It has waited long enough.
    Late,
    /// Nobody will hear the answer to its call.
    Unheard,
}

/// When a stream may fetch.
pub enum Turn {
    /// At once; whether it is counted, and so ends with [`Instance::give_turn`].
    Now {
        /// See there.
        counted: bool,
    },
    /// When it is woken.
    Later,
    /// It has waited long enough, or too many do.
    Never,
}

/// What a fetch leaves behind that has ended.
pub struct Landing {
    /// Its key.
    pub key: u64,
    /// How far its lock reaches.
    pub reach: Reach,
    /// When it began, in milliseconds.
    pub began_ms: u64,
    /// What gives back its lease in the group.
    pub leased: Option<ReleaseRequest>,
    /// When to give that back once more, in milliseconds: the group hasn't said yet that it has one, and may hear later that it was
    /// asked for than that it is given back.
    pub again_ms: Option<u64>,
}

impl Instance {
    /// Whether one more stream may be parked.
    pub fn has_room(&self) -> bool {
        let parked = u32::try_from(self.worker.borrow().parked.len()).unwrap_or(u32::MAX);
        parked < self.policy().limits.waiters
    }

    /// Asks to be the gateway's one worker that fetches a key. If another one does, the holder here is woken when that is
    /// over, or at `until_ms`.
    pub fn claim(&self, key: u64, now_ms: u64, until_ms: u64) -> Claim {
        let mut worker = self.worker.borrow_mut();
        let queue = worker.queue();
        let claim = self.shared.claim(key, worker.name, queue, now_ms);
        match claim {
            Claim::Mine => drop(worker.leases.insert(key, now_ms)),
            // Where the host has no queues, it looks again with each tick.
            Claim::Held(lease_ms) => {
                worker.flights.wait_elsewhere(key, if queue.is_some() { lease_ms.min(until_ms) } else { now_ms });
            }
            Claim::Passed(_) | Claim::Down(_) | Claim::Full => {}
        }
        claim
    }

    /// It is known elsewhere that answers for a key aren't for sharing, or that the origin is `down`: nobody waits for one.
    pub fn pass(&self, key: u64, down: bool, until_ms: u64) {
        let now_ms = host::monotonic_ms();
        let mut worker = self.worker.borrow_mut();
        let streams = worker.flights.pass(key, down, until_ms, now_ms);
        worker.wake(streams, Woken::Landed(now_ms));
        if worker.leases.remove(key).is_some() {
            self.end_lease(key, if down { End::Down(until_ms) } else { End::Unshared(until_ms) }, now_ms);
        }
    }

    /// A stream's fetch has ended: wakes who is to be woken, here, in the other workers and in the other gateways.
    pub fn land(&self, stream: u32, outcome: Outcome, landing: Landing) {
        let Landing { key, reach, began_ms, leased, again_ms } = landing;
        let now_ms = host::monotonic_ms();
        let mut worker = self.worker.borrow_mut();
        let outcome = match outcome {
            // Who has waited for it would wait as long once more.
            Outcome::Failed if now_ms.saturating_sub(began_ms) >= FAILED_PASS_MS => Outcome::Down,
            Outcome::Failed if worker.leases.contains(key) && worker.flights.is_held_by(key, stream) => {
                if self.shared.fails_again(key, now_ms) { Outcome::Down } else { outcome }
            }
            outcome => outcome,
        };
        let streams = match worker.flights.end(key, stream, outcome, now_ms) {
            Ended::Not => return,
            // It has the leases of this one, too: it may not ask the group before it fetches.
            Ended::Next(next) => {
                let heir = worker.parked.get(next).and_then(|heir| heir.try_borrow_mut().ok());
                if let Some((mut heir, leased)) = heir.zip(leased.filter(|_| !planted("lease_not_inherited"))) {
                    heir.inherits(leased);
                }
                return worker.wake(vec![next], Woken::Hold(None));
            }
            Ended::All(mut streams) => {
                if planted("waiter_forgotten") {
                    streams.pop();
                }
                streams
            }
        };
        worker.wake(streams, Woken::Landed(began_ms));
        let pass_ms = (outcome == Outcome::Uncacheable).then_some(PASS_MS);
        let end = match outcome {
            Outcome::Stored => End::Stored,
            Outcome::Uncacheable => End::Unshared(now_ms.saturating_add(PASS_MS)),
            _ if worker.flights.is_down(key, now_ms) => End::Down(now_ms.saturating_add(FAILED_PASS_MS)),
            _ => End::Nothing,
        };
        let for_all = reach >= Reach::Gateway && matches!(outcome, Outcome::Stored | Outcome::Uncacheable);
        if worker.leases.remove(key).is_some() || for_all {
            self.end_lease(key, end, began_ms);
        }
        if let Some(leased) = leased {
            worker.give_back(ReleaseRequest { pass_ms, ..leased }, again_ms);
        }
    }

    fn end_lease(&self, key: u64, end: End, began_ms: u64) {
        let message = [key.to_le_bytes(), began_ms.to_le_bytes()].concat();
        for queue in self.shared.end_lease(key, end) {
            host::ring(queue, &message);
        }
    }

    /// Hears a message of another worker: who has waited for the fetch of which it tells, if it does.
    pub fn hear(&self, message: &[u8]) -> Option<(u32, Woken)> {
        let (key, began_ms) = message.split_first_chunk()?;
        let stream = self.worker.borrow_mut().flights.heard_from_elsewhere(u64::from_le_bytes(*key))?;
        Some((stream, Woken::Hold(began_ms.try_into().ok().map(u64::from_le_bytes))))
    }

    /// Says in shared data that this worker's fetch of a key goes on, for which one more waits: a crowd may keep the ticks waiting for
    /// longer than a lease lasts.
    pub fn renew_for(&self, key: u64, now_ms: u64) {
        let mut worker = self.worker.borrow_mut();
        let Worker { leases, name, .. } = &mut *worker;
        let Some(since_ms) = leases.get_mut(key).filter(|since_ms| is_due(**since_ms, now_ms)) else { return };
        *since_ms = now_ms;
        if !self.shared.renew_lease(key, *name, now_ms) {
            leases.remove(key);
        }
    }

    /// Says in shared data that this worker's fetches go on.
    pub fn renew(&self, now_ms: u64) {
        let mut worker = self.worker.borrow_mut();
        let Worker { leases, name, running, .. } = &mut *worker;
        leases.retain(|key, since_ms| {
            if !is_due(*since_ms, now_ms) {
                return true;
            }
            *since_ms = now_ms;
            self.shared.renew_lease(key, *name, now_ms)
        });
        if *running > 0 {
            self.shared.swap_permits(|permits| permits.renew(*name, *running, now_ms));
        }
    }

    /// When a stream may fetch, where fetches are counted.
    pub fn turn(&self, stream: u32, until_ms: u64) -> Turn {
        if self.policy().limits.fills.is_none() || planted("fills_unbounded") {
            return Turn::Now { counted: false };
        }
        let now_ms = host::monotonic_ms();
        if self.worker.borrow().turns.is_empty() && self.take_turn(now_ms) {
            return Turn::Now { counted: true };
        }
        if now_ms >= until_ms || !self.has_room() {
            return Turn::Never;
        }
        self.worker.borrow_mut().turns.push_back((stream, until_ms));
        Turn::Later
    }

    /// Whether one more fetch may begin now, of those that are counted.
    fn take_turn(&self, now_ms: u64) -> bool {
        let Some(max) = self.policy().limits.fills else { return true };
        let mut worker = self.worker.borrow_mut();
        let (name, queue) = (worker.name, worker.queue());
        let free = match self.shared.swap_permits(|permits| permits.take(name, queue, max, now_ms)) {
            Some(free) => free,
            // Without shared data, each worker counts for itself.
            None => worker.running < max,
        };
        worker.running = worker.running.saturating_add(free.into());
        free
    }

    /// A fetch that was counted is over: the next one here has its turn, or another worker's.
    pub fn give_turn(&self) {
        let mut worker = self.worker.borrow_mut();
        if let Some((next, _)) = worker.turns.pop_front() {
            return worker.wake(vec![next], Woken::Turn);
        }
        worker.running = worker.running.saturating_sub(1);
        let (name, now_ms) = (worker.name, host::monotonic_ms());
        for queue in self.shared.swap_permits(|permits| permits.give(name, now_ms)).unwrap_or_default() {
            host::ring(queue, BELL);
        }
    }

    /// Who is to be woken because time has passed, or another worker's fetch is over.
    pub fn due(&self, now_ms: u64) -> Vec<(Vec<u32>, Woken)> {
        let mut worker = self.worker.borrow_mut();
        if worker.parked.is_empty() {
            return Vec::new();
        }
        let mut late = worker.flights.expired(now_ms);
        late.extend(worker.turns.iter().filter(|(_, until_ms)| *until_ms <= now_ms).map(|(stream, _)| *stream));
        worker.turns.retain(|(_, until_ms)| *until_ms > now_ms);
        vec![(worker.flights.due(now_ms), Woken::Hold(None)), (late, Woken::Late)]
    }

    /// Gives turns to those who wait for one, as far as there are any.
    pub fn turns(&self) -> Vec<u32> {
        let mut next = Vec::new();
        while !self.worker.borrow().turns.is_empty() && self.take_turn(host::monotonic_ms()) {
            next.extend(self.worker.borrow_mut().turns.pop_front().map(|(stream, _)| stream));
        }
        next
    }
}

/// Whether a lease is to be renewed that was taken, or renewed, then.
fn is_due(since_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(since_ms) > LEASE_MS / 3
}
