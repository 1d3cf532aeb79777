//! Where a gateway's time comes from.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The two clocks that a module can read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// Stands still until it is moved.
    Virtual { now: Duration, wall: Duration },
    /// The machine's.
    #[cfg_attr(not(feature = "serve"), expect(dead_code, reason = "simulations have no use for it"))]
    Real { since: Instant },
}

impl Clock {
    /// The monotonic clock: time since the gateways started.
    pub(crate) fn now(self) -> Duration {
        match self {
            Self::Virtual { now, .. } => now,
            Self::Real { since } => since.elapsed(),
        }
    }

    /// The wall clock: time since 1970.
    pub(crate) fn wall(self) -> Duration {
        match self {
            Self::Virtual { wall, .. } => wall,
            // A machine that believes in a time before 1970 is told that it is 1970.
            Self::Real { .. } => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// Moves both clocks on to a time of the monotonic one. A real clock moves by itself.
    pub(crate) fn advance(&mut self, to: Duration) {
        if let Self::Virtual { now, wall } = self {
            let by = to.saturating_sub(*now);
            *now += by;
            *wall += by;
        }
    }

    /// Sets the wall clock alone. A real one isn't ours to set.
    pub(crate) fn set_wall(&mut self, since_1970: Duration) {
        if let Self::Virtual { wall, .. } = self {
            *wall = since_1970;
        }
    }
}
