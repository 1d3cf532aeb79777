//! The waiting in a feed: who is woken, how soon, and what may be counted as heard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_api::{
    Continuity, FeedReply, FeedRequest, Listener, LookupReply, LookupRequest, Pattern, Position, PurgeReply,
    PurgeRequest, ReleaseReply, ReleaseRequest, StoreReply, StoreRequest,
};
use bytes::Bytes;
use routecache_bridge::people::{Deleted, Held, KeyCall, KeyReply, Listing};
use routecache_bridge::{Answer, Figures, KeyOf, LeaseLook, MemStore, Reading, Service, Store};
use tokio::time::sleep;

use crate::support::{NAMESPACE, RedisServer, redis_store};

fn poll(cursor: Option<Position>, hold_ms: u64) -> FeedRequest {
    FeedRequest { namespace: NAMESPACE.into(), cursor, hold_ms, ..FeedRequest::default() }
}

fn purge() -> PurgeRequest {
    PurgeRequest { namespace: NAMESPACE.into(), tags: vec!["a".into()], ..PurgeRequest::default() }
}

async fn cursor(service: &Service) -> Position {
    service.feed(&poll(None, 1_000)).await.unwrap().cursor
}

/// Holds a poll at one bridge, purges at another, and says what came and how long after the acknowledgement.
async fn time_to_hear(polled: &Service, purged: &Service) -> (FeedReply, Duration) {
    let from = cursor(polled).await;
    let held = tokio::spawn({
        let polled = polled.clone();
        async move { (polled.feed(&poll(Some(from), 5_000)).await.unwrap(), Instant::now()) }
    });
    sleep(Duration::from_millis(60)).await;
    assert!(!held.is_finished());
    let acknowledged = purged.purge(&purge()).await.unwrap();
    let told = Instant::now();
    let (reply, heard) = held.await.unwrap();
    assert_eq!(reply.records[0].position, acknowledged.position);
    assert_eq!(reply.continuity, Continuity::Joined);
    (reply, heard.saturating_duration_since(told))
}

#[tokio::test]
async fn a_purge_through_this_bridge_ends_a_held_poll_at_once() {
    let service = Service::new(MemStore::new(1 << 20));
    let (reply, late) = time_to_hear(&service, &service).await;
    assert!(late < Duration::from_millis(50), "{late:?}");
    assert!((50..5_000).contains(&reply.held_ms), "{}", reply.held_ms);
}

#[tokio::test]
async fn a_purge_through_another_bridge_is_heard_within_tens_of_milliseconds() {
    let server = RedisServer::start();
    let bridge = || Service::new(redis_store(&server.url(), Duration::from_secs(2)));
    let (here, there) = (bridge(), bridge());
    let mut late = Vec::new();
    for _ in 0..9 {
        late.push(time_to_hear(&here, &there).await.1);
    }
    late.sort();
    assert!(late[4] < Duration::from_millis(80), "{late:?}"); // the median: this machine builds other things meanwhile
}

#[tokio::test]
async fn a_quiet_poll_is_held_as_long_as_it_asked() {
    let service = Service::new(MemStore::new(1 << 20));
    let from = cursor(&service).await;
    let began = Instant::now();
    let reply = service.feed(&poll(Some(from), 120)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(120));
    assert!((120..=began.elapsed().as_millis()).contains(&u128::from(reply.held_ms)));
    assert_eq!((reply.continuity, reply.cursor, reply.complete), (Continuity::Joined, from, true));
}

#[tokio::test]
async fn stopping_ends_held_polls_with_an_empty_answer() {
    let service = Service::new(MemStore::new(1 << 20));
    let from = cursor(&service).await;
    let held = tokio::spawn({
        let service = service.clone();
        async move { service.feed(&poll(Some(from), 30_000)).await.unwrap() }
    });
    sleep(Duration::from_millis(50)).await;
    service.stop();
    let reply = held.await.unwrap();
    assert_eq!((reply.continuity, reply.records.len()), (Continuity::Joined, 0));
    assert_eq!(reply.held_ms, 0, "the only reading was at the beginning");
}

#[tokio::test]
async fn a_flush_wakes_the_other_gateways_polls() {
    let service = Service::new(MemStore::new(1 << 20));
    let from = cursor(&service).await;
    let held = tokio::spawn({
        let service = service.clone();
        async move { service.feed(&poll(Some(from), 5_000)).await.unwrap() }
    });
    sleep(Duration::from_millis(30)).await;
    let never = Position { unique: from.unique ^ 1, ..from };
    assert_eq!(service.feed(&poll(Some(never), 5_000)).await.unwrap().continuity, Continuity::Lost);
    let reply = held.await.unwrap();
    assert_eq!(reply.continuity, Continuity::NewEra);
    assert!(reply.held_ms < 4_000);
}

/// A store whose readings take a while, and whose changes nobody is told of.
struct Slow(MemStore, Duration);

impl Store for Slow {
    fn lookup<'a>(&'a self, request: &'a LookupRequest) -> Answer<'a, (LookupReply, Bytes)> {
        self.0.lookup(request)
    }
    fn store<'a>(&'a self, request: &'a StoreRequest, payload: Bytes) -> Answer<'a, StoreReply> {
        self.0.store(request, payload)
    }
    fn purge<'a>(&'a self, request: &'a PurgeRequest, patterns: &'a [Pattern]) -> Answer<'a, PurgeReply> {
        self.0.purge(request, patterns)
    }
    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Answer<'a, ReleaseReply> {
        self.0.release(request)
    }
    fn look_at_leases<'a>(&'a self, keys: &'a [KeyOf]) -> Answer<'a, Vec<LeaseLook>> {
        self.0.look_at_leases(keys)
    }
    fn held<'a>(&'a self, of: &'a KeyOf) -> Answer<'a, Option<Held>> {
        self.0.held(of)
    }
    fn list<'a>(&'a self, namespace: &'a str) -> Answer<'a, Listing> {
        self.0.list(namespace)
    }
    fn key<'a>(&'a self, of: &'a KeyOf, call: &'a KeyCall) -> Answer<'a, KeyReply> {
        self.0.key(of, call)
    }
    fn delete_keys<'a>(&'a self, namespace: &'a str, glob: &'a str) -> Answer<'a, Deleted> {
        self.0.delete_keys(namespace, glob)
    }
    fn read_log<'a>(&'a self, request: &'a FeedRequest) -> Answer<'a, Reading> {
        Box::pin(async {
            let reading = self.0.read_log(request).await;
            sleep(self.1).await;
            reading
        })
    }
    fn unheard<'a>(&'a self, namespace: &'a str, purged: Position, asks: Option<Listener>) -> Answer<'a, u64> {
        self.0.unheard(namespace, purged, asks)
    }
    fn tail<'a>(&'a self, _: &'a str) -> Answer<'a, Option<String>> {
        Box::pin(std::future::pending()) // `stale_tailer`: what looks in the background hangs
    }
    fn shared(&self) -> bool {
        true
    }
    fn ready(&self) -> Answer<'_, ()> {
        self.0.ready()
    }
    fn figures(&self) -> Figures {
        self.0.figures()
    }
}

/// `heard_on_arrival`: a gateway counts the log as heard up to the start of its call + `held_ms`.
#[tokio::test]
async fn held_ends_where_the_last_reading_began() {
    let slow = Arc::new(Service::new(Slow(MemStore::new(1 << 20), Duration::from_millis(100))));
    let from = cursor(&slow).await;
    let began = Instant::now();
    let reply = slow.feed(&poll(Some(from), 150)).await.unwrap();
    let last_reading = began.elapsed() - Duration::from_millis(100);
    assert!(u128::from(reply.held_ms) <= last_reading.as_millis(), "{} > {last_reading:?}", reply.held_ms);
    assert!(reply.held_ms >= 150);
}

/// `stale_tailer`: each poll ends with a reading of its own.
#[tokio::test]
async fn a_watcher_that_hangs_delays_a_purge_by_the_hold_time_and_hides_none() {
    let memory = Arc::new(std::sync::Mutex::new(routecache_bridge::mem::Memory::new(1 << 20, 1)));
    let began = Instant::now();
    let clock = move || u64::try_from(began.elapsed().as_millis()).unwrap();
    let other_bridge = Service::new(MemStore::with_clock(Arc::clone(&memory), clock));
    let service = Service::new(Slow(MemStore::with_clock(memory, clock), Duration::ZERO));
    let from = cursor(&service).await;
    let held = tokio::spawn(async move { service.feed(&poll(Some(from), 200)).await.unwrap() });
    sleep(Duration::from_millis(50)).await;
    let purged = other_bridge.purge(&purge()).await.unwrap();
    let reply = held.await.unwrap();
    assert_eq!(reply.cursor, purged.position);
    assert!(reply.held_ms >= 200);
}
