//! A clock that doesn't step back, made of one that may.

use std::time::Duration;

/// What a group's clock showed, and when that was by a clock that is never set.
///
/// Residence, soft purges and whoever polls are reckoned by the clock of the store that holds the log. That of a server is set
/// back at times, and that of a replica which takes over may be behind. Whoever was told a time can count on from there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steady {
    told: Option<(u64, Duration)>,
    ahead_ms: u64,
}

impl Steady {
    /// The least that the clock can show at `own`, a time of the caller's monotonic clock; in milliseconds, as all here.
    #[must_use]
    pub fn least_ms(&self, own: Duration) -> u64 {
        let since = |at: Duration| u64::try_from(own.saturating_sub(at).as_millis()).unwrap_or(u64::MAX);
        self.told.map_or(0, |(ms, at)| ms.saturating_add(since(at)))
    }

    /// Hears at `own` what the clock shows; returns what it is taken for. Whoever keeps the clock sees to it that it goes on
    /// after a step.
    pub fn hear(&mut self, shown_ms: u64, own: Duration) -> u64 {
        let ms = shown_ms.max(self.least_ms(own));
        self.told = Some((ms, own));
        ms
    }

    /// The same of a clock that nobody corrects: after a step back it goes on from where it was.
    pub fn go_on(&mut self, shown_ms: u64, own: Duration) -> u64 {
        let ms = self.hear(shown_ms.saturating_add(self.ahead_ms), own);
        self.ahead_ms = ms.saturating_sub(shown_ms);
        ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_from_where_it_was() {
        let mut clock = Steady::default();
        let shown = [(1_000, 0, 1_000), (1_100, 100, 1_100), (500, 150, 1_150), (600, 250, 1_250), (9_000, 260, 9_650)];
        for (shows, own, taken_for) in shown {
            assert_eq!(clock.go_on(shows, ms(own)), taken_for, "{shows} at {own}");
        }
    }

    /// Without a second clock, no more can be known than that it doesn't run backwards.
    #[test]
    fn a_clock_on_its_own_stands_for_a_moment() {
        let mut clock = Steady::default();
        let taken: Vec<u64> = [1_000, 400, 450, 2_000].map(|shows| clock.go_on(shows, ms(0))).into();
        assert_eq!(taken, [1_000, 1_000, 1_050, 2_600]);
    }

    /// As between two polls: the store's own correction follows, and isn't added to ours.
    #[test]
    fn what_the_store_corrects_is_not_corrected_twice() {
        let mut clock = Steady::default();
        let shown = [(1_000, 0, 1_000), (1_000, 300, 1_300), (1_400, 400, 1_400), (1_500, 500, 1_500)];
        for (shows, own, taken_for) in shown {
            assert_eq!(clock.hear(shows, ms(own)), taken_for, "{shows} at {own}");
        }
        assert_eq!(clock.least_ms(ms(600)), 1_600);
        assert_eq!(Steady::default().least_ms(ms(600)), 0);
    }
}
