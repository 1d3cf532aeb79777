//! The bridge, or what is behind it, gone in several ways: nothing fails, nothing waits long, all comes back by itself.

use std::time::{Duration, Instant};

use http::StatusCode;
use routecache_config::render::EnvoyOptions;
use routecache_harness::{Answer, Origin, READ_TIME, Request, Result};
use serde_json::json;
use tokio::time::sleep;

use super::stage::{BRIDGE_TIMEOUT, Gateway, Stage, WINDOW, rules};

/// How long a write may be held: `purge.timeout`, and what a busy machine adds.
const PURGE_TIMEOUT: Duration = Duration::from_millis(250 + 500);

/// How soon a gateway must be back after its bridge is.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Reads what isn't kept, for twice the window: each answer is right and in time.
async fn unharmed(gateway: &mut Gateway) -> Result<()> {
    let start = Instant::now();
    let mut reads = 0;
    while start.elapsed() < WINDOW * 2 {
        for worker in [0, 1] {
            reads += 1;
            let path = format!("/users/1/orders?page={reads}");
            let answer = gateway.get(worker, &path).await?;
            assert_eq!(answer.status, 200, "{path}");
            assert!(answer.elapsed < READ_TIME + BRIDGE_TIMEOUT, "{path}: {:?}", answer.elapsed);
        }
    }
    Ok(())
}

/// Cut off for longer than the window: what is held isn't trusted (C4).
async fn bypassed(gateway: &mut Gateway) -> Result<()> {
    for worker in [0, 1] {
        let status = gateway.get(worker, "/users/1").await?.cache_status();
        assert!(!status.hit, "worker {worker}: {status:?}");
        let said = (status.fwd.as_deref(), status.detail.as_deref());
        assert_eq!(said, (Some("bypass"), Some("feed-lost")), "worker {worker}");
    }
    Ok(())
}

/// The gateway caches as before.
async fn recovered(gateway: &mut Gateway) -> Result<()> {
    gateway.until(0, "/users/1", BACK_WITHIN, |answer| answer.cache_status().hit).await?;
    gateway.until(1, "/users/1", BACK_WITHIN, |answer| answer.cache_status().hit).await?;
    Ok(())
}

async fn opened(stage: &Stage) -> Result<Gateway> {
    let mut gateway = stage.gateway().await?;
    gateway.get(0, "/users/1").await?;
    assert!(gateway.get(1, "/users/1").await?.cache_status().hit);
    Ok(gateway)
}

#[tokio::test]
async fn a_gateway_that_starts_before_its_bridge_serves_and_finds_it() -> Result<()> {
    let mut stage = Stage::set().await?;
    stage.bridge.kill().await;
    let mut gateway = Gateway::open(&rules(), stage.options()?).await?;
    unharmed(&mut gateway).await?;
    stage.bridge.restart().await?;
    recovered(&mut gateway).await
}

/// C5: acknowledged, or retried and said to be pending, never lost.
#[tokio::test]
async fn a_purge_that_a_dead_bridge_didnt_hear_is_said_to_be_pending_and_reaches_the_group_later() -> Result<()> {
    let mut stage = Stage::set().await?;
    let (mut a, mut b) = (opened(&stage).await?, opened(&stage).await?);
    held_by_the_group(&mut b).await?;
    stage.bridge.kill().await;
    written_but_pending(&mut a).await?;
    stage.bridge.restart().await?;
    heard_by_the_group(&mut a, &mut b).await
}

#[tokio::test]
async fn a_purge_that_a_hanging_bridge_didnt_hear_is_said_to_be_pending_and_reaches_the_group_later() -> Result<()> {
    let stage = Stage::set().await?;
    let (mut a, mut b) = (opened(&stage).await?, opened(&stage).await?);
    held_by_the_group(&mut b).await?;
    stage.bridge.hold();
    written_but_pending(&mut a).await?;
    stage.bridge.release();
    heard_by_the_group(&mut a, &mut b).await
}

/// What only the other gateway has read, and the group keeps.
const ORDERS: &str = "/users/1/orders";

async fn held_by_the_group(other: &mut Gateway) -> Result<()> {
    assert_eq!(other.get(0, ORDERS).await?.json()["version"], 1);
    sleep(Duration::from_millis(300)).await; // the bridge is written behind the client's back
    Ok(())
}

/// The write isn't held for longer than `purge.timeout`, and the gateway itself has heard it (C2).
async fn written_but_pending(gateway: &mut Gateway) -> Result<()> {
    let write = gateway.send(0, Request::put("/users/1", &json!({ "name": "Augusta" }))).await?;
    assert_eq!(write.header("cache-status"), "routecache; fwd=method; detail=purge-pending");
    assert!(write.elapsed < PURGE_TIMEOUT, "{:?}", write.elapsed);
    for worker in [0, 1] {
        assert_eq!(gateway.get(worker, "/users/1").await?.json()["version"], 2, "worker {worker}");
    }
    Ok(())
}

/// Redis still holds version 1, which is valid there until the purge arrives; the writer's gateway knows better (C5).
async fn heard_by_the_group(writer: &mut Gateway, other: &mut Gateway) -> Result<()> {
    writer.settled(&Request::get("/users/999")).await?;
    assert_eq!(writer.get(0, ORDERS).await?.json()["version"], 2, "the group isn't asked while the purge is pending");
    sleep(WINDOW * 2).await;
    for worker in [0, 1] {
        for path in ["/users/1", ORDERS] {
            assert_eq!(other.get(worker, path).await?.json()["version"], 2, "{path}, worker {worker}");
        }
    }
    recovered(other).await
}

/// Envoy answers for a cluster that it can't reach, and anything may listen on a port: only the marker tells.
#[tokio::test]
async fn an_answer_without_the_bridges_mark_is_none() -> Result<()> {
    let stage = Stage::set().await?;
    let impostor = Origin::start().await?;
    let position = "1-0-1";
    let feed = json!({ "continuity": "first", "records": [], "cursor": position, "held_ms": 0, "complete": true });
    impostor.script("POST", bridge_api::FEED, Answer::json(StatusCode::OK, &feed));
    let miss = json!({ "outcome": "miss", "ticket": { "at": position, "era": "1" } });
    impostor.script("POST", bridge_api::LOOKUP, Answer::json(StatusCode::OK, &miss));
    let options = EnvoyOptions { bridge: Some(impostor.address().into()), ..stage.options()? };
    let mut gateway = Gateway::open(&rules(), options).await?;
    sleep(WINDOW).await;
    assert!(impostor.requests("POST", bridge_api::FEED) > 0, "the gateway must have asked");
    bypassed(&mut gateway).await
}
