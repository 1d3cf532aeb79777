//! Who waits for a group's log to change, and what wakes them: purges through this bridge at once, those of other
//! bridges when a watcher next looks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, sleep};

use crate::Store;

/// How often a watcher looks: one small read per namespace and bridge, however many polls are held.
const LOOK: Duration = Duration::from_millis(15);

/// How long a watcher stays after the last poll: gateways come back at once.
const LINGER: Duration = Duration::from_secs(2);

/// The held polls of this bridge, by namespace.
pub(crate) struct Waiting {
    store: Arc<dyn Store>,
    places: Arc<Places>,
    linger: Duration,
}

/// A held poll's seat; one per namespace, shared.
pub(crate) struct Place(Arc<Notify>);

impl Place {
    /// Resolves at the next change after this call, even one that comes before it is awaited.
    pub(crate) fn woken(&self) -> OwnedNotified {
        Arc::clone(&self.0).notified_owned()
    }
}

impl Waiting {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, places: Arc::default(), linger: LINGER }
    }

    /// Takes a place, and starts a watcher for the namespace if it needs one and has none.
    pub(crate) fn enter(&self, namespace: &str) -> Place {
        let mut places = lock(&self.places);
        if let Some(notify) = places.get(namespace) {
            return Place(Arc::clone(notify));
        }
        let notify = Arc::new(Notify::new());
        places.insert(namespace.to_owned(), Arc::clone(&notify));
        let watcher = Watcher {
            store: Arc::clone(&self.store),
            places: Arc::downgrade(&self.places),
            namespace: namespace.to_owned(),
            linger: self.linger,
        };
        tokio::spawn(watcher.run(Arc::downgrade(&notify)));
        Place(notify)
    }

    /// Wakes all that wait for this namespace.
    pub(crate) fn wake(&self, namespace: &str) {
        if let Some(notify) = lock(&self.places).get(namespace) {
            notify.notify_waiters();
        }
    }
}

type Places = Mutex<HashMap<String, Arc<Notify>>>;

fn lock(places: &Places) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
    places.lock().unwrap_or_else(PoisonError::into_inner) // whole at every moment: single inserts and removals
}

/// Looks at one namespace's log while polls are held, and gives up its place in the table when none has come for a while.
struct Watcher {
    store: Arc<dyn Store>,
    places: Weak<Places>,
    namespace: String,
    linger: Duration,
}

impl Watcher {
    async fn run(self, notify: Weak<Notify>) {
        let mut seen = None; // differs from any look, so the first one wakes: a change may have come before it
        let mut needed = Instant::now();
        loop {
            let Some(places) = self.places.upgrade() else { return };
            {
                let mut places = lock(&places);
                // The table's own handle is the one that is left when no poll is held.
                if notify.strong_count() > 1 {
                    needed = Instant::now();
                } else if needed.elapsed() >= self.linger {
                    places.remove(&self.namespace);
                    return;
                }
            }
            drop(places);
            if !self.store.shared() {
                sleep(self.linger).await; // whatever changes, changes through this bridge
                continue;
            }
            // A failed look tells nothing; the polls find out by their own readings.
            if let Ok(tail) = self.store.tail(&self.namespace).await
                && seen.as_ref() != Some(&tail)
            {
                seen = Some(tail);
                if let Some(notify) = notify.upgrade() {
                    notify.notify_waiters();
                }
            }
            sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::MemStore;

    #[tokio::test]
    async fn a_namespace_that_nobody_polls_any_longer_is_forgotten() {
        let linger = Duration::from_millis(10);
        let waiting = Waiting { linger, ..Waiting::new(Arc::new(MemStore::new(1 << 20))) };
        let place = waiting.enter("polled");
        drop(waiting.enter("left"));
        let left = async |count| {
            while lock(&waiting.places).len() > count {
                sleep(linger).await;
            }
        };
        timeout(Duration::from_secs(5), left(1)).await.unwrap();
        sleep(linger * 4).await;
        assert_eq!(lock(&waiting.places).keys().collect::<Vec<_>>(), ["polled"]);
        drop(place);
        timeout(Duration::from_secs(5), left(0)).await.unwrap();
    }

    #[tokio::test]
    async fn a_change_between_the_seat_and_the_wait_is_not_missed() {
        let waiting = Waiting::new(Arc::new(MemStore::new(1 << 20)));
        let woken = waiting.enter("n").woken();
        waiting.wake("n");
        woken.await;
    }
}
