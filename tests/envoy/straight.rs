//! What the filter fetches by itself goes straight to the cluster that its rule names.

use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use routecache_harness::{Answer, Error, Origin, Request, Result};
use serde_json::json;
use tokio::time::sleep;

use super::stage::{Gateway, options};

/// A gateway whose own listener nobody but clients can use: the way back to it leads nowhere.
async fn gateway(origin: &Origin) -> Result<Gateway> {
    let straight = json!({ "cluster": "users", "rewrites": "none" });
    let rules = json!({
        "version": 1,
        "background": { "cluster": "no-such-cluster" },
        "warm": [format!("http://{}/users/9", origin.address())],
        "routes": [
            {
                "name": "user",
                "match": { "path": "/users/{id}" },
                "cache": { "ttl": "60s", "early": "59s", "stale_if_error": "1h", "origin": straight }
            },
            {
                "name": "write",
                "match": { "path": "/users/{id}" },
                "purge": { "tags": ["/users/{id}"] },
                "recache": [{ "route": "user", "include": ["id"] }]
            }
        ]
    });
    let away = |yaml: String| yaml.replace("name: no-such-cluster", "name: own-listener");
    Gateway::open_changed(&rules, options(origin)?, away).await
}

/// Waits until the origin has heard so many reads of a path.
async fn heard(origin: &Origin, gateway: &Gateway, path: &str, times: u64) -> Result<()> {
    let start = Instant::now();
    while origin.requests("GET", path) < times {
        if start.elapsed() > Duration::from_secs(10) {
            let heard = origin.requests("GET", path);
            return Err(Error::Unexpected(format!("{path} was read {heard} times\n{}", gateway.envoy.log())));
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// The header of the last read of a path.
fn last(origin: &Origin, path: &str) -> HeaderMap {
    let read = format!("GET {path}");
    origin.heard().into_iter().rev().find(|heard| heard.request == read).expect("it was heard").headers
}

fn user(version: u32) -> Answer {
    Answer::json(StatusCode::OK, &json!({ "version": version })).header("etag", &format!("\"{version}\""))
}

#[tokio::test]
async fn refreshes_and_what_writes_and_lists_ask_for_go_to_the_cluster_and_purges_void_them() -> Result<()> {
    let origin = Origin::start().await?;
    let mut gateway = gateway(&origin).await?;
    let path = "/users/1";
    heard(&origin, &gateway, "/users/9", 1).await?; // the list

    // A refresh asks whether the entry still holds, as the client asked.
    origin.script("GET", path, user(1));
    gateway.get(0, path).await?;
    sleep(Duration::from_millis(1100)).await;
    origin.script("GET", path, Answer::empty(StatusCode::NOT_MODIFIED).header("etag", "\"1\""));
    assert!(gateway.send(0, Request::get(path).header("x-from", "a client")).await?.cache_status().hit);
    heard(&origin, &gateway, path, 2).await?;
    let refresh = last(&origin, path);
    for (name, value) in [("if-none-match", "\"1\""), ("cdn-loop", "routecache"), ("x-from", "a client")] {
        assert_eq!(refresh.get(name).and_then(|value| value.to_str().ok()), Some(value), "{name}");
    }
    assert!(refresh.get("routecache-fetch").is_none());
    let young = |answer: &routecache_harness::Response| answer.header("age") == "0" && answer.cache_status().hit;
    gateway.until(1, path, Duration::from_secs(10), young).await?;

    // A purge while one is under way voids what it brings, and the write has it read again.
    sleep(Duration::from_millis(1100)).await;
    origin.script("GET", path, user(1).after(Duration::from_millis(500)));
    gateway.get(0, path).await?;
    heard(&origin, &gateway, path, 3).await?;
    origin.script("PUT", path, Answer::empty(StatusCode::NO_CONTENT));
    origin.script("GET", path, user(2).after(Duration::from_millis(10)));
    gateway.send(0, Request::put(path, &json!({})).header("cookie", "secret=1")).await?;
    heard(&origin, &gateway, path, 4).await?;
    assert!(last(&origin, path).get("cookie").is_none());
    gateway.until(0, path, Duration::from_secs(10), |answer| answer.cache_status().hit).await?;
    sleep(Duration::from_millis(700)).await; // what was under way has come by now
    for worker in [0, 1] {
        assert_eq!(gateway.get(worker, path).await?.json()["version"], 2, "worker {worker}");
    }
    assert_eq!(gateway.envoy.stat("cluster.own-listener.upstream_rq_total").await?, 0);
    Ok(())
}

#[tokio::test]
async fn while_the_origin_fails_clients_who_wait_get_what_is_stored_and_it_is_left_in_peace() -> Result<()> {
    let origin = Origin::start().await?;
    let mut gateway = gateway(&origin).await?;
    let path = "/users/2";
    origin.script("GET", path, user(1).header("cache-control", "max-age=1"));
    gateway.get(0, path).await?;
    origin.script("GET", path, Answer::empty(StatusCode::SERVICE_UNAVAILABLE));
    sleep(Duration::from_millis(2100)).await;
    for _ in 0..20 {
        let answer = gateway.get(0, path).await?;
        assert_eq!((answer.status, answer.json()["version"].as_u64()), (StatusCode::OK, Some(1)));
        assert_eq!(answer.cache_status().detail.as_deref(), Some("stale-if-error"));
    }
    let asked = origin.requests("GET", path) - 1;
    assert!((1..=4).contains(&asked), "{asked} times in a moment");
    origin.script("GET", path, user(2));
    gateway.until(0, path, Duration::from_secs(70), |answer| answer.json()["version"] == 2).await?;
    Ok(())
}
