//! Whether the bridge is asked at all ([`Breaker`]): one that doesn't answer isn't waited for by every request.

use crate::planted::planted;

/// So many calls in a row without an answer open it.
const FAILURES_MAX: u32 = 5;

/// How long it stays open at first; twice as long each time that a probe fails, up to [`OPEN_MAX_MS`].
const OPEN_MS: u64 = 1000;
const OPEN_MAX_MS: u64 = 8000;

/// Closed while the bridge answers; open when it doesn't, and then no request waits for it; half-open when it is time to
/// try, with one request.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Breaker {
    failures: u32,
    open: Option<Open>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    until_ms: u64,
    for_ms: u64,
    probing: bool,
}

impl Breaker {
    /// Whether a request may ask now. When it is time to try, the first that asks is the probe; should nobody hear what
    /// becomes of it, there is another one later.
    pub fn allows(&mut self, now_ms: u64) -> bool {
        match &mut self.open {
            None => true,
            Some(open) if now_ms >= open.until_ms => {
                *open = Open { probing: true, ..Open::until(now_ms, open.for_ms) };
                true
            }
            Some(_) => false,
        }
    }

    /// Whether it is open, or half-open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The bridge has answered; whether that closes it.
    pub fn answered(&mut self) -> bool {
        self.failures = 0;
        self.open.take().is_some()
    }

    /// A call had no answer; whether that opens it.
    pub fn failed(&mut self, now_ms: u64) -> bool {
        if let Some(open) = &mut self.open {
            if open.probing {
                *open = Open::until(now_ms, open.for_ms.saturating_mul(2).min(OPEN_MAX_MS));
            }
            return false; // or it was asked before: that tells nothing new
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX && !planted("breaker_never_opens") {
            self.open = Some(Open::until(now_ms, OPEN_MS));
        }
        self.is_open()
    }
}

impl Open {
    fn until(now_ms: u64, for_ms: u64) -> Self {
        Self { until_ms: now_ms.saturating_add(for_ms), for_ms, probing: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A breaker after so many failures at time 0.
    fn after(failures: u32) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..failures {
            breaker.failed(0);
        }
        breaker
    }

    #[test]
    fn a_few_failures_dont_open_it_and_an_answer_forgets_them() {
        let mut breaker = after(FAILURES_MAX - 1);
        assert!(breaker.allows(0) && !breaker.answered());
        assert!(!breaker.failed(0) && breaker.allows(0));
    }

    #[test]
    fn while_it_is_open_nobody_asks_then_one_does() {
        let mut breaker = after(FAILURES_MAX);
        assert!(breaker.is_open());
        let asked: Vec<bool> = [0, 500, 999, 1000, 1001, 1999].map(|now_ms| breaker.allows(now_ms)).to_vec();
        assert_eq!(asked, [false, false, false, true, false, false]);
        assert!(breaker.allows(2000), "nobody heard what became of the probe");
    }

    #[test]
    fn an_answer_closes_it() {
        let mut breaker = after(FAILURES_MAX);
        assert!(breaker.allows(1000) && breaker.answered());
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn each_probe_that_fails_doubles_the_time_up_to_a_limit() {
        let mut breaker = after(FAILURES_MAX);
        let mut now_ms = OPEN_MS;
        for open_ms in [2000, 4000, 8000, 8000] {
            assert!(breaker.allows(now_ms));
            assert!(!breaker.failed(now_ms), "it was open already");
            assert!(!breaker.allows(now_ms + open_ms - 1));
            now_ms += open_ms;
        }
    }

    /// Those that were asked before it opened fail later, and say nothing of the probe.
    #[test]
    fn late_failures_dont_prolong_it() {
        let mut breaker = after(FAILURES_MAX + 100);
        assert!(breaker.allows(1000));
    }
}
