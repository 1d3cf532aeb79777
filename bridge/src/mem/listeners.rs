//! Which gateways hear a group's log in memory, and how far each has come.

use std::collections::HashMap;

use bridge_api::{Holder, Listener};

use super::log::Id;
use crate::limits::{LISTENERS_MAX, WINDOW_MS_MAX};

/// The gateways that poll. One that hasn't for its window trusts nothing that it holds, and is forgotten.
#[derive(Clone, Debug)]
pub(super) struct Listeners {
    /// Since when every poll has been noted: others may have polled before.
    since_ms: u64,
    known: HashMap<Holder, Heard>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    /// What it has applied.
    applied: Id,
    /// Until when it trusts what it holds.
    until_ms: u64,
}

impl Listeners {
    pub(super) fn begin(now_ms: u64) -> Self {
        Self { since_ms: now_ms, known: HashMap::new() }
    }

    /// A gateway polls, and has applied the log up to here; `None` where it is about to drop everything.
    pub(super) fn polls(&mut self, gateway: Listener, applied: Option<Id>, now_ms: u64) {
        if !self.known.contains_key(&gateway.name) {
            self.known.retain(|_, heard| heard.until_ms > now_ms);
            if self.known.len() >= LISTENERS_MAX {
                self.since_ms = now_ms;
                return;
            }
        }
        let until_ms = now_ms.saturating_add(gateway.window_ms.min(WINDOW_MS_MAX));
        self.known.insert(gateway.name, Heard { applied: applied.unwrap_or_default(), until_ms });
    }

    /// See [`crate::Store::unheard`].
    pub(super) fn unheard(&self, purged: Id, asks: Option<Listener>, now_ms: u64) -> u64 {
        let window_ms = asks.map_or(WINDOW_MS_MAX, |gateway| gateway.window_ms.min(WINDOW_MS_MAX));
        let others = self.known.iter().filter(|(name, _)| asks.is_none_or(|gateway| gateway.name != **name));
        let behind = others.filter(|(_, heard)| heard.applied < purged).map(|(_, heard)| heard.until_ms);
        behind.fold(self.since_ms.saturating_add(window_ms), u64::max).saturating_sub(now_ms)
    }
}
