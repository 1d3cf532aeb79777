//! The bridge, or what is behind it, gone in several ways: nothing fails, nothing waits long, all comes back by itself.

use std::time::{Duration, Instant};

use routecache_harness::{READ_TIME, Request, Result};
use serde_json::json;
use tokio::time::sleep;

use super::stage::{BRIDGE_TIMEOUT, Gateway, Stage, WINDOW, rules};

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
async fn a_bridge_that_stops_and_comes_back_harms_nobody() -> Result<()> {
    let mut stage = Stage::set().await?;
    let mut gateway = opened(&stage).await?;
    assert!(stage.bridge.stop().await, "it must end by itself on SIGTERM, held polls or not");
    unharmed(&mut gateway).await?;
    bypassed(&mut gateway).await?;
    stage.bridge.restart().await?;
    recovered(&mut gateway).await
}

#[tokio::test]
async fn a_bridge_that_hangs_harms_nobody() -> Result<()> {
    let stage = Stage::set().await?;
    let mut gateway = opened(&stage).await?;
    stage.bridge.hold();
    unharmed(&mut gateway).await?;
    bypassed(&mut gateway).await?;
    stage.bridge.release();
    recovered(&mut gateway).await
}

#[tokio::test]
async fn a_redis_that_crashes_and_forgets_everything_harms_nobody() -> Result<()> {
    let mut stage = Stage::set().await?;
    let mut gateway = opened(&stage).await?;
    stage.redis.restart().await?;
    unharmed(&mut gateway).await?;
    recovered(&mut gateway).await
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
async fn a_purge_that_the_bridge_didnt_hear_is_said_to_be_pending_and_reaches_it_later() -> Result<()> {
    let mut stage = Stage::set().await?;
    let (mut a, mut b) = (opened(&stage).await?, opened(&stage).await?);
    stage.bridge.kill().await;
    let start = Instant::now();
    let write = a.send(0, Request::put("/users/1", &json!({ "name": "Augusta" }))).await?;
    assert_eq!(write.header("cache-status"), "routecache; fwd=method; detail=purge-pending");
    assert!(start.elapsed() < Duration::from_millis(250) + BRIDGE_TIMEOUT, "{:?}", start.elapsed());
    for worker in [0, 1] {
        assert_eq!(a.get(worker, "/users/1").await?.json()["version"], 2, "C2, worker {worker}");
    }
    stage.bridge.restart().await?; // Redis kept version 1, which is still valid there until the purge arrives
    a.settled(&Request::get("/users/999")).await?;
    sleep(WINDOW * 2).await;
    for worker in [0, 1] {
        assert_eq!(b.get(worker, "/users/1").await?.json()["version"], 2, "worker {worker}");
    }
    recovered(&mut b).await
}
