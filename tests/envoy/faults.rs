//! docs/degradation.md under load: bridge, Redis and origin are killed, stopped, or refuse, while clients go on asking. Nobody gets
//! an error, few wait longer than the timeouts say, and all heals by itself.

use std::time::Duration;

use routecache_config::render::EnvoyOptions;
use routecache_harness::{Load, OriginProcess, Redis, Request, Response, Result, Seen};
use serde_json::json;
use tokio::time::sleep;

use super::stage::{BRIDGE_TIMEOUT, Gateway, Stage, WINDOW, options_for, rules, rules_without_bridge};

/// How soon something must be seen that time or a test's deed brings about, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// The longest that a request may take: the read itself, the call to the bridge, and for writes `purge.timeout`; with what a
/// busy machine adds. So many in a hundred may take longer, since machines can be busier.
const BOUND: Duration = Duration::from_millis(30 + 250).saturating_add(BRIDGE_TIMEOUT);
const LATE_IN_A_HUNDRED: usize = 2;

/// How long an origin may take that doesn't answer, for what stands in: a fetch of the filter's own, and a request of a client.
const FETCH_TIMEOUT: Duration = Duration::from_millis(300);
const ROUTE_TIMEOUT: Duration = Duration::from_millis(500);

/// What a busy machine adds.
const BUSY: Duration = Duration::from_millis(500);

/// What is done to the bridge, or to what is behind it, and undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    BridgeKilled,
    BridgeStopped,
    RedisKilled,
    RedisStopped,
    /// It has become the replica of a master that isn't there.
    RedisReadOnly,
    RedisLoading,
    ClusterDown,
    /// `maxmemory` is reached and nothing may be evicted: it takes purges, and keeps nothing new.
    RedisFull,
}

impl Fault {
    async fn stage(self) -> Result<Stage> {
        Stage::set_on(if self == Self::ClusterDown { Redis::start_as_cluster().await? } else { Redis::start().await? })
            .await
    }

    async fn begin(self, stage: &mut Stage) -> Result<()> {
        match self {
            Self::BridgeKilled => stage.bridge.kill().await,
            Self::BridgeStopped => stage.bridge.hold(),
            Self::RedisKilled => stage.redis.kill().await,
            Self::RedisStopped => stage.redis.hold(),
            Self::RedisReadOnly => {
                stage.redis.tell("REPLICAOF 127.0.0.1 1").await?;
                refuses(&stage.redis, "SET a b", "READONLY").await;
            }
            Self::RedisLoading => stage.redis.reload_slowly(Duration::from_secs(4)).await?,
            Self::ClusterDown => {
                stage.redis.tell("CLUSTER DELSLOTSRANGE 0 16383").await?;
                refuses(&stage.redis, "GET a", "CLUSTERDOWN").await;
            }
            Self::RedisFull => {
                stage.redis.tell("CONFIG SET maxmemory 1").await?;
                refuses(&stage.redis, "SET a b", "OOM").await;
            }
        }
        Ok(())
    }

    async fn end(self, stage: &mut Stage) -> Result<()> {
        match self {
            Self::BridgeKilled => stage.bridge.restart().await,
            Self::BridgeStopped => {
                stage.bridge.release();
                Ok(())
            }
            Self::RedisKilled => stage.redis.restart().await,
            Self::RedisStopped => {
                stage.redis.release();
                Ok(())
            }
            Self::RedisReadOnly => stage.redis.tell("REPLICAOF NO ONE").await.map(drop),
            Self::RedisLoading => Ok(()), // it ends by itself
            Self::ClusterDown => stage.redis.tell("CLUSTER ADDSLOTSRANGE 0 16383").await.map(drop),
            Self::RedisFull => stage.redis.tell("CONFIG SET maxmemory 0").await.map(drop),
        }
    }
}

/// The Redis is in the state that the test is about.
async fn refuses(redis: &Redis, command: &str, answer: &str) {
    let refusal = redis.tell(command).await.unwrap_or_else(|refusal| refusal.to_string());
    assert!(refusal.contains(answer), "{command}: {refusal}");
}

/// Two clients read what the gateway holds, three what nobody holds, one writes.
fn request(client: usize, nth: usize) -> Request {
    match client {
        0 | 1 => Request::get("/users/1"),
        5 => Request::put("/users/12", &json!({ "name": format!("Edsger {nth}") })),
        _ => Request::get(format!("/users/2/orders?page={}", client + 10 * nth)),
    }
}

/// A failing test shows what Envoy has said; thousands of requests would hide it.
fn quiet(options: EnvoyOptions) -> EnvoyOptions {
    EnvoyOptions { access_log: false, ..options }
}

async fn harms_nobody(fault: Fault) -> Result<()> {
    let mut stage = fault.stage().await?;
    let mut gateway = Gateway::open(&rules(), quiet(stage.options()?)).await?;
    gateway.settled(&Request::get("/users/999")).await?;
    for worker in [0, 1] {
        gateway.until(worker, "/users/1", SOON, |answer| answer.cache_status().hit).await?;
    }
    let load = Load::start(gateway.envoy.client(), 6, Duration::from_millis(10), request);
    fault.begin(&mut stage).await?;
    let write = Request::put("/users/1", &json!({ "name": "Augusta" }));
    if fault == Fault::RedisFull {
        assert_eq!(gateway.send(0, write).await?.cache_status().detail.as_deref(), Some("purged"));
        sleep(WINDOW * 2).await; // a feed that fails would be missed by then
        gateway.get(1, "/users/1").await?;
        assert!(gateway.get(1, "/users/1").await?.cache_status().hit);
    } else {
        // C4: cut off for longer than the window, what is held isn't trusted.
        for worker in [0, 1] {
            let lost = |answer: &Response| answer.cache_status().detail.as_deref() == Some("feed-lost");
            gateway.until(worker, "/users/1", SOON, lost).await?;
        }
        assert_eq!(gateway.send(0, write).await?.cache_status().detail.as_deref(), Some("purge-pending"));
    }
    fault.end(&mut stage).await?;
    for worker in [0, 1] {
        let back = |answer: &Response| answer.cache_status().hit && answer.json()["name"] == "Augusta";
        gateway.until(worker, "/users/1", SOON, back).await?;
    }
    let seen = load.end().await;
    hold_up_nobody(&format!("{fault:?}"), &seen, BOUND);
    for name in ["GET /users/1", "GET /users/2/orders", "PUT /users/12"] {
        let requests = seen.iter().filter(|one| one.request.starts_with(name)).count();
        assert!(requests > 2, "{fault:?}: {requests} requests {name} show nothing");
    }
    assert!(!seen.iter().any(|one| one.cache.detail.as_deref() == Some("purge-failed")), "{fault:?}");
    Ok(())
}

/// Counts errors, of which there are to be none, and how long clients waited; says both (`--nocapture` shows it).
fn hold_up_nobody(case: &str, seen: &[Seen], bound: Duration) {
    let failed: Vec<&Seen> = seen.iter().filter(|one| !one.is_good()).collect();
    let late = seen.iter().filter(|one| one.took > bound).count();
    let mut took: Vec<Duration> = seen.iter().map(|one| one.took).collect();
    took.sort();
    let ms = |share: usize| took.get((took.len().max(1) - 1) * share / 100).map_or(0, Duration::as_millis);
    let (median, most, longest) = (ms(50), ms(99), ms(100));
    let (requests, errors) = (seen.len(), failed.len());
    eprintln!("{case}: {requests} requests, {errors} errors; median {median} ms, p99 {most} ms, longest {longest} ms");
    assert!(failed.is_empty(), "{case}: {errors} of {requests} failed, such as {:?}", failed[0]);
    assert!(late * 100 <= requests * LATE_IN_A_HUNDRED, "{case}: {late} of {requests} took over {bound:?}");
}

#[tokio::test]
async fn a_bridge_that_is_killed_or_stopped_harms_nobody() -> Result<()> {
    let (killed, stopped) = tokio::join!(harms_nobody(Fault::BridgeKilled), harms_nobody(Fault::BridgeStopped));
    killed.and(stopped)
}

#[tokio::test]
async fn a_redis_that_is_killed_or_stopped_harms_nobody() -> Result<()> {
    let (killed, stopped) = tokio::join!(harms_nobody(Fault::RedisKilled), harms_nobody(Fault::RedisStopped));
    killed.and(stopped)
}

#[tokio::test]
async fn a_redis_that_answers_readonly_loading_clusterdown_or_oom_harms_nobody() -> Result<()> {
    let (read_only, loading, down, full) = tokio::join!(
        harms_nobody(Fault::RedisReadOnly),
        harms_nobody(Fault::RedisLoading),
        harms_nobody(Fault::ClusterDown),
        harms_nobody(Fault::RedisFull)
    );
    read_only.and(loading).and(down).and(full)
}

/// Both ways to outlive an origin, killed and stopped: not one error for what is stored.
#[tokio::test]
async fn an_origin_that_is_killed_or_stopped_harms_nobody_who_asks_for_what_is_stored() -> Result<()> {
    let mut origin = OriginProcess::start().await?;
    let mut rules = rules_without_bridge();
    rules["background"] = json!({ "timeout": "300ms" });
    rules["routes"][0]["cache"]["ttl"] = "1s".into();
    rules["routes"][0]["cache"]["stale_if_error"] = "10m".into();
    rules["routes"][1]["mode"] = "failover".into();
    let shorter = |yaml: String| yaml.replace("timeout: 15s", "timeout: 0.5s");
    let mut gateway = Gateway::open_changed(&rules, quiet(options_for(origin.address())?), shorter).await?;
    for path in ["/users/1", "/users/2", "/users/1/orders"] {
        assert_eq!(gateway.get(0, path).await?.status, 200, "{path}");
    }
    let asked = ["/users/1", "/users/2", "/users/1/orders"];
    for stop in [true, false] {
        let load = Load::start(gateway.envoy.client(), 6, Duration::from_millis(10), move |client, _| {
            Request::get(asked[client % asked.len()])
        });
        if stop {
            origin.hold()
        } else {
            origin.kill().await
        }
        for worker in [0, 1] {
            for (path, said) in [("/users/1", "stale-if-error"), ("/users/1/orders", "fwd-status=50")] {
                let stands_in = |answer: &Response| answer.header("cache-status").contains(said);
                gateway.until(worker, path, SOON, stands_in).await?;
            }
        }
        // Long enough for refreshes that fail to be tried again.
        sleep(Duration::from_secs(1)).await;
        if stop {
            origin.release()
        } else {
            origin.restart().await?
        }
        let before = origin.requests("GET", "/users/2").await?;
        for path in ["/users/1", "/users/2"] {
            gateway.until(0, path, SOON, |answer| answer.cache_status().detail.as_deref() == Some("worker")).await?;
        }
        assert!(origin.requests("GET", "/users/2").await? >= before, "it is asked again");
        let case = if stop { "OriginStopped" } else { "OriginKilled" };
        let (failover, stale): (Vec<Seen>, Vec<Seen>) =
            load.end().await.into_iter().partition(|one| one.request.contains("orders"));
        hold_up_nobody(&format!("{case}, stale_if_error"), &stale, FETCH_TIMEOUT + BUSY);
        hold_up_nobody(&format!("{case}, mode: failover"), &failover, ROUTE_TIMEOUT + BUSY);
    }
    Ok(())
}
