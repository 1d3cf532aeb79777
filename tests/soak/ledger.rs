//! What was acknowledged, and what reads told of afterwards.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Acknowledged writes of each user that are kept, the oldest forgotten first: what was overtaken binds no more.
const KEPT: usize = 512;

/// What fails, in the order in which it does.
pub const FAULTS: [&str; 7] = [
    "bridges killed",
    "Redis masters failed over",
    "evictions at random",
    "bridges that hang",
    "times that Redis was full",
    "reloads",
    "gateways replaced",
];

/// See the module.
pub struct Ledger {
    window: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By user.
    writes: HashMap<u64, Vec<Write>>,
    /// How long after its acknowledgement a write was last not seen at another gateway.
    lags: Vec<Duration>,
    stale: Vec<String>,
}

struct Write {
    gateway: usize,
    version: u64,
    at: Instant,
    lag: Duration,
}

impl Ledger {
    /// An empty one, for this consistency window.
    pub fn new(window: Duration) -> Self {
        Self { window, state: Mutex::default() }
    }

    /// A write was acknowledged by the group.
    pub fn acknowledged(&self, user: u64, gateway: usize, version: u64, at: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { writes, lags, .. } = &mut *state;
        let writes = writes.entry(user).or_default();
        writes.push(Write { gateway, version, at, lag: Duration::ZERO });
        let over = writes.len().saturating_sub(KEPT);
        lags.extend(writes.drain(..over).map(|write| write.lag));
    }

    /// A read that began then told of a version.
    pub fn read(&self, user: u64, gateway: usize, version: u64, began: Instant, told: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { writes, stale, .. } = &mut *state;
        for write in writes.entry(user).or_default().iter_mut().rev() {
            let Some(after) = began.checked_duration_since(write.at).filter(|_| write.version > version) else {
                continue;
            };
            let own = write.gateway == gateway;
            if !own {
                write.lag = write.lag.max(after);
            }
            if own || after > self.window {
                let by = if own { "its own gateway" } else { "the other gateway" };
                stale.push(format!(
                    "user {user}: {by} tells of v{version} {:.1} ms after v{} was acknowledged ({told})",
                    after.as_secs_f64() * 1000.0,
                    write.version
                ));
                break;
            }
        }
    }

    /// What came of it, without the counts that others keep.
    pub fn report(&self) -> Report {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lags = state.lags.clone();
        lags.extend(state.writes.values().flatten().map(|write| write.lag));
        lags.sort_unstable();
        Report { lags, stale: state.stale.clone(), ..Report::default() }
    }
}

/// What came of a soak.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Reads that were answered.
    pub reads: u64,
    /// Those that a cache answered.
    pub hits: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Those whose purge the group hadn't acknowledged when they were released.
    pub pending: u64,
    /// Answers that weren't 200 although the origin and their gateway were there.
    pub failed: u64,
    /// How often each of [`FAULTS`] was.
    pub faults: [u64; FAULTS.len()],
    /// For each acknowledged write, how long after it the last read elsewhere began that didn't see it; in order.
    pub lags: Vec<Duration>,
    /// Reads that were too old, in words.
    pub stale: Vec<String>,
}

impl Report {
    /// Whether no read was too old, none failed, the cache was at work, and everything was broken that can be.
    pub fn is_good(&self) -> bool {
        let everything_failed = self.faults.iter().all(|times| *times > 0);
        self.stale.is_empty() && self.failed == 0 && self.hits > 0 && !self.lags.is_empty() && everything_failed
    }

    fn lag_ms(&self, share: usize) -> f64 {
        let place = self.lags.len().saturating_sub(1) * share / 1000;
        self.lags.get(place).map_or(0.0, |lag| lag.as_secs_f64() * 1000.0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads, hits, writes, pending, failed, faults, lags, stale } = self;
        writeln!(f, "{reads} reads ({hits} hits, {failed} failed), {writes} writes ({pending} released as pending)")?;
        let faults: Vec<String> = faults.iter().zip(FAULTS).map(|(times, name)| format!("{times} {name}")).collect();
        writeln!(f, "meanwhile: {}", faults.join(", "))?;
        write!(f, "propagation of {} acknowledged purges to the other gateway, in ms:", lags.len())?;
        for (name, share) in [("half", 500), ("90 %", 900), ("99 %", 990), ("99.9 %", 999), ("all", 1000)] {
            write!(f, "  {name} {:.1}", self.lag_ms(share))?;
        }
        writeln!(f)?;
        writeln!(f, "{} stale reads", stale.len())?;
        stale.iter().take(20).try_for_each(|read| writeln!(f, "  {read}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_writes_bind_at_once_and_others_after_the_window() {
        let (ledger, now) = (Ledger::new(Duration::from_secs(1)), Instant::now());
        let after = |ms| now + Duration::from_millis(ms);
        ledger.acknowledged(1, 0, 5, now);
        ledger.read(1, 1, 4, after(900), "");
        ledger.read(1, 0, 5, after(900), "");
        ledger.read(2, 0, 1, after(9000), "");
        assert_eq!(ledger.report().lags, [Duration::from_millis(900)]);
        assert!(ledger.report().stale.is_empty());
        ledger.read(1, 0, 4, after(1), "");
        ledger.read(1, 1, 4, after(1001), "");
        assert_eq!(ledger.report().stale.len(), 2);
    }
}
