//! What goes to the origin, and what of it is kept.

use std::time::Duration;

use http::StatusCode;
use routecache_harness::{Answer, Origin, Request, Result};
use serde_json::json;
use tokio::time::sleep;

use super::stage::{Gateway, Stage, options, rules_without_bridge};
use crate::streaming;

#[tokio::test]
async fn a_miss_reaches_the_client_piece_by_piece_and_is_kept_at_its_end_only() -> Result<()> {
    let stage = Stage::set().await?;
    let mut gateway = stage.gateway().await?;
    streaming::piece_by_piece(&stage.origin, &mut gateway.workers).await
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_kept() -> Result<()> {
    let stage = Stage::set().await?;
    let mut gateway = stage.gateway().await?;
    stage.origin.script("GET", "/users/1", Answer::broken_off("{\"id\":", 1000));
    assert!(gateway.get(0, "/users/1").await.is_err(), "the client must see that it broke off");

    stage.origin.script("GET", "/users/1", Answer::json(StatusCode::OK, &json!({ "id": 1 })));
    let whole = gateway.envoy.get("/users/1").await?;
    assert_eq!(whole.cache_status().fwd.as_deref(), Some("uri-miss"));
    assert_eq!(whole.json(), json!({ "id": 1 }));
    Ok(())
}

#[tokio::test]
async fn an_answer_to_a_client_that_leaves_is_not_kept() -> Result<()> {
    let stage = Stage::set().await?;
    let mut gateway = stage.gateway().await?;
    let (answer, gate) = Answer::in_two("{\"first\":1,", "\"second\":2}");
    stage.origin.script("GET", "/users/1", answer);
    let mut leaving = gateway.envoy.client().connect().await?;
    let mut arriving = leaving.begin(Request::get("/users/1")).await?;
    arriving.next().await?;
    drop((arriving, leaving));
    sleep(Duration::from_millis(100)).await; // Envoy takes note of it
    gate.open();

    for worker in [0, 1] {
        let answer = gateway.get(worker, "/users/1").await?;
        assert_eq!(answer.text(), "{\"first\":1,\"second\":2}", "worker {worker}");
    }
    assert_eq!(stage.origin.requests("GET", "/users/1"), 2, "the one that left, and one more");
    Ok(())
}

#[tokio::test]
async fn what_no_rule_names_passes_untouched() -> Result<()> {
    let stage = Stage::set().await?;
    let mut gateway = stage.gateway().await?;
    for _ in 0..2 {
        let answer = gateway.get(0, "/users").await?;
        assert_eq!((answer.status, answer.header("cache-status").as_str()), (StatusCode::OK, ""));
    }
    assert_eq!(stage.origin.requests("GET", "/users"), 2);
    Ok(())
}

#[tokio::test]
async fn a_gateway_without_a_bridge_caches_and_purges_on_its_own() -> Result<()> {
    let origin = Origin::start().await?;
    let mut gateway = Gateway::open(&rules_without_bridge(), options(&origin)?).await?;
    assert_eq!(gateway.get(0, "/users/1").await?.header("cache-status"), "routecache; fwd=uri-miss; stored");
    assert_eq!(gateway.get(1, "/users/1").await?.cache_status().detail.as_deref(), Some("gateway"));
    let written = gateway.send(1, Request::put("/users/1", &json!({ "name": "Augusta" }))).await?;
    assert_eq!(written.header("cache-status"), "routecache; fwd=method; detail=purged");
    let read = gateway.get(0, "/users/1").await?;
    assert_eq!((read.cache_status().hit, &read.json()["version"]), (false, &json!(2)));
    Ok(())
}

/// No-Vary-Search: the origin says which parameters don't matter, and a write under another spelling purges all.
#[tokio::test]
async fn what_the_origin_says_of_the_query_decides_which_urls_are_one() -> Result<()> {
    let origin = Origin::start().await?;
    let mut rules = rules_without_bridge();
    let cache = json!({ "key": "user:{user_id}", "no_vary_search": "respect" });
    rules["routes"][0]["cache"] = cache;
    let answer = |who: &str| {
        Answer::json(StatusCode::OK, &json!({ "who": who }))
            .header("no-vary-search", "params=(\"utm_source\"), key-order")
    };
    for (path, who) in [("/users/1?a=1&utm_source=x", "first"), ("/users/1?a=2", "second")] {
        origin.script("GET", path, answer(who));
    }
    let mut gateway = Gateway::open(&rules, options(&origin)?).await?;
    gateway.get(0, "/users/1?a=1&utm_source=x").await?;
    gateway.get(0, "/users/1?a=2").await?;
    for (worker, path, body) in [
        (0, "/users/1?utm_source=y&a=1", "first"),
        (1, "/users/1?a=1", "first"),
        (1, "/users/1?utm_source=z&a=2", "second"),
    ] {
        let read = gateway.get(worker, path).await?;
        assert!(read.cache_status().hit && read.text().contains(body), "{path}: {}", read.header("cache-status"));
    }
    gateway.send(1, Request::put("/users/1?utm_source=q", &json!({}))).await?;
    for path in ["/users/1?a=1&utm_source=x", "/users/1?a=2"] {
        assert!(!gateway.get(0, path).await?.cache_status().hit, "{path}");
    }
    Ok(())
}
