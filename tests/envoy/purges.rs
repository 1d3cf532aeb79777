//! What a write does to what is kept.

use std::time::Duration;

use http::{Method, StatusCode};
use routecache_harness::{Answer, Request, Result};
use serde_json::json;
use tokio::time::sleep;

use super::stage::{Stage, WINDOW};

const PURGED: &str = "routecache; fwd=method; detail=purged";

#[tokio::test]
async fn a_write_purges_its_tags_on_every_worker_and_nothing_else() -> Result<()> {
    let stage = Stage::set().await?;
    let mut gateway = stage.gateway().await?;
    let (purged, kept) = (
        ["/users/1", "/users/1/orders", "/users/1/orders?page=2"],
        ["/users/2", "/users/2/orders", "/users/12", "/users/12/orders"],
    );
    // Every worker has all of it in its own memory.
    for path in purged.iter().chain(&kept) {
        for worker in [0, 1, 0, 1] {
            gateway.get(worker, path).await?;
        }
    }
    // The first request after the write comes through one worker, then through the other.
    for (round, worker) in [(2, 0), (3, 1)] {
        let write = gateway.send(0, Request::put("/users/1", &json!({ "name": "Augusta" }))).await?;
        assert_eq!((write.status, write.header("cache-status").as_str()), (StatusCode::OK, PURGED));
        for path in purged {
            let read = gateway.get(worker, path).await?;
            assert_eq!(read.header("cache-status"), "routecache; fwd=uri-miss; stored", "{path}, worker {worker}");
            assert_eq!(read.json()["version"], round, "{path}");
            assert_eq!(gateway.get(1 - worker, path).await?.json()["version"], round, "{path}");
        }
        for path in kept {
            let read = gateway.get(worker, path).await?;
            assert_eq!(read.cache_status().detail.as_deref(), Some("worker"), "{path}, worker {worker}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_unsafe_method_that_a_purge_rule_names_purges() -> Result<()> {
    let stage = Stage::set().await?;
    let mut gateway = stage.gateway().await?;
    for (method, path, read) in [
        (Method::PUT, "/users/1", "/users/1"),
        (Method::PATCH, "/users/1", "/users/1"),
        (Method::POST, "/users/1/orders", "/users/1/orders"),
        (Method::DELETE, "/users/1", "/users/1"),
    ] {
        gateway.get(1, read).await?;
        assert!(gateway.get(1, read).await?.cache_status().hit, "{method}");
        let write = gateway.send(0, Request::new(method.clone(), path)).await?;
        assert!(write.status.is_success(), "{method}: {}", write.status);
        assert_eq!(write.header("cache-status"), PURGED, "{method}");
        assert!(!gateway.get(1, read).await?.cache_status().hit, "{method}");
    }
    Ok(())
}

#[tokio::test]
async fn a_write_that_fails_purges_nothing() -> Result<()> {
    let stage = Stage::set().await?;
    let mut gateway = stage.gateway().await?;
    gateway.get(0, "/users/1").await?;
    for status in [400, 404, 409, 422, 500, 503] {
        stage.origin.fail_next_write(StatusCode::from_u16(status).unwrap());
        let write = gateway.send(0, Request::put("/users/1", &json!({ "name": "nobody" }))).await?;
        assert_eq!((write.status.as_u16(), write.header("cache-status").as_str()), (status, "routecache; fwd=method"));
        assert!(gateway.get(0, "/users/1").await?.cache_status().hit, "after {status}");
    }
    Ok(())
}

#[tokio::test]
async fn a_fill_that_began_before_a_write_is_never_served_after_it() -> Result<()> {
    let stage = Stage::set().await?;
    let (mut a, mut b) = (stage.gateway().await?, stage.gateway().await?);
    let (old, gate) = Answer::in_two("{\"version\":", "1}");
    stage.origin.script("GET", "/users/1", old);
    let mut filling = a.envoy.client().connect().await?;
    let mut fill = filling.begin(Request::get("/users/1")).await?;
    fill.next().await?;

    let write = a.send(0, Request::put("/users/1", &json!({ "name": "Augusta" }))).await?;
    assert_eq!(write.header("cache-status"), PURGED);
    gate.open();
    while fill.next().await?.is_some() {}
    stage.origin.script("GET", "/users/1", Answer::json(StatusCode::OK, &json!({ "version": 2 })));
    sleep(Duration::from_millis(300)).await; // were it stored, it would be everywhere by now

    for worker in [0, 1] {
        assert_eq!(a.get(worker, "/users/1").await?.json(), json!({ "version": 2 }), "a/{worker}");
        assert_eq!(b.get(worker, "/users/1").await?.json(), json!({ "version": 2 }), "b/{worker}");
    }
    Ok(())
}

#[tokio::test]
async fn a_fill_that_began_in_another_gateway_before_a_write_is_not_served_once_the_window_is_over() -> Result<()> {
    let stage = Stage::set().await?;
    let (mut a, mut b) = (stage.gateway().await?, stage.gateway().await?);
    let (old, gate) = Answer::in_two("{\"version\":", "1}");
    stage.origin.script("GET", "/users/1", old);
    let mut filling = b.envoy.client().connect().await?;
    let mut fill = filling.begin(Request::get("/users/1")).await?;
    fill.next().await?;

    a.send(0, Request::put("/users/1", &json!({ "name": "Augusta" }))).await?;
    stage.origin.script("GET", "/users/1", Answer::json(StatusCode::OK, &json!({ "version": 2 })));
    gate.open(); // at once: b may not have heard of the write yet
    while fill.next().await?.is_some() {}
    sleep(WINDOW).await;

    for worker in [0, 1] {
        assert_eq!(b.get(worker, "/users/1").await?.json(), json!({ "version": 2 }), "b/{worker}");
        assert_eq!(a.get(worker, "/users/1").await?.json(), json!({ "version": 2 }), "a/{worker}");
    }
    Ok(())
}

#[tokio::test]
async fn a_write_reaches_every_other_gateway_within_the_window() -> Result<()> {
    let stage = Stage::set().await?;
    let (mut a, mut b) = (stage.gateway().await?, stage.gateway().await?);
    for path in ["/users/1", "/users/2"] {
        a.get(0, path).await?;
        for worker in [0, 1, 0, 1] {
            b.get(worker, path).await?;
        }
    }
    let write = a.send(0, Request::put("/users/1", &json!({ "name": "Augusta" }))).await?;
    assert_eq!(write.header("cache-status"), PURGED);
    sleep(WINDOW).await; // C3 promises nothing before, and everything from here on
    for worker in [0, 1] {
        assert_eq!(b.get(worker, "/users/1").await?.json()["version"], 2, "worker {worker}");
        assert!(b.get(worker, "/users/2").await?.cache_status().hit, "worker {worker}");
    }
    Ok(())
}
