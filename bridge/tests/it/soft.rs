//! Soft purges, on both stores: what they name is stale, not void.

use bridge_api::{LookupReply, LookupRequest, PurgeReply, StoreReply, TAG_SOFT};

use crate::support::{NAMESPACE, Rig};

/// What a gateway gets that takes what is stale: for how long it has been, if so.
async fn ask(rig: &Rig, key: &str, tags: &[&str]) -> Option<Option<u64>> {
    let tags = tags.iter().map(ToString::to_string).collect();
    let namespace = NAMESPACE.to_owned();
    let request = LookupRequest { namespace, key: key.into(), tags, soft: true, ..LookupRequest::default() };
    match rig.store.lookup(&request).await.unwrap().0 {
        LookupReply::Hit { stale_ms, .. } => Some(stale_ms),
        _ => None,
    }
}

async fn soften(rig: &Rig, tag: &str) -> PurgeReply {
    rig.purge(&[tag, TAG_SOFT]).await
}

on_both_stores! {
    async fn what_was_purged_softly_is_stale_for_who_takes_that_and_a_miss_for_others(rig: Rig) {
        rig.fill("k", &["a", "response-only"]).await;
        rig.fill("other", &["b"]).await;
        assert_eq!(ask(&rig, "k", &["a"]).await, Some(None));
        for purged in ["a", "response-only"] {
            rig.fill("k", &["a", "response-only"]).await;
            soften(&rig, purged).await;
            assert!(!rig.hits("k", &["a"]).await, "a gateway of an older version");
            rig.pass(60).await;
            let stale_ms = ask(&rig, "k", &["a"]).await.flatten().expect("it is stale");
            assert!((60..20_000).contains(&stale_ms), "{stale_ms}");
            assert_eq!(ask(&rig, "other", &["b"]).await, Some(None));
        }
    }

    /// I7: it is stale since the first.
    async fn a_second_soft_purge_does_not_make_it_younger(rig: Rig) {
        rig.fill("k", &["a", "b"]).await;
        soften(&rig, "b").await;
        rig.pass(200).await;
        soften(&rig, "a").await;
        let stale_ms = ask(&rig, "k", &["a"]).await.flatten().expect("it is stale");
        assert!(stale_ms >= 200, "{stale_ms}");
    }

    async fn a_purge_before_or_after_it_makes_it_void(rig: Rig) {
        rig.fill("k", &["a"]).await;
        soften(&rig, "a").await;
        rig.purge(&["a"]).await;
        assert_eq!(ask(&rig, "k", &["a"]).await, None);
        soften(&rig, "a").await;
        assert_eq!(ask(&rig, "k", &["a"]).await, None, "a soft purge doesn't bring it back");
        rig.fill("k", &["a"]).await;
        assert_eq!(ask(&rig, "k", &["a"]).await, Some(None));
    }

    async fn what_is_filled_after_it_is_fresh_and_what_began_before_is_not_stored(rig: Rig) {
        rig.fill("k", &["a"]).await;
        let before = rig.ticket().await;
        soften(&rig, "a").await;
        assert_eq!(rig.put("late", &["a"], before).await, StoreReply::Void);
        rig.fill("k", &["a"]).await;
        assert_eq!(ask(&rig, "k", &["a"]).await, Some(None));
    }

    /// C6.
    async fn an_epoch_that_is_forgotten_is_a_miss_here_too(rig: Rig) {
        rig.fill("k", &["a"]).await;
        soften(&rig, "a").await;
        rig.forget_epoch("a");
        assert_eq!(ask(&rig, "k", &["a"]).await, None);
        soften(&rig, "a").await;
        assert_eq!(ask(&rig, "k", &["a"]).await, None, "when it was purged for good, nobody knows");
    }

    /// Gateways of an older version drop what it names.
    async fn the_feed_tells_of_it_with_its_tags(rig: Rig) {
        let cursor = rig.cursor().await;
        soften(&rig, "a").await;
        let reading = rig.poll(Some(cursor), None).await;
        assert!(reading.records[0].tags.contains(&"a".to_owned()) && bridge_api::is_soft(&reading.records[0].tags));
    }
}

/// The time since is read from the log.
async fn a_log_that_was_trimmed_since_makes_it_a_miss(rig: Rig) {
    rig.fill("k", &["a"]).await;
    soften(&rig, "a").await;
    assert!(ask(&rig, "k", &["a"]).await.flatten().is_some());
    for _ in 0..6 {
        rig.purge(&["other"]).await;
    }
    assert_eq!(ask(&rig, "k", &["a"]).await, None);
}

#[tokio::test]
async fn a_log_in_memory_that_was_trimmed() {
    a_log_that_was_trimmed_since_makes_it_a_miss(Rig::mem_with_log(4)).await;
}

#[tokio::test]
async fn a_log_in_redis_that_was_trimmed() {
    a_log_that_was_trimmed_since_makes_it_a_miss(Rig::redis_with_log(4)).await;
}
