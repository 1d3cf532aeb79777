//! Time as the store counts it: what lies there grows older, whatever its clock is set to, and whoever asks.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bridge_api::{Continuity, LookupReply, Position, StoreReply, Ticket};

use crate::support::{NAMESPACE, RedisServer, Rig, got, owned, redis_store, within};

async fn resident_ms(rig: &Rig) -> u64 {
    match rig.lookup("k", &["a"]).await {
        LookupReply::Hit { resident_ms, .. } => resident_ms,
        other => panic!("{other:?}"),
    }
}

fn id(position: Position) -> (u64, u64) {
    (position.ms, position.seq)
}

on_both_stores! {
    /// The fill and the way of the store count, wherever they were spent.
    async fn an_entry_lies_there_since_its_ticket_says_so_and_not_since_it_arrived(rig: Rig) {
        let ticket = rig.ticket().await;
        rig.pass(100).await;
        assert_eq!(rig.put("k", &["a"], ticket).await, StoreReply::Stored);
        assert!((100..5_000).contains(&resident_ms(&rig).await));
        let later = |ms| Ticket { seen_ms: ticket.seen_ms.map(|seen_ms| seen_ms + ms), ..ticket };
        assert_eq!(rig.put("k", &["a"], later(60)).await, StoreReply::Stored);
        assert!((40..5_000).contains(&resident_ms(&rig).await));
        // Nobody stores what is younger than now.
        assert_eq!(rig.put("k", &["a"], later(1_000_000)).await, StoreReply::Stored);
        rig.pass(50).await;
        assert!((50..5_000).contains(&resident_ms(&rig).await));
    }

    /// As filters of before send it.
    async fn without_a_time_in_its_ticket_an_entry_lies_there_since_it_arrived(rig: Rig) {
        let ticket = Ticket { seen_ms: None, ..rig.ticket().await };
        rig.pass(2_000).await;
        assert_eq!(rig.put("k", &["a"], ticket).await, StoreReply::Stored);
        assert!(resident_ms(&rig).await < 2_000);
    }

    async fn what_took_longer_on_its_way_than_it_may_be_kept_is_no_hit(rig: Rig) {
        let ticket = rig.ticket().await;
        rig.pass(200).await;
        rig.put_for(150, "k", &["a"], ticket, b"x").await;
        assert!(!rig.hits("k", &["a"]).await);
    }

    async fn a_clock_that_is_set_back_makes_no_entry_younger(rig: Rig) {
        rig.set_clock_ahead();
        rig.poll(None, None).await;
        rig.fill("k", &["a"]).await;
        rig.pass(60).await;
        let before = resident_ms(&rig).await;
        assert!(before >= 60);
        rig.set_clock_back();
        let then = resident_ms(&rig).await;
        assert!(then >= before, "{then} after {before}");
        for polls in [false, true] {
            let before = resident_ms(&rig).await;
            rig.pass(60).await;
            if polls {
                rig.poll(None, None).await;
            }
            let then = resident_ms(&rig).await;
            assert!((before + 60..before + 60_000).contains(&then), "{then} after {before}, polls: {polls}");
        }
    }

    async fn a_clock_that_is_set_back_lets_no_entry_live_longer(rig: Rig) {
        rig.set_clock_ahead();
        rig.poll(None, None).await;
        let ticket = rig.ticket().await;
        assert_eq!(rig.put_for(600, "k", &["a"], ticket, b"x").await, StoreReply::Stored);
        assert!(rig.hits("k", &["a"]).await);
        rig.set_clock_back();
        rig.poll(None, None).await;
        rig.pass(700).await;
        assert!(!rig.hits("k", &["a"]).await);
    }

    /// By its own, a stream would give them the time of the last one, until the clock has caught up.
    async fn purges_after_a_clock_was_set_back_have_the_time_that_has_gone_on(rig: Rig) {
        rig.set_clock_ahead();
        rig.poll(None, None).await;
        let before = rig.ticket().await.seen_ms.expect("a time");
        rig.set_clock_back();
        rig.poll(None, None).await;
        rig.pass(50).await;
        let purged = [rig.purge(&["a"]).await.position, rig.purge(&["a"]).await.position];
        assert!((before + 50..before + 60_000).contains(&purged[0].ms), "{purged:?} after {before}");
        assert!(id(purged[0]) < id(purged[1]), "{purged:?}");
    }
}

/// Another bridge, or this one started again, is told the time by the store alone.
#[tokio::test]
async fn what_polls_have_left_of_the_clock_is_for_every_bridge() {
    let server = Arc::new(RedisServer::start());
    let one = Rig::on_redis(&server, 1000, NAMESPACE);
    one.set_clock_ahead();
    one.poll(None, None).await;
    one.fill("k", &["a"]).await;
    one.pass(200).await;
    let before = resident_ms(&one).await;
    one.set_clock_back();
    let two = Rig::on_redis(&server, 1000, NAMESPACE);
    let then = resident_ms(&two).await;
    assert!(then >= before, "{then} after {before}");
    one.poll(None, None).await;
    let then = resident_ms(&two).await;
    two.pass(100).await;
    assert!(resident_ms(&two).await >= then + 100);
}

/// Whoever knows nothing but the store's word, and finds what comes from later than that, doesn't guess.
#[tokio::test]
async fn an_entry_of_a_time_that_is_still_to_come_is_no_hit() {
    let server = Arc::new(RedisServer::start());
    let one = Rig::on_redis(&server, 1000, NAMESPACE);
    one.set_clock_ahead();
    one.fill("k", &["a"]).await;
    one.redis_do(|redis| redis::cmd("DEL").arg(format!("routecache:{{{NAMESPACE}}}:probe")).exec(redis));
    assert!(one.hits("k", &["a"]).await, "it has counted on");
    let two = redis_store(&server.url(), Duration::from_secs(2));
    let (namespace, key, tags) = (NAMESPACE.to_owned(), "k".to_owned(), owned(&["a"]));
    let asked = bridge_api::LookupRequest { namespace, key, tags, ..Default::default() };
    let (reply, _) = routecache_bridge::Store::lookup(&two, &asked).await.unwrap();
    assert!(matches!(reply, LookupReply::Miss { .. }), "{reply:?}");
    // It is told by the next poll of whoever knows.
    one.poll(None, None).await;
    assert!(one.hits("k", &["a"]).await);
    let (reply, _) = routecache_bridge::Store::lookup(&two, &asked).await.unwrap();
    assert!(matches!(reply, LookupReply::Hit { .. }), "{reply:?}");
}

/// A server whose own clock can be set while it runs: Debian's `libfaketime` gives it the time, but for what it measures by a clock
/// that is never set. Debian's Redis doesn't start under it, since its allocator asks for the time too early.
struct Watched {
    server: Arc<RedisServer>,
    folder: tempfile::TempDir,
}

impl Watched {
    /// One of the other servers, if that and the library are there.
    fn start(name: &str) -> Option<Self> {
        let (program, library) = (got(name)?, got("libfaketime.so.1")?);
        let folder = tempfile::tempdir().unwrap();
        let shows = folder.path().join("clock");
        std::fs::write(&shows, "+0\n").unwrap();
        let variable = |name: &str, value: &Path| [OsStr::new(name), value.as_os_str()].join(OsStr::new("="));
        let words = vec![
            "env".into(),
            variable("LD_PRELOAD", &library),
            variable("FAKETIME_TIMESTAMP_FILE", &shows),
            "FAKETIME_NO_CACHE=1".into(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
            program.into(),
        ];
        Some(Self { server: Arc::new(RedisServer::start_by(words)), folder })
    }

    fn now(&self) -> u64 {
        let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut self.server.connect()).unwrap();
        seconds
    }

    /// Sets its clock, so many seconds from what it should be.
    fn set(&self, ahead: i64) {
        let (shows, next) = (self.folder.path().join("clock"), self.folder.path().join("next"));
        std::fs::write(&next, format!("{ahead:+}\n")).unwrap();
        std::fs::rename(&next, &shows).unwrap();
        let ours = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        within(Duration::from_secs(10), || self.now().abs_diff(ours().saturating_add_signed(ahead)) < 5);
    }
}

/// I8: a step of the server's clock brings nothing back, makes nothing younger and lets nothing live longer; a step ahead only ends
/// what it may.
async fn a_clock_that_is_set_harms_nothing_on(name: &str) {
    let Some(watched) = Watched::start(name) else { return };
    watched.set(3600);
    let rig = Rig::on_redis(&watched.server, 1000, NAMESPACE);
    let cursor = rig.cursor().await;
    rig.fill("k", &["a"]).await;
    rig.fill("gone", &["b"]).await;
    let ticket = rig.ticket().await;
    assert_eq!(rig.put_for(1_000, "short", &["c"], ticket, b"x").await, StoreReply::Stored);
    let first = rig.purge(&["b"]).await.position;
    rig.pass(60).await;
    let before = resident_ms(&rig).await;
    assert!(before >= 60);

    watched.set(-3600);
    let other = Rig::on_redis(&watched.server, 1000, NAMESPACE); // a bridge that has just started
    rig.poll(Some(cursor), Some(first)).await;
    for rig in [&rig, &other] {
        let then = resident_ms(rig).await;
        assert!((before..before + 60_000).contains(&then), "{then} after {before}");
        assert!(!rig.hits("gone", &["b"]).await, "what was purged");
    }
    rig.pass(1_000).await;
    assert!(!rig.hits("short", &["c"]).await && !other.hits("short", &["c"]).await, "for longer than it may be kept");
    assert_eq!(rig.put("gone", &["b"], ticket).await, StoreReply::Void, "it began before the purge");
    let second = other.purge(&["a"]).await.position;
    assert!(id(first) < id(second), "{first:?} {second:?}");
    let heard = rig.poll(Some(cursor), Some(second)).await;
    assert_eq!((heard.continuity, heard.cursor, heard.records.len()), (Continuity::Joined, second, 2));
    assert!(!rig.hits("k", &["a"]).await && !other.hits("k", &["a"]).await);

    rig.fill("k", &["a"]).await;
    let before = resident_ms(&other).await;
    watched.set(7200);
    match other.lookup("k", &["a"]).await {
        LookupReply::Hit { resident_ms, .. } => assert!(resident_ms >= before + 3_000_000, "{resident_ms}"),
        LookupReply::Miss { .. } => {}
        LookupReply::Behind => panic!("nothing was lost"),
    }
    let third = rig.purge(&["a"]).await.position;
    assert!(id(second) < id(third), "{second:?} {third:?}");
    rig.fill("k", &["a"]).await;
    assert!(other.hits("k", &["a"]).await);
}

#[tokio::test]
async fn a_clock_that_is_set_harms_nothing_on_redis_6_2() {
    a_clock_that_is_set_harms_nothing_on("redis-6.2").await;
}

#[tokio::test]
async fn a_clock_that_is_set_harms_nothing_on_valkey() {
    a_clock_that_is_set_harms_nothing_on("valkey").await;
}
