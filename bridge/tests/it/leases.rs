//! Who fetches what is missing, and who waits: never more than a hint about validity, which the purge protocol decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_api::{
    Holder, Lease, LeaseRequest, LookupReply, LookupRequest, ReleaseReply, ReleaseRequest, StoreReply, StoreRequest,
    WaitReply, WaitRequest,
};
use bytes::Bytes;
use redis::{Commands, cmd};
use routecache_bridge::{MemStore, Service};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::{HOUR, NAMESPACE, RedisServer, Rig, redis_store};

fn is_held(lease: Option<Lease>) -> bool {
    matches!(lease, Some(Lease::Held { remaining_ms: 1.. }))
}

fn is_pass(lease: Option<Lease>) -> bool {
    matches!(lease, Some(Lease::Pass { remaining_ms: 1.. }))
}

on_both_stores! {
    async fn the_first_that_misses_fetches_and_the_others_wait(rig: Rig) {
        assert_eq!(rig.compete("k", &["a"], 1, HOUR).await, Some(Lease::Granted));
        assert!(is_held(rig.compete("k", &["a"], 2, HOUR).await));
        assert_eq!(rig.compete("k", &["a"], 1, HOUR).await, Some(Lease::Granted), "who holds it may ask again");
        assert_eq!(rig.compete("another", &["a"], 2, HOUR).await, Some(Lease::Granted));
        assert!(matches!(rig.lookup("k", &["a"]).await, LookupReply::Miss { lease: None, .. }), "it wasn't asked for");
    }

    async fn a_hit_grants_nothing(rig: Rig) {
        rig.fill("k", &["a"]).await;
        assert_eq!(rig.compete("k", &["a"], 1, HOUR).await, None);
        rig.purge(&["a"]).await;
        assert_eq!(rig.compete("k", &["a"], 2, HOUR).await, Some(Lease::Granted), "nobody holds it");
    }

    async fn what_is_there_and_void_is_fetched_by_one_too(rig: Rig) {
        rig.fill("k", &["named", "response-only"]).await;
        for purged in ["named", "response-only"] {
            rig.purge(&[purged]).await;
            assert_eq!(rig.compete("k", &["named"], 1, HOUR).await, Some(Lease::Granted), "{purged}");
            assert!(is_held(rig.compete("k", &["named"], 2, HOUR).await), "{purged}");
        }
    }

    async fn storing_ends_the_holders_lease_and_nobody_elses(rig: Rig) {
        let ticket = rig.ticket().await;
        rig.compete("k", &["a"], 1, HOUR).await;
        assert_eq!(rig.put_by(2, "k", &["a"], ticket).await, StoreReply::Stored);
        rig.purge(&["a"]).await;
        assert!(is_held(rig.compete("k", &["a"], 3, HOUR).await), "1 still fetches");
        let ticket = rig.ticket().await;
        assert_eq!(rig.put_by(1, "k", &["a"], ticket).await, StoreReply::Stored);
        rig.purge(&["a"]).await;
        assert_eq!(rig.compete("k", &["a"], 3, HOUR).await, Some(Lease::Granted));
    }

    async fn a_store_that_comes_to_nothing_ends_the_lease_too(rig: Rig) {
        rig.purge(&["b"]).await; // its epoch is older than the tickets
        let older = rig.ticket().await;
        rig.compete("k", &["a"], 1, HOUR).await;
        rig.purge(&["a"]).await;
        assert_eq!(rig.put_by(1, "k", &["a"], older).await, StoreReply::Void);
        assert_eq!(rig.compete("k", &["a"], 2, HOUR).await, Some(Lease::Granted));
        rig.compete("k2", &["b"], 1, HOUR).await;
        let newer = rig.ticket().await;
        assert_eq!(rig.put("k2", &["b"], newer).await, StoreReply::Stored);
        assert_eq!(rig.put_by(1, "k2", &["b"], older).await, StoreReply::Newer);
        rig.purge(&["b"]).await;
        assert_eq!(rig.compete("k2", &["b"], 2, HOUR).await, Some(Lease::Granted));
    }

    async fn a_lease_ends_when_it_is_given_back_or_its_time_is_up_or_it_is_forgotten(rig: Rig) {
        rig.compete("k", &[], 1, HOUR).await;
        assert_eq!(rig.release("k", 2, None).await, ReleaseReply::HeldByAnother);
        assert_eq!(rig.release("k", 1, None).await, ReleaseReply::Released);
        assert_eq!(rig.compete("k", &[], 2, 80).await, Some(Lease::Granted));
        rig.pass(120).await;
        assert_eq!(rig.compete("k", &[], 3, HOUR).await, Some(Lease::Granted));
        rig.forget_lease("k");
        assert_eq!(rig.compete("k", &[], 4, HOUR).await, Some(Lease::Granted));
        assert_eq!(rig.release("never held", 1, None).await, ReleaseReply::Released);
    }

    /// I17: what can't be stored serialises nobody.
    async fn everybody_passes_for_a_while_after_an_answer_that_could_not_be_stored(rig: Rig) {
        rig.compete("k", &["a"], 1, HOUR).await;
        assert_eq!(rig.release("k", 2, Some(HOUR)).await, ReleaseReply::HeldByAnother);
        assert_eq!(rig.release("k", 1, Some(100)).await, ReleaseReply::Released);
        for holder in 1..4 {
            assert!(is_pass(rig.compete("k", &["a"], holder, HOUR).await));
        }
        rig.pass(150).await;
        assert_eq!(rig.compete("k", &["a"], 2, HOUR).await, Some(Lease::Granted));
    }

    async fn a_store_ends_the_passing_and_is_judged_like_any_other(rig: Rig) {
        rig.release("k", 1, Some(HOUR)).await;
        let older = rig.ticket().await;
        rig.purge(&["a"]).await;
        assert_eq!(rig.put("k", &["a"], older).await, StoreReply::Void);
        assert!(is_pass(rig.compete("k", &["a"], 2, HOUR).await));
        rig.fill("k", &["a"]).await;
        rig.purge(&["a"]).await;
        assert_eq!(rig.compete("k", &["a"], 2, HOUR).await, Some(Lease::Granted));
    }

    async fn namespaces_have_leases_of_their_own(rig: Rig) {
        rig.compete("k", &[], 1, HOUR).await;
        let (namespace, key, tags) = ("shop:v2".into(), "k".into(), vec![]);
        let lease = Some(LeaseRequest { holder: Holder(2), ttl_ms: HOUR });
        let elsewhere = LookupRequest { namespace, key, tags, known: None, lease, ..LookupRequest::default() };
        let (reply, _) = rig.store.lookup(&elsewhere).await.unwrap();
        assert!(matches!(reply, LookupReply::Miss { lease: Some(Lease::Granted), .. }), "{reply:?}");
    }
}

/// The entry is judged and the lease granted in two steps: whatever comes between them counts.
#[tokio::test]
async fn behind_leaves_no_lease() {
    let rig = Rig::redis();
    let ticket = rig.ticket().await;
    let never = bridge_api::Position { unique: ticket.at.unique ^ 1, ..ticket.at };
    let lease = Some(LeaseRequest { holder: Holder(1), ttl_ms: HOUR });
    let (namespace, key, tags) = (NAMESPACE.into(), "k".into(), vec![]);
    let request = LookupRequest { namespace, key, tags, known: Some(never), lease, ..LookupRequest::default() };
    assert_eq!(rig.store.lookup(&request).await.unwrap().0, LookupReply::Behind);
    assert_eq!(rig.compete("k", &[], 2, HOUR).await, Some(Lease::Granted));
}

#[tokio::test]
async fn a_full_server_grants_leases_that_it_forgets() {
    let rig = Rig::redis();
    rig.ticket().await;
    rig.redis_do(|redis| cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec(redis));
    assert_eq!(rig.compete("k", &[], 1, HOUR).await, Some(Lease::Granted));
    assert_eq!(rig.compete("k", &[], 2, HOUR).await, Some(Lease::Granted));
}

#[tokio::test]
async fn a_lease_lies_in_its_entrys_slot_and_no_name_of_a_user_chooses_it() {
    let rig = Rig::redis();
    let ticket = rig.ticket().await;
    for key in ["{k}", "}{", "k"] {
        rig.compete(key, &[], 1, u64::MAX).await;
        rig.put(key, &[], ticket).await;
    }
    let leases: Vec<String> = rig.redis_do(|redis| cmd("KEYS").arg("routecache:lease:*").query(redis));
    assert_eq!(leases.len(), 3);
    for lease in leases {
        let entry = lease.strip_prefix("routecache:lease:{").unwrap().strip_suffix('}').unwrap();
        assert!(rig.redis_do(|redis| redis.exists::<_, bool>(entry)), "{lease}");
        assert!(!entry.contains(['{', '}']), "so it is what chooses the slot of both");
        let left_ms: i64 = rig.redis_do(|redis| redis.pttl(&lease));
        assert!((1..=5 * 60 * 1000).contains(&left_ms), "{left_ms}");
    }
}

/// C10, on one Redis and two bridges: whoever isn't granted the lease finds the entry of who was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_at_once_fetch_once() {
    let server = RedisServer::start();
    let bridges = [service(&server), service(&server)];
    for key in ["cold", "again", "and again"] {
        let fetches = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let clients: Vec<_> = (0..100_u64)
            .zip(bridges.iter().cycle())
            .map(|(client, bridge)| {
                let (bridge, fetches) = (bridge.clone(), Arc::clone(&fetches));
                tokio::spawn(async move {
                    loop {
                        let lease = Some(LeaseRequest { holder: Holder(client), ttl_ms: 30_000 });
                        let (namespace, key, tags) = (NAMESPACE.to_owned(), key.to_owned(), vec!["a".to_owned()]);
                        let asked =
                            LookupRequest { namespace, key, tags, known: None, lease, ..LookupRequest::default() };
                        let LookupReply::Miss { ticket, lease } = bridge.lookup(&asked).await.unwrap().0 else {
                            return;
                        };
                        let LookupRequest { namespace, key, tags, .. } = asked;
                        if lease == Some(Lease::Granted) {
                            fetches.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            sleep(Duration::from_millis(30)).await;
                            let holder = Some(Holder(client));
                            let store = StoreRequest { namespace, key, tags, ticket, keep_ms: HOUR, holder };
                            bridge.store(store, Bytes::from_static(b"x")).await.unwrap();
                            return;
                        }
                        let wait = WaitRequest { namespace, key, holder: None, hold_ms: 5_000 };
                        assert_eq!(bridge.wait(wait).await.unwrap(), WaitReply::Stored);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(fetches.load(std::sync::atomic::Ordering::SeqCst), 1, "{key}");
    }
}

fn service(server: &RedisServer) -> Service {
    Service::new(redis_store(&server.url(), Duration::from_secs(2)))
}

fn compete(holder: u64, ttl_ms: u64) -> LookupRequest {
    let lease = Some(LeaseRequest { holder: Holder(holder), ttl_ms });
    LookupRequest { namespace: NAMESPACE.into(), key: "k".into(), tags: vec![], lease, ..LookupRequest::default() }
}

fn wait(service: &Service, hold_ms: u64) -> JoinHandle<(WaitReply, Instant)> {
    let service = service.clone();
    let request = WaitRequest { namespace: NAMESPACE.into(), key: "k".into(), holder: None, hold_ms };
    tokio::spawn(async move { (service.wait(request).await.unwrap(), Instant::now()) })
}

fn release(pass_ms: Option<u64>) -> ReleaseRequest {
    ReleaseRequest { namespace: NAMESPACE.into(), key: "k".into(), holder: Holder(1), pass_ms }
}

/// In memory, on one bridge, and on two that share a Redis: who waits at the one, and what happens at the other.
async fn everywhere<F: Future<Output = ()>>(test: impl Fn(Service, Service) -> F) {
    let alone = Service::new(MemStore::new(1 << 20));
    test(alone.clone(), alone).await;
    let server = RedisServer::start();
    let shared = service(&server);
    test(shared.clone(), shared).await;
    let server = RedisServer::start();
    test(service(&server), service(&server)).await;
}

#[tokio::test]
async fn waiting_ends_with_a_store() {
    everywhere(async |here: Service, there: Service| {
        let LookupReply::Miss { ticket, .. } = there.lookup(&compete(1, HOUR)).await.unwrap().0 else { panic!() };
        let held = wait(&here, 5_000);
        sleep(Duration::from_millis(60)).await;
        assert!(!held.is_finished());
        let (namespace, key, holder) = (NAMESPACE.into(), "k".into(), Some(Holder(1)));
        let store = StoreRequest { namespace, key, tags: vec![], ticket, keep_ms: HOUR, holder };
        there.store(store, Bytes::from_static(b"x")).await.unwrap();
        let stored = Instant::now();
        let (reply, heard) = held.await.unwrap();
        assert_eq!(reply, WaitReply::Stored);
        assert!(heard.saturating_duration_since(stored) < Duration::from_millis(150));
    })
    .await;
}

#[tokio::test]
async fn waiting_ends_with_a_release_and_says_whether_to_pass() {
    everywhere(async |here: Service, there: Service| {
        for pass_ms in [None, Some(HOUR)] {
            there.lookup(&compete(1, HOUR)).await.unwrap();
            let held = wait(&here, 5_000);
            sleep(Duration::from_millis(60)).await;
            there.release(&release(pass_ms)).await.unwrap();
            let reply = held.await.unwrap().0;
            match pass_ms {
                None => assert_eq!(reply, WaitReply::Released),
                Some(_) => assert!(matches!(reply, WaitReply::Pass { remaining_ms: 1.. }), "{reply:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn waiting_ends_when_the_lease_does_or_time_is_up() {
    everywhere(async |here: Service, there: Service| {
        there.lookup(&compete(1, 2_000)).await.unwrap();
        assert!(matches!(wait(&here, 40).await.unwrap().0, WaitReply::Held { remaining_ms: 1..=2_000 }));
        assert_eq!(wait(&here, 5_000).await.unwrap().0, WaitReply::Expired);
        assert_eq!(wait(&here, 5_000).await.unwrap().0, WaitReply::Released, "nobody holds it");
    })
    .await;
}

#[tokio::test]
async fn a_lease_of_ones_own_is_not_waited_for_and_stopping_ends_all_waits() {
    let service = Service::new(MemStore::new(1 << 20));
    service.lookup(&compete(1, HOUR)).await.unwrap();
    let (namespace, key) = (NAMESPACE.into(), "k".into());
    let mine = WaitRequest { namespace, key, holder: Some(Holder(1)), hold_ms: 5_000 };
    assert_eq!(service.wait(mine).await.unwrap(), WaitReply::Released);
    let held = wait(&service, 5_000);
    sleep(Duration::from_millis(40)).await;
    service.stop();
    assert!(matches!(held.await.unwrap().0, WaitReply::Held { .. }));
}

/// A thousand waiters cost the store as much as one.
#[tokio::test]
async fn many_waiters_of_a_key_look_once() {
    let server = RedisServer::start();
    let (here, there) = (service(&server), service(&server));
    there.lookup(&compete(1, HOUR)).await.unwrap();
    let calls = || {
        let stats: String = cmd("INFO").arg("commandstats").query(&mut server.connect()).unwrap();
        let of_evalsha = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap().to_owned();
        of_evalsha.split("calls=").nth(1).unwrap().split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let before = calls();
    let waits: Vec<_> = (0..500).map(|_| wait(&here, 300)).collect();
    for wait in waits {
        assert!(matches!(wait.await.unwrap().0, WaitReply::Held { .. }));
    }
    assert!(calls() - before < 60, "{} looks in 300 ms", calls() - before);
}

#[tokio::test]
async fn a_store_that_fails_ends_the_waiting_with_an_error() {
    let mut server = RedisServer::start();
    let service = service(&server);
    service.lookup(&compete(1, HOUR)).await.unwrap();
    let waiting = service.clone();
    let request = WaitRequest { namespace: NAMESPACE.into(), key: "k".into(), holder: None, hold_ms: 20_000 };
    let held = tokio::spawn(async move { waiting.wait(request).await });
    sleep(Duration::from_millis(60)).await;
    server.kill();
    assert!(held.await.unwrap().is_err());
}
