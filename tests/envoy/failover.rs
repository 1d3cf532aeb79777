//! The store's master dies with purges that its replica lacks: gateways that never heard of them drop what they hold.

use std::time::Duration;

use routecache_harness::{Bridge, Origin, Redis, Request, Result};
use serde_json::json;
use tokio::time::sleep;

use super::stage::{Gateway, WINDOW, options, rules};

#[tokio::test]
async fn what_only_the_dead_master_knew_to_be_purged_is_not_served_again() -> Result<()> {
    let origin = Origin::start().await?;
    let mut redis = Redis::start().await?;
    let bridges = [Bridge::start(redis.url()).await?, Bridge::start(redis.url()).await?];
    let mut gateways = Vec::new();
    for bridge in &bridges {
        let mut options = options(&origin)?;
        options.bridge = Some(bridge.address().into());
        let gateway = Gateway::open(&rules(), options).await?;
        gateway.settled(&Request::get("/users/999")).await?;
        gateways.push(gateway);
    }
    let (Some(mut reader), Some(mut writer)) = (gateways.pop(), gateways.pop()) else { unreachable!("there are two") };
    let old = reader.get(0, "/users/1").await?.json()["version"].clone();
    reader.until(0, "/users/1", Duration::from_secs(10), |answer| answer.cache_status().hit).await?;

    let replica = redis.replica().await?;
    replica.tell("REPLICAOF NO ONE").await?; // from here on it hears no more
    bridges[1].hold(); // nor does the reader
    let written = writer.send(0, Request::put("/users/1", &json!({ "name": "new" }))).await?;
    assert_eq!(written.cache_status().detail.as_deref(), Some("purged"), "the group has acknowledged it");
    writer.envoy.stop().await; // and nobody is left who was told
    redis.fail_over_to(&replica).await?;
    sleep(WINDOW * 2).await; // cut off, the reader trusts nothing
    bridges[1].release();
    reader.settled(&Request::get("/users/999")).await?; // it hears again, and so of the new era
    for worker in [0, 1, 0, 1] {
        let answer = reader.get(worker, "/users/1").await?;
        assert_ne!(answer.json()["version"], old, "{}", answer.header("cache-status"));
    }
    reader.until(1, "/users/1", Duration::from_secs(20), |answer| answer.cache_status().hit).await?;
    let answer = reader.get(0, "/users/1").await?;
    assert_ne!(answer.json()["version"], old, "{}", answer.header("cache-status"));
    Ok(())
}
