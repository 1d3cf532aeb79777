//! The calls, whoever makes them: bounds first, then the store, and for a feed the waiting.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bridge_api::{
    Continuity, FeedReply, FeedRequest, Hearing, LookupReply, LookupRequest, Pattern, Position, PurgeReply,
    PurgeRequest, ReleaseReply, ReleaseRequest, StoreReply, StoreRequest, WaitReply, WaitRequest,
};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::leases::Leases;
use crate::limits::{HOLD_MS_MAX, KEEP_MS_MAX, check_key, check_name, check_namespace, check_tags};
use crate::metrics::Metrics;
use crate::people::{Deleted, Held, KeyCall, KeyReply, Listing};
use crate::published::Published;
use crate::sharing::Sharing;
use crate::store::Figures;
use crate::waiting::Waiting;
use crate::{Error, KeyOf, Reading, Store, StoreError};

/// How often it is looked whether gateways have heard of a purge: soon at first, since they typically have.
const HEARD_LOOK_MIN: Duration = Duration::from_millis(1);
const HEARD_LOOK_MAX: Duration = Duration::from_millis(16);

/// The bridge as plain calls. Cloning is cheap and gives another handle to the same.
#[derive(Clone)]
pub struct Service {
    store: Arc<dyn Store>,
    waiting: Arc<Waiting>,
    leases: Arc<Leases>,
    sharing: Arc<Sharing>,
    stopping: watch::Sender<bool>,
    /// Whether the last call to the store failed: the log tells of changes, not of each call.
    failing: Arc<AtomicBool>,
    /// What is amiss although calls are answered, by its source.
    amiss: Arc<Mutex<BTreeMap<&'static str, String>>>,
    metrics: Metrics,
    published: Published,
    started: Instant,
}

impl Service {
    /// The calls on this store.
    pub fn new(store: impl Store) -> Self {
        let store: Arc<dyn Store> = Arc::new(store);
        Self {
            waiting: Arc::new(Waiting::new(Arc::clone(&store))),
            leases: Arc::new(Leases::new(Arc::clone(&store))),
            store,
            sharing: Arc::default(),
            stopping: watch::Sender::new(false),
            failing: Arc::default(),
            amiss: Arc::default(),
            metrics: Metrics::new(),
            published: Published::default(),
            started: Instant::now(),
        }
    }

    pub(crate) fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Says that something is amiss, or that it no longer is.
    pub fn report(&self, source: &'static str, what: Option<String>) {
        let mut amiss = self.amiss.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Some(what) => amiss.insert(source, what),
            None => amiss.remove(source),
        };
    }

    /// What is amiss although calls are answered.
    #[must_use]
    pub fn amiss(&self) -> Option<String> {
        let amiss = self.amiss.lock().unwrap_or_else(PoisonError::into_inner);
        let told: Vec<String> = amiss.iter().map(|(source, what)| format!("{source}: {what}")).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn figures(&self) -> Figures {
        self.store.figures()
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Looks an entry up, perhaps by a call to the store that others share; the bytes are a hit's payload.
    ///
    /// # Errors
    ///
    /// A bound of [`crate::limits`], or the store's failure.
    pub async fn lookup(&self, request: &LookupRequest) -> Result<(LookupReply, Bytes), Error> {
        check_namespace(&request.namespace)?;
        check_key(&request.key)?;
        check_tags(&request.tags)?;
        if request.lease.is_some_and(|lease| lease.ttl_ms == 0) {
            return Err(Error::Malformed("`ttl_ms` is 0; a lease lasts at least a millisecond".to_owned()));
        }
        let call = async || self.store.lookup(request).await;
        self.noted(self.sharing.look_up(request, call, || self.metrics.shared()).await)
    }

    /// Stores an entry.
    ///
    /// # Errors
    ///
    /// A bound of [`crate::limits`], or the store's failure: then it may have been stored or not, and either is safe.
    pub async fn store(&self, mut request: StoreRequest, payload: Bytes) -> Result<StoreReply, Error> {
        check_namespace(&request.namespace)?;
        check_key(&request.key)?;
        check_tags(&request.tags)?;
        if request.keep_ms == 0 {
            return Err(Error::Malformed("`keep_ms` is 0; don't store what isn't to be kept".to_owned()));
        }
        request.keep_ms = request.keep_ms.min(KEEP_MS_MAX);
        let reply = self.noted(self.store.store(&request, payload).await);
        self.leases.stir(&request.namespace, &request.key);
        reply
    }

    /// Gives a lease back without an entry, and wakes those who wait for it here.
    ///
    /// # Errors
    ///
    /// A bound of [`crate::limits`], or the store's failure: the lease ends by itself then.
    pub async fn release(&self, request: &ReleaseRequest) -> Result<ReleaseReply, Error> {
        check_namespace(&request.namespace)?;
        check_key(&request.key)?;
        if request.pass_ms == Some(0) {
            return Err(Error::Malformed("`pass_ms` is 0; leave it out".to_owned()));
        }
        let reply = self.noted(self.store.release(request).await)?;
        self.leases.stir(&request.namespace, &request.key);
        Ok(reply)
    }

    /// Holds the answer until nobody else has the key's lease.
    ///
    /// # Errors
    ///
    /// A bound of [`crate::limits`], or the store's failure: look up again, or go to the origin.
    pub async fn wait(&self, request: WaitRequest) -> Result<WaitReply, Error> {
        check_namespace(&request.namespace)?;
        check_key(&request.key)?;
        let WaitRequest { namespace, key, holder, hold_ms } = request;
        let ends = Instant::now() + Duration::from_millis(hold_ms.min(HOLD_MS_MAX));
        tokio::select! {
            waited = self.leases.wait(KeyOf { namespace, key }, holder, ends) => self.noted(waited),
            () = self.stopped() => Ok(WaitReply::Held { remaining_ms: 0 }),
        }
    }

    /// Purges tags, and wakes the polls that are held here.
    ///
    /// # Errors
    ///
    /// A bound of [`crate::limits`], or the store's failure: then it may have been purged or not, so repeat it.
    pub async fn purge(&self, request: &PurgeRequest) -> Result<PurgeReply, Error> {
        if request.tags.is_empty() {
            return Err(Error::Malformed("the purge names no tag".to_owned()));
        }
        self.purge_all(request, &[]).await
    }

    /// Waits until every gateway of the group has heard of a purge, or trusts nothing that it holds. False if the time is up
    /// first, or the store can't tell: the purge is in the log all the same.
    async fn all_hear(&self, namespace: &str, purged: Position, hearing: Hearing) -> bool {
        let ends = Instant::now() + Duration::from_millis(hearing.hold_ms.min(HOLD_MS_MAX));
        let mut pause = HEARD_LOOK_MIN;
        loop {
            let left = match self.noted(self.store.unheard(namespace, purged, hearing.gateway).await) {
                Ok(0) => return true,
                Ok(left_ms) => Duration::from_millis(left_ms),
                Err(_) => return false,
            };
            let next = Instant::now() + pause.min(left);
            pause = (pause * 2).min(HEARD_LOOK_MAX);
            if next >= ends {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.stopped() => return false,
            }
        }
    }

    /// Purges tags and patterns, one of them at least.
    pub(crate) async fn purge_all(&self, request: &PurgeRequest, patterns: &[Pattern]) -> Result<PurgeReply, Error> {
        check_namespace(&request.namespace)?;
        check_tags(&request.tags)?;
        let mut reply = self.noted(self.store.purge(request, patterns).await)?;
        self.metrics.purged(request.tags.len());
        self.waiting.wake(&request.namespace);
        self.published.offer(request, patterns, &reply, &self.metrics);
        if let Some(hearing) = request.hear {
            reply.unheard = !self.all_hear(&request.namespace, reply.position, hearing).await;
        }
        Ok(reply)
    }

    /// What is held for a key, valid or not.
    pub(crate) async fn held(&self, of: &KeyOf) -> Result<Option<Held>, Error> {
        self.noted(self.store.held(of).await)
    }

    /// Some of a namespace's entries.
    pub(crate) async fn list(&self, namespace: &str) -> Result<Listing, Error> {
        check_namespace(namespace)?;
        self.noted(self.store.list(namespace).await)
    }

    /// One call to a key of the applications' key space.
    ///
    /// # Errors
    ///
    /// A bound of [`crate::limits`], or the store's failure: then it may have been done or not.
    pub async fn key(&self, of: &KeyOf, call: &KeyCall) -> Result<KeyReply, Error> {
        check_namespace(&of.namespace)?;
        check_name(&of.key)?;
        if let KeyCall::Set { ttl_ms: 0, .. } | KeyCall::Add { ttl_ms: 0, .. } | KeyCall::Increment { ttl_ms: 0, .. } =
            call
        {
            return Err(Error::Malformed("`ttl_ms` is 0; delete what isn't to be kept".to_owned()));
        }
        self.noted(self.store.key(of, call).await)
    }

    /// Deletes keys of that space by how they are written.
    ///
    /// # Errors
    ///
    /// A bound of [`crate::limits`], or the store's failure: then some of them may have been deleted.
    pub async fn delete_keys(&self, namespace: &str, glob: &str) -> Result<Deleted, Error> {
        check_namespace(namespace)?;
        check_name(glob)?;
        self.noted(self.store.delete_keys(namespace, glob).await)
    }

    /// Reads the log after a cursor, holding the answer while there is nothing to tell.
    ///
    /// Every answer is this call's own reading: what runs in the background only wakes it, so that a background task
    /// that hangs delays purges by at most the hold time, and never makes an old log look heard.
    ///
    /// # Errors
    ///
    /// A bound of [`crate::limits`], or the store's failure at any of the readings.
    pub async fn feed(&self, request: &FeedRequest) -> Result<FeedReply, Error> {
        check_namespace(&request.namespace)?;
        let arrived = Instant::now();
        let ends = arrived + Duration::from_millis(request.hold_ms.min(HOLD_MS_MAX));
        let mut stopping = self.stopping.subscribe();
        let place = self.waiting.enter(&request.namespace);
        loop {
            let woken = place.woken(); // before the reading, so that nothing comes between the two unnoticed
            let read_at = Instant::now();
            let reading = self.noted(self.store.read_log(request).await)?;
            if reading.continuity == Continuity::Lost {
                self.waiting.wake(&request.namespace); // the reading began a new era
            }
            let answer = |reading: Reading| {
                if let Some(oldest) = reading.oldest_ms {
                    self.metrics.fed(Duration::from_millis(oldest));
                }
                let held = read_at.duration_since(arrived).as_millis();
                reading.into_reply(u64::try_from(held).unwrap_or(u64::MAX))
            };
            if !reading.is_quiet() || read_at >= ends {
                return Ok(answer(reading));
            }
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(ends) => {}
                _ = stopping.wait_for(|stop| *stop) => return Ok(answer(reading)),
            }
        }
    }

    /// Asks the store whether it answers.
    ///
    /// # Errors
    ///
    /// The store's failure.
    pub async fn ready(&self) -> Result<(), Error> {
        self.noted(self.store.ready().await)
    }

    /// Ends all held polls, and every later one at once, with what they last read.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Resolves when [`stop`](Self::stop) has been called.
    pub(crate) async fn stopped(&self) {
        // An error would mean that the sender is gone, and `self` holds it.
        let _ = self.stopping.subscribe().wait_for(|stop| *stop).await;
    }

    fn noted<T>(&self, outcome: Result<T, StoreError>) -> Result<T, Error> {
        match &outcome {
            Ok(_) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the store answers again");
                }
            }
            Err(error) => {
                let error: &dyn std::error::Error = error;
                if self.failing.swap(true, Ordering::Relaxed) {
                    tracing::debug!(error, "the store still fails");
                } else {
                    tracing::warn!(error, "the store fails; lookups are misses until it answers");
                }
            }
        }
        outcome.map_err(Error::from)
    }
}
