//! Who waits for a lease to end. One task looks at all awaited keys in turn: a thousand waiters of one key cost the store
//! as much as one, and a thousand keys are looked at less often rather than all at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bridge_api::{Holder, WaitReply};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{KeyOf, LeaseLook, Store, StoreError};

/// How often some of the keys are looked at.
const LOOK: Duration = Duration::from_millis(15);

/// How many at once.
const KEYS_PER_LOOK: usize = 128;

/// The held waits of this bridge.
pub(crate) struct Leases {
    store: Arc<dyn Store>,
    awaited: Arc<Awaited>,
}

#[derive(Default)]
struct Awaited {
    keys: Mutex<HashMap<KeyOf, Key>>,
    /// Something changed through this bridge: look now.
    stirred: Notify,
}

/// What was seen, and when it was asked for.
type Seen = (LeaseLook, Instant);

struct Key {
    looks: watch::Sender<Seen>,
    /// When it was last looked at, counted in looks.
    looked: u64,
}

impl Awaited {
    fn keys(&self) -> MutexGuard<'_, HashMap<KeyOf, Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner) // whole at every moment
    }

    /// Those that were looked at longest ago. None if nobody waits any longer; then whoever comes next starts another task.
    fn due(&self, number: u64) -> Vec<KeyOf> {
        let mut keys = self.keys();
        keys.retain(|_, key| key.looks.receiver_count() > 0);
        let mut due: Vec<_> = keys.iter_mut().collect();
        if due.len() > KEYS_PER_LOOK {
            due.select_nth_unstable_by_key(KEYS_PER_LOOK, |(_, key)| key.looked);
            due.truncate(KEYS_PER_LOOK);
        }
        let take = |(of, key): (&KeyOf, &mut Key)| {
            key.looked = number;
            of.clone()
        };
        due.into_iter().map(take).collect()
    }

    fn tell<'a>(&self, looks: impl Iterator<Item = (&'a KeyOf, LeaseLook)>, asked: Instant) {
        let keys = self.keys();
        for (of, look) in looks {
            if let Some(key) = keys.get(of) {
                key.looks.send_replace((look, asked));
            }
        }
    }
}

impl Leases {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, awaited: Arc::default() }
    }

    /// The key's lease may have ended through this bridge.
    pub(crate) fn stir(&self, namespace: &str, key: &str) {
        let mut keys = self.awaited.keys();
        if keys.is_empty() {
            return; // most stores: spares the copies
        }
        if let Some(key) = keys.get_mut(&KeyOf { namespace: namespace.to_owned(), key: key.to_owned() }) {
            key.looked = 0;
            self.awaited.stirred.notify_one();
        }
    }

    /// Waits until nobody but `me` holds the key's lease, at most until `ends`.
    pub(crate) async fn wait(&self, of: KeyOf, me: Option<Holder>, ends: Instant) -> Result<WaitReply, StoreError> {
        let mut looks = self.enter(&of);
        let mut watch = Watch { me, entry: None, expires: None };
        loop {
            let (look, asked) = match timeout_at(ends, looks.changed()).await {
                Ok(Ok(())) => looks.borrow_and_update().clone(),
                Ok(Err(_)) => {
                    // The task has given up, since the store fails: find out how.
                    let asked = Instant::now();
                    let look = self.store.look_at_leases(&[of]).await?.pop().unwrap_or_default();
                    let held = WaitReply::Held { remaining_ms: look.remaining_ms };
                    return Ok(watch.see(&look, asked, Instant::now()).unwrap_or(held));
                }
                Err(_) => return Ok(watch.out_of_time(Instant::now())),
            };
            if let Some(ended) = watch.see(&look, asked, Instant::now()) {
                return Ok(ended);
            }
        }
    }

    fn enter(&self, of: &KeyOf) -> watch::Receiver<Seen> {
        let mut keys = self.awaited.keys();
        let idle = keys.is_empty();
        let fresh = || Key { looks: watch::Sender::new((LeaseLook::default(), Instant::now())), looked: 0 };
        let looks = keys.entry(of.clone()).or_insert_with(fresh).looks.subscribe();
        drop(keys);
        if idle {
            tokio::spawn(look_on(Arc::clone(&self.store), Arc::clone(&self.awaited)));
        }
        looks
    }
}

/// Looks at some of the keys again and again, until nobody waits or the store fails.
async fn look_on(store: Arc<dyn Store>, awaited: Arc<Awaited>) {
    for number in 1.. {
        let due = awaited.due(number);
        if due.is_empty() {
            return;
        }
        let asked = Instant::now();
        match store.look_at_leases(&due).await {
            Ok(looks) => awaited.tell(due.iter().zip(looks), asked),
            Err(_) => return awaited.keys().clear(),
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            () = awaited.stirred.notified() => {}
        }
    }
}

/// One wait, from look to look.
struct Watch {
    me: Option<Holder>,
    /// The entry that was there at first.
    entry: Option<Vec<u8>>,
    /// When the lease that was last seen ends by itself, or a little before.
    expires: Option<Instant>,
}

impl Watch {
    fn out_of_time(&self, now: Instant) -> WaitReply {
        let left = self.expires.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        WaitReply::Held { remaining_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX) }
    }

    /// How the wait ended, if it did. However late the answer comes, a lease that ended by itself isn't taken for one that
    /// was given back: its time counts from when it was asked for, and the store's milliseconds are whole ones.
    fn see(&mut self, look: &LeaseLook, asked: Instant, now: Instant) -> Option<WaitReply> {
        let LeaseLook { holder, pass, remaining_ms, ref entry } = *look;
        let held = holder.is_some() && holder != self.me;
        let stored = match &self.entry {
            Some(first) => first != entry && !entry.is_empty(),
            None => !held && !entry.is_empty(),
        };
        self.entry.get_or_insert_with(|| entry.clone());
        if pass {
            return Some(WaitReply::Pass { remaining_ms });
        }
        if stored {
            return Some(WaitReply::Stored);
        }
        if held {
            self.expires = Some(asked + Duration::from_millis(remaining_ms.saturating_sub(1)));
            return None;
        }
        let expired = self.expires.is_some_and(|at| at <= now);
        Some(if expired { WaitReply::Expired } else { WaitReply::Released })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemStore;

    #[tokio::test]
    async fn nobody_is_looked_for_when_nobody_waits() {
        let leases = Leases::new(Arc::new(MemStore::new(1 << 20)));
        let of = KeyOf { namespace: "n".into(), key: "k".into() };
        let waited = leases.wait(of, None, Instant::now() + Duration::from_secs(5)).await.unwrap();
        assert_eq!(waited, WaitReply::Released);
        while !leases.awaited.keys().is_empty() {
            sleep(LOOK).await;
        }
    }

    #[test]
    fn what_is_seen_tells_how_it_ended() {
        let now = Instant::now();
        let (they, me) = (Some(Holder(1)), Some(Holder(2)));
        let look = |holder, entry: &str| LeaseLook { holder, remaining_ms: 50, entry: entry.into(), pass: false };
        let end = |later_ms: u64, looks: &[LeaseLook]| {
            let mut watch = Watch { me, entry: None, expires: None };
            let (last, first) = looks.split_last().unwrap();
            // Each answer takes 30 ms.
            let at = |ms| now + Duration::from_millis(ms);
            assert!(first.iter().all(|look| watch.see(look, now, at(30)).is_none()), "{looks:?}");
            watch.see(last, at(later_ms.saturating_sub(30)), at(later_ms))
        };
        assert_eq!(end(0, &[look(they, "")]), None);
        assert_eq!(end(0, &[look(me, "")]), Some(WaitReply::Released));
        assert_eq!(end(9, &[look(they, "a"), look(None, "b")]), Some(WaitReply::Stored));
        assert_eq!(end(9, &[look(they, "a"), look(they, "b")]), Some(WaitReply::Stored), "by somebody without a lease");
        assert_eq!(end(9, &[look(they, "a"), look(None, "a")]), Some(WaitReply::Released));
        assert_eq!(end(60, &[look(they, "a"), look(None, "a")]), Some(WaitReply::Expired));
        assert_eq!(end(50, &[look(they, "a"), look(None, "a")]), Some(WaitReply::Expired), "though heard of late");
        assert_eq!(end(60, &[look(they, ""), look(Some(Holder(3)), "")]), None, "another has taken over");
        let pass = LeaseLook { pass: true, remaining_ms: 7, ..LeaseLook::default() };
        assert_eq!(end(9, &[look(they, ""), pass]), Some(WaitReply::Pass { remaining_ms: 7 }));
    }
}
