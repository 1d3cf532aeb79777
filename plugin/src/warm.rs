//! Reading what the rules list, once behind the gateway's start; what is decided about it is in [`routecache_core::warm`].

use std::collections::VecDeque;

use routecache_core::fields::Fields;
use routecache_core::key::hash_of;
use routecache_core::planted::planted;
use routecache_core::warm::{Came, Part};

use crate::fetch::{self, Errand, Fetch};
use crate::host::{self, Level};
use crate::metrics;
use crate::root::Instance;

/// See the module.
#[derive(Default)]
pub struct Warming {
    /// What the claim is for; see [`routecache_core::warm::Claim::take`].
    rules: u64,
    over: bool,
    mine: bool,
    /// Places in the list, how often each was tried, and when it may be tried, in milliseconds.
    waiting: VecDeque<(usize, u8, u64)>,
    under_way: usize,
    stored: usize,
}

impl Warming {
    /// For rules that were configured by these bytes.
    pub fn new(instance: &Instance, configuration: &[u8]) -> Self {
        let warm = &instance.policy().warm;
        let rules = if warm.on_reload { hash_of(&String::from_utf8_lossy(configuration)) | 1 } else { 0 };
        Self { rules, over: warm.urls.is_empty(), ..Self::default() }
    }

    /// Begins as soon as what is read would stay, unless another worker does it; and says that it goes on.
    pub fn go_on(&mut self, instance: &Instance, now_ms: u64) {
        if self.over || !instance.may_warm(now_ms) {
            return;
        }
        let owner = instance.worker.borrow().name;
        if self.mine && self.waiting.is_empty() && self.under_way == 0 {
            self.over = true;
            instance.shared.warming(|claim| claim.done(owner));
            let all = instance.policy().warm.urls.len();
            let text = format!("routecache: warmed, {} of {all} are stored", self.stored);
            return host::log(Level::Info, &text);
        }
        // What is stored before the feed was heard for the first time goes when it is.
        let head = instance.worker.borrow_mut().follow(&instance.shared);
        if !head.is_some_and(|(head, _)| instance.trusts(&head, now_ms)) {
            return;
        }
        let part = instance.shared.warming(|claim| claim.take(self.rules, owner, now_ms)).unwrap_or(Part::Others);
        if part == Part::Mine && !self.mine {
            let first = if planted("warm_not_all") { instance.policy().warm.urls.len().div_ceil(2) } else { 0 };
            self.waiting = (first..instance.policy().warm.urls.len()).map(|place| (place, 0, now_ms)).collect();
        }
        if part != Part::Mine {
            self.waiting.clear();
        }
        self.mine = part == Part::Mine;
        self.over = part == Part::Over;
    }

    /// The next read, if it is time.
    pub fn next(&mut self, instance: &Instance, now_ms: u64) -> Option<Fetch> {
        let at = self.waiting.iter().position(|(.., due_ms)| *due_ms <= now_ms)?;
        let (place, tried, _) = self.waiting.remove(at)?;
        let url = instance.policy().warm.urls.get(place)?;
        self.under_way = self.under_way.saturating_add(1);
        Some(Fetch { errand: Errand::Warm(place, tried), header: url.header(), https: url.https })
    }

    /// Hears what has answered one; nothing, if it couldn't be sent.
    pub fn heard(&mut self, instance: &Instance, place: usize, tried: u8, answer: &[u8]) {
        self.under_way = self.under_way.saturating_sub(1);
        let fields = Fields::decode(answer).unwrap_or_default();
        let status = fetch::outcome(answer).map_or_else(|status| status, |outcome| outcome.status);
        self.came(instance, place, tried, Came::of(&fields, status, tried), status);
    }

    fn came(&mut self, instance: &Instance, place: usize, tried: u8, came: Came, status: u16) {
        match came {
            Came::Stored => {
                self.stored = self.stored.saturating_add(1);
                metrics::count("routecache_warm_stored");
            }
            Came::Nothing(Some(wait_ms)) => {
                let due_ms = host::monotonic_ms().saturating_add(wait_ms);
                self.waiting.push_back((place, tried.saturating_add(1), due_ms));
            }
            Came::Unstored | Came::Nothing(None) => {
                metrics::count("routecache_warm_failed");
                let read = instance.policy().warm.urls.get(place).map(|url| &url.read);
                let (host, target) = read.map_or(("", ""), |read| (&read.authority, &read.target));
                let text = format!("routecache: {host}{target} of the list to warm isn't stored ({status})");
                host::log(Level::Warn, &text);
            }
        }
    }
}
