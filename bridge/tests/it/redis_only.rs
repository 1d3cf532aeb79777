//! What only a Redis server can do to us, or we to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bridge_api::{
    Continuity, Era, FeedRequest, LookupReply, LookupRequest, Pattern, PurgeRequest, StoreReply, StoreRequest, Ticket,
};
use bytes::Bytes;
use futures_util::future::join_all;
use redis::{Commands, cmd};
use routecache_bridge::people::KeyCall;
use routecache_bridge::{KeyOf, RedisStore, Service, Store};

use crate::support::{NAMESPACE, RedisServer, Rig, redis_store};

/// How often each command has been called, from outside or by a script.
fn calls(rig: &Rig) -> BTreeMap<String, u64> {
    let stats: String = rig.redis_do(|redis| cmd("INFO").arg("commandstats").query(redis));
    let call = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    stats.lines().filter_map(call).collect()
}

fn more_calls(rig: &Rig, before: &BTreeMap<String, u64>, name: &str) -> u64 {
    calls(rig).get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0)
}

/// `pipelined`: a replica has the record and the epochs, or neither.
#[tokio::test]
async fn a_purge_is_one_script_whatever_carries_its_tags() {
    let rig = Rig::redis();
    rig.purge(&["warm-up"]).await;
    for entries in [1, 50] {
        for entry in 0..entries {
            rig.fill(&format!("k{entry}"), &["a"]).await;
        }
        let before = calls(&rig);
        rig.purge(&["a"]).await;
        for (command, count) in [("evalsha", 1), ("xadd", 1), ("set", 1), ("multi", 0), ("del", 0), ("unlink", 0)] {
            assert_eq!(more_calls(&rig, &before, command), count, "{command} with {entries} entries");
        }
    }
}

#[tokio::test]
async fn a_lookup_only_reads() {
    let rig = Rig::redis();
    rig.fill("k", &["a", "response-only"]).await;
    let before = calls(&rig);
    assert!(rig.hits("k", &["a"]).await);
    for command in ["set", "xadd", "pexpire", "expire", "del"] {
        assert_eq!(more_calls(&rig, &before, command), 0, "{command}");
    }
    assert_eq!(more_calls(&rig, &before, "evalsha"), 2, "the log, and once more for the response's tags");
    assert_eq!(
        (more_calls(&rig, &before, "pttl"), more_calls(&rig, &before, "get")),
        (1, 1),
        "the entry, not by a script"
    );
}

/// A tag that only the response has is known once the entry is there, and what the log says of it comes after that.
#[tokio::test]
async fn a_lookup_a_store_and_a_purge_are_one_round_trip_each() {
    let rig = Rig::redis();
    rig.fill("warm-up", &["a"]).await;
    let ticket = rig.ticket().await;
    let trips = || rig.store.figures().round_trips;
    let before = trips();
    assert_eq!(rig.put("k", &["a", "new"], ticket).await, StoreReply::Stored);
    assert_eq!(trips() - before, 1, "a store, of two tags, one of which has no epoch yet");
    assert!(rig.hits("k", &["a", "new"]).await);
    assert!(!rig.hits("nothing", &["a"]).await);
    assert_eq!(trips() - before, 3, "a hit and a miss");
    rig.compete("nothing", &["a"], 7, 60_000).await;
    assert_eq!(rig.put_by(7, "nothing", &["a"], ticket).await, StoreReply::Stored);
    assert_eq!(trips() - before, 5, "the same with a lease");
    rig.purge(&["a", "new"]).await;
    assert_eq!(rig.put_by(7, "k", &["a"], ticket).await, StoreReply::Void);
    assert_eq!(trips() - before, 7, "a purge, and a store that comes too late");
    rig.fill("k", &["a", "response-only"]).await;
    let before = trips();
    assert!(rig.hits("k", &["a"]).await);
    assert_eq!(trips() - before, 2, "with a tag that only the response has");
}

#[tokio::test]
async fn long_payloads_are_compressed_in_redis_and_nowhere_else() {
    let rig = Rig::redis();
    let payload = r#"{"id":7,"name":"soup"},"#.repeat(10_000);
    let ticket = rig.ticket().await;
    assert_eq!(rig.put_for(60_000, "k", &["a"], ticket, payload.as_bytes()).await, StoreReply::Stored);
    let name: Vec<String> = rig.redis_do(|redis| redis.keys("*:entry:*"));
    let stored: Vec<u8> = rig.redis_do(|redis| redis.get(&name[0]));
    assert!(stored.len() < payload.len() / 50, "{} bytes", stored.len());
    let (found, came) = rig.ask("k", &["a"], None).await;
    assert!(matches!(found, LookupReply::Hit { .. }) && came == payload);
    assert_eq!(rig.put_for(60_000, "k", &["a"], rig.ticket().await, b"short").await, StoreReply::Stored);
    assert_eq!(rig.ask("k", &["a"], None).await.1, "short");
    let figures = rig.store.figures();
    assert_eq!(figures.packed_from_bytes, payload.len() as u64);
    assert!((1..stored.len() as u64).contains(&figures.packed_to_bytes), "{figures:?}");
}

/// During a rolling update bridges of two versions share a store.
#[tokio::test]
async fn what_a_newer_bridge_wrote_is_a_miss_and_left_alone() {
    let rig = Rig::redis();
    rig.fill("k", &["a"]).await;
    let name: Vec<String> = rig.redis_do(|redis| redis.keys("*:entry:*"));
    rig.redis_do(|redis| redis.setrange::<_, _, ()>(&name[0], 0, &[3_u8]));
    assert!(!rig.hits("k", &["a"]).await);
    assert!(rig.redis_do(|redis| redis.exists::<_, bool>(&name[0])));
    rig.fill("k", &["a"]).await;
    assert!(rig.hits("k", &["a"]).await);
}

#[tokio::test]
async fn a_burst_of_one_lookup_is_two_round_trips() {
    let server = Arc::new(RedisServer::start());
    let rig = Rig::on_redis(&server, 1000, NAMESPACE);
    rig.fill("k", &["a"]).await;
    let service = Service::new(redis_store(&server.url(), Duration::from_secs(2)));
    let (namespace, key, tags) = (NAMESPACE.into(), "k".into(), vec!["a".into()]);
    let asked = LookupRequest { namespace, key, tags, ..LookupRequest::default() };
    service.lookup(&asked).await.unwrap();
    let before = calls(&rig);
    for answer in join_all((0..500).map(|_| service.lookup(&asked))).await {
        assert!(matches!(answer, Ok((LookupReply::Hit { .. }, _))));
    }
    assert_eq!(more_calls(&rig, &before, "get"), 2, "the first's, and one that was sent after the others had come");
}

#[tokio::test]
async fn every_key_dies_within_a_week_and_no_name_of_a_user_is_its_slot() {
    const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;
    let rig = Rig::redis();
    let ticket = rig.ticket().await;
    assert_eq!(rig.put_for(u64::MAX, "{k}", &["{t}"], ticket, b"x").await, StoreReply::Stored);
    rig.purge(&["{other}"]).await;
    rig.poll(None, None).await;
    let names = |glob: &str| {
        let mut names: Vec<String> = rig.redis_do(|redis| redis.keys(glob));
        names.sort();
        names
    };
    let mut keys = names("*");
    let entry = keys.remove(0);
    assert!(entry.starts_with("routecache:shop:v1:entry:") && !entry.contains('{'), "{entry}");
    assert_eq!(
        keys,
        ["epoch:{other}", "epoch:{t}", "log", "probe"].map(|name| format!("routecache:{{shop:v1}}:{name}"))
    );
    // And whatever else is ever written.
    rig.ban(&[], &[Pattern::Key("{x}*".into())]).await;
    let purged = rig.purge(&["{t}", "!soft"]).await;
    rig.poll_as(1, None).await;
    rig.unheard(&purged, 2).await;
    rig.compete("{l}", &["{t}"], 7, u64::MAX).await;
    rig.release("{m}", 7, Some(u64::MAX)).await;
    let of = KeyOf { namespace: NAMESPACE.into(), key: "{mine}".into() };
    for call in
        [KeyCall::Add { value: Bytes::from_static(b"1"), ttl_ms: 60_000 }, KeyCall::Increment { by: 1, ttl_ms: 60_000 }]
    {
        rig.store.key(&of, &call).await.unwrap();
    }
    for name in ["bans", "gateways"] {
        assert_eq!(names(&format!("routecache:{{shop:v1}}:{name}")).len(), 1, "{name}");
    }
    assert_eq!((names("routecache:lease:*").len(), names("routecache:shop:v1:key:*").len()), (2, 1));
    for key in names("*") {
        let left_ms: i64 = rig.redis_do(|redis| redis.pttl(&key));
        assert!((1..=WEEK_MS).contains(&left_ms), "{key}: {left_ms}");
    }
}

#[tokio::test]
async fn what_an_entry_depends_on_lives_on_with_each_use() {
    const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;
    let (log, epoch) = ("routecache:{shop:v1}:log", "routecache:{shop:v1}:epoch:a");
    let rig = Rig::redis();
    rig.fill("k", &["a"]).await;
    let age = |keys: &[&str]| {
        for key in keys {
            rig.redis_do(|redis| redis.pexpire::<_, ()>(key, 60_000));
        }
    };
    let renewed = |key: &str| rig.redis_do(|redis| redis.pttl::<_, i64>(key)) > WEEK_MS - 60_000;
    age(&[log, epoch]);
    rig.fill("k", &["a"]).await;
    assert!(renewed(log) && renewed(epoch), "by a store");
    age(&[log, epoch]);
    rig.purge(&["a"]).await;
    assert!(renewed(log) && renewed(epoch), "by a purge");
    age(&[log]);
    rig.poll(None, None).await;
    assert!(renewed(log), "by a poll");
}

#[tokio::test]
async fn bytes_that_are_none_of_ours_are_a_miss_and_removed() {
    let rig = Rig::redis();
    rig.fill("k", &["a"]).await;
    let name: String = rig.redis_do(|redis| redis.keys::<_, Vec<String>>("routecache:*:entry:*")).remove(0);
    let good: Vec<u8> = rig.redis_do(|redis| redis.get(&name));
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    let mut next_version = good.clone();
    next_version[0] += 1;
    for bad in [b"".to_vec(), b"garbage".to_vec(), good[..good.len() - 1].to_vec(), flipped, next_version] {
        rig.redis_do(|redis| redis.pset_ex::<_, _, ()>(&name, &bad, 60_000));
        assert!(!rig.hits("k", &["a"]).await);
        assert!(!rig.redis_do(|redis| redis.exists::<_, bool>(&name)), "{bad:?}");
    }
    rig.fill("k", &["a"]).await;
}

/// Two keys may share a hash.
#[tokio::test]
async fn another_keys_entry_is_a_miss() {
    let rig = Rig::redis();
    rig.fill("k", &["a"]).await;
    let k: String = rig.redis_do(|redis| redis.keys::<_, Vec<String>>("routecache:*:entry:*")).remove(0);
    rig.fill("l", &["a"]).await;
    let names: Vec<String> = rig.redis_do(|redis| redis.keys("routecache:*:entry:*"));
    let l = names.into_iter().find(|name| *name != k).unwrap();
    rig.redis_do(|redis| cmd("COPY").arg(&l).arg(&k).arg("REPLACE").exec(redis));
    assert!(!rig.hits("k", &["a"]).await);
    assert!(rig.hits("l", &["a"]).await);
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_taught_them_again() {
    let rig = Rig::redis();
    rig.fill("k", &["a"]).await;
    for _ in 0..2 {
        rig.redis_do(|redis| cmd("SCRIPT").arg("FLUSH").exec(redis));
        assert!(rig.hits("k", &["a"]).await);
        rig.redis_do(|redis| cmd("SCRIPT").arg("FLUSH").exec(redis));
        rig.purge(&["b"]).await;
    }
}

/// Without room nothing new is stored; what is there is served, purged and heard of.
#[tokio::test]
async fn a_full_server_stores_nothing_and_purges_and_feeds_on() {
    let rig = Rig::redis();
    rig.fill("k", &["a"]).await;
    rig.fill("l", &["b"]).await;
    let (ticket, cursor) = (rig.ticket().await, rig.cursor().await);
    rig.redis_do(|redis| cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec(redis));
    assert!(rig.hits("k", &["a"]).await, "a lookup only reads");
    assert_eq!(rig.put("k2", &["a"], ticket).await, StoreReply::Full);
    assert_eq!(rig.put("k2", &["new"], ticket).await, StoreReply::Full);
    assert_eq!(rig.put_by(7, "k2", &["a"], ticket).await, StoreReply::Full, "nor by who holds its lease");
    assert!(rig.poll(Some(cursor), None).await.is_quiet());
    let purged = rig.ban(&["a", "never stored"], &[Pattern::Key("x*".into())]).await.position;
    assert!(!rig.hits("k", &["a"]).await);
    assert!(rig.hits("l", &["b"]).await);
    let heard = rig.poll(Some(cursor), Some(purged)).await;
    assert_eq!((heard.continuity, heard.cursor, heard.records.len()), (Continuity::Joined, purged, 1));
    let epochs: Vec<String> = rig.redis_do(|redis| redis.keys("*:epoch:*"));
    assert_eq!(epochs.len(), 2, "what was never stored takes no room: {epochs:?}");
    rig.forget_log().await;
    assert_ne!(rig.poll(Some(purged), None).await.continuity, Continuity::Joined);
    assert!(!rig.hits("l", &["b"]).await, "a new era has room too");
    rig.redis_do(|redis| cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).exec(redis));
    rig.fill("k2", &["a"]).await;
}

/// What a master lacks that was a replica a moment ago, nobody may be left to say.
#[tokio::test]
async fn a_log_that_began_on_another_server_begins_a_new_era() {
    let rig = Rig::redis();
    let cursor = rig.cursor().await;
    rig.fill("k", &["a"]).await;
    let replica = rig.replica();
    rig.purge(&["a"]).await;
    rig.fail_over_to(&replica).await;
    assert_eq!(rig.poll(Some(cursor), None).await.continuity, Continuity::Joined, "the same server: nothing shows");
    assert!(rig.hits("k", &["a"]).await);

    let promoted = Rig::redis();
    promoted.fail_over_to(&replica).await;
    assert!(promoted.hits("k", &["a"]).await, "until a gateway's next poll, within the window");
    for (cursor, told) in [(Some(cursor), Continuity::Lost), (None, Continuity::First)] {
        promoted.fail_over_to(&replica).await;
        assert_eq!(promoted.poll(cursor, None).await.continuity, told);
        assert!(!promoted.hits("k", &["a"]).await);
    }
    promoted.fill("k", &["a"]).await;
    let cursor = promoted.cursor().await;
    promoted.purge(&["b"]).await;
    assert_eq!(promoted.poll(Some(cursor), None).await.continuity, Continuity::Joined);
    assert!(promoted.hits("k", &["a"]).await, "once is enough");
}

/// `no_probe`: its silence would be taken for "nothing was purged".
#[tokio::test]
async fn a_deposed_master_does_not_feed() {
    let rig = Rig::redis();
    let cursor = rig.cursor().await;
    rig.redis_do(|redis| cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec(redis));
    let feed = FeedRequest { namespace: NAMESPACE.into(), cursor: Some(cursor), ..FeedRequest::default() };
    assert!(rig.store.read_log(&feed).await.is_err());
    assert!(
        rig.store
            .purge(
                &PurgeRequest { namespace: NAMESPACE.into(), tags: vec!["a".into()], ..PurgeRequest::default() },
                &[]
            )
            .await
            .is_err()
    );
    rig.redis_do(|redis| cmd("REPLICAOF").arg("NO").arg("ONE").exec(redis));
    assert_eq!(rig.poll(Some(cursor), None).await.continuity, Continuity::Joined);
}

#[tokio::test]
async fn a_log_that_is_something_else_is_an_error_and_not_a_hit() {
    let rig = Rig::redis();
    rig.fill("k", &["a"]).await;
    rig.redis_do(|redis| redis.set::<_, _, ()>("routecache:{shop:v1}:log", "x"));
    let asked =
        LookupRequest { namespace: NAMESPACE.into(), key: "k".into(), tags: vec![], ..LookupRequest::default() };
    assert!(rig.store.lookup(&asked).await.is_err());
}

#[tokio::test]
async fn several_bridges_on_one_server_agree() {
    let server = Arc::new(RedisServer::start());
    let (one, two) = (Rig::on_redis(&server, 1000, NAMESPACE), Rig::on_redis(&server, 1000, NAMESPACE));
    one.fill("k", &["a"]).await;
    assert!(two.hits("k", &["a"]).await);
    let cursor = two.cursor().await;
    let purged = one.purge(&["a"]).await.position;
    assert!(!two.hits("k", &["a"]).await);
    assert_eq!(two.poll(Some(cursor), Some(purged)).await.cursor, purged);
}

/// As text `10-0` comes before `9-0`, and as Lua numbers 2^53 and 2^53 + 1 are one.
#[tokio::test]
async fn ids_are_compared_by_all_their_digits() {
    let rig = Rig::redis();
    for (older, newer) in [("9-0", "10-0"), ("5-9", "5-10"), ("9007199254740992-0", "9007199254740993-0")] {
        rig.redis_do(|redis| cmd("FLUSHALL").exec(redis));
        for id in [older, newer] {
            let on = rig.here();
            let fields = [("unique", "1"), ("era", "1"), ("on", &*on), ("tag", "a")];
            rig.redis_do(|redis| redis.xadd::<_, _, _, _, ()>("routecache:{shop:v1}:log", id, &fields));
        }
        let ticket = |id: &str| Ticket { at: format!("{id}-1").parse().unwrap(), era: Era(1), seen_ms: None };
        rig.redis_do(|redis| redis.set::<_, _, ()>("routecache:{shop:v1}:epoch:a", newer));
        rig.redis_do(|redis| redis.set::<_, _, ()>("routecache:{shop:v1}:epoch:b", older));
        assert_eq!(rig.put("k", &["a"], ticket(older)).await, StoreReply::Void, "{older} {newer}");
        assert_eq!(rig.put("k", &["a"], ticket(newer)).await, StoreReply::Stored, "{older} {newer}");
        assert_eq!(rig.put("k", &["b"], ticket(older)).await, StoreReply::Newer, "{older} {newer}");
        let read = rig.poll(Some(ticket(older).at), Some(ticket(newer).at)).await;
        assert_eq!((read.continuity, read.cursor), (Continuity::Joined, ticket(newer).at));
    }
}

/// Nothing half-old is served while entries are read and replaced at the same time: the body names its ticket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_fillers_and_purgers_at_once_never_see_what_was_purged() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let server = Arc::new(RedisServer::start());
    let store: Arc<RedisStore> = Arc::new(redis_store(&server.url(), Duration::from_secs(5)));
    let origin = Arc::new(AtomicU64::new(0));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let lookup = LookupRequest {
        namespace: NAMESPACE.into(),
        key: "k".into(),
        tags: vec!["a".into()],
        ..LookupRequest::default()
    };
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let (store, lookup) = (Arc::clone(&store), lookup.clone());
        let (origin, acknowledged) = (Arc::clone(&origin), Arc::clone(&acknowledged));
        tasks.push(tokio::spawn(async move {
            let mut hits = 0;
            for _ in 0..400 {
                let bound = acknowledged.load(Ordering::SeqCst);
                let (reply, body) = store.lookup(&lookup).await.unwrap();
                match reply {
                    LookupReply::Hit { .. } => {
                        let version: u64 = std::str::from_utf8(&body).unwrap().parse().unwrap();
                        assert!(version >= bound, "served {version} after the purge of {bound} was acknowledged");
                        hits += 1;
                    }
                    LookupReply::Miss { ticket, .. } => {
                        let version = origin.load(Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        let (namespace, key, tags) = (NAMESPACE.into(), "k".into(), vec!["a".into()]);
                        let request = StoreRequest { namespace, key, tags, ticket, keep_ms: 60_000, holder: None };
                        store.store(&request, Bytes::from(version.to_string())).await.unwrap();
                    }
                    LookupReply::Behind => panic!("nothing was lost"),
                }
            }
            hits
        }));
    }
    let purger = tokio::spawn(async move {
        let purge = PurgeRequest { namespace: NAMESPACE.into(), tags: vec!["a".into()], ..PurgeRequest::default() };
        for version in 1..=100 {
            origin.store(version, Ordering::SeqCst);
            store.purge(&purge, &[]).await.unwrap();
            acknowledged.store(version, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut hits = 0;
    for task in tasks {
        hits += task.await.unwrap();
    }
    purger.await.unwrap();
    assert!(hits > 100, "only {hits} hits show nothing");
}
