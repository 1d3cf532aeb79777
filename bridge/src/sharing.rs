//! Lookups that ask for the same at the same time share a call to the store.
//!
//! A purge may come between two lookups, and the later one must see it. So a lookup is only answered by a call that was
//! sent after it had arrived: whoever comes while a call is under way waits for the next one, together with all others who
//! came meanwhile. A burst costs two calls, however many are in it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bridge_api::{Lease, LookupReply, LookupRequest};
use bytes::Bytes;
use tokio::sync::Mutex as Gate;

use crate::StoreError;
use crate::limits::LEASE_MS_MAX;

/// What the store answers.
pub(crate) type Found = Result<(LookupReply, Bytes), StoreError>;

/// The lookups that are under way.
#[derive(Default)]
pub(crate) struct Sharing {
    hasher: RandomState,
    turns: Mutex<HashMap<u64, Turn>>,
}

/// Those whose hash is the same.
struct Turn {
    /// Whoever holds it has a call under way. Those who wait get it in their order.
    gate: Arc<Gate<()>>,
    /// Will be answered by the next call.
    next: Option<Arc<Batch>>,
    /// Seats taken; nobody is left at 0.
    seats: usize,
}

/// Lookups that one call answers.
struct Batch {
    asked: LookupRequest,
    found: OnceLock<Found>,
}

/// A place in a turn.
struct Seat<'a> {
    sharing: &'a Sharing,
    hash: u64,
    gate: Arc<Gate<()>>,
    /// Nothing for the first, whose call is its own.
    batch: Option<Arc<Batch>>,
}

impl Sharing {
    /// Answers by `call`, or by another's; in the latter case `shared` is called.
    pub(crate) async fn look_up(
        &self,
        request: &LookupRequest,
        call: impl AsyncFnOnce() -> Found,
        shared: impl FnOnce(),
    ) -> Found {
        let LookupRequest { namespace, key, tags, known, lease, soft } = request;
        let hash = self.hasher.hash_one((namespace, key, tags, known, lease.is_some(), soft));
        let Some(seat) = self.enter(hash, request) else { return call().await };
        let _turn = seat.gate.lock().await;
        let Some(batch) = &seat.batch else { return call().await };
        if let Some(found) = batch.found.get() {
            shared();
            return answer(found, &batch.asked, request);
        }
        seat.close(batch); // whoever comes from now on comes after the call
        let found = call().await;
        let _ = batch.found.set(found.clone()); // the gate lets nobody else do this
        found
    }

    /// A place; nothing for one that must not wait: by chance, another lookup has its hash.
    fn enter(&self, hash: u64, request: &LookupRequest) -> Option<Seat<'_>> {
        let mut turns = self.turns();
        let (gate, batch) = match turns.entry(hash) {
            Entry::Vacant(place) => {
                let gate = Arc::default();
                place.insert(Turn { gate: Arc::clone(&gate), next: None, seats: 1 });
                (gate, None)
            }
            Entry::Occupied(mut place) => {
                let turn = place.get_mut();
                let batch = match &turn.next {
                    Some(batch) if is_same(&batch.asked, request) => Arc::clone(batch),
                    Some(_) => return None,
                    None => Arc::new(Batch { asked: request.clone(), found: OnceLock::new() }),
                };
                turn.next = Some(Arc::clone(&batch));
                turn.seats += 1;
                (Arc::clone(&turn.gate), Some(batch))
            }
        };
        Some(Seat { sharing: self, hash, gate, batch })
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<u64, Turn>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner) // whole at every moment
    }
}

impl Seat<'_> {
    /// Lets nobody else into the batch.
    fn close(&self, batch: &Arc<Batch>) {
        let mut turns = self.sharing.turns();
        if let Some(turn) = turns.get_mut(&self.hash) {
            turn.next.take_if(|next| Arc::ptr_eq(next, batch));
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut turns = self.sharing.turns();
        if let Entry::Occupied(mut place) = turns.entry(self.hash) {
            place.get_mut().seats -= 1;
            if place.get().seats == 0 {
                place.remove();
            }
        }
    }
}

/// Whether one answer is good for both, but for who holds the lease.
fn is_same(one: &LookupRequest, other: &LookupRequest) -> bool {
    let LookupRequest { namespace, key, tags, known, lease, soft } = one;
    *namespace == other.namespace
        && *key == other.key
        && *tags == other.tags
        && *known == other.known
        && *soft == other.soft
        && lease.is_some() == other.lease.is_some()
}

/// What was found for another, as it is for this one: a lease that the other got is held by it.
fn answer(found: &Found, other: &LookupRequest, own: &LookupRequest) -> Found {
    let mut found = found.clone();
    if let Ok((LookupReply::Miss { lease: Some(lease @ Lease::Granted), .. }, _)) = &mut found
        && let (Some(others), Some(own)) = (other.lease, own.lease)
        && others.holder != own.holder
    {
        *lease = Lease::Held { remaining_ms: others.ttl_ms.min(LEASE_MS_MAX) };
    }
    found
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Poll;
    use std::time::Duration;

    use bridge_api::{Era, Holder, LeaseRequest, Position, Ticket};
    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Answers the first call with 1, the second with 2, and so on, each once it is let go.
    struct Store {
        calls: AtomicU64,
        go: Semaphore,
    }

    impl Store {
        fn new() -> Self {
            Self { calls: AtomicU64::new(0), go: Semaphore::new(0) }
        }

        /// The answer is of the moment at which the call is sent.
        async fn call(&self, asked: &LookupRequest) -> Found {
            let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
            self.go.acquire().await.unwrap().forget();
            if asked.key == "broken" {
                return Err(StoreError::Timeout { at: "h".into(), within: Duration::ZERO });
            }
            let ticket = Ticket { at: Position { ms: number, seq: 0, unique: 0 }, era: Era(1), seen_ms: None };
            let lease = asked.lease.map(|_| Lease::Granted);
            Ok((LookupReply::Miss { ticket, lease }, Bytes::new()))
        }

        fn calls(&self) -> u64 {
            self.calls.load(Ordering::Relaxed)
        }
    }

    fn request(key: &str) -> LookupRequest {
        LookupRequest { namespace: "n".into(), key: key.into(), tags: vec!["t".into()], ..LookupRequest::default() }
    }

    async fn ask(sharing: &Sharing, store: &Store, request: &LookupRequest) -> Found {
        sharing.look_up(request, async || store.call(request).await, || {}).await
    }

    /// Lets it get on, and says whether it waits now.
    async fn waits<T>(ask: &mut Pin<Box<impl Future<Output = T>>>) -> bool {
        poll_fn(|context| Poll::Ready(ask.as_mut().poll(context).is_pending())).await
    }

    /// Which call gave this answer.
    fn call_of(found: &Found) -> u64 {
        let Ok((LookupReply::Miss { ticket, .. }, _)) = found else { panic!("{found:?}") };
        ticket.at.ms
    }

    #[tokio::test]
    async fn a_lookup_is_answered_by_a_call_that_was_sent_after_it_came() {
        let (sharing, store, asked) = (Sharing::default(), Store::new(), request("k"));
        let ask = || Box::pin(ask(&sharing, &store, &asked));
        let mut first = ask();
        assert!(waits(&mut first).await);
        // A purge could come here. Neither may see what was read before it.
        let (mut second, mut third) = (ask(), ask());
        assert!(waits(&mut second).await && waits(&mut third).await);
        assert_eq!(store.calls(), 1);
        store.go.add_permits(1);
        assert_eq!(call_of(&first.await), 1);
        assert!(waits(&mut second).await && waits(&mut third).await);
        assert_eq!(store.calls(), 2, "one for both");
        // And here again: the second call has been sent.
        let mut fourth = ask();
        assert!(waits(&mut fourth).await);
        store.go.add_permits(1);
        assert_eq!((call_of(&second.await), call_of(&third.await)), (2, 2));
        store.go.add_permits(1);
        assert_eq!(call_of(&fourth.await), 3);
        assert!(sharing.turns().is_empty());
    }

    #[tokio::test]
    async fn a_burst_costs_two_calls() {
        let (sharing, store, asked, shared) = (Sharing::default(), Store::new(), request("k"), AtomicU64::new(0));
        store.go.add_permits(1000);
        let one = async || {
            let count = || _ = shared.fetch_add(1, Ordering::Relaxed);
            let call = async || {
                tokio::task::yield_now().await;
                store.call(&asked).await
            };
            call_of(&sharing.look_up(&asked, call, count).await)
        };
        let answers = join_all((0..1000).map(|_| one())).await;
        assert_eq!((answers[0], store.calls()), (1, 2));
        assert!(answers[1..].iter().all(|call| *call == 2));
        assert_eq!(shared.into_inner(), 998);
        assert!(sharing.turns().is_empty());
    }

    #[tokio::test]
    async fn whoever_gives_up_leaves_nobody_waiting() {
        let (sharing, store, asked) = (Sharing::default(), Store::new(), request("k"));
        let ask = || Box::pin(ask(&sharing, &store, &asked));
        let (mut first, mut second, mut third) = (ask(), ask(), ask());
        assert!(waits(&mut first).await && waits(&mut second).await && waits(&mut third).await);
        drop(first);
        assert!(waits(&mut second).await);
        assert_eq!(store.calls(), 2);
        drop(second); // with its call under way
        store.go.add_permits(1);
        assert_eq!(call_of(&third.await), 3);
        assert!(sharing.turns().is_empty());
    }

    #[tokio::test]
    async fn only_what_asks_for_the_same_shares() {
        let (sharing, store) = (Sharing::default(), Store::new());
        let lease = |holder| Some(LeaseRequest { holder: Holder(holder), ttl_ms: 50 });
        let others = [
            request("k"),
            request("other"),
            LookupRequest { namespace: "m".into(), ..request("k") },
            LookupRequest { tags: vec![], ..request("k") },
            LookupRequest { known: Some(Position { ms: 1, seq: 0, unique: 0 }), ..request("k") },
            LookupRequest { lease: lease(1), ..request("k") },
        ];
        let mut asked: Vec<_> = others.iter().map(|request| Box::pin(ask(&sharing, &store, request))).collect();
        for ask in &mut asked {
            assert!(waits(ask).await);
        }
        assert_eq!(store.calls(), 6);
        // By chance of their hashes, the second of these is in the turn of the first, and the third would be in its batch.
        let first = sharing.enter(7, &others[0]).unwrap();
        let second = sharing.enter(7, &others[1]).unwrap();
        assert!(first.batch.is_none() && second.batch.as_ref().is_some_and(|batch| batch.asked == others[1]));
        assert!(sharing.enter(7, &others[2]).is_none());
    }

    #[tokio::test]
    async fn of_those_who_share_a_miss_one_is_granted_the_lease_and_a_failure_is_everybodys() {
        let (sharing, store) = (Sharing::default(), Store::new());
        let of = |key, holder| LookupRequest {
            lease: Some(LeaseRequest { holder: Holder(holder), ttl_ms: 50 }),
            ..request(key)
        };
        for (key, told) in
            [("k", vec![None, Some(Lease::Granted), Some(Lease::Held { remaining_ms: 50 })]), ("broken", vec![])]
        {
            let asked = [of(key, 1), of(key, 2), of(key, 3)];
            let mut all = Box::pin(join_all(asked.iter().map(|request| ask(&sharing, &store, request))));
            assert!(waits(&mut all).await);
            store.go.add_permits(2);
            let answers = all.await;
            for (answer, told) in answers.iter().zip(&told).skip(1) {
                assert!(matches!(answer, Ok((LookupReply::Miss { lease, .. }, _)) if lease == told), "{answer:?}");
            }
            assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), if told.is_empty() { 3 } else { 0 });
        }
        assert_eq!(store.calls(), 4);
    }
}
