//! [`Memory`] behind a lock and a clock.

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bridge_api::{
    FeedRequest, Listener, LookupReply, LookupRequest, Pattern, Position, PurgeReply, PurgeRequest, ReleaseReply,
    ReleaseRequest, StoreReply, StoreRequest,
};
use bytes::Bytes;

use super::Memory;
use crate::clock::Steady;
use crate::people::{Deleted, Held, KeyCall, KeyReply, Listing};
use crate::random::Random;
use crate::store::Figures;
use crate::{Answer, KeyOf, LeaseLook, Reading, Store};

/// The store of `mem://`: gone when the process ends, which the log's new era tells every gateway.
pub struct MemStore {
    memory: Arc<Mutex<Memory>>,
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    steady: Mutex<Steady>,
}

impl MemStore {
    /// An empty store of this many bytes, on the system's monotonic clock.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        // Ids look like Redis's and go on after a restart; from then on the wall clock may do what it likes.
        let started = Instant::now();
        let epoch_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let clock = move || u64::try_from(epoch_ms + started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Self::with_clock(Arc::new(Mutex::new(Memory::with_random(bytes_max, Random::from_system()))), clock)
    }

    /// A store on data that others may see too, with a clock in milliseconds. Where that steps back, the store's
    /// goes on from where it was.
    pub fn with_clock(memory: Arc<Mutex<Memory>>, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { memory, clock: Box::new(clock), steady: Mutex::default() }
    }

    fn memory(&self) -> (MutexGuard<'_, Memory>, u64) {
        // A call that panicked half-way may have left an epoch unset, so what it left isn't used again.
        let memory = self.memory.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            let mut memory = poisoned.into_inner();
            *memory = memory.emptied();
            self.memory.clear_poison();
            memory
        });
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = steady.go_on((self.clock)(), Duration::ZERO);
        drop(steady);
        (memory, now_ms)
    }
}

impl Store for MemStore {
    fn lookup<'a>(&'a self, request: &'a LookupRequest) -> Answer<'a, (LookupReply, Bytes)> {
        let (mut memory, now_ms) = self.memory();
        Box::pin(ready(Ok(memory.lookup(request, now_ms))))
    }

    fn store<'a>(&'a self, request: &'a StoreRequest, payload: Bytes) -> Answer<'a, StoreReply> {
        let (mut memory, now_ms) = self.memory();
        Box::pin(ready(Ok(memory.store(request, payload, now_ms))))
    }

    fn purge<'a>(&'a self, request: &'a PurgeRequest, patterns: &'a [Pattern]) -> Answer<'a, PurgeReply> {
        let (mut memory, now_ms) = self.memory();
        Box::pin(ready(Ok(memory.purge_with(request, patterns, now_ms))))
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Answer<'a, ReleaseReply> {
        let (mut memory, now_ms) = self.memory();
        Box::pin(ready(Ok(memory.release(request, now_ms))))
    }

    fn look_at_leases<'a>(&'a self, keys: &'a [KeyOf]) -> Answer<'a, Vec<LeaseLook>> {
        let (mut memory, now_ms) = self.memory();
        let look = |of: &KeyOf| memory.look_at_lease(&of.namespace, &of.key, now_ms);
        Box::pin(ready(Ok(keys.iter().map(look).collect())))
    }

    fn held<'a>(&'a self, of: &'a KeyOf) -> Answer<'a, Option<Held>> {
        let (mut memory, now_ms) = self.memory();
        Box::pin(ready(Ok(memory.held(&of.namespace, &of.key, now_ms))))
    }

    fn list<'a>(&'a self, namespace: &'a str) -> Answer<'a, Listing> {
        let (memory, now_ms) = self.memory();
        Box::pin(ready(Ok(memory.list(namespace, now_ms))))
    }

    fn key<'a>(&'a self, of: &'a KeyOf, call: &'a KeyCall) -> Answer<'a, KeyReply> {
        let (mut memory, now_ms) = self.memory();
        Box::pin(ready(Ok(memory.key(&of.namespace, &of.key, call, now_ms))))
    }

    fn delete_keys<'a>(&'a self, namespace: &'a str, glob: &'a str) -> Answer<'a, Deleted> {
        let (mut memory, _) = self.memory();
        Box::pin(ready(Ok(memory.delete_keys(namespace, glob))))
    }

    fn read_log<'a>(&'a self, request: &'a FeedRequest) -> Answer<'a, Reading> {
        let (mut memory, now_ms) = self.memory();
        Box::pin(ready(Ok(memory.read_log(request, now_ms))))
    }

    fn unheard<'a>(&'a self, namespace: &'a str, purged: Position, asks: Option<Listener>) -> Answer<'a, u64> {
        let (mut memory, now_ms) = self.memory();
        Box::pin(ready(Ok(memory.unheard(namespace, purged, asks, now_ms))))
    }

    fn tail<'a>(&'a self, namespace: &'a str) -> Answer<'a, Option<String>> {
        let (memory, _) = self.memory();
        Box::pin(ready(Ok(memory.tail(namespace))))
    }

    fn shared(&self) -> bool {
        false
    }

    fn ready(&self) -> Answer<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn figures(&self) -> Figures {
        Figures { bytes: self.memory().0.bytes() as u64, ..Figures::default() }
    }
}
