//! What a write does to what is kept.

use std::time::Duration;

use http::{Method, StatusCode};
use routecache_harness::{Answer, Bridge, Client, Origin, Redis, Request, Response, Result};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::stage::{Gateway, Stage, WINDOW, options, rules};

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

/// C5. The origin may have done what it was asked: it took too long to say so, it broke off, or nobody was left to hear it.
#[tokio::test]
async fn a_write_whose_outcome_nobody_saw_purges_on_every_gateway() -> Result<()> {
    let stage = Stage::set().await?;
    let hasty = |yaml: String| yaml.replace("timeout: 15s", "timeout: 0.5s");
    let mut a = Gateway::open_changed(&rules(), stage.options()?, hasty).await?;
    a.settled(&Request::get("/users/999")).await?;
    let mut b = stage.gateway().await?;
    let late = || Answer::empty(StatusCode::OK).after(Duration::from_secs(60));
    for (how, answer, told) in [
        ("too late", late(), Some(StatusCode::GATEWAY_TIMEOUT)),
        ("broken off", Answer::reset(), Some(StatusCode::SERVICE_UNAVAILABLE)),
        ("unheard", late(), None),
    ] {
        for worker in [0, 1, 0, 1] {
            a.get(worker, "/users/1").await?;
            b.get(worker, "/users/1").await?;
        }
        stage.origin.script("PUT", "/users/1", answer);
        let write = Request::put("/users/1", &json!({ "name": "Augusta" }));
        match told {
            Some(status) => {
                let answer = a.send(0, write).await?;
                assert_eq!((answer.status, answer.header("cache-status").as_str()), (status, PURGED), "{how}");
                assert!(!a.get(1, "/users/1").await?.cache_status().hit, "{how}");
            }
            None => {
                let before = stage.origin.requests("PUT", "/users/1");
                let mut leaving = a.envoy.client().connect().await?;
                while stage.origin.requests("PUT", "/users/1") == before {
                    let waits = timeout(Duration::from_millis(100), leaving.begin(write.clone())).await;
                    assert!(waits.is_err(), "{how}: it was answered");
                }
                drop(leaving);
                a.until(1, "/users/1", Duration::from_secs(10), |answer| !answer.cache_status().hit).await?;
            }
        }
        // The one that has purged may have stored it anew for the group.
        let anew =
            |answer: &Response| !["worker", "gateway"].map(Some).contains(&answer.cache_status().detail.as_deref());
        b.until(0, "/users/1", WINDOW * 10, anew).await?;
    }
    Ok(())
}

/// C3, whoever purges what: an order to any bridge, or a message in Redis, reaches what every worker of every gateway holds.
#[tokio::test]
async fn an_order_to_a_bridge_or_a_message_in_redis_reaches_every_gateway_within_the_window() -> Result<()> {
    let (origin, redis) = (Origin::start().await?, Redis::start().await?);
    let listens = [("ROUTECACHE_EVENTS_CHANNEL", "purges")];
    let bridges = [Bridge::start_with(redis.url(), &listens).await?, Bridge::start_with(redis.url(), &listens).await?];
    let mut gateways = Vec::new();
    for bridge in &bridges {
        let mut options = options(&origin)?;
        options.bridge = Some(bridge.address().into());
        let gateway = Gateway::open(&rules(), options).await?;
        gateway.settled(&Request::get("/users/999")).await?;
        gateways.push(gateway);
    }
    let orders = [
        (json!({ "tags": ["user:1"] }), true),
        (json!({ "keys": ["shop:v1 user http GET api.example.com user:1 "] }), true),
        (json!({ "urls": ["http://api.example.com/users/1"] }), true),
        (json!({ "patterns": [{ "tag": "*:1" }] }), true),
        (json!({ "patterns": [{ "key": "* user:1 " }] }), true),
        (json!({ "hosts": ["api.example.com"] }), false),
        (json!({ "rules": ["user"] }), false),
        (json!({ "everything": true }), false),
    ];
    for (turn, (mut order, kept)) in orders.into_iter().chain([(json!({ "tags": ["user:1"] }), true)]).enumerate() {
        for gateway in &mut gateways {
            for (worker, path) in
                [0, 1, 0, 1].into_iter().flat_map(|worker| [(worker, "/users/1"), (worker, "/users/2")])
            {
                gateway.get(worker, path).await?;
            }
        }
        let direct = Client::new(origin.address());
        let now = direct.send(Request::put("/users/1", &json!({ "name": "Augusta" }))).await?.json()["version"].clone();
        assert_ne!(now, Value::Null);
        order["namespace"] = json!("shop:v1");
        match turn % 3 {
            0 => drop(redis.tell(&format!("PUBLISH purges '{order}'")).await?),
            number => {
                let bridge = Client::new(bridges[number - 1].address());
                let answer = bridge.send(Request::post("/v1/purge", &order)).await?;
                assert_eq!(answer.status, StatusCode::OK, "{order}: {}", answer.text());
            }
        }
        sleep(WINDOW).await;
        for (number, gateway) in gateways.iter_mut().enumerate() {
            for worker in [0, 1] {
                let other = gateway.get(worker, "/users/2").await?.cache_status();
                let stays = other.hit || other.detail.as_deref() == Some("feed-lost");
                assert!(stays || !kept, "{order}: gateway {number}, worker {worker}: {other:?}");
                let read = gateway.get(worker, "/users/1").await?;
                assert_eq!(read.json()["version"], now, "{order}: gateway {number}, worker {worker}");
            }
        }
    }
    Ok(())
}
