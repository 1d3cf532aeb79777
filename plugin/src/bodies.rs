//! Which streams wait for a body, of requests or of responses, and whether the host shows such bodies at all while their
//! header is held.
//!
//! Envoy does where it was told so (`allow_on_headers_stop_iteration`); elsewhere the body of a held message never comes. No
//! host can be asked, so the first one finds out: if nothing of its body has come within a bound, it goes on its way, and for
//! a minute none waits.

use routecache_core::numbered::Numbered;

use crate::root::WAKES_MAX;

/// How long the first body of a request may take to begin, in milliseconds.
pub const REQUEST_WAIT_MS: u64 = 1000;

/// How long after it didn't none is waited for, in milliseconds.
const RETRY_MS: u64 = 60_000;

/// See the module.
#[derive(Default)]
pub struct Bodies {
    /// Streams that wait, and since when, in milliseconds.
    waiting: Numbered<u32, u64>,
    /// Whether the host has shown a body.
    shown: bool,
    /// No stream waits before this time, in milliseconds.
    not_before_ms: u64,
}

impl Bodies {
    /// Notes that a stream waits; false if it had better not.
    pub fn wait(&mut self, stream: u32, now_ms: impl Fn() -> u64) -> bool {
        let now_ms = now_ms();
        if now_ms < self.not_before_ms {
            return false;
        }
        self.waiting.insert(stream, now_ms);
        true
    }

    /// Notes that something of a stream's body has come; whether it was waiting.
    pub fn came(&mut self, stream: u32) -> bool {
        let waited = self.waiting.contains(stream);
        self.shown |= waited;
        waited
    }

    /// Notes that a stream doesn't wait any more; whether it did.
    pub fn done(&mut self, stream: u32) -> bool {
        self.waiting.remove(stream).is_some()
    }

    /// The streams that have waited in vain, if one has for so long; as many as may go on in one callback.
    pub fn overdue(&mut self, now_ms: u64, wait_ms: u64) -> Vec<u32> {
        let due = |since_ms: &u64| since_ms.saturating_add(wait_ms) <= now_ms;
        if self.shown || !self.waiting.values().any(due) {
            return Vec::new();
        }
        self.not_before_ms = now_ms.saturating_add(RETRY_MS);
        let overdue: Vec<u32> = self.waiting.iter().map(|(stream, _)| stream).take(WAKES_MAX).collect();
        self.waiting.retain(|stream, _| !overdue.contains(&stream));
        overdue
    }
}
