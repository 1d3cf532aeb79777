//! A thousand clients at once, on two gateways with two workers each: how often the origin hears of it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use routecache_config::render::{self, EnvoyOptions};
use routecache_harness::{Answer, Client, Envoy, EnvoyConfig, Origin, Request, Result};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::stage::{Gateway, Stage, options, rules, rules_without_bridge};

const CLIENTS: usize = 1000;

/// What a crowd was told: how many were answered by another one's fetch, how many by their own, and all of it for messages.
struct Crowd {
    collapsed: usize,
    fetched: usize,
    told: BTreeMap<String, usize>,
}

/// Has so many clients ask for the user at once, of the gateways in turn.
async fn crowd(clients: usize, gateways: &[Client], case: &str) -> Result<Crowd> {
    let mut asking = JoinSet::new();
    for number in 0..clients {
        let gateway = gateways[number % gateways.len()];
        asking.spawn(async move { gateway.get("/users/1").await });
    }
    let mut crowd = Crowd { collapsed: 0, fetched: 0, told: BTreeMap::new() };
    while let Some(answer) = asking.join_next().await {
        let answer = answer.expect("no client panics")?;
        let told = answer.header("cache-status");
        assert_eq!(answer.status, 200, "{case}: {told} {}", answer.text());
        assert_eq!(answer.json()["version"], 1, "{case}: {told}");
        crowd.collapsed += usize::from(told.contains("; collapsed;"));
        crowd.fetched += usize::from(told.contains("fwd=uri-miss") && !told.contains("; collapsed;"));
        let parts: Vec<_> = told.split("; ").filter(|part| !part.starts_with("ttl=")).collect();
        *crowd.told.entry(parts.join("; ")).or_default() += 1;
    }
    Ok(crowd)
}

/// So many where each of them asks the origin: more new connections at once than a busy machine makes within Envoy's
/// `connect_timeout` would be the origin's failure, not ours.
const UNLOCKED: usize = 100;

#[tokio::test]
async fn a_thousand_clients_cost_one_fetch_as_far_as_the_lock_reaches() -> Result<()> {
    let stage = Stage::set().await?;
    stage.origin.set_read_time(Duration::from_secs(3)); // by then all of them have come, on a busy machine too
    for (lock, limit) in [("group", 1), ("gateway", 2), ("worker", 4), ("off", UNLOCKED)] {
        let mut rules = rules();
        rules["namespace"]["version"] = lock.into();
        // A lookup that takes too long, on a busy machine, would let a gateway go on by itself.
        rules["bridge"]["timeout"] = "5s".into();
        // So would one that loses the feed meanwhile (C4): it doesn't ask the group, and its answers say so.
        rules["consistency"]["window"] = "30s".into();
        rules["routes"][0]["cache"]["lock"] = lock.into();
        rules["routes"][0]["cache"]["lock_wait"] = "30s".into();
        let gateways = [Gateway::open(&rules, stage.options()?).await?, Gateway::open(&rules, stage.options()?).await?];
        for gateway in &gateways {
            gateway.settled(&Request::get("/users/999")).await?;
        }
        let before = stage.origin.requests("GET", "/users/1");
        let count = if lock == "off" { UNLOCKED } else { CLIENTS };
        let crowd = crowd(count, &gateways.each_ref().map(|gateway| gateway.envoy.client()), lock).await?;
        let Crowd { collapsed, fetched, told } = crowd;
        let asked = usize::try_from(stage.origin.requests("GET", "/users/1") - before).expect("so many");
        assert!((1..=limit).contains(&asked), "{lock}: the origin was asked {asked} times: {told:?}");
        // What isn't collapsed, nor a hit of who came late, has been fetched.
        assert_eq!(fetched, asked, "{lock}: {told:?}");
        assert_eq!(collapsed > 0, lock != "off", "{lock}: {told:?}");
        assert!(lock != "off" || asked > 4, "{asked}");
    }
    Ok(())
}

/// Each that goes on does so inside the call that let the one before it go on: as many as wait here once
/// overflowed the VM's stack, and all of them got 503.
#[tokio::test]
async fn five_hundred_who_wait_on_one_worker_are_answered() -> Result<()> {
    let origin = Origin::start().await?;
    origin.set_read_time(Duration::from_secs(2));
    let mut rules = rules_without_bridge();
    rules["routes"][0]["cache"]["lock_wait"] = "30s".into();
    let options = options(&origin)?;
    let config = EnvoyConfig::new(|listen, admin| {
        render::envoy(&rules, &EnvoyOptions { listen, admin: Some(admin), access_log: false, ..options })
    })?;
    let envoy = Envoy::start(EnvoyConfig { concurrency: 1, ..config }).await?;
    let Crowd { collapsed, .. } = crowd(500, &[envoy.client()], "one worker").await?;
    assert!(collapsed > 400, "{collapsed} waited: too few to show anything");
    assert_eq!(origin.requests("GET", "/users/1"), 1);
    Ok(())
}

/// Something stale that both gateways want to refresh at once is asked of the origin once, behind all clients.
#[tokio::test]
async fn two_gateways_refresh_once() -> Result<()> {
    let stage = Stage::set().await?;
    let mut rules = rules();
    rules["bridge"]["timeout"] = "5s".into();
    rules["consistency"]["window"] = "30s".into(); // busy machines don't lose the feed in the midst of it
    rules["routes"][0]["cache"]["lock"] = "group".into();
    let mut gateways = [Gateway::open(&rules, stage.options()?).await?, Gateway::open(&rules, stage.options()?).await?];
    let answer = |version: u32, age: &str| {
        Answer::json(StatusCode::OK, &json!({ "version": version })).header("cache-control", age)
    };
    stage.origin.script("GET", "/users/1", answer(1, "max-age=1, stale-while-revalidate=600"));
    for gateway in &mut gateways {
        gateway.settled(&Request::get("/users/999")).await?;
        gateway.get(0, "/users/1").await?;
        gateway.get(1, "/users/1").await?;
    }
    sleep(Duration::from_millis(1200)).await;
    let before = stage.origin.requests("GET", "/users/1");
    stage.origin.script("GET", "/users/1", answer(2, "max-age=600"));
    stage.origin.set_read_time(Duration::from_millis(500));
    for gateway in &mut gateways {
        let stale = gateway.get(0, "/users/1").await?;
        assert!(stale.cache_status().hit && stale.json()["version"] == 1, "{}", stale.header("cache-status"));
    }
    for gateway in &mut gateways {
        for worker in [0, 1] {
            gateway.until(worker, "/users/1", Duration::from_secs(60), |answer| answer.json()["version"] == 2).await?;
        }
    }
    assert_eq!(stage.origin.requests("GET", "/users/1") - before, 1);
    Ok(())
}
