//! Misses, hits from each tier, and purges.

use std::time::{Duration, Instant};

use http::StatusCode;
use routecache_harness::{Answer, Bridge, Origin, Redis, Request, Result};
use serde_json::json;
use tokio::time::sleep;

use super::stage::{ALONE, Gateway, WITH_BRIDGE, tier};

#[tokio::test]
async fn a_miss_is_kept_for_its_worker_and_for_the_gateway() -> Result<()> {
    let origin = Origin::start().await?;
    let mut gateway = Gateway::open(ALONE, &origin, &[]).await?;
    let miss = gateway.get(0, "/users/1").await?;
    let status = miss.cache_status();
    assert_eq!((status.fwd.as_deref(), status.stored), (Some("uri-miss"), true), "{}", miss.header("cache-status"));
    for (worker, want) in [(0, "worker"), (1, "gateway"), (1, "worker")] {
        let hit = gateway.get(worker, "/users/1").await?;
        assert_eq!((tier(&hit).as_deref(), &hit.body), (Some(want), &miss.body));
    }
    assert_eq!(origin.requests("GET", "/users/1"), 1);
    Ok(())
}

#[tokio::test]
async fn a_write_purges_what_both_workers_hold() -> Result<()> {
    let origin = Origin::start().await?;
    let mut gateway = Gateway::open(ALONE, &origin, &[]).await?;
    for worker in [0, 1, 0, 1] {
        gateway.get(worker, "/users/1").await?;
    }
    let write = Request::put("/users/1", &json!({ "name": "Grace" }));
    assert!(gateway.send(0, write).await?.status.is_success());
    for worker in [0, 1] {
        assert_eq!(gateway.get(worker, "/users/1").await?.json()["name"], "Grace", "worker {worker}");
    }
    Ok(())
}

#[tokio::test]
async fn rules_with_a_bridge_get_one_in_the_same_process() -> Result<()> {
    let origin = Origin::start().await?;
    let rules = format!("{ALONE}{WITH_BRIDGE}");
    let mut gateway = Gateway::open(&rules, &origin, &[]).await?;
    gateway.get(0, "/users/1").await?;
    // The other worker hears of the feed a moment later.
    gateway.until(1, "/users/1", |answer| answer.cache_status().hit).await?;
    let write = Request::put("/users/1", &json!({ "name": "Grace" }));
    let written = gateway.send(0, write).await?;
    let field = written.header("cache-status");
    assert_eq!(written.cache_status().detail.as_deref(), Some("purged"), "acknowledged by the group: {field}");
    gateway.until(1, "/users/1", |answer| answer.json()["name"] == "Grace").await?;
    Ok(())
}

#[tokio::test]
async fn gateways_share_a_redis_each_with_a_bridge_inside() -> Result<()> {
    let (origin, redis) = (Origin::start().await?, Redis::start().await?);
    let rules = format!("{ALONE}{WITH_BRIDGE}");
    let mut one = Gateway::open(&rules, &origin, &["--bridge", &redis.url()]).await?;
    let mut other = Gateway::open(&rules, &origin, &["--bridge", &redis.url()]).await?;
    one.get(0, "/users/1").await?;
    // The group's tier is written behind the client's back.
    let hit = loop {
        let mut fresh = Gateway::open(&rules, &origin, &["--bridge", &redis.url()]).await?;
        let answer = fresh.get(0, "/users/1").await?;
        if tier(&answer).is_some() {
            break answer;
        }
    };
    assert_eq!(tier(&hit).as_deref(), Some("group"));
    let write = Request::put("/users/1", &json!({ "name": "Grace" }));
    other.send(1, write).await?;
    one.until(0, "/users/1", |answer| answer.json()["name"] == "Grace").await?;
    Ok(())
}

#[tokio::test]
async fn a_bridge_that_runs_can_be_named() -> Result<()> {
    let (origin, bridge) = (Origin::start().await?, Bridge::start("mem://").await?);
    let rules = format!("{ALONE}{WITH_BRIDGE}");
    let url = format!("http://{}", bridge.address());
    let mut one = Gateway::open(&rules, &origin, &["--bridge", &url]).await?;
    let mut other = Gateway::open(&rules, &origin, &["--bridge", &url]).await?;
    one.get(0, "/users/1").await?;
    one.get(0, "/users/1").await?;
    let write = Request::put("/users/1", &json!({ "name": "Grace" }));
    other.send(1, write).await?;
    one.until(0, "/users/1", |answer| answer.json()["name"] == "Grace").await?;
    Ok(())
}

/// The way back to itself that Envoy needs a cluster for is there.
#[tokio::test]
async fn it_refreshes_behind_its_clients_and_warms_itself() -> Result<()> {
    let origin = Origin::start().await?;
    let answer = |version: u32, age: &str| {
        Answer::json(StatusCode::OK, &json!({ "version": version })).header("cache-control", age)
    };
    origin.script("GET", "/users/1", answer(1, "max-age=1, stale-while-revalidate=600"));
    origin.script("GET", "/users/2", answer(1, "max-age=600"));
    let rules = format!("{ALONE}warm: [\"http://shop.example/users/2\"]\n");
    let mut gateway = Gateway::open(&rules, &origin, &[]).await?;
    gateway.get(0, "/users/1").await?;
    sleep(Duration::from_millis(1200)).await;
    origin.script("GET", "/users/1", answer(2, "max-age=600"));
    let stale = gateway.get(0, "/users/1").await?;
    assert!(stale.cache_status().hit && stale.json()["version"] == 1, "{}", stale.header("cache-status"));
    gateway.until(0, "/users/1", |answer| answer.json()["version"] == 2).await?;
    assert_eq!(origin.requests("GET", "/users/1"), 2);
    let warm = || Request::get("/users/2").header("host", "shop.example");
    let start = Instant::now();
    while origin.requests("GET", "/users/2") == 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", gateway.serve.log());
        sleep(Duration::from_millis(10)).await;
    }
    while !gateway.send(0, warm()).await?.cache_status().hit {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", gateway.serve.log());
    }
    assert_eq!(origin.requests("GET", "/users/2"), 1);
    Ok(())
}

/// The name of a rule's cluster means the upstream, unless it is said what else.
#[tokio::test]
async fn what_goes_straight_upstream_finds_it() -> Result<()> {
    const STRAIGHT: &str = r#"
version: 1
routes:
  - name: user
    match: { path: "/users/{user_id}" }
    cache: { ttl: 60s, early: 59s, origin: { cluster: users, rewrites: none } }
"#;
    let (origin, other) = (Origin::start().await?, Origin::start().await?);
    let elsewhere = format!("users=http://{}", other.address());
    for (more, first, second) in [(&[][..], 2, 0), (&["--cluster", &elsewhere][..], 1, 1)] {
        let path = if more.is_empty() { "/users/1" } else { "/users/2" };
        let mut gateway = Gateway::open(STRAIGHT, &origin, more).await?;
        gateway.get(0, path).await?;
        sleep(Duration::from_millis(1100)).await;
        gateway.until(0, path, |_| origin.requests("GET", path) + other.requests("GET", path) == 2).await?;
        assert_eq!((origin.requests("GET", path), other.requests("GET", path)), (first, second), "{more:?}");
        // Through its own listener, it would have a line in the access log.
        let fetched = gateway.serve.log();
        assert!(!fetched.contains("routecache-self"), "{fetched}");
    }
    Ok(())
}
