//! How many fetches a gateway's workers have under way together ([`Permits`]), one value in shared data.
//!
//! Each worker has a line in it, which counts until it isn't renewed any more: what a worker that died had under way
//! doesn't count for ever.

use crate::leases::LEASE_MS;
use crate::wire::{Reader, put_len};

/// Lines; a worker for which there is none isn't counted.
const WORKERS_MAX: usize = 256;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    workers: Vec<Worker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Worker {
    owner: u64,
    until_ms: u64,
    running: u32,
    /// The queue at which it waits to be told of a free permit; 0 is none.
    queue: u32,
}

impl Permits {
    /// Reads the value; what can't be read is empty.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        Self::read(&mut Reader::new(bytes)).unwrap_or_default()
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let worker = |reader: &mut Reader<'_>| {
            let (owner, until_ms) = (reader.u64()?, reader.u64()?);
            Some(Worker { owner, until_ms, running: reader.u32()?, queue: reader.u32()? })
        };
        let workers = (0..reader.len()?).map(|_| worker(reader)).collect::<Option<_>>()?;
        Some(Self { workers })
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let written = put_len(&mut out, self.workers.len());
        for worker in &self.workers {
            out.extend(worker.owner.to_le_bytes());
            out.extend(worker.until_ms.to_le_bytes());
            out.extend(worker.running.to_le_bytes());
            out.extend(worker.queue.to_le_bytes());
        }
        written.map_or_else(Vec::new, |()| out)
    }

    /// Whether a worker may begin one more fetch, of `max` together. If not, it is told at `queue` when it may try again.
    pub fn take(&mut self, owner: u64, queue: Option<u32>, max: u32, now_ms: u64) -> bool {
        self.workers.retain(|worker| worker.owner == owner || worker.until_ms > now_ms);
        let running = self.workers.iter().fold(0_u32, |sum, worker| sum.saturating_add(worker.running));
        let free = running < max;
        let Some(line) = self.line(owner, now_ms) else { return true };
        line.running = line.running.saturating_add(free.into());
        line.queue = if free { line.queue } else { queue.unwrap_or_default() };
        free
    }

    /// A fetch of this worker is over. Returns the queues of those who wait.
    pub fn give(&mut self, owner: u64, now_ms: u64) -> Vec<u32> {
        if let Some(line) = self.line(owner, now_ms) {
            line.running = line.running.saturating_sub(1);
        }
        self.workers.retain(|worker| worker.owner != owner || worker.running > 0 || worker.queue > 0);
        let waiting = self.workers.iter_mut().filter(|worker| worker.queue > 0);
        waiting.map(|worker| std::mem::take(&mut worker.queue)).collect()
    }

    /// What this worker has under way counts for longer.
    pub fn renew(&mut self, owner: u64, running: u32, now_ms: u64) {
        if let Some(line) = self.line(owner, now_ms) {
            line.running = running;
        }
    }

    /// A worker's line, which counts for a while from now on.
    fn line(&mut self, owner: u64, now_ms: u64) -> Option<&mut Worker> {
        let until_ms = now_ms.saturating_add(LEASE_MS);
        let at = match self.workers.iter().position(|worker| worker.owner == owner) {
            Some(at) => at,
            None if self.workers.len() >= WORKERS_MAX => return None,
            None => {
                self.workers.push(Worker { owner, until_ms, running: 0, queue: 0 });
                self.workers.len().saturating_sub(1)
            }
        };
        let line = self.workers.get_mut(at)?;
        line.until_ms = until_ms;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u64 = 0xa;
    const B: u64 = 0xb;

    #[test]
    fn all_workers_together_have_so_many_and_one_that_waits_is_told() {
        let mut permits = Permits::default();
        assert!(permits.take(A, Some(1), 2, 100) && permits.take(B, Some(2), 2, 100));
        assert!(!permits.take(A, Some(1), 2, 100) && !permits.take(B, Some(2), 2, 100));
        let copy = Permits::decode(&permits.encode());
        assert_eq!(copy, permits);
        assert_eq!(permits.give(A, 200), [1, 2]);
        assert!(permits.take(B, Some(2), 2, 200) && !permits.take(A, Some(1), 2, 200));
        assert_eq!(permits.give(B, 300), [1]);
    }

    /// I23.
    #[test]
    fn what_a_dead_worker_had_under_way_ends() {
        let mut permits = Permits::default();
        assert!(permits.take(A, None, 1, 100));
        assert!(!permits.take(B, None, 1, 100 + LEASE_MS - 1));
        permits.renew(A, 1, 1000);
        assert!(!permits.take(B, None, 1, 100 + LEASE_MS));
        assert!(permits.take(B, None, 1, 1000 + LEASE_MS));
    }

    #[test]
    fn nonsense_is_nobody_and_lines_are_bounded() {
        assert_eq!(Permits::decode(b"\xff\xff\xff\xffxx"), Permits::default());
        let mut permits = Permits::default();
        (0..1000).for_each(|owner| assert!(permits.take(owner, None, 10_000, 100)));
        assert!(permits.encode().len() <= 4 + WORKERS_MAX * 24);
    }
}
