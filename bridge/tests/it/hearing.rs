//! Purges that wait until every gateway has heard of them, on both stores.

use std::time::Duration;

use bridge_api::{Continuity, FeedRequest, Hearing, PurgeRequest};
use routecache_bridge::{MemStore, Service};
use tokio::time::sleep;

use crate::support::{NAMESPACE, RedisServer, Rig, WINDOW, listener, redis_store};

on_both_stores! {
    async fn a_gateway_has_heard_of_a_purge_when_it_comes_back_with_a_cursor_past_it(rig: Rig) {
        let begun = rig.poll_as(1, None).await;
        rig.pass(WINDOW + 50).await; // from here on the store knows of everybody
        let begun = rig.poll_as(1, Some(begun.cursor)).await;
        let purged = rig.purge(&["a"]).await;
        assert!(rig.unheard(&purged, 9).await > 0);
        let told = rig.poll_as(1, Some(begun.cursor)).await;
        assert!(rig.unheard(&purged, 9).await > 0, "it was told, and may not have applied it yet");
        rig.poll_as(1, Some(told.cursor)).await;
        assert_eq!(rig.unheard(&purged, 9).await, 0);
    }

    async fn the_gateway_that_purges_is_not_waited_for(rig: Rig) {
        let begun = rig.poll_as(1, None).await;
        rig.pass(WINDOW + 50).await;
        rig.poll_as(1, Some(begun.cursor)).await;
        let purged = rig.purge(&["a"]).await;
        assert_eq!(rig.unheard(&purged, 1).await, 0);
        assert!(rig.unheard(&purged, 2).await > 0);
    }

    async fn a_gateway_that_is_gone_is_waited_for_until_its_window_is_over(rig: Rig) {
        let begun = rig.poll_as(1, None).await;
        rig.pass(WINDOW + 50).await;
        rig.poll_as(1, Some(begun.cursor)).await;
        let purged = rig.purge(&["a"]).await;
        assert!((1..=WINDOW).contains(&rig.unheard(&purged, 9).await));
        rig.pass(WINDOW + 50).await;
        assert_eq!(rig.unheard(&purged, 9).await, 0);
    }

    /// It answers `first`, `trimmed` and the like to a gateway that drops everything when it hears that, and not before.
    async fn a_gateway_that_begins_anew_is_waited_for_until_it_has(rig: Rig) {
        let first = rig.poll_as(1, None).await;
        assert_eq!(first.continuity, Continuity::First);
        rig.pass(WINDOW / 2 + 50).await;
        let purged = rig.purge(&["a"]).await;
        rig.poll_as(1, None).await;
        rig.pass(WINDOW / 2 + 50).await; // what it said first is a window ago
        assert!(rig.unheard(&purged, 9).await > 0);
        let joined = rig.poll_as(1, Some(first.cursor)).await;
        rig.poll_as(1, Some(joined.cursor)).await;
        assert_eq!(rig.unheard(&purged, 9).await, 0);
    }

    /// C6: what the store forgets must not look like nobody.
    async fn a_store_that_has_forgotten_who_polls_waits_out_a_window(rig: Rig) {
        let begun = rig.poll_as(1, None).await;
        rig.pass(WINDOW + 50).await;
        rig.poll_as(1, Some(begun.cursor)).await;
        rig.forget_listeners();
        let purged = rig.purge(&["a"]).await;
        let left = rig.unheard(&purged, 9).await;
        assert!((1..=WINDOW).contains(&left), "{left}");
        rig.pass(WINDOW + 50).await;
        assert_eq!(rig.unheard(&purged, 9).await, 0);
    }
}

fn poll(cursor: Option<bridge_api::Position>) -> FeedRequest {
    FeedRequest {
        namespace: NAMESPACE.into(),
        cursor,
        hold_ms: 20,
        gateway: Some(listener(1)),
        ..FeedRequest::default()
    }
}

fn purge(hold_ms: u64) -> PurgeRequest {
    let hear = Some(Hearing { gateway: Some(listener(9)), hold_ms });
    PurgeRequest { namespace: NAMESPACE.into(), tags: vec!["a".into()], hear }
}

/// A gateway that polls through one bridge, a purge through another.
async fn heard_by(polled: Service, purged: Service) {
    let mut cursor = polled.feed(&poll(None)).await.unwrap().cursor;
    let gateway = tokio::spawn({
        let polled = polled.clone();
        async move {
            loop {
                cursor = polled.feed(&poll(Some(cursor))).await.unwrap().cursor;
            }
        }
    });
    let reply = purged.purge(&purge(20_000)).await.unwrap();
    assert!(!reply.unheard, "it polls all the time");
    gateway.abort();
    let reply = purged.purge(&purge(5)).await.unwrap();
    assert!(reply.unheard, "it is gone, and still trusts what it holds");
    sleep(Duration::from_millis(WINDOW + 50)).await;
    assert!(!purged.purge(&purge(20_000)).await.unwrap().unheard, "it trusts nothing any longer");
}

#[tokio::test]
async fn the_answer_to_a_purge_is_held_until_gateways_have_heard() {
    let service = Service::new(MemStore::new(1 << 20));
    heard_by(service.clone(), service).await;
}

#[tokio::test]
async fn gateways_may_poll_through_another_bridge() {
    let server = RedisServer::start();
    let bridge = || Service::new(redis_store(&server.url(), Duration::from_secs(2)));
    heard_by(bridge(), bridge()).await;
}

/// Whoever draws names without end doesn't fill the store: from then on purges wait out a window.
#[tokio::test]
async fn gateways_that_are_gone_make_room_for_others() {
    let rig = Rig::redis();
    for name in 0..600 {
        rig.poll_as(name, None).await;
    }
    assert!(rig.listeners() <= 513, "{}", rig.listeners());
    let purged = rig.purge(&["a"]).await;
    assert!(rig.unheard(&purged, 2000).await > 0);
    rig.pass(WINDOW + 50).await;
    rig.poll_as(5000, None).await;
    assert!(rig.listeners() <= 2, "{}", rig.listeners());
}
